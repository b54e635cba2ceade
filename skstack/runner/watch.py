"""What may end a run while it goes on: a signal, its time limit, a full disk, nobody waiting any more."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from types import FrameType

from skstack.messages import Message
from skstack.runner.protocol import Outcome


class RefusedError(Exception):
    """Nothing was started; the message says why."""

    def __init__(self, reason: Message) -> None:
        super().__init__(str(reason))
        self.reason = reason


class LostError(Exception):
    """The connection broke in the middle; the message says how."""

    def __init__(self, reason: Message) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Watch:
    """The one place where a runner waits.

    `ending` is None until something ends the run; the first counts. From `kill_at` on nothing is spared.
    """

    def __init__(self, *, time_limit: float, grace: float, hangup: socket.socket | None = None) -> None:
        self.ending: Outcome | None = None
        self.grace = grace
        self.kill_at = float("inf")
        self._deadline = time.monotonic() + time_limit
        self._hangup = hangup
        self._asked_to_stop = False
        self._poll = select.poll()
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        # Only there so that the end of a child wakes the poll: ignored or default signals do not.
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        self._poll.register(self._wake, select.POLLIN)
        if hangup is not None:
            self._poll.register(hangup, select.POLLIN)

    def add(self, fd: int) -> None:
        """Wait for this descriptor too."""
        self._poll.register(fd, select.POLLIN)

    def remove(self, fd: int) -> None:
        """Wait for it no more."""
        self._poll.unregister(fd)

    def end(self, outcome: Outcome) -> None:
        """End the run, unless something else already does."""
        if self.ending is None:
            self.ending = outcome
            self.kill_at = time.monotonic() + self.grace

    def wait(self, until: float = float("inf")) -> list[int]:
        """Wait for a descriptor, a child, an end or a moment (monotonic). Returns the readable ones."""
        self._check()
        soonest = min(until, self._deadline if self.ending is None else float("inf"))
        left = soonest - time.monotonic()
        ready = self._poll.poll(None if left == float("inf") else max(left, 0) * 1000)
        readable = []
        for fd, _ in ready:
            if fd == self._wake:
                os.read(fd, 4096)
            elif self._hangup is not None and fd == self._hangup.fileno():
                self._poll.unregister(fd)
                self._hangup = None
                self.end(Outcome.STOPPED)
            else:
                readable.append(fd)
        self._check()
        return readable

    def nudge(self) -> None:
        """End a wait, from another thread."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._waker, b"\0")

    def _check(self) -> None:
        if self._asked_to_stop:
            self.end(Outcome.STOPPED)
        elif time.monotonic() >= self._deadline:
            self.end(Outcome.TIMED_OUT)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._asked_to_stop = True
