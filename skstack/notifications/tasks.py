"""What the queue may call."""

from __future__ import annotations

from skstack.extensions import queue
from skstack.notifications import services
from skstack.runs.execution import current_watcher


@queue.task()
def deliver(delivery_id: int) -> None:
    """Send one message to one target; a ring that came twice, early or too late does nothing."""
    with current_watcher().app.app_context():
        services.deliver(delivery_id)
