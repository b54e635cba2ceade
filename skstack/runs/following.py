"""Wait for a run to go on without keeping a database connection meanwhile."""

from __future__ import annotations

import time
from pathlib import Path

from flask import Flask, current_app

from skstack.extensions import db
from skstack.runs.models import Run
from skstack.runs.tail import Growth, Tails
from skstack.states import RunState

LONGEST_WAIT = 20.0
MOMENT = 0.05
"""Seconds of waiting after which who may see a run is asked once more before anything is shown."""
_QUEUED_WAIT = 3.0
_ENDING_WAIT = 1.0
_EXTENSION = "skstack.tails"


def tails(app: Flask | None = None) -> Tails:
    """Return the application's one `Tails`; how many may wait is the setting `log_waiters`."""
    app = app or current_app
    found: Tails | None = app.extensions.get(_EXTENSION)
    if found is None:
        settings = app.config["SKSTACK"]
        limit = settings.log_waiters or max(1, settings.web_threads - 28)
        found = app.extensions.setdefault(_EXTENSION, Tails(limit))
    return found


def wait_for_more(
    run: Run, offset: int, timeout: float, *, seen_events: int | None = None, enough: int | None = None
) -> Growth:
    """Wait until a run's output is longer than `offset`, its events than `seen_events`, or it has ended.

    Gives the database connection back before. `run` is detached after it, with what was loaded.
    While a run is queued nothing in its directory tells that it was stopped, so that is a short wait.
    """
    directory, state = Path(run.directory), run.run_state
    db.session.remove()
    timeout = min(timeout, LONGEST_WAIT if state is not RunState.QUEUED else _QUEUED_WAIT)
    return tails().wait(
        directory, offset, 0 if state.is_final else timeout, seen_events=seen_events, enough=enough
    )


def state_after_result(run_id: int) -> RunState:
    """Return a run's state once its result is there: the worker needs a moment to write down what it says."""
    deadline = time.monotonic() + _ENDING_WAIT
    while True:
        run = db.session.get(Run, run_id, populate_existing=True)
        state = run.run_state if run is not None else RunState.UNKNOWN
        if state.is_final or time.monotonic() > deadline:
            return state
        db.session.remove()
        time.sleep(0.02)
