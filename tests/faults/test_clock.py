"""Fault 9: the clock is set an hour forward or back, or clocks are changed: one start each, none forgotten, no lease ends."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.clocks import LIBRARY, Clocked, add_schedule, submitted
from tests.faults.instances import START, SWEEP, WAIT, Prepared, until

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
# Short, so that only having been there makes what is an hour late be started.
GRACE = 30.0
# Longer than any wait here: only a clock that was set could end it.
LEASE = 20.0


@pytest.fixture
def instance(prepared: Prepared, tmp_path: Path) -> Iterator[Clocked]:
    if LIBRARY is None:
        pytest.skip("libfaketime is not installed")
    made = Clocked(tmp_path, prepared, schedule_grace=GRACE, lease=LEASE).start("serve")
    made.worker()
    yield made
    made.reset()
    made.stop()


def plan(instance: Clocked, after: dt.timedelta) -> int:
    """Submit `script`, to be started that long after what the clock shows."""
    return int(instance.submit("script", scheduled_at=(instance.now() + after).isoformat())["id"])


def runs_of(instance: Clocked, ticket: int) -> int:
    return int(instance.rows("select count(*) from runs where ticket_id = ?", ticket)[0][0])


def let_workers_look() -> None:
    """Wait for several sweeps: each would find what has come due, or a lease that a new time has ended."""
    time.sleep(5 * SWEEP)


def started(instance: Clocked, schedule: int, count: int) -> list[dt.datetime]:
    """Return the times that became a ticket, once there are so many."""
    until(lambda: len(submitted(instance, schedule)) >= count, f"{count} times do not come", instance, 20)
    return submitted(instance, schedule)


@pytest.mark.parametrize("by", [HOUR, -HOUR])
def test_a_run_goes_on_with_its_worker(instance: Clocked, by: dt.timedelta) -> None:
    instance.write(main=f"{START}echo begun\n{WAIT}echo over")
    ticket = instance.submit("script")
    number = ticket["runs"][0]["id"]
    instance.wait_for_output(number, b"begun\n")
    owner = "select fence, worker_id, state from runs where id = ?"
    before = instance.rows(owner, number)
    instance.move(by)
    let_workers_look()
    assert instance.rows(owner, number) == before
    assert instance.rows("select count(*) from workers") == [(1,)]
    instance.go()
    assert instance.wait_for_end(ticket)["status"] == "succeeded"
    assert instance.starts() == ["start"]


def test_an_hour_forward_starts_once_what_came_due_in_it(instance: Clocked) -> None:
    instance.write(main=START + "echo done")
    ticket, later = plan(instance, HOUR / 2), plan(instance, 2 * HOUR)
    let_workers_look()
    assert runs_of(instance, ticket) == 0
    instance.move(HOUR)
    assert instance.wait_for(ticket)["status"] == "succeeded"
    let_workers_look()
    assert runs_of(instance, later) == 0
    # Put right again: what was started is not started once more when its time comes.
    instance.move(-HOUR)
    let_workers_look()
    instance.move(HOUR / 2)
    let_workers_look()
    assert (runs_of(instance, ticket), runs_of(instance, later)) == (1, 0)
    assert instance.starts() == ["start"]


def test_an_hour_back_starts_nothing_twice_and_what_waits_at_its_time(instance: Clocked) -> None:
    instance.write(main=START + "echo done")
    first, second = plan(instance, dt.timedelta(seconds=2)), plan(instance, HOUR / 2)
    assert instance.wait_for(first)["status"] == "succeeded"
    instance.move(-HOUR)
    let_workers_look()
    assert (runs_of(instance, first), runs_of(instance, second)) == (1, 0)
    third = plan(instance, dt.timedelta(seconds=2))
    assert instance.wait_for(third)["status"] == "succeeded"
    instance.move(HOUR / 2)
    instance.move(HOUR)
    assert instance.wait_for(second)["status"] == "succeeded"
    let_workers_look()
    assert [runs_of(instance, ticket) for ticket in (first, second, third)] == [1, 1, 1]


def test_a_schedule_meets_each_hour_once(instance: Clocked) -> None:
    instance.write(main=START + "echo done")
    hour = instance.now().replace(minute=0, second=0, microsecond=0) + DAY
    instance.set_to(hour - dt.timedelta(seconds=4))
    schedule = add_schedule(instance, "hourly", "0 * * * *")
    assert started(instance, schedule, 1) == [hour]
    # Back, and through the same full hour again.
    instance.set_to(hour - HOUR)
    let_workers_look()
    instance.set_to(hour - dt.timedelta(seconds=1))
    let_workers_look()
    assert submitted(instance, schedule) == [hour]
    # Forward, over a full hour that nobody saw coming, and longer ago than the grace.
    instance.set_to(hour + HOUR + HOUR / 4)
    assert started(instance, schedule, 2) == [hour, hour + HOUR]
    let_workers_look()
    assert submitted(instance, schedule) == [hour, hour + HOUR]
    until(lambda: len(instance.starts()) == 2, "they are not run", instance)


@pytest.mark.parametrize(
    ("zone", "expression", "at", "then"),
    [
        # Skipped: right after the change, and the day after at its time.
        ("Europe/Berlin", "30 2 * * *", "2027-03-28T01:00Z", "2027-03-29T00:30Z"),
        ("America/New_York", "30 2 * * *", "2027-03-14T07:00Z", "2027-03-15T06:30Z"),
        # Twice: the first time, and the day after at its time.
        ("Europe/Berlin", "30 2 * * *", "2027-10-31T00:30Z", "2027-11-01T01:30Z"),
        ("America/New_York", "30 1 * * *", "2027-11-07T05:30Z", "2027-11-08T06:30Z"),
    ],
)
def test_where_clocks_are_changed_a_daily_job_runs_once_a_day(
    instance: Clocked, zone: str, expression: str, at: str, then: str
) -> None:
    instance.write(main=START + "echo done")
    change, next_day = dt.datetime.fromisoformat(at), dt.datetime.fromisoformat(then)
    instance.set_to(change - dt.timedelta(seconds=4))
    schedule = add_schedule(instance, "daily", expression, zone)
    assert started(instance, schedule, 1) == [change]
    # Through the two hours after it, half an hour at a time: the clocks of that zone show the time once more.
    for half_hours in range(1, 5):
        instance.set_to(change + half_hours * HOUR / 2 - dt.timedelta(seconds=0.5))
        time.sleep(0.5 + 3 * SWEEP)
    assert submitted(instance, schedule) == [change]
    instance.set_to(next_day - dt.timedelta(seconds=1))
    assert started(instance, schedule, 2) == [change, next_day]
    until(lambda: len(instance.starts()) == 2, "they are not run", instance)
