"""Submitting a work order, and what else a submitter does with a ticket."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.exc import IntegrityError

from skstack.accounts.models import User
from skstack.catalog.compiling import TasksRefused, compile_workorder
from skstack.catalog.models import WorkOrder
from skstack.db import transaction, utcnow
from skstack.errors import Conflict, Invalid, NotFound
from skstack.extensions import db
from skstack.messages import N_
from skstack.states import TicketStatus
from skstack.substitution import check_value, normalize
from skstack.tickets import plan as plans
from skstack.tickets import status
from skstack.tickets import values as checking
from skstack.tickets.models import Ticket
from skstack.tickets.starting import start

NOTE_LENGTH = 4000
KEY_LENGTH = 128

# Built once: building a statement takes as long as running it.
_MADE = sa.select(Ticket).where(
    Ticket.submitter_id == sa.bindparam("submitter_id"), Ticket.idempotency_key == sa.bindparam("key")
)
_workorders = sa.inspect(WorkOrder).local_table
_DEFINITION = (
    sa.select(_workorders.c.version, _workorders.c.active)
    .where(_workorders.c.id == sa.bindparam("workorder_id"))
    .with_for_update()
)


def submit(
    *,
    actor: User,
    workorder: WorkOrder,
    values: Mapping[str, Any],
    note: str = "",
    idempotency_key: str | None = None,
) -> Ticket:
    """Make a ticket of what was filled in, freeze its plan and start its first task.

    The same key with the same content gives the ticket that was made first. Raises NotFound if the work order is not
    the actor's to submit, Invalid for fields that are wrong, Conflict for a key used for something else,
    for a work order that was edited meanwhile, or if the actor has one running and may have only one.
    """
    if not workorder.can_be_submitted_by(actor):
        raise NotFound
    request_digest = _request_digest(workorder, values, note)
    if idempotency_key is not None and (made := _made_before(actor, idempotency_key, request_digest)):
        return made
    version, now = workorder.version, utcnow()
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
        note=_checked_note(note),
        plan=stored,
        plan_digest=plans.digest(stored),
        idempotency_key=idempotency_key,
        request_digest=request_digest if idempotency_key else None,
        created_at=now,
        runs=[],  # Known to be empty, so that whoever shows the new ticket need not ask for them.
    )
    try:
        with transaction():
            _check_unchanged(workorder, version, actor)
            status.begin(ticket, status=TicketStatus.RUNNING, actor=actor)
            start(ticket, "pre" if plan.steps_of("pre") else "main")
    except (IntegrityError, Conflict):
        # The same request may have been quicker in another process, and then be what is in the way.
        made = _made_before(actor, idempotency_key, request_digest) if idempotency_key else None
        if made is None:
            raise
        return made
    return ticket


def _request_digest(workorder: WorkOrder, values: Mapping[str, Any], note: str) -> str:
    """Tell one request from another under the same key. It covers secrets, so it is keyed: nobody can guess them from it."""
    request = {"workorder": workorder.id, "values": dict(values), "note": note}
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


def _checked_note(note: str) -> str:
    note = normalize(note).strip()
    if len(note) > NOTE_LENGTH:
        raise Invalid({"note": [N_("At most %(count)s characters are allowed.", count=NOTE_LENGTH)]})
    if message := check_value(note, multiline=True):
        raise Invalid({"note": [message]})
    return note


def _check_unchanged(workorder: WorkOrder, version: int, actor: User) -> None:
    """Look once more, now that nobody else can write: the definition is the one checked, and the actor has none running."""
    now = db.session.connection().execute(_DEFINITION, {"workorder_id": workorder.id}).one_or_none()
    if now is None or now != (version, True):
        raise Conflict(N_("This work order was changed while you filled in the form. Load the form again."))
    if workorder.allow_several:
        return
    running = db.session.scalars(
        sa.select(Ticket.id).where(
            Ticket.workorder_id == workorder.id,
            Ticket.submitter_id == actor.id,
            Ticket.status.in_([state for state in TicketStatus if not state.is_final]),
        )
    ).first()
    if running is not None:
        raise Conflict(
            N_(
                "You may have one ticket of %(name)s at a time, and ticket %(id)s has not ended.",
                name=workorder.name,
                id=running,
            ),
            ticket=running,
        )
