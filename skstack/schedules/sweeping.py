"""The worker's regular look for what is due, whether or not the queue rang for it."""

from __future__ import annotations

import datetime as dt
import logging

from flask import current_app

from skstack.approvals.services import expire_overdue
from skstack.config import Settings
from skstack.db import utcnow
from skstack.errors import Conflict
from skstack.schedules import occurrences, planning, services

log = logging.getLogger(__name__)

# When this process looked last, by the clock as it was then. None until it has.
_looked_at: dt.datetime | None = None


def sweep() -> None:
    """Start what is due and end what nobody decided in time."""
    global _looked_at  # noqa: PLW0603 - a worker is one process, and looks in one thread
    now, settings = utcnow(), _settings()
    services.start_due(now, grace=_grace(), looked_at=_looked_at)
    if _looked_at is None:
        occurrences.give_up(now, grace=_grace())
    planning.take_due(now, grace=_grace(), looked_at=_looked_at)
    sweep = dt.timedelta(seconds=settings.sweep)
    occurrences.ring_forgotten(now, older_than=sweep, patience=_patience())
    expire_overdue(now)
    _looked_at = now


def start(ticket_id: int) -> None:
    """Start one ticket if it is due: its time has come, says the queue."""
    try:
        services.start_if_due(ticket_id, utcnow(), grace=_grace(), looked_at=_looked_at)
    except Conflict as err:
        log.info("ticket %s is not started: %s", ticket_id, err)


def take(schedule_id: int) -> None:
    """Take the time of a schedule if one has come."""
    try:
        planning.take_if_due(schedule_id, utcnow(), grace=_grace(), looked_at=_looked_at)
    except Conflict as err:
        log.info("schedule %s is left to whoever was quicker: %s", schedule_id, err)


def submit(occurrence_id: int) -> None:
    """Submit a time of a schedule that was taken."""
    occurrences.submit(occurrence_id, utcnow(), patience=_patience())


def _grace() -> dt.timedelta:
    return dt.timedelta(seconds=_settings().schedule_grace)


def _patience() -> dt.timedelta:
    """Return after which time whoever began to submit something must have been lost: scripts are stopped before."""
    return dt.timedelta(seconds=2 * _settings().script_timeout + _settings().lease)


def _settings() -> Settings:
    settings: Settings = current_app.config["SKSTACK"]
    return settings
