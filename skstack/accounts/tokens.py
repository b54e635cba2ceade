"""API tokens: made, shown once, revoked."""

from __future__ import annotations

import datetime as dt
import secrets

import sqlalchemy as sa

from skstack.accounts.models import ApiToken, User
from skstack.audit.services import Action, record
from skstack.crypto import hashed
from skstack.db import db, transaction
from skstack.errors import Conflict, Invalid, NotFound
from skstack.messages import N_, Message

LONGEST_LIFE = 3650
LONGEST_NAME = 64
_PREFIX = "sks_"  # Lets people, and programs that search for leaked secrets, see what it is.
_HINT = 10


def create(user: User, *, actor: User | None, name: str, days: int | None, now: dt.datetime) -> str:
    """Create a token for `user` that is valid for `days`, or until it is revoked, and return it: it is kept nowhere.

    Raises Invalid with the field `name` or `days`, and Conflict if the user is deactivated.
    """
    name = name.strip()
    errors: dict[str, list[Message]] = {}
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        errors["name"] = [N_("A name has 1 to %(count)s characters, all on one line.", count=LONGEST_NAME)]
    if days is not None and not 1 <= days <= LONGEST_LIFE:
        errors["days"] = [N_("This must be between 1 and %(most)s days.", most=LONGEST_LIFE)]
    if errors:
        raise Invalid(errors)
    token = _PREFIX + secrets.token_urlsafe(32)
    with transaction():
        db.session.refresh(user)
        if not user.active:
            raise Conflict(N_("%(name)s is deactivated, so a token would not work.", name=user.username))
        row = ApiToken(
            user_id=user.id,
            name=name,
            token_hash=hashed(token),
            hint=token[:_HINT],
            created_at=now,
            expires_at=now + dt.timedelta(days=days) if days is not None else None,
        )
        db.session.add(row)
        db.session.flush()
        record(
            Action.TOKEN_CREATED,
            actor=actor,
            object_type="token",
            object_id=row.id,
            object_name=name,
            user=user.username,
            hint=row.hint,
            days=days,
        )
    return token


def revoke(token_id: int, *, actor: User, now: dt.datetime) -> None:
    """Revoke one of the actor's own tokens. Raises NotFound if it is nobody's or another's, Conflict if it is revoked."""
    with transaction():
        row = db.session.get(ApiToken, token_id, with_for_update=True)
        if row is None or row.user_id != actor.id:
            raise NotFound
        if row.revoked_at is not None:
            raise Conflict(N_("This token is already revoked."))
        row.revoked_at = now
        _record_revocation(row, actor, actor)


def revoke_all(user: User, *, actor: User | None, now: dt.datetime) -> None:
    """Revoke every token of `user` that is not revoked yet."""
    with transaction():
        rows = db.session.scalars(
            sa.select(ApiToken).where(ApiToken.user_id == user.id, ApiToken.revoked_at.is_(None))
        )
        for row in rows.all():
            row.revoked_at = now
            _record_revocation(row, actor, user)


def _record_revocation(row: ApiToken, actor: User | None, user: User) -> None:
    record(
        Action.TOKEN_REVOKED,
        actor=actor,
        object_type="token",
        object_id=row.id,
        object_name=row.name,
        user=user.username,
        hint=row.hint,
    )
