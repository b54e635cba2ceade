"""Making a backup while everything goes on, and making an instance from one."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import json
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import Flask

import skstack
from skstack import migrating
from skstack.audit.services import Action, record
from skstack.backups import tables
from skstack.backups.archive import SQLITE_MEMBER, BackupUnusable, Writer, may_hold, unpack
from skstack.backups.settling import Settled, settle
from skstack.config import Settings
from skstack.crypto import KEY_FILES, sync_folder
from skstack.db import transaction, utcnow
from skstack.errors import Conflict
from skstack.extensions import db
from skstack.messages import N_
from skstack.runs.models import Run

LAST_BACKUP = "last-backup.json"
# What was cleared may be committed this much later.
_LATE_COMMIT = dt.timedelta(seconds=2)
# What an instance that is used has rows in.
_USED = (
    *(
        "tickets",
        "workorders",
        "environments",
        "categories",
        "variables",
        "variable_groups",
        "config_centers",
    ),
    *("groups", "roles", "approval_flows", "freeze_windows", "schedules", "notification_targets"),
)
SQLITE, POSTGRESQL = "sqlite", "postgresql"


def backup(file: Path, *, settings: Settings) -> int:
    """Write everything of the instance into a new file, readable by its owner only, and return its size in bytes.

    Nobody is disturbed: the database is read as it is at one moment, outputs up to where they are. The file holds the
    keys. Raises FileExistsError, OSError.
    """
    if file.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(file))
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        while not _write_whole(draft, settings):
            draft.unlink()
        _publish(draft, file)
    finally:
        draft.unlink(missing_ok=True)
    size = file.stat().st_size
    with transaction():
        record(Action.BACKED_UP, actor=None, object_type="instance", file=str(file.resolve()), bytes=size)
    told = {"at": utcnow().isoformat().replace("+00:00", "Z"), "bytes": size, "file": str(file.resolve())}
    note = settings.instance / f"{LAST_BACKUP}.new"
    note.write_text(json.dumps(told) + "\n", encoding="utf-8")
    note.replace(settings.instance / LAST_BACKUP)
    return size


def _publish(draft: Path, file: Path) -> None:
    """Give the finished file its name, and never replace what somebody else wrote meanwhile."""
    try:
        os.link(draft, file)
    except OSError as err:
        # Some file systems have no links.
        if err.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS) or file.exists():
            raise
        draft.rename(file)
    sync_folder(file.parent)


def _write_whole(draft: Path, settings: Settings) -> bool:
    """Write the file, and say whether it holds all outputs: one may be cleared after the database was read."""
    begun_at = utcnow()
    with os.fdopen(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
        _write(Writer(target), settings, draft.parent)
        target.flush()
        os.fsync(target.fileno())
    cleared = sa.select(Run.id).where(Run.output_cleared_at >= begun_at - _LATE_COMMIT).limit(1)
    found = db.session.scalars(cleared).first() is None
    db.session.rollback()
    return found


def _write(archive: Writer, settings: Settings, scratch: Path) -> None:
    facts = {"at": utcnow().isoformat(), "version": skstack.__version__}
    # First the database, then outputs: each run of the snapshot has at least what it had then.
    with tempfile.TemporaryDirectory(prefix=".skstack-backup-", dir=scratch) as folder:
        if settings.is_postgresql:
            facts |= {"database": POSTGRESQL, **tables.copy(archive, Path(folder))}
        else:
            facts |= {"database": SQLITE, **_copy_file(archive, Path(folder))}
    # What else lies there, such as the draft of a rotation, is nobody's key.
    for name in KEY_FILES:
        archive.add_file(f"keys/{name}", settings.instance / "keys" / name)
    if (settings.instance / "config.toml").is_file():
        archive.add_file("config.toml", settings.instance / "config.toml")
    for path in sorted(settings.runs_directory.glob("[1-9]*/[a-z]*")):
        # Drafts begin with a dot, and who runs a run is of no use elsewhere.
        name = f"runs/{path.parent.name}/{path.name}"
        if path.is_file() and path.name != "runner.json" and may_hold(name):
            with contextlib.suppress(FileNotFoundError):  # Cleared by the retention rule in this moment.
                archive.add_file(name, path)
    archive.finish(**facts)


def _copy_file(archive: Writer, folder: Path) -> dict[str, Any]:
    copy = folder / SQLITE_MEMBER
    with (
        closing(sqlite3.connect(str(db.engine.url.database))) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
        revision = target.execute(tables.REVISION).fetchone()[0]
    archive.add_file(SQLITE_MEMBER, copy)
    return {"revision": revision}


def restore(app: Flask, file: Path) -> tuple[dict[str, Any], Settled]:
    """Make the instance of `app`, which must be empty, what the backup holds.

    Returns the backup's manifest, and what was not gone on with. Raises Conflict if something is there already,
    BackupUnusable, OSError. Until everything is in its place a mark in the folder keeps anybody from starting: what
    was left in the middle is taken up by restoring again.
    """
    settings: Settings = app.config["SKSTACK"]
    _check_empty(settings)
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=settings.instance) as unpacked:
        folder = Path(unpacked)
        manifest = unpack(file, folder)
        _check_fits(manifest, settings)
        _mark(settings).touch()
        sync_folder(settings.instance)
        # The keys first, the database last: what it holds is never without what is needed to read it.
        for path in sorted((folder / "keys").iterdir()):
            path.replace(settings.instance / "keys" / path.name)
        # It tells of the trail that was here before.
        (settings.instance / "audit.head").unlink(missing_ok=True)
        if (folder / "config.toml").exists() and not (settings.instance / "config.toml").exists():
            (folder / "config.toml").replace(settings.instance / "config.toml")
        shutil.rmtree(settings.runs_directory)
        (folder / "runs").mkdir(exist_ok=True, mode=0o700)
        (folder / "runs").replace(settings.runs_directory)
        if settings.is_postgresql:
            tables.fill(app, folder, manifest)
        else:
            _place_database(folder / SQLITE_MEMBER)
        sync_folder(settings.instance)
    # With the keys that are there now.
    restored = skstack.create_app(settings)
    with restored.app_context():
        try:
            migrating.upgrade(restored)
            settled = settle(dt.datetime.fromisoformat(str(manifest["at"])))
        finally:
            db.session.remove()
            db.engine.dispose()
    os.sync()  # Keys and outputs too are on the disk before the mark goes.
    _mark(settings).unlink()
    sync_folder(settings.instance)
    return manifest, settled


def check_finished(settings: Settings) -> None:
    """Raise Conflict if a restore was left in the middle: then nobody may start."""
    if _mark(settings).exists():
        raise Conflict(
            N_(
                "A restore into %(instance)s was not finished. Run `restore` again, with the same file.",
                instance=str(settings.instance),
            )
        )


def _mark(settings: Settings) -> Path:
    return settings.instance / "restore.unfinished"


def _place_database(source: Path) -> None:
    """Put the database where the settings want it, which may be another file system."""
    target = Path(str(db.engine.url.database))
    db.engine.dispose()
    draft = target.with_name(f".{target.name}.restored")
    shutil.move(source, draft)
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    for leftover in ("-wal", "-shm"):  # Of another database: SQLite would apply them to this one.
        target.with_name(target.name + leftover).unlink(missing_ok=True)
    draft.replace(target)
    sync_folder(target.parent)


def _check_empty(settings: Settings) -> None:
    """Raise Conflict for an instance with anything in it that somebody could miss.

    One that was made by `init` and not used since is as good as none: it has an administrator and nothing else.
    """
    if _mark(settings).exists():
        return
    try:
        there = not _holds_nothing() or any(settings.runs_directory.iterdir())
    finally:
        db.session.remove()
        db.engine.dispose()
    if there:
        raise Conflict(
            N_(
                "%(instance)s is in use already. A backup is only restored into an empty instance.",
                instance=str(settings.instance),
            )
        )


def _holds_nothing() -> bool:
    if db.engine.dialect.name == "sqlite":
        database = Path(str(db.engine.url.database))
        if not database.exists() or not database.stat().st_size:
            return True
    names = set(sa.inspect(db.engine).get_table_names())
    if not names:
        return True
    if not {"alembic_version", *_USED} <= names:
        return False
    with db.engine.connect() as connection:
        used = any(connection.scalar(sa.text(f"select 1 from {name} limit 1")) for name in _USED)  # noqa: S608 - our own names
        alive = connection.scalar(sa.text("select count(*) from workers where stopped_at is null"))
        people = connection.scalar(sa.text("select count(*) from users")) or 0
    return not used and not alive and people <= 1


def _check_fits(manifest: dict[str, Any], settings: Settings) -> None:
    kind = POSTGRESQL if settings.is_postgresql else SQLITE
    if manifest["database"] != kind:
        raise BackupUnusable(
            N_(
                "The backup is of an instance on %(its)s, and this one is on %(ours)s.",
                its=str(manifest["database"]),
                ours=kind,
            )
        )
    if str(manifest["revision"]) not in migrating.revisions():
        raise BackupUnusable(
            N_(
                "The backup is of a newer version: its database is at %(revision)s. Install that version first.",
                revision=str(manifest["revision"]),
            )
        )
