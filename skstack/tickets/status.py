"""The one writer of a ticket's status and of its job's. Every change compares and sets, and leaves a row and an event."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from skstack.accounts.models import User
from skstack.audit.services import Action, record_about
from skstack.db import compare_and_set, insert, utcnow
from skstack.errors import Conflict
from skstack.extensions import db
from skstack.messages import N_, Message
from skstack.states import JOB_ENDINGS, JobStatus, TicketStatus
from skstack.tickets import changes, evidence, search
from skstack.tickets.models import BACKGROUND, FOREGROUND, TaskLock, Ticket, TicketChange


def begin(ticket: Ticket, *, status: TicketStatus, actor: User, reason: Message | None = None) -> None:
    """Add a new ticket with its first status, which is SUBMITTED or RUNNING. One in the background has its job CREATED."""
    if status not in (TicketStatus.SUBMITTED, TicketStatus.RUNNING):
        raise ValueError(f"a ticket cannot begin as {status}")
    ticket.status = status
    ticket.job_status = JobStatus.CREATED if ticket.kind == BACKGROUND else None
    db.session.add(ticket)
    db.session.flush()
    change = {
        "ticket_id": ticket.id,
        "at": utcnow(),
        "after": status,
        "job_after": ticket.job_status,
        "actor_id": actor.id,
        "reason": reason.to_json() if reason else None,
    }
    insert(TicketChange, change)
    search.write(ticket)
    record_about(
        evidence.of_submission(ticket, ticket.levels, change),
        Action.SUBMITTED,
        actor=actor,
        object_type="ticket",
        object_id=ticket.id,
        object_name=ticket.workorder_name,
        values=ticket.values,
        note=ticket.note,
        plan_digest=ticket.plan_digest,
        status=str(status),
        **({"reason": str(reason)} if reason else {}),
        **({"job_status": ticket.job_status, "scheduled_at": _written(ticket)} if ticket.job_status else {}),
    )
    changes.tell(ticket, None, None, actor)


def become(
    ticket: Ticket,
    to: TicketStatus,
    *,
    actor: User | None = None,
    reason: Message | None = None,
    job: JobStatus | None = None,
    decision: Mapping[str, Any] | None = None,
) -> None:
    """Change the status, with its row in the history and its audit event; an ending frees the lock and ends the job.

    `job` is what the job becomes with it; REVOKED on the way to RUNNING makes a foreground ticket of it. `decision` is the
    row of the decision that the caller adds with it, for the event to cover. Raises Conflict if the ticket is not where
    this change can be made from, lacks an approval, or was changed by somebody else meanwhile.
    """
    before, job_before = ticket.state, ticket.job_state
    if not before.may_become(to) or (to is TicketStatus.RUNNING and ticket.next_level is not None):
        raise _stale(ticket)
    now = utcnow()
    values: dict[str, Any] = {}
    if to.is_final:
        values["finished_at"] = now
    if job is None and job_before is not None and job_before.is_open:
        job = JOB_ENDINGS.get(to)
    if job is not None:
        _check_job(ticket, job)
        values["job_status"] = job
    if to is TicketStatus.RUNNING and job is JobStatus.REVOKED:
        values["kind"] = FOREGROUND
    if not compare_and_set(Ticket.status, ticket.id, expected=before, to=to, **values):
        raise _stale(ticket)
    if to.is_final and ticket.task_lock:
        db.session.execute(sa.delete(TaskLock).where(TaskLock.ticket_id == ticket.id))
    _note(ticket, before, job_before, actor=actor, reason=reason, at=now, decision=decision)


def job_becomes(ticket: Ticket, to: JobStatus, *, reason: Message | None = None) -> None:
    """Change the job's status alone: it is handed to the queue, or its output was cleared. Raises Conflict as `become`."""
    before = ticket.job_state
    _check_job(ticket, to)
    if not compare_and_set(Ticket.job_status, ticket.id, expected=before, to=to):
        raise _stale(ticket)
    _note(ticket, ticket.state, before, actor=None, reason=reason, at=utcnow())


def _check_job(ticket: Ticket, to: JobStatus) -> None:
    before = ticket.job_state
    if before is None or not before.may_become(to):
        raise _stale(ticket)


def _stale(ticket: Ticket) -> Conflict:
    return Conflict(
        N_("Ticket %(id)s is %(status)s now.", id=ticket.id, status=ticket.state.label), ticket=ticket.id
    )


def _note(
    ticket: Ticket,
    before: TicketStatus,
    job_before: JobStatus | None,
    *,
    actor: User | None,
    reason: Message | None,
    at: dt.datetime,
    decision: Mapping[str, Any] | None = None,
) -> None:
    job = {"job_before": job_before, "job_after": ticket.job_state} if ticket.job_state != job_before else {}
    change = {
        "ticket_id": ticket.id,
        "at": at,
        "before": before,
        "after": ticket.state,
        "actor_id": actor.id if actor else None,
        "reason": reason.to_json() if reason else None,
        **job,
    }
    insert(TicketChange, change)
    record_about(
        evidence.of_change(change, decision),
        Action.STATUS_CHANGED,
        actor=actor,
        object_type="ticket",
        object_id=ticket.id,
        object_name=ticket.workorder_name,
        before=str(before),
        after=str(ticket.state),
        reason=str(reason) if reason else None,
        **{name: str(value) for name, value in job.items() if value},
    )
    changes.tell(ticket, before, job_before, actor)


def _written(ticket: Ticket) -> str | None:
    return ticket.scheduled_at.isoformat() if ticket.scheduled_at else None
