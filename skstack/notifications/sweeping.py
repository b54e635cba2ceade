"""The worker's regular look for what is to be sent, and for decisions that are due soon."""

from __future__ import annotations

import time

from skstack.db import transaction, utcnow
from skstack.notifications import services
from skstack.notifications.telling import tell_of_expiry

EVERY = 10.0
"""Seconds between two looks of one worker."""

_next_look = 0.0


def sweep() -> None:
    """Ring for what is left, and remind people of what expires."""
    global _next_look  # noqa: PLW0603 - a worker is one process, and looks in one thread
    if time.monotonic() < _next_look:
        return
    _next_look = time.monotonic() + EVERY
    services.sweep()
    with transaction():
        tell_of_expiry(utcnow())
