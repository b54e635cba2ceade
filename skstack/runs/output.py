"""Read what a run has printed: raw bytes, lines by step and number, the last lines, steps and their ends.

An `Output` is a look at one moment. The runner notes a step before it writes a byte of its output, so the
size is taken first and the events after it: every byte then has its step.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from skstack.runner.protocol import (
    EVENTS_FILE,
    OUTPUT_CAPPED,
    OUTPUT_FILE,
    RESULT_FILE,
    STEP_FINISHED,
    STEP_STARTED,
)
from skstack.runs import lines
from skstack.runs.sgr import PLAIN, Style
from skstack.runs.terminal import style_after

MAX_READ = 1 << 20
"""Bytes that one answer carries at most."""

MAX_LINES_READ = 512 * 1024
LONG_LINE = 64 * 1024
_LOOK_BACK = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutput:
    """One step that was started. Its output is the bytes `start` to `end`, where the next step's begins.

    Times are RFC 3339; `duration` is seconds.
    """

    position: int
    task: str = ""
    line: str = ""
    start: int
    end: int
    started_at: str | None = None
    finished_at: str | None = None
    exit_code: int | None = None
    duration: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Consecutive lines of one step: `count` of them, numbered from `first`, in the bytes `start` to `end`.

    `raw` is those bytes; of a single line too long to be read, a part of them, and `omitted` says how many
    are missing. `complete` is False if more may be added to the last line.
    """

    step: int
    first: int
    count: int
    start: int
    end: int
    raw: bytes
    omitted: int = 0
    complete: bool = True

    @property
    def last(self) -> int:
        return self.first + self.count - 1

    @property
    def cursor(self) -> int:
        """Return the offset to go on from: the start of the unfinished last line, or the end."""
        if self.complete:
            return self.end
        return self.start if self.omitted else self.start + self.raw.rfind(b"\n") + 1


class Output:
    """The output of the run in `directory`. A directory or file that is not there yet is an empty output.

    `final` says that the runner is done: nothing is added to these `size` bytes.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = os.fspath(directory)
        self._path = os.path.join(self._directory, OUTPUT_FILE)
        result = _read_result(self._directory)
        self.final = result is not None
        self.size, self._index = lines.look_up(self._path)
        self.steps, self.capped_at, self.events_size = _steps(self._directory, result, self.size)
        self._lengths: dict[int, int] = {}

    def read(self, offset: int, limit: int = MAX_READ) -> bytes:
        """Return at most `limit` bytes from `offset`, nothing behind the end."""
        with self._open() as fd:
            return os.pread(fd, max(0, min(limit, self.size - offset)), max(0, offset)) if fd >= 0 else b""

    def stream(self, piece: int = MAX_READ) -> Iterator[bytes]:
        """Yield the whole output in pieces, as it was at this moment."""
        with self._open() as fd:
            offset = 0
            while fd >= 0 and (content := os.pread(fd, min(piece, self.size - offset), offset)):
                offset += len(content)
                yield content

    def step(self, position: int) -> StepOutput | None:
        """Return a step that was started, by its position."""
        return next((step for step in self.steps if step.position == position), None)

    def is_open(self, step: StepOutput) -> bool:
        """Tell whether more may be added to a step's output."""
        return not self.final and step is self.steps[-1]

    def line_count(self, step: StepOutput) -> int:
        """Return the number of lines of a step; an unfinished last one counts."""
        if step.position not in self._lengths:
            with self._open() as fd:
                count = self._newlines(fd, step.end) - self._newlines(fd, step.start)
                if step.end > step.start and os.pread(fd, 1, step.end - 1) != b"\n":
                    count += 1
            self._lengths[step.position] = count
        return self._lengths[step.position]

    def offset_of(self, step: StepOutput, number: int) -> int:
        """Return where a line of a step starts; behind its last line, the end of the step."""
        if number <= 1:
            return step.start
        with self._open() as fd:
            newline = self._newlines(fd, step.start) + number - 1
            return min(step.end, self._index.after_newline(fd, newline, step.end)) if fd >= 0 else 0

    def line_at(self, offset: int) -> tuple[StepOutput, int] | None:
        """Return the step and the number of the line that the byte at `offset` belongs to."""
        step = next((step for step in reversed(self.steps) if step.start <= offset), None)
        if step is None:
            return None
        return step, self.number_at(step, offset)

    def number_at(self, step: StepOutput, offset: int) -> int:
        """Return the number of the line of a step that the byte at `offset` belongs to; 1 before the step."""
        if offset <= step.start:
            return 1
        with self._open() as fd:
            return self._newlines(fd, min(offset, step.end)) - self._newlines(fd, step.start) + 1

    def lines(self, step: StepOutput, first: int, last: int, *, from_end: bool = False) -> Lines | None:
        """Return the lines `first` to `last` of a step, as many of them as one answer may carry.

        When they are too many bytes, those at the beginning are kept, or with `from_end` those at the end.
        None if there is no such line.
        """
        first, last = max(1, first), min(last, self.line_count(step))
        if first > last:
            return None
        start, end = self.offset_of(step, first), self.offset_of(step, last + 1)
        while end - start > MAX_LINES_READ and first < last:
            half = (last - first + 1) // 2
            if from_end:
                first = last - half + 1
                start = self.offset_of(step, first)
            else:
                last = first + half - 1
                end = self.offset_of(step, last + 1)
        raw, omitted = self._read_lines(start, end)
        unfinished = self.is_open(step) and end == step.end and self.read(end - 1, 1) != b"\n"
        return Lines(
            step=step.position,
            first=first,
            count=last - first + 1,
            start=start,
            end=end,
            raw=raw,
            omitted=omitted,
            complete=not unfinished,
        )

    def tail(self, count: int, *, start: int = 0) -> list[Lines]:
        """Return the last `count` lines of all, but none that ends before `start`; one item for each step."""
        parts: list[Lines] = []
        for step in reversed(self.steps):
            if count <= 0 or step.end <= start:
                break
            total = self.line_count(step)
            earliest = self.number_at(step, start)
            part = self.lines(step, max(earliest, total - count + 1), total, from_end=True)
            if part is None:
                continue
            parts.append(part)
            count = count - part.count if part.first == earliest else 0
        return parts[::-1]

    def style_at(self, step: StepOutput, offset: int) -> Style:
        """Return the colours at an offset, from the bytes of the step before it (64 KiB of them at most)."""
        start = max(step.start, offset - _LOOK_BACK)
        return style_after(self.read(start, offset - start)) if offset > start else PLAIN

    def _read_lines(self, start: int, end: int) -> tuple[bytes, int]:
        """Read lines; of one that is too long its beginning, or what was written over it last."""
        length = end - start
        if length <= MAX_LINES_READ:
            return self.read(start, length), 0
        tail = self.read(end - LONG_LINE, LONG_LINE)
        shown = tail.rstrip(b"\r\n")
        rewritten = shown.find(b"\r")
        if rewritten >= 0:
            return tail[rewritten + 1 :], length - (len(tail) - rewritten - 1)
        return self.read(start, LONG_LINE), length - LONG_LINE

    def _newlines(self, fd: int, offset: int) -> int:
        return self._index.newlines_before(fd, offset) if fd >= 0 and offset else 0

    @contextmanager
    def _open(self) -> Iterator[int]:
        """Open the output; -1 if it is not, or no longer, there."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            yield -1
            return
        try:
            yield fd
        finally:
            os.close(fd)


def _steps(
    directory: str, result: dict[str, Any] | None, size: int
) -> tuple[tuple[StepOutput, ...], int | None, int]:
    """Return the steps that were started, where the output was capped, and the bytes of the event file."""
    events, events_size = _read_events(directory)
    started: dict[int, dict[str, Any]] = {}
    capped_at = None
    for event in events:
        kind, position = event.get("kind"), event.get("position")
        if kind == STEP_STARTED and isinstance(position, int):
            started[position] = {**event, "started_at": event.get("at"), "finished_at": None}
        elif kind == STEP_FINISHED and position in started:
            started[position] |= {
                "finished_at": event.get("at"),
                "exit_code": event.get("exit_code"),
                "duration": event.get("duration"),
            }
        elif kind == OUTPUT_CAPPED:
            capped_at = event.get("offset")
    # A full disk may have swallowed events; the result tells them again.
    for step in (result or {}).get("steps") or ():
        if isinstance(step, dict) and isinstance(step.get("position"), int):
            started[step["position"]] = started.get(step["position"], {}) | step
    if not started and size:
        started[1] = {"offset": 0}

    order = sorted(started)
    starts = [0]
    for position in order[1:]:
        starts.append(min(size, max(starts[-1], _integer(started[position].get("offset")))))
    steps = tuple(
        StepOutput(
            position=position,
            task=str(started[position].get("task") or ""),
            line=str(started[position].get("line") or ""),
            start=start,
            end=end,
            started_at=started[position].get("started_at"),
            finished_at=started[position].get("finished_at"),
            exit_code=started[position].get("exit_code"),
            duration=started[position].get("duration"),
        )
        for position, start, end in zip(order, starts, [*starts[1:], size], strict=False)
    )
    return steps, capped_at, events_size


def _read_events(directory: str) -> tuple[list[dict[str, Any]], int]:
    """Return the events that are written in full, and the bytes of their file."""
    try:
        with open(os.path.join(directory, EVENTS_FILE), "rb") as file:
            content = file.read()
    except OSError:
        return [], 0
    events = []
    for line in content.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            events.append(event)
    return events, len(content)


def _read_result(directory: str) -> dict[str, Any] | None:
    try:
        with open(os.path.join(directory, RESULT_FILE), "rb") as file:
            result = json.load(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}  # It is there, so the runner is done; what it says is read by the worker.
    return result if isinstance(result, dict) else {}


def _integer(value: Any) -> int:
    return value if isinstance(value, int) else 0
