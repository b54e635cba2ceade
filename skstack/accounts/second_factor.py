"""The second factor: codes of an authenticator app (TOTP, RFC 6238), and recovery codes for when the phone is gone.

A code is good once: the time step of the last one taken is kept, and only later ones count. API tokens are not
asked for codes; they are made by somebody who was.
"""

from __future__ import annotations

import datetime as dt
import hmac
import secrets

import pyotp
import sqlalchemy as sa

from skstack.accounts import attempts, ending, new_password
from skstack.accounts.models import RecoveryCode, SecondFactor, User
from skstack.audit.services import Action, record
from skstack.config import Settings
from skstack.crypto import hashed
from skstack.db import db, transaction
from skstack.errors import Conflict, Gone, Invalid, NotAllowed
from skstack.messages import N_

RECOVERY_CODES = 10
WRONG_CODE = N_("This code is wrong, or was used already. Wait for the next one.")

# How long somebody may take between seeing the secret and typing the first code.
_TIME_TO_CONFIRM = dt.timedelta(minutes=15)
# Seconds of a time step, and steps that a phone's clock may be off to either side.
_STEP, _DRIFT = 30, 1
_READABLE = "abcdefghjkmnpqrstuvwxyz23456789"


def of(user: User) -> SecondFactor | None:
    """Return what is confirmed or being set up, None if nothing is. One statement."""
    return db.session.get(SecondFactor, user.id, populate_existing=True)


def is_on(user: User) -> bool:
    """Say whether codes are asked of this person. One statement."""
    found = of(user)
    return found is not None and found.confirmed_at is not None


def is_required(user: User, settings: Settings) -> bool:
    """Say whether the settings let this person in only with a second factor."""
    return settings.second_factor == "all" or (settings.second_factor == "superusers" and user.superuser)


def codes_left(user: User) -> int:
    """Return how many recovery codes have not been used. One statement."""
    unused = sa.select(sa.func.count(RecoveryCode.id)).where(
        RecoveryCode.user_id == user.id, RecoveryCode.used_at.is_(None)
    )
    return db.session.scalar(unused) or 0


def address(user: User, secret: str) -> str:
    """Return the otpauth:// address that an authenticator app reads from a QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=user.username, issuer_name="skstack")


def begin(*, actor: User, password: str, settings: Settings, now: dt.datetime) -> SecondFactor:
    """Begin to set up the actor's own second factor and return it with its secret, to be shown this once.

    Raises Conflict if it is on, Invalid with the field `password`, and TooManyRequests.
    """
    if is_on(actor):
        raise Conflict(N_("Your second factor is on already. Switch it off first."))
    new_password.confirm(actor=actor, password=password, settings=settings, now=now, field="password")
    with transaction():
        return prepare(actor, now=now)


def prepare(user: User, *, now: dt.datetime) -> SecondFactor:
    """Put a new secret in place, to be confirmed, in the transaction under way."""
    found = of(user)
    if found is None:
        found = SecondFactor(user_id=user.id)
        db.session.add(found)
    found.secret, found.created_at, found.confirmed_at = pyotp.random_base32(), now, None
    found.last_step = 0
    db.session.flush()
    return found


def being_set_up(user: User, *, now: dt.datetime) -> SecondFactor:
    """Return the second factor that waits for its first code. Raises Gone if there is none, or it was left too long."""
    found = of(user)
    if found is None or found.confirmed_at is not None or now - found.created_at >= _TIME_TO_CONFIRM:
        raise Gone(N_("Nothing waits to be confirmed, or it waited too long. Begin again."))
    return found


def confirm(*, actor: User, code: str, now: dt.datetime, keep_session: int | None = None) -> list[str]:
    """Switch the actor's second factor on with its first code, and return the recovery codes.

    Sessions on other devices end, which were begun without it. Raises Gone as `being_set_up`, and Invalid with `code`.
    """
    with transaction():
        found = being_set_up(actor, now=now)
        if not _take(found, code, now):
            raise Invalid({"code": [WRONG_CODE]})
        found.confirmed_at = now
        codes = _new_codes(actor)
        _record(Action.SECOND_FACTOR_SET_UP, actor, actor)
        ending.end_sessions(actor, actor=actor, now=now, but=keep_session, pending=False)
    return codes


def renew_codes(*, actor: User, password: str, code: str, settings: Settings, now: dt.datetime) -> list[str]:
    """Replace the actor's recovery codes and return the new ones.

    Raises Conflict if the second factor is off, Invalid with `password` or `code`, and TooManyRequests.
    """
    _confirm_both(actor, password, code, settings, now)
    with transaction():
        codes = _new_codes(actor)
        _record(Action.RECOVERY_CODES_RENEWED, actor, actor)
    return codes


def switch_off(*, actor: User, password: str, code: str, settings: Settings, now: dt.datetime) -> None:
    """Switch the actor's own second factor off.

    Raises NotAllowed if the settings require one, else as `renew_codes`.
    """
    if is_required(actor, settings):
        raise NotAllowed(N_("A second factor is required of you, so it stays on."))
    _confirm_both(actor, password, code, settings, now)
    _delete(actor, actor)


def remove(user: User, *, actor: User | None, now: dt.datetime) -> None:
    """Remove another's second factor, whose phone is gone, and end their sessions. Raises Conflict if there is none.

    Who may do this is asked by the callers.
    """
    with transaction():
        if of(user) is None:
            raise Conflict(N_("%(name)s has no second factor.", name=user.username))
        _delete(user, actor)
        attempts.forget(attempts.code_key(user.username))
        ending.end_sessions(user, actor=actor, now=now)


def accept(user: User, code: str, *, now: dt.datetime) -> bool:
    """Use up a code of the app or a recovery code, in the transaction under way, and say whether it was right."""
    found = of(user)
    if found is None or found.confirmed_at is None:
        return False
    return _take(found, code, now) or _take_recovery_code(user, code, now)


def _confirm_both(actor: User, password: str, code: str, settings: Settings, now: dt.datetime) -> None:
    if not is_on(actor):
        raise Conflict(N_("Your second factor is off."))
    new_password.confirm(actor=actor, password=password, settings=settings, now=now, field="password")
    key = attempts.code_key(actor.username)
    attempts.count(key, "", settings, now, username=actor.username, most=attempts.MOST_CODES)
    with transaction():
        right = accept(actor, code, now=now)
    if not right:
        raise Invalid({"code": [WRONG_CODE]})
    attempts.forget(key)


def _take(found: SecondFactor, code: str, now: dt.datetime) -> bool:
    """Use up the time step that the code is of. Of two requests with the same code one gets it."""
    code = "".join(code.split())
    if len(code) != 6 or not (code.isascii() and code.isdigit()):
        return False
    app, step_now = pyotp.TOTP(found.secret), int(now.timestamp()) // _STEP
    for step in range(step_now - _DRIFT, step_now + _DRIFT + 1):
        if hmac.compare_digest(app.generate_otp(step), code):
            done = db.session.execute(
                sa.update(SecondFactor)
                .where(SecondFactor.user_id == found.user_id, SecondFactor.last_step < step)
                .values(last_step=step)
                .execution_options(synchronize_session="fetch")
            )
            return bool(done.rowcount)  # type: ignore[attr-defined]  # a CursorResult, for an UPDATE
    return False


def _take_recovery_code(user: User, code: str, now: dt.datetime) -> bool:
    done = db.session.execute(
        sa.update(RecoveryCode)
        .where(
            RecoveryCode.user_id == user.id,
            RecoveryCode.code_hash == _code_hash(user, code),
            RecoveryCode.used_at.is_(None),
        )
        .values(used_at=now)
        .execution_options(synchronize_session=False)
    )
    if not done.rowcount:  # type: ignore[attr-defined]  # a CursorResult, for an UPDATE
        return False
    _record(Action.RECOVERY_CODE_USED, user, user, left=codes_left(user))
    return True


def _new_codes(user: User) -> list[str]:
    codes = ["-".join(_random(4) for _ in range(4)) for _ in range(RECOVERY_CODES)]
    db.session.execute(sa.delete(RecoveryCode).where(RecoveryCode.user_id == user.id))
    db.session.add_all(RecoveryCode(user_id=user.id, code_hash=_code_hash(user, code)) for code in codes)
    db.session.flush()
    return codes


def _random(length: int) -> str:
    return "".join(secrets.choice(_READABLE) for _ in range(length))


def _code_hash(user: User, code: str) -> str:
    # 79 bits of chance, so a plain hash is enough. People leave out dashes, add blanks and type capitals.
    return hashed(f"{user.id} {''.join(code.lower().replace('-', '').split())}")


def _delete(user: User, actor: User | None) -> None:
    with transaction():
        db.session.execute(sa.delete(RecoveryCode).where(RecoveryCode.user_id == user.id))
        found = of(user)
        if found is not None:
            db.session.delete(found)
            db.session.flush()
        _record(Action.SECOND_FACTOR_REMOVED, user, actor)


def _record(action: Action, user: User, actor: User | None, **more: int) -> None:
    record(action, actor=actor, object_type="user", object_id=user.id, object_name=user.username, **more)
