"""A schedule submits each of its times once, as its owner, and says what became of it."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from skstack.accounts.models import User
from skstack.approvals.services import approve
from skstack.audit.models import AuditEvent
from skstack.catalog import services as catalog
from skstack.catalog.kinds import dependents
from skstack.catalog.models import WorkOrder
from skstack.db import transaction
from skstack.errors import Conflict, Invalid, NotAllowed, NotFound
from skstack.extensions import db
from skstack.schedules import occurrences, planning, recurring
from skstack.schedules.models import Occurrence, Schedule
from skstack.schedules.services import start_due
from tests.factories import alice, bob, make_group, mallory, root
from tests.fake_runner import FakeRunner, begin, captured, end, run_of
from tests.orders import (
    list_variable,
    make_flow,
    make_freeze,
    make_ticket,
    make_variable,
    make_workorder,
    script_variable,
)
from tests.schedules.making import (
    HOUR,
    MINUTE,
    make_schedule,
    next_of,
    pass_time,
    results,
    submit_all,
    take,
    tickets,
)

pytestmark = [pytest.mark.both_databases, pytest.mark.usefixtures("context")]


def edit(workorder: WorkOrder, **values: Any) -> None:
    catalog.change(workorder, values, actor=None, version=workorder.version)


def test_each_time_is_submitted_once_as_the_owner_and_in_the_background() -> None:
    schedule = make_schedule(values={"Why": "nightly"}, workorder=with_text(), note="for the record")
    first = next_of(schedule)
    assert take(first - MINUTE) == 0
    for hour in range(3):
        pass_time(first + hour * HOUR)
        pass_time(first + hour * HOUR + MINUTE)
    made = tickets()
    assert [ticket.submitter_id for ticket in made] == [alice().id] * 3
    assert {(ticket.kind, ticket.status, ticket.job_status) for ticket in made} == {
        ("background", "running", "WAITING")
    }
    assert (made[0].values, made[0].note) == ({"Why": "nightly"}, "for the record")
    assert str(made[0].history[0].reason_message) == "By the schedule “hourly”."
    assert results(schedule) == [("started", "")] * 3
    assert schedule.last_ticket_id == made[-1].id
    assert next_of(schedule) == first + 3 * HOUR


def test_of_many_workers_one_takes_a_time_and_one_submits_it(context: Flask) -> None:
    first, number = next_of(make_schedule()), db.session.scalar(sa.select(Schedule.id))
    assert number is not None
    together = threading.Barrier(8)

    def work(_: int) -> int:
        with context.app_context():
            together.wait(20)
            taken = take(first)
            together.wait(20)
            for each in db.session.scalars(sa.select(Occurrence.id)).all():
                occurrences.submit(each, first, patience=MINUTE)
            return taken

    db.session.commit()
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) == 1
    assert len(tickets()) == 1


@pytest.mark.parametrize("column", ["next_at", "version"])
def test_whoever_read_it_before_somebody_else_took_its_time_is_refused(column: str) -> None:
    schedule = make_schedule()
    first = next_of(schedule)
    behind: dict[str, Any] = {"next_at": first + HOUR, "version": 2}
    with transaction():
        db.session.execute(
            sa.update(Schedule).values({column: behind[column]}).execution_options(synchronize_session=False)
        )
        with pytest.raises(Conflict, match="changed in this moment"):
            planning.set_next(schedule, first + 5 * HOUR)


def test_two_that_submit_the_same_time_make_one_ticket(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = make_schedule()
    first = next_of(schedule)
    take(first)
    (number,) = db.session.scalars(sa.select(Occurrence.id)).all()
    # The first was lost after the ticket was made, and before that was noted.
    monkeypatch.setattr(occurrences, "_settle", lambda *given, **more: None)
    occurrences.submit(number, first, patience=MINUTE)
    monkeypatch.undo()
    occurrences.submit(number, first + MINUTE / 2, patience=MINUTE)
    assert results(schedule) == [("due", "")], "the first may still be at it"
    recurring.change(schedule, actor=alice(), version=1, **{**fields(schedule), "note": "another"})
    occurrences.submit(number, first + MINUTE, patience=MINUTE)
    assert results(schedule) == [("started", "")]
    assert len(tickets()) == 1


def test_what_nobody_rang_for_is_rung_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = next_of(make_schedule())
    take(first)
    (number,) = db.session.scalars(sa.select(Occurrence.id)).all()
    rung: list[tuple[Any, ...]] = []
    monkeypatch.setattr(occurrences.queue, "ring", lambda *message, at=None: rung.append(message))
    monkeypatch.setattr(occurrences.queue, "pending_count", lambda: 0)

    def look(now: dt.datetime) -> None:
        occurrences.ring_forgotten(now, older_than=MINUTE, patience=HOUR)

    look(first + MINUTE / 2)
    assert rung == []
    look(first + 2 * MINUTE)
    # A clock that was set back is no reason to wait for it.
    look(first - HOUR)
    assert rung == [(planning.SUBMIT, number)] * 2
    make_freeze(starts_at=first, ends_at=first + HOUR)
    look(first + 2 * MINUTE)
    assert len(rung) == 2


def test_of_times_that_passed_the_latest_runs_and_the_others_are_missed() -> None:
    schedule = make_schedule()
    first = next_of(schedule)
    pass_time(first + 5 * HOUR + MINUTE)
    assert [outcome for outcome, _ in results(schedule)] == ["missed", "started"]
    rows = db.session.scalars(sa.select(Occurrence).order_by(Occurrence.id)).all()
    assert [(row.count, row.planned_at) for row in rows] == [(5, first), (1, first + 5 * HOUR)]
    assert next_of(schedule) == first + 6 * HOUR


def test_what_is_later_than_the_grace_is_missed() -> None:
    schedule = make_schedule(expression="0 3 * * *")
    first = next_of(schedule)
    pass_time(first + HOUR + dt.timedelta(seconds=1))
    [(outcome, reason)] = results(schedule)
    assert (outcome, "No worker was there" in reason) == ("missed", True)
    assert tickets() == []
    assert next_of(schedule) == first + 24 * HOUR
    pass_time(first + 25 * HOUR)
    assert [outcome for outcome, _ in results(schedule)] == ["missed", "started"]


def test_what_the_last_worker_left_is_given_up_after_the_grace() -> None:
    schedule = make_schedule()
    first = next_of(schedule)
    take(first)
    occurrences.give_up(first + HOUR, grace=HOUR)
    assert results(schedule) == [("due", "")]
    occurrences.give_up(first + HOUR + MINUTE, grace=HOUR)
    assert [outcome for outcome, _ in results(schedule)] == ["missed"]
    submit_all(first + HOUR + MINUTE)
    assert tickets() == []


def test_a_clock_that_is_set_forward_forgets_nothing() -> None:
    schedule = make_schedule(expression="0 3 * * *")
    first = next_of(schedule)
    pass_time(first + 3 * HOUR, looked_at=first - MINUTE)
    assert results(schedule) == [("started", "")]


def test_a_clock_that_is_set_back_starts_nothing_twice_and_forgets_nothing() -> None:
    schedule = make_schedule()
    first = next_of(schedule)
    pass_time(first, looked_at=first - MINUTE)
    for minutes in (0, 30, 60, 61):
        now = first - HOUR + minutes * MINUTE
        pass_time(now, looked_at=first)
    assert len(tickets()) == 1
    # Paused and resumed within the hour that comes again: its time comes again, and was used.
    recurring.pause(schedule, actor=alice())
    with transaction():
        planning.set_next(schedule, first, paused_at=None)
    pass_time(first)
    assert len(tickets()) == 1
    pass_time(first + HOUR)
    assert len(tickets()) == 2


@pytest.mark.parametrize(
    ("zone", "expression", "day"),
    [
        ("America/New_York", "30 2 * * *", "2027-03-14"),
        ("America/New_York", "30 1 * * *", "2027-11-07"),
        ("Europe/Berlin", "30 2 * * *", "2027-03-28"),
        ("Europe/Berlin", "30 2 * * *", "2027-10-31"),
    ],
)
def test_where_clocks_are_changed_a_daily_job_starts_once_a_day(zone: str, expression: str, day: str) -> None:
    schedule = make_schedule(expression=expression, timezone=zone)
    start = dt.datetime.fromisoformat(f"{day}T00:00Z") - 24 * HOUR
    with transaction():
        planning.set_next(schedule, recurring.cron.next_time(expression, zone, start))
    looked_at = start
    for half_hours in range(1, 3 * 48 + 1):
        now = start + half_hours * HOUR / 2
        pass_time(now, looked_at=looked_at)
        looked_at = now
    assert results(schedule) == [("started", "")] * 3


def test_approvers_decide_as_for_any_ticket() -> None:
    bob()
    order = make_workorder(scheduling=True, approval_flow=make_flow("leads"))
    first = next_of(make_schedule(workorder=order))
    pass_time(first)
    [ticket] = tickets()
    assert (ticket.status, ticket.job_status) == ("submitted", "CREATED")
    # It waits for them as long as it takes: it has no time of its own that could pass.
    assert start_due(first + 50 * HOUR, grace=HOUR) == 0
    approve(ticket, actor=bob())
    assert (ticket.status, ticket.job_status) == ("running", "WAITING")


def test_a_lock_that_is_held_skips_the_time_and_names_the_ticket() -> None:
    order = make_workorder("locked", scheduling=True, task_lock=True)
    schedule = make_schedule(workorder=order)
    holder = make_ticket(alice(), order)
    first = next_of(schedule)
    pass_time(first)
    [(outcome, reason)] = results(schedule)
    assert outcome == "skipped"
    assert f"ticket {holder.id} has not ended" in reason
    assert schedule.failures == 0
    end(begin(run_of(holder)))
    pass_time(first + HOUR)
    assert [outcome for outcome, _ in results(schedule)] == ["skipped", "started"]


def test_a_freeze_holds_the_latest_time_until_it_is_over() -> None:
    schedule = make_schedule()
    first = next_of(schedule)
    # Not before that time: the submission itself asks the real clock, which may stand just before the hour.
    make_freeze(starts_at=first, ends_at=first + 3 * HOUR - MINUTE)
    for hour in range(3):
        pass_time(first + hour * HOUR)
        assert results(schedule) == []
    pass_time(first + 3 * HOUR - MINUTE)
    assert [outcome for outcome, _ in results(schedule)] == ["missed", "started"]
    assert len(tickets()) == 1


def test_a_freeze_that_begins_after_a_time_was_taken_holds_it_too() -> None:
    schedule = make_schedule()
    first = next_of(schedule)
    take(first)
    make_freeze(starts_at=first, ends_at=first + HOUR)
    submit_all(first)
    assert results(schedule) == [("due", "")]
    submit_all(first + HOUR)
    assert results(schedule) == [("started", "")]


def test_values_that_are_no_longer_valid_are_refused_and_after_three_times_it_pauses() -> None:
    order = make_workorder(scheduling=True, variables=[list_variable("Mode", "update", "restart")])
    schedule = make_schedule(workorder=order, values={"Mode": "restart"})
    first = next_of(schedule)
    pass_time(first)
    (variable,) = order.variables
    catalog.change(variable, {"choices": ["update"]}, actor=None, version=variable.version)
    for hour in (1, 2, 3, 4):
        assert not schedule.is_paused
        pass_time(first + hour * HOUR)
        if hour < 3:
            assert (schedule.failures, schedule.is_paused) == (hour, False)
        else:
            break
    outcomes = results(schedule)
    assert [outcome for outcome, _ in outcomes] == ["started", "refused", "refused", "refused"]
    assert outcomes[-1][1].startswith("Mode: ")
    assert schedule.is_paused
    assert "refused 3 times in a row" in str(schedule.pause_message)
    assert schedule.next_at is None
    assert take(first + 9 * HOUR) == 0


def test_a_ticket_in_between_counts_the_refusals_anew(runner: FakeRunner) -> None:
    runner.scripts["versions"] = b"1.0\n"
    order = make_workorder(scheduling=True, variables=[script_variable("Version", "versions")])
    schedule = make_schedule(workorder=order, values={"Version": "1.0"})
    first = next_of(schedule)
    for hour, exit_code in enumerate((1, 1, 0, 1, 1)):
        runner.scripts["versions"] = captured(b"1.0\n", exit_code=exit_code, stderr=b"no route to host")
        pass_time(first + hour * HOUR)
    outcomes = results(schedule)
    assert [outcome for outcome, _ in outcomes] == ["refused", "refused", "started", "refused", "refused"]
    assert "no route to host" in outcomes[0][1]
    assert (schedule.failures, schedule.is_paused) == (2, False)


def test_a_work_order_that_is_edited_while_scripts_run_is_read_again(runner: FakeRunner) -> None:
    order = make_workorder(scheduling=True, variables=[script_variable("Version", "versions")])
    edits: list[int] = []

    def versions(_: object) -> bytes:
        if not edits and tickets_are_due():
            edits.append(1)
            with transaction():
                db.session.execute(
                    sa.update(WorkOrder).values(version=WorkOrder.version + 1, main_task="echo new")
                )
        return b"1.0\n"

    runner.scripts["versions"] = versions
    schedule = make_schedule(workorder=order, values={"Version": "1.0"})
    pass_time(next_of(schedule))
    assert edits == [1]
    assert results(schedule) == [("started", "")]
    assert tickets()[0].plan["steps"][0]["source"] == "echo new"


def tickets_are_due() -> bool:
    return db.session.scalar(sa.select(sa.func.count()).select_from(Occurrence)) == 1


def leave_group(owner: User, order: WorkOrder) -> None:
    owner.groups = []


def deactivate_owner(owner: User, order: WorkOrder) -> None:
    owner.active = False


def lose_role(owner: User, order: WorkOrder) -> None:
    owner.roles = []


def deactivate_order(owner: User, order: WorkOrder) -> None:
    order.active = False


def make_template(owner: User, order: WorkOrder) -> None:
    order.active, order.template = False, True


def forbid_scheduling(owner: User, order: WorkOrder) -> None:
    order.scheduling = False


@pytest.mark.parametrize("is_taken", [False, True])
@pytest.mark.parametrize(
    ("happens", "said"),
    [
        (leave_group, "alice is in no group that may submit"),
        (deactivate_owner, "alice is deactivated"),
        (lose_role, "alice has no role"),
        (deactivate_order, "is not active"),
        (make_template, "is not active"),
        (forbid_scheduling, "does not take planned times"),
    ],
)
def test_it_pauses_when_its_owner_may_not_submit_any_more(
    happens: Callable[[User, WorkOrder], None], said: str, is_taken: bool
) -> None:
    order = make_workorder(scheduling=True)
    schedule = make_schedule(workorder=order)
    first = next_of(schedule)
    if is_taken:
        take(first)
    with transaction():
        happens(schedule.owner, order)
    pass_time(first)
    [(outcome, reason)] = results(schedule)
    assert (outcome, said in reason) == ("refused", True)
    assert (schedule.is_paused, schedule.next_at) == (True, None)
    assert said in str(schedule.pause_message)
    assert tickets() == []
    with pytest.raises(Conflict, match=r"cannot be resumed.*" + said):
        recurring.resume(schedule, actor=root())
    actions = db.session.scalars(sa.select(AuditEvent.action).order_by(AuditEvent.id)).all()
    assert {"schedule.paused", "schedule.not_started"} <= set(actions)


def test_what_is_paused_before_it_was_submitted_is_skipped() -> None:
    schedule = make_schedule()
    first = next_of(schedule)
    take(first)
    recurring.pause(schedule, actor=alice())
    submit_all(first)
    [(outcome, reason)] = results(schedule)
    assert (outcome, "paused" in reason) == ("skipped", True)
    assert tickets() == []


def test_it_is_paused_and_resumed_by_hand() -> None:
    schedule = make_schedule()
    first = next_of(schedule)
    recurring.pause(schedule, actor=alice())
    with pytest.raises(Conflict, match="paused already"):
        recurring.pause(schedule, actor=alice())
    assert take(first + 2 * HOUR) == 0
    recurring.resume(schedule, actor=alice())
    assert next_of(schedule) == first
    with pytest.raises(Conflict, match="not paused"):
        recurring.resume(schedule, actor=alice())


def with_text() -> WorkOrder:
    return make_workorder(scheduling=True, variables=[make_variable("Why")])


def fields(schedule: Schedule) -> dict[str, Any]:
    return {
        "name": schedule.name,
        "expression": schedule.expression,
        "timezone": schedule.timezone,
        "values": schedule.values,
        "note": schedule.note,
    }


def test_everything_wrong_is_said_at_its_field() -> None:
    order = make_workorder(scheduling=True, variables=[make_variable("Why", required=True)])
    with pytest.raises(Invalid) as caught:
        make_schedule(workorder=order, name=" ", expression="61 * * * *", values={}, note="n" * 5000)
    assert set(caught.value.errors) == {recurring.NAME, recurring.EXPRESSION, "Why", "note"}
    with pytest.raises(Invalid) as caught:
        make_schedule(workorder=order, timezone="Mars/Olympus", values={"Why": "x"})
    assert set(caught.value.errors) == {recurring.TIMEZONE}


def test_one_owner_has_one_schedule_of_a_name() -> None:
    schedule = make_schedule()
    with pytest.raises(Invalid) as caught:
        make_schedule()
    assert list(caught.value.errors) == [recurring.NAME]
    make_schedule(root())
    other = make_schedule(name="other")
    with pytest.raises(Invalid):
        recurring.change(other, actor=alice(), version=1, **fields(schedule))


def test_only_what_the_owner_may_submit_at_planned_times_is_scheduled() -> None:
    with pytest.raises(NotFound):
        make_schedule(mallory())
    with pytest.raises(NotFound):
        make_schedule(workorder=make_workorder())


def test_a_change_counts_from_now_and_is_noticed_by_others() -> None:
    schedule = make_schedule()
    changed = {**fields(schedule), "expression": "30 4 1 1 *", "timezone": "Asia/Shanghai"}
    recurring.change(schedule, actor=alice(), version=1, **changed)
    assert (next_of(schedule).month, next_of(schedule).day, next_of(schedule).hour) == (12, 31, 20)
    with pytest.raises(Conflict, match="changed meanwhile"):
        recurring.change(schedule, actor=alice(), version=1, **changed)
    event = db.session.scalars(
        sa.select(AuditEvent).where(AuditEvent.action == "changed", AuditEvent.object_type == "schedule")
    ).one()
    assert event.changes == {
        "before": {"expression": "0 * * * *", "timezone": "UTC"},
        "after": {"expression": "30 4 1 1 *", "timezone": "Asia/Shanghai"},
    }


def test_a_change_of_a_paused_one_leaves_it_paused() -> None:
    schedule = make_schedule()
    recurring.pause(schedule, actor=alice())
    recurring.change(schedule, actor=alice(), version=1, **{**fields(schedule), "note": "new"})
    assert (schedule.is_paused, schedule.next_at, schedule.note) == (True, None, "new")


def test_a_secret_is_encrypted_kept_when_left_empty_and_nowhere_to_be_read() -> None:
    order = make_workorder(
        scheduling=True,
        variables=[make_variable("Password", secret=True), make_variable("Why")],
        main_task="login",
    )
    schedule = make_schedule(workorder=order, values={"Password": "hunter2", "Why": "x"})
    assert schedule.values == {"Password": None, "Why": "x"}
    recurring.change(
        schedule, actor=alice(), version=1, **{**fields(schedule), "values": {"Password": "", "Why": "y"}}
    )
    pass_time(next_of(schedule))
    [ticket] = tickets()
    assert ticket.secrets is not None
    assert ticket.secrets["values"] == {"Password": "hunter2"}
    assert ticket.values == {"Password": None, "Why": "y"}
    stored = db.session.execute(sa.text("select secrets from schedules")).scalar_one()
    assert b"hunter2" not in bytes(stored)
    assert "hunter2" not in str(db.session.scalars(sa.select(AuditEvent.changes)).all())
    recurring.change(
        schedule,
        actor=alice(),
        version=2,
        **{**fields(schedule), "values": {"Password": "new one", "Why": "y"}},
    )
    assert schedule.submission["Password"] == "new one"
    assert "new one" not in str(db.session.scalars(sa.select(AuditEvent.changes)).all())


def test_only_the_owner_says_what_it_submits_and_superusers_may_do_the_rest() -> None:
    schedule = make_schedule()
    for actor in (root(), mallory()):
        with pytest.raises(NotAllowed):
            recurring.change(schedule, actor=actor, version=1, **fields(schedule))
    for refused in (recurring.pause, recurring.resume, recurring.delete):
        with pytest.raises(NotAllowed):
            refused(schedule, actor=mallory())
    recurring.pause(schedule, actor=root())
    recurring.resume(schedule, actor=root())
    recurring.delete(schedule, actor=root())
    assert db.session.scalars(sa.select(Schedule)).all() == []


def test_it_is_handed_over_by_a_superuser_paused_and_only_to_one_who_may_submit_it() -> None:
    schedule = make_schedule()
    first = next_of(schedule)
    with pytest.raises(NotAllowed):
        recurring.hand_over(schedule, to=root(), actor=alice())
    with pytest.raises(Conflict, match="mallory is in no group"):
        recurring.hand_over(schedule, to=mallory(), actor=root())
    with transaction():
        (outsider := mallory()).groups.append(make_group("ops"))
    recurring.hand_over(schedule, to=outsider, actor=root())
    assert (schedule.owner.username, schedule.is_paused) == ("mallory", True)
    with pytest.raises(NotAllowed):
        recurring.resume(schedule, actor=alice())
    recurring.resume(schedule, actor=mallory())
    pass_time(first)
    assert [ticket.submitter_name for ticket in tickets()] == ["mallory"]


def test_what_is_deleted_leaves_its_tickets_and_submits_no_more() -> None:
    schedule = make_schedule()
    first = next_of(schedule)
    pass_time(first)
    take(first + HOUR)
    recurring.delete(schedule, actor=alice())
    submit_all(first + HOUR)
    assert len(tickets()) == 1
    assert db.session.scalars(sa.select(Occurrence)).all() == []
    with pytest.raises(Conflict, match="deleted meanwhile"):
        recurring.pause(schedule, actor=alice())


def test_what_has_schedules_is_not_deleted() -> None:
    order = make_workorder("nightly", scheduling=True)
    make_schedule(workorder=order)
    with pytest.raises(Conflict, match=r"because of its schedules \(1\)"):
        catalog.delete(order, actor=None)
    assert "its schedules (1)" in [str(message) for message in dependents(alice())]
