"""Steps on another host, over one connection for the whole run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import paramiko

from skstack.messages import N_
from skstack.runner import connection, masking, remote
from skstack.runner.protocol import PlanStep, Request, SshTarget
from skstack.runner.watch import LostError, RefusedError, Watch
from skstack.substitution.remote import REMOTE_COMMAND

Take = Callable[[memoryview], None]

QUIET = 0.5
"""Seconds without output after which a step whose shell has ended is over, though its output is held open."""

ENDING_WAIT = 5.0
"""Seconds beyond the grace that ending a remote step may take: the network is in between."""

CONNECT_SLACK = 0.25
"""Seconds in which the part of connecting that took too long may still say so itself, and more exactly."""

_PIECE = 1 << 20
_START = 200


def prepare() -> None:
    """Do, in the process that runners are forked from, what a first connection does only once."""
    connection.configuration()


class SshTransport:
    """Runs each step in a bash on the target, which reads it from its standard input."""

    def __init__(self, request: Request, target: SshTarget, watch: Watch) -> None:
        self.left_behind = 0
        self.streams = 1 if request.pty else 2
        self._request = request
        self._target = target
        self._watch = watch
        self._transport: Any = None
        self._keepalive: connection.Keepalive | None = None
        self._has_run = False

    def open(self) -> None:
        """Connect and log in, else RefusedError."""
        within = self._request.connect_timeout
        try:
            # A host may use up the time again at each step: reaching it, its greeting, the login.
            opened = connection.aside(
                self._watch,
                lambda: connection.connect(self._target, timeout=within),
                within=within + CONNECT_SLACK,
            )
        except TimeoutError as err:
            raise connection.not_in_time(self._target) from err
        if opened is None:
            raise RefusedError(N_("The run was ended before the connection was made."))
        self._connection = opened
        self._transport = opened.transport
        self._transport.on_exit = self._watch.nudge
        self._keepalive = connection.Keepalive(
            self._transport, interval=self._request.keepalive, count=self._request.keepalive_count
        )

    def run(self, step: PlanStep, takes: Sequence[Take]) -> int:
        """Run a step to its end and return its exit code, 128 + N after signal N.

        Raises LostError if that cannot be told.
        """
        try:
            channel = self._start(step, combined=len(takes) == 1)
        except (paramiko.SSHException, OSError, EOFError) as err:
            raise LostError(self._broken()) from err
        reading = _Reading(channel, remote.Header(self._request.token), takes)
        self._watch.add(channel.fileno())
        try:
            code = self._follow(channel, reading)
        finally:
            self._watch.remove(channel.fileno())
            with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
                channel.close()
        reading.finish()
        if not reading.header.pid and not self._has_run and self._watch.ending is None:
            raise RefusedError(
                N_(
                    "%(host)s did not start bash: %(output)s",
                    host=self._target.host,
                    output=reading.start(masking.forms_of(self._request)),
                )
            )
        self._has_run = True
        return code

    def close(self) -> None:
        """Say goodbye to the host."""
        if self._transport is not None:
            self._transport.close()

    def _start(self, step: PlanStep, *, combined: bool) -> Any:
        request = self._request
        script = remote.step_script(request, step.script).encode()
        channel = self._transport.open_session(timeout=request.connect_timeout)
        channel.set_combine_stderr(combined)
        channel.settimeout(request.connect_timeout)
        if request.pty:
            channel.get_pty(width=200, height=50)
            channel.exec_command(remote.pty_shell(len(script)))
            # Not before the terminal has stopped echoing: the script holds values.
            ready = b""
            while b"ready" not in ready and (piece := channel.recv(1024)):
                ready += piece
            channel.sendall(script)
        else:
            channel.exec_command(REMOTE_COMMAND)
            channel.sendall(script)
            channel.shutdown_write()
        return channel

    def _follow(self, channel: Any, reading: _Reading) -> int:
        ending: Any = None
        give_up_at = quiet_at = float("inf")
        while True:
            if reading.take():
                quiet_at = time.monotonic() + QUIET
            now = time.monotonic()
            if ending is not None:
                if ending.exit_status_ready() and (channel.exit_status_ready() or reading.ended):
                    self.left_behind += max(ending.recv_exit_status(), 0)
                    reading.take()
                    return self._code(channel, asked_to_end=True)
                if now >= give_up_at:
                    self.left_behind += 1
                    return self._code(channel, asked_to_end=True)
            elif self._watch.ending:
                ending = self._begin_ending(reading.header.pid)
                give_up_at = now + self._watch.grace + ENDING_WAIT
                continue
            elif channel.exit_status_ready():
                if reading.ended:
                    return self._code(channel)
                if quiet_at == float("inf"):
                    quiet_at = now + QUIET
                if now >= quiet_at:
                    return self._code(channel)
            else:
                quiet_at = float("inf")
            self._check_alive()
            assert self._keepalive is not None
            until = min(self._keepalive.expires_at, give_up_at)
            if channel.exit_status_ready():
                until = min(until, quiet_at)
            self._watch.wait(until)

    def _code(self, channel: Any, *, asked_to_end: bool = False) -> int:
        code: int = channel.recv_exit_status() if channel.exit_status_ready() else -1
        if code >= 0:
            return code
        if asked_to_end and self._transport.is_active():
            return 137
        raise LostError(self._broken())

    def _begin_ending(self, pid: int) -> Any:
        try:
            ending = self._transport.open_session(timeout=self._request.connect_timeout)
            ending.exec_command(REMOTE_COMMAND)
            ending.sendall(
                remote.ending_script(token=self._request.token, pid=pid, grace=self._watch.grace).encode()
            )
            ending.shutdown_write()
        except (paramiko.SSHException, OSError, EOFError) as err:
            raise LostError(self._broken()) from err
        return ending

    def _check_alive(self) -> None:
        assert self._keepalive is not None
        if not self._transport.is_active() or time.monotonic() >= self._keepalive.expires_at:
            raise LostError(self._broken())

    def _broken(self) -> Any:
        return N_(
            "The connection to %(host)s broke in the middle: what happened there cannot be told.",
            host=self._target.host,
        )


class _Reading:
    """Takes what a channel brings and passes it on without the script's first line."""

    def __init__(self, channel: Any, header: remote.Header, takes: Sequence[Take]) -> None:
        self.header = header
        self.ended = False
        self._channel = channel
        self._takes = takes
        self._start = b""

    def take(self) -> bool:
        """Pass on what is there now; tells whether there was anything."""
        taken = False
        while self._channel.recv_ready():
            taken = True
            self._pass_on(self.header.strip(self._channel.recv(_PIECE)))
        while self._channel.recv_stderr_ready():
            taken = True
            piece = self._channel.recv_stderr(_PIECE)
            self._keep_start(piece)
            self._takes[-1](memoryview(piece))
        # Both ready checks come first: the end counts only when nothing is left in front of it.
        self.ended = self._channel.eof_received or self._channel.closed
        return taken

    def finish(self) -> None:
        """Pass on what was held back for a first line that never came."""
        self.take()
        self._pass_on(self.header.rest())

    def start(self, secrets: tuple[bytes, ...]) -> str:
        """Return the beginning of what was printed, masked, for a message."""
        start = masking.start_of(self._start, secrets, is_whole=len(self._start) < _START)
        return start.decode(errors="replace").strip()

    def _pass_on(self, piece: bytes) -> None:
        if piece:
            self._keep_start(piece)
            self._takes[0](memoryview(piece))

    def _keep_start(self, piece: bytes) -> None:
        if len(self._start) < _START:
            self._start = (self._start + piece)[:_START]
