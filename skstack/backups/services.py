"""Making a backup while everything goes on."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import json
import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa

import skstack
from skstack.audit.services import Action, record
from skstack.backups import tables
from skstack.backups.archive import POSTGRESQL, SQLITE, SQLITE_MEMBER, Writer, may_hold
from skstack.config import Settings
from skstack.crypto import KEY_FILES, sync_folder
from skstack.db import transaction, utcnow
from skstack.extensions import db
from skstack.runs.models import Run

LAST_BACKUP = "last-backup.json"
# What was cleared may be committed this much later.
_LATE_COMMIT = dt.timedelta(seconds=2)


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
