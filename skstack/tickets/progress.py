"""What a ticket waits for and what happens next, in words: for its page and for lists."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from skstack.catalog.models import FreezeWindow
from skstack.messages import N_, Message
from skstack.states import TicketStatus
from skstack.tickets.models import BACKGROUND, Decision, Ticket, TicketLevel

# Seconds between two looks at a ticket that is not final. People take longer than machines.
WHILE_RUNNING, WHILE_WAITING, LONGEST = 2, 15, 30


class LevelState(StrEnum):
    """Where one level of an approval is."""

    APPROVED = "approved"
    REJECTED = "rejected"
    WAITS = "waits"
    LATER = "later"
    NOT_REACHED = "not_reached"

    @property
    def label(self) -> Message:
        return _LEVEL_LABELS[self]


@dataclass(frozen=True, slots=True)
class LevelProgress:
    """One level with what was decided last; `decision` is None if nobody has decided it."""

    level: TicketLevel
    state: LevelState
    decision: Decision | None


def progress_of(ticket: Ticket) -> list[LevelProgress]:
    """Return every level with its state, the first first."""
    last = {made.level: made for made in ticket.decisions}
    return [
        LevelProgress(level, _level_state(ticket, level, last.get(level.level)), last.get(level.level))
        for level in ticket.levels
    ]


def prospects(
    ticket: Ticket, *, now: dt.datetime, window: FreezeWindow | None, thawed: dt.datetime | None
) -> list[Message]:
    """Return sentences on what a ticket waits for and what follows; none for one that runs or has ended.

    `window` is the freeze window its environment is in now, `thawed` the planned time or, if that is in a window, the
    end of it.
    """
    if ticket.state is TicketStatus.RUNNING:
        return _after_pre(ticket, now)
    if not ticket.state.waits:
        return []
    level = ticket.next_level
    if level is not None:
        waits = N_(
            "Waits for %(group)s to decide (level %(level)s of %(count)s).",
            group=level.group_name,
            level=level.level,
            count=len(ticket.levels),
        )
        return [waits, _after_approval(ticket, now)]
    if ticket.scheduled_at is not None and thawed is not None and thawed > now:
        if thawed == ticket.scheduled_at:
            return [N_("Starts at %(time)s.", time=thawed)]
        return [
            N_(
                "%(environment)s is frozen at its planned time. It starts at %(time)s, when that is over.",
                environment=ticket.environment_name,
                time=thawed,
            )
        ]
    if window is not None:
        frozen = N_(
            "%(environment)s is frozen until %(end)s (%(name)s).",
            environment=ticket.environment_name,
            end=window.ends_at,
            name=window.name,
        )
        after = (
            N_("It starts by itself after that.")
            if ticket.kind == BACKGROUND
            else N_("It can be started after that.")
        )
        return [frozen, after]
    if ticket.kind == BACKGROUND:
        return [N_("A worker starts it in a moment.")]
    return [N_("Nothing is missing. It waits for %(user)s to start it.", user=ticket.submitter_name)]


def waits_for(ticket: Ticket, *, now: dt.datetime, frozen: Mapping[int, FreezeWindow]) -> Message | None:
    """Return in a few words what a ticket in a list waits for, None for nothing. `frozen` has windows by environment."""
    if not ticket.state.waits:
        return None
    level = ticket.next_level
    if level is not None:
        return N_(
            "%(group)s (level %(level)s of %(count)s)",
            group=level.group_name,
            level=level.level,
            count=len(ticket.levels),
        )
    if ticket.scheduled_at is not None and ticket.scheduled_at > now:
        return N_("its time")
    if ticket.environment_id in frozen:
        return N_("the end of the freeze")
    return (
        N_("a worker")
        if ticket.kind == BACKGROUND
        else N_("%(user)s to start it", user=ticket.submitter_name)
    )


def has_waited(ticket: Ticket) -> bool:
    """Say whether there was a time in which nothing of it ran and something still could."""
    return any(TicketStatus(change.after).waits for change in ticket.history)


def seconds_to_next_look(ticket: Ticket, *, now: dt.datetime, thawed: dt.datetime | None) -> int:
    """Return after how long a page should ask again how a ticket is: soon while it runs or is about to."""
    if not ticket.state.waits:
        return WHILE_RUNNING
    if not ticket.is_approved or ticket.kind != BACKGROUND:
        return WHILE_WAITING
    left = (thawed - now).total_seconds() if thawed is not None else 0.0
    return round(min(LONGEST, max(WHILE_RUNNING, left / 2)))


def _level_state(ticket: Ticket, level: TicketLevel, made: Decision | None) -> LevelState:
    if made is not None:
        return LevelState(made.decision)
    waiting = ticket.next_level
    if waiting is not None and waiting.level == level.level:
        return LevelState.WAITS
    return LevelState.NOT_REACHED if ticket.state.is_final else LevelState.LATER


def _after_pre(ticket: Ticket, now: dt.datetime) -> list[Message]:
    if any(run.task == "main" for run in ticket.runs):
        return []
    if ticket.levels:
        first = ticket.levels[0]
        return [
            N_(
                "When its pre task has succeeded, it waits for %(group)s to decide (level 1 of %(count)s).",
                group=first.group_name,
                count=len(ticket.levels),
            )
        ]
    if ticket.scheduled_at is not None and ticket.scheduled_at > now:
        return [
            N_(
                "When its pre task has succeeded, it waits until %(time)s, and starts.",
                time=ticket.scheduled_at,
            )
        ]
    return []


def _after_approval(ticket: Ticket, now: dt.datetime) -> Message:
    if ticket.scheduled_at is not None:
        if ticket.scheduled_at > now:
            return N_("Once approved, it starts at %(time)s.", time=ticket.scheduled_at)
        return N_(
            "Its planned time %(time)s has passed: approve it soon, or it is missed.",
            time=ticket.scheduled_at,
        )
    if ticket.kind == BACKGROUND:
        return N_("It starts by itself with the last approval.")
    return N_("Once approved, it waits for %(user)s to start it.", user=ticket.submitter_name)


_LEVEL_LABELS = {
    LevelState.APPROVED: N_("Approved"),
    LevelState.REJECTED: N_("Rejected"),
    LevelState.WAITS: N_("Waits for a decision"),
    LevelState.LATER: N_("Later"),
    LevelState.NOT_REACHED: N_("Not reached"),
}
