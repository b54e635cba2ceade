"""Downloads, sent while they are read: lists as a table for spreadsheets or as objects of the JSON API, and raw text."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from flask import Response, stream_with_context

# What a spreadsheet would take for the beginning of a formula.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, name: str) -> Response:
    """Answer with a table of these columns, as a file of that name; texts that look like formulas are quoted with `'`.

    The source of that rule is OWASP's page on CSV injection.
    """
    return _file(_csv(columns, rows), f"{name}.csv", "text/csv; charset=utf-8")


def as_json(documents: Iterable[Mapping[str, Any]], *, name: str) -> Response:
    """Answer with `{"items": […]}`, one object a line, as a file of that name."""
    return _file(_json(documents), f"{name}.json", "application/json")


def raw(pieces: Iterable[bytes], *, size: int, name: str) -> Response:
    """Answer with what a command or plugin wrote, byte for byte, as a file of that name, which needs no quoting.

    No browser takes it for anything but text to store. The answer closes `pieces` if they can be closed.
    """
    response = Response(pieces, mimetype="text/plain")
    # No charset: what it is may be anything.
    response.headers["Content-Type"] = "text/plain"
    response.headers["Content-Length"] = str(size)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return response


def _file(written: Iterator[str], name: str, mimetype: str) -> Response:
    response = Response(stream_with_context(written), mimetype=mimetype)
    response.headers["Content-Disposition"] = f"attachment; filename={name}"
    return response


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield "\ufeff"  # So that spreadsheets read it as UTF-8.
    yield _line(columns)
    for row in rows:
        yield _line([_cell(row.get(column)) for column in columns])


def _line(values: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(values)
    return line.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        value = json.dumps(value, ensure_ascii=False)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULAS) else value


def _json(documents: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield '{"items": ['
    for number, document in enumerate(documents):
        yield ("," if number else "") + "\n" + json.dumps(document, ensure_ascii=False)
    yield "\n]}\n"
