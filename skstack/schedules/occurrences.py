"""Submitting a time of a schedule that was taken, in its owner's name, by a task of its own: scripts may take a while.

Several workers may get the same message. One at a time tries, and the ticket's idempotency key lets it be made once.
"""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import joinedload

from skstack.catalog import freezing
from skstack.catalog.models import WorkOrder
from skstack.db import compare_and_set, transaction
from skstack.errors import Conflict, Invalid, NotFound
from skstack.extensions import db, queue
from skstack.messages import N_, Message
from skstack.schedules.models import Occurrence, Outcome, Schedule
from skstack.schedules.planning import SUBMIT, pause, record_outcome
from skstack.tickets import services as tickets
from skstack.tickets.models import Ticket

log = logging.getLogger(__name__)

MOST_FAILURES = 3
_TRIES = 3


def submit(occurrence_id: int, now: dt.datetime, *, patience: dt.timedelta) -> None:
    """Submit a time that is due, once; a message that came twice does nothing.

    `patience` is how long whoever began it before may still be at it.
    """
    occurrence = _begin(occurrence_id, now, patience)
    if occurrence is None:
        return
    schedule = occurrence.schedule
    made = sa.select(Ticket).where(
        Ticket.submitter_id == occurrence.actor_id, Ticket.idempotency_key == occurrence.key
    )
    ticket = db.session.scalars(made).first()
    if ticket is not None:
        _settle(occurrence, Outcome.STARTED, now, ticket=ticket)
    elif schedule.is_paused:
        _settle(
            occurrence, Outcome.SKIPPED, now, reason=N_("The schedule was paused before this could start.")
        )
    elif reason := schedule.obstacle():
        _settle(occurrence, Outcome.REFUSED, now, reason=reason, pausing=reason)
    else:
        _submit(occurrence, now)


def ring_forgotten(now: dt.datetime, *, older_than: dt.timedelta, patience: dt.timedelta) -> None:
    """Ring again for what is due and whose message was lost. As long as messages wait, none is known to be lost."""
    if not queue.pending_count():
        for occurrence in db.session.scalars(_forgotten(now, older_than, patience)).all():
            if freezing.window_at(occurrence.schedule.workorder.environment_id, now) is None:
                queue.ring(SUBMIT, occurrence.id)


def give_up(now: dt.datetime, *, grace: dt.timedelta) -> None:
    """Note as missed what was due when the last worker went, longer ago than `grace`: for a worker that begins."""
    for occurrence in db.session.scalars(_due().where(Occurrence.taken_at < now - grace)).all():
        thawed = freezing.thawed_at(occurrence.schedule.workorder.environment_id, occurrence.taken_at)
        if now - thawed > grace:
            reason = N_("The worker was lost before this could start, and none came in time.")
            _settle(occurrence, Outcome.MISSED, now, reason=reason)


def pass_over(now: dt.datetime, *, reason: Message) -> int:
    """Note every time that was taken and not submitted yet as missed, and return how many."""
    taken = db.session.scalars(_due()).all()
    for occurrence in taken:
        _settle(occurrence, Outcome.MISSED, now, reason=reason)
    return len(taken)


def _due() -> sa.Select[Any]:
    whole = joinedload(Occurrence.schedule).joinedload(Schedule.workorder)
    return sa.select(Occurrence).where(Occurrence.outcome == Outcome.DUE).options(whole)


def _forgotten(now: dt.datetime, older_than: dt.timedelta, patience: dt.timedelta) -> sa.Select[Any]:
    # What lies ahead was noted before the clock was set back.
    waits_long = sa.or_(Occurrence.taken_at < now - older_than, Occurrence.taken_at > now)
    return _due().where(waits_long, _nobody_tries(now, patience)).order_by(Occurrence.id)


def _nobody_tries(now: dt.datetime, patience: dt.timedelta) -> sa.ColumnElement[bool]:
    return sa.or_(
        Occurrence.tried_at.is_(None), Occurrence.tried_at <= now - patience, Occurrence.tried_at > now
    )


def _begin(occurrence_id: int, now: dt.datetime, patience: dt.timedelta) -> Occurrence | None:
    """Take the turn to submit it. None if it is not due any more, is held by a freeze, or somebody is at it."""
    with transaction():
        mine = (
            sa.update(Occurrence)
            .where(
                Occurrence.id == occurrence_id,
                Occurrence.outcome == Outcome.DUE,
                _nobody_tries(now, patience),
            )
            .values(tried_at=now)
            .execution_options(synchronize_session=False)
        )
        if not db.session.execute(mine).rowcount:  # type: ignore[attr-defined]  # a CursorResult, for an UPDATE
            return None
        occurrence = db.session.get_one(
            Occurrence,
            occurrence_id,
            options=[
                joinedload(Occurrence.schedule)
                .joinedload(Schedule.workorder)
                .selectinload(WorkOrder.submit_groups)
            ],
            populate_existing=True,
        )
        if freezing.window_at(occurrence.schedule.workorder.environment_id, now) is not None:
            _release(occurrence)
            return None
        return occurrence


def _submit(occurrence: Occurrence, now: dt.datetime) -> None:
    schedule = occurrence.schedule
    for attempt in range(_TRIES):
        version = schedule.workorder.version
        try:
            ticket = tickets.submit(
                actor=occurrence.actor,
                workorder=schedule.workorder,
                values=schedule.submission,
                note=schedule.note,
                schedule=schedule.name,
                idempotency_key=occurrence.key,
            )
        except NotFound:
            reason = schedule.obstacle() or N_(
                "%(user)s may not submit it any more.", user=occurrence.actor.username
            )
            _settle(occurrence, Outcome.REFUSED, now, reason=reason, pausing=reason)
        except Invalid as err:
            _settle(occurrence, Outcome.REFUSED, now, reason=_by_field(err))
        except Conflict as err:
            if "frozen_until" in err.details:
                with transaction():
                    _release(occurrence)
            elif "ticket" in err.details:
                _settle(occurrence, Outcome.SKIPPED, now, reason=err.message)
            else:
                db.session.refresh(schedule.workorder)
                if schedule.workorder.version != version and attempt + 1 < _TRIES:
                    continue  # It was edited in this moment: what counts is how it is now.
                _settle(occurrence, Outcome.REFUSED, now, reason=err.message)
        else:
            _settle(occurrence, Outcome.STARTED, now, ticket=ticket)
        return


def _release(occurrence: Occurrence) -> None:
    db.session.execute(
        sa.update(Occurrence)
        .where(Occurrence.id == occurrence.id)
        .values(tried_at=None)
        .execution_options(synchronize_session=False)
    )


def _by_field(error: Invalid) -> Message:
    name, [message, *_] = next(iter(error.errors.items()))
    return N_("%(field)s: %(message)s", field=name, message=message) if name else message


def _settle(
    occurrence: Occurrence,
    outcome: Outcome,
    now: dt.datetime,
    *,
    reason: Message | None = None,
    ticket: Ticket | None = None,
    pausing: Message | None = None,
) -> None:
    """Note what became of a time, and of its schedule: the ticket, or one more failure. `pausing` says why it pauses."""
    with transaction():
        values = {"reason": reason.to_json() if reason else None, "ticket_id": ticket.id if ticket else None}
        if not compare_and_set(Occurrence.outcome, occurrence.id, expected=Outcome.DUE, to=outcome, **values):
            return
        schedule = db.session.get_one(Schedule, occurrence.schedule_id, populate_existing=True)
        if ticket is not None:
            schedule.last_ticket_id, schedule.failures = ticket.id, 0
        else:
            record_outcome(schedule, occurrence)
        if outcome is Outcome.REFUSED:
            schedule.failures += 1
            if schedule.failures >= MOST_FAILURES:
                pausing = pausing or N_(
                    "It was refused %(count)s times in a row, the last time because: %(reason)s",
                    count=schedule.failures,
                    reason=reason,
                )
        db.session.flush()
        if pausing is not None and not schedule.is_paused:
            pause(schedule, now=now, reason=pausing)
