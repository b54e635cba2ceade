"""Sums of days: what they hold, that nothing can make them wrong, and durations kept as buckets."""

from __future__ import annotations

import datetime as dt
import statistics

import pytest
import sqlalchemy as sa

from skstack.approvals.services import approve
from skstack.catalog.models import WorkOrder
from skstack.dashboard import buckets, summing
from skstack.dashboard.models import DayCount, DayTime, SummedDay
from skstack.dashboard.queries import Numbers, numbers, totals
from skstack.dashboard.summing import days_to_sum, sum_up, sums
from skstack.db import transaction, utcnow
from skstack.extensions import db
from skstack.runs.models import Run
from skstack.tickets.models import Decision, Ticket
from skstack.tickets.services import execute
from tests.factories import alice, bob, root
from tests.fake_runner import begin, end, result, run_of
from tests.orders import make_flow, make_ticket, make_workorder

pytestmark = [pytest.mark.both_databases, pytest.mark.usefixtures("context")]

DAY = dt.timedelta(days=1)
HOUR = dt.timedelta(hours=1)


def moved(ticket: Ticket, back: dt.timedelta) -> Ticket:
    """Let a ticket, and everything about it, have happened that much earlier."""
    with transaction():
        for model, names in (
            (Ticket, ("created_at", "finished_at")),
            (Run, ("queued_at", "started_at", "finished_at")),
            (Decision, ("at",)),
        ):
            key = Ticket.id if model is Ticket else model.ticket_id
            for row in db.session.scalars(sa.select(model).where(key == ticket.id)):
                for name in names:
                    if getattr(row, name) is not None:
                        setattr(row, name, getattr(row, name) - back)
    return ticket


def ended(days_ago: int, *, exit_code: int = 0, name: str = "site") -> Ticket:
    """Return a ticket that was submitted and ended some days ago."""
    order = db.session.scalar(sa.select(WorkOrder).where(WorkOrder.name == name)) or make_workorder(name)
    ticket = make_ticket(alice(), order)
    end(begin(run_of(ticket)), result(exit_code))
    return moved(ticket, DAY * days_ago)


def day(days_ago: int) -> dt.date:
    return (utcnow() - DAY * days_ago).date()


def told(days: int = 30) -> Numbers:
    return numbers(days, utcnow().date())


def test_a_day_that_is_over_is_summed_up_once() -> None:
    ended(3, name="site")
    ended(3, name="site", exit_code=1)
    ended(0)
    # Today is not over, and the days in between had no tickets, but are over too.
    assert days_to_sum(utcnow() + 2 * HOUR if utcnow().hour < 2 else utcnow())[-1] == day(3)
    assert day(0) not in days_to_sum(utcnow())
    assert sum_up(day(3))
    assert day(3) not in days_to_sum(utcnow())
    row = db.session.get_one(SummedDay, day(3))
    assert (row.fresh, row.statuses, row.runs) == (
        True,
        {"succeeded": 1, "failed": 1},
        {"succeeded": 1, "failed": 1},
    )
    counts = db.session.execute(sa.select(DayCount.status, DayCount.tickets).order_by(DayCount.status)).all()
    assert [tuple(one) for one in counts] == [("failed", 1), ("succeeded", 1)]


def test_sums_and_the_tickets_themselves_give_the_same_numbers() -> None:
    bob()
    flow = make_flow("leads")
    for days_ago, exit_code in ((1, 0), (3, 1), (3, 0), (40, 0)):
        ended(days_ago, exit_code=exit_code, name=f"order-{exit_code}")
    waited = make_ticket(alice(), make_workorder(approval_flow=flow, environment="PROD"))
    approve(waited, actor=bob())
    execute(waited, actor=alice())
    end(begin(run_of(waited)))
    moved(waited, 5 * DAY)
    make_ticket(alice(), make_workorder())
    live, live_totals = told(), totals(utcnow().date())
    assert (live.outcomes.succeeded, live.outcomes.failed, live.outcomes.other) == (3, 1, 1)
    assert live.environments["PROD"].total == 1
    assert sum(week.total for week in live.weeks.values()) == 6
    assert {wait.measure: wait.total for wait in live.waits} == {"approval": 1, "start": 4, "queue": 4}
    for one in days_to_sum(utcnow()):
        assert sum_up(one)
    assert days_to_sum(utcnow()) == []
    assert told() == live
    assert totals(utcnow().date()) == live_totals
    assert live_totals[0] == {"succeeded": 4, "failed": 1, "running": 1}
    assert live_totals[1] == {"succeeded": 4, "failed": 1, "queued": 1}


def test_a_ticket_of_an_earlier_day_that_changes_counts_at_once() -> None:
    ticket = make_ticket(alice(), make_workorder())
    run = begin(run_of(ticket))
    moved(ticket, 2 * DAY)
    assert sum_up(day(2))
    assert told().statuses == {"running": 1}
    db.session.expire_all()
    end(run_of(ticket))
    assert run.id
    assert not db.session.get_one(SummedDay, day(2), populate_existing=True).fresh
    assert told().statuses == {"succeeded": 1}
    assert sum_up(day(2))
    assert told().statuses == {"succeeded": 1}
    assert db.session.scalars(sa.select(DayCount.status)).all() == ["succeeded"], "the old sums are gone"


def test_a_change_while_a_day_is_summed_up_lets_the_sums_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = moved(make_ticket(alice(), make_workorder()), 2 * DAY)
    counted = sums

    def counts_then_somebody_changes(first: dt.date, last: dt.date) -> summing.Sums:
        found = counted(first, last)
        with transaction():
            summing.outdate(ticket, None, None, None)
        return found

    monkeypatch.setattr(summing, "sums", counts_then_somebody_changes)
    assert not sum_up(day(2))
    assert day(2) in days_to_sum(utcnow())
    assert db.session.scalar(sa.select(sa.func.count()).select_from(DayCount)) == 0
    monkeypatch.undo()
    assert sum_up(day(2))


def test_what_changes_today_outdates_nothing() -> None:
    ended(0)
    assert db.session.scalars(sa.select(SummedDay)).all() == []


def test_a_job_whose_output_is_cleared_outdates_nothing() -> None:
    ticket = ended(2)
    assert sum_up(day(2))
    with transaction():
        summing.outdate(ticket, ticket.state, None, None)
    assert db.session.get_one(SummedDay, day(2), populate_existing=True).fresh


def test_a_worker_sums_up_at_its_look_but_not_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summing, "_next_look", 0.0)
    ended(2)
    summing.sweep()
    assert db.session.get_one(SummedDay, day(2)).fresh
    ended(4)
    summing.sweep()
    assert db.session.get(SummedDay, day(4)) is None
    monkeypatch.setattr(summing, "_next_look", 0.0)
    summing.sweep()
    assert db.session.get_one(SummedDay, day(4)).fresh


def test_planned_tickets_and_rejected_approvals_are_no_waits() -> None:
    bob()
    flow = make_flow("leads")
    rejected = make_ticket(alice(), make_workorder(approval_flow=flow))
    assert rejected.next_level
    planned = make_ticket(root(), make_workorder(scheduling=True), scheduled_at=utcnow() + HOUR)
    execute(planned, actor=root())
    end(begin(run_of(planned)))
    found = sums(day(0), day(0))
    measured = {measure for measure, _, _ in found.times}
    assert measured == {"queue", "duration"}


def test_only_a_submitters_own_tickets_are_counted_for_them() -> None:
    ended(1, name="site")
    other = make_ticket(root(), make_workorder())
    end(begin(run_of(other)))
    assert sum_up(day(1))
    assert numbers(30, utcnow().date(), of=alice()).statuses == {"succeeded": 1}
    weeks = numbers(30, utcnow().date(), of=alice()).weeks
    assert sum(week.total for week in weeks.values()) == 1
    assert told().outcomes.total == 2


def test_numbers_need_few_statements_once_days_are_summed_up() -> None:
    for days_ago in range(1, 12):
        ended(days_ago, name="site")
    for one in days_to_sum(utcnow()):
        sum_up(one)
    asked: list[str] = []

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        asked.append(statement)

    sa.event.listen(db.engine, "before_cursor_execute", note)
    try:
        told(90)
    finally:
        sa.event.remove(db.engine, "before_cursor_execute", note)
    # Two stretches without sums: before the first ticket, and from today, or yesterday, on.
    assert len([one for one in asked if one.startswith("SELECT")]) == 5 + 4 * 2


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_quantiles_of_buckets_are_within_a_tenth(share: float) -> None:
    durations = [0.2 * 1.013**number for number in range(700)]
    counts: dict[int, int] = {}
    for seconds in durations:
        counts[buckets.bucket_of(seconds)] = counts.get(buckets.bucket_of(seconds), 0) + 1
    true = statistics.quantiles(durations, n=100)[round(share * 100) - 1]
    found = buckets.quantile(counts, share)
    assert found is not None
    assert abs(found / true - 1) < 0.1
    assert buckets.quantile({}, share) is None


def test_buckets_are_told_in_classes() -> None:
    counts = {
        buckets.bucket_of(seconds): count for seconds, count in ((0, 3), (30, 2), (700, 5), (90_000, 1))
    }
    assert buckets.within(counts, (60.0, 3600.0)) == [5, 5, 1]


def test_times_are_kept_by_measure() -> None:
    ended(2, name="site")
    sum_up(day(2))
    rows = db.session.execute(
        sa.select(DayTime.measure, DayTime.workorder_id, DayTime.bucket, DayTime.times)
    ).all()
    found = {row.measure: row for row in rows}
    assert set(found) == {"duration", "queue", "start"}
    assert found["duration"].workorder_id != 0
    assert found["duration"].bucket == buckets.bucket_of(1.5)
