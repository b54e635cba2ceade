"""What the queue may call."""

from __future__ import annotations

from skstack.extensions import queue
from skstack.runs.execution import current_watcher


@queue.task()
def execute_run(run_id: int) -> None:
    """Execute a queued run; a message that came twice, or too late, does nothing."""
    current_watcher().execute(run_id)
