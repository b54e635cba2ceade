"""Where a ticket hands its tasks over to be run, and what it may have to wait for before.

Runs come after tickets, so they announce themselves here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

from skstack.accounts.models import User
from skstack.audit.services import Action, record
from skstack.catalog import freezing
from skstack.catalog.models import FreezeWindow
from skstack.errors import Conflict, Invalid
from skstack.extensions import db
from skstack.messages import N_, Message
from skstack.states import JobStatus, TicketStatus
from skstack.substitution import check_value, normalize
from skstack.tickets import status
from skstack.tickets.models import BACKGROUND, BreakGlass, Ticket

_starters: list[Callable[[Ticket, str], None]] = []


def starter(function: Callable[[Ticket, str], None]) -> Callable[[Ticket, str], None]:
    """Register what queues a run for a ticket's `pre` or `main` task, inside the transaction under way."""
    _starters[:] = [function]
    return function


def start(ticket: Ticket, task: str) -> None:
    """Queue the run of `task`. It begins once the transaction under way holds."""
    [queue_run] = _starters
    queue_run(ticket, task)


def start_main(
    ticket: Ticket, *, actor: User | None = None, reason: Message | None = None, by_hand: bool = False
) -> None:
    """Start the main task. A job that waited is handed to the queue with it; `by_hand` revokes the job instead.

    Raises Conflict if the ticket is not one that can start, or somebody was quicker.
    """
    job = None
    if ticket.job_state is JobStatus.CREATED:
        job = JobStatus.REVOKED if by_hand else JobStatus.WAITING
    # A person starts only what waits; a ticket that runs already goes on to its main task by itself.
    if by_hand or ticket.state is not TicketStatus.RUNNING:
        status.become(ticket, TicketStatus.RUNNING, actor=actor, reason=reason, job=job)
    elif job is not None:
        status.job_becomes(ticket, job)
    start(ticket, "main")


def go_on_after_pre(ticket: Ticket, *, now: dt.datetime) -> None:
    """Start the main task after the pre task, or let the ticket wait for its approvers, its time or a thaw."""
    waits_for = _waits_for(ticket, now)
    if waits_for is None:
        start_main(ticket)
    else:
        status.become(ticket, TicketStatus.SUBMITTED, reason=waits_for)


def go_on_when_approved(ticket: Ticket, *, now: dt.datetime) -> None:
    """After the last approval: start what starts by itself, unless its time or a thaw has to come first."""
    if ticket.kind == BACKGROUND and _waits_for(ticket, now) is None:
        start_main(ticket, reason=N_("Approved, and to be run by itself."))


def frozen(window: FreezeWindow) -> Conflict:
    """Return the refusal to start something within a window."""
    return Conflict(
        N_(
            "%(environment)s is frozen until %(end)s (%(name)s): nothing is started there. Start it after that, or ask a "
            "superuser, who can start it now with a reason.",
            environment=window.environment.name,
            end=window.ends_at,
            name=window.name,
        ),
        frozen_until=window.ends_at.isoformat(),
    )


def break_glass(ticket: Ticket, window: FreezeWindow, *, actor: User, reason: str, now: dt.datetime) -> None:
    """Note that a superuser starts a ticket within a window, and why. Raises Conflict for others, Invalid without a reason."""
    if not actor.superuser:
        raise frozen(window)
    reason = normalize(reason).strip()
    if not reason or len(reason) > 4000:
        raise Invalid({"break_glass": [N_("Say why it cannot wait, in up to 4000 characters.")]})
    if message := check_value(reason, multiline=True):
        raise Invalid({"break_glass": [message]})
    db.session.add(
        BreakGlass(ticket_id=ticket.id, window_name=window.name, by_id=actor.id, reason=reason, at=now)
    )
    record(
        Action.GLASS_BROKEN,
        actor=actor,
        object_type="ticket",
        object_id=ticket.id,
        object_name=ticket.workorder_name,
        window=window.name,
        reason=reason,
    )


def _waits_for(ticket: Ticket, now: dt.datetime) -> Message | None:
    """Return what has to come before the main task of a ticket whose pre task is done; None for nothing."""
    level = ticket.levels[0] if ticket.levels and ticket.state is TicketStatus.RUNNING else ticket.next_level
    if level is not None:
        return N_("Waits for %(group)s to decide.", group=level.group_name)
    if ticket.scheduled_at is not None and ticket.scheduled_at > now:
        return N_("Waits for its time.")
    window = freezing.window_at(ticket.environment_id, now)
    if window is not None:
        return N_(
            "%(environment)s is frozen (%(name)s).", environment=ticket.environment_name, name=window.name
        )
    return None
