"""Fault 21, as far as runs go: a secret value and a stored credential are found nowhere but encrypted and where they are used."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from skstack.runner.masking import MASK
from tests.faults.conftest import PASSWORD
from tests.faults.instances import START, WAIT, Instance, Person, until, visible_text
from tests.sshd import Sshd

SECRET = "tr0ub4dor-&-\"3'<x>-中"
# A command may say whether it got the secret, without saying it.
TELL = 'printf %s "$WO_Password" | sha256sum\n'


def forms_of(secret: str) -> list[bytes]:
    """Return what a secret looks like to somebody who greps: plain, in JSON, in a page, in a URL, in base64."""
    found = {
        secret.encode(),
        json.dumps(secret)[1:-1].encode(),
        json.dumps(secret, ensure_ascii=False)[1:-1].encode(),
        base64.b64encode(secret.encode()),
        re.sub(r"[^\w-].*", "", secret).encode(),
    }
    return sorted(found)


def credentials(target_host: Sshd) -> list[bytes]:
    """Return what must not be seen of the private key: lines from its middle, alone and within JSON."""
    return [line.encode() for line in target_host.private_key.splitlines()[2:4]]


def assert_nowhere(instance: Instance, hidden: list[bytes]) -> None:
    """Look into every file of the instance, the log of its processes, and every command line and title of this host."""
    files = [path for path in instance.instance.rglob("*") if path.is_file()]
    assert {"skstack.db", "huey.db"} <= {path.name for path in files}
    assert any(path.name == "events.jsonl" for path in files)
    for path in [*files, instance.log]:
        content = path.read_bytes()
        for secret in hidden:
            assert secret not in content, f"{secret!r} stands in {path}"
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (process / "cmdline").read_bytes()
            for secret in hidden:
                assert secret not in line, (
                    f"{secret!r} stands on the command line of {process.name}: {line!r}"
                )


def seen(instance: Instance, ticket: int, run: int) -> bytes:
    """Return all that pages and API show of a ticket."""
    person, found = Person(instance), b""
    order = instance.ticket(ticket)["workorder"]["id"]
    for path in (
        f"/tickets/{ticket}", f"/tickets/{ticket}/summary", f"/runs/{run}", f"/runs/{run}/output.txt", "/tickets",
        "/audit/tickets", f"/workorders/{order}/submit?ticket={ticket}", f"/workorders/{order}/submit",
    ):  # fmt: skip
        answer = person.get(path)
        assert answer.status in (200, 404), path
        found += answer.content
    for path in (
        f"/api/v1/tickets/{ticket}", "/api/v1/tickets?scope=all", f"/api/v1/runs/{run}", f"/api/v1/workorders/{order}",
    ):  # fmt: skip
        answer = instance.call("GET", path)
        assert answer.status == 200, path
        found += answer.content
    return found


@pytest.mark.parametrize("workorder", ["secret", "secret-remote"])
def test_a_secret_is_seen_by_its_command_and_by_nobody_else(
    instance: Instance, target_host: Sshd, workorder: str
) -> None:
    hidden = [*forms_of(SECRET), *credentials(target_host), PASSWORD.encode()]
    instance.write(main=f"{START}{TELL}{WAIT}")
    with instance.still():
        ticket = instance.submit(
            workorder, {"Password": SECRET, "Box": str(instance.box)}, note="with a secret"
        )
        assert instance.messages() == 1
        for path in instance.instance.glob("huey.db*"):
            assert not any(secret in path.read_bytes() for secret in hidden)
    number = ticket["runs"][0]["id"]
    expected = hashlib.sha256(SECRET.encode()).hexdigest()
    instance.wait_for_output(number, expected.encode())
    assert_nowhere(instance, hidden)  # While it runs.
    assert ticket["values"]["Password"] is None
    instance.go()
    run = instance.wait_for_end(ticket)
    assert run["status"] == "succeeded"
    assert_nowhere(instance, hidden)
    shown = seen(instance, ticket["id"], number) + instance.command("catalog", "export").encode()
    assert expected.encode() in shown, "nothing was looked at"
    for secret in hidden:
        assert secret not in shown, secret
    events = json.dumps(instance.rows("select * from audit_events"), default=str, ensure_ascii=False)
    assert "with a secret" in events
    assert not any(secret.decode() in events for secret in hidden)


@pytest.mark.parametrize("fault", ["login refused", "runner killed", "value refused", "no place for the run"])
def test_no_fault_brings_a_secret_to_light(instance: Instance, target_host: Sshd, fault: str) -> None:
    hidden = [*forms_of(SECRET), *credentials(target_host), PASSWORD.encode()]
    values = {"Password": SECRET, "Box": str(instance.box)}
    # Something has run to its end, so that there are files to look into whatever this fault leaves.
    instance.write(main=f"{START}{TELL}")
    instance.wait_for_end(instance.submit("secret", values))
    instance.write(main=f"{START}{TELL}{WAIT}")
    shown = b""
    if fault == "value refused":
        number = instance.workorder("secret")
        answers = [
            instance.call("POST", f"/api/v1/workorders/{number}/tickets", {"values": sent})
            for sent in (
                {**values, "Password": SECRET + "\x1b"},
                {**values, "Box": "-rf"},
                {**values, "None": "x"},
            )
        ]
        assert [answer.status for answer in answers] == [422] * 3
        shown = b"".join(answer.content for answer in answers)
    elif fault == "no place for the run":
        # The directory of the run cannot be made: an exception in the middle of the launch.
        (instance.instance / "runs").rename(instance.instance / "runs-away")
        (instance.instance / "runs").touch()
        try:
            ticket = instance.submit("secret", values)
            run = instance.wait_for_end(ticket)
            assert (run["status"], run["reason"].partition(":")[0]) == (
                "failed",
                "No runner could be started",
            )
        finally:
            (instance.instance / "runs").unlink()
            (instance.instance / "runs-away").rename(instance.instance / "runs")
        shown = seen(instance, ticket["id"], ticket["runs"][0]["id"])
    else:
        ticket = instance.submit("secret-refused" if fault == "login refused" else "secret", values)
        number = ticket["runs"][0]["id"]
        if fault == "runner killed":
            instance.wait_for_output(number, b"-")
            for runner in instance.runners():
                runner.kill()
        assert instance.wait_for_end(ticket)["status"] in ("failed", "unknown")
        shown = seen(instance, ticket["id"], number)
    assert_nowhere(instance, hidden)
    assert not any(secret in shown for secret in hidden)


def test_what_a_run_was_told_is_not_in_the_environment_of_skstacks_own_processes(
    instance: Instance, target_host: Sshd
) -> None:
    instance.write(main=f"{START}{TELL}{WAIT}")
    ticket = instance.submit("secret-remote", {"Password": SECRET, "Box": str(instance.box)})
    instance.wait_for_output(ticket["runs"][0]["id"], b"-")
    for process in [*instance.tree("serve"), *instance.runners()]:
        with contextlib.suppress(psutil.Error):
            assert SECRET not in json.dumps(process.environ(), ensure_ascii=False)
    until(instance.starts, "nothing starts")
    instance.go()
    instance.wait_for_end(ticket)


PRINTS = r"""echo "whole $WO_Password"
printf '\033[31m%s\033[0m\n' "$WO_Password"
head -c 65530 /dev/zero | tr '\0' x; echo "$WO_Password"
printf 'half %s' "${WO_Password:0:7}"
until [ -e "$BOX/go" ]; do sleep 0.03; done
echo "${WO_Password:7}"
echo "error $WO_Password" >&2
set -x; Q=$WO_Password; [[ x == "$WO_Password" ]]; set +x
printf 'last %s' "$WO_Password"
"""
PRINTED = 8  # Times that `PRINTS` prints the secret, in the shell's own words for two of them.


@pytest.mark.parametrize("ends", ["by itself", "stopped"])
@pytest.mark.parametrize("workorder", ["secret", "secret-remote"])
def test_a_secret_that_its_command_prints_is_masked_wherever_the_output_is_seen(
    instance: Instance, target_host: Sshd, workorder: str, ends: str
) -> None:
    hidden = forms_of(SECRET)
    instance.write(main=f"{START}{PRINTS}{'exec sleep 60' if ends == 'stopped' else ''}")
    person = Person(instance)
    ticket = instance.submit(workorder, {"Password": SECRET, "Box": str(instance.box)})
    number = ticket["runs"][0]["id"]
    live = instance.wait_for_output(number, b"half ")
    assert b"half tr0" not in live  # What may be the beginning of a secret waits for the rest.
    fragments = person.fragments(number)
    shown = next(fragments)
    instance.go()
    if ends == "stopped":
        instance.wait_for_output(number, b"last " + MASK)
        assert instance.call("POST", f"/api/v1/tickets/{ticket['id']}/stop").status < 300
    shown += "".join(fragments)
    run = instance.wait_for_end(ticket)
    assert run["state"] == ("stopped" if ends == "stopped" else "succeeded")

    log, download = instance.log_from(number).content, person.get(f"/runs/{number}/output.txt").content
    assert log == download == (instance.instance / "runs" / str(number) / "output.log").read_bytes()
    assert log.count(MASK) == PRINTED
    for line in (
        *(
            b"whole ********\n",
            b"error ********\n",
            b"\x1b[31m********\x1b[0m\n",
            b"x" * 65530 + b"********\n",
        ),
        *(b"Q=", b"[[ x == ******** ]]\n", b"half ********\n", b"last ********"),
    ):
        assert line in log, line
    assert run["stored_bytes"] == run["output_bytes"] == len(log)
    found = person.get(f"/runs/{number}/search?q={quote(SECRET)}", fragment=True).content
    assert b"data-log-line" not in found
    assert b"Nothing in the output matches" in found
    found = person.get(f"/runs/{number}/search?q={quote('half ****')}", fragment=True).content
    assert found.count(b"data-log-line") == 1
    assert f"half {MASK.decode()}" in visible_text(shown)
    everything = seen(instance, ticket["id"], number) + shown.encode() + log
    assert not [secret for secret in hidden if secret in everything]
    assert_nowhere(instance, hidden)


def test_the_secret_is_masked_in_each_task(instance: Instance) -> None:
    ticket = instance.submit("secret-tasks", {"Password": SECRET, "Box": str(instance.box)})
    instance.wait_for_end(ticket)
    outputs = b""
    for run in instance.ticket(ticket["id"])["runs"]:
        outputs += instance.log_from(run["id"]).content
    assert outputs.count(b"it is ********.") == 3
    assert_nowhere(instance, forms_of(SECRET))
