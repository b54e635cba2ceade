"""Faults 6, 7 and 8: hosts that cannot be reached, refuse the login or are not who they were; a connection cut in the middle."""

from __future__ import annotations

import re
import time

import pytest

from tests.faults.instances import LEASE, SLACK, START, SWEEP, WAIT, Instance, Person, until, visible_text
from tests.sshd import Sshd

CONNECT_TIMEOUT = 1.5  # As the common instance has it.

REASONS = {
    "closed": r"127\.0\.0\.1:\d+ cannot be reached: Connection refused\.",
    "dropping": r"127\.0\.0\.1:\d+ did not answer in time\.",
    "silent": r"127\.0\.0\.1:\d+ (did not answer in time|does not speak SSH as it should: .+)\.",
    "refused": r"127\.0\.0\.1 refused the login of \w+\.",
    "password": r"127\.0\.0\.1 refused the login of \w+\.",
    "unknown": r"The host key of 127\.0\.0\.1 is not known: it offers SHA256:\S+\. An administrator must accept it\.",
    "changed": r"The host key of 127\.0\.0\.1 has changed: it offers SHA256:\S+, accepted is SHA256:\S+\. "
    r"An administrator must accept the new key\.",
}


@pytest.mark.parametrize("host", REASONS)
def test_a_run_on_a_host_that_cannot_be_trusted_or_reached_fails_before_any_step_and_says_why(
    instance: Instance, host: str
) -> None:
    instance.write(main=START)
    began = time.monotonic()
    ticket = instance.submit(f"on-{host}", {"Box": str(instance.box)})
    run = instance.wait_for_end(ticket, within=CONNECT_TIMEOUT + SLACK)
    assert time.monotonic() - began < CONNECT_TIMEOUT + SLACK
    assert (run["status"], run["state"], run["exit_code"]) == ("failed", "failed", None)
    assert run["steps"] == []
    assert re.fullmatch(REASONS[host], run["reason"]), run["reason"]
    assert run["duration"] < CONNECT_TIMEOUT + 1
    assert instance.output(run["id"]) == b""
    assert instance.starts() == []
    person = Person(instance)
    for path in (f"/tickets/{ticket['id']}", f"/runs/{run['id']}"):
        assert run["reason"] in visible_text(person.page(path)), path
    time.sleep(2 * SWEEP)
    assert len(instance.ticket(ticket["id"])["runs"]) == 1, "it was tried again by itself"


def test_a_host_that_is_set_up_again_between_two_runs_is_refused(
    instance: Instance, target_host: Sshd
) -> None:
    instance.write(main=START + "echo done")
    values = {"Box": str(instance.box)}
    assert instance.wait_for_end(instance.submit("on-good", values))["status"] == "succeeded"
    kept = {
        path: path.read_bytes() for path in target_host.directory.iterdir() if path.name.startswith("host_")
    }
    target_host.change_host_key()
    try:
        run = instance.wait_for_end(instance.submit("on-good", values))
        offered = target_host.fingerprint
    finally:
        target_host.stop()
        for path, content in kept.items():
            path.write_bytes(content)
        target_host.start()
    assert (run["status"], run["steps"]) == ("failed", [])
    assert re.fullmatch(REASONS["changed"], run["reason"])
    assert offered in run["reason"]
    assert instance.starts() == ["start"]


def test_a_connection_that_breaks_in_the_middle_leaves_the_run_unknown_and_starts_nothing_again(
    instance: Instance, target_host: Sshd
) -> None:
    instance.write(main=f"{START}echo begun\n{WAIT}echo over")
    ticket = instance.submit("on-good", {"Box": str(instance.box)})
    number = ticket["runs"][0]["id"]
    instance.wait_for_output(number, b"begun\n")
    target_host.cut_connections()
    run = instance.wait_for_end(ticket)
    assert (run["status"], run["state"], run["exit_code"]) == ("unknown", "unknown", None)
    assert "broke in the middle" in run["reason"]
    assert run["reason"] in visible_text(Person(instance).page(f"/tickets/{ticket['id']}"))
    assert instance.output(number) == b"begun\n"
    assert [(step["position"], step["exit_code"]) for step in run["steps"]] == [(1, None)]
    worker = instance.worker()
    worker.kill()
    instance.worker(but=worker.pid)
    time.sleep(3 * SWEEP)
    assert instance.starts() == ["start"]
    assert instance.ticket(ticket["id"])["status"] == "unknown"


def test_a_remote_step_goes_on_when_the_worker_is_killed(instance: Instance) -> None:
    instance.write(main=f"{START}echo begun\n{WAIT}echo over; exit 4")
    ticket = instance.submit("on-good", {"Box": str(instance.box)})
    number = ticket["runs"][0]["id"]
    instance.wait_for_output(number, b"begun\n")
    worker = instance.worker()
    worker.kill()
    instance.worker(but=worker.pid)
    instance.go()
    run = instance.wait_for_end(ticket, within=LEASE + SWEEP + SLACK)
    assert (run["status"], run["exit_code"], run["steps"][0]["exit_code"]) == ("failed", 4, 4)
    assert instance.output(number) == b"begun\nover\n"
    assert instance.starts() == ["start"]


def test_a_remote_run_that_is_stopped_leaves_no_process_on_the_host(instance: Instance) -> None:
    instance.write(main=f"trap '' TERM\n{START}setsid sleep 1000 &\nsleep 1000 &\necho begun\n{WAIT}")
    ticket = instance.submit("on-good", {"Box": str(instance.box)})
    number = ticket["runs"][0]["id"]
    instance.wait_for_output(number, b"begun\n")
    assert instance.call("POST", f"/api/v1/tickets/{ticket['id']}/stop").status == 200
    run = instance.wait_for_end(ticket)
    assert (run["status"], run["state"], run["reason"]) == ("failed", "stopped", "Stopped by admin.")
    until(lambda: not instance.commands(), "processes of the run are left", instance, within=2)
    assert instance.output(number) == b"begun\n"
