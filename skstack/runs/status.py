"""The one writer of a run's state. Every change compares and sets, by state and by fence."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import joinedload

from skstack.accounts.models import User
from skstack.audit.services import Action, record_about
from skstack.db import execute, follow, utcnow
from skstack.extensions import db
from skstack.messages import Message
from skstack.runs import evidence
from skstack.runs.models import Run
from skstack.states import RunState
from skstack.tickets.models import Ticket

# Built once: building it takes as long as running it.
_WITH_TICKET = (
    sa.select(Run)
    .where(Run.id == sa.bindparam("run_id"))
    .options(joinedload(Run.ticket).undefer(Ticket.secrets))
    .execution_options(populate_existing=True)
    .with_for_update(of=Run)
)


def begin(ticket: Ticket, task: str) -> Run:
    """Add a queued run to the transaction under way. It has an id once that is committed."""
    run = Run(ticket=ticket, task=task, state=RunState.QUEUED, fence=0, queued_at=utcnow())
    db.session.add(run)
    return run


def claim(run_id: int, *, worker_id: int, start_before: float) -> Run | None:
    """Take a queued run for one worker: None if another was quicker or it was stopped. The caller's fence is in the run."""
    claimed = _set(
        run_id,
        before=RunState.QUEUED,
        fence=None,
        to=RunState.RUNNING,
        worker_id=worker_id,
        started_at=utcnow(),
        start_before=start_before,
    )
    if not claimed:
        return None
    run = with_ticket(run_id)
    _record(run, RunState.QUEUED, RunState.RUNNING, actor=None)
    return run


def with_ticket(run_id: int) -> Run:
    """Return a run as it is now, with its ticket and the ticket's secrets, and let nobody else change it before the commit.

    Needs one statement.
    """
    return db.session.scalars(_WITH_TICKET, {"run_id": run_id}).one()


def take_over(run: Run, *, worker_id: int) -> bool:
    """Move a running run to another worker, so that the one it belonged to can write nothing more."""
    return _set(run.id, before=RunState.RUNNING, fence=run.fence, to=RunState.RUNNING, worker_id=worker_id)


def finish(
    run: Run,
    to: RunState,
    *,
    fence: int,
    actor: User | None = None,
    reason: Message | None = None,
    exit_code: int | None = None,
    finished_at: dt.datetime | None = None,
    duration: float | None = None,
    output_bytes: int | None = None,
    stored_bytes: int | None = None,
    steps: Sequence[Mapping[str, Any]] = (),
    output: Mapping[str, Any] | None = None,
) -> bool:
    """End a run, and say whether it was still the caller's to end: False for an older fence or another's ending.

    `steps` are the rows that the caller adds then, `output` what `evidence.of_output` says: the event covers both.
    """
    before = run.run_state
    if not to.is_final or not before.may_become(to):
        return False
    written = {
        "exit_code": exit_code,
        "finished_at": finished_at or utcnow(),
        "duration": duration,
        "reason": reason.to_json() if reason else None,
        "output_bytes": output_bytes,
        "stored_bytes": stored_bytes,
    }
    ended = _set(run.id, before=before, fence=fence, to=to, **written)
    if ended:
        follow(run, {"state": to, "fence": fence + 1, **written})
        _record(
            run,
            before,
            to,
            actor=actor,
            digest=evidence.of_run(run, steps),
            exit_code=exit_code,
            reason=str(reason) if reason else None,
            **(output or {}),
        )
    return ended


def _set(run_id: int, *, before: RunState, fence: int | None, to: RunState, **values: object) -> bool:
    """Compare and set. A change of owner or state by a worker raises the fence, whoever holds the older one has lost."""
    parameters = {"run_id": run_id, "before": before, "state": to, **values}
    if fence is not None:
        parameters["known_fence"] = fence
    statement = _update(fence is not None, tuple(sorted(values)))
    return bool(execute(statement, parameters).rowcount)


@cache
def _update(by_fence: bool, names: tuple[str, ...]) -> sa.Update:
    # Built once, and without the ORM: every run is claimed and ended by this.
    columns: Any = sa.inspect(Run).columns
    table: Any = sa.inspect(Run).local_table
    statement = sa.update(table).where(
        columns["id"] == sa.bindparam("run_id"), columns["state"] == sa.bindparam("before")
    )
    if by_fence:
        statement = statement.where(columns["fence"] == sa.bindparam("known_fence"))
    written: dict[Any, Any] = {columns[name]: sa.bindparam(name) for name in ("state", *names)}
    return statement.values({columns["fence"]: columns["fence"] + 1, **written})


def _record(
    run: Run,
    before: RunState,
    after: RunState,
    *,
    actor: User | None,
    digest: bytes | None = None,
    **more: Any,
) -> None:
    record_about(
        digest,
        Action.RUN_CHANGED,
        actor=actor,
        object_type="run",
        object_id=run.id,
        object_name=run.task,
        ticket=run.ticket_id,
        before=str(before),
        after=str(after),
        **more,
    )
