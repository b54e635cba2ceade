"""Runs as the JSON API answers them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

from skstack.runs.models import TASKS, Run, Step
from skstack.runs.output import Output, StepOutput
from skstack.states import RunState
from skstack.tickets.plan import Plan
from skstack.web.rest import (
    JsonSchema,
    message_text,
    record,
    reference,
    rfc3339,
    text,
    time_or_null,
)

_INTEGER: JsonSchema = {"type": "integer"}
_INTEGER_OR_NULL: JsonSchema = {"type": ["integer", "null"]}
_SECONDS: JsonSchema = {"type": ["number", "null"], "description": "Seconds."}

SCHEMAS: dict[str, JsonSchema] = {
    "Run": record(
        id=_INTEGER,
        ticket=_INTEGER,
        task=text("`main` holds the steps of the main and the post task.", enum=["pre", "main"]),
        state=text(enum=[str(one) for one in RunState]),
        exit_code={
            **_INTEGER_OR_NULL,
            "description": "That of the step that failed, else 0; null if it cannot be told.",
        },
        reason={"type": ["string", "null"], "description": "Why it ended, if the exit code does not say."},
        queued_at=text(format="date-time"),
        started_at=time_or_null("When a worker took it."),
        finished_at=time_or_null("When it ended."),
        duration=_SECONDS,
        output_bytes={**_INTEGER_OR_NULL, "description": "All that was printed; null while it runs."},
        stored_bytes={**_INTEGER_OR_NULL, "description": "What the output limit let in; null while it runs."},
        output_cleared_at=time_or_null("When its output was cleared by the retention rule."),
        steps={
            "type": "array",
            "items": reference("Step"),
            "description": "Those that were started, in order.",
        },
    ),
    "Step": record(
        position=_INTEGER,
        task=text(enum=["pre", "main", "post"]),
        line={**_INTEGER, "description": "Number of the line in the task's text."},
        command=text("The command line, with the values in their places."),
        exit_code=_INTEGER_OR_NULL,
        started_at=time_or_null(""),
        finished_at=time_or_null("null while it runs."),
        duration=_SECONDS,
        offset={**_INTEGER, "description": "Where its output begins in the run's log, in bytes."},
        end={**_INTEGER_OR_NULL, "description": "Where its output ends; null while it runs."},
    ),
}


def run_document(run: Run) -> dict[str, Any]:
    """Return one run with the steps that were started: from the database, or while it runs from its event file."""
    return {
        "id": run.id,
        "ticket": run.ticket_id,
        "task": run.task,
        "state": run.state,
        "exit_code": run.exit_code,
        "reason": message_text(run.reason_message),
        "queued_at": rfc3339(run.queued_at),
        "started_at": rfc3339(run.started_at),
        "finished_at": rfc3339(run.finished_at),
        "duration": run.duration,
        "output_bytes": run.output_bytes,
        "stored_bytes": run.stored_bytes,
        "output_cleared_at": rfc3339(run.output_cleared_at),
        "steps": list(_steps(run)),
    }


def _steps(run: Run) -> Iterator[dict[str, Any]]:
    if run.run_state is RunState.QUEUED:
        return
    planned = Plan.from_json(run.ticket.plan).steps_of(*TASKS[run.task])
    recorded = run.steps if run.run_state.is_final else []
    for step in [_recorded(step) for step in recorded] or map(_noted, Output(run.directory).steps):
        plan = planned[step["position"] - 1]
        yield {
            "position": step.pop("position"),
            "task": plan.task,
            "line": plan.line,
            "command": plan.shown,
            **step,
        }


def _recorded(step: Step) -> dict[str, Any]:
    return {
        "position": step.position,
        "exit_code": step.exit_code,
        "started_at": rfc3339(step.started_at),
        "finished_at": rfc3339(step.finished_at),
        "duration": step.duration,
        "offset": step.offset,
        "end": step.end,
    }


def _noted(step: StepOutput) -> dict[str, Any]:
    """Return a step as the runner noted it: while the run goes on, or if it was lost."""
    return {
        "position": step.position,
        "exit_code": step.exit_code,
        "started_at": _time(step.started_at),
        "finished_at": _time(step.finished_at),
        "duration": step.duration,
        "offset": step.start,
        "end": step.end if step.finished_at else None,
    }


def _time(written: str | None) -> str | None:
    return rfc3339(dt.datetime.fromisoformat(written).astimezone(dt.UTC)) if written else None
