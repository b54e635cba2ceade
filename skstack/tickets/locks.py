"""What of one's own or of others is in the way of a ticket: the task lock, and the limit to one ticket per person.

The lock allows one ticket of a work order's name in an environment, until that one has ended.
"""

from __future__ import annotations

import sqlalchemy as sa

from skstack.accounts.models import User
from skstack.catalog.models import WorkOrder
from skstack.errors import Conflict
from skstack.extensions import db
from skstack.messages import N_
from skstack.states import TicketStatus
from skstack.tickets.models import TaskLock, Ticket


def take(ticket: Ticket) -> None:
    """Give the lock to a new ticket, in the transaction under way. Raises Conflict, with the ticket in the way.

    IntegrityError if another process takes it in the same moment: then `refusal` says who did.
    """
    if holder := holder_of(ticket.environment_id, ticket.workorder_name):
        raise _in_the_way(ticket.workorder_name, holder)
    db.session.add(
        TaskLock(
            environment_id=ticket.environment_id, workorder_name=ticket.workorder_name, ticket_id=ticket.id
        )
    )
    db.session.flush()


def refusal(workorder: WorkOrder) -> Conflict:
    """Return the refusal for a lock that somebody else took in the same moment."""
    holder = holder_of(workorder.environment_id, workorder.name)
    if holder is None:
        return Conflict(N_("Somebody submitted the same in this moment. Try again."))
    return _in_the_way(workorder.name, holder)


def in_the_way(workorder: WorkOrder) -> Conflict | None:
    """Return what a submission would be refused with now; None if there is no lock, or nobody holds it."""
    holder = holder_of(workorder.environment_id, workorder.name) if workorder.task_lock else None
    return _in_the_way(workorder.name, holder) if holder else None


def own_in_the_way(workorder: WorkOrder, actor: User) -> Conflict | None:
    """Return what a submission of `actor` is refused with if they may have only one of this work order, and have one."""
    if workorder.allow_several:
        return None
    found = db.session.scalars(
        sa.select(Ticket.id).where(
            Ticket.workorder_id == workorder.id,
            Ticket.submitter_id == actor.id,
            Ticket.status.in_([state for state in TicketStatus if not state.is_final]),
        )
    ).first()
    if found is None:
        return None
    return Conflict(
        N_(
            "You may have one ticket of %(name)s at a time, and ticket %(id)s has not ended.",
            name=workorder.name,
            id=found,
        ),
        ticket=found,
    )


def holder_of(environment_id: int, name: str) -> int | None:
    """Return the ticket that holds the lock of a work order's name in an environment."""
    statement = sa.select(TaskLock.ticket_id).where(
        TaskLock.environment_id == environment_id, TaskLock.workorder_name == name
    )
    return db.session.scalars(statement).first()


def _in_the_way(name: str, ticket_id: int) -> Conflict:
    return Conflict(
        N_("%(name)s allows one ticket at a time, and ticket %(id)s has not ended.", name=name, id=ticket_id),
        ticket=ticket_id,
    )
