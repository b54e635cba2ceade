"""Paging by key: a page begins after the last row of the one before, never at a count of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from flask import request

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


def asked() -> dict[str, Any]:
    """Return `after` and `limit` of the request under way. Raises Invalid for anything but small numbers."""
    found: dict[str, Any] = {"after": None, "limit": DEFAULT}
    for name in found:
        given = request.args.get(name, "")
        if given == "":
            continue
        if not (given.isascii() and given.isdigit()) or len(given) > 18:
            raise Invalid({name: [N_("This must be a whole number.")]})
        found[name] = int(given)
    if not 1 <= found["limit"] <= MOST:
        raise Invalid({"limit": [N_("This must be between 1 and %(most)s.", most=MOST)]})
    return found
