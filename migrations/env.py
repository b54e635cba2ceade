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


def _is_ours(thing: object, name: str | None, kind: str, reflected: bool, compare_to: object) -> bool:
    """Leave out the queue's own tables, which stand in the same database on PostgreSQL."""
    return not (kind == "table" and (name or "").startswith("huey"))


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
