"""Log files of plugins on another host, over SFTP. Needs paramiko, which the web never loads."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import Any

import paramiko
import paramiko.sftp_client

from skstack.runner.log_files import BACKUP, MOST_READ, LogDirectory, check_name, not_a_file, unreadable
from skstack.runner.log_protocol import LogFile


class _AnyName(paramiko.Message):
    """A message in which names need not be UTF-8: one other name must not hide the whole directory."""

    def get_text(self) -> str:
        name: bytes = self.get_string()
        return name.decode("utf-8", "surrogateescape")


# The one place where paramiko makes the messages of a listing. Whoever loads this module does nothing else with SFTP.
paramiko.sftp_client.Message = _AnyName


class SftpLogDirectory(LogDirectory):
    """A directory on another host, over SFTP: no shell there ever sees a path.

    SFTP cannot open a file without following links. So a name is resolved on the host first and must come out
    as itself; who may replace files in the directory at that very moment could read them anyhow.
    """

    def __init__(self, sftp: paramiko.SFTPClient, directory: str) -> None:
        super().__init__(directory)
        self._sftp = sftp

    def read(self, file: LogFile, *, offset: int, size: int) -> bytes:
        check_name(file.name)
        try:
            path = f"{self._real(file.in_backup)}/{file.name}"
            if self._sftp.normalize(path) != path or not _is_file(self._sftp.lstat(path)):
                raise not_a_file(file.name)
            with self._sftp.open(path, "rb") as opened:
                opened.seek(offset)
                piece: bytes = opened.read(min(size, MOST_READ))
                return piece
        except (OSError, EOFError, paramiko.SSHException) as err:
            raise unreadable(file.name, err) from err

    def _files(self, suffix: str, in_backup: bool) -> Iterator[LogFile]:
        try:
            # What a host lists are attributes of the entries themselves, not of what links lead to.
            for entry in self._sftp.listdir_iter(self._real(in_backup)):
                if entry.filename.endswith(suffix) and "/" not in entry.filename and _is_file(entry):
                    yield LogFile(
                        name=entry.filename,
                        in_backup=in_backup,
                        size=entry.st_size or 0,
                        modified=float(entry.st_mtime or 0),
                    )
        except FileNotFoundError:
            return
        except (OSError, EOFError, paramiko.SSHException) as err:
            if in_backup and isinstance(err, OSError):
                return
            raise unreadable(self._directory, err) from err

    def _real(self, in_backup: bool) -> str:
        directory: str = self._sftp.normalize(self._directory)
        if not in_backup:
            return directory
        backup = f"{directory.rstrip('/')}/{BACKUP}"
        if self._sftp.normalize(backup) != backup:
            raise FileNotFoundError(backup)
        return backup


def _is_file(about: Any) -> bool:
    return about.st_mode is not None and stat.S_ISREG(about.st_mode)
