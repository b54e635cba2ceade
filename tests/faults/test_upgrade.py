"""Fault 2: skstack is stopped with SIGTERM while runs are going. They go on, and the next worker takes them over."""

from __future__ import annotations

import threading
import time
import urllib.error

import pytest

from tests.faults.instances import GRACE, SLACK, START, WAIT, Instance, Person, until

pytestmark = pytest.mark.both_databases


@pytest.mark.parametrize("ends", ["meanwhile", "later"])
def test_runs_go_on_through_a_restart_and_keep_output_steps_and_exit_codes(
    instance: Instance, ends: str
) -> None:
    instance.write(
        one=START + "echo one",
        two=f"echo begun\n{WAIT}echo over",
        three="echo three; exit 5",
        pre=f"echo pre >> $BOX/starts; echo pre begun\n{WAIT}echo pre over",
        main="echo main >> $BOX/starts; echo main",
        post="echo post >> $BOX/starts; echo post",
    )
    steps, tasks = instance.submit("steps"), instance.submit("tasks")
    number, pre = steps["runs"][0]["id"], tasks["runs"][0]["id"]
    instance.wait_for_output(number, b"begun\n")
    instance.wait_for_output(pre, b"pre begun\n")
    seen = instance.log_from(number)
    offset = int(seen.headers["X-Log-Next-Offset"])
    running = {process.pid for process in instance.runners()}

    assert instance.terminate("serve", within=10) == 0
    assert {process.pid for process in instance.runners()} == running, "an upgrade must leave commands alone"
    with pytest.raises(urllib.error.URLError):
        instance.ticket(steps["id"])
    if ends == "meanwhile":
        instance.go()
        until(lambda: not instance.runners(), "the runners do not end", instance)
    instance.start("serve")
    instance.worker()
    if ends == "later":
        assert instance.run(number)["state"] == "running"
        assert instance.log_from(number, offset).content == b""
        instance.go()

    rest = bytearray()
    while True:
        piece = instance.log_from(number, offset, wait=10)
        rest += piece.content
        offset = int(piece.headers["X-Log-Next-Offset"])
        if piece.headers["X-Run-Final"] == "1":
            break
    assert seen.content + rest == b"one\nbegun\nover\nthree\n"
    run = instance.wait_for_end(steps)
    assert (run["status"], run["exit_code"]) == ("failed", 5)
    assert [step["exit_code"] for step in run["steps"]] == [0, 0, 5]
    main = instance.wait_for_end(tasks)
    assert (main["status"], main["task"]) == ("succeeded", "main")
    assert instance.output(pre) == b"pre begun\npre over\n"
    assert instance.output(main["id"]) == b"main\npost\n"
    assert sorted(instance.starts()) == ["main", "post", "pre", "start"]


def test_a_watcher_sees_the_rest_when_only_the_worker_is_replaced(instance: Instance) -> None:
    instance.write(main=f"{START}echo begun\n{WAIT}echo over")
    ticket = instance.submit("script")
    number = ticket["runs"][0]["id"]
    instance.wait_for_output(number, b"begun\n")
    person = Person(instance)
    pages: list[str] = []
    watching = threading.Thread(target=lambda: pages.extend(person.fragments(number)))
    watching.start()
    until(lambda: pages, "the page does not come", instance)
    worker = instance.worker()
    worker.terminate()
    # The parent starts another; nobody has asked the run to end.
    assert instance.worker(but=worker.pid).pid != worker.pid
    time.sleep(2 * GRACE)
    assert instance.run(number)["state"] == "running"
    instance.go()
    run = instance.wait_for_end(ticket)
    watching.join(timeout=10)
    assert not watching.is_alive()
    assert (run["status"], run["exit_code"]) == ("succeeded", 0)
    assert sum(page.count(">begun<") for page in pages) == 1
    assert sum(page.count(">over<") for page in pages) == 1
    assert 'data-run-state="succeeded"' in pages[-1]
    assert instance.starts() == ["start"]


def test_a_run_that_still_waits_in_the_queue_is_started_after_the_restart(instance: Instance) -> None:
    instance.write(main=START + "echo done")
    worker = instance.worker()
    with instance.still(worker):
        ticket = instance.submit("script")
        worker.terminate()  # It is told before it can take the message.
        resumed_at = time.monotonic()
    instance.worker(but=worker.pid)
    assert time.monotonic() - resumed_at < 1 + SLACK, "it noticed the signal late"
    assert instance.wait_for_end(ticket)["status"] == "succeeded"
    assert instance.starts() == ["start"]
