"""What tests of the audit trail share."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

import sqlalchemy as sa

from skstack.audit import verifying
from skstack.audit.verifying import Anchor, Broken, Progress
from skstack.extensions import db
from skstack.runs import verifying as _runs  # noqa: F401  # Registers what the trail is about.


def fault(*anchors: Anchor, first: int = 1) -> str:
    """Verify the trail, and return the first fault; "" if it holds."""
    db.session.rollback()
    try:
        verifying.go_on(verifying.begin(first), list(anchors), enough=lambda: False)
    except Broken as err:
        return str(err)
    return ""


def holds() -> Progress:
    """Verify the trail, which must hold, and return what was looked at."""
    db.session.rollback()
    return verifying.go_on(verifying.begin(), [], enough=lambda: False)


def tamper(statement: str, **values: object) -> int:
    """Change the database behind skstack's back, by every right there is, and return how many rows were."""
    db.session.rollback()
    if db.engine.dialect.name == "sqlite":
        with closing(sqlite3.connect(str(db.engine.url.database))) as file, file:
            return file.execute(statement, values).rowcount
    with db.engine.begin() as connection:
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        return connection.execute(sa.text(statement), values).rowcount


@contextmanager
def undone(table: str) -> Iterator[None]:
    """Put all rows of a table back as they were."""
    tamper(f"CREATE TABLE kept AS SELECT * FROM {table}")
    try:
        yield
    finally:
        for statement in ("DELETE FROM {0}", "INSERT INTO {0} SELECT * FROM kept", "DROP TABLE kept"):
            tamper(statement.format(table))
