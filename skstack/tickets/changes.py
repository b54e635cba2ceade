"""Who wants to know when a ticket changes. Features that come after tickets announce themselves here."""

from __future__ import annotations

from collections.abc import Callable

from skstack.accounts.models import User
from skstack.states import JobStatus, TicketStatus
from skstack.tickets.models import Ticket

Listener = Callable[[Ticket, TicketStatus | None, JobStatus | None, User | None], None]

_listeners: list[Listener] = []


def on_change(listener: Listener) -> Listener:
    """Register what is called after each change, within its transaction: the ticket, what it and its job were, and who."""
    _listeners.append(listener)
    return listener


def tell(
    ticket: Ticket, before: TicketStatus | None, job_before: JobStatus | None, actor: User | None
) -> None:
    """Call every listener with a change that has just been made."""
    for listener in _listeners:
        listener(ticket, before, job_before, actor)
