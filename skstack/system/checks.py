"""Whether skstack can do its work: what `/readyz` asks, and the system page too."""

from __future__ import annotations

import datetime as dt
import os
import re
from functools import cache

import sqlalchemy as sa

from skstack.config import ROOT, Settings
from skstack.db import utcnow
from skstack.extensions import db
from skstack.runs import reserve
from skstack.runs.models import Worker

NEEDED = reserve.PIECES * reserve.PIECE
"""Bytes that must be free in the instance folder: with less, no output is stored."""

_REVISION = re.compile(r"""^revision(?:: \w+)? = ["'](\w+)["']""", re.MULTILINE)
_DOWN_REVISION = re.compile(r"""^down_revision.* = ["'](\w+)["']""", re.MULTILINE)


def revisions() -> set[str]:
    """Return the migrations that the database is at; nothing if it was never migrated. Needs two statements."""
    if not sa.inspect(db.session.connection()).has_table("alembic_version"):
        return set()
    return set(db.session.scalars(sa.text("SELECT version_num FROM alembic_version")))


@cache
def heads() -> set[str]:
    """Return the newest migrations: those that none comes after. Read without Alembic, which is 14 MB to load."""
    found = [file.read_text(encoding="utf-8") for file in (ROOT / "migrations" / "versions").glob("*.py")]
    known = {match[1] for text in found for match in _REVISION.finditer(text)}
    return known - {match[1] for text in found for match in _DOWN_REVISION.finditer(text)}


def alive_since(settings: Settings) -> dt.datetime:
    """Return the time after which a living worker gave a sign. Hosts' clocks may differ by a lease."""
    return utcnow() - dt.timedelta(seconds=2 * settings.lease)


def a_worker_lives(settings: Settings) -> bool:
    """Say whether a worker gave a sign of life within its lease. Needs one statement."""
    living = sa.select(Worker.id).where(Worker.stopped_at.is_(None), Worker.seen_at > alive_since(settings))
    return db.session.scalars(living.limit(1)).first() is not None


def can_write(settings: Settings) -> bool:
    """Say whether the instance folder can be written to and has the room that is needed."""
    try:
        return os.access(settings.instance, os.W_OK | os.X_OK) and free_bytes(settings) >= NEEDED
    except OSError:
        return False


def free_bytes(settings: Settings) -> int:
    """Return how much room the instance folder has. Raises OSError if it is gone."""
    room = os.statvfs(settings.instance)
    return room.f_bavail * room.f_frsize
