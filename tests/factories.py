"""The cast, and what tests make: plain functions, all to be called within an application context.

Alice submits, Bob approves, Carol approves at level 2, Mallory is outside, Root administers. Each of them is
made when first asked for, and everybody's password is `PASSWORD`.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Collection
from functools import cache
from typing import Any

import sqlalchemy as sa
from flask import current_app, session
from flask.testing import FlaskClient
from flask_wtf.csrf import generate_csrf

from skstack.accounts import passwords, tokens
from skstack.accounts.models import Group, Page, Role, User, UserSession
from skstack.crypto import hashed
from skstack.db import transaction, utcnow
from skstack.extensions import db

PASSWORD = "correct horse battery"
_numbers = itertools.count(1)

# Alice's role sees what a member sees; approvers see the inbox too.
MEMBER = (Page.SUBMIT, Page.EXECUTE, Page.DASHBOARD)
APPROVER = (*MEMBER, Page.APPROVE)


def make_group(name: str = "", description: str = "") -> Group:
    """Return the group called `name`, made if there is none; without a name, a new one."""
    return _named(Group, name or f"group{next(_numbers)}", description=description)


def make_role(name: str = "", pages: Collection[str] = MEMBER) -> Role:
    """Return the role called `name`, made with `pages` if there is none; without a name, a new one."""
    return _named(Role, name or f"role{next(_numbers)}", pages=[str(page) for page in pages])


def make_user(
    username: str = "",
    *,
    groups: Collection[Group] = (),
    roles: Collection[Role] = (),
    pages: Collection[str] = (),
    **columns: Any,
) -> User:
    """Return a new user with the password `PASSWORD`; `pages` gives them a role of their own with these."""
    with transaction():
        holds = [*roles, *([make_role(pages=pages)] if pages else [])]
        user = User(username=username or f"user{next(_numbers)}", password_hash=_hash(PASSWORD), **columns)
        user.groups, user.roles = list(groups), holds
        db.session.add(user)
    return user


def alice() -> User:
    """Return Alice, who submits: in the group `ops`."""
    return _one_of_the_cast("alice", groups=("ops",), role=("member", MEMBER), display_name="Alice Archer")


def bob() -> User:
    """Return Bob, who approves: in the group `leads`."""
    return _one_of_the_cast("bob", groups=("leads",), role=("approver", APPROVER))


def carol() -> User:
    """Return Carol, who approves at level 2: in the group `directors`."""
    return _one_of_the_cast("carol", groups=("directors",), role=("approver", APPROVER))


def mallory() -> User:
    """Return Mallory, who is outside: a member's pages, but in no group that anything is for."""
    return _one_of_the_cast("mallory", groups=("outsiders",), role=("member", MEMBER))


def root() -> User:
    """Return Root, who administers: a superuser without groups and roles."""
    return _one_of_the_cast("root", superuser=True)


def sign_in(client: FlaskClient, user: User) -> UserSession:
    """Sign `user` in at `client` without the form, and let it send the CSRF token with every request from now on."""
    token = secrets.token_urlsafe(32)
    with transaction():
        row = UserSession(token_hash=hashed(token), user_id=user.id, created_at=utcnow(), seen_at=utcnow())
        db.session.add(row)
    with current_app.test_request_context():
        signed = generate_csrf()
        raw = session["csrf_token"]
    with client.session_transaction() as cookie:
        cookie["_user_id"], cookie["csrf_token"] = token, raw
    client.environ_base["HTTP_X_CSRFTOKEN"] = signed
    return row


def make_token(user: User, *, days: int | None = None) -> str:
    """Return a new API token of `user`, who may have been loaded in another context."""
    user = db.session.get_one(User, user.id)
    return tokens.create(user, actor=user, name="test", days=days, now=utcnow())


def bearer(user: User) -> dict[str, str]:
    """Return the headers of an API call by `user`."""
    return {"Authorization": f"Bearer {make_token(user)}"}


def _one_of_the_cast(
    username: str,
    *,
    groups: Collection[str] = (),
    role: tuple[str, Collection[str]] | None = None,
    **columns: Any,
) -> User:
    found = db.session.scalar(sa.select(User).where(User.username == username))
    return found or make_user(
        username,
        groups=[make_group(name) for name in groups],
        roles=[make_role(*role)] if role else [],
        **columns,
    )


def _named(model: type[Any], name: str, **columns: Any) -> Any:
    found = db.session.scalar(sa.select(model).where(model.name == name))
    if found is None:
        with transaction():
            found = model(name=name, **columns)
            db.session.add(found)
    return found


@cache
def _hash(password: str) -> str:
    return passwords.hash_password(password)
