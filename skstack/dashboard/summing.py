"""Summing up: what happened to the tickets submitted in a period, and the sums of days that are over.

A day that is over changes rarely. A worker sums it up once, and again after one of its tickets has changed; until then,
and for the days that are not over, the tickets themselves are counted. So the numbers are exact at any time, and quick.

Writer and summer may meet. Whoever changes a ticket of an earlier day raises that day's `changes` in the same
transaction; a sum holds only if they are still what they were before it was made.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from skstack.accounts.models import User
from skstack.dashboard.buckets import bucket_of
from skstack.dashboard.models import DayCount, DayTime, SummedDay
from skstack.db import insert, insert_unless_there, transaction, utcnow
from skstack.extensions import db
from skstack.runs.models import MAIN, Run
from skstack.states import JobStatus, RunState, TicketStatus
from skstack.tickets.changes import on_change
from skstack.tickets.models import Decision, Ticket, TicketLevel

log = logging.getLogger(__name__)

DURATION, APPROVAL, START, QUEUE = "duration", "approval", "start", "queue"
"""What is measured: the main run of a success, by work order; from submission to the last approval; from submission to
start, without planned ones; and how long a run waited for a worker."""

EVERY = 30.0
"""Seconds between two looks of one worker for days to sum up."""

_AT_MOST = 2.0  # Seconds that one look may take: the keeper has other things to do.
# A transaction of the old day may still be under way, and the clocks of hosts differ.
_SETTLED = dt.timedelta(hours=2)
_DAY = dt.timedelta(days=1)

_ENDED = frozenset(str(state) for state in RunState if state.is_final)

_next_look = 0.0


@dataclass(slots=True)
class Sums:
    """What happened to the tickets submitted in a period.

    `tickets` by (work order's id, environment, category, status), `times` by (measure, work order's id or 0, bucket),
    `runs` are those that have ended, by state.
    """

    tickets: Counter[tuple[int, str, str, str]] = field(default_factory=Counter)
    times: Counter[tuple[str, int, int]] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)

    @property
    def statuses(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for (*_, status), count in self.tickets.items():
            found[status] += count
        return found


def begin_of(day: dt.date) -> dt.datetime:
    """Return when a day begins, in UTC."""
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def sums(first: dt.date, last: dt.date, *, submitter_id: int | None = None) -> Sums:
    """Count the tickets submitted from one day to another, both included, themselves. Needs three statements."""
    wanted = submitted(first, last)
    if submitter_id is not None:
        wanted.append(Ticket.submitter_id == submitter_id)
    found = Sums()
    key = (Ticket.workorder_id, Ticket.environment_name, Ticket.category_name, Ticket.status)
    rows = db.session.execute(sa.select(*key, sa.func.count()).where(*wanted).group_by(*key))
    for workorder_id, environment, category, status, count in rows:
        found.tickets[workorder_id, environment, category, status] += count
    _add_runs(found, wanted)
    _add_approvals(found, wanted)
    return found


def runs_ended(first: dt.date, last: dt.date) -> Counter[str]:
    """Count the ended runs of the tickets submitted from one day to another, by state. Needs one statement."""
    statement = (
        sa.select(Run.state, sa.func.count())
        .select_from(Ticket)
        .join(Run, Run.ticket_id == Ticket.id)
        .where(*submitted(first, last))
        .group_by(Run.state)
    )
    # The others are left out here: with them in the condition, SQLite would begin with all runs there are.
    return Counter({row[0]: row[1] for row in db.session.execute(statement) if row[0] in _ENDED})


def submitted(first: dt.date, last: dt.date) -> list[sa.ColumnElement[bool]]:
    """Return what holds of the tickets submitted from one day to another, both included."""
    return [Ticket.created_at >= begin_of(first), Ticket.created_at < begin_of(last + _DAY)]


def sweep() -> None:
    """Sum up the days that need it, if the last look was long enough ago."""
    global _next_look  # noqa: PLW0603 - a worker is one process, and looks in one thread
    if time.monotonic() < _next_look:
        return
    _next_look = time.monotonic() + EVERY
    deadline = time.monotonic() + _AT_MOST
    summed = 0
    for day in days_to_sum(utcnow()):
        if time.monotonic() >= deadline:
            break
        summed += sum_up(day)
    if summed:
        log.info("%s days were summed up", summed)


def days_to_sum(now: dt.datetime) -> list[dt.date]:
    """Return the days that are over and have no sums that hold, the latest first. Needs two statements."""
    first = db.session.scalar(sa.select(sa.func.min(Ticket.created_at)))
    if first is None:
        return []
    last = (now - _SETTLED).date() - _DAY
    fresh = set(db.session.scalars(sa.select(SummedDay.day).where(SummedDay.fresh)))
    days = (last - _DAY * back for back in range((last - first.date()).days + 1))
    return [day for day in days if day not in fresh]


def sum_up(day: dt.date) -> bool:
    """Store the sums of one day, and say whether they hold: not if one of its tickets changed meanwhile."""
    before = db.session.scalar(sa.select(SummedDay.changes).where(SummedDay.day == day))
    if before is None:
        with transaction():
            _insert_day(day)
        before = db.session.scalar(sa.select(SummedDay.changes).where(SummedDay.day == day)) or 0
    db.session.commit()  # What is read from here on is no older than `before`.
    found = sums(day, day)
    with transaction():
        holds = db.session.execute(
            sa.update(SummedDay)
            .where(SummedDay.day == day, SummedDay.changes == before)
            .values(fresh=True, statuses=dict(found.statuses), runs=dict(found.runs))
            .execution_options(synchronize_session=False)
        ).rowcount  # type: ignore[attr-defined]  # a CursorResult, for an UPDATE
        if not holds:
            return False
        for model in (DayCount, DayTime):
            db.session.execute(
                sa.delete(model).where(model.day == day).execution_options(synchronize_session=False)
            )
        _store(day, found)
    return True


@on_change
def outdate(
    ticket: Ticket, before: TicketStatus | None, job_before: JobStatus | None, actor: User | None
) -> None:
    """Let the sums of an earlier day not count any more when one of its tickets changes."""
    day = ticket.created_at.date()
    if before is not ticket.state and day < utcnow().date():
        _insert_day(day)
        db.session.execute(
            sa.update(SummedDay)
            .where(SummedDay.day == day)
            .values(fresh=False, changes=SummedDay.changes + 1)
            .execution_options(synchronize_session=False)
        )


def _insert_day(day: dt.date) -> None:
    insert_unless_there(SummedDay, {"day": day, "fresh": False, "changes": 0, "statuses": {}, "runs": {}})


def _store(day: dt.date, found: Sums) -> None:
    insert(
        DayCount,
        *(
            {
                "day": day,
                "workorder_id": workorder_id,
                "environment_name": environment,
                "category_name": category,
                "status": status,
                "tickets": count,
            }
            for (workorder_id, environment, category, status), count in found.tickets.items()
        ),
    )
    insert(
        DayTime,
        *(
            {"measure": measure, "workorder_id": workorder_id, "day": day, "bucket": bucket, "times": count}
            for (measure, workorder_id, bucket), count in found.times.items()
        ),
    )


def _add_runs(found: Sums, wanted: list[Any]) -> None:
    statement = (
        sa.select(
            Ticket.workorder_id,
            Run.task,
            Run.state,
            Run.duration,
            _seconds(Run.queued_at, Run.started_at),
            sa.case((Ticket.scheduled_at.is_(None), _seconds(Ticket.created_at, Run.started_at))),
        )
        .join(Run, Run.ticket_id == Ticket.id)
        .where(*wanted)
    )
    for workorder_id, task, state, duration, queued, waited in db.session.execute(statement):
        if state in _ENDED:
            found.runs[state] += 1
        if queued is not None:
            found.times[QUEUE, 0, bucket_of(queued)] += 1
        if task == MAIN and waited is not None:
            found.times[START, 0, bucket_of(waited)] += 1
        if task == MAIN and state == RunState.SUCCEEDED and duration is not None:
            found.times[DURATION, workorder_id, bucket_of(duration)] += 1


def _add_approvals(found: Sums, wanted: list[Any]) -> None:
    """Add how long tickets waited until their last level was approved, the first time that it was."""
    last = sa.select(sa.func.max(TicketLevel.level)).where(TicketLevel.ticket_id == Ticket.id)
    # Asked of each ticket: joined, SQLite would go through all decisions there are.
    first = sa.select(sa.func.min(Decision.at)).where(
        Decision.ticket_id == Ticket.id,
        Decision.decision == "approved",
        Decision.level == last.correlate(Ticket).scalar_subquery(),
    )
    approved_at = first.correlate(Ticket).scalar_subquery()
    needed = (*wanted, Ticket.approval_flow_name.is_not(None))
    statement = sa.select(_seconds(Ticket.created_at, approved_at)).where(*needed)
    for waited in db.session.scalars(statement):
        if waited is not None:
            found.times[APPROVAL, 0, bucket_of(waited)] += 1


def _seconds(begin: Any, end: Any) -> sa.ColumnElement[float]:
    """Return the SQL for the seconds between two times."""
    if db.engine.dialect.name == "postgresql":
        return sa.cast(sa.extract("epoch", end - begin), sa.Float)
    days = sa.func.julianday(end, type_=sa.Float) - sa.func.julianday(begin, type_=sa.Float)
    return days * 86400.0
