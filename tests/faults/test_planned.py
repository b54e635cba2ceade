"""Fault 14: a planned time passes while no worker is up. It runs on return within the grace, else it is missed, and said so."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable

import pytest

from tests.faults.clocks import add_schedule, submitted
from tests.faults.instances import START, SWEEP, Instance, kill, until, visible_text

SOON = 1.5


def plan(instance: Instance) -> int:
    at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=SOON)
    return int(instance.submit("script", scheduled_at=at.isoformat())["id"])


@pytest.fixture
def make(make_instance: Callable[..., Instance]) -> Callable[..., Instance]:
    """Give what makes instances that are up."""

    def make(**settings: float) -> Instance:
        made = make_instance(**settings)
        made.start("serve").worker()
        made.write(main=START + "echo done")
        return made

    return make


def test_what_came_due_meanwhile_runs_on_return_within_the_grace(make: Callable[..., Instance]) -> None:
    instance = make()
    with instance.without_worker():
        ticket = plan(instance)
        time.sleep(SOON + 1)
        assert instance.ticket(ticket)["status"] == "submitted"
    ended = instance.wait_for(ticket)
    assert (ended["status"], ended["job_status"]) == ("succeeded", "SUCCESS")
    time.sleep(3 * SWEEP)
    assert instance.starts() == ["start"]


def test_after_the_grace_it_is_missed_and_said_on_its_page(make: Callable[..., Instance]) -> None:
    instance = make(schedule_grace=1)
    with instance.without_worker():
        ticket = plan(instance)
        time.sleep(SOON + 1.5)
    ended = instance.wait_for(ticket)
    assert (ended["status"], ended["job_status"], ended["runs"]) == ("failed", "FAILURE", [])
    assert "Missed: no worker was there at its planned time" in visible_text(
        instance.person().page(f"/tickets/{ticket}")
    )
    assert instance.starts() == []


def test_a_schedule_submits_the_latest_time_that_was_missed(make: Callable[..., Instance]) -> None:
    instance = make()
    schedule = add_schedule(instance, "minutely", "* * * * *")
    with instance.without_worker():
        # As if it had been down for five minutes: the first of them is long ago.
        first = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0) - dt.timedelta(minutes=5)
        set_next(instance, schedule, first)
        assert submitted(instance, schedule) == []
    until(lambda: submitted(instance, schedule), "nothing is submitted", instance, 20)
    [latest, *_] = submitted(instance, schedule)
    assert latest >= first + dt.timedelta(minutes=5)
    statement = "select outcome, count from schedule_occurrences where schedule_id = ? order by id limit 1"
    [(outcome, count)] = instance.rows(statement, schedule)
    assert (outcome, count >= 5) == ("missed", True)
    assert f"missed × {count}" in visible_text(instance.person().page(f"/schedules/{schedule}"))


@pytest.mark.parametrize("moment", ["before the ticket", "after the ticket"])
def test_a_worker_killed_while_it_submits_leaves_one_ticket(
    make: Callable[..., Instance], moment: str
) -> None:
    """The row of the time is there, and the message is gone with the worker: the sweep rings again."""
    instance = make(script_timeout=0.5)
    schedule = add_schedule(instance, "minutely", "* * * * *")
    with instance.without_worker():
        at = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0)
        add_due(instance, schedule, at)
        if moment == "after the ticket":
            key = f"schedule {schedule} at {at:%Y-%m-%dT%H:%M:%S}Z"
            headers = {"Idempotency-Key": key}
            path = f"/api/v1/workorders/{instance.workorder('script')}/tickets"
            assert instance.call("POST", path, {"values": {}}, headers=headers).status == 201
    until(lambda: at in submitted(instance, schedule), "it is not submitted", instance, 20)
    until(instance.starts, "it is not run", instance)
    made = "select count(*) from tickets where idempotency_key = ?"
    assert instance.rows(made, f"schedule {schedule} at {at:%Y-%m-%dT%H:%M:%S}Z") == [(1,)]


def test_two_workers_take_each_time_once(make: Callable[..., Instance]) -> None:
    instance = make()
    first = instance.worker()
    instance.start("worker")
    second = instance.worker(but=first.pid)
    schedules = [add_schedule(instance, f"number {number}", "* * * * *") for number in range(6)]
    at = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0)
    with instance.still(first, second):
        for schedule in schedules:
            set_next(instance, schedule, at)
    for schedule in schedules:
        until(lambda schedule=schedule: at in submitted(instance, schedule), "not submitted", instance, 20)
    time.sleep(3 * SWEEP)
    for schedule in schedules:
        made = f"schedule {schedule} at {at:%Y-%m-%dT%H:%M:%S}Z"
        assert instance.rows("select count(*) from tickets where idempotency_key = ?", made) == [(1,)]
    kill(second)


def set_next(instance: Instance, schedule: int, at: dt.datetime) -> None:
    instance.write_rows("update schedules set next_at = ? where id = ?", stored(at), schedule)


def add_due(instance: Instance, schedule: int, at: dt.datetime) -> None:
    """Leave a time as a worker that was killed does: taken, being tried, and neither submitted nor given back."""
    instance.write_rows(
        "insert into schedule_occurrences (schedule_id, actor_id, planned_at, count, taken_at, tried_at, outcome)"
        " select id, owner_id, ?, 1, ?, ?, 'due' from schedules where id = ?",
        *(stored(at), stored(at), stored(dt.datetime.now(dt.UTC))),
        schedule,
    )


def stored(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")
