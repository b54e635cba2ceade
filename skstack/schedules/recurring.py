"""What people do with schedules: make, change, pause, resume, hand over, delete.

A schedule submits in its owner's name, so only the owner says what; superusers may pause it, hand it over and delete it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from skstack.accounts.models import User
from skstack.accounts.profile import timezones
from skstack.audit.services import MASK, Action, record
from skstack.catalog.compiling import TasksRefused, compile_workorder
from skstack.catalog.models import WorkOrder
from skstack.db import transaction, utcnow
from skstack.errors import Conflict, Invalid, NotAllowed, NotFound
from skstack.extensions import db
from skstack.messages import N_, Message
from skstack.schedules import cron
from skstack.schedules.models import Schedule, obstacle
from skstack.schedules.planning import pause as set_paused
from skstack.schedules.planning import set_next
from skstack.tickets import values as checking
from skstack.tickets.services import checked_note

# Names of fields, for errors: no variable can be called so.
NAME, EXPRESSION, TIMEZONE = "schedule-name", "schedule-expression", "schedule-timezone"
NAME_LENGTH = 64

ONLY_ITS_OWNER = N_("Only its owner can change what a schedule submits.")


def create(
    *,
    actor: User,
    workorder: WorkOrder,
    name: str,
    expression: str,
    timezone: str,
    values: Mapping[str, Any],
    note: str = "",
) -> Schedule:
    """Make a schedule that submits `workorder` as the actor. Runs its choice scripts.

    Raises NotFound if the work order is not the actor's to submit at planned times, Invalid for fields that are wrong, and
    Conflict for one that cannot run as it is configured.
    """
    if not workorder.can_be_submitted_by(actor) or not workorder.scheduling:
        raise NotFound
    given = _checked(actor, workorder, name, expression, timezone, values, note)
    schedule = Schedule(owner_id=actor.id, workorder_id=workorder.id, **given)
    now = utcnow()
    schedule.created_at = schedule.updated_at = now
    with transaction():
        db.session.add(schedule)
        _flush(schedule)
        set_next(schedule, cron.next_time(schedule.expression, schedule.timezone, now))
        _record(Action.CREATED, schedule, actor, after=_shown(schedule))
    return schedule


def change(
    schedule: Schedule,
    *,
    actor: User,
    version: int,
    name: str,
    expression: str,
    timezone: str,
    values: Mapping[str, Any],
    note: str = "",
) -> None:
    """Change what is submitted and when, as `create`. Secret values left empty stay as they are.

    Raises NotAllowed for anybody but the owner, and Conflict if it was changed since it was read at `version`.
    """
    if schedule.owner_id != actor.id:
        raise NotAllowed(ONLY_ITS_OWNER)
    if schedule.obstacle() is not None:
        raise Conflict(N_("This cannot be changed now: %(reason)s", reason=schedule.obstacle()))
    secret = {variable.name for variable in schedule.workorder.variables if variable.secret}
    kept = {
        name: value
        for name, value in (schedule.secrets or {}).items()
        if name in secret and not values.get(name)
    }
    given = _checked(actor, schedule.workorder, name, expression, timezone, {**values, **kept}, note)
    now = utcnow()
    with transaction():
        _refresh(schedule, version)
        before, secrets_before = _shown(schedule), schedule.secrets
        for attribute, value in given.items():
            setattr(schedule, attribute, value)
        schedule.updated_at = now
        _flush(schedule)
        following = (
            None if schedule.is_paused else cron.next_time(schedule.expression, schedule.timezone, now)
        )
        set_next(schedule, following, version=version + 1)
        was, becomes = _difference(before, _shown(schedule))
        if secrets_before != schedule.secrets:
            was["secrets"] = becomes["secrets"] = MASK
        if was:
            _record(Action.CHANGED, schedule, actor, before=was, after=becomes)


def pause(schedule: Schedule, *, actor: User) -> None:
    """Let nothing start until it is resumed. Raises NotAllowed for others than its owner and superusers."""
    _check_theirs(schedule, actor)
    with transaction():
        _refresh(schedule)
        if schedule.is_paused:
            raise Conflict(N_("The schedule %(name)s is paused already.", name=schedule.name))
        set_paused(schedule, now=utcnow(), actor=actor)


def resume(schedule: Schedule, *, actor: User) -> None:
    """Go on with the next time from now. Raises NotAllowed as `pause`, Conflict if the owner could not submit it."""
    _check_theirs(schedule, actor)
    with transaction():
        _refresh(schedule)
        if not schedule.is_paused:
            raise Conflict(N_("The schedule %(name)s is not paused.", name=schedule.name))
        if reason := schedule.obstacle():
            raise Conflict(N_("It cannot be resumed: %(reason)s", reason=reason))
        following = cron.next_time(schedule.expression, schedule.timezone, utcnow())
        set_next(schedule, following, paused_at=None, pause_reason=None, failures=0)
        _record(Action.SCHEDULE_RESUMED, schedule, actor)


def hand_over(schedule: Schedule, *, to: User, actor: User) -> None:
    """Let somebody else own it. It is paused, until they or a superuser resume it.

    Raises NotAllowed for anybody but superusers, Conflict if the new owner could not submit it.
    """
    if not actor.superuser:
        raise NotAllowed(N_("Only an administrator can hand over a schedule."))
    if reason := obstacle(to, schedule.workorder):
        raise Conflict(N_("It cannot be handed over: %(reason)s", reason=reason))
    with transaction():
        _refresh(schedule)
        before = schedule.owner.username
        if not schedule.is_paused:
            reason = N_("It was handed over to %(user)s.", user=to.username)
            set_paused(schedule, now=utcnow(), actor=actor, reason=reason)
        schedule.owner = to
        _flush(schedule)
        _record(Action.CHANGED, schedule, actor, before={"owner": before}, after={"owner": to.username})


def delete(schedule: Schedule, *, actor: User) -> None:
    """Delete it; the tickets that it made stay. Raises NotAllowed as `pause`."""
    _check_theirs(schedule, actor)
    with transaction():
        _refresh(schedule)
        _record(Action.DELETED, schedule, actor, before=_shown(schedule))
        db.session.delete(schedule)


def _checked(
    actor: User,
    workorder: WorkOrder,
    name: str,
    expression: str,
    timezone: str,
    values: Mapping[str, Any],
    note: str,
) -> dict[str, Any]:
    """Return the columns of what was filled in. Raises Invalid with all that is wrong."""
    name, expression = " ".join(name.split()), " ".join(expression.upper().split())
    errors: dict[str, list[Message]] = {}
    if not 1 <= len(name) <= NAME_LENGTH or not name.isprintable():
        errors[NAME] = [N_("A name has 1 to %(most)s characters.", most=NAME_LENGTH)]
    if timezone not in timezones():
        errors[TIMEZONE] = [N_("There is no time zone of this name.")]
    elif wrong := cron.problem(expression, timezone):
        errors[EXPRESSION] = [wrong]
    try:
        note = checked_note(note)
    except Invalid as err:
        errors.update(err.errors)
    checked: dict[str, Any] = {}
    try:
        checked = checking.check(workorder, compile_workorder(workorder), values)
    except TasksRefused as err:
        raise Conflict(
            N_(
                "This work order cannot run as it is configured. Tell an administrator: %(why)s",
                why=err.message,
            )
        ) from err
    except Invalid as err:
        errors.update(err.errors)
    if errors:
        raise Invalid(errors)
    secret = [variable.name for variable in workorder.variables if variable.secret]
    return {
        "name": name,
        "expression": expression,
        "timezone": timezone,
        "note": note,
        "values": {name: None if name in secret else value for name, value in checked.items()},
        "secrets": {name: checked[name] for name in secret} or None,
    }


def _check_theirs(schedule: Schedule, actor: User) -> None:
    if not (actor.superuser or schedule.owner_id == actor.id):
        raise NotAllowed(N_("Only its owner or an administrator can do this to a schedule."))


def _refresh(schedule: Schedule, version: int | None = None) -> None:
    """Read it again within the transaction under way. Raises Conflict if it is gone, or is not at `version`."""
    there = sa.select(Schedule.version).where(Schedule.id == schedule.id)
    stored = db.session.scalars(there).one_or_none()
    if stored is None:
        raise Conflict(N_("The schedule %(name)s was deleted meanwhile.", name=schedule.name), gone=True)
    db.session.refresh(schedule)
    if version is not None and stored != version:
        raise Conflict(
            N_("The schedule %(name)s was changed meanwhile. Nothing of yours was saved.", name=schedule.name)
        )


def _flush(schedule: Schedule) -> None:
    name = schedule.name
    try:
        db.session.flush()
    except IntegrityError as err:
        raise Invalid(
            {NAME: [N_("There is another schedule called %(name)s with this owner.", name=name)]}
        ) from err


def _shown(schedule: Schedule) -> dict[str, Any]:
    hidden = dict.fromkeys(schedule.secrets or {}, MASK)
    return {
        "name": schedule.name,
        "workorder_id": schedule.workorder_id,
        "expression": schedule.expression,
        "timezone": schedule.timezone,
        "values": {**schedule.values, **hidden},
        "note": schedule.note,
    }


def _difference(before: dict[str, Any], after: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    changed = [name for name in before if before[name] != after[name]]
    return {name: before[name] for name in changed}, {name: after[name] for name in changed}


def _record(action: Action, schedule: Schedule, actor: User, **changes: Any) -> None:
    record(
        action,
        actor=actor,
        object_type="schedule",
        object_id=schedule.id,
        object_name=schedule.name,
        **changes,
    )
