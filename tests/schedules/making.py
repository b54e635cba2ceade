"""Schedules for tests, and the moments at which workers look: to be used within an application context."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa

from skstack.accounts.models import User
from skstack.catalog.models import WorkOrder
from skstack.extensions import db
from skstack.schedules import occurrences, planning, recurring
from skstack.schedules.models import Occurrence, Schedule
from skstack.tickets.models import Ticket
from tests.factories import alice
from tests.orders import make_workorder

HOUR, MINUTE = dt.timedelta(hours=1), dt.timedelta(minutes=1)
HOURLY = "0 * * * *"


def make_schedule(owner: User | None = None, workorder: WorkOrder | None = None, **given: Any) -> Schedule:
    """Return a new schedule: hourly and Alice's, unless something else is said."""
    fields = {"name": "hourly", "expression": HOURLY, "timezone": "UTC", "values": {}, **given}
    order = workorder or make_workorder(scheduling=True)
    return recurring.create(actor=owner or alice(), workorder=order, **fields)


def take(now: dt.datetime, looked_at: dt.datetime | None = None) -> int:
    """Look for what is due, as a worker does at `now`."""
    return planning.take_due(now, grace=HOUR, looked_at=looked_at)


def submit_all(now: dt.datetime) -> None:
    """Do what the queue was asked to do for all times that are due."""
    for number in db.session.scalars(sa.select(Occurrence.id).where(Occurrence.outcome == "due")).all():
        occurrences.submit(number, now, patience=MINUTE)


def pass_time(now: dt.datetime, looked_at: dt.datetime | None = None) -> None:
    """Look, and submit what was found."""
    take(now, looked_at)
    submit_all(now)
    db.session.expire_all()


def next_of(schedule: Schedule) -> dt.datetime:
    db.session.expire_all()
    assert schedule.next_at is not None
    return schedule.next_at


def results(schedule: Schedule) -> list[tuple[str, str]]:
    """Return what became of a schedule's times, oldest first, and why."""
    db.session.expire_all()
    rows = db.session.scalars(
        sa.select(Occurrence).where(Occurrence.schedule_id == schedule.id).order_by(Occurrence.id)
    )
    return [(row.outcome, str(row.reason_message or "")) for row in rows]


def tickets() -> list[Ticket]:
    return list(db.session.scalars(sa.select(Ticket).order_by(Ticket.id)))
