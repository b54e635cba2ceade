"""Reads about notifications and targets."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import joinedload

from skstack.accounts.models import User
from skstack.catalog.models import ApprovalFlow
from skstack.errors import NotFound
from skstack.extensions import db
from skstack.notifications.models import Delivery, Notification, Target
from skstack.tickets.models import Ticket
from skstack.web.pagination import Paged, paged


def told(user: User, *, after: int | None, limit: int) -> Paged[Notification]:
    """Return what a user was told, newest first. Needs one statement."""
    statement = sa.select(Notification).where(Notification.user_id == user.id)
    light = joinedload(Notification.ticket).load_only(
        Ticket.id, Ticket.workorder_name, Ticket.environment_name
    )
    return paged(statement.options(light), Notification.id, after=after, limit=limit)


def unread_count(user: User) -> int:
    """Return how much of it the user has not read. Needs one statement."""
    return (
        db.session.scalar(
            sa.select(sa.func.count()).where(Notification.user_id == user.id, Notification.read_at.is_(None))
        )
        or 0
    )


def notification(number: int, user: User) -> Notification:
    """Return one notification. Raises NotFound if it is another's."""
    found = db.session.get(Notification, number)
    if found is None or found.user_id != user.id:
        raise NotFound
    return found


def targets(owner: User | ApprovalFlow) -> Sequence[Target]:
    """Return the targets of a user or a flow, by name."""
    return db.session.scalars(_of(owner).order_by(Target.name, Target.id)).all()


def target(number: int, owner: User | ApprovalFlow) -> Target:
    """Return one target. Raises NotFound if it is another's."""
    found = db.session.scalars(_of(owner).where(Target.id == number)).one_or_none()
    if found is None:
        raise NotFound
    return found


def last_deliveries(owner: User | ApprovalFlow, *, limit: int = 10) -> Sequence[Delivery]:
    """Return what was sent to an owner's targets last. Needs one statement."""
    statement = (
        sa.select(Delivery)
        .join(Delivery.target)
        .where(Target.user_id == owner.id if isinstance(owner, User) else Target.flow_id == owner.id)
        .options(joinedload(Delivery.target))
        .order_by(Delivery.id.desc())
        .limit(limit)
    )
    return db.session.scalars(statement).all()


def _of(owner: User | ApprovalFlow) -> sa.Select[Target]:
    return sa.select(Target).where(
        Target.user_id == owner.id if isinstance(owner, User) else Target.flow_id == owner.id
    )
