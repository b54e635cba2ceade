"""The worker's regular look for what is due, whether or not the queue rang for it."""

from __future__ import annotations

import datetime as dt
import logging

from flask import current_app

from skstack.approvals.services import expire_overdue
from skstack.db import utcnow
from skstack.errors import Conflict
from skstack.schedules import services

log = logging.getLogger(__name__)

# When this process looked last, by the clock as it was then. None until it has.
_looked_at: dt.datetime | None = None


def sweep() -> None:
    """Start what is due and end what nobody decided in time."""
    global _looked_at  # noqa: PLW0603 - a worker is one process, and looks in one thread
    now = utcnow()
    services.start_due(now, grace=_grace(), looked_at=_looked_at)
    expire_overdue(now)
    _looked_at = now


def start(ticket_id: int) -> None:
    """Start one ticket if it is due: its time has come, says the queue."""
    try:
        services.start_if_due(ticket_id, utcnow(), grace=_grace(), looked_at=_looked_at)
    except Conflict as err:
        log.info("ticket %s is not started: %s", ticket_id, err)


def _grace() -> dt.timedelta:
    return dt.timedelta(seconds=current_app.config["SKSTACK"].schedule_grace)
