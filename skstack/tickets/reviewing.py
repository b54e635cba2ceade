"""Looking afterwards at starts within a freeze window: somebody who sees everything, and did not do it, comments on it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import defer, joinedload

from skstack.accounts.models import Page, User
from skstack.audit.services import Action, record
from skstack.db import follow, transaction, utcnow
from skstack.errors import Conflict, Invalid, NotAllowed, NotFound
from skstack.extensions import db
from skstack.messages import N_
from skstack.substitution import check_value, normalize
from skstack.tickets.models import BreakGlass, Ticket
from skstack.web.pagination import Paged, paged

LENGTH = 4000


def can_review(broken: BreakGlass, user: User) -> bool:
    """Say whether it is up to this user: they have the audit page, and it was not them."""
    return user.may(Page.AUDIT) and broken.by_id != user.id


def review(broken: BreakGlass, *, actor: User, comment: str) -> None:
    """Note what somebody thinks of a start within a freeze window.

    Raises NotAllowed for those without the audit page and for who did it, Invalid without a comment, Conflict if it was
    reviewed already.
    """
    if not can_review(broken, actor):
        raise NotAllowed(
            N_("A start within a freeze window is reviewed by somebody else who has the audit page.")
        )
    comment = normalize(comment).strip()
    if not 1 <= len(comment) <= LENGTH:
        raise Invalid(
            {"comment": [N_("Say what you think of it, in up to %(most)s characters.", most=LENGTH)]}
        )
    if message := check_value(comment, multiline=True):
        raise Invalid({"comment": [message]})
    reviewed = {"reviewed_by_id": actor.id, "reviewed_at": utcnow(), "review": comment}
    with transaction():
        statement = (
            sa.update(BreakGlass)
            .where(BreakGlass.id == broken.id, BreakGlass.reviewed_at.is_(None))
            .values(reviewed)
            .execution_options(synchronize_session=False)
        )
        if not db.session.execute(statement).rowcount:  # type: ignore[attr-defined]  # a CursorResult, for an UPDATE
            raise Conflict(N_("This was reviewed already."))
        follow(broken, reviewed)
        record(
            Action.GLASS_REVIEWED,
            actor=actor,
            object_type="ticket",
            object_id=broken.ticket_id,
            object_name=broken.ticket.workorder_name,
            window=broken.window_name,
            by=broken.by.username,
            review=comment,
        )


def of_ticket(ticket: Ticket) -> list[BreakGlass]:
    """Return the starts of a ticket within a freeze window, the first first. Needs one statement."""
    statement = sa.select(BreakGlass).where(BreakGlass.ticket_id == ticket.id).order_by(BreakGlass.id)
    people = (joinedload(BreakGlass.by), joinedload(BreakGlass.reviewed_by))
    return list(db.session.scalars(statement.options(*people)))


def one(number: int) -> BreakGlass:
    """Return one start within a freeze window. Raises NotFound if there is none. Needs one statement."""
    found: BreakGlass | None = db.session.scalars(_whole().where(BreakGlass.id == number)).one_or_none()
    if found is None:
        raise NotFound
    return found


def to_review(*, limit: int = 100) -> list[BreakGlass]:
    """Return what nobody has reviewed yet, oldest first. Needs one statement."""
    statement = _whole().where(BreakGlass.reviewed_at.is_(None)).order_by(BreakGlass.id).limit(limit)
    return list(db.session.scalars(statement))


def open_to(user: User) -> list[BreakGlass]:
    """Return what waits for a review that this user may give, oldest first. Needs a statement for those with the page."""
    return [broken for broken in to_review() if can_review(broken, user)] if user.may(Page.AUDIT) else []


def reviewed(*, after: int | None, limit: int) -> Paged[BreakGlass]:
    """Return what was reviewed, newest start first. Needs one statement."""
    return paged(_whole().where(BreakGlass.reviewed_at.is_not(None)), BreakGlass.id, after=after, limit=limit)


def _whole() -> sa.Select[Any]:
    return sa.select(BreakGlass).options(
        joinedload(BreakGlass.ticket).options(defer(Ticket.plan), defer(Ticket.values)),
        joinedload(BreakGlass.by),
        joinedload(BreakGlass.reviewed_by),
    )
