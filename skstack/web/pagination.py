"""Paging by key: a page begins after the last row of the one before, never at a count of rows."""

from __future__ import annotations

import datetime as dt
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from flask import request

from skstack.db import UtcDateTime
from skstack.errors import Invalid
from skstack.extensions import db
from skstack.messages import N_

Row = TypeVar("Row")
DEFAULT, MOST = 50, 200


@dataclass(frozen=True, slots=True)
class Paged(Generic[Row]):
    """One page. `next` is the cursor of the older page, `newer` says whether this one is not the first."""

    items: Sequence[Row]
    next: int | None
    newer: bool


@dataclass(frozen=True, slots=True)
class PagedInOrder(Generic[Row]):
    """One page of a list in another order than by key. `next` is the cursor of the page after it."""

    items: Sequence[Row]
    next: str | None
    newer: bool


def paged(
    statement: sa.Select[Any], key: Any, *, after: int | None = None, limit: int = DEFAULT
) -> Paged[Any]:
    """Run `statement` newest first by the integer `key`, from below `after`. Needs one statement."""
    if after is not None:
        statement = statement.where(key < after)
    rows = db.session.scalars(statement.order_by(key.desc()).limit(limit + 1)).unique().all()
    items = rows[:limit]
    last = getattr(items[-1], key.key) if len(rows) > limit else None
    return Paged(items, last, after is not None)


@dataclass(frozen=True, slots=True)
class Order:
    """The order of a list: by the column that the reader calls `name`, then by key. An index has to hold both."""

    name: str
    descending: bool

    @classmethod
    def asked(cls, names: Container[str], *, otherwise: str) -> Order:
        """Read `?sort=`, as `name` or `-name`; anything else is `otherwise`."""
        given = request.args.get("sort", "")
        chosen = given if given.removeprefix("-") in names else otherwise
        return cls(chosen.removeprefix("-"), chosen.startswith("-"))

    def __str__(self) -> str:
        return f"{'-' if self.descending else ''}{self.name}"


def paged_in_order(
    statement: sa.Select[Any], column: Any, key: Any, *, descending: bool, limit: int = DEFAULT
) -> PagedInOrder[Any]:
    """Run `statement` in the order of `column`, then `key`, from after the row whose cursor is `?after=`.

    The cursor holds both of that row: rows that come or go in between shift nothing. Needs one statement. Raises Invalid
    for a cursor that is none.
    """
    columns = (key,) if column is key else (column, key)
    place = asked_place(columns)
    if place is not None:
        values = (sa.literal(value, one.type) for value, one in zip(place, columns, strict=True))
        row, last = sa.tuple_(*columns), sa.tuple_(*values)
        statement = statement.where(row < last if descending else row > last)
    ordered = [one.desc() if descending else one.asc() for one in columns]
    rows = db.session.scalars(statement.order_by(*ordered).limit(limit + 1)).unique().all()
    following = None
    if len(rows) > limit:
        following = _cursor([getattr(rows[limit - 1], one.key) for one in columns])
    return PagedInOrder(rows[:limit], following, place is not None)


def asked_place(columns: Sequence[Any]) -> list[Any] | None:
    """Return what the row has in `columns` that the page under way begins after. Raises Invalid for what is no cursor."""
    given = request.args.get("after", "")
    return _read(given, columns) if given else None


def _cursor(values: Sequence[Any]) -> str:
    written = [value.isoformat() if isinstance(value, dt.datetime) else value for value in values]
    return urlsafe_b64encode(json.dumps(written).encode()).decode().rstrip("=")


def _read(cursor: str, columns: Sequence[Any]) -> list[Any]:
    try:
        *texts, key = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if type(key) is not int or not all(isinstance(text, str) for text in texts):
            raise ValueError(cursor)
        values = [_as(column, text) for column, text in zip(columns[:-1], texts, strict=True)]
    except (ValueError, TypeError) as err:
        raise Invalid({"after": [N_("This is no place in this list. Begin at its first page.")]}) from err
    return [*values, key]


def _as(column: Any, text: str) -> Any:
    if not isinstance(column.type, UtcDateTime):
        return text
    time = dt.datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(text)
    return time


def asked() -> dict[str, Any]:
    """Return `after` and `limit` of the request under way. Raises Invalid for anything but small numbers."""
    return {"after": _number("after"), "limit": asked_limit()}


def asked_limit() -> int:
    """Return how many rows the request under way asks for. Raises Invalid for anything but a number that is allowed."""
    limit = _number("limit")
    if limit is not None and not 1 <= limit <= MOST:
        raise Invalid({"limit": [N_("This must be between 1 and %(most)s.", most=MOST)]})
    return DEFAULT if limit is None else limit


def _number(name: str) -> int | None:
    given = request.args.get(name, "")
    if given == "":
        return None
    if not (given.isascii() and given.isdigit()) or len(given) > 18:
        raise Invalid({name: [N_("This must be a whole number.")]})
    return int(given)
