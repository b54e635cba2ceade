"""Making an instance from a backup."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import Flask

import skstack
from skstack import migrating
from skstack.backups import tables
from skstack.backups.archive import POSTGRESQL, SQLITE, SQLITE_MEMBER, BackupUnusable, unpack
from skstack.backups.settling import Settled, settle
from skstack.config import Settings
from skstack.crypto import sync_folder
from skstack.errors import Conflict
from skstack.extensions import db
from skstack.messages import N_

# What an instance that is used has rows in.
_USED = (
    "tickets",
    "workorders",
    "environments",
    "categories",
    "variables",
    "variable_groups",
    "config_centers",
    "groups",
    "roles",
    "approval_flows",
    "freeze_windows",
    "schedules",
    "notification_targets",
)


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
