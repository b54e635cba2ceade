"""What may happen to a run: it is queued, stopped, and ended by what its runner leaves behind."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from skstack.accounts.models import User
from skstack.audit.services import Action, record
from skstack.db import after_commit, insert, transaction, utcnow
from skstack.errors import Conflict, NotAllowed
from skstack.extensions import db, queue
from skstack.messages import N_, Message
from skstack.runner.client import RunnerProcess
from skstack.runner.protocol import Outcome, Result
from skstack.runs import evidence, status
from skstack.runs.models import PRE, TASKS, Run, Step, directory_of
from skstack.states import RunState, TicketStatus
from skstack.tickets import status as ticket_status
from skstack.tickets.actions import can_stop
from skstack.tickets.models import Ticket
from skstack.tickets.plan import Plan
from skstack.tickets.starting import go_on_after_pre, starter

log = logging.getLogger(__name__)

EXECUTE = "skstack.runs.tasks.execute_run"
_ACTIVE = (RunState.QUEUED, RunState.RUNNING)


@starter
def queue_run(ticket: Ticket, task: str) -> None:
    """Queue a ticket's `pre` or `main` run in the transaction under way, and ring for it once that holds."""
    run = status.begin(ticket, task)
    after_commit(lambda: queue.ring(EXECUTE, run.id))


def stop(ticket: Ticket, *, actor: User) -> None:
    """End what runs of a ticket: at once if no worker took it yet, else by asking its runner.

    Raises NotAllowed for anybody but the submitter and superusers, Conflict if nothing runs. Asking twice asks once.
    """
    if not can_stop(ticket, actor):
        raise NotAllowed(N_("Only the submitter or an administrator can stop this ticket."))
    with transaction():
        # Who waits here for a run that is just being ended sees what follows it only by looking once more.
        run = _active_run(ticket) or _active_run(ticket)
        if run is None:
            db.session.refresh(ticket)
            raise Conflict(
                N_("Ticket %(id)s does not run: it is %(status)s.", id=ticket.id, status=ticket.state.label)
            )
        record(
            Action.STOP_ASKED,
            actor=actor,
            object_type="run",
            object_id=run.id,
            object_name=run.task,
            ticket=ticket.id,
        )
        reason = N_("Stopped by %(user)s.", user=actor.username)
        if run.run_state is RunState.QUEUED and status.finish(
            run, RunState.STOPPED, fence=run.fence, actor=actor, reason=reason
        ):
            ticket_status.become(ticket, TicketStatus.FAILED, actor=actor, reason=reason)
        else:
            _ask_to_stop(run, actor)
            after_commit(lambda: _signal(run))


def end_by_result(run_id: int, *, fence: int, result: Result | None) -> None:
    """Record how a run ended, and what follows for its ticket. Does nothing for whoever no longer owns the run.

    `result` is what the runner left behind; None if it left nothing, and what happened cannot be told.
    """
    # Read before anything is locked: a large output takes a while.
    output = evidence.of_output(directory_of(run_id))
    with transaction():
        run = status.with_ticket(run_id)
        state, reason = _ending(run, result)
        steps = _steps(run, result)
        ended = status.finish(
            run,
            state,
            fence=fence,
            reason=reason,
            exit_code=result.exit_code if result else None,
            finished_at=_time(result.finished_at) if result else None,
            duration=result.duration if result else None,
            output_bytes=result.output_bytes if result else None,
            stored_bytes=result.stored_bytes if result else None,
            steps=steps,
            output=output,
        )
        if ended:
            insert(Step, *steps)
            _go_on(run, state, reason)


def refuse(run_id: int, *, fence: int, reason: Message) -> None:
    """End a run that was not begun, because it must not or cannot. Does nothing for whoever no longer owns the run."""
    _end(run_id, RunState.FAILED, fence=fence, reason=reason)


def lose(run_id: int, *, fence: int, reason: Message) -> None:
    """End a run as unknown: nobody here can tell what became of it. Does nothing for whoever no longer owns the run."""
    output = evidence.of_output(directory_of(run_id))
    _end(run_id, RunState.UNKNOWN, fence=fence, reason=reason, output=output)


def _end(
    run_id: int, state: RunState, *, fence: int, reason: Message, output: Mapping[str, Any] | None = None
) -> None:
    with transaction():
        run = status.with_ticket(run_id)
        if status.finish(run, state, fence=fence, reason=reason, output=output):
            _go_on(run, state, reason)


def _active_run(ticket: Ticket) -> Run | None:
    return db.session.scalars(
        sa.select(Run)
        .where(Run.ticket_id == ticket.id, Run.state.in_(_ACTIVE))
        .execution_options(populate_existing=True)
        .with_for_update()
    ).first()


def _ask_to_stop(run: Run, actor: User) -> None:
    db.session.execute(
        sa.update(Run)
        .where(Run.id == run.id, Run.stop_asked_at.is_(None))
        .values(stop_asked_at=utcnow(), stop_asked_by_id=actor.id)
    )


def _signal(run: Run) -> None:
    """Tell the runner, if it is on this host. One that is just being started gets a moment; the sweep asks again."""
    for _ in range(20):
        process = RunnerProcess.adopt(run.directory)
        if process is not None:
            process.stop()
            return
        time.sleep(0.02)


def _ending(run: Run, result: Result | None) -> tuple[RunState, Message | None]:
    if result is None:
        return RunState.UNKNOWN, N_(
            "The worker or the runner was lost, and nothing tells how this ended. Look at the target before you submit again."
        )
    if result.outcome is Outcome.FINISHED:
        return (RunState.SUCCEEDED if result.exit_code == 0 else RunState.FAILED), result.reason
    if result.outcome is Outcome.STOPPED:
        by = db.session.get(User, run.stop_asked_by_id) if run.stop_asked_by_id else None
        return RunState.STOPPED, N_("Stopped by %(user)s.", user=by.username) if by else result.reason
    if result.outcome is Outcome.LOST:
        return RunState.UNKNOWN, result.reason
    return RunState.FAILED, result.reason


def _steps(run: Run, result: Result | None) -> list[dict[str, Any]]:
    planned = Plan.from_json(run.ticket.plan).steps_of(*TASKS[run.task])
    return [
        {
            "run_id": run.id,
            "position": step.position,
            "task": step.task,
            "line": planned[step.position - 1].line,
            "exit_code": step.exit_code,
            "started_at": _time(step.started_at),
            "finished_at": _time(step.finished_at),
            "duration": step.duration,
            "offset": step.offset,
            "end": step.end,
        }
        for step in (result.steps if result else ())
    ]


def _go_on(run: Run, state: RunState, reason: Message | None) -> None:
    """Do what follows for the ticket: after a pre task that succeeded what comes next, else the ticket's own ending."""
    ticket = run.ticket
    if state is RunState.SUCCEEDED and run.task == PRE:
        if run.stop_asked_at is None:
            go_on_after_pre(ticket, now=utcnow())
        else:
            ticket_status.become(ticket, TicketStatus.FAILED, reason=N_("Stopped after the pre task."))
        return
    ending = {RunState.SUCCEEDED: TicketStatus.SUCCEEDED, RunState.UNKNOWN: TicketStatus.UNKNOWN}
    ticket_status.become(ticket, ending.get(state, TicketStatus.FAILED), reason=reason)


def _time(written: str) -> dt.datetime:
    return dt.datetime.fromisoformat(written)
