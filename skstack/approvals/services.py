"""Deciding: approve, reject, change one's mind; and the end of what nobody decided in time."""

from __future__ import annotations

import datetime as dt
import logging

import sqlalchemy as sa

from skstack.accounts.models import User
from skstack.db import transaction, utcnow
from skstack.errors import Conflict, Invalid, NotAllowed
from skstack.extensions import db
from skstack.messages import N_, Message
from skstack.states import WAITING, TicketStatus
from skstack.substitution import check_value, normalize
from skstack.tickets import status
from skstack.tickets.actions import can_approve, can_decide, rejectable_level
from skstack.tickets.models import Decision, Ticket, TicketLevel
from skstack.tickets.starting import go_on_when_approved

log = logging.getLogger(__name__)

COMMENT_LENGTH = 4000
APPROVED, REJECTED = "approved", "rejected"


def approve(ticket: Ticket, *, actor: User, comment: str = "", level: int | None = None) -> None:
    """Agree at the level that waits; after the last one, what runs by itself is started or goes on waiting for its time.

    `level` is the one that the actor saw waiting: Conflict if it is another by now. Raises NotAllowed for who does not
    decide that level, is the submitter or agreed to another level already, Conflict if nothing waits or somebody was
    quicker, Invalid for a comment that is too long.
    """
    comment = checked_comment(comment)
    with transaction():
        _decide(ticket, to_approve(ticket, actor, level), actor, APPROVED, comment)
        if ticket.next_level is None:
            go_on_when_approved(ticket, now=utcnow())


def reject(ticket: Ticket, *, actor: User, comment: str, level: int | None = None) -> None:
    """Say no, with a reason, which ends the ticket: at the level that waits, or at the one decided last.

    `level` is the one that the actor saw waiting, 0 if none was. Raises as `approve`; Conflict too if the system will
    start it by itself, since its last approval is final; Invalid without a comment.
    """
    comment = checked_comment(comment, needed=True)
    with transaction():
        _decide(ticket, to_reject(ticket, actor, level), actor, REJECTED, comment)


def to_approve(ticket: Ticket, actor: User, level: int | None = None) -> TicketLevel:
    """Return the level that the actor may agree to now. Raises as `approve`, which asks the same."""
    waiting = ticket.next_level
    if waiting is None or (level is not None and waiting.level != level):
        raise _decided(ticket)
    if not can_approve(ticket, waiting, actor):
        raise _not_theirs(ticket, waiting, actor)
    return waiting


def to_reject(ticket: Ticket, actor: User, level: int | None = None) -> TicketLevel:
    """Return the level at which the actor may say no now. Raises as `reject`, which asks the same."""
    found = rejectable_level(ticket, actor)
    if found is None:
        raise _not_rejectable(ticket, actor)
    if level is not None and level != (ticket.next_level.level if ticket.next_level else 0):
        raise _decided(ticket)
    return found


def checked_comment(comment: str, *, needed: bool = False) -> str:
    """Return a comment as it is stored. Raises Invalid for one that is too long, or missing where it is `needed`."""
    comment = normalize(comment).strip()
    if len(comment) > COMMENT_LENGTH:
        raise Invalid({"comment": [N_("At most %(count)s characters are allowed.", count=COMMENT_LENGTH)]})
    if message := check_value(comment, multiline=True):
        raise Invalid({"comment": [message]})
    if needed and not comment:
        raise Invalid({"comment": [N_("Say why you reject it.")]})
    return comment


def expire_overdue(now: dt.datetime) -> int:
    """Revoke every ticket that nobody decided in the time its flow gives, and return how many there were."""
    overdue = sa.select(Ticket.id).where(
        Ticket.status.in_(WAITING), Ticket.decide_by.is_not(None), Ticket.decide_by <= now
    )
    ended = 0
    for ticket_id in db.session.scalars(overdue).all():
        try:
            ended += _expire(ticket_id)
        except Conflict as err:
            log.info("ticket %s did not expire: %s", ticket_id, err)
    return ended


def _expire(ticket_id: int) -> bool:
    with transaction():
        ticket = db.session.get_one(Ticket, ticket_id, populate_existing=True)
        level = ticket.next_level
        if level is None:
            return False
        status.become(
            ticket,
            TicketStatus.REVOKED,
            reason=N_("%(group)s did not decide in time.", group=level.group_name),
        )
    return True


def _decide(ticket: Ticket, level: TicketLevel, actor: User, decision: str, comment: str) -> None:
    to = TicketStatus.approved(level.level) if decision == APPROVED else TicketStatus.rejected(level.level)
    made = {
        "level": level.level,
        "decision": decision,
        "by_id": actor.id,
        "by_name": actor.username,
        "comment": comment,
        "at": utcnow(),
    }
    try:
        status.become(ticket, to, actor=actor, reason=_quoted(comment), decision=made)
    except Conflict as err:
        raise _decided(ticket) from err
    ticket.decisions.append(Decision(**made))


def _decided(ticket: Ticket) -> Conflict:
    """Return what is the case instead: who decided what, as the database has it now."""
    made = db.session.scalars(
        sa.select(Decision).where(Decision.ticket_id == ticket.id).order_by(Decision.id.desc()).limit(1)
    ).first()
    if made is None:
        return Conflict(
            N_("Ticket %(id)s is %(status)s now.", id=ticket.id, status=ticket.state.label), ticket=ticket.id
        )
    text = (
        N_("Ticket %(id)s was already approved at level %(level)s by %(by)s. It is %(status)s now.")
        if made.decision == APPROVED
        else N_("Ticket %(id)s was already rejected at level %(level)s by %(by)s. It is %(status)s now.")
    )
    values = {"id": ticket.id, "level": made.level, "by": made.by_name, "status": ticket.state.label}
    return Conflict(Message(text.text, values), ticket=ticket.id)


def _not_theirs(ticket: Ticket, level: TicketLevel, actor: User) -> NotAllowed:
    if any(group.id == level.group_id for group in actor.groups):
        if ticket.submitter_id == actor.id and not ticket.allow_self_approval:
            return NotAllowed(N_("You submitted this ticket, so somebody else has to decide it."))
        return NotAllowed(N_("You agreed to another level of this ticket, and each wants another person."))
    return NotAllowed(
        N_(
            "Level %(level)s of ticket %(id)s is decided by %(group)s, and you are not one of them.",
            level=level.level,
            id=ticket.id,
            group=level.group_name,
        )
    )


def _not_rejectable(ticket: Ticket, actor: User) -> Conflict | NotAllowed:
    last = next((one for one in ticket.levels if one.level == ticket.state.level), None)
    if ticket.decision_is_final and last is not None and can_decide(ticket, last, actor):
        return Conflict(
            N_(
                "Ticket %(id)s has its last approval, and starts by itself: that decision is final. Its submitter or an "
                "administrator can revoke it.",
                id=ticket.id,
            ),
            ticket=ticket.id,
        )
    waiting = ticket.next_level or last
    if not ticket.state.waits or waiting is None:
        return _decided(ticket)
    return _not_theirs(ticket, waiting, actor)


def _quoted(comment: str) -> Message | None:
    return N_("“%(comment)s”", comment=comment) if comment else None
