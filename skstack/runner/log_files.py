"""Log files that plugins write themselves: found by their suffix in one directory and its `bak`, read in pieces."""

from __future__ import annotations

import contextlib
import heapq
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator

from skstack.messages import N_
from skstack.runner.log_protocol import LogFile
from skstack.runner.watch import RefusedError

BACKUP = "bak"
"""The one subdirectory that is looked into too: plugins move old files there."""

MOST_FILES = 50
"""Files that are offered, newest first, when more of them end in the suffix."""

MOST_READ = 1 << 20
"""Bytes that one reading may ask for: a file of any size takes no more memory than this."""


class LogDirectory(ABC):
    """One directory on one host. Every method raises RefusedError, with the reason."""

    def __init__(self, directory: str) -> None:
        if not directory.startswith("/") or "\0" in directory:
            raise RefusedError(N_("%(directory)s is not an absolute path.", directory=repr(directory)))
        self._directory = directory

    def find(self, suffix: str) -> list[LogFile]:
        """Return the files whose names end in the suffix, newest first."""
        check_name(suffix)
        files = (file for in_backup in (False, True) for file in self._files(suffix, in_backup))
        # What is not UTF-8 can be neither shown nor asked for.
        shown = (file for file in files if _is_text(file.name))
        return heapq.nlargest(MOST_FILES, shown, key=lambda file: (file.modified, file.name))

    @abstractmethod
    def read(self, file: LogFile, *, offset: int, size: int) -> bytes:
        """Return at most `size` bytes from an offset; fewer only at the end of the file."""

    @abstractmethod
    def _files(self, suffix: str, in_backup: bool) -> Iterator[LogFile]:
        """Return the files in the directory, or in its `bak`, whose names end in the suffix; none if it is not there."""


class LocalLogDirectory(LogDirectory):
    """A directory on this host. The administrator's path may lead over links, nothing in it may."""

    def read(self, file: LogFile, *, offset: int, size: int) -> bytes:
        check_name(file.name)
        try:
            with self._opened(file.in_backup) as folder:
                # Not blocking: a FIFO of that name would hold the reader until somebody writes.
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                handle = os.open(file.name, flags, dir_fd=folder)
                with os.fdopen(handle, "rb", buffering=0) as opened:
                    if not stat.S_ISREG(os.fstat(handle).st_mode):
                        raise not_a_file(file.name)
                    opened.seek(offset)
                    return opened.read(min(size, MOST_READ)) or b""
        except OSError as err:
            raise unreadable(file.name, err) from err

    def _files(self, suffix: str, in_backup: bool) -> Iterator[LogFile]:
        try:
            with self._opened(in_backup) as folder, os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.endswith(suffix) and entry.is_file(follow_symlinks=False):
                        # A plugin may move its file to `bak` while we look.
                        with contextlib.suppress(FileNotFoundError):
                            about = entry.stat(follow_symlinks=False)
                            yield LogFile(
                                name=entry.name,
                                in_backup=in_backup,
                                size=about.st_size,
                                modified=about.st_mtime,
                            )
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as err:
            if in_backup:
                return
            raise unreadable(self._directory, err) from err

    @contextlib.contextmanager
    def _opened(self, in_backup: bool) -> Iterator[int]:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        folder = os.open(self._directory, flags)
        try:
            if not in_backup:
                yield folder
                return
            backup = os.open(BACKUP, flags | os.O_NOFOLLOW, dir_fd=folder)
            try:
                yield backup
            finally:
                os.close(backup)
        finally:
            os.close(folder)


def check_name(name: str) -> None:
    """Refuse what cannot be one name in the directory, or would be the end of every name."""
    if not name or "/" in name or "\0" in name or name in {".", ".."}:
        raise RefusedError(N_("%(name)s is not the name of a log file.", name=repr(name)))


def _is_text(name: str) -> bool:
    return not any("\udc80" <= character <= "\udcff" for character in name)


def not_a_file(name: str) -> RefusedError:
    return RefusedError(N_("%(name)s is a link or not a regular file: it is not shown.", name=repr(name)))


def unreadable(name: str, err: Exception) -> RefusedError:
    why = (err.strerror if isinstance(err, OSError) else None) or str(err) or type(err).__name__
    return RefusedError(N_("%(name)s cannot be read: %(why)s.", name=repr(name), why=why))
