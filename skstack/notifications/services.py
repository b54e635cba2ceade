"""Reading notifications, looking after targets, and delivering: claimed by one worker, sent, written down."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from flask import current_app
from flask_babel import force_locale

from skstack.accounts.models import User
from skstack.audit.services import Action, record
from skstack.catalog.models import ApprovalFlow
from skstack.config import Settings
from skstack.db import compare_and_set, transaction, utcnow
from skstack.errors import Invalid
from skstack.extensions import db, queue
from skstack.languages import LANGUAGES, translate
from skstack.messages import N_, Message
from skstack.notifications import sending
from skstack.notifications.models import Delivery, DeliveryState, Event, Notification, Target
from skstack.notifications.telling import DELIVER

log = logging.getLogger(__name__)

# Seconds until the next try, by how many were made. After the last one it has failed.
BACKOFF = (30, 120, 600, 3600, 6 * 3600)
# Seconds after which somebody who claimed a delivery is taken for dead, and it is sent again.
CLAIM = 120


def read(notifications: Collection[Notification], *, now: dt.datetime) -> None:
    """Mark notifications as read."""
    with transaction():
        for one in notifications:
            one.read_at = one.read_at or now


def read_all(user: User, *, now: dt.datetime) -> None:
    """Mark everything that a user was told as read."""
    with transaction():
        db.session.execute(
            sa.update(Notification)
            .where(Notification.user_id == user.id, Notification.read_at.is_(None))
            .values(read_at=now)
        )


def save_target(
    target: Target | None,
    *,
    actor: User,
    owner: User | ApprovalFlow,
    name: str,
    url: str,
    events: Collection[str],
    active: bool,
) -> Target:
    """Add or change a target. An empty `url` keeps the one that is stored. Raises Invalid by field."""
    name, url = name.strip(), url.strip()
    errors: dict[str, list[Message]] = {}
    if not name or len(name) > 64 or not name.isprintable():
        errors["name"] = [N_("A name has 1 to %(count)s characters, all on one line.", count=64)]
    if url and (message := sending.problem(url)):
        errors["url"] = [message]
    if not url and target is None:
        errors["url"] = [N_("The address is needed.")]
    if not events or not set(events) <= set(Event):
        errors["events"] = [N_("Choose at least one.")]
    if errors:
        raise Invalid(errors)
    with transaction():
        before = None if target is None else _shown(target)
        if target is None:
            target = Target()
            target.user_id = owner.id if isinstance(owner, User) else None
            target.flow_id = owner.id if isinstance(owner, ApprovalFlow) else None
            db.session.add(target)
        if url:
            target.url, target.scheme = url, sending.scheme_of(url)
        target.name, target.events, target.active = name, [one for one in Event if one in events], active
        db.session.flush()
        changes = {"after": _shown(target)} if before is None else {"before": before, "after": _shown(target)}
        action = Action.CREATED if before is None else Action.CHANGED
        _record(action, target, actor, owner, new_address=bool(url), **changes)
    return target


def delete_target(target: Target, *, actor: User, owner: User | ApprovalFlow) -> None:
    """Delete a target with what was to be sent to it."""
    with transaction():
        _record(Action.DELETED, target, actor, owner, before=_shown(target))
        db.session.delete(target)


def try_target(target: Target) -> str:
    """Send a test message now, and return "" or why it could not be sent, without anything secret."""
    with force_locale(_language(target)):
        title = translate(N_("Test message of skstack"))
        body = translate(N_("This target works: “%(name)s” gets messages like this one.", name=target.name))
    return sending.send(target.url, title=title, body=f"{body}\n{_address('/notifications')}")


def deliver(delivery_id: int) -> None:
    """Send one delivery if it is due and nobody else does. What happened after a crash is not known, so it is sent again."""
    now = utcnow()
    with transaction():
        delivery = db.session.get(Delivery, delivery_id, populate_existing=True)
        if delivery is None or delivery.next_at > now:
            return
        attempts = delivery.attempts + 1
        claimed = compare_and_set(
            Delivery.state,
            delivery.id,
            expected=DeliveryState.QUEUED,
            to=DeliveryState.SENDING,
            attempts=attempts,
            next_at=now + dt.timedelta(seconds=CLAIM),
        )
        if not claimed:
            return
        target, ticket_id, message = delivery.target, delivery.ticket_id, delivery.message
        url, language = target.url, _language(target)
    db.session.remove()  # No connection is held while somebody else's server takes its time.
    with force_locale(language):
        title, body = f"skstack · {translate(Event(delivery.event).label)}", translate(message)
    error = sending.send(url, title=title, body=f"{body}\n{_address(f'/tickets/{ticket_id}')}")
    _finish(delivery_id, attempts, error)


def sweep() -> None:
    """Ring for what is due, and give back what somebody claimed and never finished."""
    now = utcnow()
    lost = sa.select(Delivery.id).where(Delivery.state == DeliveryState.SENDING, Delivery.next_at <= now)
    for delivery_id in db.session.scalars(lost).all():
        with transaction():
            compare_and_set(
                Delivery.state, delivery_id, expected=DeliveryState.SENDING, to=DeliveryState.QUEUED
            )
    due = (
        sa.select(Delivery.id)
        .where(Delivery.state == DeliveryState.QUEUED, Delivery.next_at <= now)
        .order_by(Delivery.id)
        .limit(200)
    )
    for delivery_id in db.session.scalars(due).all():
        queue.ring(DELIVER, delivery_id)


def _finish(delivery_id: int, attempts: int, error: str) -> None:
    last = attempts > len(BACKOFF)
    to = DeliveryState.SENT if not error else DeliveryState.FAILED if last else DeliveryState.QUEUED
    wait = BACKOFF[min(attempts, len(BACKOFF)) - 1]
    with transaction():
        compare_and_set(
            Delivery.state,
            delivery_id,
            expected=DeliveryState.SENDING,
            to=to,
            error=error,
            next_at=utcnow() + dt.timedelta(seconds=wait),
        )
    if error:
        log.warning("delivery %s, try %s: %s", delivery_id, attempts, error)


def _language(target: Target) -> str:
    """Return the language that a target's messages are in: its user's, else the instance's."""
    settings: Settings = current_app.config["SKSTACK"]
    chosen = target.user.language if target.user is not None else ""
    return chosen if chosen in LANGUAGES else settings.language or "en"


def _address(path: str) -> str:
    settings: Settings = current_app.config["SKSTACK"]
    return (settings.public_url.rstrip("/") or f"http://{settings.bind}") + path


def _record(action: Action, target: Target, actor: User, owner: User | ApprovalFlow, **more: Any) -> None:
    record(
        action,
        actor=actor,
        object_type="notification_target",
        object_id=target.id,
        object_name=target.name,
        owner=owner.username if isinstance(owner, User) else owner.name,
        **more,
    )


def _shown(target: Target) -> dict[str, Any]:
    """Return what an event may say of a target: not its address, which holds its secret."""
    return {
        "name": target.name,
        "scheme": target.scheme,
        "events": list(target.events),
        "active": target.active,
    }
