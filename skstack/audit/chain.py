"""The chain of audit events: each is sealed together with the hash of the one before it.

The events of a transaction are numbered and sealed in one go, just before it commits, while the row of the head is
held: so they have no gap after a rollback and no two have the same number, whoever else writes. Why it is sealed with
a key, and what that proves: docs/decisions/0009-sealing-the-audit-trail.md.
"""

from __future__ import annotations

import datetime as dt
import hmac
import json
from collections.abc import Sequence
from typing import Any

from flask import current_app
from sqlalchemy.engine import Connection

from skstack.errors import Unavailable
from skstack.extensions import db
from skstack.messages import N_

START = bytes(32)
"""What stands in for the hash before the first event."""

COLUMNS = (
    "id",
    "at",
    "actor_id",
    "actor",
    "address",
    "action",
    "object_type",
    "object_id",
    "object_name",
    "changes",
    "digest",
    "previous",
)
"""What is sealed, in this order. A later column has to be added here, for the events from then on."""

_MIDDLE = COLUMNS[2:-2]


def _both(statement: str) -> dict[str, str]:
    """Return a statement by the name of the database, with the driver's own placeholders."""
    return {"sqlite": statement, "postgresql": statement.replace("?", "%s")}


# Straight to the driver: every submission and every run does this a few times, and SQLAlchemy takes longer to prepare a
# statement than the database to carry it out.
_ADD = _both(
    f"INSERT INTO audit_events ({', '.join(COLUMNS)}, hash)"  # noqa: S608 - names of columns
    f" VALUES ({', '.join('?' for _ in COLUMNS)}, ?)"
)
_HOLD_HEAD = {
    "sqlite": "SELECT sequence, hash FROM audit_head",  # There, only one writes at a time anyway.
    "postgresql": "SELECT sequence, hash FROM audit_head FOR UPDATE",
}
_MOVE_HEAD = _both("UPDATE audit_head SET sequence = ?, hash = ?")
# Two that make it at once make one.
_MAKE_HEAD = _both(
    "INSERT INTO audit_head (id, sequence, hash) SELECT 1, 0, ?"
    " WHERE NOT EXISTS (SELECT 1 FROM audit_events) ON CONFLICT DO NOTHING"
)


def append(events: list[dict[str, Any]]) -> None:
    """Number, seal and add the events of the transaction that is about to commit. They have all columns but the chain's."""
    connection = db.session.connection()
    dialect = connection.dialect.name
    key = keys()[0]
    sequence, previous = _hold_head(connection)
    rows = []
    for event in events:
        sequence += 1
        at, digest = written(event["at"]), event["digest"]
        middle = [event[name] for name in _MIDDLE]
        sealed = seal(key, [sequence, at, *middle, None if digest is None else digest.hex(), previous.hex()])
        # PostgreSQL takes the time as it is written here to be in UTC, as all connections are.
        rows.append((sequence, at, *middle, digest, previous, sealed))
        previous = sealed
    connection.exec_driver_sql(_ADD[dialect], rows)
    connection.exec_driver_sql(_MOVE_HEAD[dialect], (sequence, previous))


def keys() -> tuple[bytes, ...]:
    """Return the keys of the running application, the one for new events first."""
    found: tuple[bytes, ...] = current_app.extensions["skstack.audit"]
    return found


def seal(key: bytes, row: Sequence[Any]) -> bytes:
    """Return the hash of one event: HMAC-SHA-256 over its `COLUMNS`, as a JSON list without spaces in UTF-8.

    `at` is text in UTC such as `2026-11-26 08:00:00.000000`, what is binary is hexadecimal, `changes` the text as stored.
    """
    return hmac.digest(key, _encode(row).encode(), "sha256")


def written(moment: dt.datetime) -> str:
    """Return a time as it is sealed, which is how SQLite stores it."""
    return moment.astimezone(dt.UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def _hold_head(connection: Connection) -> tuple[int, bytes]:
    """Return number and hash of the last event, and let nobody else add one before the commit."""
    hold = _HOLD_HEAD[connection.dialect.name]
    head = connection.exec_driver_sql(hold).one_or_none()
    if head is None:
        connection.exec_driver_sql(_MAKE_HEAD[connection.dialect.name], (START,))
        head = connection.exec_driver_sql(hold).one_or_none()
    if head is None:
        # Going on would cover up what was removed.
        raise Unavailable(
            N_("The end of the audit trail is missing. An administrator has to look at `audit verify` first.")
        )
    return head[0], bytes(head[1])


# What is not what the column holds, as a SQLite file can be made to have it, is not what was sealed either.
_encode = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), check_circular=False, default=repr
).encode
