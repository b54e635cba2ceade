"""One answer for many who ask for the same at the same moment: a hundred watchers of a run need its next lines rendered once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable


class Shared:
    """Texts by what they depend on. The first who asks makes one, the others wait for it; a few are kept for a moment.

    `most` is how many are kept, `longest` how many characters one may have for that.
    """

    def __init__(self, most: int = 32, longest: int = 1 << 17) -> None:
        self._most, self._longest = most, longest
        self._lock = threading.Lock()
        self._made: OrderedDict[Hashable, _Text] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], str]) -> str:
        """Return the text for `key`, made by `make` unless somebody else has made it or is just doing so."""
        with self._lock:
            text = self._made.get(key)
            if text is None:
                text = self._made[key] = _Text()
                while len(self._made) > self._most:
                    self._made.popitem(last=False)
        with text.lock:
            if text.content is None:
                text.content = make()
                if len(text.content) > self._longest:
                    with self._lock:
                        self._made.pop(key, None)
            return text.content


class _Text:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.content: str | None = None
