"""What the queue may call."""

from __future__ import annotations

from skstack.extensions import queue
from skstack.runs.execution import current_watcher
from skstack.schedules import sweeping


@queue.task()
def start_ticket(ticket_id: int) -> None:
    """Start a ticket whose planned time has come; a message that came twice, early or too late does nothing."""
    with current_watcher().app.app_context():
        sweeping.start(ticket_id)
