"""Where a ticket hands its tasks over to be run. Runs come after tickets, so they announce themselves here."""

from __future__ import annotations

from collections.abc import Callable

from skstack.tickets.models import Ticket

_starters: list[Callable[[Ticket, str], None]] = []


def starter(function: Callable[[Ticket, str], None]) -> Callable[[Ticket, str], None]:
    """Register what queues a run for a ticket's `pre` or `main` task, inside the transaction under way."""
    _starters[:] = [function]
    return function


def start(ticket: Ticket, task: str) -> None:
    """Queue the run of `task`. It begins once the transaction under way holds."""
    [queue_run] = _starters
    queue_run(ticket, task)
