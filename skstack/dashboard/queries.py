"""The numbers of the dashboard: from the sums of days that are over, and the tickets of the other days."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa
from flask import current_app

from skstack.accounts.models import Group, User
from skstack.catalog.models import WorkOrder
from skstack.dashboard import buckets
from skstack.dashboard.models import DayCount, DayTime, SummedDay
from skstack.dashboard.summing import APPROVAL, DURATION, QUEUE, START, Sums, runs_ended, submitted, sums
from skstack.extensions import db
from skstack.runs.models import Run
from skstack.states import RunState, TicketStatus
from skstack.tickets.models import Ticket

WEEKS = 12
MOST_WORKORDERS = 15
"""Of so many work orders, those with the most tickets, success and durations are told."""

_OPEN = [status for status in TicketStatus if not status.is_final]
_DAY = dt.timedelta(days=1)
_KEPT = 16  # Sums that a process keeps: two for each period.

Kept = TypeVar("Kept")


@dataclass(slots=True)
class Outcomes:
    """Tickets by how they ended. `other` are those rejected, revoked, of unknown result, and those that have not ended."""

    succeeded: int = 0
    failed: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        return self.succeeded + self.failed + self.other

    @property
    def success_rate(self) -> float | None:
        """Return the share of successes among those that ran to an end; None if none did."""
        ran = self.succeeded + self.failed
        return self.succeeded / ran if ran else None

    def add(self, status: str, count: int) -> None:
        if status == TicketStatus.SUCCEEDED:
            self.succeeded += count
        elif status == TicketStatus.FAILED:
            self.failed += count
        else:
            self.other += count


@dataclass(frozen=True, slots=True)
class WorkOrderNumbers:
    """One work order: its tickets, and how long its main runs took that succeeded, in seconds."""

    name: str
    outcomes: Outcomes
    median: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class Wait:
    """How long something was waited for, in seconds. `counts` are buckets."""

    measure: str
    counts: Counter[int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def median(self) -> float | None:
        return buckets.quantile(self.counts, 0.5)

    @property
    def p95(self) -> float | None:
        return buckets.quantile(self.counts, 0.95)


@dataclass(slots=True)
class Numbers:
    """Everything that the charts of a dashboard show. `weeks` by their Monday, oldest first."""

    first: dt.date
    last: dt.date
    statuses: Counter[str] = field(default_factory=Counter)
    environments: dict[str, Outcomes] = field(default_factory=dict)
    categories: dict[str, Outcomes] = field(default_factory=dict)
    weeks: dict[dt.date, Outcomes] = field(default_factory=dict)
    workorders: list[WorkOrderNumbers] = field(default_factory=list)
    more_workorders: int = 0
    waits: list[Wait] = field(default_factory=list)

    @property
    def outcomes(self) -> Outcomes:
        found = Outcomes()
        for status, count in self.statuses.items():
            found.add(status, count)
        return found


def numbers(days: int, today: dt.date, *, of: User | None = None) -> Numbers:
    """Return the numbers of the `days` up to today, and the weekly trend: of everybody, or of one submitter's tickets.

    Needs five statements, and four for each stretch of days that have no sums; for one submitter five.
    """
    first = today - _DAY * (days - 1)
    monday = today - _DAY * (today.weekday() + 7 * (WEEKS - 1))
    found = Numbers(first, today, weeks={monday + 7 * _DAY * week: Outcomes() for week in range(WEEKS)})
    counted = _everybodys(found) if of is None else _submitters(found, of.id)
    _tell(found, counted)
    return found


@dataclass(frozen=True, slots=True)
class Open:
    """What has not ended: tickets by status, queued and running runs."""

    statuses: dict[str, int]
    runs: dict[str, int]

    @property
    def waiting(self) -> int:
        return sum(count for status, count in self.statuses.items() if TicketStatus(status).waits)

    @property
    def running(self) -> int:
        return self.statuses.get(TicketStatus.RUNNING, 0)


def open_now() -> Open:
    """Return what has not ended now. Needs two statements."""
    tickets = (
        sa.select(Ticket.status, sa.func.count()).where(Ticket.status.in_(_OPEN)).group_by(Ticket.status)
    )
    states = (RunState.QUEUED, RunState.RUNNING)
    runs = sa.select(Run.state, sa.func.count()).where(Run.state.in_(states)).group_by(Run.state)
    return Open(*({row[0]: row[1] for row in db.session.execute(one)} for one in (tickets, runs)))


@dataclass(frozen=True, slots=True)
class Configured:
    """How many people there are, and work orders to submit."""

    users: int
    groups: int
    workorders: int


def configured() -> Configured:
    """Count active users, groups, and work orders that can be submitted. Needs one statement."""
    counted = [
        sa.select(sa.func.count()).select_from(User).where(User.active),
        sa.select(sa.func.count()).select_from(Group),
        sa.select(sa.func.count()).select_from(WorkOrder).where(WorkOrder.active, ~WorkOrder.template),
    ]
    row = db.session.execute(sa.select(*(one.scalar_subquery() for one in counted))).one()
    return Configured(*row)


def totals(today: dt.date) -> tuple[Counter[str], Counter[str]]:
    """Return all tickets there are by status, and all runs by state. Needs three statements, two more for each stretch."""
    statuses: Counter[str] = Counter()
    runs: Counter[str] = Counter()
    first = db.session.scalar(sa.select(sa.func.min(Ticket.created_at)))
    fresh: set[dt.date] = set()
    for day, by_status, by_state in db.session.execute(
        sa.select(SummedDay.day, SummedDay.statuses, SummedDay.runs).where(SummedDay.fresh)
    ):
        fresh.add(day)
        statuses.update(by_status)
        runs.update(by_state)
    if first is not None:
        for begin, end in _stretches(first.date(), today, fresh):
            counted = sa.select(Ticket.status, sa.func.count()).where(*submitted(begin, end))
            statuses.update({row[0]: row[1] for row in db.session.execute(counted.group_by(Ticket.status))})
            runs.update(runs_ended(begin, end))
    states = (RunState.QUEUED, RunState.RUNNING)
    for state, count in db.session.execute(
        sa.select(Run.state, sa.func.count()).where(Run.state.in_(states)).group_by(Run.state)
    ):
        runs[state] += count
    return statuses, runs


def _everybodys(found: Numbers) -> Sums:
    """Fill in the weeks, and return what was counted between the first and the last day."""
    begin = min(found.first, *found.weeks)
    fresh: dict[dt.date, int] = {}
    for day, changes, statuses in db.session.execute(
        sa.select(SummedDay.day, SummedDay.changes, SummedDay.statuses).where(
            SummedDay.day.between(begin, found.last), SummedDay.fresh
        )
    ):
        fresh[day] = changes
        _add_to_week(found, day, statuses)
    within = {day: changes for day, changes in fresh.items() if day >= found.first}
    counted = Sums()
    stored = _kept(("tickets", tuple(within.items())), lambda: _summed(within))
    counted.tickets.update(stored.tickets)
    counted.times.update(stored.times)
    for start, end in _stretches(begin, found.last, fresh):
        _add_days(found, start, end)
        if end >= found.first:
            live = sums(max(start, found.first), end)
            counted.tickets.update(live.tickets)
            counted.times.update(live.times)
    most = _most(counted)
    key = ("durations", tuple(within.items()), tuple(sorted(most)))
    counted.times.update(_kept(key, lambda: _summed_durations(within, most)))
    return counted


def _kept(key: Hashable, count: Callable[[], Kept]) -> Kept:
    """Return what `count` returned for this key before, or returns now.

    Sums of a day are the same as long as its `changes` are: with those in the key, nothing that is kept can be out of date.
    """
    kept: dict[Hashable, Any] = current_app.extensions.setdefault("skstack.sums", {})
    if (value := kept.get(key)) is None:
        value = count()
        for oldest in list(kept)[: max(len(kept) - _KEPT + 1, 0)]:
            kept.pop(oldest, None)
        kept[key] = value
    found: Kept = value
    return found


def _submitters(found: Numbers, user_id: int) -> Sums:
    _add_days(found, min(found.weeks), found.last, Ticket.submitter_id == user_id)
    return sums(found.first, found.last, submitter_id=user_id)


def _add_days(found: Numbers, first: dt.date, last: dt.date, *wanted: sa.ColumnElement[bool]) -> None:
    """Add the tickets of some days to their weeks."""
    day = sa.func.date(Ticket.created_at)
    statement = (
        sa.select(day, Ticket.status, sa.func.count())
        .where(*submitted(first, last), *wanted)
        .group_by(day, Ticket.status)
    )
    for date, status, count in db.session.execute(statement):
        _add_to_week(found, dt.date.fromisoformat(str(date)), {status: count})


def _add_to_week(found: Numbers, day: dt.date, statuses: dict[str, int]) -> None:
    week = found.weeks.get(day - _DAY * day.weekday())
    if week is not None:
        for status, count in statuses.items():
            week.add(status, count)


def _summed(days: Collection[dt.date]) -> Sums:
    """Return the stored sums of some days, without durations."""
    found = Sums()
    key = (DayCount.workorder_id, DayCount.environment_name, DayCount.category_name, DayCount.status)
    for workorder_id, environment, category, status, count in db.session.execute(
        sa.select(*key, sa.func.sum(DayCount.tickets)).where(DayCount.day.in_(days)).group_by(*key)
    ):
        found.tickets[workorder_id, environment, category, status] = count
    for measure, bucket, count in db.session.execute(
        sa.select(DayTime.measure, DayTime.bucket, sa.func.sum(DayTime.times))
        .where(
            DayTime.measure.in_((APPROVAL, START, QUEUE)), DayTime.workorder_id == 0, DayTime.day.in_(days)
        )
        .group_by(DayTime.measure, DayTime.bucket)
    ):
        found.times[measure, 0, bucket] = count
    return found


def _summed_durations(
    days: Collection[dt.date], workorders: Collection[int]
) -> Counter[tuple[str, int, int]]:
    rows = db.session.execute(
        sa.select(DayTime.workorder_id, DayTime.bucket, sa.func.sum(DayTime.times))
        .where(DayTime.measure == DURATION, DayTime.workorder_id.in_(workorders), DayTime.day.in_(days))
        .group_by(DayTime.workorder_id, DayTime.bucket)
    )
    return Counter({(DURATION, workorder_id, bucket): count for workorder_id, bucket, count in rows})


def _tell(found: Numbers, counted: Sums) -> None:
    found.statuses = counted.statuses
    workorders: dict[int, Outcomes] = {}
    for (workorder_id, environment, category, status), count in counted.tickets.items():
        found.environments.setdefault(environment, Outcomes()).add(status, count)
        found.categories.setdefault(category, Outcomes()).add(status, count)
        workorders.setdefault(workorder_id, Outcomes()).add(status, count)
    most = _most(counted)
    names = {
        row[0]: row[1]
        for row in db.session.execute(sa.select(WorkOrder.id, WorkOrder.name).where(WorkOrder.id.in_(most)))
    }
    times: dict[tuple[str, int], Counter[int]] = {}
    for (measure, workorder_id, bucket), count in counted.times.items():
        times.setdefault((measure, workorder_id), Counter())[bucket] += count
    for workorder_id in most:
        took = Wait(DURATION, times.get((DURATION, workorder_id), Counter()))
        found.workorders.append(
            WorkOrderNumbers(names[workorder_id], workorders[workorder_id], took.median, took.p95)
        )
    found.more_workorders = len(workorders) - len(most)
    found.waits = [Wait(measure, times.get((measure, 0), Counter())) for measure in (APPROVAL, START, QUEUE)]


def _most(counted: Sums) -> list[int]:
    """Return the ids of the work orders with the most tickets, those with more first."""
    tickets: Counter[int] = Counter()
    for (workorder_id, *_), count in counted.tickets.items():
        tickets[workorder_id] += count
    return sorted(tickets, key=lambda one: (-tickets[one], one))[:MOST_WORKORDERS]


def _days(first: dt.date, last: dt.date) -> Iterator[dt.date]:
    return (first + _DAY * number for number in range((last - first).days + 1))


def _stretches(
    first: dt.date, last: dt.date, fresh: Collection[dt.date]
) -> Iterator[tuple[dt.date, dt.date]]:
    """Yield the first and the last of days on end that have no sums."""
    begin: dt.date | None = None
    for day in _days(first, last):
        if day in fresh and begin is not None:
            yield begin, day - _DAY
            begin = None
        elif day not in fresh and begin is None:
            begin = day
    if begin is not None:
        yield begin, last
