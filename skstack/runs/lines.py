"""Where the lines of a growing file begin: a sparse index, kept per process, made only of newline counts."""

from __future__ import annotations

import os
import threading
from array import array
from bisect import bisect_left
from collections import OrderedDict

BLOCK = 64 * 1024
_READ = 16 * BLOCK
_KEPT = 128


class LineIndex:
    """How many newlines stand before each block of 64 KiB.

    8 bytes for each block, whatever the lines are like; 100 MB cost 13 KB. It grows with the file and is
    only ever read as far as somebody asks.
    """

    def __init__(self) -> None:
        self._before = array("Q", [0])
        self._lock = threading.Lock()

    def newlines_before(self, fd: int, offset: int) -> int:
        """Return the number of newlines in the first `offset` bytes, all of which must be there."""
        self._grow(fd, offset)
        block = offset // BLOCK
        rest = os.pread(fd, offset - block * BLOCK, block * BLOCK) if offset % BLOCK else b""
        return self._before[block] + rest.count(b"\n")

    def after_newline(self, fd: int, number: int, size: int) -> int:
        """Return the offset behind the newline of this number, counted from 1; `size` if there are fewer."""
        self._grow(fd, size)
        block = min(bisect_left(self._before, number), size // BLOCK + 1) - 1
        missing = number - self._before[block]
        content = os.pread(fd, min(BLOCK, size - block * BLOCK), block * BLOCK)
        pieces = content.split(b"\n", missing)
        if len(pieces) <= missing:
            return size
        return block * BLOCK + len(content) - len(pieces[-1])

    def _grow(self, fd: int, offset: int) -> None:
        wanted = offset // BLOCK
        if len(self._before) > wanted:
            return
        with self._lock:
            while len(self._before) <= wanted:
                known = len(self._before) - 1
                content = os.pread(fd, min(_READ, (wanted - known) * BLOCK), known * BLOCK)
                if len(content) < BLOCK:
                    # The file was cut short: what is missing has no lines.
                    self._before.extend([self._before[-1]] * (wanted - known))
                for start in range(0, len(content) - BLOCK + 1, BLOCK):
                    self._before.append(self._before[-1] + content.count(b"\n", start, start + BLOCK))


class _Known:
    """The indexes of the files looked at last, forgotten when a file is another one or was cut short."""

    def __init__(self) -> None:
        self._indexes: OrderedDict[str, tuple[int, int, LineIndex]] = OrderedDict()
        self._lock = threading.Lock()

    def look_up(self, path: str) -> tuple[int, LineIndex]:
        with self._lock:
            known = self._indexes.pop(path, None)
            try:
                stat = os.stat(path)
            except OSError:
                return 0, LineIndex()
            if known is None or known[0] != stat.st_ino or known[1] > stat.st_size:
                known = (stat.st_ino, 0, LineIndex())
            self._indexes[path] = (stat.st_ino, stat.st_size, known[2])
            if len(self._indexes) > _KEPT:
                self._indexes.popitem(last=False)
            return stat.st_size, known[2]


_known = _Known()


def look_up(path: str) -> tuple[int, LineIndex]:
    """Return a file's size (0 if it is not there) and its index, as far as it was built before."""
    return _known.look_up(path)


def _forget() -> None:
    """Begin anew in a forked child: another thread may have held a lock at the fork."""
    global _known  # noqa: PLW0603 - one cache per process
    _known = _Known()


os.register_at_fork(after_in_child=_forget)
