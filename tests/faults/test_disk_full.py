"""Fault 4, as far as runs go: a disk with no room left. The step ends as such, and the database stays whole."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.instances import GRACE, SLACK, START, SWEEP, Instance, Person, until, visible_text

FULL = "The output could not be stored any more: the disk is full."


@contextmanager
def small_disk(instance: Instance, size: str) -> Iterator[None]:
    """Put the instance on a disk of its own, of this size."""
    kept = instance.instance.rename(instance.instance.with_name("kept"))
    instance.instance.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(instance.instance)]
    if os.getuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        shutil.copytree(kept, instance.instance, dirs_exist_ok=True)
        yield
    finally:
        instance.stop()
        subprocess.run(["umount", str(instance.instance)], check=True)


def fill(folder: Path) -> Path:
    """Leave no room on the disk of this folder."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for piece in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * piece)
            except OSError:
                continue
    return filler


PROMPTLY = GRACE + 3


@pytest.mark.parametrize("fills", ["its output", "a file", "both at once"])
def test_a_command_that_fills_the_disk_is_ended_within_seconds_and_its_ticket_says_why(
    make_instance: Callable[..., Instance], fills: str
) -> None:
    instance = make_instance()
    with small_disk(instance, "24m"):
        instance.start("serve")
        until((instance.instance / "reserve.3").exists, "no reserve is made", instance)
        waste = f"yes > {instance.instance}/waste 2>/dev/null"
        how = {
            "its output": "",
            "a file": waste,
            # Whatever is given back is taken at once, by somebody who does not give up.
            "both at once": f"while :; do yes >> {instance.instance}/waste 2>/dev/null; sleep 0.02; done &",
        }
        instance.write(main=f"{START}echo begun\nsleep 1000 &\n{how[fills]}\nyes; echo never >> $BOX/ended")
        ticket = instance.submit("script")
        number = ticket["runs"][0]["id"]
        run = instance.wait_for_end(ticket, within=PROMPTLY + SLACK)
        assert (run["status"], run["state"], run["reason"]) == ("failed", "failed", FULL)
        assert instance.noted("ended") == []
        assert instance.commands() == []
        assert not (instance.instance / "reserve.0").exists(), "there was room without the reserve"
        assert instance.log_from(number).content.startswith(b"begun\n")
        assert run["stored_bytes"] == (instance.instance / f"runs/{number}/output.log").stat().st_size
        assert instance.rows("pragma integrity_check") == [("ok",)]
        assert FULL in visible_text(Person(instance).page(f"/tickets/{ticket['id']}"))

        (instance.instance / "waste").unlink(missing_ok=True)
        (instance.instance / f"runs/{number}/output.log").unlink()
        instance.write(main="echo again")
        assert instance.wait_for_end(instance.submit("script"))["status"] == "succeeded"
        until((instance.instance / "reserve.0").exists, "the reserve is not made again", instance)
        assert instance.starts() == ["start"]


def test_nothing_is_started_on_a_full_disk_and_what_was_submitted_goes_on_when_there_is_room(
    make_instance: Callable[..., Instance],
) -> None:
    instance = make_instance()
    with small_disk(instance, "8m"):
        instance.start("serve")
        instance.write(main=START + "echo done")
        instance.wait_for_end(instance.submit("script"))
        number = instance.workorder("script")
        with instance.still():
            accepted = instance.submit(number)
            filler = fill(instance.instance)
            refused = [
                instance.call("POST", f"/api/v1/workorders/{number}/tickets", {"values": {}})
                for _ in range(3)
            ]
            made = instance.rows("select count(*) from tickets")[0][0]
        refusals = [answer.status for answer in refused]
        assert all(status in (201, 503) for status in refusals), refusals
        assert made == 2 + refusals.count(201), "a refused submission has left something"
        time.sleep(3 * SWEEP)
        # A run without its audit event must not start: each start has one.
        claims = "select count(*) from audit_events where object_type = 'run' and changes like '%running%'"
        assert len(instance.starts()) <= instance.rows(claims)[0][0]
        filler.unlink()
        run = instance.wait_for_end(accepted, within=30)
        assert run["status"] in ("succeeded", "failed", "unknown")
        until(
            lambda: instance.rows("select count(*) from runs where state in ('queued', 'running')") == [(0,)],
            "a run stays",
            instance,
        )
        assert len(instance.starts()) <= 2 + refusals.count(201)
        assert instance.rows("pragma integrity_check") == [("ok",)]
        instance.write(main="echo again")
        assert instance.wait_for_end(instance.submit("script"))["status"] == "succeeded"


@contextmanager
def small_files(instance: Instance, size: int) -> Iterator[None]:
    """Let no file that runners write grow beyond this size, in bytes."""
    instance.write(main="echo warm")
    instance.wait_for_end(instance.submit("script"))
    host = instance.host().pid
    before = resource.prlimit(host, resource.RLIMIT_FSIZE)
    resource.prlimit(host, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(host, resource.RLIMIT_FSIZE, before)


def test_a_file_that_may_not_grow_ends_the_run_in_the_same_way(instance: Instance) -> None:
    with small_files(instance, 1 << 20):
        instance.write(main=f"{START}echo begun\nyes")
        run = instance.wait_for_end(instance.submit("script"))
    assert (run["status"], run["reason"]) == ("failed", FULL)
    assert run["stored_bytes"] == 1 << 20
    assert len(instance.output(run["id"])) == 1 << 20
    assert instance.commands() == []


def test_a_run_for_whose_result_there_is_no_room_is_not_begun(instance: Instance) -> None:
    with small_files(instance, 1 << 12):
        instance.write(main=START)
        run = instance.wait_for_end(instance.submit("script"), within=GRACE + SLACK)
    assert (run["status"], run["state"], run["steps"]) == ("failed", "failed", [])
    assert run["reason"].endswith("File too large. Nothing was run.")
    assert instance.starts() == []
