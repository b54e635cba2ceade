"""Read the raw output of a run from an offset, and wait until there is more or the run is over.

Output is waited for by `Tails`, which watches files. That a run has ended is another thing: the database says so, a few
milliseconds after the runner wrote its result, or without a result if the run was stopped in the queue, refused or
lost. So whoever waits looks into the database too: soon and then less often after a result, seldom without one.
No database connection is held in between.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from weakref import WeakValueDictionary

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from skstack.runner.protocol import OUTPUT_FILE
from skstack.runs.models import Run
from skstack.runs.tail import Tails
from skstack.states import RunState

MOST_BYTES = 1 << 20
LONGEST_WAIT = 30.0

# Seconds between two looks at the state: without a sign that the run is over, and after one, growing from the first to the last.
_SELDOM = {RunState.QUEUED: 0.5, RunState.RUNNING: 1.0}
_SOON, _LATER = 0.002, 0.5
# With output in hand the end is waited for no longer than this: somebody wants to read it now.
_PATIENCE = 0.03
# Who is this much behind is not held back for the sake of others.
_BEHIND = 1 << 18

_STATE = sa.select(Run.state).where(Run.id == sa.bindparam("run_id"))


class Piece:
    """What was read. `final`: the run has ended in the database and `content` reaches the end of its output.

    `busy`: too many wait already, so this one did not; ask again in a moment.
    """

    __slots__ = ("busy", "content", "final", "next_offset", "state")

    def __init__(
        self, content: bytes, offset: int, state: RunState, *, final: bool, busy: bool = False
    ) -> None:
        self.content = content
        self.next_offset = offset + len(content)
        self.state = state
        self.final = final
        self.busy = busy

    def headers(self) -> dict[str, str]:
        """Return what the log API says beside the content."""
        told = {
            "X-Log-Next-Offset": str(self.next_offset),
            "X-Run-State": str(self.state),
            "X-Run-Final": "1" if self.final else "0",
        }
        return {**told, "Retry-After": "1"} if self.busy else told


def follow(
    states: States, state: RunState, directory: Path, *, offset: int, wait: float, tails: Tails
) -> Piece:
    """Return at most 1 MiB of output from `offset`, as soon as there is any, the run is over, or `wait` s have passed.

    `state` is what the caller just read, `states` where it can be read again. An offset behind the end is waited at, and
    stays the next one. Whoever calls this must hold no database connection: it may take long.
    """
    deadline = time.monotonic() + wait
    while not state.is_final:
        left = deadline - time.monotonic()
        growth = tails.wait(directory, offset, min(left, _SELDOM[state]), enough=_BEHIND)
        if growth.final:
            patience = _PATIENCE if growth.grown else left
            state = states.until_final(min(deadline, time.monotonic() + patience))
            break
        if growth.grown and state is RunState.QUEUED:
            state = states.look(0)  # It was taken by a worker, or there would be no output.
        if growth.grown or growth.busy or time.monotonic() >= deadline:
            content, _ = _read(directory, offset)
            return Piece(content, offset, state, final=False, busy=growth.busy and not content)
        state = states.look(_SELDOM[state] / 2)
    content, size = _read(directory, offset)
    return Piece(content, offset, state, final=state.is_final and offset + len(content) >= size)


def _read(directory: Path, offset: int) -> tuple[bytes, int]:
    """Return what is behind `offset`, and the size of all. What is not there, or no longer, is empty."""
    try:
        fd = os.open(directory / OUTPUT_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b"", 0
    try:
        size = os.fstat(fd).st_size
        return (os.pread(fd, min(MOST_BYTES, size - offset), offset) if offset < size else b""), size
    finally:
        os.close(fd)


class States:
    """The state of one run, as read a moment ago: a hundred who wait for the same run share one look."""

    def __init__(self, engine: Engine, run_id: int) -> None:
        self._engine = engine
        self._run_id = run_id
        self._lock = threading.Lock()
        self._at = 0.0
        self._state = RunState.QUEUED

    def look(self, age: float) -> RunState:
        """Return the state, at most `age` seconds old. A run that is gone reads as unknown."""
        asked = time.monotonic()
        with self._lock:
            if self._at < asked - age or not self._at:
                started = time.monotonic()
                with self._engine.connect() as connection:
                    found = connection.scalar(_STATE, {"run_id": self._run_id})
                self._state, self._at = RunState(found or RunState.UNKNOWN), started
            return self._state

    def until_final(self, deadline: float) -> RunState:
        """Return the state as soon as it is final, or at the deadline."""
        pause = _SOON
        while not (state := self.look(pause / 2)).is_final:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(pause, left))
            pause = min(pause * 2, _LATER)
        return state


_lock = threading.Lock()
_known: WeakValueDictionary[tuple[int, int], States] = WeakValueDictionary()


def states_of(engine: Engine, run_id: int) -> States:
    """Return where the state of a run is read, the same for all who ask."""
    with _lock:
        found = _known.get((id(engine), run_id))
        if found is None:
            found = _known[id(engine), run_id] = States(engine, run_id)
        return found
