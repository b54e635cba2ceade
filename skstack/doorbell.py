"""Where messages wait: storages for Huey that wake an idle worker within milliseconds.

Huey's SQLite storage polls, and its PostgreSQL storage wakes every thread of every worker for each message.
Here one thread of a worker listens at a time, on a FIFO or on a `LISTEN` connection. Whoever finds a message
hands its turn to the next thread, which looks before it listens.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import select
import sqlite3
import stat
import threading
from abc import abstractmethod
from pathlib import Path
from typing import Any

import psycopg
from huey.storage import BaseStorage, PostgresStorage, SqliteStorage

log = logging.getLogger(__name__)

# Seconds after which the listening thread looks by itself: the most that a lost ring can delay a message.
LOOK_AGAIN = 1.0


class DoorbellStorage(BaseStorage):
    """What both storages share: one thread listens, the others queue up for its turn."""

    blocking = True
    unreachable: type[Exception]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, create_tables=False, **kwargs)
        self.begin()

    def begin(self) -> None:
        """Get ready to listen: after `stop`, and in a process that was forked, which must not share a pipe."""
        self._turn = threading.Lock()
        self._stopping = threading.Event()
        self._stopped = Pipe()

    def dequeue(self) -> bytes | None:
        """Wait for a message and return it, or None after `stop`."""
        with self._turn:
            while not self._stopping.is_set():
                try:
                    message = self._take()
                    if message is not None:
                        return message
                    self._listen()
                except self.unreachable as err:
                    log.warning("the queue cannot be read, trying again: %s", err)
                    self._stopped.wait(LOOK_AGAIN)
        return None

    def stop(self) -> None:
        """Let every thread that waits in `dequeue` return at once, and none wait again."""
        self._stopping.set()
        self._stopped.write()

    @abstractmethod
    def oldest(self) -> bytes | None:
        """Return the message that waits for the longest time, and leave it where it is; None if none waits."""

    @abstractmethod
    def _take(self) -> bytes | None:
        """Remove the next message and return it, or None."""

    @abstractmethod
    def _listen(self) -> None:
        """Return when there may be a message, after LOOK_AGAIN seconds, or when `stop` is called."""

    # Huey asks before each task whether it was revoked, and deletes that note after it: two more
    # transactions. Nothing here revokes by message, so there is never such a note.

    def peek_many(self, keys: list[str]) -> dict[str, bytes]:
        return {}

    def delete_data(self, key: str) -> bool:
        return False


class SqliteDoorbellStorage(DoorbellStorage, SqliteStorage):
    """Messages in `huey.db`, durable before `enqueue` returns; then one byte into the FIFO `huey.bell`.

    A byte stands for "there may be messages". As long as there are some that nobody took, one is in the FIFO,
    so that a worker process with a free thread sees it even if the one that read the last byte has none left.
    """

    unreachable = sqlite3.OperationalError

    def __init__(self, name: str, instance: Path) -> None:
        super().__init__(name, filename=str(instance / "huey.db"), fsync=True, journal_mode="wal", timeout=10)
        self._bell_path = instance / "huey.bell"
        self._bell: int | None = None
        self._opening = threading.Lock()

    def enqueue(self, message: bytes, priority: float | None = None) -> None:
        super().enqueue(message, priority)
        self._ring()

    def close(self) -> bool:
        with self._opening:
            if self._bell is not None:
                os.close(self._bell)
                self._bell = None
        return bool(super().close())

    def read_schedule(self, ts: dt.datetime) -> list[bytes]:
        # Huey takes the write lock to look, once a second. There is rarely anything.
        due = "select 1 from schedule where queue = ? and timestamp <= ? limit 1"
        if not self.sql(due, (self.name, ts.timestamp()), results=True):
            return []
        return list(super().read_schedule(ts))

    def oldest(self) -> bytes | None:
        rows = self.sql(
            "select data from task where queue = ? order by id limit 1", (self.name,), results=True
        )
        return bytes(rows[0][0]) if rows else None

    def _take(self) -> bytes | None:
        message: bytes | None = SqliteStorage.dequeue(self)
        left = "select 1 from task where queue = ? limit 1"
        if message is not None and self.sql(left, (self.name,), results=True):
            self._ring()
        return message

    def _listen(self) -> None:
        bell = self._open_bell()
        if self._stopped.wait(LOOK_AGAIN, bell):
            # All bytes at once: a burst must not wake anybody once per byte. Another process may be quicker.
            with contextlib.suppress(BlockingIOError):
                os.read(bell, 1 << 16)

    def _ring(self) -> None:
        # A full FIFO says what is to be said.
        with contextlib.suppress(BlockingIOError):
            os.write(self._open_bell(), b"!")

    def _open_bell(self) -> int:
        if self._bell is None:
            with self._opening:
                if self._bell is None:
                    self._bell = _open_fifo(self._bell_path)
        return self._bell

    def _create_connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection = super()._create_connection()
        connection.execute("begin immediate")
        for statement in self.ddl:
            connection.execute(statement)
        connection.execute("commit")
        return connection


class PostgresDoorbellStorage(DoorbellStorage, PostgresStorage):
    """Messages in the database's `huey_…` tables; `NOTIFY` wakes one thread of each worker process."""

    unreachable = psycopg.OperationalError
    _conn: psycopg.Connection[Any] | None

    def __init__(self, name: str, url: str) -> None:
        super().__init__(
            name,
            dsn="postgresql" + url[url.index("://") :],
            application_name="skstack queue",
            connect_timeout=10,
            # A listener sends nothing by itself, so it would not notice that the other end is gone.
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
            tcp_user_timeout=30_000,
        )
        self._listener: psycopg.Connection[Any] | None = None

    def enqueue(self, message: bytes, priority: float | None = None) -> None:
        try:
            super().enqueue(message, priority)
        except psycopg.OperationalError:
            # A connection kept since before the server was restarted: once more on a new one. Should the
            # first try have gone through after all, a second ring starts nothing.
            with self.lock:
                self._drop(self._conn)
                self._conn = None
            super().enqueue(message, priority)

    def close(self) -> bool:
        self._drop(self._listener)
        self._listener = None
        return bool(super().close())

    def oldest(self) -> bytes | None:
        statement = f"select data from {self.table_task} where queue = %s order by id limit 1"  # noqa: S608 - Huey's name
        rows = self.sql(statement, (self.name,), results=True)
        return bytes(rows[0][0]) if rows else None

    def _take(self) -> bytes | None:
        message: bytes | None = self._dequeue()
        return message

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = self._connect()
            self._listener.execute(f'listen "{self.channel}"')
            return  # A message may have come before: look first.
        try:
            if self._stopped.wait(LOOK_AGAIN, self._listener.fileno()):
                libpq = self._listener.pgconn
                libpq.consume_input()
                while libpq.notifies():
                    pass
        except psycopg.OperationalError:
            self._drop(self._listener)
            self._listener = None
            raise

    def _create_connection(self) -> psycopg.Connection[Any]:
        connection: psycopg.Connection[Any] = self._connect()
        if connection.execute("select to_regclass(%s)", (self.table_task,)).fetchone() == (None,):
            self._create_tables(connection)
        return connection

    def _create_tables(self, connection: psycopg.Connection[Any]) -> None:
        # `if not exists` alone fails when two processes do it at once.
        with connection.transaction():
            connection.execute("select pg_advisory_xact_lock(hashtext('skstack queue'))")
            for statement in self.ddl:
                connection.execute(statement)

    def _drop(self, connection: psycopg.Connection[Any] | None) -> None:
        if connection is not None:
            self._close_quiet(connection)


class Pipe:
    """A flag that can be waited for together with a file, and set within a signal handler."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def write(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"!")

    def fileno(self) -> int:
        """Return the end to write to, for `signal.set_wakeup_fd`."""
        return self._write

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 1 << 16)

    def wait(self, seconds: float, *others: int) -> bool:
        """Wait until this is set or one of `others` can be read; say whether that came within `seconds`."""
        poll = select.poll()
        for file in (self._read, *others):
            poll.register(file, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def __del__(self) -> None:
        os.close(self._read)
        os.close(self._write)


def _open_fifo(path: Path) -> int:
    try:
        os.mkfifo(path, 0o600)
    except FileExistsError:
        if not stat.S_ISFIFO(path.stat().st_mode):
            path.unlink()  # A copy of the instance folder made a plain file of it.
            return _open_fifo(path)
    # For both, so that opening never waits for the other side and writing never meets a closed pipe.
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
