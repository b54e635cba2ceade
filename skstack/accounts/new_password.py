"""Changing passwords, one's own and another's, and showing once more that one is who is signed in."""

from __future__ import annotations

import datetime as dt

from skstack.accounts import attempts, ending, passwords
from skstack.accounts.models import User, UserSession
from skstack.audit.services import Action, record
from skstack.config import Settings
from skstack.db import transaction
from skstack.errors import Invalid
from skstack.messages import N_


def change(
    *, actor: User, current: str, new: str, session_id: int | None, settings: Settings, now: dt.datetime
) -> None:
    """Change the actor's own password, and end their sessions on other devices.

    Raises Invalid with the field `current` or `new`, and TooManyRequests: a session left open must not be a way
    to guess the password.
    """
    confirm(actor=actor, password=current, settings=settings, now=now, field="current")
    if current == new:
        raise Invalid({"new": [N_("The new password is the old one. Choose another.")]})
    give(actor, new, actor=actor, now=now, keep_session=session_id, field="new")


def confirm(*, actor: User, password: str, settings: Settings, now: dt.datetime, field: str) -> None:
    """Check the actor's own password again before something that a session left open must not be enough for.

    Raises Invalid with `field`, and TooManyRequests.
    """
    account = attempts.account_key(actor.username)
    attempts.count(account, "", settings, now)
    if not passwords.is_right(actor.password_hash, password):
        raise Invalid({field: [N_("This is not your password.")]})
    attempts.forget(account)


def give(
    user: User,
    password: str,
    *,
    actor: User | None,
    now: dt.datetime,
    keep_session: int | None = None,
    field: str = "password",
) -> None:
    """Give `user` a password and end their sessions, except `keep_session`. Raises Invalid with `field`.

    Who may do this is asked by the callers.
    """
    if found := passwords.problems(password, user.username):
        raise Invalid({field: found})
    password_hash = passwords.hash_password(password)
    with transaction():
        user.password_hash = password_hash
        attempts.forget(attempts.account_key(user.username))
        ending.drop_pending(user)
        ended = ending.end(now, UserSession.user_id == user.id, UserSession.id != (keep_session or 0))
        record(
            Action.PASSWORD_CHANGED,
            actor=actor,
            object_type="user",
            object_id=user.id,
            object_name=user.username,
            sessions_ended=ended,
        )
