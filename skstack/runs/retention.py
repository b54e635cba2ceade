"""The retention rule: output that is too old, or too much of a category, is cleared. What happened stays known.

Only the bytes that were printed go. Steps, exit codes, times and the audit trail are kept; a background ticket whose
output is gone says so as its job status, DONE.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Iterator

import sqlalchemy as sa
from flask import current_app

from skstack.audit.services import Action, record
from skstack.catalog.models import Category
from skstack.config import Settings
from skstack.db import transaction, utcnow
from skstack.errors import Conflict
from skstack.extensions import db
from skstack.messages import N_
from skstack.runner.protocol import OUTPUT_FILE
from skstack.runs import looks
from skstack.runs.models import Run
from skstack.states import JobStatus, RunState
from skstack.tickets import status as ticket_status
from skstack.tickets.models import Ticket

log = logging.getLogger(__name__)

EVERY = 600.0
"""Seconds between two looks of one worker."""

MEGABYTE = 1 << 20
_ENDED = [state for state in RunState if state.is_final]
# Bytes of a run that was cleared may be left if the worker was killed in between; this long they are looked for.
_LEFT_BEHIND = dt.timedelta(days=2)

_next_look = 0.0


def sweep() -> None:
    """Clear what is too much, if the last look was long enough ago."""
    global _next_look  # noqa: PLW0603 - a worker is one process, and looks in one thread
    if time.monotonic() < _next_look:
        return
    _next_look = time.monotonic() + EVERY
    now = utcnow()
    cleared = clear_old(now)
    looks.note_clearing(now, cleared)
    looks.note_output(now)
    if cleared:
        log.info("the output of %s runs was cleared by the retention rule", cleared)


def clear_old(now: dt.datetime) -> int:
    """Clear the output of every run that the rules do not keep, and return how many there were."""
    cleared = 0
    for category_id, days, size in _rules():
        found = set(_too_old(category_id, now - dt.timedelta(days=days))) if days else set()
        if size:
            found |= set(_too_much(category_id, size))
        for run_id in sorted(found):
            cleared += _clear(run_id, now)
    _remove_left_behind(now)
    return cleared


def _rules() -> Iterator[tuple[int | None, int, int]]:
    """Yield each category, None for what has none, with its days and bytes; 0 for no limit."""
    settings: Settings = current_app.config["SKSTACK"]
    yield None, settings.retention_days, settings.retention_size
    for category in db.session.scalars(sa.select(Category)).all():
        days, megabytes = category.retention_days, category.retention_megabytes
        yield (
            category.id,
            settings.retention_days if days is None else days,
            settings.retention_size if megabytes is None else megabytes * MEGABYTE,
        )


def _with_output(category_id: int | None) -> sa.Select[int, int | None]:
    """Select the runs of ended tickets that still have their output. A ticket's runs go together, at its end."""
    return (
        sa.select(Run.id, Run.stored_bytes)
        .join(Run.ticket)
        .where(
            Ticket.category_id == category_id if category_id is not None else Ticket.category_id.is_(None),
            Ticket.finished_at.is_not(None),
            Run.state.in_(_ENDED),
            Run.output_cleared_at.is_(None),
        )
    )


def _too_old(category_id: int | None, before: dt.datetime) -> list[int]:
    return list(db.session.scalars(_with_output(category_id).where(Ticket.finished_at < before)))


def _too_much(category_id: int | None, size: int) -> list[int]:
    """Return the oldest runs whose output goes beyond `size` bytes, counted from the newest back."""
    kept, found = 0, []
    for run_id, stored in db.session.execute(_with_output(category_id).order_by(Run.id.desc())):
        kept += stored or 0
        if kept > size and stored:
            found.append(run_id)
    return found


def _clear(run_id: int, now: dt.datetime) -> bool:
    """Write down that a run's output is cleared, then remove it. False if another worker did."""
    with transaction():
        done = db.session.execute(
            sa.update(Run)
            .where(Run.id == run_id, Run.output_cleared_at.is_(None))
            .values(output_cleared_at=now)
            .execution_options(synchronize_session=False)
        ).rowcount  # type: ignore[attr-defined]  # a CursorResult, for an UPDATE
        if not done:
            return False
        run = db.session.get_one(Run, run_id, populate_existing=True)
        record(
            Action.OUTPUT_CLEARED,
            actor=None,
            object_type="run",
            object_id=run.id,
            object_name=run.task,
            ticket=run.ticket_id,
            bytes=run.stored_bytes,
        )
        _end_job(run.ticket)
    _remove(run)
    return True


def _end_job(ticket: Ticket) -> None:
    if ticket.job_state not in (JobStatus.SUCCESS, JobStatus.FAILURE):
        return
    left = sa.select(Run.id).where(Run.ticket_id == ticket.id, Run.output_cleared_at.is_(None)).limit(1)
    if db.session.scalar(left) is None:
        try:
            ticket_status.job_becomes(ticket, JobStatus.DONE, reason=N_("Its output was cleared."))
        except Conflict:
            log.info("ticket %s was already done", ticket.id)


def _remove(run: Run) -> None:
    try:
        (run.directory / OUTPUT_FILE).unlink(missing_ok=True)
    except OSError as err:
        log.warning("the output of run %s could not be removed: %s", run.id, err)


def _remove_left_behind(now: dt.datetime) -> None:
    statement = sa.select(Run).where(Run.output_cleared_at > now - _LEFT_BEHIND)
    for run in db.session.scalars(statement):
        _remove(run)
