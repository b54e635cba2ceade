"""Signing in and out, the limits on attempts, and ending sessions.

An attempt is counted before the password is looked at, so that twenty at once are twenty attempts, in all web
processes together. Beyond the limit no password is looked at any more.
"""

from __future__ import annotations

import datetime as dt
import math
import secrets
from dataclasses import dataclass

import sqlalchemy as sa

from skstack.accounts import passwords, queries
from skstack.accounts.models import SignInAttempt, User, UserSession
from skstack.audit.services import Action, record
from skstack.config import Settings
from skstack.crypto import hashed
from skstack.db import db, transaction
from skstack.errors import Conflict, Invalid, NotFound, TooManyRequests
from skstack.messages import N_

_WRONG = N_("The user name or the password is wrong.")
_ATTEMPTS_LOCK = 0x736B_7369  # Any number that nothing else in the database uses.


@dataclass(frozen=True, slots=True)
class SignIn:
    """A new session: whose, and the token that only the browser's cookie keeps."""

    user: User
    token: str
    renews: bool  # The browser's former session was this person's too, and had merely run out.


def sign_in(
    *,
    username: str,
    password: str,
    address: str,
    user_agent: str,
    settings: Settings,
    now: dt.datetime,
    former_token: str | None = None,
) -> SignIn:
    """Begin a session for whom the password belongs to, and end the browser's former one.

    Raises Invalid if name or password is wrong or the person is deactivated, without saying which, and
    TooManyRequests if the account or the address has used up its attempts.
    """
    account = account_key(username)
    last_attempt = _count_attempt(account, address, settings, now)
    user = queries.user_named(username)
    seen_hash = user.password_hash if user else None
    if not passwords.is_right(seen_hash, password) or user is None or not user.active:
        _record_failure(user, last_attempt)
        raise Invalid({"": [_WRONG]})
    new_hash = passwords.hash_password(password) if passwords.is_outdated(seen_hash or "") else None
    token = secrets.token_urlsafe(32)
    with transaction():
        db.session.refresh(user, with_for_update=True)
        # Another password, or deactivated, while this one was being looked at.
        if user.password_hash != seen_hash or not user.active:
            raise Invalid({"": [_WRONG]})
        if new_hash:
            user.password_hash = new_hash
        user.signed_in_at = now
        forget_attempts(account)
        renews = _replace_former(former_token, user, now)
        _delete_old(user, settings, now)
        db.session.add(
            UserSession(
                token_hash=hashed(token),
                user_id=user.id,
                created_at=now,
                seen_at=now,
                address=address[:64],
                user_agent=user_agent[:256],
            )
        )
        record(Action.SIGNED_IN, actor=user, object_type="user", object_id=user.id, object_name=user.username)
    return SignIn(user, token, renews)


def sign_out(*, token: str, actor: User, now: dt.datetime) -> None:
    """End the session that `token` belongs to. Does nothing if it has ended."""
    with transaction():
        if _end(now, UserSession.token_hash == hashed(token)):
            record(
                Action.SIGNED_OUT,
                actor=actor,
                object_type="user",
                object_id=actor.id,
                object_name=actor.username,
            )


def end_session(session_id: int, *, actor: User, now: dt.datetime) -> None:
    """End one of the actor's own sessions. Raises NotFound if it is nobody's or another's, Conflict if it has ended."""
    with transaction():
        row = db.session.get(UserSession, session_id)
        if row is None or row.user_id != actor.id:
            raise NotFound
        if not _end(now, UserSession.id == session_id):
            raise Conflict(N_("This session has already ended."))
        record(
            Action.SESSION_ENDED,
            actor=actor,
            object_type="user",
            object_id=actor.id,
            object_name=actor.username,
            sessions=1,
        )


def end_sessions(user: User, *, actor: User | None, now: dt.datetime, but: int | None = None) -> int:
    """End all sessions of `user`, except the one with the id `but`, and return how many ended."""
    with transaction():
        ended = _end(now, UserSession.user_id == user.id, UserSession.id != (but or 0))
        if ended:
            record(
                Action.SESSION_ENDED,
                actor=actor,
                object_type="user",
                object_id=user.id,
                object_name=user.username,
                sessions=ended,
            )
    return ended


def change_password(
    *, actor: User, current: str, new: str, session_id: int | None, settings: Settings, now: dt.datetime
) -> None:
    """Change the actor's own password, and end their sessions on other devices.

    Raises Invalid with the field `current` or `new`, and TooManyRequests: a session left open must not be a way
    to guess the password.
    """
    account = account_key(actor.username)
    _count_attempt(account, "", settings, now)
    if not passwords.is_right(actor.password_hash, current):
        raise Invalid({"current": [N_("This is not your password.")]})
    forget_attempts(account)
    if current == new:
        raise Invalid({"new": [N_("The new password is the old one. Choose another.")]})
    set_password(actor, new, actor=actor, now=now, keep_session=session_id, field="new")


def set_password(
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
        forget_attempts(account_key(user.username))
        ended = _end(now, UserSession.user_id == user.id, UserSession.id != (keep_session or 0))
        record(
            Action.PASSWORD_CHANGED,
            actor=actor,
            object_type="user",
            object_id=user.id,
            object_name=user.username,
            sessions_ended=ended,
        )


def account_key(username: str) -> str:
    """Return what an account's attempts are counted under.

    It is a hash, because people type their password into the field for the name, and that must not be kept.
    """
    return hashed(username.strip().lower())


def forget_attempts(account: str) -> None:
    """Forget the failed attempts of an account, after a right password or when it was given a new one."""
    with transaction():
        db.session.execute(sa.delete(SignInAttempt).where(SignInAttempt.account == account))


def _count_attempt(account: str, address: str, settings: Settings, now: dt.datetime) -> bool:
    """Count an attempt, and say whether it is the last before the pause. Raises TooManyRequests beyond it.

    An empty `address` is not counted: a signed-in person asks, and others share that address.
    """
    since = now - dt.timedelta(seconds=settings.login_pause)
    with transaction():
        if db.engine.dialect.name == "postgresql":  # SQLite writes one at a time anyway.
            db.session.execute(sa.select(sa.func.pg_advisory_xact_lock(_ATTEMPTS_LOCK)))
        db.session.execute(sa.delete(SignInAttempt).where(SignInAttempt.at <= since))
        of_account = _attempts(SignInAttempt.account == account, settings.login_attempts)
        of_address = (
            _attempts(SignInAttempt.address == address, settings.login_attempts_address) if address else []
        )
        for attempts, most in (
            (of_account, settings.login_attempts),
            (of_address, settings.login_attempts_address),
        ):
            if len(attempts) >= most:
                raise _pause(attempts[-1] - since)
        db.session.add(SignInAttempt(at=now, account=account, address=address[:64]))
    return (
        len(of_account) + 1 == settings.login_attempts
        or len(of_address) + 1 == settings.login_attempts_address
    )


def _attempts(condition: sa.ColumnElement[bool], most: int) -> list[dt.datetime]:
    """Return the times of the latest attempts, newest first: as many as decide."""
    return list(
        db.session.scalars(
            sa.select(SignInAttempt.at).where(condition).order_by(SignInAttempt.at.desc()).limit(most)
        )
    )


def _pause(left: dt.timedelta) -> TooManyRequests:
    seconds = max(1, math.ceil(left.total_seconds()))
    return TooManyRequests(
        N_(
            "Too many failed attempts. Try again in %(minutes)s min, or ask an administrator for a new password.",
            minutes=math.ceil(seconds / 60),
        ),
        retry_after=seconds,
    )


def _record_failure(user: User | None, last_attempt: bool) -> None:
    """Write the audit event of a failed sign-in. A name that nobody has is not kept; it may be a password."""
    with transaction():
        record(
            Action.SIGN_IN_FAILED,
            actor=None,
            object_type="user",
            object_id=user.id if user else None,
            object_name=user.username if user else "",
            reason="unknown" if user is None else "deactivated" if not user.active else "password",
            limit_reached=last_attempt,
        )


def _replace_former(former_token: str | None, user: User, now: dt.datetime) -> bool:
    """End the session that the browser had before, and say whether it was this person's and had merely run out."""
    if former_token is None:
        return False
    former = db.session.scalar(sa.select(UserSession).where(UserSession.token_hash == hashed(former_token)))
    if former is None or former.ended_at is not None:
        return False
    _end(now, UserSession.id == former.id)
    return former.user_id == user.id


def _delete_old(user: User, settings: Settings, now: dt.datetime) -> None:
    """Delete the person's sessions that are beyond any use."""
    oldest = now - dt.timedelta(seconds=2 * settings.session_lifetime_absolute)
    db.session.execute(
        sa.delete(UserSession).where(UserSession.user_id == user.id, UserSession.created_at < oldest)
    )


def _end(now: dt.datetime, *conditions: sa.ColumnElement[bool]) -> int:
    """End those sessions that have not ended yet, and return how many."""
    statement = sa.update(UserSession).where(UserSession.ended_at.is_(None), *conditions).values(ended_at=now)
    return int(db.session.execute(statement.execution_options(synchronize_session="fetch")).rowcount)  # type: ignore[attr-defined]  # a CursorResult, for an UPDATE
