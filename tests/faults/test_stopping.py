"""Fault 18, and every other way in which a run is ended: stopped at any moment, timed out, with nothing of it left."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.faults.instances import (
    GRACE,
    START,
    WAIT,
    Instance,
    Person,
    csrf_token,
    until,
    visible_text,
)

pytestmark = pytest.mark.both_databases

STUBBORN = """
trap '' TERM INT HUP
echo start >> "$BOX/starts"
(trap '' TERM; while :; do sleep 1; done) &
setsid bash -c 'trap "" TERM; (setsid sleep 1000 >/dev/null 2>&1 &) ; sleep 1000' &
nohup sleep 1000 >/dev/null 2>&1 &
python3 -c 'import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.chdir("/")
        time.sleep(1000)
    os._exit(0)
os.wait()'
echo begun
while :; do sleep 1; done
"""


def by_api(instance: Instance, ticket: int) -> None:
    answer = instance.call("POST", f"/api/v1/tickets/{ticket}/stop")
    assert answer.status == 200, answer.content


def by_page(instance: Instance, ticket: int) -> None:
    person = Person(instance)
    page = person.page(f"/tickets/{ticket}")
    assert f'action="/tickets/{ticket}/stop"' in page
    answer = person.post(f"/tickets/{ticket}/stop", {"csrf_token": csrf_token(page)})
    assert answer.status == 303, answer.content


@pytest.mark.parametrize("stop", [by_api, by_page])
def test_a_command_that_ignores_signals_and_starts_daemons_is_stopped_with_all_it_started(
    instance: Instance, stop: Callable[[Instance, int], None]
) -> None:
    instance.write(main=STUBBORN)
    ticket = instance.submit("script")
    number = ticket["runs"][0]["id"]
    instance.wait_for_output(number, b"begun\n")
    assert len(instance.commands()) >= 6
    stop(instance, ticket["id"])
    run = instance.wait_for_end(ticket, within=GRACE + 2)
    assert instance.commands() == []
    assert (run["status"], run["state"], run["exit_code"]) == ("failed", "stopped", None)
    assert run["reason"] == "Stopped by admin."
    assert instance.output(number) == b"begun\n"
    assert "Stopped by admin." in visible_text(Person(instance).page(f"/tickets/{ticket['id']}"))


def test_a_stop_asked_while_no_worker_is_up_is_carried_out_all_the_same(instance: Instance) -> None:
    instance.write(main=STUBBORN)
    ticket = instance.submit("script")
    number = ticket["runs"][0]["id"]
    instance.wait_for_output(number, b"begun\n")
    with instance.without_worker():
        by_api(instance, ticket["id"])
        until(lambda: not instance.commands(), "the commands go on", instance, within=GRACE + 2)
    run = instance.wait_for_end(ticket)
    assert (run["state"], run["reason"]) == ("stopped", "Stopped by admin.")


def test_a_child_that_holds_the_pipe_does_not_hold_up_the_end_of_its_run(instance: Instance) -> None:
    instance.write(main=START + "setsid sleep 1000 &\necho done")
    run = instance.wait_for_end(instance.submit("script"))
    assert run["duration"] < 2
    assert (run["status"], run["exit_code"]) == ("succeeded", 0)
    assert instance.output(run["id"]) == b"done\n"
    assert instance.commands() == []


def test_a_run_beyond_the_time_limit_of_its_work_order_is_ended_and_says_so(instance: Instance) -> None:
    instance.write(main=STUBBORN)
    ticket = instance.submit("short")
    run = instance.wait_for_end(ticket)
    assert (run["status"], run["state"]) == ("failed", "failed")
    assert run["reason"] == "The time limit of 1 s has passed."
    assert 1 <= run["duration"] < 1 + GRACE + 2
    assert instance.output(run["id"]) == b"begun\n"
    assert instance.commands() == []
    assert run["reason"] in visible_text(Person(instance).page(f"/tickets/{ticket['id']}"))


def test_a_run_that_is_stopped_in_the_queue_never_starts(instance: Instance) -> None:
    instance.write(main=START)
    with instance.still():
        ticket = instance.submit("script")
        by_api(instance, ticket["id"])
        run = instance.wait_for_end(ticket, within=1)
    assert (run["status"], run["state"], run["reason"]) == ("failed", "stopped", "Stopped by admin.")
    until(lambda: instance.messages() == 0, "the message stays", instance)
    time.sleep(0.3)
    assert instance.starts() == []
    assert instance.call("POST", f"/api/v1/tickets/{ticket['id']}/stop").status == 409


def test_a_stop_between_pre_and_main_task_keeps_the_main_task_from_starting(instance: Instance) -> None:
    instance.write(pre=f"echo begun\n{WAIT}", main=START, post=START)
    ticket = instance.submit("tasks")
    instance.wait_for_output(ticket["runs"][0]["id"], b"begun\n")
    with instance.still():
        instance.go()
        until(lambda: not instance.runners(), "the pre task does not end", instance)
        by_api(instance, ticket["id"])
    run = instance.wait_for_end(ticket)
    assert run["status"] == "failed"
    assert [(one["task"], one["state"]) for one in run["runs"]] == [("pre", "succeeded")]
    assert "Stopped after the pre task." in visible_text(Person(instance).page(f"/tickets/{ticket['id']}"))
    assert instance.starts() == []


def test_a_main_task_that_waits_for_its_turn_is_stopped_at_once(
    make_instance: Callable[..., Instance],
) -> None:
    instance = make_instance(workers=1).start("serve")
    instance.write(pre=f"echo begun\n{WAIT}", main=START, post=START, one="echo one", two=WAIT, three="true")
    ticket = instance.submit("tasks")
    instance.wait_for_output(ticket["runs"][0]["id"], b"begun\n")
    instance.write(two='until [ -e "$BOX/end" ]; do sleep 0.03; done')
    other = instance.submit("steps")
    instance.go()
    waits = instance.wait_for(ticket["id"], lambda found: len(found["runs"]) == 2)
    assert waits["runs"][1]["state"] == "queued"
    by_api(instance, ticket["id"])
    run = instance.wait_for_end(ticket, within=1)
    assert [one["state"] for one in run["runs"]] == ["succeeded", "stopped"]
    instance.go("end")
    assert instance.wait_for_end(other)["status"] == "succeeded"
    assert instance.starts() == []


def test_a_stop_in_the_main_task_keeps_the_post_task_from_running(instance: Instance) -> None:
    instance.write(pre="echo pre", main=f"echo begun\n{WAIT}", post=START)
    ticket = instance.submit("tasks")
    main = instance.wait_for(ticket["id"], lambda found: len(found["runs"]) == 2)["runs"][1]["id"]
    instance.wait_for_output(main, b"begun\n")
    by_api(instance, ticket["id"])
    run = instance.wait_for_end(ticket)
    assert (run["state"], [step["task"] for step in run["steps"]]) == ("stopped", ["main"])
    assert instance.starts() == []
    assert instance.output(ticket["runs"][0]["id"]) == b"pre\n"
