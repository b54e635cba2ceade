"""One answer for many who ask for the same at the same moment: a hundred watchers of a run need its next lines rendered once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sized
from typing import Generic, TypeVar

T = TypeVar("T", bound=Sized)


class Shared(Generic[T]):
    """Things by what they depend on. The first who asks makes one, the others wait for it; a few are kept for a moment.

    `most` is how many are kept, `longest` how long one may be for that.
    """

    def __init__(self, most: int = 32, longest: int = 1 << 17) -> None:
        self._most, self._longest = most, longest
        self._lock = threading.Lock()
        self._made: OrderedDict[Hashable, _Made[T]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is there for `key`, made by `make` unless somebody else has made it or is just doing so.

        What `make` raises goes to all who wait for that, so that they need not wait for one another; who comes later tries again.
        """
        with self._lock:
            made = self._made.get(key)
            if made is None:
                made = self._made[key] = _Made()
                while len(self._made) > self._most:
                    self._made.popitem(last=False)
        if made.content is not None:
            return made.content
        with made.lock:
            if made.error is not None:
                raise made.error
            if made.content is None:
                try:
                    made.content = make()
                except Exception as err:
                    made.error = err
                    self._drop(key, made)
                    raise
                if len(made.content) > self._longest:
                    self._drop(key, made)
            return made.content

    def _drop(self, key: Hashable, made: _Made[T]) -> None:
        with self._lock:
            if self._made.get(key) is made:
                del self._made[key]


class _Made(Generic[T]):
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.content: T | None = None
        self.error: Exception | None = None
