"""inotify(7), as much of it as watching run directories takes."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator

IN_MODIFY = 0x2
IN_CREATE = 0x100
IN_MOVED_TO = 0x80
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000

_HEAD = struct.Struct("iIII")
_WATCHED = IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF


class Inotify:
    """An inotify instance. Raises OSError where the system has none, or none left for this user."""

    def __init__(self) -> None:
        try:
            self._libc = ctypes.CDLL(None, use_errno=True)
            fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        except (AttributeError, OSError) as err:
            raise OSError("this system has no inotify") from err
        if fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self.fd = fd

    def add(self, directory: str) -> int:
        """Watch a directory; return the number of its events. OSError if it is not there, or too many are."""
        watch = self._libc.inotify_add_watch(self.fd, os.fsencode(directory), _WATCHED)
        if watch < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch", directory)
        return int(watch)

    def remove(self, watch: int) -> None:
        """Stop watching; the event IN_IGNORED still follows."""
        self._libc.inotify_rm_watch(self.fd, watch)

    def read(self) -> Iterator[tuple[int, int]]:
        """Yield the number and mask of each event that is there, without waiting."""
        while True:
            try:
                content = os.read(self.fd, 65536)
            except BlockingIOError:
                return
            position = 0
            while position < len(content):
                watch, mask, _cookie, length = _HEAD.unpack_from(content, position)
                position += _HEAD.size + length
                yield watch, mask

    def close(self) -> None:
        os.close(self.fd)
