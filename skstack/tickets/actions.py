"""What one person may do with one ticket now: the same answer for pages and API."""

from __future__ import annotations

from skstack.accounts.models import Page, User
from skstack.states import TicketStatus
from skstack.tickets.models import Ticket

STOP, SUBMIT_AGAIN = "stop", "submit_again"


def actions(ticket: Ticket, user: User) -> list[str]:
    """Return the actions open to `user`, in the order they are shown."""
    possible = []
    if ticket.state is TicketStatus.RUNNING and can_stop(ticket, user):
        possible.append(STOP)
    if ticket.state.is_final and user.may(Page.SUBMIT) and ticket.workorder.can_be_submitted_by(user):
        possible.append(SUBMIT_AGAIN)
    return possible


def can_stop(ticket: Ticket, user: User) -> bool:
    """Say whether stopping is up to this user at all: the submitter and superusers may."""
    return bool(user.superuser or ticket.submitter_id == user.id)
