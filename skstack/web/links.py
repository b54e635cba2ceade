"""Addresses that keep the rest of the present one: tabs, sort links, pages and filters of a list; and ids in them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from flask import request, url_for

LARGEST_ID = 2**31 - 1


def row_id(given: str) -> int:
    """Read an id that a query or a form names, for `.get(…, type=row_id)`. Raises ValueError for what no column could hold."""
    number = int(given)
    if not 0 <= number <= LARGEST_ID:
        raise ValueError(given)
    return number


def url_with(**changes: Any) -> str:
    """Return the present page's address with some query parameters changed; None and "" take one out.

    A change of anything else leads back to the first page, since a cursor belongs to one order and filter.
    """
    parameters: dict[str, Any] = request.args.to_dict(flat=False)
    parameters.pop("after", None)
    parameters.update(changes)
    # Not handed to url_for: it would take `_external` and its like from the reader's address.
    page = url_for(request.endpoint or "", **(request.view_args or {}))
    return _with(page, parameters)


def with_filters(page: str) -> str:
    """Return the address of another page about the same: with the filters of the present one, from its beginning."""
    parameters: dict[str, Any] = request.args.to_dict(flat=False)
    return _with(page, {name: value for name, value in parameters.items() if name not in ("after", "sort")})


def _with(page: str, parameters: dict[str, Any]) -> str:
    kept = {name: value for name, value in parameters.items() if value not in (None, "", [""])}
    return f"{page}?{urlencode(kept, doseq=True)}" if kept else page
