"""The worker process: it takes messages, leaves running commands alone when it stops."""

from __future__ import annotations

import logging
import os

from flask import Flask

import skstack
from skstack.audit import checks, heads
from skstack.config import Settings
from skstack.dashboard import summing
from skstack.extensions import queue
from skstack.notifications import sweeping as notifying
from skstack.queue import consumer
from skstack.runs import reserve, retention
from skstack.runs.execution import Watcher, set_current_watcher
from skstack.runs.workers import Keeper, register
from skstack.schedules import sweeping

log = logging.getLogger(__name__)

CHORES = (
    reserve.refill,
    sweeping.sweep,
    retention.sweep,
    notifying.sweep,
    heads.sweep,
    checks.sweep,
    summing.sweep,
)


def run(app: Flask) -> int:
    """Work until SIGTERM, and return the exit status. Commands that run then go on, and the next worker takes them over."""
    settings: Settings = app.config["SKSTACK"]
    with app.app_context():
        watcher = Watcher(app, register(settings.workers, skstack.__version__).id)
    set_current_watcher(watcher)
    keeper = Keeper(app, watcher, CHORES)
    worker = consumer(queue, settings.workers, on_stop=watcher.stopping.set)
    keeper.start()
    log.info("worker %s takes up to %s runs at a time", watcher.worker_id, settings.workers)
    everything_returned = worker.run()
    watcher.stopping.set()
    keeper.join()
    if not everything_returned:
        logging.shutdown()
        os._exit(0)  # A thread that has not returned would keep the process: what it does is taken over.
    return 0
