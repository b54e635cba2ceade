"""What a run leaves in its directory: who runs it, its output, its events and last its result."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from skstack.runner.protocol import (
    EVENTS_FILE,
    OUTPUT_FILE,
    RESULT_FILE,
    RUNNER_FILE,
    Event,
    PlanStep,
    Result,
)

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class AlreadyClaimedError(Exception):
    """Another runner has been started in this directory."""


class LogFullError(Exception):
    """The output can no longer be stored."""


def rfc3339_now() -> str:
    """Return the time of day in UTC, for people; durations are measured otherwise."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def claim(directory: str, identity: dict[str, Any]) -> None:
    """Write `runner.json`, whole or not at all, unless it is there already (AlreadyClaimedError)."""
    path = os.path.join(directory, RUNNER_FILE)
    draft = f"{path}.{os.getpid()}"
    try:
        with open(draft, "w", encoding="utf-8") as f:
            json.dump(identity, f)
        # Unlike a rename, a link never replaces what another runner wrote: the run starts once.
        os.link(draft, path)
    except FileExistsError as err:
        raise AlreadyClaimedError(directory) from err
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)


def give_up(directory: str) -> None:
    """Take a claim back, so that everybody sees that nothing was begun."""
    os.unlink(os.path.join(directory, RUNNER_FILE))


def room_for_result(steps: Sequence[PlanStep]) -> int:
    """Return how many bytes the result of these steps can need at most."""
    return 16 * 1024 + sum(512 + len(json.dumps(step.line)) for step in steps)


class Record:
    """The output and events of one run, and the place kept for its result: a full disk can still be told there."""

    def __init__(self, directory: str, *, limit: int, room: int) -> None:
        """`limit` is of the output, `room` is set aside for the result. Raises OSError if there is none."""
        self.printed = 0
        self.stored = 0
        self.capped = False
        self.full = False
        self._directory = directory
        self._limit = limit
        self._result = _open(directory, f".{RESULT_FILE}", os.O_CREAT | os.O_RDWR)
        try:
            os.posix_fallocate(self._result, 0, room)
        except OSError as err:
            if err.errno in _FULL:  # Else the file system cannot set anything aside.
                raise
        self._output = _open(directory, OUTPUT_FILE, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self._events = _open(directory, EVENTS_FILE, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def write(self, chunk: memoryview) -> None:
        """Append what was printed; past the limit only count it. Raises LogFullError once, then discards."""
        self.printed += len(chunk)
        if self.capped or self.full:
            return
        room = self._limit - self.stored
        if len(chunk) > room:
            chunk = chunk[:room]
            self.capped = True
        try:
            while chunk:
                written = os.write(self._output, chunk)
                self.stored += written
                chunk = chunk[written:]
        except OSError as err:
            self.full = True
            raise LogFullError(err.strerror) from err
        if self.capped:
            self.note("output_capped")

    def note(self, kind: str, **details: Any) -> None:
        """Append an event. On a full disk it is left out: the result tells the same again."""
        event = Event(kind=kind, at=rfc3339_now(), offset=self.stored, **details)
        try:
            os.write(self._events, json.dumps(event.to_json()).encode() + b"\n")
        except OSError as err:
            if err.errno not in _FULL:
                raise

    def finish(self, result: Result) -> None:
        """Make the result appear, whole and on disk."""
        body = json.dumps(result.to_json()).encode()
        _write_all(self._result, body)
        os.ftruncate(self._result, len(body))
        os.fsync(self._result)
        os.rename(
            os.path.join(self._directory, f".{RESULT_FILE}"), os.path.join(self._directory, RESULT_FILE)
        )
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(directory)
        for fd in (directory, self._result, self._output, self._events):
            os.close(fd)


class Memory:
    """What captured steps print, kept in memory up to a limit for both streams together."""

    def __init__(self, *, limit: int) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.truncated = False
        self._room = limit

    def stream(self, buffer: bytearray) -> Callable[[memoryview], None]:
        """Return what takes the pieces of one stream."""

        def take(chunk: memoryview) -> None:
            if len(chunk) > self._room:
                self.truncated = True
                chunk = chunk[: self._room]
            self._room -= len(chunk)
            buffer.extend(chunk)

        return take


def _open(directory: str, name: str, flags: int) -> int:
    return os.open(os.path.join(directory, name), flags | os.O_CLOEXEC, 0o600)


def _write_all(fd: int, body: bytes) -> None:
    while body:
        body = body[os.write(fd, body) :]
