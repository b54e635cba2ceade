"""A worker's side of one run: claim it, hand it to a runner, watch, and record how it ended."""

from __future__ import annotations

import logging
import select
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flask import Flask

from skstack import substitution
from skstack.catalog.kinds import listed
from skstack.catalog.models import ConfigCenter
from skstack.catalog.targets import target_of
from skstack.config import Settings
from skstack.db import transaction
from skstack.extensions import db
from skstack.hosting import runner_host
from skstack.messages import N_, Message
from skstack.runner.client import (
    RunnerProcess,
    RunnerUnavailable,
    end_leftovers,
    new_token,
    read_result,
)
from skstack.runner.protocol import Plan as RunnerPlan
from skstack.runner.protocol import PlanStep, Task
from skstack.runs import reserve, services, status
from skstack.runs.models import TASKS, Run
from skstack.runs.stopping import Stopping
from skstack.tickets import plan as plans
from skstack.tickets.models import Ticket

log = logging.getLogger(__name__)


class PlanRefused(Exception):
    """What was approved is not what would run now. `reason` says what differs."""

    def __init__(self, reason: Message) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclass(slots=True)
class Watcher:
    """The worker that this process is: its row, and the sign that it is about to leave."""

    app: Flask
    worker_id: int
    stopping: Stopping = field(default_factory=Stopping)
    _watched: Counter[int] = field(default_factory=Counter)
    _counting: threading.Lock = field(default_factory=threading.Lock)

    def execute(self, run_id: int) -> None:
        """Run one run from its claim to its end. Returns early, leaving the runner alone, when the worker stops."""
        with self.app.app_context(), self.watching(run_id):
            self._execute(run_id)

    def resume(self, run_id: int, *, fence: int) -> None:
        """Go on with a run that nobody watches: its runner may live, have ended, or never have begun."""
        with self.app.app_context(), self.watching(run_id):
            self._resume(db.session.get_one(Run, run_id), fence)

    def watches(self, run_id: int) -> bool:
        """Say whether a thread of this worker looks after a run."""
        return self._watched[run_id] > 0

    @contextmanager
    def watching(self, run_id: int) -> Iterator[None]:
        """Look after a run. Counted: a message that came twice must not make it seem watched by nobody when it returns."""
        with self._counting:
            self._watched[run_id] += 1
        try:
            yield
        finally:
            with self._counting:
                self._watched[run_id] -= 1
                if not self._watched[run_id]:
                    del self._watched[run_id]

    def _execute(self, run_id: int) -> None:
        settings: Settings = self.app.config["SKSTACK"]
        start_before = time.clock_gettime(time.CLOCK_BOOTTIME) + settings.lease
        with transaction():
            run = status.claim(run_id, worker_id=self.worker_id, start_before=start_before)
        if run is None:
            return
        fence = run.fence
        try:
            plan = _runner_plan(run, settings)
        except PlanRefused as err:
            _refuse(run_id, fence, err.reason)
            return
        except OSError as err:
            _refuse_without_runner(run_id, fence, err)
            return
        try:
            process = runner_host().launch(plan)
        except (RunnerUnavailable, OSError) as err:
            self._end_without_answer(run, fence, err)
            return
        directory = run.directory
        db.session.remove()  # No connection is held while a run takes its time.
        if self._wait(process):
            _end(run_id, fence=fence, directory=directory)

    def _resume(self, run: Run, fence: int) -> None:
        run_id, directory, start_before = run.id, run.directory, run.start_before
        process = RunnerProcess.adopt(directory)
        while process is None and read_result(directory) is None:
            # The lost worker may have asked for a runner that has not said so yet. After this moment none can begin.
            left = (start_before or 0) - time.clock_gettime(time.CLOCK_BOOTTIME)
            if left <= 0 or not directory.exists():
                break
            if self.stopping.wait(min(left, 0.2)):
                return
            process = RunnerProcess.adopt(directory)
        if process is not None and not self._wait(process):
            return
        _end(run_id, fence=fence, directory=directory)

    def _wait(self, process: RunnerProcess) -> bool:
        poll = select.poll()
        poll.register(process.fileno(), select.POLLIN)
        poll.register(self.stopping.fileno(), select.POLLIN)
        poll.poll()
        return not self.stopping.is_set() or not process.alive()

    def _end_without_answer(self, run: Run, fence: int, err: Exception) -> None:
        """End a run that no runner confirmed. If one may have begun all the same, wait for what it leaves behind."""
        if RunnerProcess.adopt(run.directory) is not None or read_result(run.directory) is not None:
            self._resume(run, fence)
            return
        _refuse_without_runner(run.id, fence, err)


_current: Watcher | None = None


def current_watcher() -> Watcher:
    """Return the worker that this process is. Raises RuntimeError in any other process."""
    if _current is None:
        raise RuntimeError("this process is no worker")
    return _current


def set_current_watcher(watcher: Watcher | None) -> None:
    """Make this process a worker, or none again."""
    global _current  # noqa: PLW0603 - a process is one worker at most
    _current = watcher


def _refuse_without_runner(run_id: int, fence: int, err: Exception) -> None:
    log.error("run %s: no runner could be started: %s", run_id, err)
    _refuse(run_id, fence, N_("No runner could be started: %(error)s. Nothing was run.", error=str(err)))


def _refuse(run_id: int, fence: int, reason: Message) -> None:
    reserve.record_ending(lambda: services.refuse(run_id, fence=fence, reason=reason))


def _end(run_id: int, *, fence: int, directory: Path) -> None:
    result = read_result(directory)
    if result is None and (left := end_leftovers(directory)):
        # The runner was killed, and the host that would have ended what it left behind may be gone too.
        log.error("run %s: %s processes of it could not be ended", run_id, left)
    reserve.record_ending(lambda: services.end_by_result(run_id, fence=fence, result=result))


def _runner_plan(run: Run, settings: Settings) -> RunnerPlan:
    ticket = run.ticket
    plan = plans.Plan.from_json(ticket.plan)
    secrets = _checked_secrets(ticket, plan)
    environment = {**plan.environment, **secrets}
    _check_values(environment)
    run.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return RunnerPlan(
        directory=str(run.directory),
        # Whatever carries it is ended with the run, on the target too: it must not be another instance's token.
        token=f"{run.id}.{new_token()}",
        steps=tuple(
            PlanStep(position=position, task=Task(step.task), line=step.shown, script=step.script)
            for position, step in enumerate(plan.steps_of(*TASKS[run.task]), start=1)
        ),
        environment=environment,
        secrets=tuple(secrets),
        base_environment=settings.run_environment,
        target=target_of(_checked_center(plan)),
        time_limit=plan.time_limit,
        grace=settings.stop_grace,
        output_limit=settings.output_limit,
        connect_timeout=settings.connect_timeout,
        keepalive=settings.keepalive,
        start_before=run.start_before,
        working_directory=settings.working_directory or None,
    )


def _checked_secrets(ticket: Ticket, plan: plans.Plan) -> dict[str, str]:
    """Return the secrets' variables. Raises PlanRefused if plan or secrets are not those of the submission."""
    hidden = ticket.secrets
    if plans.digest(ticket.plan) != ticket.plan_digest or plans.commitment(hidden) != plan.secrets_commitment:
        raise PlanRefused(
            N_(
                "The stored plan is not the one that was submitted. Nothing was run; revoke the ticket and submit it again."
            )
        )
    return substitution.environment(hidden["values"]) if hidden else {}


def _check_values(environment: Mapping[str, str]) -> None:
    """Look at every value once more. Raises PlanRefused for one that no command may get."""
    for value in environment.values():
        if message := substitution.check_value(value, multiline=True):
            raise PlanRefused(message)


def _checked_center(plan: plans.Plan) -> ConfigCenter | None:
    if plan.target["kind"] == "local":
        return None
    center = db.session.get(ConfigCenter, plan.target["id"])
    if center is None:
        raise PlanRefused(
            N_(
                "Config center %(name)s no longer exists. Nothing was run; submit the work order again.",
                name=plan.target["name"],
            )
        )
    if changed := plans.target_changes(plan, center):
        raise PlanRefused(
            N_(
                "Config center %(name)s was changed since the submission (%(what)s). Nothing was run; submit it again.",
                name=center.name,
                what=listed(changed),
            )
        )
    return center
