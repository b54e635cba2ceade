"""The one writer of a ticket's status."""

from __future__ import annotations

from skstack.accounts.models import User
from skstack.audit.services import Action, record
from skstack.db import compare_and_set, utcnow
from skstack.errors import Conflict
from skstack.extensions import db
from skstack.messages import N_, Message
from skstack.states import TicketStatus
from skstack.tickets.models import Ticket, TicketChange


def begin(ticket: Ticket, *, status: TicketStatus, actor: User) -> None:
    """Add a new ticket with its first status, which is SUBMITTED or RUNNING."""
    if status not in (TicketStatus.SUBMITTED, TicketStatus.RUNNING):
        raise ValueError(f"a ticket cannot begin as {status}")
    ticket.status = status
    db.session.add(ticket)
    db.session.flush()
    db.session.add(TicketChange(ticket_id=ticket.id, before=None, after=status, actor_id=actor.id))
    record(
        Action.SUBMITTED,
        actor=actor,
        object_type="ticket",
        object_id=ticket.id,
        object_name=ticket.workorder_name,
        values=ticket.values,
        note=ticket.note,
        plan_digest=ticket.plan_digest,
        status=str(status),
    )


def become(
    ticket: Ticket, to: TicketStatus, *, actor: User | None = None, reason: Message | None = None
) -> None:
    """Change the status, with its row in the history and its audit event.

    Raises Conflict if the ticket is not where this change can be made from, or somebody changed it meanwhile.
    """
    before = ticket.state
    ended = {"finished_at": utcnow()} if to.is_final else {}
    if not before.may_become(to) or not compare_and_set(
        Ticket.status, ticket.id, expected=before, to=to, **ended
    ):
        raise Conflict(
            N_("Ticket %(id)s is %(status)s now.", id=ticket.id, status=ticket.state.label), ticket=ticket.id
        )
    stored = reason.to_json() if reason else None
    db.session.add(
        TicketChange(
            ticket_id=ticket.id, before=before, after=to, actor_id=actor.id if actor else None, reason=stored
        )
    )
    record(
        Action.STATUS_CHANGED,
        actor=actor,
        object_type="ticket",
        object_id=ticket.id,
        object_name=ticket.workorder_name,
        before=str(before),
        after=str(to),
        reason=str(reason) if reason else None,
    )
