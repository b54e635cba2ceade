"""A runner that looks for log files of plugins, or sends one of them, instead of running anything."""

from __future__ import annotations

import base64
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

from skstack.messages import N_
from skstack.runner import processes, wire
from skstack.runner.log_files import MOST_READ, LocalLogDirectory, LogDirectory
from skstack.runner.log_protocol import LogFile, LogRequest, LogsFound
from skstack.runner.protocol import LocalTarget
from skstack.runner.watch import RefusedError, Watch


def answer_found(request: LogRequest, stream: socket.socket) -> None:
    """Answer with the files and the end of the chosen one."""
    _answer(request, stream, lambda logs: iter([{"found": _found(logs, request).to_json()}]))


def answer_whole(request: LogRequest, stream: socket.socket) -> None:
    """Answer with the chosen file: first what it is, then its bytes up to the size that it has now, in pieces."""
    _answer(request, stream, lambda logs: _pieces(logs, request))


def _answer(
    request: LogRequest, stream: socket.socket, frames: Callable[[LogDirectory], Iterator[dict[str, Any]]]
) -> None:
    # Whoever asked may go away at any moment.
    with contextlib.suppress(OSError):
        try:
            with _directory(request, stream) as logs:
                for frame in frames(logs):
                    wire.send_frame(stream, frame)
        except RefusedError as err:
            wire.send_frame(stream, {"refused": err.reason.to_json()})


@contextlib.contextmanager
def _directory(request: LogRequest, stream: socket.socket) -> Iterator[LogDirectory]:
    if isinstance(request.target, LocalTarget):
        yield LocalLogDirectory(request.directory)
        return
    from skstack.runner import connection
    from skstack.runner.remote_logs import SftpLogDirectory

    processes.hide_memory()
    target, timeout = request.target, request.timeout
    watch = Watch(time_limit=timeout + 1, grace=0, hangup=stream)
    try:
        opened = connection.aside(watch, lambda: connection.connect(target, timeout=timeout))
    except TimeoutError as err:
        raise connection.not_in_time(target) from err
    if opened is None:
        raise connection.not_in_time(target)
    with opened:
        try:
            sftp = opened.sftp()
        except Exception as err:
            raise RefusedError(
                N_(
                    "%(host)s offers no SFTP, over which log files are read: %(why)s",
                    host=target.host,
                    why=str(err) or type(err).__name__,
                )
            ) from err
        channel = sftp.get_channel()
        if channel is not None:
            channel.settimeout(timeout)
        yield SftpLogDirectory(sftp, request.directory)


def _found(logs: LogDirectory, request: LogRequest) -> LogsFound:
    files = logs.find(request.suffix)
    shown = _chosen(files, request)
    if shown is None or not request.tail:
        return LogsFound(files=tuple(files), shown=shown)
    offset = max(0, shown.size - min(request.tail, MOST_READ))
    content = logs.read(shown, offset=offset, size=shown.size - offset)
    return LogsFound(files=tuple(files), shown=shown, offset=offset, content=content)


def _pieces(logs: LogDirectory, request: LogRequest) -> Iterator[dict[str, Any]]:
    file = _chosen(logs.find(request.suffix), request)
    if file is None:
        raise RefusedError(N_("There is no such log file any more."))
    yield {"file": file.to_json()}
    offset = 0
    while offset < file.size:
        piece = logs.read(file, offset=offset, size=min(MOST_READ, file.size - offset))
        if not piece:
            break  # It was cut meanwhile: what is missing is noticed by its size.
        offset += len(piece)
        yield {"piece": base64.b64encode(piece).decode()}
    yield {"end": True}


def _chosen(files: list[LogFile], request: LogRequest) -> LogFile | None:
    """Return the file that is asked for, which must be one of those that were found; the newest if none is."""
    if not request.name:
        return files[0] if files else None
    return next((f for f in files if (f.name, f.in_backup) == (request.name, request.in_backup)), None)
