"""Fault 1: a worker killed with -9 at any moment. Nothing starts twice, nothing stays running, what was printed is kept."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any

import pytest

from tests.faults.instances import LEASE, SLACK, START, SWEEP, WAIT, Instance, kill, suspended, until

pytestmark = pytest.mark.both_databases

# The parent waits a second before it starts a worker again.
MARGIN = 1 + LEASE + SWEEP + SLACK


def test_a_worker_killed_before_its_claim_leaves_a_run_that_the_next_one_starts_once(
    instance: Instance,
) -> None:
    instance.write(main=START + "echo done")
    worker = instance.worker()
    with instance.still(worker):
        ticket = instance.submit("script")
        with instance.locked():
            worker.resume()
            until(lambda: instance.messages() == 0, "the worker takes no message", instance)
            kill(worker)
    assert instance.ticket(ticket["id"])["runs"][0]["state"] == "queued"
    run = instance.wait_for_end(ticket)
    assert (run["status"], run["exit_code"]) == ("succeeded", 0)
    assert instance.starts() == ["start"]
    assert instance.output(run["id"]) == b"done\n"


def test_a_worker_killed_between_claim_and_launch_leaves_nothing_that_starts_later(
    instance: Instance,
) -> None:
    instance.write(main=START + "echo done")
    instance.wait_for_end(instance.submit("script"))
    with suspended(instance.host()):
        ticket = instance.submit("script")
        instance.wait_for(ticket["id"], lambda found: found["runs"][0]["state"] == "running")
        kill(instance.worker())
    run = instance.wait_for_end(ticket, within=MARGIN)
    assert (run["status"], run["state"]) in {("unknown", "unknown"), ("failed", "failed")}
    assert run["reason"]
    assert instance.output(run["id"]) == b""
    time.sleep(2 * SWEEP)
    assert instance.starts() == ["start"], "it started after it was given up"
    assert instance.ticket(ticket["id"])["status"] == run["status"]


def test_a_step_goes_on_when_its_worker_is_killed_and_the_next_worker_finishes_it(instance: Instance) -> None:
    instance.write(one=START + "echo one", two=f"echo begun\n{WAIT}echo over", three="echo three; exit 3")
    ticket = instance.submit("steps")
    number = ticket["runs"][0]["id"]
    instance.wait_for_output(number, b"begun\n")
    kill(killed := instance.worker())
    assert instance.run(number)["state"] == "running"
    assert instance.log_from(number).content == b"one\nbegun\n"
    instance.worker(but=killed.pid)
    instance.go()
    run = instance.wait_for_end(ticket)
    assert (run["status"], run["state"], run["exit_code"]) == ("failed", "failed", 3)
    assert [(step["position"], step["exit_code"]) for step in run["steps"]] == [(1, 0), (2, 0), (3, 3)]
    assert instance.output(number) == b"one\nbegun\nover\nthree\n"
    assert instance.starts() == ["start"]


def test_a_run_that_ended_while_no_worker_was_up_is_finished_by_the_next(instance: Instance) -> None:
    instance.write(main=f"{START}echo begun\n{WAIT}echo over")
    ticket = instance.submit("script")
    number = ticket["runs"][0]["id"]
    instance.wait_for_output(number, b"begun\n")
    with instance.without_worker():
        instance.go()
        until(lambda: not instance.runners(), "the runner does not end", instance)
        assert instance.run(number)["state"] == "running", "nobody can have said how it ended"
    run = instance.wait_for_end(ticket)
    assert (run["status"], run["exit_code"], run["steps"][0]["exit_code"]) == ("succeeded", 0, 0)
    assert instance.output(number) == b"begun\nover\n"
    assert instance.starts() == ["start"]


@pytest.mark.parametrize("victims", ["the runner", "worker and runner", "runner host and all"])
def test_a_run_whose_runner_is_killed_is_unknown_and_leaves_no_process(
    instance: Instance, victims: str
) -> None:
    instance.write(main=f"{START}echo begun\nsetsid sleep 1000 &\nsleep 1000 & {WAIT}")
    ticket = instance.submit("script")
    number = ticket["runs"][0]["id"]
    instance.wait_for_output(number, b"begun\n")
    runners = instance.runners()
    if victims == "the runner":
        kill(*runners)
    else:
        hosts = instance.hosts() if victims == "runner host and all" else []
        with instance.without_worker():
            kill(*hosts, *runners)
    run = instance.wait_for_end(ticket, within=MARGIN)
    assert (run["status"], run["state"], run["exit_code"]) == ("unknown", "unknown", None)
    assert instance.output(number) == b"begun\n"
    assert [step["position"] for step in run["steps"]] == [1]
    until(lambda: not instance.commands(), "processes of the run are left", instance, within=3)
    assert instance.starts() == ["start"]
    instance.write(main="echo again")
    assert instance.wait_for_end(instance.submit("script"))["status"] == "succeeded"


def test_a_worker_that_was_away_for_longer_than_its_lease_changes_nothing_when_it_is_back(
    instance: Instance,
) -> None:
    instance.write(main=f"{START}echo begun\n{WAIT}echo over")
    ticket = instance.submit("script")
    number = ticket["runs"][0]["id"]
    instance.wait_for_output(number, b"begun\n")
    away = instance.worker()
    with instance.still(away):
        instance.start("worker")
        instance.worker(but=away.pid)
        owner = "select pid from runs join workers on workers.id = worker_id where runs.id = ?"
        until(
            lambda: instance.rows(owner, number)[0][0] != away.pid,
            "nobody takes over",
            instance,
            within=MARGIN,
        )
        instance.go()
        run = instance.wait_for_end(ticket)
    history = "select count(*) from audit_events where object_type in ('ticket', 'run')"
    before = instance.rows(history)
    time.sleep(3 * SWEEP)
    assert instance.run(number)["finished_at"] == run["finished_at"]
    assert (run["status"], run["exit_code"]) == ("succeeded", 0)
    assert instance.rows(history) == before
    assert instance.starts() == ["start"]
    instance.terminate("worker")


@pytest.mark.slow
def test_no_moment_of_a_kill_starts_anything_twice_or_leaves_it_running(instance: Instance) -> None:
    number = instance.workorder("marked")
    moments = random.Random(7)
    tickets: list[dict[str, Any]] = []
    for _ in range(6):
        worker = instance.worker()
        for _ in range(6):
            tickets.append(instance.submit(number, {"Mark": f"m{len(tickets)}"}))
            time.sleep(moments.uniform(0, 0.02))
        time.sleep(moments.uniform(0, 0.03))
        kill(worker)
        instance.worker(but=worker.pid)
    deadline = time.monotonic() + MARGIN + SLACK
    ended = [
        instance.wait_for(ticket["id"], within=max(0.1, deadline - time.monotonic())) for ticket in tickets
    ]
    starts = Counter(instance.starts())
    assert max(starts.values()) == 1
    for index, ticket in enumerate(ended):
        allowed = {("succeeded", 1), ("unknown", 1), ("unknown", 0), ("failed", 0)}
        assert (ticket["status"], starts[f"m{index}"]) in allowed, (index, ticket)
    assert instance.rows("select count(*) from runs where state in ('queued', 'running')") == [(0,)]
    assert sum(ticket["status"] == "succeeded" for ticket in ended) > len(ended) / 2
