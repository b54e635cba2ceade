"""What the queue may call."""

from __future__ import annotations

from skstack.audit import checks
from skstack.extensions import queue
from skstack.runs import verifying  # noqa: F401  # Registers what the trail is about.
from skstack.runs.execution import current_watcher


@queue.task()
def execute_run(run_id: int) -> None:
    """Execute a queued run; a message that came twice, or too late, does nothing."""
    current_watcher().execute(run_id)


@queue.task()
def verify_audit(check_id: int) -> None:
    """Verify the next piece of the audit trail."""
    with current_watcher().app.app_context():
        checks.verify_on(check_id)
