"""People whom a directory or an OIDC provider knows: which user they are, and which groups and roles that gives them.

They are known by issuer and subject, never by name alone: a name can be given to somebody else later.
"""

from __future__ import annotations

import datetime as dt
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import IntegrityError

from skstack.accounts import queries, services
from skstack.accounts.directory import Person
from skstack.accounts.models import ExternalIdentity, Group, Role, User
from skstack.audit.services import Action, record
from skstack.config import Settings
from skstack.db import db, transaction
from skstack.errors import Conflict, Invalid
from skstack.messages import N_, Message

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """What the settings say about people of a directory or provider. Groups and roles are lists of its groups by our name."""

    creates: bool
    adopts: bool  # A user of that name without a password and without another identity is theirs.
    groups: Mapping[str, Sequence[str]]
    roles: Mapping[str, Sequence[str]]


class Refused(Invalid):
    """Somebody showed who they are and still does not get in. `reason` is for the trail."""

    def __init__(self, reason: str, message: Message, user: User | None = None) -> None:
        super().__init__({"": [message]})
        self.reason = reason
        self.user = user


def of_directory(settings: Settings) -> Source:
    """Return the directory as a source: it knows names of its own, so users made for them beforehand are adopted."""
    return Source(settings.ldap_create_users, True, settings.ldap_groups, settings.ldap_roles)


def of_provider(settings: Settings) -> Source:
    """Return the OIDC provider as a source. Names there may be chosen freely, so it adopts nobody."""
    return Source(settings.oidc_create_users, False, settings.oidc_groups, settings.oidc_roles)


def group_key(name: str) -> str:
    """Return how a group's name or DN is compared: without case, and without blanks around the DN's separators."""
    return re.sub(r"(?<!\\)\s*([,=+])\s*", r"\1", name.strip()).casefold()


def admit(person: Person, source: Source, *, now: dt.datetime) -> User:
    """Return the person's user, made or adopted if need be, with the mapped groups and roles. Raises Refused.

    Joins the transaction under way.
    """
    identity = queries.identity(person.issuer, person.subject)
    user = identity.user if identity else _for_the_first_time(person, source)
    db.session.refresh(user, with_for_update=True)
    if not user.active:
        raise Refused("deactivated", N_("The user name or the password is wrong."), user)
    if identity is None:
        _link(user, person.issuer, person.subject, actor=None, now=now)
    else:
        identity.used_at = now
    _synchronise(user, person, source)
    return user


def link(user: User, *, issuer: str, subject: str, actor: User | None, now: dt.datetime) -> None:
    """Let the subject of an issuer sign in as `user`. Raises Conflict if it is another's, or they have one already."""
    with transaction():
        if queries.identity(issuer, subject) is not None or any(
            one.issuer == issuer for one in queries.identities_of(user)
        ):
            raise Conflict(N_("This subject, or this user, is linked already."))
        _link(user, issuer, subject, actor=actor, now=now)


def unlink(user: User, identity_id: int, *, actor: User | None) -> None:
    """Take an identity from `user`: it signs in as them no more. Raises Conflict if it is not theirs, NotAllowed."""
    services.require_control(actor, user)
    with transaction():
        found = next((one for one in queries.identities_of(user) if one.id == identity_id), None)
        if found is None:
            raise Conflict(N_("This is not linked any more."))
        before = {"issuer": found.issuer, "subject": found.subject}
        db.session.delete(found)
        _record(Action.IDENTITY_UNLINKED, user, actor, before)


def _for_the_first_time(person: Person, source: Source) -> User:
    user = queries.user_named(person.username)
    if user is None:
        return _create(person, source)
    if not source.adopts or user.password_hash is not None or queries.identities_of(user):
        raise Refused(
            "name taken",
            N_(
                "There is an account %(name)s already, and it is not linked to you. Ask an administrator.",
                name=person.username,
            ),
            user,
        )
    return user


def _create(person: Person, source: Source) -> User:
    if not source.creates:
        raise Refused(
            "no account",
            N_("There is no account for %(name)s here. Ask an administrator for one.", name=person.username),
        )
    try:
        return services.create_user(
            actor=None, username=person.username, display_name=person.display_name[:128], email=_email(person)
        )
    except Invalid as err:
        raise Refused("unusable name", err.message) from err


def _email(person: Person) -> str:
    return person.email if services.is_email(person.email) else ""


def _link(user: User, issuer: str, subject: str, *, actor: User | None, now: dt.datetime) -> None:
    db.session.add(
        ExternalIdentity(user_id=user.id, issuer=issuer, subject=subject, created_at=now, used_at=now)
    )
    try:
        db.session.flush()
    except IntegrityError as err:  # The same person signs in twice at once.
        raise Conflict(N_("This subject, or this user, is linked already.")) from err
    _record(Action.IDENTITY_LINKED, user, actor, {"issuer": issuer, "subject": subject})


def _synchronise(user: User, person: Person, source: Source) -> None:
    """Give the user the mapped groups and roles, take the mapped ones that they are in no more, leave all others."""
    groups = _synchronised(user.groups, queries.groups(), source.groups, person)
    roles = _synchronised(user.roles, queries.roles(), source.roles, person)
    email = _email(person) or user.email
    if (groups, roles, email) != (user.groups, user.roles, user.email):
        services.change_user(
            user,
            actor=None,
            display_name=user.display_name,
            email=email,
            superuser=user.superuser,
            groups=groups,
            roles=roles,
        )


def _synchronised(
    mine: Sequence[Any], every: Sequence[Group | Role], mapped: Mapping[str, Sequence[str]], person: Person
) -> list[Any]:
    if missing := sorted(set(mapped) - {one.name for one in every}):
        _log.warning("groups or roles of the settings do not exist: %s", ", ".join(missing))
    given = {name for name, theirs in mapped.items() if person.groups & {group_key(one) for one in theirs}}
    held = {one.id for one in mine}
    return [one for one in every if (one.name in given if one.name in mapped else one.id in held)]


def _record(action: Action, user: User, actor: User | None, changes: dict[str, str]) -> None:
    record(action, actor=actor, object_type="user", object_id=user.id, object_name=user.username, **changes)
