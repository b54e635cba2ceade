"""Who is asking: the cookie of a signed-in browser, or the bearer token of an API call.

The cookie is Flask's signed session. It carries a random token, whose hash is the key of a `UserSession` row;
ending the row ends the session, wherever the cookie is. Under /api/ no cookie counts, only
`Authorization: Bearer`. Either way one statement finds the user with groups and roles.
"""

from __future__ import annotations

import datetime as dt
import math
from functools import cache
from typing import Any, cast

import sqlalchemy as sa
from flask import Flask, current_app, g, session
from flask_login import current_user
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import InstrumentedAttribute, contains_eager
from werkzeug.wrappers import Request

from skstack.accounts.models import ApiToken, Group, Role, User, UserSession
from skstack.config import Settings
from skstack.crypto import hashed
from skstack.db import transaction, utcnow
from skstack.errors import NotSignedIn, Unavailable
from skstack.extensions import csrf, db, login_manager
from skstack.messages import N_
from skstack.web.errors import is_api

_TOKEN = "_user_id"  # noqa: S105 - the name of the entry that Flask-Login looks at, not a token
_CSRF = "csrf_token"
_SECOND_STEP = "second_step"
_SEEN_EVERY = dt.timedelta(minutes=1)


def init_app(app: Flask) -> None:
    """Make `current_user` work, for pages and for the API, and check CSRF tokens on pages."""
    settings: Settings = app.config["SKSTACK"]
    login_manager.session_protection = (
        None  # The row in the database says what holds, not the browser's name.
    )
    login_manager.user_loader(_load_from_cookie)
    login_manager.request_loader(_load_from_header)
    if settings.secure_cookies:
        # ASVS 5.0, 3.3.1: browsers take a cookie of this name over HTTPS only, and from no other host.
        app.config["SESSION_COOKIE_NAME"] = "__Host-skstack"
    # After the check of permissions: who is not signed in any more is told so, and not that the page is too old.
    app.config["WTF_CSRF_CHECK_DEFAULT"] = False
    app.before_request(_check_csrf)


def begin(user: User, token: str, *, keep_forms: bool = False) -> None:
    """Put a new session's token into the cookie; nothing that the cookie held before survives.

    `keep_forms` keeps the CSRF token, so that a page left open can still be sent: right only where the cookie's
    session was this user's own.
    """
    kept = session.get(_CSRF) if keep_forms else None
    session.clear()
    session[_TOKEN] = token
    if kept:
        session[_CSRF] = kept
    g._login_user = user


def wait_for_second_step(token: str) -> None:
    """Put the token of a sign-in that is not finished into the cookie. It signs nobody in."""
    session[_SECOND_STEP] = token


def second_step() -> str | None:
    """Return the token of the sign-in that this browser has begun and not finished."""
    found = session.get(_SECOND_STEP)
    return found if isinstance(found, str) else None


def forget() -> None:
    """Empty the cookie and let the rest of this request see nobody."""
    session.clear()
    g._login_user = login_manager.anonymous_user()


def signed_in_user() -> User:
    """Return the user behind `current_user`: the row itself, for services. Raises NotSignedIn if there is none."""
    if not current_user.is_authenticated:
        raise NotSignedIn(N_("Sign in to go on."))
    return cast(User, current_user._get_current_object())


def user_after_wait() -> User:
    """Return who asks, looked up anew: session or token may have ended while the request waited. Raises NotSignedIn then."""
    g.pop("_login_user", None)
    return signed_in_user()


def token() -> str | None:
    """Return the session token of the request's cookie, whether it still holds or not."""
    found = session.get(_TOKEN)
    return found if isinstance(found, str) else None


def current_session_id() -> int | None:
    """Return the id of the `UserSession` that the request under way belongs to."""
    return cast("int | None", g.get("skstack_session_id")) if current_user.is_authenticated else None


def seconds_left() -> float:
    """Return how long the session or token of the request under way holds by itself; infinite for one that does not end."""
    ends_at: dt.datetime | None = g.get("skstack_ends_at")
    return math.inf if ends_at is None else (ends_at - utcnow()).total_seconds()


def local_path(target: str | None, default: str = "/") -> str:
    """Return `target` if it is a path of this site, else `default`: a link must not lead people elsewhere."""
    if not target or not target.startswith("/") or len(target) > 2000:
        return default
    # Browsers read a backslash as a slash and drop line ends and tabs: `/\evil`, `/<tab>/evil` lead away.
    if target.startswith("//") or "\\" in target or any(ord(character) < 0x20 for character in target):
        return default
    return target


def _check_csrf() -> None:
    if not is_api() and current_app.config["WTF_CSRF_ENABLED"]:
        csrf.protect(apply_exemptions=True)


def _load_from_cookie(found: Any) -> User | None:
    if is_api() or not isinstance(found, str):
        return None
    settings: Settings = current_app.config["SKSTACK"]
    now = utcnow()
    row: UserSession | None = _find(UserSession, found)
    if row is None or row.is_over(settings, now) or not row.user.active:
        return None
    g.skstack_session_id = row.id
    g.skstack_ends_at = row.ends_at(settings)
    _note(
        UserSession.seen_at, row, now, min(_SEEN_EVERY, dt.timedelta(seconds=settings.session_lifetime / 4))
    )
    return row.user


def _load_from_header(given: Request) -> User | None:
    if not is_api():
        return None
    scheme, _, found = given.headers.get("Authorization", "").partition(" ")
    found = found.strip()
    if scheme.lower() != "bearer" or not found:
        return None
    now = utcnow()
    row: ApiToken | None = _find(ApiToken, found)
    if row is None or not row.is_valid(now) or not row.user.active:
        g._login_user = login_manager.anonymous_user()
        raise NotSignedIn(
            N_("This token is not valid: it is unknown, expired or revoked, or its user is deactivated.")
        )
    g.skstack_ends_at = row.expires_at
    _note(ApiToken.used_at, row, now, _SEEN_EVERY)
    return row.user


def _find(model: type[UserSession] | type[ApiToken], token: str) -> Any:
    """Return the session or token with its user, groups and roles, in one statement; None if there is none."""
    try:
        return db.session.scalars(_statement(model), {"token_hash": hashed(token)}).unique().one_or_none()
    except (OperationalError, PoolTimeout):
        g._login_user = login_manager.anonymous_user()  # The page that tells of it must not ask again.
        raise


@cache
def _statement(model: type[UserSession] | type[ApiToken]) -> sa.Select[Any]:
    # Built once: building it costs as much as running it, and every request for a piece of a log runs it.
    return (
        sa.select(model)
        .join(model.user)
        .outerjoin(User.groups)
        .outerjoin(User.roles)
        .where(model.token_hash == sa.bindparam("token_hash"))
        .order_by(Group.name, Role.name)
        .options(contains_eager(model.user).options(contains_eager(User.groups), contains_eager(User.roles)))
        .execution_options(populate_existing=True)
    )


def _note(column: InstrumentedAttribute[Any], row: Any, now: dt.datetime, every: dt.timedelta) -> None:
    """Write down that a session or token was used, at most once in `every`. A busy database is no reason to refuse."""
    before, row_id = getattr(row, column.key), row.id
    if before is not None and now - before < every:
        return
    model = column.class_
    try:
        with transaction():
            db.session.execute(
                sa.update(model)
                .where(model.id == row_id, sa.or_(column.is_(None), column <= now - every))
                .values({column.key: now})
                .execution_options(synchronize_session=False)
            )
    except (OperationalError, Unavailable) as err:
        current_app.logger.warning("last use of %s %s was not noted: %s", model.__tablename__, row_id, err)
