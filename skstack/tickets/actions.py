"""What one person may do with one ticket now: the same answer for pages, API and services.

`can_…` asks whether it is up to this person at all, whatever state the ticket is in; `actions` what is open now.
"""

from __future__ import annotations

from skstack.accounts.models import Page, User
from skstack.states import TicketStatus
from skstack.tickets.models import Ticket, TicketLevel

APPROVE, REJECT, EXECUTE, REVOKE, STOP, SUBMIT_AGAIN = (
    "approve",
    "reject",
    "execute",
    "revoke",
    "stop",
    "submit_again",
)


def actions(ticket: Ticket, user: User) -> list[str]:
    """Return the actions open to `user`, in the order they are shown."""
    possible = []
    if ticket.state.waits:
        if ticket.levels and user.may(Page.APPROVE):
            if (level := ticket.next_level) is not None and can_approve(ticket, level, user):
                possible.append(APPROVE)
            if rejectable_level(ticket, user) is not None:
                possible.append(REJECT)
        if ticket.is_approved and can_execute(ticket, user) and user.may(Page.EXECUTE):
            possible.append(EXECUTE)
        if can_revoke(ticket, user) and (user.may(Page.SUBMIT) or user.may(Page.EXECUTE)):
            possible.append(REVOKE)
    if (
        ticket.state is TicketStatus.RUNNING
        and can_stop(ticket, user)
        and (user.may(Page.SUBMIT) or user.may(Page.EXECUTE))
    ):
        possible.append(STOP)
    if ticket.state.is_final and user.may(Page.SUBMIT) and ticket.workorder.can_be_submitted_by(user):
        possible.append(SUBMIT_AGAIN)
    return possible


def can_decide(ticket: Ticket, level: TicketLevel, user: User) -> bool:
    """Say whether the user is one of those who decide `level`: being superuser does not make anybody one."""
    is_member = any(group.id == level.group_id for group in user.groups)
    return is_member and (ticket.allow_self_approval or ticket.submitter_id != user.id)


def can_approve(ticket: Ticket, level: TicketLevel, user: User) -> bool:
    """Say whether the user may agree at `level`. Where levels want different people, nobody agrees to two of them."""
    return can_decide(ticket, level, user) and not (
        ticket.distinct_approvers
        and any(made.by_id == user.id and made.level != level.level for made in ticket.decisions)
    )


def rejectable_level(ticket: Ticket, user: User) -> TicketLevel | None:
    """Return the level at which the user may say no now: the one to be decided, else the one decided last."""
    level = ticket.next_level
    if level is not None and can_decide(ticket, level, user):
        return level
    if not ticket.state.waits or ticket.decision_is_final:
        return None
    last = next((one for one in ticket.levels if one.level == ticket.state.level), None)
    return last if last is not None and can_decide(ticket, last, user) else None


def can_execute(ticket: Ticket, user: User) -> bool:
    """Say whether starting is up to this user at all: the submitter and superusers may."""
    return _is_theirs(ticket, user)


def can_revoke(ticket: Ticket, user: User) -> bool:
    return _is_theirs(ticket, user)


def can_stop(ticket: Ticket, user: User) -> bool:
    return _is_theirs(ticket, user)


def _is_theirs(ticket: Ticket, user: User) -> bool:
    return bool(user.superuser or ticket.submitter_id == user.id)
