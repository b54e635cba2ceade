"""Changing passwords, one's own and another's, and showing once more that one is who is signed in."""

from __future__ import annotations

import datetime as dt

from skstack.accounts import attempts, directory, ending, passwords, queries
from skstack.accounts.models import User, UserSession
from skstack.audit.services import Action, record
from skstack.config import Settings
from skstack.db import transaction
from skstack.errors import Conflict, Invalid
from skstack.messages import N_


def change(
    *, actor: User, current: str, new: str, session_id: int | None, settings: Settings, now: dt.datetime
) -> None:
    """Change the actor's own password, and end their sessions on other devices.

    Raises Invalid with the field `current` or `new`, TooManyRequests: a session left open must not be a way
    to guess the password, and Conflict if the password is not ours to change.
    """
    if actor.password_hash is None:
        raise Conflict(N_("You have no password here. Change it where you sign in."))
    confirm(actor=actor, password=current, settings=settings, now=now, field="current")
    if current == new:
        raise Invalid({"new": [N_("The new password is the old one. Choose another.")]})
    give(actor, new, actor=actor, now=now, keep_session=session_id, field="new")


def confirm(*, actor: User, password: str, settings: Settings, now: dt.datetime, field: str) -> None:
    """Check the actor's own password again before something that a session left open must not be enough for.

    Raises Invalid with `field`, TooManyRequests, and DirectoryDown for somebody whose password is the directory's.
    """
    account = attempts.account_key(actor.username)
    attempt = attempts.count(account, "", settings, now, username=actor.username)
    try:
        right = _is_right(actor, password, settings)
    except directory.DirectoryDown:
        attempts.take_back(attempt)
        raise
    if not right:
        raise Invalid({field: [N_("This is not your password.")]})
    attempts.forget(account)


def can_be_confirmed(user: User, settings: Settings) -> bool:
    """Say whether this person has a password that can be asked for: ours, or the directory's. One statement at most."""
    if user.password_hash is not None:
        return True
    linked = (one.issuer for one in queries.identities_of(user))
    return directory.is_set(settings) and directory.ISSUER in linked


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


def _is_right(actor: User, password: str, settings: Settings) -> bool:
    if actor.password_hash is not None or not directory.is_set(settings):
        return passwords.is_right(actor.password_hash, password)
    person = directory.find(actor.username, password, settings)
    identity = queries.identity(person.issuer, person.subject) if person else None
    return identity is not None and identity.user_id == actor.id
