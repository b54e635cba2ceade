"""Room kept beside SQLite's database, so that a run's end can be recorded when its command has filled the disk.

The room lies in a few files of the instance folder. Each time that an ending finds no place, one of them is removed:
something else may be quicker to take what that gives, so there are several. Workers make them again once there is room.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from flask import current_app
from sqlalchemy.exc import OperationalError

from skstack.config import Settings
from skstack.extensions import db

log = logging.getLogger(__name__)

PIECES = 4
PIECE = 1 << 20
"""Bytes of each file: a commit that ends a run needs a small part of it."""

_FULL = ("SQLITE_FULL", "SQLITE_IOERR")


def record_ending(record: Callable[[], None]) -> None:
    """Call `record`, and again with a piece of the reserve for as long as the disk is full and there is one left."""
    while True:
        try:
            return record()
        except OperationalError as err:
            db.session.rollback()
            if not _is_full(err) or not give_back():
                raise
            log.error("the disk is full; a piece of the reserve was given back to record how a run ended")


def refill() -> None:
    """Make what is missing of the reserve, unless that would take the last room. Does nothing on PostgreSQL."""
    for piece in _pieces():
        if not piece.exists() and _free(piece.parent) >= 2 * PIECE:
            _make(piece)


def give_back() -> bool:
    """Remove one piece of the reserve, and say whether there was one."""
    for piece in _pieces():
        with contextlib.suppress(FileNotFoundError):
            piece.unlink()
            return True
    return False


def pieces_left() -> int | None:
    """Return how many pieces of the reserve there are; None on PostgreSQL, which has none."""
    pieces = _pieces()
    return sum(piece.exists() for piece in pieces) if pieces else None


def _pieces() -> list[Path]:
    settings: Settings = current_app.config["SKSTACK"]
    if settings.is_postgresql:
        return []
    folder = Path(settings.url.removeprefix("sqlite:///")).parent
    return [folder / f"reserve.{number}" for number in range(PIECES)]


def _make(piece: Path) -> None:
    draft = piece.with_name(f".{piece.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, PIECE)
        draft.rename(piece)
    except OSError as err:
        log.warning("no reserve could be made at %s: %s", piece, err)
        draft.unlink(missing_ok=True)


def _free(folder: Path) -> int:
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


def _is_full(err: OperationalError) -> bool:
    return isinstance(err.orig, sqlite3.Error) and err.orig.sqlite_errorname.startswith(_FULL)
