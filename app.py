"""The composition root: `app` for the web server, `queue` for the worker; `python app.py` starts both."""

from __future__ import annotations

import sys

from skstack import create_app
from skstack.commands import fails_in_one_line, said
from skstack.config import ConfigError
from skstack.crypto import KeysUnusable
from skstack.extensions import queue
from skstack.notifications import tasks as notification_tasks  # noqa: F401
from skstack.runs import tasks  # noqa: F401  # Registers what the queue may call.
from skstack.schedules import tasks as schedule_tasks  # noqa: F401

try:
    app = create_app()
except (ConfigError, KeysUnusable, OSError) as err:
    sys.exit(f"skstack: {said(err)}")

__all__ = ["app", "queue"]

if __name__ == "__main__":
    from skstack.server import serve

    sys.exit(fails_in_one_line(serve)(app))
