"""Steps on this host: what they get, what is kept of them, and how they end."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from pathlib import Path

import pytest

from skstack.runner import processes, remote
from skstack.runner.client import RunnerHost, read_events
from skstack.runner.protocol import Outcome, Plan
from tests.runner import vectors
from tests.runner.conftest import Runs, left_of, wait_until


def test_output_is_kept_byte_for_byte_and_in_order(runs: Runs) -> None:
    odd = rb"\xff\xfe\x00\r\x1b[31m<b>"
    done = runs(f"printf '{odd.decode()}'; echo err >&2; echo out", "echo second")
    assert done.output == b"\xff\xfe\x00\r\x1b[31m<b>err\nout\nsecond\n"
    assert done.result.stored_bytes == done.result.output_bytes == len(done.output)


def test_events_tell_each_step_and_where_its_output_stands(runs: Runs) -> None:
    done = runs("echo a", "echo bc; exit 3", "echo never")
    told = [(e.kind, e.position, e.exit_code, e.offset) for e in done.events]
    assert told == [
        ("step_started", 0, None, 0),
        ("step_finished", 0, 0, 2),
        ("step_started", 1, None, 2),
        ("step_finished", 1, 3, 5),
    ]
    assert done.events[0].line == "echo a"
    assert done.events[0].at.endswith("Z")
    assert [(s.offset, s.end) for s in done.result.steps] == [(0, 2), (2, 5)]


def test_a_step_is_told_before_its_command_starts(runs: Runs) -> None:
    plan = runs.plan("true")
    step = runs.steps(f"cat {plan.directory}/events.jsonl")
    done = runs.finish(Plan(**{**vars(plan), "steps": step}))
    assert b"step_started" in done.output


def test_events_can_be_read_from_an_offset(runs: Runs) -> None:
    done = runs("true")
    first, offset = read_events(done.plan.directory)
    assert len(first) == 2
    assert read_events(done.plan.directory, offset) == ([], offset)
    with open(Path(done.plan.directory) / "events.jsonl", "a") as f:
        f.write('{"kind": "step_star')
    assert read_events(done.plan.directory, offset) == ([], offset)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("exit 3", 3),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
        ("false | true", 1),
        ("no-such-command-anywhere", 127),
        ("if", 2),
        (f": {'x' * 200_000}", 126),
    ],
)
def test_the_exit_code_is_that_of_the_step_that_failed(runs: Runs, script: str, code: int) -> None:
    done = runs("true", script, "echo never")
    assert (done.result.outcome, done.result.exit_code) == (Outcome.FINISHED, code)
    assert [s.exit_code for s in done.result.steps] == [0, code]
    assert b"never" not in done.output


def test_a_step_sees_only_what_it_is_meant_to(tmp_path: Path) -> None:
    host = RunnerHost(environment={"SKSTACK_SECRET_KEY": "s3cret", "LC_TIME": "C", "PYTHONPATH": "/x"})
    runs = Runs(host, tmp_path)
    done = runs("env -0", environment={"WO_A": "1"}, base_environment={"JAVA_HOME": "/java"})
    host.close()
    names = {entry.split(b"=")[0].decode() for entry in done.output.split(b"\0")[:-1]}
    assert {"WO_A", "JAVA_HOME", "LC_TIME", "PATH", "HOME", "SKSTACK_RUN"} <= names
    assert not names & {"SKSTACK_SECRET_KEY", "PYTHONPATH", "VIRTUAL_ENV"}


def test_hostile_values_arrive_exactly_and_nothing_else_happens(runs: Runs, tmp_path: Path) -> None:
    probe = tmp_path / "bin" / "probe"
    probe.parent.mkdir()
    probe.write_text(vectors.PROBE)
    probe.chmod(0o755)
    scripts, environment, printed = vectors.lines()
    done = runs(
        *scripts,
        environment=environment,
        base_environment={"PATH": f"{probe.parent}:{os.environ['PATH']}"},
        working_directory=str(tmp_path),
    )
    assert done.result.exit_code == 0
    assert done.output == printed
    assert not (tmp_path / "C").exists()


def test_a_value_no_command_can_get_refuses_the_run(runs: Runs) -> None:
    assert runs("true", environment={"WO_A": "a\0b"}).result.outcome is Outcome.REFUSED
    assert runs("true", environment={"PATH": "/evil"}).result.outcome is Outcome.REFUSED


def test_standard_input_is_empty(runs: Runs) -> None:
    assert runs("cat; read x; echo after").output == b"after\n"


def test_a_script_that_was_cut_off_anywhere_does_not_run(runs: Runs, tmp_path: Path) -> None:
    plan = runs.plan("true", environment={"WO_A": "it's"}, token="t")
    mark = tmp_path / "ran"
    script = remote.step_script(plan, f"echo 1 >> {mark} # {{").encode()
    for end in range(1, len(script) - 1):
        subprocess.run(
            ["bash", "--noprofile", "--norc", "-s"], input=script[:end], capture_output=True, check=False
        )
        assert not mark.exists(), script[:end]
    subprocess.run(["bash", "--noprofile", "--norc", "-s"], input=script, capture_output=True, check=False)
    assert mark.read_text() == "1\n"


def test_the_time_limit_ends_the_run(runs: Runs) -> None:
    done = runs("echo a; sleep 60", "echo never", time_limit=0.3)
    assert done.result.outcome is Outcome.TIMED_OUT
    assert done.result.exit_code is None
    assert "0.3 s" in done.why
    assert done.output == b"a\n"
    assert done.seconds < 1.5


def test_a_stopped_command_may_end_in_its_own_way_within_the_grace(runs: Runs) -> None:
    plan, process = runs.started("trap 'echo bye; exit 7' TERM; echo hi; while :; do sleep 0.01; done")
    process.stop()
    done = runs.finish(plan, process)
    assert done.result.outcome is Outcome.STOPPED
    assert done.output.endswith(b"bye\n")
    assert done.result.steps[0].exit_code == 7


@pytest.mark.faults
def test_what_ignores_sigterm_starts_daemons_and_holds_the_pipe_is_gone_after_the_grace(runs: Runs) -> None:
    plan, process = runs.started(
        "trap '' TERM; (setsid bash -c 'trap \"\" TERM; sleep 300 & wait' &);"
        "env -i setsid sleep 301 & setsid bash -c '(sleep 302 &)'; echo up; while :; do sleep 60; done"
    )
    below = processes.descendants(process.pid)
    assert len(below) >= 5
    process.stop()
    done = runs.finish(plan, process)
    assert done.result.outcome is Outcome.STOPPED
    assert plan.grace <= done.seconds < plan.grace + 2
    assert not left_of(plan)
    assert not [pid for pid in below if processes.start_time(pid)]
    assert done.result.left_behind == 0


@pytest.mark.faults
def test_a_command_that_never_ceases_to_fork_is_ended(runs: Runs) -> None:
    plan, process = runs.started(
        "trap '' TERM; f() { while :; do (setsid sleep 60 &); sleep 0.005; done; }; f & f & echo up; wait"
    )
    time.sleep(0.2)
    process.stop()
    done = runs.finish(plan, process)
    assert done.seconds < plan.grace + 2
    assert not left_of(plan)


def test_a_stopped_process_is_ended_too(runs: Runs) -> None:
    plan, process = runs.started("echo up; kill -STOP $$")
    process.stop()
    assert runs.finish(plan, process).seconds < plan.grace + 2


@pytest.mark.parametrize("daemon", ["sleep 300", "bash -c 'trap \"\" TERM; sleep 300; sleep 300'"])
def test_a_daemon_does_not_outlive_its_step(runs: Runs, daemon: str) -> None:
    done = runs(f"setsid {daemon} & echo started", "echo next")
    assert done.result.exit_code == 0
    assert done.output == b"started\nnext\n"
    assert done.seconds < 3
    assert not left_of(done.plan)


def test_what_ends_by_itself_soon_after_its_step_is_let_finish(runs: Runs) -> None:
    assert runs("echo late > >(sleep 0.1; cat)").output == b"late\n"


def test_closing_its_output_does_not_end_a_step(runs: Runs) -> None:
    assert runs("exec >&- 2>&-; sleep 0.1; exit 4").result.exit_code == 4


def test_output_past_the_limit_is_counted_and_dropped(runs: Runs) -> None:
    done = runs("seq 100000; echo $(( 6 * 7 )) >&2", "echo more", output_limit=100_000)
    whole = "".join(f"{i}\n" for i in range(1, 100_001)).encode()
    assert done.output == whole[:100_000]
    assert done.result.capped
    assert done.result.exit_code == 0
    assert done.result.output_bytes == len(whole) + len(b"42\nmore\n")
    assert done.result.stored_bytes == 100_000
    assert [e.offset for e in done.events if e.kind == "output_capped"] == [100_000]


@pytest.mark.faults
def test_a_full_disk_stops_the_step_and_is_told(runs: Runs, tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can mount a small disk")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)], check=True)
    try:
        done = runs("seq 1000000; sleep 60", directory=str(small))
        assert done.result.outcome is Outcome.LOG_FULL
        assert done.seconds < 3
        assert 0 < len(done.output) == done.result.stored_bytes < 256 * 1024
        assert "1\n2\n3\n" in done.output.decode()
        assert not left_of(done.plan)
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.faults
def test_a_limit_on_file_size_counts_as_a_full_disk(runs: Runs) -> None:
    plan, process = runs.started("echo up; sleep 0.2; seq 1000000; sleep 60")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (65536, 65536))
    done = runs.finish(plan, process)
    assert done.result.outcome is Outcome.LOG_FULL
    assert done.result.stored_bytes == len(done.output) == 65536


@pytest.mark.faults
def test_memory_stays_flat_whatever_is_printed(runs: Runs) -> None:
    plan, process = runs.started("echo up; head -c 60000000 /dev/zero; seq -f '%099.0f' 100000")
    peak = 0
    while process.alive():
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            break
        peak = max([peak, *(int(line.split()[1]) for line in status.splitlines() if line[:6] == "VmHWM:")])
        time.sleep(0.005)
    done = runs.finish(plan, process)
    assert done.result.stored_bytes == 60_000_000 + 10_000_000 + 3
    assert 0 < peak < 60 * 1024


def test_nothing_begins_after_the_moment_it_had_to_begin_by(runs: Runs) -> None:
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    late = runs("echo ran", start_before=now - 0.001)
    assert late.result.outcome is Outcome.REFUSED
    assert (late.output, late.events, late.result.steps) == (b"", [], ())
    assert runs("echo ran", start_before=now + 60).output == b"ran\n"


def test_a_missing_directory_or_shell_is_told_before_any_step(runs: Runs) -> None:
    nowhere = runs("true", working_directory="/no/such/place")
    assert nowhere.result.outcome is Outcome.REFUSED
    assert "/no/such/place" in nowhere.why
    bare = runs("true", base_environment={"PATH": "/no/such/path"})
    assert bare.result.outcome is Outcome.REFUSED
    assert "bash" in bare.why


def test_values_show_neither_in_ps_nor_in_files_nor_in_repr(runs: Runs) -> None:
    secret = "hunter2-ssh-0451"
    plan, process = runs.started("echo up; sleep 0.3", environment={"WO_P": secret})
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert secret.encode() not in file.read_bytes()
        except FileNotFoundError:
            continue
    done = runs.finish(plan, process)
    for file in Path(plan.directory).iterdir():
        assert secret.encode() not in file.read_bytes()
    assert secret not in repr(plan) + repr(done.result) + repr(process)


def test_a_run_leaves_four_files(runs: Runs) -> None:
    done = runs("true")
    names = sorted(os.listdir(done.plan.directory))
    assert names == ["events.jsonl", "output.log", "result.json", "runner.json"]
    wait_until(lambda: not left_of(done.plan))
