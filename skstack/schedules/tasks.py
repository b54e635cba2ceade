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


@queue.task()
def take_schedule(schedule_id: int) -> None:
    """Take the time of a schedule that has come; a message that came twice, early or too late does nothing."""
    with current_watcher().app.app_context():
        sweeping.take(schedule_id)


@queue.task()
def submit_occurrence(occurrence_id: int) -> None:
    """Submit a time of a schedule in its owner's name; a message that came twice does nothing."""
    with current_watcher().app.app_context():
        sweeping.submit(occurrence_id)
