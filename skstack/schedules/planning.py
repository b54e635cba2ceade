"""When a schedule comes next: the one writer of `next_at`, and what is done with a time that has come.

Whoever is first sets `next_at` from the time that is due to the one after it, and with it, in one transaction, leaves a row
for the time. Nobody else finds that time again; the row is what is submitted, by `skstack.schedules.occurrences`.
"""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import joinedload

from skstack.accounts.models import User
from skstack.audit.services import Action, record
from skstack.catalog import freezing
from skstack.catalog.models import WorkOrder
from skstack.db import after_commit, follow, transaction
from skstack.errors import Conflict
from skstack.extensions import db, queue
from skstack.messages import N_, Message
from skstack.schedules import cron
from skstack.schedules.models import Occurrence, Outcome, Schedule

log = logging.getLogger(__name__)

TAKE = "skstack.schedules.tasks.take_schedule"
SUBMIT = "skstack.schedules.tasks.submit_occurrence"

_WHOLE = (
    joinedload(Schedule.owner).selectinload(User.groups),
    joinedload(Schedule.owner).selectinload(User.roles),
    joinedload(Schedule.workorder).selectinload(WorkOrder.submit_groups),
)


def set_next(schedule: Schedule, to: dt.datetime | None, **values: Any) -> None:
    """Set when a schedule comes next, and further columns with it, inside the transaction under way.

    Raises Conflict if it is not the one that was read any more: somebody changed it, or took its time.
    """
    statement = (
        sa.update(Schedule)
        .where(
            Schedule.id == schedule.id,
            Schedule.version == schedule.version,
            Schedule.next_at.is_not_distinct_from(schedule.next_at),
        )
        .values(next_at=to, **values)
        .execution_options(synchronize_session=False)
    )
    if not db.session.execute(statement).rowcount:  # type: ignore[attr-defined]  # a CursorResult, for an UPDATE
        raise Conflict(N_("The schedule %(name)s was changed in this moment. Try again.", name=schedule.name))
    follow(schedule, {"next_at": to, **values})
    if to is not None:
        after_commit(lambda: queue.ring(TAKE, schedule.id, at=to))


def take_due(now: dt.datetime, *, grace: dt.timedelta, looked_at: dt.datetime | None = None) -> int:
    """Take the time of every schedule for which one has come, and return how many will be submitted."""
    due = sa.select(Schedule.id).where(Schedule.next_at <= now).order_by(Schedule.next_at, Schedule.id)
    taken = 0
    for schedule_id in db.session.scalars(due).all():
        try:
            taken += take_if_due(schedule_id, now, grace=grace, looked_at=looked_at)
        except Conflict as err:
            log.info("schedule %s is left to whoever was quicker: %s", schedule_id, err)
    return taken


def take_if_due(
    schedule_id: int, now: dt.datetime, *, grace: dt.timedelta, looked_at: dt.datetime | None = None
) -> bool:
    """Take the latest time of one schedule that has come, and say whether it will be submitted.

    Those before it are noted as missed; so is the latest, if it is late by more than `grace`, unless it came after
    `looked_at`, when this was last done. Within a freeze window nothing is taken: it is held until the end. A schedule
    whose owner may not submit any more is paused. Raises Conflict if somebody else was quicker.
    """
    with transaction():
        schedule = db.session.get(Schedule, schedule_id, options=_WHOLE, populate_existing=True)
        if schedule is None or schedule.next_at is None or schedule.next_at > now:
            return False
        due = cron.due(schedule.expression, schedule.timezone, since=schedule.next_at, now=now)
        thawed = freezing.thawed_at(schedule.workorder.environment_id, due.latest)
        if thawed > now:
            return False
        if reason := schedule.obstacle():
            pause(schedule, now=now, reason=reason)
            _note(schedule, due.latest, now, Outcome.REFUSED, reason=reason)
            return False
        set_next(schedule, cron.next_time(schedule.expression, schedule.timezone, now))
        is_late = now - thawed > grace and (looked_at is None or thawed <= looked_at)
        if due.earlier or is_late:
            _note_missed(schedule, due, now, all_of_them=is_late)
        if is_late:
            return False
        occurrence = _note(schedule, due.latest, now, Outcome.DUE)
        if occurrence is None:
            return False
        after_commit(lambda: queue.ring(SUBMIT, occurrence.id))
        return True


def pass_over(now: dt.datetime, *, reason: Message) -> int:
    """Note the times that have come as missed instead of taking them, and return of how many schedules."""
    due = sa.select(Schedule).where(Schedule.next_at <= now).order_by(Schedule.id).options(*_WHOLE)
    schedules = db.session.scalars(due).all()
    for schedule in schedules:
        with transaction():
            since: Any = schedule.next_at
            times = cron.due(schedule.expression, schedule.timezone, since=since, now=now)
            set_next(schedule, cron.next_time(schedule.expression, schedule.timezone, now))
            _note(schedule, times.latest, now, Outcome.MISSED, reason=reason, count=times.earlier + 1)
    return len(schedules)


def pause(
    schedule: Schedule, *, now: dt.datetime, reason: Message | None = None, actor: User | None = None
) -> None:
    """Let nothing start until somebody resumes it, inside the transaction under way."""
    set_next(schedule, None, paused_at=now, pause_reason=reason.to_json() if reason else None)
    record(
        Action.SCHEDULE_PAUSED,
        actor=actor,
        object_type="schedule",
        object_id=schedule.id,
        object_name=schedule.name,
        reason=str(reason) if reason else None,
    )


def _note_missed(schedule: Schedule, due: cron.Due, now: dt.datetime, *, all_of_them: bool) -> None:
    if all_of_them:
        count, last = due.earlier + 1, due.latest
        reason = N_("No worker was there at this time, nor in the time after it in which it may still start.")
    else:
        # The latest has its own row, so that of those before it the first stands for all.
        count, last = due.earlier, due.first
        reason = N_("A later time had come as well, before this could start: only that one is submitted.")
    _note(schedule, last, now, Outcome.MISSED, reason=reason, count=count)


def _note(
    schedule: Schedule,
    planned_at: dt.datetime,
    now: dt.datetime,
    outcome: Outcome,
    *,
    reason: Message | None = None,
    count: int = 1,
) -> Occurrence | None:
    """Leave the row of a time. None if there is one: a clock that was set back shows a time once more."""
    there = sa.select(Occurrence.id).where(
        Occurrence.schedule_id == schedule.id, Occurrence.planned_at == planned_at
    )
    if db.session.scalars(there).first() is not None:
        return None
    occurrence = Occurrence(
        schedule_id=schedule.id,
        actor_id=schedule.owner_id,
        planned_at=planned_at,
        count=count,
        taken_at=now,
        outcome=outcome,
        reason=reason.to_json() if reason else None,
    )
    db.session.add(occurrence)
    db.session.flush()
    if outcome is not Outcome.DUE:
        record_outcome(schedule, occurrence)
    return occurrence


def record_outcome(schedule: Schedule, occurrence: Occurrence) -> None:
    """Record that a time of a schedule passed without a ticket, and why."""
    record(
        Action.SCHEDULE_NOT_STARTED,
        actor=None,
        object_type="schedule",
        object_id=schedule.id,
        object_name=schedule.name,
        outcome=occurrence.outcome,
        planned_at=occurrence.planned_at.isoformat(),
        count=occurrence.count,
        reason=str(occurrence.reason_message),
    )
