"""Whether anything has happened that may have changed who may see what, told by the trail of audit events.

Whatever changes anything leaves an event in the same transaction, and events are numbered in the order in which they
are committed. So as long as the last event of a kind that matters is the same one, an answer to "may they?" holds.
"""

from __future__ import annotations

import threading
import time

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from skstack.audit.models import AuditEvent, AuditHead

# Most events tell of these, and nobody's rights depend on them. A `request` is one that was refused. Not to be added:
# `user`, though a failed sign-in is one too, since signing in ends the session that the browser had.
_WITHOUT_RIGHTS = ("ticket", "run", "schedule", "request", "audit")

_HEAD = sa.select(AuditHead.sequence)
_LAST = sa.select(sa.func.max(AuditEvent.id)).where(
    AuditEvent.id > sa.bindparam("after"), AuditEvent.object_type.not_in(_WITHOUT_RIGHTS)
)


# Behind more events than these, looking for one that matters takes longer than asking everybody anew.
_MOST = 1000


class AccessVersion:
    """The number of the last event that may have changed anybody's rights, read a moment ago at most. Threads share it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._at: float | None = None
        self._head = self._version = 0
        self._failed_at, self._failure = 0.0, SQLAlchemyError()

    def get(self, age: float) -> int:
        """Return it as it was at most `age` seconds ago: usually one small statement, or none.

        Raises SQLAlchemyError if the database cannot be asked; then all who wait for that look learn so at once.
        """
        asked = time.monotonic()
        with self._lock:
            if self._failed_at >= asked:
                raise self._failure
            if self._at is None or self._at < asked - age:
                started = time.monotonic()
                try:
                    self._look()
                except SQLAlchemyError as err:
                    self._failed_at, self._failure = time.monotonic(), err
                    raise
                self._at = started
            return self._version

    def _look(self) -> None:
        with self._engine.connect() as connection:
            head = connection.scalar(_HEAD) or 0
            if self._at is None or head > self._head + _MOST:
                self._version = head
            elif head != self._head:
                self._version = connection.scalar(_LAST, {"after": self._head}) or self._version
            self._head = head
