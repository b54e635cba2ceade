"""Starting what is due: planned tickets, and those that were only held up by a freeze window.

The database says what is due. The queue's schedule rings at the planned second, and the sweep of every worker finds
what nobody rang for. Whoever is first starts it; for all others the ticket does not wait any more.
"""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any

import sqlalchemy as sa

from skstack.catalog import freezing
from skstack.db import transaction
from skstack.errors import Conflict
from skstack.extensions import db
from skstack.messages import N_, Message
from skstack.states import WAITING, TicketStatus
from skstack.tickets import status
from skstack.tickets.models import BACKGROUND, Ticket
from skstack.tickets.starting import start_main

log = logging.getLogger(__name__)


def start_due(now: dt.datetime, *, grace: dt.timedelta, looked_at: dt.datetime | None = None) -> int:
    """Start every ticket whose time has come, and return how many were.

    One that is late by more than `grace` is ended as missed, unless its time came after `looked_at`, when this was last
    done: then somebody was there all along, and a clock that was set forward is no reason to forget it.
    """
    started = 0
    for ticket_id in db.session.scalars(_due(now).order_by(Ticket.scheduled_at, Ticket.id)).all():
        try:
            started += start_if_due(ticket_id, now, grace=grace, looked_at=looked_at)
        except Conflict as err:
            log.info("ticket %s is not started: %s", ticket_id, err)
    return started


def start_if_due(
    ticket_id: int, now: dt.datetime, *, grace: dt.timedelta, looked_at: dt.datetime | None = None
) -> bool:
    """Start one ticket if its time has come and nothing else is missing, and say whether it was.

    Raises Conflict if somebody else did something to it in this moment.
    """
    # A look first: the sweep and a message often come to the same ticket, and only one needs to write.
    if db.session.scalars(_due(now).where(Ticket.id == ticket_id)).first() is None:
        return False
    with transaction():
        ticket = db.session.get(Ticket, ticket_id, populate_existing=True)
        if ticket is None or not ticket.state.waits or ticket.kind != BACKGROUND:
            return False
        planned = ticket.scheduled_at
        if planned is not None and planned > now:
            return False
        thawed = freezing.thawed_at(ticket.environment_id, planned or now)
        if thawed > now or (planned is None and not ticket.is_approved):
            return False
        seen = looked_at is not None and thawed > looked_at
        if planned is not None and now - thawed > grace and not seen:
            status.become(ticket, TicketStatus.FAILED, reason=_missed(ticket))
            return False
        if not ticket.is_approved:
            return False
        start_main(ticket, reason=N_("Its time has come.") if planned else N_("The freeze window is over."))
        return True


def pass_over(now: dt.datetime, *, reason: Message) -> int:
    """End what is approved and due as unknown instead of starting it, and return how many tickets that were."""
    passed = 0
    for ticket_id in db.session.scalars(_due(now).order_by(Ticket.id)).all():
        with transaction():
            ticket = db.session.get_one(Ticket, ticket_id, populate_existing=True)
            thawed = freezing.thawed_at(ticket.environment_id, ticket.scheduled_at or now)
            if ticket.is_approved and thawed <= now:
                status.become(ticket, TicketStatus.UNKNOWN, reason=reason)
                passed += 1
    return passed


def _due(now: dt.datetime) -> sa.Select[Any]:
    return sa.select(Ticket.id).where(
        Ticket.status.in_(WAITING),
        Ticket.kind == BACKGROUND,
        sa.or_(Ticket.scheduled_at.is_(None), Ticket.scheduled_at <= now),
    )


def _missed(ticket: Ticket) -> Message:
    if ticket.is_approved:
        return N_(
            "Missed: no worker was there at its planned time %(planned)s, nor in the time after it in which it may still "
            "start. Nothing was run; submit it again.",
            planned=ticket.scheduled_at,
        )
    return N_(
        "Missed: nobody approved it by its planned time %(planned)s, nor in the time after it in which it may still "
        "start. Nothing was run; submit it again.",
        planned=ticket.scheduled_at,
    )
