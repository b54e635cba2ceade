"""Submitting a work order, and what else a submitter does with a ticket: start it, revoke it."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.exc import IntegrityError

from skstack.accounts.models import User
from skstack.audit import refusals
from skstack.audit.services import Action
from skstack.catalog import freezing
from skstack.catalog.compiling import TasksRefused, compile_workorder
from skstack.catalog.models import FreezeWindow, WorkOrder
from skstack.db import after_commit, transaction, utcnow
from skstack.errors import Conflict, Invalid, NotAllowed, NotFound
from skstack.extensions import db, queue
from skstack.messages import N_, Message
from skstack.states import TicketStatus
from skstack.substitution import check_value, normalize
from skstack.tickets import levels as approval
from skstack.tickets import locks, status
from skstack.tickets import plan as plans
from skstack.tickets import values as checking
from skstack.tickets.actions import can_execute, can_revoke
from skstack.tickets.models import BACKGROUND, FOREGROUND, Ticket
from skstack.tickets.starting import break_glass as note_break_glass
from skstack.tickets.starting import frozen, start, start_main

NOTE_LENGTH = 4000
START = "skstack.schedules.tasks.start_ticket"
FURTHEST = dt.timedelta(days=366)
KEY_LENGTH = 128

# Built once: building a statement takes as long as running it.
_MADE = sa.select(Ticket).where(
    Ticket.submitter_id == sa.bindparam("submitter_id"), Ticket.idempotency_key == sa.bindparam("key")
)
_workorders = sa.inspect(WorkOrder).local_table
_freezes = sa.inspect(FreezeWindow).local_table
_DEFINITION = (
    sa.select(
        _workorders.c.version,
        _workorders.c.active,
        sa.exists()
        .where(
            _freezes.c.environment_id == _workorders.c.environment_id,
            _freezes.c.starts_at <= sa.bindparam("now"),
            _freezes.c.ends_at > sa.bindparam("now"),
        )
        .label("frozen"),
    )
    .where(_workorders.c.id == sa.bindparam("workorder_id"))
    .with_for_update()
)


def submit(
    *,
    actor: User,
    workorder: WorkOrder,
    values: Mapping[str, Any],
    note: str = "",
    scheduled_at: dt.datetime | None = None,
    background: bool = False,
    auto_run: bool = False,
    break_glass: str = "",
    schedule: str = "",
    idempotency_key: str | None = None,
) -> Ticket:
    """Make a ticket of what was filled in, freeze its plan and start its first task, if it waits for nothing before.

    `scheduled_at` is when the system starts it, `background` and `auto_run` let it do so as soon as it may. `break_glass`
    is a superuser's reason to start within a freeze window. `schedule` is the name of the one that submits it for the
    actor, to be started by the system like what runs in the background. The same key with the same content gives the ticket that
    was made first. Raises NotFound if the work order is not the actor's to submit, Invalid for fields that are wrong,
    Conflict for a key used for something else, for a work order that was edited meanwhile, whose approvers cannot
    decide, whose lock another ticket holds or that the actor may have only one of, and within a freeze window.
    """
    if not workorder.can_be_submitted_by(actor):
        raise NotFound
    try:
        return _submit(
            actor,
            workorder,
            values,
            note,
            scheduled_at=scheduled_at,
            background=background,
            auto_run=auto_run,
            break_glass=break_glass,
            schedule=schedule,
            idempotency_key=idempotency_key,
        )
    except Conflict as err:
        refusals.note(
            Action.SUBMISSION_REFUSED,
            actor=actor,
            key=(actor.id, workorder.id),
            object_type="workorder",
            object_id=workorder.id,
            object_name=workorder.name,
            reason=err.message,
        )
        raise


def _submit(
    actor: User,
    workorder: WorkOrder,
    values: Mapping[str, Any],
    note: str,
    *,
    scheduled_at: dt.datetime | None,
    background: bool,
    auto_run: bool,
    break_glass: str,
    schedule: str,
    idempotency_key: str | None,
) -> Ticket:
    request_digest = _request_digest(
        workorder, values, note, scheduled_at=scheduled_at, background=background, auto_run=auto_run
    )
    if idempotency_key is not None and (made := _made_before(actor, idempotency_key, request_digest)):
        return made
    version, now = workorder.version, utcnow()
    _check_options(
        workorder,
        now,
        scheduled_at=scheduled_at,
        background=background,
        auto_run=auto_run,
        schedule=schedule,
    )
    levels = approval.freeze(workorder.approval_flow, submitter=actor)
    try:
        compiled = compile_workorder(workorder)
    except TasksRefused as err:
        raise Conflict(
            N_(
                "This work order cannot run as it is configured. Tell an administrator: %(why)s",
                why=err.message,
            )
        ) from err
    checked = checking.check(workorder, compiled, values)
    plan, secrets = plans.freeze(workorder, compiled, checked, now=now)
    stored = plan.to_json()
    hidden = set(secrets["values"]) if secrets else set()
    ticket = Ticket(
        workorder_id=workorder.id,
        workorder_name=workorder.name,
        workorder_version=version,
        environment_id=workorder.environment.id,
        environment_name=workorder.environment.name,
        category_id=workorder.category_id,
        category_name=workorder.category.name if workorder.category else "",
        submitter_id=actor.id,
        submitter_name=actor.username,
        values={name: None if name in hidden else value for name, value in checked.items()},
        secrets=secrets,
        note=checked_note(note),
        kind=BACKGROUND if any((background, auto_run, scheduled_at, schedule)) else FOREGROUND,
        scheduled_at=scheduled_at,
        auto_run=auto_run,
        task_lock=workorder.task_lock,
        **approval.terms(workorder.approval_flow, now),
        plan=stored,
        plan_digest=plans.digest(stored),
        idempotency_key=idempotency_key,
        request_digest=request_digest if idempotency_key else None,
        created_at=now,
        # Known, so that whoever shows the new ticket need not ask for them.
        runs=[],
        levels=levels,
        decisions=[],
    )
    has_pre = bool(plan.steps_of("pre"))
    starts_main = not has_pre and not levels and scheduled_at is None
    try:
        with transaction():
            is_frozen = _check_unchanged(workorder, version, actor, now)
            starts = has_pre or starts_main
            status.begin(
                ticket,
                status=TicketStatus.RUNNING if starts else TicketStatus.SUBMITTED,
                actor=actor,
                reason=_by_schedule(schedule),
            )
            if workorder.task_lock:
                locks.take(ticket)
            if starts and is_frozen:
                _break_glass(ticket, actor, break_glass, now)
            if has_pre:
                start(ticket, "pre")
            elif starts_main:
                start_main(ticket)
            if scheduled_at is not None:
                after_commit(lambda: queue.ring(START, ticket.id, at=scheduled_at))
    except (IntegrityError, Conflict) as err:
        # The same request may have been quicker in another process, and then be what is in the way.
        made = _made_before(actor, idempotency_key, request_digest) if idempotency_key else None
        if made is not None:
            return made
        if isinstance(err, IntegrityError) and workorder.task_lock:
            raise locks.refusal(workorder) from err
        raise
    return ticket


def execute(ticket: Ticket, *, actor: User, break_glass: str = "") -> None:
    """Start an approved ticket by hand. One that has a job loses it, and is in the foreground from now on.

    Raises NotAllowed for anybody but the submitter and superusers, Conflict if it is not one that can start now, and
    within a freeze window, unless a superuser gives the reason to start nevertheless in `break_glass`.
    """
    if not can_execute(ticket, actor):
        raise NotAllowed(N_("Only the submitter or an administrator can start this ticket."))
    now = utcnow()
    with transaction():
        level = ticket.next_level
        if level is not None:
            raise Conflict(
                N_("Ticket %(id)s waits for %(group)s to decide.", id=ticket.id, group=level.group_name),
                ticket=ticket.id,
            )
        window = freezing.window_at(ticket.environment_id, now)
        if window is not None and ticket.state.waits:
            note_break_glass(ticket, window, actor=actor, reason=break_glass, now=now)
        start_main(ticket, actor=actor, reason=N_("Started by hand."), by_hand=True)


def revoke(ticket: Ticket, *, actor: User) -> None:
    """End a ticket that waits. Raises NotAllowed for anybody but the submitter and superusers, Conflict if it does not wait."""
    if not can_revoke(ticket, actor):
        raise NotAllowed(N_("Only the submitter or an administrator can revoke this ticket."))
    with transaction():
        status.become(ticket, TicketStatus.REVOKED, actor=actor)


def _by_schedule(name: str) -> Message | None:
    return N_("By the schedule “%(name)s”.", name=name) if name else None


def _check_options(
    workorder: WorkOrder,
    now: dt.datetime,
    *,
    scheduled_at: dt.datetime | None,
    background: bool,
    auto_run: bool,
    schedule: str,
) -> None:
    errors: dict[str, list[Message]] = {}
    if scheduled_at is not None:
        if not workorder.scheduling:
            errors["scheduled_at"] = [N_("This work order does not take a planned time.")]
        elif scheduled_at <= now:
            errors["scheduled_at"] = [N_("This time has passed.")]
        elif scheduled_at > now + FURTHEST:
            errors["scheduled_at"] = [N_("This is more than a year ahead.")]
    if schedule and not workorder.scheduling:
        errors[""] = [N_("This work order does not take a planned time.")]
    if background and not workorder.background_choice:
        errors["background"] = [N_("This work order does not run in the background.")]
    if auto_run and not workorder.auto_run_choice:
        errors["auto_run"] = [N_("This work order does not run by itself.")]
    if errors:
        raise Invalid(errors)


def _break_glass(ticket: Ticket, actor: User, reason: str, now: dt.datetime) -> None:
    window = freezing.window_at(ticket.environment_id, now)
    if window is None:
        return
    if not reason:
        raise frozen(window)
    note_break_glass(ticket, window, actor=actor, reason=reason, now=now)


def _request_digest(
    workorder: WorkOrder, values: Mapping[str, Any], note: str, **options: dt.datetime | bool | None
) -> str:
    """Tell one request from another under the same key. It covers secrets, so it is keyed: nobody can guess them from it."""
    chosen = {name: value for name, value in options.items() if value}
    request = {"workorder": workorder.id, "values": dict(values), "note": note, **chosen}
    written = json.dumps(request, sort_keys=True, default=str).encode()
    return hmac.new(current_app.config["SECRET_KEY"].encode(), written, hashlib.sha256).hexdigest()


def _made_before(actor: User, key: str, request_digest: str) -> Ticket | None:
    if not 0 < len(key) <= KEY_LENGTH or not key.isprintable():
        raise Invalid(
            {
                "idempotency_key": [
                    N_("An idempotency key has 1 to %(most)s printable characters.", most=KEY_LENGTH)
                ]
            }
        )
    made = db.session.scalars(_MADE, {"submitter_id": actor.id, "key": key}).first()
    if made is not None and made.request_digest != request_digest:
        raise Conflict(
            N_(
                "This idempotency key was used for ticket %(id)s, with other content. Use a new one.",
                id=made.id,
            ),
            ticket=made.id,
        )
    return made


def checked_note(note: str) -> str:
    """Return a note as it is stored. Raises Invalid for one that is too long, or has characters that are no text."""
    note = normalize(note).strip()
    if len(note) > NOTE_LENGTH:
        raise Invalid({"note": [N_("At most %(count)s characters are allowed.", count=NOTE_LENGTH)]})
    if message := check_value(note, multiline=True):
        raise Invalid({"note": [message]})
    return note


def _check_unchanged(workorder: WorkOrder, version: int, actor: User, now: dt.datetime) -> bool:
    """Look once more, now that nobody else can write: the definition is the one checked, and the actor has none running.

    Returns whether the environment is in a freeze window.
    """
    found = (
        db.session.connection().execute(_DEFINITION, {"workorder_id": workorder.id, "now": now}).one_or_none()
    )
    if found is None or (found.version, found.active) != (version, True):
        raise Conflict(N_("This work order was changed while you filled in the form. Load the form again."))
    if refusal := locks.own_in_the_way(workorder, actor):
        raise refusal
    return bool(found.frozen)
