"""Steps on another host, by a real OpenSSH server: reached, refused, lost, stopped."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from skstack.runner import processes
from skstack.runner.client import HostKeyUnavailable, RunnerHost, read_result
from skstack.runner.protocol import Outcome
from tests.runner import vectors
from tests.runner.conftest import Finished, Runs, left_of, wait_until
from tests.sshd import Sshd


@pytest.fixture(scope="session", autouse=True)
def warm(host: RunnerHost) -> None:
    """Have the host's SSH half ready, so that no test's time limit pays for loading it."""
    host.start(ssh=True)


def test_steps_run_over_one_connection(runs: Runs, sshd: Sshd) -> None:
    ports = "echo ${SSH_CLIENT#* }"
    done = runs("echo out; echo err >&2", ports, ports, "exit 3", "echo never", target=sshd.target())
    first, second, *seen = done.output.decode().splitlines()
    assert [first, second] == ["out", "err"]
    assert seen[0] == seen[1]
    assert (done.result.outcome, done.result.exit_code) == (Outcome.FINISHED, 3)
    assert [e.kind for e in done.events] == ["step_started", "step_finished"] * 4
    assert [s.exit_code for s in done.result.steps] == [0, 0, 0, 3]


@pytest.mark.parametrize(
    ("script", "code"),
    [("kill -9 $$", 137), ("false | true", 1), ("no-such-command-anywhere", 127), ("cat; exit 5 # }", 5)],
)
def test_exit_codes_are_those_of_the_remote_step(runs: Runs, sshd: Sshd, script: str, code: int) -> None:
    assert runs(script, target=sshd.target()).result.exit_code == code


def test_hostile_values_arrive_exactly_over_ssh(runs: Runs, sshd: Sshd, tmp_path: Path) -> None:
    probe = tmp_path / "probe"
    probe.write_text(vectors.PROBE)
    probe.chmod(0o755)
    scripts, environment, printed = vectors.lines()
    scripts = [f"PATH=$PWD:$PATH\n{script}" for script in scripts]
    done = runs(*scripts, environment=environment, working_directory=str(tmp_path), target=sshd.target())
    assert done.result.exit_code == 0
    assert done.output == printed
    assert not (tmp_path / "C").exists()


def test_large_output_is_kept_byte_for_byte(runs: Runs, sshd: Sshd) -> None:
    done = runs("seq 2000000", target=sshd.target())
    assert done.output == "".join(f"{i}\n" for i in range(1, 2_000_001)).encode()


def test_output_past_the_limit_is_dropped_over_ssh_too(runs: Runs, sshd: Sshd) -> None:
    done = runs("seq 100000", target=sshd.target(), output_limit=1000)
    assert (len(done.output), done.result.capped, done.result.output_bytes) == (1000, True, 588_895)


def test_the_offered_host_key_can_be_asked_for(runs: Runs, sshd: Sshd) -> None:
    offered = runs.host.host_key(sshd.target(host_key=None, private_key=None))
    assert (offered.key, offered.fingerprint) == (sshd.host_key, sshd.fingerprint)
    with pytest.raises(HostKeyUnavailable, match="cannot be reached"):
        runs.host.host_key(sshd.target(port=1))


def test_a_host_key_that_nobody_accepted_is_refused(runs: Runs, sshd: Sshd) -> None:
    done = runs("echo ran", target=sshd.target(host_key=None))
    _nothing_ran(done)
    assert sshd.fingerprint in done.why


@pytest.mark.faults
def test_a_changed_host_key_is_refused_and_both_are_named(runs: Runs, tmp_path: Path) -> None:
    server = Sshd(tmp_path)
    server.start()
    try:
        accepted, target = server.fingerprint, server.target()
        server.change_host_key()
        done = runs("echo ran", target=target)
        _nothing_ran(done)
        assert accepted in done.why
        assert server.fingerprint in done.why
    finally:
        server.stop()


def test_the_accepted_key_chooses_among_a_hosts_keys(runs: Runs, tmp_path: Path) -> None:
    server = Sshd(tmp_path)
    rsa = server.new_user_key("host_rsa", "-t", "rsa", "-b", "2048")
    with server._config.open("a") as f:
        f.write(f"HostKey {rsa}\n")
    server.start()
    try:
        key = " ".join(Path(f"{rsa}.pub").read_text().split()[:2])
        assert runs("echo ran", target=server.target(host_key=key)).output == b"ran\n"
    finally:
        server.stop()


def test_a_refused_login_is_told_before_any_step(runs: Runs, sshd: Sshd, tmp_path: Path) -> None:
    done = runs("echo ran", target=sshd.target(private_key=None, password="wr0ng-word"))
    _nothing_ran(done)
    assert "refused the login" in done.why
    assert "wr0ng-word" not in done.why
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "k")], check=True)
    stranger = (tmp_path / "k").read_text()
    _nothing_ran(runs("echo ran", target=sshd.target(private_key=stranger)))


@pytest.mark.parametrize(
    "options", [("-t", "rsa", "-b", "2048"), ("-t", "ecdsa"), ("-t", "ed25519", "-N", "open sesame")]
)
def test_every_kind_of_key_logs_in(runs: Runs, sshd: Sshd, options: tuple[str, ...]) -> None:
    key = sshd.new_user_key(f"user-{'-'.join(options[1::2])}", *options).read_text()
    passphrase = "open sesame" if "-N" in options else None
    assert runs("echo in", target=sshd.target(private_key=key, passphrase=passphrase)).output == b"in\n"
    if passphrase:
        _nothing_ran(runs("echo in", target=sshd.target(private_key=key)))
        _nothing_ran(runs("echo in", target=sshd.target(private_key=key, passphrase="wrong")))


def test_a_private_key_or_host_key_that_is_none_is_told(runs: Runs, sshd: Sshd) -> None:
    assert "cannot be read" in runs("true", target=sshd.target(private_key="nonsense")).why
    assert "cannot be read" in runs("true", target=sshd.target(host_key="ssh-ed25519 AAAA")).why
    beyond = sshd.target(host="a@127.0.0.1", gateway=sshd.target())
    assert "not the name of a host" in runs("true", target=beyond).why


def test_a_password_logs_in(runs: Runs, tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give the server a password file of its own")
    server = Sshd(tmp_path, password="correct horse")
    server.start()
    try:
        target = server.target(private_key=None, password="correct horse")
        assert runs("echo in", target=target).output == b"in\n"
    finally:
        server.stop()


def test_the_workers_own_agent_logs_in(sshd: Sshd, tmp_path: Path) -> None:
    answer = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout
    agent = dict(re.findall(r"(SSH_\w+)=([^;]+)", answer))
    host = RunnerHost(environment={"SSH_AUTH_SOCK": agent["SSH_AUTH_SOCK"], "HOME": str(tmp_path)})
    runs, target = Runs(host, tmp_path), sshd.target(private_key=None, own_keys=True)
    try:
        assert "no key of its own" in runs("echo in", target=target).why
        add = ["ssh-add", "-q", str(sshd.user_key_file)]
        subprocess.run(add, env={**os.environ, **agent}, check=True)
        assert runs("echo in", target=target).output == b"in\n"
    finally:
        host.close()
        os.kill(int(agent["SSH_AGENT_PID"]), signal.SIGTERM)


def test_a_gateway_is_passed_and_checked(runs: Runs, sshd: Sshd) -> None:
    done = runs("echo through", target=sshd.target(gateway=sshd.target()))
    assert done.output == b"through\n"
    _nothing_ran(runs("echo ran", target=sshd.target(gateway=sshd.target(host_key=None))))


@pytest.mark.faults
def test_a_host_that_is_not_there_is_told(runs: Runs, sshd: Sshd) -> None:
    refused = runs("echo ran", target=sshd.target(port=1))
    _nothing_ran(refused)
    assert "127.0.0.1:1 cannot be reached" in refused.why
    unknown = runs("echo ran", target=sshd.target(host="no-such-host.invalid"))
    _nothing_ran(unknown)
    assert "no-such-host.invalid" in unknown.why


@pytest.mark.faults
def test_a_host_that_says_nothing_fails_within_the_connect_timeout(runs: Runs, sshd: Sshd) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        target = sshd.target(port=silent.getsockname()[1])
        done = runs("echo ran", target=target, connect_timeout=1.0)
    _nothing_ran(done)
    assert done.seconds < 3


@pytest.mark.faults
def test_a_host_that_is_slow_at_every_step_has_the_connect_timeout_for_all_of_them(
    runs: Runs, sshd: Sshd
) -> None:
    with _wire(sshd.port, delay=0.3) as (port, _):
        done = runs("echo ran", target=sshd.target(port=port), connect_timeout=2.0)
    _nothing_ran(done)
    assert "did not answer in time" in done.why
    assert done.result.duration < 2.5


def test_a_run_can_be_stopped_while_it_connects(runs: Runs, sshd: Sshd) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        plan = runs.plan("echo ran", target=sshd.target(port=silent.getsockname()[1]))
        process = runs.host.launch(plan)
        process.stop()
        done = runs.finish(plan, process)
    assert done.result.outcome is Outcome.STOPPED
    assert done.result.steps == ()
    assert done.seconds < 1


def test_nothing_begins_too_late_over_ssh(runs: Runs, sshd: Sshd) -> None:
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    _nothing_ran(runs("echo ran", target=sshd.target(), start_before=now + 0.001))


def test_a_host_without_bash_is_told(runs: Runs, tmp_path: Path) -> None:
    server = Sshd(tmp_path, options="ForceCommand echo This account is closed; exit 1")
    server.start()
    try:
        done = runs("echo ran", target=server.target())
        assert done.result.outcome is Outcome.REFUSED
        assert "This account is closed" in done.why
    finally:
        server.stop()


@pytest.mark.faults
def test_a_connection_cut_in_the_middle_is_lost_not_failed(runs: Runs, tmp_path: Path) -> None:
    server = Sshd(tmp_path)
    server.start()
    try:
        plan, process = runs.started("echo up; exec sleep 20", target=server.target())
        server.cut_connections()
        done = runs.finish(plan, process)
        assert (done.result.outcome, done.result.exit_code) == (Outcome.LOST, None)
        assert "cannot be told" in done.why
        assert done.result.steps[0].exit_code is None
        assert done.output == b"up\n"
        processes.end_marked(plan.token)
    finally:
        server.stop()


@pytest.mark.faults
def test_a_peer_that_falls_silent_is_noticed(runs: Runs, sshd: Sshd) -> None:
    with _wire(sshd.port) as (port, cut):
        plan, process = runs.started(
            "echo up; sleep 20", target=sshd.target(port=port), keepalive=0.2, keepalive_count=2
        )
        time.sleep(0.8)
        assert process.alive(), "a quiet step is not a lost one"
        cut.set()
        done = runs.finish(plan, process)
    assert done.result.outcome is Outcome.LOST
    assert done.seconds < 3
    processes.end_marked(plan.token)


@pytest.mark.faults
def test_stopping_ends_everything_on_the_remote_host(runs: Runs, sshd: Sshd) -> None:
    # Without the mark in its environment, so known by its arguments.
    unmarked = f"sleep 301.{os.getpid()}"
    plan, process = runs.started(
        f"trap '' TERM; (setsid bash -c 'trap \"\" TERM; sleep 300 & wait' &); (env -i {unmarked} &);"
        "setsid bash -c '(sleep 302 &)'; echo up; while :; do sleep 60; done",
        target=sshd.target(),
    )
    # Not the shell itself: the mark came to it only with the script.
    wait_until(lambda: len(left_of(plan)) >= 4)
    process.stop()
    done = runs.finish(plan, process)
    assert done.result.outcome is Outcome.STOPPED
    assert plan.grace <= done.seconds < plan.grace + 2
    assert not left_of(plan)
    assert done.result.left_behind == 0
    assert subprocess.run(["pgrep", "-x", "-f", unmarked], check=False).returncode == 1


@pytest.mark.faults
def test_the_time_limit_holds_on_the_remote_host(runs: Runs, sshd: Sshd) -> None:
    done = runs("echo up; sleep 300", "echo never", target=sshd.target(), time_limit=0.6)
    assert done.result.outcome is Outcome.TIMED_OUT
    # The shell says so itself if it outlives its command for a moment.
    assert done.output in (b"up\n", b"up\nTerminated\n")
    assert not left_of(done.plan)


def test_a_remote_command_may_end_in_its_own_way_within_the_grace(runs: Runs, sshd: Sshd) -> None:
    plan, process = runs.started(
        "trap 'echo bye; exit 7' TERM; echo hi; while :; do sleep 0.01; done",
        target=sshd.target(),
        grace=5.0,
    )
    process.stop()
    done = runs.finish(plan, process)
    assert done.result.outcome is Outcome.STOPPED
    assert done.output == b"hi\nbye\n"
    assert done.result.steps[0].exit_code == 7
    assert done.seconds < 3


def test_something_left_in_the_background_does_not_hold_the_run(runs: Runs, sshd: Sshd) -> None:
    done = runs("sleep 30 & echo started", "echo next", target=sshd.target())
    assert done.output == b"started\nnext\n"
    assert done.seconds < 5
    processes.end_marked(done.plan.token)


def test_a_terminal_is_there_only_on_request(runs: Runs, sshd: Sshd) -> None:
    value = "it's " + "x" * 9000
    ask = 'test -t 1 && echo terminal || echo none; printf %s "$WO_V" | wc -c'
    without = runs(ask, target=sshd.target(), environment={"WO_V": value})
    assert without.output == b"none\n9005\n"
    terminal = runs(ask, target=sshd.target(), environment={"WO_V": value}, pty=True)
    assert terminal.output == b"terminal\r\n9005\r\n"


def test_captured_steps_run_there_too(runs: Runs, sshd: Sshd) -> None:
    request = runs.capture("echo a; echo b >&2; exit 2", target=sshd.target())
    captured = runs.host.capture(request)
    assert (captured.stdout, captured.stderr, captured.exit_code) == (b"a\n", b"b\n", 2)


def test_values_and_credentials_show_neither_in_ps_nor_in_files(runs: Runs, sshd: Sshd) -> None:
    plan, process = runs.started(
        "echo up; sleep 0.3", target=sshd.target(), environment={"WO_P": "hunter2-ssh-0452"}
    )
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert b"hunter2-ssh-0452" not in file.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
    runs.finish(plan, process)
    key_line = sshd.private_key.splitlines()[1]
    for file in Path(plan.directory).iterdir():
        assert b"hunter2-ssh-0452" not in file.read_bytes()
        assert key_line.encode() not in file.read_bytes()
    assert key_line not in repr(plan)
    assert "PRIVATE" not in repr(sshd.target())


@pytest.mark.faults
def test_ssh_runs_go_on_when_both_hosts_are_killed(own_host: Runs, sshd: Sshd) -> None:
    plan, process = own_host.started("echo a; sleep 0.3; echo b", target=sshd.target())
    pid = own_host.host._pid
    for below in {*processes.children(pid), pid} - {process.pid}:
        os.kill(below, signal.SIGKILL)
    assert own_host.finish(plan, process).output == b"a\nb\n"
    assert own_host("echo new", target=sshd.target()).output == b"new\n"


def _nothing_ran(done: Finished) -> None:
    assert done.result.outcome is Outcome.REFUSED, done.result
    assert (done.output, done.events, done.result.steps) == (b"", [], ())
    assert read_result(done.plan.directory) == done.result


@contextmanager
def _wire(port: int, *, delay: float = 0.0) -> Iterator[tuple[int, threading.Event]]:
    """Give a port that leads to another, until it is cut: then both ends hear nothing any more.

    Each piece takes `delay` seconds.
    """
    cut, over = threading.Event(), threading.Event()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def carry() -> None:
            near, _ = listener.accept()
            with near, socket.create_connection(("127.0.0.1", port)) as far:
                while not over.is_set():
                    for end in select.select([near, far], [], [], 0.05)[0]:
                        if cut.is_set():
                            time.sleep(0.05)
                        elif piece := end.recv(65536):
                            time.sleep(delay)
                            (far if end is near else near).sendall(piece)
                        else:
                            return

        thread = threading.Thread(target=carry)
        thread.start()
        try:
            yield listener.getsockname()[1], cut
        finally:
            over.set()
            thread.join()
