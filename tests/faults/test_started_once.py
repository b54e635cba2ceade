"""Faults 10 and 13: the same submission many times at once, the same message many times, several workers. One start."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.instances import START, SWEEP, WAIT, Instance, Person, csrf_token, suspended, until

pytestmark = pytest.mark.both_databases

COPIES = 20


def at_once(do: Callable[[], Any], times: int = COPIES) -> list[Any]:
    """Do something in as many threads, all let loose at the same moment."""
    results: list[Any] = [None] * times
    gate = threading.Barrier(times)

    def one(index: int) -> None:
        gate.wait()
        results[index] = do()

    threads = [threading.Thread(target=one, args=(index,)) for index in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def claims(instance: Instance, ticket: dict[str, Any]) -> int:
    """Return how often a worker took the ticket's run, by the audit events."""
    changes = "select cast(changes as text) from audit_events where object_type = 'run' and object_id = ?"
    events = instance.rows(changes, ticket["runs"][0]["id"])
    return sum(json.loads(event)["after"] == "running" for (event,) in events)


def test_twenty_identical_calls_at_once_make_one_ticket(instance: Instance) -> None:
    instance.write(main=START + "echo done")
    number = instance.workorder("script")
    path, key = f"/api/v1/workorders/{number}/tickets", {"Idempotency-Key": "twenty calls"}
    answers = at_once(lambda: instance.call("POST", path, {"values": {}}, headers=key))
    assert [answer.status for answer in answers] == [201] * COPIES
    assert len({answer.json["id"] for answer in answers}) == 1
    instance.wait_for_end(answers[0].json)
    time.sleep(2 * SWEEP)
    assert instance.starts() == ["start"]
    other = instance.call("POST", path, {"values": {}, "note": "another"}, headers=key)
    assert (other.status, other.json["ticket"]) == (409, answers[0].json["id"])


def test_a_form_sent_twenty_times_at_once_makes_one_ticket(instance: Instance) -> None:
    instance.write(main=START + "echo done")
    person, path = Person(instance), f"/workorders/{instance.workorder('script')}/submit"
    page = person.page(path)
    key = page.split('name="idempotency_key" value="', 1)[1].split('"', 1)[0]
    form = {"csrf_token": csrf_token(page), "idempotency_key": key, "note": ""}
    answers = at_once(lambda: person.post(path, form))
    assert [answer.status for answer in answers] == [303] * COPIES, answers[0].content
    (place,) = {answer.headers["Location"] for answer in answers}
    ended = instance.wait_for(int(place.rsplit("/", 1)[1]))
    assert ended["status"] == "succeeded"
    time.sleep(2 * SWEEP)
    assert instance.starts() == ["start"]


def test_a_message_that_comes_many_times_starts_its_run_once(instance: Instance) -> None:
    number = instance.workorder("marked")
    with instance.still():
        tickets = [instance.submit(number, {"Mark": f"m{index}"}) for index in range(4)]
        instance.double_messages(times=4)
        assert instance.messages() == 20
    for ticket in tickets:
        assert instance.wait_for_end(ticket)["status"] == "succeeded"
    until(lambda: instance.messages() == 0, "messages stay", instance)
    assert Counter(instance.starts()) == {f"m{index}": 1 for index in range(4)}
    # The runner refuses a second start too; the database must not even have let anybody ask for one.
    assert [claims(instance, ticket) for ticket in tickets] == [1] * 4


def test_a_message_that_comes_again_while_its_run_goes_on_changes_nothing(instance: Instance) -> None:
    instance.write(main=f"{START}echo begun\n{WAIT}echo over")
    with instance.still():
        ticket = instance.submit("script")
        instance.double_messages()
    number = ticket["runs"][0]["id"]
    instance.wait_for_output(number, b"begun\n")
    until(lambda: instance.messages() == 0, "messages stay", instance)
    owner = "select fence, worker_id from runs where id = ?"
    before = instance.rows(owner, number)
    time.sleep(4 * SWEEP)
    assert instance.rows(owner, number) == before, "a run that is watched was taken over"
    instance.go()
    assert instance.wait_for_end(ticket)["status"] == "succeeded"
    assert instance.starts() == ["start"]
    assert claims(instance, ticket) == 1


def test_a_message_that_comes_again_while_the_runner_is_slow_to_begin_does_not_end_the_run(
    instance: Instance,
) -> None:
    instance.write(main=START + "echo done")
    instance.wait_for_end(instance.submit("script"))
    with suspended(instance.host()):
        with instance.still():
            ticket = instance.submit("script")
            instance.double_messages()
        until(lambda: instance.messages() == 0, "messages stay", instance)
        time.sleep(3 * SWEEP)
        assert instance.ticket(ticket["id"])["runs"][0]["state"] == "running"
    assert instance.wait_for_end(ticket)["status"] == "succeeded"
    assert instance.starts() == ["start"] * 2


def test_two_workers_share_the_work_and_start_each_run_once(instance: Instance) -> None:
    first = instance.worker()
    instance.start("worker")
    second = instance.worker(but=first.pid)
    number = instance.workorder("marked")
    tickets = [instance.submit(number, {"Mark": f"a{index}"}) for index in range(12)]
    with instance.still(first, second):
        tickets += [instance.submit(number, {"Mark": f"b{index}"}) for index in range(12)]
        instance.double_messages()
    for ticket in tickets:
        assert instance.wait_for_end(ticket)["status"] == "succeeded"
    until(lambda: instance.messages() == 0, "messages stay", instance)
    assert Counter(instance.starts()) == {f"{kind}{index}": 1 for kind in "ab" for index in range(12)}
    assert first.is_running()
    assert second.is_running()
