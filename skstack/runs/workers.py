"""Workers: their sign of life, and what becomes of the runs of one that was lost.

A worker counts up a number in its row. The others remember when, by their own clock, they last saw it grow: so
a lease follows elapsed time, whatever is done to the hosts' clocks. On the same host a look at the process is quicker.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import sqlalchemy as sa
from flask import Flask
from sqlalchemy.orm import joinedload

from skstack.config import Settings
from skstack.db import transaction, utcnow
from skstack.extensions import db, queue
from skstack.runner.client import RunnerProcess
from skstack.runs import status
from skstack.runs.execution import Watcher
from skstack.runs.models import Run, Worker
from skstack.runs.services import EXECUTE
from skstack.states import RunState

log = logging.getLogger(__name__)


def register(capacity: int | None = None, version: str | None = None) -> Worker:
    """Add the row of this process. Its id stands in every run that it claims, of which it takes `capacity` at a time."""
    pid = os.getpid()
    with transaction():
        worker = Worker(
            host=socket.gethostname(),
            pid=pid,
            process_start=_process_start(pid) or 0,
            boot_id=_boot_id(),
            capacity=capacity,
            version=version,
        )
        db.session.add(worker)
        db.session.flush()
    return worker


class Keeper:
    """The thread of a worker that shows its life, adopts the runs of lost ones and rings again for forgotten runs."""

    def __init__(self, app: Flask, watcher: Watcher, chores: Sequence[Callable[[], None]] = ()) -> None:
        """`chores` is what other features want done at each look; one that fails does not keep the rest."""
        self._chores = chores
        self._app = app
        self._watcher = watcher
        self._settings: Settings = app.config["SKSTACK"]
        self._beats: dict[int, tuple[int, float]] = {}
        self._next_beat = 0.0
        self._thread = threading.Thread(target=self._keep, name="keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join(timeout=5)

    def look(self) -> None:
        """Do everything once; needs an application context."""
        self._beat()
        self._adopt_lost_runs()
        self._stop_asked_runs()
        self._ring_again()
        for chore in self._chores:
            try:
                chore()
            except Exception:
                log.exception("%s.%s failed and is repeated", chore.__module__, chore.__name__)
                db.session.rollback()

    def _keep(self) -> None:
        while True:
            with self._app.app_context():
                try:
                    self.look()
                except Exception:
                    log.exception("the sweep failed and is repeated")
            if self._watcher.stopping.wait(min(self._settings.sweep, self._settings.lease / 4)):
                break
        with self._app.app_context(), transaction():
            _update(self._watcher.worker_id, stopped_at=utcnow())

    def _beat(self) -> None:
        if time.monotonic() < self._next_beat:
            return
        self._next_beat = time.monotonic() + self._settings.lease / 4
        with transaction():
            _update(self._watcher.worker_id, beat=Worker.beat + 1, seen_at=utcnow())

    def _adopt_lost_runs(self) -> None:
        statement = (
            sa.select(Run)
            .where(Run.state == RunState.RUNNING)
            .options(joinedload(Run.worker))
            .execution_options(populate_existing=True)
        )
        lost: dict[int, bool] = {}
        for run in db.session.scalars(statement).all():
            worker = run.worker
            if worker is not None and worker.id not in lost:
                lost[worker.id] = worker.id != self._watcher.worker_id and self._is_lost(worker)
            unwatched = run.worker_id == self._watcher.worker_id and not self._watcher.watches(run.id)
            if worker is None or lost[worker.id] or unwatched:
                self._adopt(run)

    def _adopt(self, run: Run) -> None:
        with transaction():
            adopted = status.take_over(run, worker_id=self._watcher.worker_id)
        if adopted:
            log.warning("run %s of worker %s is watched by nobody, and is taken over", run.id, run.worker_id)
            watched = threading.Event()
            threading.Thread(
                target=self._resume, args=(run.id, run.fence + 1, watched), name=f"run {run.id}", daemon=True
            ).start()
            watched.wait()  # Else the next sweep might find it watched by nobody.

    def _resume(self, run_id: int, fence: int, watched: threading.Event) -> None:
        with self._watcher.watching(run_id):
            watched.set()
            try:
                self._watcher.resume(run_id, fence=fence)
            except Exception:
                log.exception("run %s could not be gone on with; the next sweep tries again", run_id)

    def _is_lost(self, worker: Worker) -> bool:
        if worker.host == socket.gethostname() and (
            worker.stopped_at is not None
            or worker.boot_id != _boot_id()
            or _process_start(worker.pid) != worker.process_start
        ):
            return True
        # Of another host only time tells. One that was stopped for an upgrade has a lease to come back and go on itself.
        beat, since = self._beats.get(worker.id, (None, 0.0))
        if beat != worker.beat:
            self._beats[worker.id] = (worker.beat, time.monotonic())
            return False
        return time.monotonic() - since > self._settings.lease

    def _stop_asked_runs(self) -> None:
        asked = sa.select(Run).where(
            Run.state == RunState.RUNNING,
            Run.worker_id == self._watcher.worker_id,
            Run.stop_asked_at.is_not(None),
        )
        for run in db.session.scalars(asked):
            process = RunnerProcess.adopt(run.directory)
            if process is not None:
                process.stop()

    def _ring_again(self) -> None:
        """Ring for queued runs whose message was lost. As long as messages wait, none is known to be lost."""
        if queue.pending_count():
            return
        for run_id in forgotten_runs(self._settings.sweep):
            queue.ring(EXECUTE, run_id)


def forgotten_runs(older_than: float) -> list[int]:
    """Return the runs that are queued for more than `older_than` seconds. Needs one statement."""
    before = utcnow() - dt.timedelta(seconds=older_than)
    statement = sa.select(Run.id).where(Run.state == RunState.QUEUED, Run.queued_at < before).order_by(Run.id)
    return list(db.session.scalars(statement))


def forget_all() -> None:
    """Count every worker as stopped, inside the transaction under way: they belong to another host's instance."""
    db.session.execute(sa.update(Worker).where(Worker.stopped_at.is_(None)).values(stopped_at=utcnow()))


def _update(worker_id: int, **values: object) -> None:
    db.session.execute(
        sa.update(Worker)
        .where(Worker.id == worker_id)
        .values(**values)
        .execution_options(synchronize_session=False)
    )


def _process_start(pid: int) -> int | None:
    """Return when a process began, in clock ticks after boot: with its pid that names it for good. See proc(5)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
