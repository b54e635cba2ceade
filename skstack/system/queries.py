"""How skstack is doing: workers, queue, storage, retention, backup, database. Read by the system page and by `/metrics`."""

from __future__ import annotations

import datetime as dt
import json
import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from skstack.config import Settings
from skstack.db import utcnow
from skstack.extensions import db, queue
from skstack.runs import looks, reserve
from skstack.runs.models import Run, Worker
from skstack.states import MOST_LEVELS, WAITING, RunState
from skstack.system import checks
from skstack.tickets.models import Ticket, TicketLevel

BACKUP_FILE = "last-backup.json"
"""In the instance folder, written by each backup that succeeded: `at`, `bytes`, `file`."""

LONG_QUEUED = dt.timedelta(minutes=1)
LONG_WITHOUT_LOOK = dt.timedelta(minutes=30)
LONG_WITHOUT_BACKUP = dt.timedelta(days=2)
LITTLE_FREE = 1 << 30

# Workers that ended, or were lost, are of interest for as long; those that hold runs always.
_RECENT = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class WorkerState:
    """One worker, whether its lease holds, and how many running runs are its own."""

    worker: Worker
    is_alive: bool
    runs: int


def workers(settings: Settings) -> list[WorkerState]:
    """Return the workers that live, and those lost a short while ago or with runs left. Needs one statement."""
    since = checks.alive_since(settings)
    held = (
        sa.select(Run.worker_id, sa.func.count().label("runs"))
        .where(Run.state == RunState.RUNNING)
        .group_by(Run.worker_id)
        .subquery()
    )
    runs = sa.func.coalesce(held.c.runs, 0)
    statement = (
        sa.select(Worker, runs)
        .outerjoin(held, held.c.worker_id == Worker.id)
        .where(sa.or_(runs > 0, sa.and_(Worker.stopped_at.is_(None), Worker.seen_at > utcnow() - _RECENT)))
        .order_by(Worker.id.desc())
        .execution_options(populate_existing=True)
    )
    return [
        WorkerState(worker, worker.stopped_at is None and worker.seen_at > since, count)
        for worker, count in db.session.execute(statement)
    ]


@dataclass(frozen=True, slots=True)
class QueueState:
    """What waits: messages, those for later, and runs that no worker has taken; with when the oldest came."""

    messages: int
    later: int
    oldest_message_at: dt.datetime | None
    runs: int
    oldest_run_at: dt.datetime | None

    def is_slow(self, now: dt.datetime) -> bool:
        return any(
            at is not None and now - at > LONG_QUEUED for at in (self.oldest_message_at, self.oldest_run_at)
        )


def queued() -> QueueState:
    """Return what waits for a worker. Needs one statement, and three of the queue's own."""
    count, oldest = db.session.execute(
        sa.select(sa.func.count(), sa.func.min(Run.queued_at)).where(Run.state == RunState.QUEUED)
    ).one()
    return QueueState(
        queue.pending_count(), queue.scheduled_count(), queue.oldest_message_at(), count, oldest
    )


def oldest_undecided() -> dt.datetime | None:
    """Return when the ticket was submitted that waits for an approval for the longest time. Needs one statement."""
    waits = sa.or_(
        *(
            sa.and_(Ticket.status == status, TicketLevel.level == status.level + 1)
            for status in WAITING
            if status.level < MOST_LEVELS
        )
    )
    statement = sa.select(sa.func.min(Ticket.created_at)).join(
        TicketLevel, TicketLevel.ticket_id == Ticket.id
    )
    return db.session.scalar(statement.where(waits))


class Storage:
    """Where output is kept: how much there is, and how much room is left on this host."""

    def __init__(self, settings: Settings, output: Any) -> None:
        """`output` is the note of how much there is; None before the first."""
        room = os.statvfs(settings.instance)
        self.folder = settings.instance
        self.free = room.f_bavail * room.f_frsize
        self.total = room.f_blocks * room.f_frsize
        self.counted_at: dt.datetime | None = output.at if output else None
        self.runs: int = output.found["runs"] if output else 0
        self.bytes: int = output.found["bytes"] if output else 0
        self.reserve = reserve.pieces_left()
        self.whole_reserve = reserve.PIECES
        self.is_writable = checks.can_write(settings)

    @property
    def is_low(self) -> bool:
        return self.free < LITTLE_FREE


@dataclass(frozen=True, slots=True)
class Retention:
    """When the retention rule was last looked after, and what it cleared the last time that it cleared anything."""

    at: dt.datetime | None
    cleared_at: dt.datetime | None
    runs: int
    bytes: int

    @classmethod
    def of(cls, look: Any) -> Retention:
        if look is None:
            return cls(None, None, 0, 0)
        found = look.found
        cleared_at = dt.datetime.fromisoformat(found["cleared_at"]) if found else None
        return cls(look.at, cleared_at, found.get("runs", 0), found.get("bytes", 0))

    def is_late(self, now: dt.datetime) -> bool:
        return self.at is None or now - self.at > LONG_WITHOUT_LOOK


@dataclass(frozen=True, slots=True)
class Backup:
    """The last backup that succeeded."""

    at: dt.datetime
    bytes: int
    file: str

    def is_old(self, now: dt.datetime) -> bool:
        return now - self.at > LONG_WITHOUT_BACKUP


def last_backup(settings: Settings) -> Backup | None:
    """Return the last backup; None if there was none, or if what it left cannot be read."""
    try:
        told = json.loads((settings.instance / BACKUP_FILE).read_text(encoding="utf-8"))
        at = dt.datetime.fromisoformat(told["at"])
        return Backup(at if at.tzinfo else at.replace(tzinfo=dt.UTC), int(told["bytes"]), str(told["file"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class Database:
    """The database: its kind, version and size in bytes, and the migration that it is at."""

    kind: str
    version: str
    bytes: int
    revisions: frozenset[str]

    @property
    def is_current(self) -> bool:
        return self.revisions == checks.heads()


def database(settings: Settings) -> Database:
    """Describe the database. Needs four statements."""
    found = frozenset(checks.revisions())
    if settings.is_postgresql:
        version = db.session.scalar(sa.text("SHOW server_version"))
        size = db.session.scalar(sa.text("SELECT pg_database_size(current_database())"))
        return Database("PostgreSQL", str(version).partition(" ")[0], int(size or 0), found)
    version = db.session.scalar(sa.text("SELECT sqlite_version()"))
    return Database("SQLite", str(version), _sqlite_bytes(settings), found)


def _sqlite_bytes(settings: Settings) -> int:
    path = settings.url.removeprefix("sqlite:///")
    return sum(os.stat(path + end).st_size for end in ("", "-wal") if os.path.exists(path + end))


class State:
    """Everything at once, each part asked for when it is first looked at."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.now = utcnow()

    @cached_property
    def workers(self) -> list[WorkerState]:
        return workers(self._settings)

    @property
    def alive(self) -> list[WorkerState]:
        return [one for one in self.workers if one.is_alive]

    @cached_property
    def queued(self) -> QueueState:
        return queued()

    @cached_property
    def storage(self) -> Storage:
        return Storage(self._settings, self._looks.get(looks.OUTPUT))

    @cached_property
    def retention(self) -> Retention:
        return Retention.of(self._looks.get(looks.RETENTION))

    @cached_property
    def backup(self) -> Backup | None:
        return last_backup(self._settings)

    @cached_property
    def database(self) -> Database:
        return database(self._settings)

    @cached_property
    def _looks(self) -> dict[str, Any]:
        return looks.all_of_them()
