"""What the rest of skstack uses to start runs, to find them again, and to read what they leave."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from skstack.messages import Message
from skstack.runner import processes, wire
from skstack.runner.local import inherited
from skstack.runner.log_protocol import LogFile, LogRequest, LogsFound
from skstack.runner.protocol import (
    EVENTS_FILE,
    RESULT_FILE,
    RUNNER_FILE,
    Captured,
    CaptureRequest,
    Event,
    HostKey,
    LocalTarget,
    Plan,
    Result,
    SshTarget,
    Target,
)

_PROGRAM = Path(__file__).with_name("host.py")


class RunnerUnavailable(Exception):
    """No runner could be had. Nothing was started, and nothing will be."""


class AlreadyStarted(RunnerUnavailable):
    """A runner has already been started in that directory; this call started none."""


class HostKeyUnavailable(Exception):
    """The host could not be asked for its key; `reason` says why."""

    def __init__(self, reason: Message) -> None:
        super().__init__(str(reason))
        self.reason = reason


class LogsUnavailable(Exception):
    """Log files of plugins could not be looked for or read; `reason` says why."""

    def __init__(self, reason: Message) -> None:
        super().__init__(str(reason))
        self.reason = reason


def new_token() -> str:
    """Return a fresh mark for a run's processes."""
    return os.urandom(16).hex()


class RunnerProcess:
    """A run's own process: known by pid and start time, held by pidfd, so never taken for another."""

    def __init__(self, pid: int, start_time: int, boot_id: str, pidfd: int) -> None:
        self.pid = pid
        self.start_time = start_time
        self.boot_id = boot_id
        self._pidfd = pidfd

    def __repr__(self) -> str:
        return f"RunnerProcess(pid={self.pid}, start_time={self.start_time})"

    @classmethod
    def adopt(cls, directory: str | Path) -> Self | None:
        """Return the runner that works in this directory, whoever started it; None if it runs no more."""
        try:
            identity = json.loads((Path(directory) / RUNNER_FILE).read_text("utf-8"))
        except FileNotFoundError:
            return None
        if identity["boot_id"] != processes.boot_id():
            return None
        return cls._hold(identity)

    @classmethod
    def _hold(cls, identity: Mapping[str, Any]) -> Self | None:
        pid, started = identity["pid"], identity["start_time"]
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return None
        # Asked only now: before the pidfd was there, the pid might still have passed to another process.
        if not processes.is_running(pid, started):
            os.close(pidfd)
            return None
        return cls(pid, started, identity["boot_id"], pidfd)

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when the runner ends."""
        return self._pidfd

    def alive(self) -> bool:
        """Tell whether the runner still runs."""
        return not self.wait(0)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the runner ends, at most `timeout` seconds. Returns whether it did."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(None if timeout is None else max(timeout, 0) * 1000))

    def stop(self) -> None:
        """Ask the runner to end its run as stopped. Does nothing if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)

    def close(self) -> None:
        """Let go of the process; it goes on."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def __del__(self) -> None:
        self.close()


class RunnerHost:
    """The way to the runner host process, which it starts when there is none.

    Any number of threads may use it, and processes forked after `start` share the host.

    `environment` is added to the few variables that the host process is started with.
    """

    def __init__(self, *, environment: Mapping[str, str] | None = None) -> None:
        self._environment = dict(environment or {})
        self._lock = threading.Lock()
        self._requests: socket.socket | None = None
        self._pid = 0
        os.register_at_fork(after_in_child=self._after_fork)

    def start(self, *, ssh: bool = False) -> None:
        """Start the host process now rather than at the first request; with `ssh`, its SSH half too."""
        with self._lock:
            requests = self._requests or self._start()
            if ssh:
                requests.send(wire.WARM)

    def close(self) -> None:
        """Let go of the host, which ends when everyone has; runs go on."""
        with self._lock:
            self._forget()

    def launch(self, plan: Plan, *, timeout: float = 10.0) -> RunnerProcess:
        """Start the run in a process of its own and return it.

        Raises RunnerUnavailable when none began within `timeout` seconds: then none will.
        """
        with self._open(plan.target, timeout) as stream:
            answer = self._ask(stream, {"mode": "run", "plan": plan.to_json()})
            if answer.get("already_claimed"):
                raise AlreadyStarted(f"A runner was already started in {plan.directory}")
            if "error" in answer:
                raise RunnerUnavailable(f"The run cannot be recorded in {plan.directory}: {answer['error']}")
            # The runner waits for GO, so this is it; its pid cannot have passed to another.
            process = RunnerProcess._hold(answer)
            if process is None:
                raise RunnerUnavailable("The runner ended before it began")
            try:
                stream.sendall(wire.GO)
            except OSError as err:
                raise RunnerUnavailable("The runner ended before it began") from err
            return process

    def capture(self, request: CaptureRequest) -> Captured:
        """Run steps and return what they print. Takes at most its time limit and grace, and a little more."""
        timeout = request.time_limit + request.grace + 5
        with self._open(request.target, timeout) as stream:
            answer = self._ask(stream, {"mode": "capture", "request": request.to_json()})
            return Captured.from_json(answer["captured"])

    def host_key(self, target: SshTarget, *, timeout: float = 10.0) -> HostKey:
        """Return the key that a host offers, without logging in. Raises HostKeyUnavailable."""
        with self._open(target, timeout + 5) as stream:
            answer = self._ask(stream, {"mode": "host_key", "target": target.to_json(), "timeout": timeout})
            if "refused" in answer:
                raise HostKeyUnavailable(Message.from_json(answer["refused"]))
            if "host_key" not in answer:
                raise RunnerUnavailable("The host key could not be asked for in time")
            return HostKey.from_json(answer["host_key"])

    def find_logs(self, request: LogRequest) -> LogsFound:
        """Return the log files there are, and the end of one. Raises LogsUnavailable."""
        with self._open(request.target, 2 * request.timeout + 5) as stream:
            answer = self._ask(stream, {"mode": "find_logs", "request": request.to_json()})
        if "refused" in answer:
            raise LogsUnavailable(Message.from_json(answer["refused"]))
        return LogsFound.from_json(answer["found"])

    def read_log(self, request: LogRequest) -> tuple[LogFile, LogPieces]:
        """Return a log file and its bytes, which have to be read to their end or closed. Raises LogsUnavailable."""
        stream = self._open(request.target, 2 * request.timeout + 5)
        try:
            answer = self._ask(stream, {"mode": "read_log", "request": request.to_json()})
            if "refused" in answer:
                raise LogsUnavailable(Message.from_json(answer["refused"]))
            return LogFile.from_json(answer["file"]), LogPieces(stream)
        except BaseException:
            stream.close()
            raise

    def _open(self, target: Target, timeout: float) -> socket.socket:
        """Return a socket to a runner that has been forked and waits for its request."""
        kind = wire.LOCAL if isinstance(target, LocalTarget) else wire.SSH
        for _ in range(2):
            ours, theirs = socket.socketpair()
            ours.settimeout(timeout)
            try:
                with theirs:
                    used = self._hand_over(kind, theirs)
                if ours.recv(1) == wire.READY:
                    return ours
            except TimeoutError as err:
                ours.close()
                raise RunnerUnavailable("The runner host did not answer in time") from err
            except ConnectionError:
                pass
            # The host died with the packet in its hands. Nobody has seen a request yet: try another.
            ours.close()
            with self._lock:
                if self._requests is used:
                    self._forget()
        raise RunnerUnavailable("The runner host cannot be reached")

    def _hand_over(self, kind: bytes, stream: socket.socket) -> socket.socket:
        with self._lock:
            requests = self._requests or self._start()
            try:
                socket.send_fds(requests, [kind], [stream.fileno()])
            except ConnectionError:
                self._forget()
                requests = self._start()
                socket.send_fds(requests, [kind], [stream.fileno()])
            return requests

    def _ask(self, stream: socket.socket, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            wire.send_frame(stream, request)
            answer = wire.receive_frame(stream)
        except TimeoutError as err:
            raise RunnerUnavailable("The runner did not answer in time") from err
        except OSError as err:
            raise RunnerUnavailable(f"The runner went away: {err.strerror}") from err
        if answer is None:
            raise RunnerUnavailable("The runner went away before it answered")
        return answer

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {"HOME": os.path.expanduser("~"), **inherited(os.environ)}
        if agent := os.environ.get("SSH_AUTH_SOCK"):
            environment["SSH_AUTH_SOCK"] = agent
        with theirs:
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-P", str(_PROGRAM)],
                {**environment, **self._environment},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                ],
                # What the terminal or the service manager sends to this group is not meant for runs.
                setsid=True,
                setsigmask=[],
            )
        self._requests = ours
        return ours

    def _forget(self) -> None:
        if self._requests is not None:
            self._requests.close()
            self._requests = None
        if self._pid:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, os.WNOHANG)
            self._pid = 0

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        # The host is the parent's child; here it can be used, but not waited for.
        self._pid = 0


class LogPieces(Iterator[bytes]):
    """The bytes of a log file, in pieces as its runner sends them.

    They end early, with RunnerUnavailable or LogsUnavailable, if the rest cannot be had. Whoever reads no further closes
    them, whether or not they were begun: then the runner ends.
    """

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._pieces = self._received()

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        """Let go of the runner. Safe to repeat."""
        # A generator that was never begun would not come to the end of its `with`.
        self._pieces.close()
        self._stream.close()

    def _received(self) -> Generator[bytes, None, None]:
        with self._stream as stream:
            while True:
                try:
                    answer = wire.receive_frame(stream)
                except OSError as err:
                    raise RunnerUnavailable("The runner sent no more of the log file") from err
                if answer is None:
                    raise RunnerUnavailable("The runner went away in the middle of the log file")
                if "refused" in answer:
                    raise LogsUnavailable(Message.from_json(answer["refused"]))
                if "piece" not in answer:
                    return
                yield base64.b64decode(answer["piece"])


def read_result(directory: str | Path) -> Result | None:
    """Return how the run of this directory ended; None if it has not, or cannot tell any more."""
    try:
        return Result.from_json(json.loads((Path(directory) / RESULT_FILE).read_bytes()))
    except FileNotFoundError:
        return None


def read_events(directory: str | Path, offset: int = 0) -> tuple[list[Event], int]:
    """Return the events from a byte offset on, and the offset to ask from next time."""
    try:
        with open(Path(directory) / EVENTS_FILE, "rb") as f:
            f.seek(offset)
            new = f.read()
    except FileNotFoundError:
        return [], offset
    # A line without its end is still being written, or was cut off by a full disk.
    whole = new[: new.rfind(b"\n") + 1]
    return [Event.from_json(json.loads(line)) for line in whole.splitlines()], offset + len(whole)


def end_leftovers(directory: str | Path) -> int:
    """Kill what still runs of a local run whose runner was killed. Returns how many could not be ended.

    Only needed when the runner host is gone too: else it has done so already.
    """
    try:
        identity = json.loads((Path(directory) / RUNNER_FILE).read_text("utf-8"))
    except FileNotFoundError:
        return 0
    return processes.end_marked(identity["token"])
