"""Signing in: the password, then the second factor where there is one, then a session.

What a browser holds between the two is the token of a `PendingSignIn`, which opens nothing.
"""

from __future__ import annotations

import datetime as dt
import secrets
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from skstack.accounts import attempts, directory, ending, external, passwords, queries, second_factor
from skstack.accounts.models import PendingSignIn, User, UserSession
from skstack.audit.services import Action, record
from skstack.config import Settings
from skstack.crypto import hashed
from skstack.db import db, transaction
from skstack.errors import Gone, Invalid
from skstack.messages import N_

# Long enough to look for the phone.
SECOND_STEP_TIME = dt.timedelta(minutes=10)

_WRONG = N_("The user name or the password is wrong.")
_TOO_LATE = N_("This sign-in took too long, or was ended. Begin again.")


class Way(StrEnum):
    """How somebody showed who they are."""

    PASSWORD = "password"  # noqa: S105 - a word, not a password
    DIRECTORY = "directory"
    PROVIDER = "provider"


class Step(StrEnum):
    """What is still asked before a session begins."""

    CODE = "code"
    SET_UP = "set up"


@dataclass(frozen=True, slots=True)
class Browser:
    """Where a sign-in comes from. `former_token` is of the session that the browser had before, if any."""

    address: str
    user_agent: str
    former_token: str | None = None


@dataclass(frozen=True, slots=True)
class SignIn:
    """A new session: whose, and the token that only the browser's cookie keeps.

    With a `step` there is no session yet: the token is that of the second step.
    """

    user: User
    token: str
    renews: bool = False  # The browser's former session was this person's too, and had merely run out.
    step: Step | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A sign-in that waits for its second step."""

    user: User
    step: Step
    pending: PendingSignIn


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
    """Begin a session, or its second step, for whom the password belongs to.

    A user with a password of ours is never asked of the directory, so they get in while it is down.
    Raises Invalid if name or password is wrong or the person is deactivated, without saying which,
    TooManyRequests if the account or the address has used up its attempts, and DirectoryDown.
    """
    account = attempts.account_key(username)
    attempt = attempts.count(account, address, settings, now, username=username)
    user = queries.user_named(username)
    browser = Browser(address, user_agent, former_token)
    if directory.is_set(settings) and (user is None or user.password_hash is None):
        person = _ask_directory(username, password, user, attempt, settings)
        try:
            with transaction():
                known = external.admit(person, external.of_directory(settings), now=now)
                attempts.forget(account)
                return enter(known, way=Way.DIRECTORY, browser=browser, settings=settings, now=now)
        except external.Refused as err:
            _record_failure(err.user, err.reason, attempt)
            raise
    seen_hash = user.password_hash if user else None
    if not passwords.is_right(seen_hash, password) or user is None or not user.active:
        reason = "unknown" if user is None else "deactivated" if not user.active else "password"
        _record_failure(user, reason, attempt)
        raise Invalid({"": [_WRONG]})
    new_hash = passwords.hash_password(password) if passwords.is_outdated(seen_hash or "") else None
    with transaction():
        db.session.refresh(user, with_for_update=True)
        # Another password, or deactivated, while this one was being looked at.
        if user.password_hash != seen_hash or not user.active:
            raise Invalid({"": [_WRONG]})
        if new_hash:
            user.password_hash = new_hash
        attempts.forget(account)
        return enter(user, way=Way.PASSWORD, browser=browser, settings=settings, now=now)


def sign_in_by_provider(
    person: directory.Person, *, browser: Browser, settings: Settings, now: dt.datetime
) -> SignIn:
    """Begin a session, or its second step, for whom the OIDC provider has named. Raises Refused."""
    try:
        with transaction():
            user = external.admit(person, external.of_provider(settings), now=now)
            return enter(user, way=Way.PROVIDER, browser=browser, settings=settings, now=now)
    except external.Refused as err:
        _record_failure(err.user, err.reason)
        raise


def enter(user: User, *, way: Way, browser: Browser, settings: Settings, now: dt.datetime) -> SignIn:
    """Begin the session of somebody who has shown who they are, or its second step, in the transaction under way."""
    step = _step(user, way, settings)
    if step is None:
        return _begin(user, way=way, browser=browser, settings=settings, now=now)
    if step is Step.SET_UP:
        second_factor.prepare(user, now=now)
    token = secrets.token_urlsafe(32)
    db.session.execute(sa.delete(PendingSignIn).where(PendingSignIn.created_at <= now - SECOND_STEP_TIME))
    db.session.add(PendingSignIn(token_hash=hashed(token), user_id=user.id, way=str(way), created_at=now))
    return SignIn(user, token, step=step)


def waiting(token: str | None, *, settings: Settings, now: dt.datetime) -> Waiting:
    """Return the sign-in that waits for its second step. Raises Gone if there is none, or none any more."""
    found = None
    if token is not None:
        statement = sa.select(PendingSignIn).where(PendingSignIn.token_hash == hashed(token))
        found = db.session.scalar(statement)
    if found is None or now - found.created_at >= SECOND_STEP_TIME or not found.user.active:
        raise Gone(_TOO_LATE)
    step = _step(found.user, Way(found.way), settings)
    if step is None:  # The second factor was removed, and none is needed any more.
        raise Gone(_TOO_LATE)
    return Waiting(found.user, step, found)


def finish(*, token: str | None, code: str, browser: Browser, settings: Settings, now: dt.datetime) -> SignIn:
    """Begin the session of a sign-in whose code is right: one of the app, or a recovery code.

    Raises Gone if the sign-in waits no more, Invalid with the field `code`, and TooManyRequests.
    """
    found = waiting(token, settings=settings, now=now)
    if found.step is not Step.CODE:
        raise Gone(_TOO_LATE)
    attempt = _count_code(found.user, browser, settings, now)
    with transaction():
        right = second_factor.accept(found.user, code, now=now)
        if right:
            return _finish(found, browser, settings, now)
    _record_failure(found.user, "second factor", attempt)
    raise Invalid({"code": [second_factor.WRONG_CODE]})


def finish_setting_up(
    *, token: str | None, code: str, browser: Browser, settings: Settings, now: dt.datetime
) -> tuple[SignIn, list[str]]:
    """Confirm the second factor that somebody must set up before they get in, and begin their session.

    Return it with the recovery codes. Raises Gone, Invalid with the field `code`, and TooManyRequests.
    """
    found = waiting(token, settings=settings, now=now)
    if found.step is not Step.SET_UP:
        raise Gone(_TOO_LATE)
    _count_code(found.user, browser, settings, now)
    with transaction():
        codes = second_factor.confirm(actor=found.user, code=code, now=now)
        return _finish(found, browser, settings, now), codes


def _ask_directory(
    username: str, password: str, user: User | None, attempt: attempts.Attempt, settings: Settings
) -> directory.Person:
    passwords.is_right(None, password)  # As much work as for an account of ours.
    try:
        person = directory.find(username, password, settings)
    except directory.DirectoryDown:
        attempts.take_back(attempt)
        raise
    if person is None:
        _record_failure(user, "unknown" if user is None else "password", attempt)
        raise Invalid({"": [_WRONG]})
    return person


def _step(user: User, way: Way, settings: Settings) -> Step | None:
    if second_factor.is_on(user):
        return Step.CODE
    # A provider asks for a second factor itself, if it is set to.
    required = way is not Way.PROVIDER and second_factor.is_required(user, settings)
    return Step.SET_UP if required else None


def _count_code(user: User, browser: Browser, settings: Settings, now: dt.datetime) -> attempts.Attempt:
    key = attempts.code_key(user.username)
    return attempts.count(
        key, browser.address, settings, now, username=user.username, most=attempts.MOST_CODES
    )


def _finish(found: Waiting, browser: Browser, settings: Settings, now: dt.datetime) -> SignIn:
    """Begin the session, unless another request has taken the same sign-in or the person is out meanwhile."""
    user = found.user
    db.session.refresh(user, with_for_update=True)
    taken = db.session.execute(sa.delete(PendingSignIn).where(PendingSignIn.id == found.pending.id))
    if not taken.rowcount or not user.active:  # type: ignore[attr-defined]  # a CursorResult, for a DELETE
        raise Gone(_TOO_LATE)
    attempts.forget(attempts.code_key(user.username))
    return _begin(user, way=Way(found.pending.way), browser=browser, settings=settings, now=now)


def _begin(user: User, *, way: Way, browser: Browser, settings: Settings, now: dt.datetime) -> SignIn:
    token = secrets.token_urlsafe(32)
    user.signed_in_at = now
    renews = _replace_former(browser.former_token, user, now)
    _delete_old(user, settings, now)
    db.session.add(
        UserSession(
            token_hash=hashed(token),
            user_id=user.id,
            created_at=now,
            seen_at=now,
            address=browser.address[:64],
            user_agent=browser.user_agent[:256],
        )
    )
    record(
        Action.SIGNED_IN,
        actor=user,
        object_type="user",
        object_id=user.id,
        object_name=user.username,
        way=str(way),
        second_factor=second_factor.is_on(user),
    )
    return SignIn(user, token, renews)


def _record_failure(user: User | None, reason: str, attempt: attempts.Attempt | None = None) -> None:
    """Write the audit event of a failed sign-in. A name that nobody has is not kept; it may be a password."""
    with transaction():
        record(
            Action.SIGN_IN_FAILED,
            actor=None,
            object_type="user",
            object_id=user.id if user else None,
            object_name=user.username if user else "",
            reason=reason,
            limit_reached=attempt is not None and attempt.is_last,
        )


def _replace_former(former_token: str | None, user: User, now: dt.datetime) -> bool:
    """End the session that the browser had before, and say whether it was this person's and had merely run out."""
    if former_token is None:
        return False
    former = db.session.scalar(sa.select(UserSession).where(UserSession.token_hash == hashed(former_token)))
    if former is None or former.ended_at is not None:
        return False
    ending.end(now, UserSession.id == former.id)
    return former.user_id == user.id


def _delete_old(user: User, settings: Settings, now: dt.datetime) -> None:
    """Delete the person's sessions that are beyond any use."""
    oldest = now - dt.timedelta(seconds=2 * settings.session_lifetime_absolute)
    db.session.execute(
        sa.delete(UserSession).where(UserSession.user_id == user.id, UserSession.created_at < oldest)
    )
