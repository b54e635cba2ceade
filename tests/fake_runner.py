"""In place of the runner: scripts print what a test says, and runs leave behind what a test says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from skstack import hosting
from skstack.db import transaction
from skstack.extensions import db
from skstack.messages import Message
from skstack.runner.protocol import Captured, CaptureRequest, Outcome, Result, StepResult, Task
from skstack.runs import services, status
from skstack.runs.models import Run, Worker
from skstack.states import RunState
from skstack.tickets.models import Ticket

STARTED, FINISHED = "2026-11-24T08:00:00+00:00", "2026-11-24T08:00:01.5+00:00"


class FakeRunner:
    """Scripts by their text: what they print, or a function of the request that says so. `asked` has every request."""

    def __init__(self) -> None:
        self.scripts: dict[str, bytes | Captured | Callable[[CaptureRequest], bytes]] = {}
        self.asked: list[CaptureRequest] = []

    def capture(self, request: CaptureRequest) -> Captured:
        self.asked.append(request)
        answer = self.scripts[request.steps[0].line]
        if isinstance(answer, Captured):
            return answer
        return captured(answer if isinstance(answer, bytes) else answer(request))


def captured(stdout: bytes = b"", *, exit_code: int | None = 0, stderr: bytes = b"", **more: Any) -> Captured:
    """Return what a script left."""
    fields = {"outcome": Outcome.FINISHED, "reason": None, "truncated": False, "duration": 0.1, **more}
    return Captured(exit_code=exit_code, stdout=stdout, stderr=stderr, **fields)


@pytest.fixture
def runner() -> Iterator[FakeRunner]:
    """Give the runner that the application under test uses."""
    fake = FakeRunner()
    hosting.set_runner_host(fake)  # type: ignore[arg-type]
    yield fake
    hosting.set_runner_host(None)


def make_worker() -> Worker:
    with transaction():
        worker = Worker(host="here", pid=1, process_start=1, boot_id="boot")
        db.session.add(worker)
    return worker


def run_of(ticket: Ticket, task: str = "main") -> Run:
    """Return a run of `ticket` as the database has it now."""
    statement = sa.select(Run).where(Run.ticket_id == ticket.id, Run.task == task)
    return db.session.scalars(statement.execution_options(populate_existing=True)).one()


def begin(run: Run) -> Run:
    """Let a worker take a queued run."""
    worker = make_worker()
    with transaction():
        claimed = status.claim(run.id, worker_id=worker.id, start_before=1.0)
    assert claimed is not None
    claimed.directory.mkdir(parents=True, exist_ok=True)
    return claimed


def write(run: Run, output: bytes) -> None:
    """Print something into the output of a run."""
    with (run.directory / "output.log").open("ab") as file:
        file.write(output)


def note(run: Run, kind: str, position: int, **event: Any) -> None:
    """Note an event of a run."""
    size = (run.directory / "output.log").stat().st_size if (run.directory / "output.log").exists() else 0
    line = {"kind": kind, "at": STARTED, "offset": size, "position": position, "task": "main", **event}
    with (run.directory / "events.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def result(
    *steps: int, outcome: Outcome = Outcome.FINISHED, reason: Message | None = None, task: str = "main"
) -> Result:
    """Return the result of a run whose steps ended with these exit codes."""
    failed = next((code for code in steps if code), 0)
    return Result(
        outcome=outcome,
        exit_code=failed if outcome is Outcome.FINISHED else None,
        reason=reason,
        steps=tuple(
            StepResult(
                position=position,
                task=Task(task),
                line="",
                exit_code=code,
                started_at=STARTED,
                finished_at=FINISHED,
                duration=1.5,
                offset=position - 1,
                end=position,
            )
            for position, code in enumerate(steps, start=1)
        ),
        started_at=STARTED,
        finished_at=FINISHED,
        duration=1.5,
        output_bytes=len(steps),
        stored_bytes=len(steps),
        capped=False,
    )


def leave(run: Run, left: Result) -> None:
    """Let the runner be done: its result is there, and the database does not know yet."""
    (run.directory / "result.json").write_text(json.dumps(left.to_json()))


def end(run: Run, left: Result | None = None) -> RunState:
    """Let a worker record how a run ended: with `left`, else with one step that went well."""
    left = left or result(0)
    leave(run, left)
    services.end_by_result(run.id, fence=run.fence, result=left)
    db.session.expire_all()
    return run.run_state


def finish_by_worker(app: Flask, run_id: int, fence: int, left: Result) -> None:
    """Do what `end` does in an application context of its own, as another process would."""
    with app.app_context():
        services.end_by_result(run_id, fence=fence, result=left)
