"""The end of the trail, written down outside of the database: in a file, and to syslog if that is set up.

Who can write to the database cannot take the last events away unseen then: what was noted elsewhere tells of them.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import re
import socket
import time
from collections.abc import Iterable
from pathlib import Path

import sqlalchemy as sa
from flask import current_app

from skstack.audit.models import AuditEvent, AuditHead
from skstack.audit.verifying import Anchor
from skstack.config import Settings
from skstack.extensions import db

log = logging.getLogger(__name__)

SYSLOG_EVERY = 60.0
"""Seconds between two messages to syslog, at least."""

_LINE = re.compile(r"skstack audit head ([1-9]\d{0,17}) ([0-9a-f]{64})\b")

_next_message = 0.0
_told = 0
_complained: Anchor | None = None


class HeadRefused(Exception):
    """The file does not tell of any event."""


def sweep() -> None:
    """Write the end of the trail to where the settings say, if it has moved. For the worker, every few seconds."""
    global _next_message, _told
    with db.engine.connect() as connection:
        head = connection.execute(sa.select(AuditHead.sequence, AuditHead.hash)).one_or_none()
    if head is None or not head.sequence:
        return
    settings: Settings = current_app.config["SKSTACK"]
    _write(file_of(settings), head.sequence, bytes(head.hash))
    if settings.audit_syslog and head.sequence != _told and time.monotonic() >= _next_message:
        _next_message, _told = time.monotonic() + SYSLOG_EVERY, head.sequence
        _send(settings.audit_syslog, _line(head.sequence, bytes(head.hash)))


def file_of(settings: Settings) -> Path:
    """Return the file that the end is written to."""
    return Path(settings.audit_head_file or settings.instance / "audit.head")


def anchors(path: Path) -> list[Anchor]:
    """Return what a file tells of the trail: its last line, or all lines of a log that was kept elsewhere.

    Raises HeadRefused if it tells nothing, OSError if it cannot be read.
    """
    found = list(_told_in(path.read_text(encoding="utf-8", errors="replace").splitlines(), str(path)))
    if not found:
        raise HeadRefused(f"{path} tells of no event: it has no line like “skstack audit head 7 5f…”")
    return found


def own_anchors(settings: Settings) -> list[Anchor]:
    """Return what this host's own file tells; nothing if there is none yet."""
    try:
        return anchors(file_of(settings))
    except FileNotFoundError:
        return []


def _told_in(lines: Iterable[str], source: str) -> Iterable[Anchor]:
    for line in lines:
        if match := _LINE.search(line):
            yield Anchor(int(match[1]), bytes.fromhex(match[2]), source)


def _line(sequence: int, sealed: bytes) -> str:
    return f"skstack audit head {sequence} {sealed.hex()}"


def _write(path: Path, sequence: int, sealed: bytes) -> None:
    """Replace the file, unless what it tells is not in the trail: that must not be covered up."""
    try:
        told = anchors(path)[-1]
    except FileNotFoundError:
        told = Anchor(0, b"", str(path))
    except (OSError, HeadRefused) as err:
        log.error("the end of the audit trail is not written to %s: %s", path, err)
        return
    if told.sequence == sequence and told.hash == sealed:
        return
    if told.sequence:
        with db.engine.connect() as connection:
            found = connection.scalar(sa.select(AuditEvent.hash).where(AuditEvent.id == told.sequence))
        if found is None or bytes(found) != told.hash:
            _complain(told)
            return
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(
            f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ} {_line(sequence, sealed)}\n", encoding="utf-8"
        )
        draft.replace(path)
    except OSError as err:
        log.error("the end of the audit trail could not be written to %s: %s", path, err)
        draft.unlink(missing_ok=True)


def _complain(told: Anchor) -> None:
    """Say once that what was noted is not in the trail."""
    global _complained  # noqa: PLW0603 - as above
    if told != _complained:
        _complained = told
        log.error(
            "%s tells of audit event %s, which is missing or another: look at `audit verify`. The file stays as it is",
            told.source,
            told.sequence,
        )


def _send(address: str, line: str) -> None:
    """Send one message. An address is a socket such as /dev/log, or HOST:PORT for UDP."""
    message = f"<{_AUTHPRIV_INFO}>skstack: {line}".encode()
    try:
        if address.startswith("/"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(2)
                sender.connect(address)
                sender.send(message)
        else:
            host, _, port = address.rpartition(":")
            family, kind, *_, to = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, kind) as sender:
                sender.sendto(message, to)
    except OSError as err:
        log.error("the end of the audit trail could not be sent to syslog at %s: %s", address, err)


# RFC 3164: facility 10, severity 6.
_AUTHPRIV_INFO = 86
