"""What may happen to users, groups and roles.

`actor` None is skstack itself: a command on the host, or the first start. It may do everything that people may.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from skstack.accounts import ending, new_password, passwords, queries, second_factor, tokens
from skstack.accounts.models import Group, Page, Role, User
from skstack.audit.services import Action, record
from skstack.db import db, transaction, utcnow
from skstack.errors import Conflict, Invalid, NotAllowed
from skstack.messages import N_, Message

FIRST_ADMIN = "admin"
LONGEST_NAME = 64

_USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")

# What may stand in the way of deleting a group: later features add functions that name what of theirs uses it.
group_dependents: list[Callable[[Group], Sequence[Message]]] = []


def create_first_admin() -> str | None:
    """Create the superuser `admin` if there is no user yet, and return the password, which is kept nowhere."""
    with transaction():
        if db.session.scalar(sa.select(User.id).limit(1)) is not None:
            return None
        password = passwords.generate()
        create_user(actor=None, username=FIRST_ADMIN, password=password, superuser=True)
    return password


def create_user(
    *,
    actor: User | None,
    username: str,
    password: str | None = None,
    display_name: str = "",
    email: str = "",
    superuser: bool = False,
    groups: Collection[Group] = (),
    roles: Collection[Role] = (),
) -> User:
    """Create a user. Without a password nobody can sign in as them until they are given one.

    Raises Invalid by field, and NotAllowed if somebody who is no superuser makes one.
    """
    if superuser:
        _require_superuser(actor)
    username = username.strip()
    errors: dict[str, list[Message]] = {}
    if not _USERNAME.fullmatch(username):
        errors["username"] = [
            N_("A user name has up to 64 letters, digits and . _ @ + - and begins with a letter or digit.")
        ]
    if password is not None and (found := passwords.problems(password, username)):
        errors["password"] = found
    if errors:
        raise Invalid(errors)
    user = User(
        username=username,
        display_name=display_name.strip(),
        email=_email(email),
        superuser=superuser,
        active=True,
    )
    user.password_hash = passwords.hash_password(password) if password is not None else None
    with transaction():
        if queries.user_named(username) is not None:
            raise _taken("username", username)
        user.groups, user.roles = list(groups), list(roles)
        db.session.add(user)
        _flush("username", username)
        record(
            Action.CREATED,
            actor=actor,
            object_type="user",
            object_id=user.id,
            object_name=user.username,
            after=_of_user(user),
        )
    return user


def change_user(
    user: User,
    *,
    actor: User | None,
    display_name: str,
    email: str,
    superuser: bool,
    groups: Collection[Group],
    roles: Collection[Role],
) -> User:
    """Change a user. The user name stays: history and the catalog file know people by it.

    Raises Invalid by field, NotAllowed for a superuser's account or flag without being one, and for demoting
    oneself, Conflict for demoting the last superuser.
    """
    email = _email(email)
    with transaction():
        _lock(user)
        require_control(actor, user)
        if superuser != user.superuser:
            _require_superuser(actor)
            if user.superuser:
                _require_another(actor, user)
        before = _of_user(user)
        user.display_name, user.email, user.superuser = display_name.strip(), email, superuser
        user.groups = sorted(groups, key=lambda group: group.name)
        user.roles = sorted(roles, key=lambda role: role.name)
        db.session.flush()
        _record_change(actor, "user", user.id, user.username, before, _of_user(user))
    return user


def set_password(user: User, password: str, *, actor: User | None, now: dt.datetime | None = None) -> None:
    """Give another person a password, and end all their sessions. Raises Invalid, and NotAllowed as for a change.

    One's own password is changed with `new_password.change`, which asks for the present one.
    """
    require_control(actor, user)
    if actor is not None and actor.id == user.id:
        raise NotAllowed(N_("Change your own password on your profile, where the present one is asked for."))
    new_password.give(user, password, actor=actor, now=now or utcnow())


def remove_second_factor(user: User, *, actor: User | None, now: dt.datetime) -> None:
    """Remove another's second factor, whose phone is gone, and end their sessions.

    Raises Conflict if they have none, NotAllowed for oneself and as for a change.
    """
    require_control(actor, user)
    if actor is not None and actor.id == user.id:
        raise NotAllowed(N_("Switch your own second factor off on your profile, where a code is asked for."))
    second_factor.remove(user, actor=actor, now=now)


def deactivate(user: User, *, actor: User | None, now: dt.datetime) -> None:
    """Keep a person out: their sessions end and their tokens are revoked. Their history stays.

    Raises Conflict if they are deactivated already or the last superuser, NotAllowed for oneself and as for a change.
    """
    with transaction():
        _lock(user)
        require_control(actor, user)
        if not user.active:
            raise Conflict(N_("%(name)s is already deactivated.", name=user.username))
        _require_another(actor, user)
        user.active = False
        ending.end_sessions(user, actor=actor, now=now)
        tokens.revoke_all(user, actor=actor, now=now)
        _record_change(actor, "user", user.id, user.username, {"active": True}, {"active": False})


def activate(user: User, *, actor: User | None) -> None:
    """Let a deactivated person in again; they sign in anew and make new tokens. Raises Conflict if they are active."""
    with transaction():
        _lock(user)
        require_control(actor, user)
        if user.active:
            raise Conflict(N_("%(name)s is already active.", name=user.username))
        user.active = True
        _record_change(actor, "user", user.id, user.username, {"active": False}, {"active": True})


def require_control(actor: User | None, user: User) -> None:
    """Refuse to let anyone but a superuser touch a superuser's account: a new password would make them one."""
    if actor is not None and user.superuser and not actor.superuser:
        raise NotAllowed(
            N_("%(name)s is a superuser. Only a superuser may change that account.", name=user.username)
        )


def is_email(text: str) -> bool:
    """Say whether a text can be kept as a mail address."""
    return bool(_EMAIL.fullmatch(text)) and len(text) <= 254


def save_group(group: Group | None, *, actor: User | None, name: str, description: str = "") -> Group:
    """Create a group (None) or change one. Raises Invalid with the field `name`."""
    saved: Group = _save(group or Group(), actor=actor, name=name, description=description)
    return saved


def save_role(
    role: Role | None, *, actor: User | None, name: str, pages: Collection[str], description: str = ""
) -> Role:
    """Create a role (None) or change one. Raises Invalid with the field `name` or `pages`."""
    known = [page.value for page in Page if page in pages]
    if unknown := sorted(set(pages) - set(known)):
        raise Invalid({"pages": [N_("There is no page called %(name)s.", name=unknown[0])]})
    saved: Role = _save(role or Role(), actor=actor, name=name, description=description, pages=known)
    return saved


def delete_group(group: Group, *, actor: User | None) -> None:
    """Delete a group; its members lose it. Raises Conflict naming what still uses it."""
    with transaction():
        if used := [one for dependents in group_dependents for one in dependents(group)]:
            raise Conflict(_in_use(group.name, used))
        _delete(group, "group", actor)


def delete_role(role: Role, *, actor: User | None) -> None:
    """Delete a role; its holders lose its pages."""
    with transaction():
        _delete(role, "role", actor)


def _save(row: Any, *, actor: User | None, name: str, description: str, **values: Any) -> Any:
    name = name.strip()
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise Invalid(
            {"name": [N_("A name has 1 to %(count)s characters, all on one line.", count=LONGEST_NAME)]}
        )
    kind = "group" if isinstance(row, Group) else "role"
    model = type(row)
    with transaction():
        other = db.session.scalar(sa.select(model.id).where(model.name == name))
        if other is not None and other != row.id:
            raise _taken("name", name)
        before = _of_named(row) if row.id else None
        row.name, row.description = name, description.strip()
        for key, value in values.items():
            setattr(row, key, value)
        db.session.add(row)
        _flush("name", name)
        if before is None:
            record(
                Action.CREATED,
                actor=actor,
                object_type=kind,
                object_id=row.id,
                object_name=name,
                after=_of_named(row),
            )
        else:
            _record_change(actor, kind, row.id, name, before, _of_named(row))
    return row


def _delete(row: Group | Role, kind: str, actor: User | None) -> None:
    name = row.name
    record(
        Action.DELETED,
        actor=actor,
        object_type=kind,
        object_id=row.id,
        object_name=name,
        before=_of_named(row),
    )
    db.session.delete(row)
    try:
        db.session.flush()
    except IntegrityError as err:  # Something that named no dependents refers to it.
        raise Conflict(N_("%(name)s is still used, so it was not deleted.", name=name)) from err


def _require_superuser(actor: User | None) -> None:
    if actor is not None and not actor.superuser:
        raise NotAllowed(N_("Only a superuser may make or unmake a superuser."))


def _require_another(actor: User | None, user: User) -> None:
    """Refuse to shut oneself out, or the last superuser."""
    if actor is not None and actor.id == user.id:
        raise NotAllowed(
            N_("You cannot do this to your own account. Ask another superuser or administrator.")
        )
    if not user.superuser or not user.active:
        return
    active = db.session.scalars(
        sa.select(User.id).where(User.superuser.is_(True), User.active.is_(True))
    ).all()
    if len(active) <= 1:
        raise Conflict(N_("%(name)s is the last active superuser, and one must remain.", name=user.username))


def _lock(user: User) -> None:
    """Read the user again as it is now, and keep others from changing it until the transaction ends.

    Superusers are locked with it, all in one order, so that two cannot shut each other out at the same moment.
    """
    rows = sa.select(User.id).where(sa.or_(User.id == user.id, User.superuser.is_(True)))
    db.session.execute(rows.order_by(User.id).with_for_update())
    db.session.refresh(user)


def _email(email: str) -> str:
    email = email.strip()
    if email and not is_email(email):
        raise Invalid({"email": [N_("This is not a mail address. It looks like name@example.org.")]})
    return email


def _flush(field: str, name: str) -> None:
    try:
        db.session.flush()
    except IntegrityError as err:  # Somebody was quicker with the same name.
        raise _taken(field, name) from err


def _taken(field: str, name: str) -> Invalid:
    return Invalid({field: [N_("The name %(name)s is already taken.", name=name)]})


def _in_use(name: str, used: Sequence[Message]) -> Message:
    together = used[0]
    for one in used[1:]:
        together = N_("%(some)s, %(one)s", some=together, one=one)
    return N_(
        "%(name)s is used by %(used)s, so it was not deleted. Take it out there first.",
        name=name,
        used=together,
    )


def _record_change(
    actor: User | None, kind: str, row_id: int, name: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    changed = [key for key in after if before.get(key) != after[key]]
    if changed:
        record(
            Action.CHANGED,
            actor=actor,
            object_type=kind,
            object_id=row_id,
            object_name=name,
            before={key: before.get(key) for key in changed},
            after={key: after[key] for key in changed},
        )


def _of_user(user: User) -> dict[str, Any]:
    return {
        "username": user.username,
        "display_name": user.display_name,
        "email": user.email,
        "superuser": user.superuser,
        "groups": [group.name for group in user.groups],
        "roles": [role.name for role in user.roles],
    }


def _of_named(row: Group | Role) -> dict[str, Any]:
    found: dict[str, Any] = {"name": row.name, "description": row.description}
    if isinstance(row, Role):
        found["pages"] = list(row.pages)
    return found


__all__ = [
    "activate",
    "change_user",
    "create_first_admin",
    "create_user",
    "deactivate",
    "delete_group",
    "delete_role",
    "group_dependents",
    "is_email",
    "remove_second_factor",
    "require_control",
    "save_group",
    "save_role",
    "set_password",
]
