"""Steps on the host the runner itself runs on."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence

from skstack.messages import N_
from skstack.runner import processes
from skstack.runner.protocol import TOKEN_VARIABLE, PlanStep, Request
from skstack.runner.watch import RefusedError, Watch

Take = Callable[[memoryview], None]

INHERITED = frozenset(
    name
    for plain in (
        *("PATH", "HOME", "LANG", "LANGUAGE", "TZ"),
        *("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"),
    )
    for name in (plain, plain.upper())
)
"""What a step gets of the runner's own environment, with every LC_*."""

LINGER = 0.5
"""Seconds that what a step leaves behind may take to end by itself: a `tee` that still writes, say."""

TERM_WAIT = 0.5
"""Seconds between the SIGTERM and the SIGKILL for what stays after that."""

KILL_WAIT = 1.5
"""Seconds within which what was killed is gone, unless another user owns it or it hangs in the kernel."""

_PIPE = 1 << 20
_DEFAULT_SIGNALS = [s for s in signal.valid_signals() if s not in (signal.SIGKILL, signal.SIGSTOP)]


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the part of an environment that commands may see."""
    return {k: v for k, v in environment.items() if k in INHERITED or k.startswith("LC_")}


class LocalTransport:
    """Runs each step in a bash and a session of its own, and ends everything that the step started."""

    def __init__(self, request: Request, watch: Watch) -> None:
        self.left_behind = 0
        self.streams = 1
        self._watch = watch
        # A mapping takes memory only where something was read into it; a bytearray is filled with zeros.
        self._buffer = memoryview(mmap.mmap(-1, _PIPE))
        self._environment = {
            "HOME": "/",
            "PATH": os.defpath,
            **inherited(os.environ),
            **request.base_environment,
            **request.environment,
            TOKEN_VARIABLE: request.token,
        }
        self._directory = request.working_directory or self._environment["HOME"]
        self._bash = ""

    def open(self) -> None:
        """Make sure that steps can start here, else RefusedError."""
        bash = shutil.which("bash", path=self._environment["PATH"])
        if bash is None:
            raise RefusedError(N_("There is no bash in %(path)s.", path=self._environment["PATH"]))
        self._bash = bash
        try:
            # posix_spawn cannot change the directory of what it starts, so the runner goes there itself.
            os.chdir(self._directory)
        except OSError as err:
            raise RefusedError(
                N_(
                    "The directory %(directory)s cannot be entered: %(error)s.",
                    directory=self._directory,
                    error=err.strerror,
                )
            ) from err

    def run(self, step: PlanStep, takes: Sequence[Take]) -> int:
        """Run a step to its end and return its exit code, 128 + N after signal N.

        `takes` gets the pieces of output: one for both streams together, or one for each.
        """
        streams: dict[int, Take] = {}
        try:
            pid = self._start(step, takes, streams)
        except OSError as err:
            takes[-1](memoryview(f"bash: {err.strerror}\n".encode()))
            return 126
        try:
            status = self._follow(pid, streams)
            self._settle(streams)
        finally:
            for fd in streams:
                self._watch.remove(fd)
                os.close(fd)
        code = os.waitstatus_to_exitcode(status)
        return 128 - code if code < 0 else code

    def close(self) -> None:
        """Nothing stays open between steps."""

    def _start(self, step: PlanStep, takes: Sequence[Take], streams: dict[int, Take]) -> int:
        writers = []
        for take in takes:
            reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            os.set_blocking(writer, True)
            # An unprivileged user has a limit on pipe memory in all; past it the usual 64 KiB do.
            with contextlib.suppress(OSError):
                fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, _PIPE)
            self._watch.add(reader)
            streams[reader] = take
            writers.append(writer)
        try:
            return os.posix_spawn(
                self._bash,
                ["bash", "--noprofile", "--norc", "-o", "pipefail", "-c", step.script],
                self._environment,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, writers[0], 1),
                    (os.POSIX_SPAWN_DUP2, writers[-1], 2),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=_DEFAULT_SIGNALS,
            )
        except OSError:
            for fd in streams:
                self._watch.remove(fd)
                os.close(fd)
            streams.clear()
            raise
        finally:
            for fd in writers:
                os.close(fd)

    def _follow(self, pid: int, streams: dict[int, Take]) -> int:
        """Store output until the step's own process ends; return its wait status."""
        asked = False
        while True:
            ready = self._watch.wait(self._watch.kill_at)
            for fd in ready:
                self._take(fd, streams)
            for ended, status in processes.reap():
                if ended == pid:
                    return status
            if self._watch.ending and not asked:
                asked = True
                self._ask_to_end()
            elif time.monotonic() >= self._watch.kill_at:
                processes.freeze_and_kill(processes.descendants(os.getpid()))
                self._watch.wait(time.monotonic() + 0.01)

    def _settle(self, streams: dict[int, Take]) -> None:
        """Let what the step left behind end, or end it, and store what is still in the pipe."""
        now = time.monotonic()
        ask_at = now if self._watch.ending else now + LINGER
        kill_at = (
            min(self._watch.kill_at, ask_at + TERM_WAIT) if not self._watch.ending else self._watch.kill_at
        )
        give_up_at = kill_at + KILL_WAIT
        asked = False
        while not self._is_alone():
            now = time.monotonic()
            if now >= give_up_at:
                self.left_behind += len(processes.descendants(os.getpid()))
                break
            if now >= kill_at:
                processes.freeze_and_kill(processes.descendants(os.getpid()))
                wake_at = now + 0.01
            elif now >= ask_at and not asked:
                asked = True
                self._ask_to_end()
                wake_at = kill_at
            else:
                wake_at = kill_at if asked else ask_at
            for fd in self._watch.wait(wake_at):
                self._take(fd, streams)
            if self._watch.ending:
                kill_at = min(kill_at, self._watch.kill_at)
        for fd in list(streams):
            # Somebody out of reach may hold the pipe and write on: take what it held, not what comes.
            left = 2 * _PIPE
            while left > 0 and (taken := self._take(fd, streams)):
                left -= taken

    def _ask_to_end(self) -> None:
        pids = processes.descendants(os.getpid())
        processes.send(pids, signal.SIGTERM)
        processes.send(pids, signal.SIGCONT)

    def _is_alone(self) -> bool:
        """Tell whether nothing is left: as subreaper the runner is the parent of all that lost theirs."""
        try:
            for _ in processes.reap():
                pass
        except ChildProcessError:
            return True
        return False

    def _take(self, fd: int, streams: dict[int, Take]) -> int:
        """Pass on one piece and return its size: 0 if there is none now, or none will come any more."""
        if fd not in streams:
            return 0
        try:
            size = os.readv(fd, [self._buffer])
        except BlockingIOError:
            return 0
        if size:
            streams[fd](self._buffer[:size])
            return size
        self._watch.remove(fd)
        os.close(fd)
        del streams[fd]
        return 0
