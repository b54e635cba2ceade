"""Notes of when regular things were last done. Workers write them, the system page and monitoring read them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from skstack.db import insert_unless_there, transaction
from skstack.extensions import db
from skstack.runs.models import Look, Run
from skstack.states import RunState

RETENTION, OUTPUT = "retention", "output"

_ENDED = [state for state in RunState if state.is_final]


def note(name: str, at: dt.datetime, found: Mapping[str, Any] | None = None) -> None:
    """Write down that something was done; without `found`, what came of it before stays."""
    values = {"at": at} if found is None else {"at": at, "found": dict(found)}
    with transaction():
        insert_unless_there(Look, {"name": name, "at": at, "found": {}})
        db.session.execute(
            sa.update(Look)
            .where(Look.name == name)
            .values(values)
            .execution_options(synchronize_session=False)
        )


def note_clearing(at: dt.datetime, cleared: int) -> None:
    """Write down that the retention rule was looked after, and what it cleared if that was anything."""
    found = None
    if cleared:
        size = db.session.scalar(sa.select(sa.func.sum(Run.stored_bytes)).where(Run.output_cleared_at == at))
        found = {"cleared_at": at.isoformat(), "runs": cleared, "bytes": int(size or 0)}
    note(RETENTION, at, found)


def note_output(at: dt.datetime) -> None:
    """Write down how much output is stored: of ended runs, as counted when they ended."""
    count, size = db.session.execute(
        sa.select(sa.func.count(), sa.func.sum(Run.stored_bytes)).where(
            Run.state.in_(_ENDED), Run.output_cleared_at.is_(None), Run.stored_bytes > 0
        )
    ).one()
    note(OUTPUT, at, {"runs": count, "bytes": int(size or 0)})


def all_of_them() -> dict[str, Look]:
    """Return the notes by name. Needs one statement."""
    return {
        look.name: look
        for look in db.session.scalars(sa.select(Look), execution_options={"populate_existing": True})
    }
