"""The limits on attempts to sign in, shared by all web processes through the database.

An attempt is counted before anything is looked at, so that twenty at once are twenty attempts. Beyond the limit no
password and no code is looked at any more.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass

import sqlalchemy as sa

from skstack.accounts import queries
from skstack.accounts.models import SignInAttempt
from skstack.audit import refusals
from skstack.audit.services import Action
from skstack.config import Settings
from skstack.crypto import hashed
from skstack.db import db, transaction
from skstack.errors import TooManyRequests
from skstack.messages import N_

# A code has only a million values, of which three are right at a time.
MOST_CODES = 5

_LOCK = 0x736B_7369  # Any number that nothing else in the database uses.


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that was counted. `is_last`: the next one has to wait."""

    id: int
    is_last: bool


def account_key(username: str) -> str:
    """Return what an account's attempts are counted under.

    It is a hash, because people type their password into the field for the name, and that must not be kept.
    """
    return hashed(username.strip().lower())


def code_key(username: str) -> str:
    """Return what attempts at an account's second factor are counted under: a right password must not forget them."""
    return hashed(f"second factor\n{username.strip().lower()}")


def count(
    account: str, address: str, settings: Settings, now: dt.datetime, *, username: str = "", most: int = 0
) -> Attempt:
    """Count an attempt, `most` or as many as the settings say being allowed. Raises TooManyRequests beyond them.

    An empty `address` is not counted: a signed-in person asks, and others share that address. `username` is as it was
    typed, if it was; the refusal that is written down names only a user that there is.
    """
    try:
        return _count(account, address, settings, now, most)
    except TooManyRequests as err:
        user = queries.user_named(username)
        refusals.note(
            Action.SIGN_IN_REFUSED,
            actor=None,
            key=address or account,
            object_type="user",
            object_id=user.id if user else None,
            object_name=user.username if user else "",
            reason=err.message,
        )
        raise


def _count(account: str, address: str, settings: Settings, now: dt.datetime, most: int) -> Attempt:
    since = now - dt.timedelta(seconds=settings.login_pause)
    most = min(most or settings.login_attempts, settings.login_attempts)
    with transaction():
        if db.engine.dialect.name == "postgresql":  # SQLite writes one at a time anyway.
            db.session.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        db.session.execute(sa.delete(SignInAttempt).where(SignInAttempt.at <= since))
        of_account = _attempts(SignInAttempt.account == account, most)
        of_address = (
            _attempts(SignInAttempt.address == address, settings.login_attempts_address) if address else []
        )
        for attempts, limit in ((of_account, most), (of_address, settings.login_attempts_address)):
            if len(attempts) >= limit:
                raise _pause(attempts[-1] - since)
        row = SignInAttempt(at=now, account=account, address=address[:64])
        db.session.add(row)
        db.session.flush()
    is_last = len(of_account) + 1 == most or len(of_address) + 1 == settings.login_attempts_address
    return Attempt(row.id, is_last)


def forget(account: str) -> None:
    """Forget the failed attempts of an account, after a right password or when it was given a new one."""
    with transaction():
        db.session.execute(sa.delete(SignInAttempt).where(SignInAttempt.account == account))


def take_back(attempt: Attempt) -> None:
    """Forget one attempt: nothing was looked at, since what knows the answer could not be reached."""
    with transaction():
        db.session.execute(sa.delete(SignInAttempt).where(SignInAttempt.id == attempt.id))


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
            "Too many failed attempts. Try again in %(minutes)s min, or ask an administrator.",
            minutes=math.ceil(seconds / 60),
        ),
        retry_after=seconds,
    )
