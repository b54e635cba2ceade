"""What may happen to the catalog. Each verb is one transaction: the change, and its audit event."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from skstack.accounts.services import group_dependents
from skstack.audit.services import Action, Actor, record
from skstack.catalog import validation
from skstack.catalog.compiling import CompiledTasks, TasksRefused, compile_workorder
from skstack.catalog.kinds import State, dependents, kind_of, listed
from skstack.catalog.models import ConfigCenter, WorkOrder
from skstack.db import transaction, utcnow
from skstack.errors import Conflict, Invalid
from skstack.extensions import db
from skstack.messages import N_

Thing = TypeVar("Thing", bound=Any)

# Any number that nothing else takes as an advisory lock.
_CATALOG_LOCK = 0x736B6361

# Deleting a group on the page of groups names the work orders that use it.
group_dependents.append(dependents)


@contextmanager
def writing() -> Iterator[None]:
    """Hold the catalog for one change, so that what was checked is still true when it commits."""
    with transaction():
        if db.engine.dialect.name == "postgresql":
            db.session.execute(sa.select(sa.func.pg_advisory_xact_lock(_CATALOG_LOCK)))
        yield


def create(model: type[Thing], values: Mapping[str, Any], *, actor: Actor | None) -> Thing:
    """Add one object. `values` has its attributes by name. Raises Invalid with what is wrong, by field."""
    with writing():
        thing: Thing = model()
        with db.session.no_autoflush:
            set_defaults(thing)
            _assign(thing, values)
            validation.check(thing)
        db.session.add(thing)
        db.session.flush()
        note_created(thing, actor=actor)
    return thing


def change(thing: Thing, values: Mapping[str, Any], *, actor: Actor | None, version: int) -> Thing:
    """Change attributes of an object that was read at `version`.

    Raises Conflict if somebody changed it since, or it is gone, and Invalid with what is wrong, by field: also
    where a work order that uses it would be refused.
    """
    with writing():
        _refresh(thing, version)
        before = State.of(thing)
        with db.session.no_autoflush:
            _assign(thing, values)
            validation.check(thing)
        finish(thing, before, actor=actor)
    return thing


def delete(thing: Any, *, actor: Actor | None) -> None:
    """Delete an object. Raises Conflict, naming what depends on it."""
    with writing():
        _refresh(thing, None)
        refuse_if_needed(thing)
        note_deleted(thing, actor=actor)
        db.session.delete(thing)
        try:
            db.session.flush()
        except IntegrityError as err:
            raise Conflict(
                N_("Something still depends on %(thing)s.", thing=kind_of(thing).message(thing))
            ) from err


def refuse_if_needed(thing: Any) -> None:
    """Raise Conflict with the names of what depends on `thing`, and what to do instead of deleting it."""
    needed = dependents(thing)
    if not needed:
        return
    told: dict[str, Any] = {"thing": kind_of(thing).message(thing), "dependents": listed(needed)}
    if isinstance(thing, WorkOrder):
        raise Conflict(
            N_("The %(thing)s cannot be deleted because of %(dependents)s. Deactivate it instead.", **told)
        )
    raise Conflict(N_("The %(thing)s cannot be deleted because it is used by %(dependents)s.", **told))


def set_active(workorder: WorkOrder, active: bool, *, actor: Actor | None) -> None:
    """Show a work order to those who may submit it, or hide it. Nothing happens if it already is so.

    Raises Conflict for a template, and Invalid for one whose tasks are refused.
    """
    with writing():
        _refresh(workorder, None)
        if active and workorder.template:
            raise Conflict(N_("%(name)s is a template, which nobody can submit.", name=workorder.name))
        before = State.of(workorder)
        with db.session.no_autoflush:
            workorder.active = active
            if active:
                validation.check(workorder)
        finish(workorder, before, actor=actor)


def set_template(workorder: WorkOrder, template: bool, *, actor: Actor | None) -> None:
    """Turn a work order into a template, or a template into a work order, which then is not active."""
    with writing():
        _refresh(workorder, None)
        before = State.of(workorder)
        with db.session.no_autoflush:
            workorder.template = template
            if before.shown["template"] != template:
                workorder.active = False
            validation.check(workorder)
        finish(workorder, before, actor=actor)


def accept_host_key(center: ConfigCenter, key: str, *, actor: Actor | None) -> None:
    """Trust this host key from now on, and no other. Raises Invalid for what is no key."""
    with writing():
        _refresh(center, None)
        before = State.of(center)
        if problem := validation.host_key_problem(key):
            raise Invalid({"host_key": [problem]})
        center.host_key, center.verified_at = key, None
        validation.check(center)
        center.version += 1
        changed, now = before.difference(State.of(center))
        if changed:
            _record(Action.HOST_KEY_ACCEPTED, center, actor, before=changed, after=now)


def note_verified(center: ConfigCenter, *, actor: Actor | None, time: str) -> None:
    """Remember that a command ran on the config center and printed this time."""
    with writing():
        _refresh(center, None)
        center.verified_at = utcnow()
        _record(Action.VERIFIED, center, actor, time=time)


def _refresh(thing: Any, version: int | None) -> None:
    """Read the object again within the transaction under way. Raises Conflict if it is gone or was changed."""
    kind = kind_of(thing)
    name = kind.message(thing)
    fresh = db.session.get(kind.model, thing.id, populate_existing=True)
    if fresh is None:
        raise Conflict(N_("The %(thing)s was deleted meanwhile.", thing=name), gone=True)
    for relationship in (*kind.references, *kind.lists):
        db.session.expire(thing, [_ASSOCIATIONS.get(relationship, relationship)])
    if version is not None and fresh.version != version:
        raise Conflict(
            N_(
                "The %(thing)s was changed meanwhile by somebody else. Nothing of yours was saved.",
                thing=name,
            )
        )


# Attributes that are made from a relationship of another name.
_ASSOCIATIONS = {"variables": "members", "levels": "members"}


def finish(thing: Any, before: State, *, actor: Actor | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Save what was changed, if anything was, under the next version; return it before and after, by field."""
    was, now = before.difference(State.of(thing))
    if not was:
        return was, now
    if isinstance(thing, ConfigCenter):
        _forget_verification(thing, was)
    if hasattr(thing, "version"):
        thing.version += 1
    if isinstance(thing, WorkOrder):
        thing.updated_at = utcnow()
    db.session.flush()
    was, now = before.difference(State.of(thing))
    _record(Action.CHANGED, thing, actor, before=was, after=now)
    return was, now


def note_created(thing: Any, *, actor: Actor | None) -> None:
    """Record that an object was added."""
    _record(Action.CREATED, thing, actor, after=State.of(thing).masked)


def note_deleted(thing: Any, *, actor: Actor | None) -> None:
    """Record that an object is about to be deleted."""
    _record(Action.DELETED, thing, actor, before=State.of(thing).masked)


def _forget_verification(center: ConfigCenter, changed: Mapping[str, Any]) -> None:
    # Another host has another key; another user on the same one does not.
    if {"host", "port"} & changed.keys() and "host_key" not in changed:
        center.host_key = None
    if set(changed) - {"name", "description"}:
        center.verified_at = None


def set_defaults(thing: Any) -> None:
    """Give a new object its columns' defaults now rather than when it is inserted: they are checked before."""
    for column in sa.inspect(type(thing)).column_attrs:
        if getattr(thing, column.key) is None:
            setattr(thing, column.key, default_of(type(thing), column.key))


def default_of(model: type[Any], attribute: str) -> Any:
    """Return what an attribute of a new object is: the column's default, else None; an empty list of others."""
    mapper = sa.inspect(model)
    if attribute not in mapper.column_attrs:
        return (
            None if attribute in mapper.relationships and not mapper.relationships[attribute].uselist else []
        )
    default = mapper.column_attrs[attribute].columns[0].default
    if default is None:
        return None
    return default.arg(None) if default.is_callable else default.arg


def _assign(thing: Any, values: Mapping[str, Any]) -> None:
    for attribute, value in values.items():
        setattr(thing, attribute, list(value) if isinstance(value, list) else value)


def _record(action: Action, thing: Any, actor: Actor | None, **changes: Any) -> None:
    kind = kind_of(thing)
    record(
        action,
        actor=actor,
        object_type=kind.type,
        object_id=thing.id,
        object_name=kind.name_of(thing),
        **changes,
    )


__all__ = [
    "CompiledTasks",
    "TasksRefused",
    "accept_host_key",
    "change",
    "compile_workorder",
    "create",
    "default_of",
    "delete",
    "finish",
    "note_created",
    "note_deleted",
    "note_verified",
    "refuse_if_needed",
    "set_active",
    "set_defaults",
    "set_template",
    "writing",
]
