"""Who was found to be allowed to watch a run, remembered for a while so that each further line needs no look at it.

A pass holds for one sender of requests, one run and the version of everybody's rights at which it was made. Each use
compares that version, so whoever loses access loses it with the next line.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import request

from skstack.accounts.sessions import seconds_left

Headers = tuple[tuple[str, str], ...]

MOST = 4096
"""Passes that are kept at a time, of a few hundred bytes each."""

# Not all of them end in the same moment. Sessions count as used once a minute.
_SHORTEST, _LONGEST = 20.0, 50.0

_WATCH = "skstack.watch"

# What an answer depends on beside its address.
_SENDER = (
    "HTTP_AUTHORIZATION",
    "HTTP_COOKIE",
    "HTTP_ACCEPT_LANGUAGE",
    "HTTP_ACCEPT_ENCODING",
    "HTTP_HX_REQUEST",
    "HTTP_X_FORWARDED_PROTO",
    "SCRIPT_NAME",
    "wsgi.url_scheme",
)


@dataclass(frozen=True, slots=True)
class Pass:
    """`until` is a moment of the monotonic clock, `variant` what else the text of an answer depends on."""

    version: int
    until: float
    variant: tuple[str, ...]
    headers: Headers


@dataclass(slots=True)
class Watch:
    """What the middleware and a view tell each other of one request.

    The middleware: whether there is time left to wait for something new (`may_wait`; the view shall not wait), and whether
    too many wait already (`busy`). The view: for how many `seconds` whoever asks may go on watching, the `variant` of its
    answer, whether there is `nothing` new, and whether the answer reads the same `for_all` of that variant.
    """

    may_wait: bool
    busy: bool = False
    seconds: float = 0.0
    variant: tuple[str, ...] = ()
    nothing: bool = False
    for_all: bool = False


class Passes:
    """The passes of one process. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: OrderedDict[bytes, Pass] = OrderedDict()

    def find(self, key: bytes) -> Pass | None:
        found = self._made.get(key)
        return found if found is not None and time.monotonic() < found.until else None

    def keep(self, key: bytes, made: Pass) -> None:
        with self._lock:
            self._made[key] = made
            self._made.move_to_end(key)
            while len(self._made) > MOST:
                self._made.popitem(last=False)

    def drop(self, key: bytes) -> None:
        with self._lock:
            self._made.pop(key, None)


def offer(*variant: str) -> None:
    """Let whoever asks go on watching what they ask for, for less than a minute.

    And no longer than half of what their session or token still has: a session is noted as used before it ends.
    """
    watch = _watch()
    if watch is not None:
        watch.seconds = min(random.uniform(_SHORTEST, _LONGEST), seconds_left() / 2)  # noqa: S311 - no secret
        watch.variant = variant


def for_all() -> None:
    """Say that the answer has nothing in it about who asks."""
    watch = _watch()
    if watch is not None:
        watch.for_all = True


def nothing_yet() -> bool:
    """Tell the middleware that there is nothing new; say whether it waits then, so that no answer is needed now."""
    watch = _watch()
    if watch is None or not watch.may_wait:
        return False
    watch.nothing = True
    return True


def longest_wait(seconds: float) -> float:
    """Return how long the request under way may wait: `seconds`, or no time if the middleware waits."""
    return seconds if _watch() is None else 0.0


def is_busy() -> bool:
    """Say whether the request under way could not wait, since too many do."""
    watch = _watch()
    return watch is not None and watch.busy


def begin(environ: dict[str, Any], *, may_wait: bool, busy: bool = False) -> Watch:
    """Let the view of a request not wait, and tell what it finds."""
    watch = environ[_WATCH] = Watch(may_wait, busy)
    return watch


def end(environ: dict[str, Any]) -> None:
    """Let the view of a request wait itself."""
    environ.pop(_WATCH, None)


def _watch() -> Watch | None:
    found: Watch | None = request.environ.get(_WATCH)
    return found


def key_of(environ: Mapping[str, Any]) -> bytes:
    """Return what tells the sender and the path of a request from others. It cannot be turned back into a credential."""
    parts = [str(environ.get(name, "")) for name in _SENDER]
    return hashlib.sha256(
        "\0".join([environ["PATH_INFO"], *parts]).encode("utf-8", "surrogateescape")
    ).digest()
