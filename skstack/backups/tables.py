"""The tables of a PostgreSQL database, as files of a backup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
from flask import Flask
from psycopg import sql

from skstack import migrating
from skstack.backups.archive import Writer
from skstack.extensions import db

REVISION = "select version_num from alembic_version"
_COLUMNS = """
    select table_name, column_name from information_schema.columns
    where table_schema = current_schema() and is_generated = 'NEVER' order by table_name, ordinal_position
"""
_PIECE = 1 << 20


def copy(archive: Writer, folder: Path) -> dict[str, Any]:
    """Add every table as it is at one moment, and return the revision of the database and the columns by table."""
    with _connect() as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        columns = _columns(connection)
        for table in columns:
            path = folder / f"{table}.copy"
            with (
                path.open("wb") as file,
                connection.cursor().copy(_statement(table, columns, "to stdout")) as rows,
            ):
                for piece in rows:
                    file.write(piece)
            archive.add_file(f"tables/{path.name}", path)
            path.unlink()
        row = connection.execute(REVISION).fetchone()
    return {"revision": row[0] if row else "", "columns": columns}


def fill(app: Flask, folder: Path, manifest: dict[str, Any]) -> None:
    """Make the tables as they were, in a database that is empty or in which an earlier try was left in the middle."""
    columns: dict[str, list[str]] = manifest["columns"]
    _drop_all()
    migrating.upgrade(app, str(manifest["revision"]))
    db.engine.dispose()
    with _connect() as connection:
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        connection.execute(sql.SQL("truncate {}").format(names))
        for table, names_of in columns.items():
            with (
                connection.cursor().copy(_statement(table, columns, "from stdin")) as rows,
                (folder / "tables" / f"{table}.copy").open("rb") as file,
            ):
                while piece := file.read(_PIECE):
                    rows.write(piece)
            if "id" in names_of:
                # The next row gets the next number.
                connection.execute(
                    sql.SQL(
                        "select setval(pg_get_serial_sequence({name}, 'id'), max(id)) from {table} having max(id) is not null"
                    ).format(name=sql.Literal(table), table=sql.Identifier(table))
                )


def _columns(connection: psycopg.Connection[Any]) -> dict[str, list[str]]:
    """Return the columns by table, each table after those that it refers to."""
    found: dict[str, list[str]] = {}
    for table, column in connection.execute(_COLUMNS):
        found.setdefault(table, []).append(column)
    # The queue is only a doorbell.
    found = {
        name: names
        for name, names in found.items()
        if name != "alembic_version" and not name.startswith("huey_")
    }
    # Those that only a migration knows refer to nothing.
    known = [table.name for table in db.metadata.sorted_tables if table.name in found]
    return {name: found[name] for name in [*known, *sorted(found.keys() - set(known))]}


def _drop_all() -> None:
    with _connect() as connection:
        found = [
            name
            for (name,) in connection.execute(
                "select table_name from information_schema.tables where table_schema = current_schema()"
            )
        ]
        if found:
            names = sql.SQL(", ").join(map(sql.Identifier, found))
            connection.execute(sql.SQL("drop table {} cascade").format(names))


def _statement(table: str, columns: dict[str, list[str]], direction: str) -> sql.Composed:
    return sql.SQL("copy {} ({}) {}").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns[table])), sql.SQL(direction)
    )


def _connect() -> psycopg.Connection[Any]:
    url = db.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(url)
