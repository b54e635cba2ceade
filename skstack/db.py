"""How the database is written: one commit at a time, then what waited for it; and the column types.

Every change stands inside `transaction()`. On SQLite it takes the write lock when it begins, so that what it
reads is still true when it commits, and so that two writers wait for each other instead of failing.
"""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import sqlalchemy as sa
from flask import Flask, current_app
from sqlalchemy.dialects import postgresql as sa_postgresql
from sqlalchemy.dialects import sqlite as sa_sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.util import identity_key

from skstack.crypto import Cipher, InvalidToken
from skstack.errors import Unavailable
from skstack.extensions import Model, db
from skstack.messages import N_

_writing: ContextVar[bool] = ContextVar("skstack_writing", default=False)
_waiting: ContextVar[list[Callable[[], None]] | None] = ContextVar("skstack_after_commit", default=None)
_gathered: ContextVar[dict[Callable[[list[Any]], None], list[Any]] | None] = ContextVar(
    "skstack_gathered", default=None
)
_connection: ContextVar[Connection | None] = ContextVar("skstack_connection", default=None)
_writer = threading.RLock()

# Seconds between two tries to get SQLite's write lock from another process.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.0003, 0.005


@contextmanager
def transaction() -> Iterator[None]:
    """Make everything inside one commit; an exception undoes it all. A transaction inside another joins it."""
    if _writing.get():
        yield
        return
    session = db.session
    if session.new or session.dirty or session.deleted:
        raise RuntimeError("something was changed outside transaction()")
    session.commit()  # Ends the read that the request began: it would see an older state, and block the write.
    callbacks: list[Callable[[], None]] = []
    gathered: dict[Callable[[list[Any]], None], list[Any]] = {}
    writing, waiting, gathering = _writing.set(True), _waiting.set(callbacks), _gathered.set(gathered)
    # Threads of one process take turns here, which wakes the next at once; SQLite would have them poll.
    with _turn():
        connected = None
        try:
            connected = _connection.set(session.connection())
            yield
            if gathered:
                session.flush()  # What fails must fail before anything is locked for the end.
                for finish, items in gathered.items():
                    finish(items)
            session.commit()
        except BaseException:
            session.rollback()
            raise
        finally:
            _gathered.reset(gathering)
            if connected is not None:
                _connection.reset(connected)
            _writing.reset(writing)
            _waiting.reset(waiting)
    for callback in callbacks:
        callback()


def after_commit(callback: Callable[[], None]) -> None:
    """Call `callback` once the transaction holds, not at all if it does not; outside of one, now."""
    waiting = _waiting.get()
    if waiting is None:
        callback()
    else:
        waiting.append(callback)


def gather(finish: Callable[[list[Any]], None], item: Any) -> None:
    """Keep `item` until just before the transaction commits; `finish` then gets all that was kept for it, in order.

    For what has to lock something that everybody needs: it is held for the commit only. Raises RuntimeError outside of
    a transaction.
    """
    gathered = _gathered.get()
    if gathered is None:
        raise RuntimeError("something was to be written outside transaction()")
    gathered.setdefault(finish, []).append(item)


def execute(statement: sa.Executable, parameters: Any) -> sa.CursorResult[Any]:
    """Carry out a statement of tables, not of objects, within the transaction under way: nothing is flushed before."""
    connection = _connection.get() or db.session.connection()
    return connection.execute(statement, parameters)


def compare_and_set(
    column: InstrumentedAttribute[Any], row_id: int, *, expected: Any, to: Any, **values: Any
) -> bool:
    """Set `column` of one row to `to` if it still is `expected` (a value or several), and say whether it was.

    Further columns are set with it. The row's object in the session follows, so that nobody reads the old state.
    """
    model: Any = column.class_
    allowed = list(expected) if isinstance(expected, (tuple, list, set, frozenset)) else [expected]
    parameters = {"row_id": row_id, "expected": allowed, column.key: to, **values}
    statement = _compare_and_set(model, column.key, tuple(sorted({column.key, *values})))
    done = bool(execute(statement, parameters).rowcount)
    loaded = db.session.identity_map.get(identity_key(model, row_id))
    if loaded is not None and done:
        follow(loaded, {column.key: to, **values})
    elif loaded is not None:
        db.session.refresh(loaded)
    return done


@cache
def _compare_and_set(model: type[Any], compared: str, written: tuple[str, ...]) -> sa.Update:
    # Built once, and without the ORM: that takes several times as long as the statement itself.
    columns = sa.inspect(model).columns
    return (
        sa.update(sa.inspect(model).local_table)
        .where(
            columns["id"] == sa.bindparam("row_id"),
            columns[compared].in_(sa.bindparam("expected", expanding=True)),
        )
        .values({columns[name]: sa.bindparam(name) for name in written})
    )


def insert(model: type[Model], *rows: Mapping[str, Any]) -> None:
    """Add rows by attribute, without an object for each: for what is written often and not read in the same request.

    What they refer to must have been flushed.
    """
    if rows:
        names = _column_names(model)
        execute(_insert(model), [{names[name]: value for name, value in row.items()} for row in rows])


def insert_unless_there(model: type[Model], row: Mapping[str, Any]) -> None:
    """Add a row by attribute, unless there is one of its key: even if another process adds that in the same moment."""
    names, dialect = _column_names(model), db.engine.dialect.name
    statement = (sa_postgresql if dialect == "postgresql" else sa_sqlite).insert(
        sa.inspect(model).local_table
    )
    execute(statement.on_conflict_do_nothing(), {names[name]: value for name, value in row.items()})


@cache
def _insert(model: Hashable) -> sa.Insert:
    return sa.insert(sa.inspect(model).local_table)


@cache
def _column_names(model: Hashable) -> dict[str, str]:
    return {name: column.key for name, column in sa.inspect(model).columns.items()}


def follow(loaded: Any, values: Mapping[str, Any]) -> None:
    """Let an object show what an UPDATE has just written, without reading the row again."""
    for name, value in values.items():
        set_committed_value(loaded, name, value)


def utcnow() -> dt.datetime:
    """Return the time now, aware, in UTC."""
    return dt.datetime.now(dt.UTC)


class UtcDateTime(sa.types.TypeDecorator[dt.datetime]):
    """An aware time in UTC. SQLite keeps no zone, so it is taken off there and put back."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        value = value.astimezone(dt.UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


class Encrypted(sa.types.TypeDecorator[Any]):
    """A JSON value that is encrypted at rest with the instance's keys. None stays NULL.

    Reading one that no key fits raises Unavailable.
    """

    impl = sa.LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | None:
        if value is None:
            return None
        return cipher().encrypt(json.dumps(value, ensure_ascii=False).encode())

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        try:
            return json.loads(cipher().decrypt(bytes(value)))
        except InvalidToken as err:
            raise Unavailable(
                N_(
                    "A credential or secret value that is stored here cannot be read: no key in keys/encryption.keys fits it. "
                    "An administrator has to add the key that it was encrypted with, from a backup or another host, as the "
                    "last line of that file."
                )
            ) from err


class JsonText(sa.types.TypeDecorator[Any]):
    """A JSON value as text, on both databases: it is read back byte for byte, which PostgreSQL's JSONB does not do."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        return as_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


JsonColumn = sa.JSON().with_variant(JSONB(), "postgresql")


def cipher() -> Cipher:
    """Return the cipher of the running application."""
    found: Cipher = current_app.extensions["skstack.cipher"]
    return found


def engine_options(url: str, timeout: float, threads: int) -> dict[str, Any]:
    """Return how SQLAlchemy connects: enough connections for every thread, a bounded wait for a lock."""
    options: dict[str, Any] = {
        "pool_size": min(threads, 16),
        "max_overflow": threads,
        "pool_timeout": timeout,
        "json_serializer": as_json,
    }
    if url.startswith("sqlite"):
        options["connect_args"] = {"timeout": timeout, "check_same_thread": False}
    else:
        options["pool_pre_ping"] = True
        options["connect_args"] = {
            "connect_timeout": 10,
            "options": f"-c lock_timeout={int(timeout * 1000)} -c timezone=utc",
        }
    return options


def as_json(value: Any) -> str:
    """Write a value as JSON in the form that is stored."""
    # As people wrote it, not as escapes: on SQLite it is text, in which people search.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def listen(app: Flask) -> None:
    """Set up SQLite's connections and its transactions. PostgreSQL needs nothing."""
    with app.app_context():
        engine = db.engine
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _on_connect)
        sa.event.listen(engine, "begin", _on_begin)


def _on_connect(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # The driver must not begin transactions of its own.
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",  # A commit that was answered survives a power cut.
        "foreign_keys=ON",
        "temp_store=MEMORY",
        "cache_size=-4000",
        "journal_size_limit=67108864",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _on_begin(connection: Connection) -> None:
    if _writing.get():
        driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
        _begin_writing(driver, current_app.config["SKSTACK"].database_timeout)
    else:
        connection.exec_driver_sql("BEGIN")


def _begin_writing(connection: sqlite3.Connection, timeout: float) -> None:
    """Take SQLite's write lock, waiting `timeout` s at most. Raises SQLAlchemy's OperationalError after that.

    SQLite itself would sleep longer and longer, up to 100 ms, while the other process is done in two or three. So it is
    asked often: that is where half of the time of many small jobs went.
    """
    connection.execute("PRAGMA busy_timeout=0")
    deadline, pause = time.monotonic() + timeout, _SHORTEST_PAUSE
    try:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as err:
                if err.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                    # As SQLAlchemy would have said it, which does not translate what fails in this event.
                    raise sa.exc.OperationalError("BEGIN IMMEDIATE", None, err) from err
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
    finally:
        connection.execute(f"PRAGMA busy_timeout={int(timeout * 1000)}")


@contextmanager
def _turn() -> Iterator[None]:
    """Hold this process's turn to write. Raises Unavailable after as long as a locked database is waited for."""
    if db.engine.dialect.name != "sqlite":
        yield
        return
    if not _writer.acquire(timeout=current_app.config["SKSTACK"].database_timeout):
        raise Unavailable(N_("The database is busy. Try again in a moment."))
    try:
        yield
    finally:
        _writer.release()


__all__ = [
    "Encrypted",
    "JsonColumn",
    "JsonText",
    "Model",
    "UtcDateTime",
    "after_commit",
    "as_json",
    "cipher",
    "compare_and_set",
    "db",
    "engine_options",
    "execute",
    "gather",
    "insert",
    "insert_unless_there",
    "listen",
    "transaction",
    "utcnow",
]
