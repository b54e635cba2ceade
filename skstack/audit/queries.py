"""Reading the trail for pages, API and export: newest first, narrowed, and never more of it than one page needs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from skstack.audit.models import AuditEvent
from skstack.errors import NotFound
from skstack.extensions import db
from skstack.web.pagination import Paged

SPAN = 200_000
"""Events that one page looks through at most for what has no index; the next page goes on from there."""

# Events get their number when they are committed, which is a little after their time: in between others may.
_SLACK = 1000


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list of events is narrowed by; "" and None narrow nothing. `actor` "-" is skstack itself."""

    actor: str = ""
    action: str = ""
    object_type: str = ""
    object_id: int | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    text: str = ""

    @property
    def are_indexed(self) -> bool:
        by_object = bool(self.object_type) and self.object_id is not None
        return by_object or not (self.actor or self.action or self.object_type or self.text)

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        found: list[sa.ColumnElement[bool]] = []
        if self.actor:
            found.append(AuditEvent.actor == ("" if self.actor == "-" else self.actor))
        if self.action:
            found.append(AuditEvent.action == self.action)
        if self.object_type:
            found.append(AuditEvent.object_type == self.object_type)
        if self.object_id is not None:
            found.append(AuditEvent.object_id == self.object_id)
        if self.since is not None:
            found.append(AuditEvent.at >= self.since)
        if self.until is not None:
            found.append(AuditEvent.at < self.until)
        if self.text:
            found.append(_contains(self.text))
        return found


def events(filters: Filters, *, after: int | None, limit: int) -> Paged[AuditEvent]:
    """Return a page, newest first, from below `after`. Needs up to three statements.

    A page may have fewer than `limit`, or none, and still be followed by another.
    """
    top, bottom = _between(filters, after)
    floor = bottom if filters.are_indexed else max(bottom, top - SPAN)
    statement = (
        sa.select(AuditEvent)
        .where(AuditEvent.id < top, AuditEvent.id >= floor, *filters.conditions())
        .order_by(AuditEvent.id.desc())
        .limit(limit + 1)
    )
    rows = db.session.scalars(statement).all()
    if len(rows) > limit:
        following: int | None = rows[limit - 1].id
    else:
        following = floor if floor > bottom else None
    return Paged(rows[:limit], following, after is not None)


def export(filters: Filters) -> Iterator[AuditEvent]:
    """Yield all events, newest first, a batch in memory at a time."""
    after: int | None = None
    while True:
        page = events(filters, after=after, limit=2000)
        yield from page.items
        db.session.expunge_all()
        db.session.rollback()
        if page.next is None:
            return
        after = page.next


def one(number: int) -> AuditEvent:
    """Return an event. Raises NotFound."""
    event = db.session.get(AuditEvent, number)
    if event is None:
        raise NotFound
    return event


def _between(filters: Filters, after: int | None) -> tuple[int, int]:
    """Return the numbers that what is asked for lies below, and from which on."""
    newest = db.session.scalar(sa.select(sa.func.max(AuditEvent.id))) or 0
    top, bottom = newest + 1, 1
    if after is not None:
        top = min(top, after)
    if filters.until is not None:
        last = _near(AuditEvent.at < filters.until, AuditEvent.at.desc())
        top = min(top, (last or 0) + 1 + _SLACK)
    if filters.since is not None:
        first = _near(AuditEvent.at >= filters.since, AuditEvent.at)
        bottom = max(bottom, (first or newest + 1) - _SLACK)
    return top, bottom


def _near(condition: sa.ColumnElement[bool], order: Any) -> int | None:
    return db.session.scalar(sa.select(AuditEvent.id).where(condition).order_by(order).limit(1))


def _contains(text: str) -> sa.ColumnElement[bool]:
    pattern = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    changes = sa.type_coerce(AuditEvent.changes, sa.Text)
    columns: tuple[Any, ...] = (AuditEvent.object_name, AuditEvent.actor, AuditEvent.address, changes)
    return sa.or_(*(sa.func.lower(column).like(f"%{pattern.lower()}%", escape="\\") for column in columns))
