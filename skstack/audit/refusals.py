"""Refusals in the trail. There is no end to what somebody can be refused, so only some a minute are written down."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Hashable

from sqlalchemy.exc import OperationalError

from skstack.audit.services import Action, Actor, record
from skstack.db import transaction
from skstack.errors import Unavailable
from skstack.extensions import db
from skstack.messages import Message

log = logging.getLogger(__name__)

MOST = 10
"""Refusals of one person, or one address, that are written down in a minute, by each web process."""

EVERY = 60.0
_MOST_KEYS = 10_000


class Allowance:
    """Counts by key. `take` gives how many were left out before this one, None if this one is to be left out too."""

    def __init__(self, most: int = MOST, every: float = EVERY) -> None:
        self._most, self._every = most, every
        self._lock = threading.Lock()
        self._counts: dict[Hashable, tuple[float, int]] = {}

    def take(self, key: Hashable) -> int | None:
        now = time.monotonic()
        with self._lock:
            began, count = self._counts.get(key, (now, 0))
            left_out = 0
            if now - began >= self._every:
                left_out, began, count = max(0, count - self._most), now, 0
            self._counts[key] = (began, count + 1)
            if len(self._counts) > _MOST_KEYS:
                self._counts = {k: v for k, v in self._counts.items() if now - v[0] < self._every}
                if len(self._counts) > _MOST_KEYS:
                    self._counts = {key: self._counts[key]}
            return left_out if count < self._most else None


_allowance = Allowance()


def note(
    action: Action,
    *,
    actor: Actor | None,
    key: Hashable,
    object_type: str,
    object_id: int | None = None,
    object_name: str = "",
    reason: Message,
) -> None:
    """Write down that something was refused, in a transaction of its own, unless `key` had too many of them.

    Never raises for a database that does not answer: the refusal stands anyway.
    """
    left_out = _allowance.take((action, key))
    if left_out is None:
        return
    if db.session.new or db.session.dirty or db.session.deleted:
        db.session.rollback()  # What was refused is not to be written with it.
    try:
        with transaction():
            record(
                action,
                actor=actor,
                object_type=object_type,
                object_id=object_id,
                object_name=object_name,
                reason=str(reason),
                **({"not_recorded_before": left_out} if left_out else {}),
            )
    except (OperationalError, Unavailable) as err:
        log.error("a refusal was not recorded: %s", err)
