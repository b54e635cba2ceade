"""Reads for the pages about people. Each says how many statements it needs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import selectinload

from skstack.accounts.models import (
    ApiToken,
    ExternalIdentity,
    Group,
    Role,
    User,
    UserSession,
    user_groups,
    user_roles,
)
from skstack.config import Settings
from skstack.errors import NotFound
from skstack.extensions import db

USERS_PER_PAGE = 100


@dataclass(frozen=True, slots=True)
class UserPage:
    """A page of users by name. `next` is the name to go on after, None on the last page."""

    items: Sequence[User]
    next: str | None
    newer: bool


@dataclass(frozen=True, slots=True)
class Counted:
    """A group or role with the number of its users."""

    row: Group | Role
    count: int


def user_named(username: str) -> User | None:
    """Return the user of that name, whatever its case. One statement."""
    return db.session.scalar(sa.select(User).where(sa.func.lower(User.username) == username.strip().lower()))


def identity(issuer: str, subject: str) -> ExternalIdentity | None:
    """Return what links a subject of an issuer to a user. One statement, another for the user."""
    return db.session.scalar(
        sa.select(ExternalIdentity).where(
            ExternalIdentity.issuer == issuer, ExternalIdentity.subject == subject
        )
    )


def identities_of(user: User) -> Sequence[ExternalIdentity]:
    """Return the directory's entry and the subjects that sign in as `user`. One statement."""
    return db.session.scalars(
        sa.select(ExternalIdentity).where(ExternalIdentity.user_id == user.id).order_by(ExternalIdentity.id)
    ).all()


def users(*, text: str = "", state: str = "", after: str = "", limit: int = USERS_PER_PAGE) -> UserPage:
    """Return users by name, with groups and roles; `state` is "active", "deactivated" or "". Three statements."""
    name = sa.func.lower(User.username)
    statement = sa.select(User).options(selectinload(User.groups), selectinload(User.roles))
    if text:
        columns = (User.username, User.display_name, User.email)
        statement = statement.where(sa.or_(*(column.icontains(text, autoescape=True) for column in columns)))
    if state:
        statement = statement.where(User.active.is_(state == "active"))
    if after:
        statement = statement.where(name > after.lower())
    found = db.session.scalars(statement.order_by(name).limit(limit + 1)).all()
    more = len(found) > limit
    return UserPage(found[:limit], found[limit - 1].username.lower() if more else None, bool(after))


def user(user_id: int) -> User:
    """Return one user with groups and roles, or raise NotFound. Three statements."""
    found: User | None = db.session.scalar(
        sa.select(User).where(User.id == user_id).options(selectinload(User.groups), selectinload(User.roles))
    )
    if found is None:
        raise NotFound
    return found


def group(group_id: int) -> Group:
    """Return one group, or raise NotFound. One statement, another for its members."""
    found = db.session.get(Group, group_id)
    if found is None:
        raise NotFound
    return found


def role(role_id: int) -> Role:
    """Return one role, or raise NotFound. One statement, another for its holders."""
    found = db.session.get(Role, role_id)
    if found is None:
        raise NotFound
    return found


def groups() -> Sequence[Group]:
    """Return all groups by name. One statement."""
    return db.session.scalars(sa.select(Group).order_by(Group.name)).all()


def roles() -> Sequence[Role]:
    """Return all roles by name. One statement."""
    return db.session.scalars(sa.select(Role).order_by(Role.name)).all()


def groups_with_counts() -> list[Counted]:
    """Return all groups by name, with the number of members. One statement."""
    count = sa.select(sa.func.count()).where(user_groups.c.group_id == Group.id).scalar_subquery()
    return [
        Counted(row, number)
        for row, number in db.session.execute(sa.select(Group, count).order_by(Group.name))
    ]


def roles_with_counts() -> list[Counted]:
    """Return all roles by name, with the number of holders. One statement."""
    count = sa.select(sa.func.count()).where(user_roles.c.role_id == Role.id).scalar_subquery()
    return [
        Counted(row, number) for row, number in db.session.execute(sa.select(Role, count).order_by(Role.name))
    ]


def roles_with_holders(text: str = "") -> list[Role]:
    """Return the roles by name with their holders; `text` is looked for in both. Two statements."""
    rows = db.session.scalars(sa.select(Role).options(selectinload(Role.holders)).order_by(Role.name))
    return [
        row for row in rows if _mentions(text, row.name) or any(_is_called(text, one) for one in row.holders)
    ]


def superusers(text: str = "") -> list[User]:
    """Return the superusers by name; `text` is looked for in it. One statement."""
    rows = db.session.scalars(sa.select(User).where(User.superuser.is_(True)).order_by(User.username))
    return [row for row in rows if _is_called(text, row)]


def sessions_of(user: User, settings: Settings, now: dt.datetime) -> list[UserSession]:
    """Return the sessions of `user` that still hold, last used first. One statement."""
    rows = db.session.scalars(
        sa.select(UserSession)
        .where(UserSession.user_id == user.id, UserSession.ended_at.is_(None))
        .order_by(UserSession.seen_at.desc(), UserSession.id.desc())
    )
    return [row for row in rows if not row.is_over(settings, now)]


def tokens_of(user: User) -> Sequence[ApiToken]:
    """Return the tokens of `user`, newest first, those that are no longer valid too. One statement."""
    return db.session.scalars(
        sa.select(ApiToken).where(ApiToken.user_id == user.id).order_by(ApiToken.id.desc())
    ).all()


def _is_called(text: str, user: User) -> bool:
    return _mentions(text, user.username) or _mentions(text, user.display_name)


def _mentions(text: str, name: str) -> bool:
    return text.casefold() in name.casefold()
