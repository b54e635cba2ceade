"""The runner host and its clients: starting, adopting and losing runners."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from skstack.runner import processes, wire
from skstack.runner.client import (
    AlreadyStarted,
    RunnerHost,
    RunnerProcess,
    RunnerUnavailable,
    end_leftovers,
    read_result,
)
from skstack.runner.protocol import Outcome, Plan
from tests.runner.conftest import Runs, left_of, wait_until


def host_pid(runs: Runs) -> int:
    """Return the host's pid, which is nobody else's business."""
    pid = runs.host._pid
    assert pid
    return pid


@pytest.mark.faults
def test_runs_go_on_when_the_host_is_killed_and_a_new_one_comes_up(own_host: Runs) -> None:
    plan, process = own_host.started("echo a; sleep 0.3; echo b")
    first = host_pid(own_host)
    os.kill(first, signal.SIGKILL)
    assert own_host("echo new").output == b"new\n"
    assert host_pid(own_host) != first
    assert own_host.finish(plan, process).output == b"a\nb\n"


@pytest.mark.faults
def test_the_host_ends_with_its_last_client_and_its_runs_go_on(own_host: Runs) -> None:
    plan, process = own_host.started("echo a; sleep 0.3; echo b")
    pid = host_pid(own_host)
    own_host.host.close()
    wait_until(lambda: not _runs(pid))
    assert own_host.finish(plan, process).output == b"a\nb\n"


@pytest.mark.faults
def test_a_killed_runner_leaves_no_process_and_no_result(own_host: Runs) -> None:
    plan, process = own_host.started("(setsid sleep 300 &); echo up; sleep 301")
    assert len(left_of(plan)) >= 2
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(5)
    wait_until(lambda: not left_of(plan), within=2)
    assert read_result(plan.directory) is None
    assert RunnerProcess.adopt(plan.directory) is None
    # The host itself has taken no harm.
    assert own_host("echo on").output == b"on\n"


@pytest.mark.faults
def test_what_a_killed_runner_left_is_ended_though_its_host_is_gone_too(own_host: Runs) -> None:
    plan, process = own_host.started("(setsid sleep 300 &); echo up; sleep 301")
    os.kill(host_pid(own_host), signal.SIGKILL)
    wait_until(lambda: not _runs(host_pid(own_host)))
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(5)
    assert left_of(plan)
    assert end_leftovers(plan.directory) == 0
    assert not left_of(plan)


def test_a_run_is_adopted_by_its_directory(runs: Runs) -> None:
    plan, process = runs.started("echo up; sleep 60")
    adopted = RunnerProcess.adopt(plan.directory)
    assert adopted is not None
    assert (adopted.pid, adopted.start_time, adopted.boot_id) == (
        process.pid,
        process.start_time,
        processes.boot_id(),
    )
    assert adopted.alive()
    adopted.stop()
    assert runs.finish(plan, process).result.outcome is Outcome.STOPPED
    assert not adopted.alive()
    adopted.stop()
    assert RunnerProcess.adopt(plan.directory) is None


@pytest.mark.parametrize("change", [{"start_time": 1}, {"boot_id": "another"}])
def test_another_process_of_the_same_pid_is_not_taken_for_the_runner(
    runs: Runs, change: dict[str, object]
) -> None:
    plan, process = runs.started("echo up; sleep 60")
    file = Path(plan.directory) / "runner.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    assert RunnerProcess.adopt(plan.directory) is None
    process.stop()
    runs.finish(plan, process)


def test_nothing_is_adopted_where_nothing_ran(tmp_path: Path) -> None:
    assert RunnerProcess.adopt(tmp_path) is None
    assert read_result(tmp_path) is None
    assert end_leftovers(tmp_path) == 0


def test_a_directory_serves_one_run(runs: Runs) -> None:
    done = runs("echo once")
    with pytest.raises(AlreadyStarted):
        runs.host.launch(done.plan)
    assert (Path(done.plan.directory) / "output.log").read_bytes() == b"once\n"


def test_a_directory_that_is_not_there_starts_nothing(runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(RunnerUnavailable, match="No such file"):
        runs.host.launch(runs.plan("true", directory=str(tmp_path / "nowhere")))


@pytest.mark.faults
def test_a_client_that_goes_away_before_the_word_to_begin_starts_nothing(runs: Runs) -> None:
    plan = runs.plan("echo ran")
    with runs.host._open(plan.target, 5) as stream:
        wire.send_frame(stream, {"mode": "run", "plan": plan.to_json()})
        assert wire.receive_frame(stream)
    wait_until(lambda: read_result(plan.directory))
    result = read_result(plan.directory)
    assert result is not None
    assert (result.outcome, result.steps) == (Outcome.REFUSED, ())
    assert (Path(plan.directory) / "output.log").read_bytes() == b""


@pytest.mark.faults
def test_a_launch_that_timed_out_starts_nothing_later(own_host: Runs) -> None:
    own_host("true")
    plan = own_host.plan("echo ran")
    os.kill(host_pid(own_host), signal.SIGSTOP)
    with pytest.raises(RunnerUnavailable, match="in time"):
        own_host.host.launch(plan, timeout=0.2)
    os.kill(host_pid(own_host), signal.SIGCONT)
    own_host("true")
    time.sleep(0.1)
    output = Path(plan.directory) / "output.log"
    assert not output.exists() or output.read_bytes() == b""


def test_many_threads_launch_at_once(runs: Runs) -> None:
    plans = [runs.plan(f"echo {i}") for i in range(24)]
    threads = [threading.Thread(target=lambda p=plan: runs.finish(p)) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(Path(p.directory) / "output.log").read_text() for p in plans] == [f"{i}\n" for i in range(24)]


def test_a_forked_process_shares_the_host(runs: Runs) -> None:
    plan = runs.plan("echo child")
    runs.host.start()
    pid = os.fork()
    if pid == 0:
        process = runs.host.launch(plan)
        os._exit(0 if process.wait(10) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert (Path(plan.directory) / "output.log").read_bytes() == b"child\n"


def test_the_idle_host_is_small_and_knows_nothing_of_the_web(tmp_path: Path) -> None:
    host = RunnerHost()
    runs = Runs(host, tmp_path)
    runs("true")
    rollup = Path(f"/proc/{host._pid}/smaps_rollup").read_text()
    maps = Path(f"/proc/{host._pid}/maps").read_text()
    host.close()
    pss = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    assert pss < 20 * 1024
    assert "cryptography" not in maps
    assert "sqlalchemy" not in maps


def test_captured_steps_give_both_streams(runs: Runs) -> None:
    captured = runs.host.capture(
        runs.capture("echo a; echo b >&2", 'printf %s "$WO_V"; exit 2', "echo c", environment={"WO_V": "v'"})
    )
    assert (captured.stdout, captured.stderr, captured.exit_code) == (b"a\nv'", b"b\n", 2)
    assert captured.outcome is Outcome.FINISHED
    assert not captured.truncated


def test_captured_output_has_a_limit(runs: Runs) -> None:
    captured = runs.host.capture(runs.capture("seq 100000", output_limit=1000))
    assert (len(captured.stdout), captured.truncated, captured.exit_code) == (1000, True, 0)


def test_captured_steps_have_a_time_limit(runs: Runs) -> None:
    captured = runs.host.capture(runs.capture("echo a; sleep 60", time_limit=0.2, grace=0.1))
    assert (captured.outcome, captured.exit_code, captured.stdout) == (Outcome.TIMED_OUT, None, b"a\n")


def test_captured_steps_end_when_nobody_waits_for_them_any_more(runs: Runs) -> None:
    request = runs.capture("sleep 60", grace=0.1)
    with runs.host._open(request.target, 5) as stream:
        wire.send_frame(stream, {"mode": "capture", "request": request.to_json()})
        wait_until(lambda: processes.marked(request.token))
    wait_until(lambda: not processes.marked(request.token), within=2)


def test_a_host_without_a_socket_in_the_packet_goes_on(own_host: Runs) -> None:
    own_host("true")
    requests = own_host.host._requests
    assert requests is not None
    requests.send(wire.LOCAL)
    assert own_host("echo on").output == b"on\n"


def test_frames_that_break_off_are_none() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"\0\0\0\x10{")
        ours.shutdown(socket.SHUT_WR)
        assert wire.receive_frame(theirs) is None


def test_plans_survive_their_json(runs: Runs) -> None:
    plan = runs.plan("true", environment={"WO_A": "x"}, start_before=1.5)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def _runs(pid: int) -> bool:
    started = processes.start_time(pid)
    return started is not None and processes.is_running(pid, started)
