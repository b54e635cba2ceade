"""Runs the migrations against the application's database, each in its own transaction."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context
from alembic.autogenerate.api import AutogenContext
from flask import current_app

from skstack.db import Encrypted, UtcDateTime
from skstack.extensions import db


def run() -> None:
    connectable = current_app.extensions["migrate"].db.engine
    with connectable.connect() as connection:
        if connection.dialect.name == "postgresql":
            # Two hosts that start at once must not both migrate.
            connection.exec_driver_sql("SELECT pg_advisory_lock(hashtext('skstack migrations'))")
            connection.commit()
        _enforce_foreign_keys(connection, on=False)
        context.configure(
            connection=connection,
            target_metadata=db.metadata,
            render_as_batch=True,
            compare_type=True,
            transaction_per_migration=True,
            include_object=_is_ours,
            render_item=_render,
        )
        with context.begin_transaction():
            context.run_migrations()
        _check_foreign_keys(connection)
        _enforce_foreign_keys(connection, on=True)


def _enforce_foreign_keys(connection: sa.Connection, *, on: bool) -> None:
    """Switch SQLite's foreign keys. It changes a table by making a new one, and dropping the old one would take along
    every row that refers to it. Within a transaction the switch does nothing, so it is made outside.
    """
    if connection.dialect.name == "sqlite":
        connection.connection.driver_connection.execute(f"PRAGMA foreign_keys={'ON' if on else 'OFF'}")


def _check_foreign_keys(connection: sa.Connection) -> None:
    if connection.dialect.name == "sqlite":
        broken = connection.connection.driver_connection.execute("PRAGMA foreign_key_check").fetchall()
        if broken:
            raise RuntimeError(f"after the migrations some rows refer to nothing: {broken[:5]}")


def _is_ours(thing: object, name: str | None, kind: str, reflected: bool, compare_to: object) -> bool:
    """Leave out the queue's own tables, which stand in the same database on PostgreSQL, and those of the search.

    FTS5 keeps `ticket_search` in several tables whose names begin so; no model can describe any of them.
    """
    return not (kind == "table" and (name or "").startswith(("huey", "ticket_search")))


def _render(kind: str, thing: object, context: AutogenContext) -> str | bool:
    """Write our column types as what they are in the database: a migration must not change with the code."""
    if kind == "type" and isinstance(thing, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(thing, Encrypted):
        return "sa.LargeBinary()"
    if kind == "type" and isinstance(thing, sa.JSON):
        context.imports.add("from sqlalchemy.dialects import postgresql")
        return "sa.JSON().with_variant(postgresql.JSONB(), 'postgresql')"
    return False


run()
