"""Wait for output: one thread per process watches the files that somebody is looking at, many requests wait.

The first line after a quiet moment is answered at once. When output keeps coming, those who wait are answered
together at intervals, longer the more they are: a hundred watchers of a chatty command would otherwise take
all of the processor for fragments of one line each.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import threading
import time
from dataclasses import dataclass, replace

from skstack.runner.protocol import EVENTS_FILE, OUTPUT_FILE, RESULT_FILE
from skstack.runs.inotify import IN_DELETE_SELF, IN_IGNORED, IN_MOVE_SELF, IN_Q_OVERFLOW, Inotify

SHORTEST_INTERVAL = 0.04
LONGEST_INTERVAL = 0.15
_PER_WAITER = 0.001
_POLL = 0.02
_CHECK = 1.0
_LINGER = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """What there is in a run's directory: bytes of output, bytes of events, and whether the result is there.

    `final`: nothing will be added to these `size` bytes. `grown`: there is more than the caller has seen.
    `busy`: too many requests wait already, so this one did not; ask again in a moment.
    """

    size: int
    events_size: int
    final: bool
    grown: bool = False
    busy: bool = False


class Tails:
    """The files that are being looked at, and who waits for them. One object per process; threads share it.

    `limit` is how many may wait at a time: every one of them holds a thread of the web server.
    With `polling`, inotify is not used: files are looked at every 20 ms while somebody waits.
    """

    def __init__(self, limit: int = 100, *, polling: bool = False) -> None:
        self.limit = limit
        self._polling = polling
        self._reset()
        os.register_at_fork(after_in_child=self._begin_in_child)

    @property
    def waiting(self) -> int:
        """Return how many requests wait now."""
        return self._waiting

    def wait(
        self,
        directory: str | os.PathLike[str],
        offset: int,
        timeout: float,
        *,
        seen_events: int | None = None,
        enough: int | None = None,
    ) -> Growth:
        """Return as soon as there is more output than `offset` bytes, or something else is new.

        Events are new when their file is longer than `seen_events` (None: they are of no interest); a result
        is answered at once, and after `timeout` seconds what there is then. Who is `enough` bytes behind
        is not held back. The directory need not be there yet.
        """
        path = os.fspath(directory)
        if timeout <= 0:
            growth = look(path)
            return replace(growth, grown=_is_news(growth, offset, seen_events))
        deadline = time.monotonic() + timeout
        with self._lock:
            watch = self._watch(path)
            growth = look(path)
            news = _is_news(growth, offset, seen_events)
            now = time.monotonic()
            due = watch.due
            behind = enough is not None and growth.size - offset >= enough
            if growth.final or behind or (news and now >= due):
                watch.answered = now
                return replace(growth, grown=news)
            if self._waiting >= self.limit:
                return replace(growth, grown=news, busy=True)
            waiter = _Waiter(offset, seen_events, enough)
            watch.waiters.add(waiter)
            self._waiting += 1
            self._start(watch)
        until = min(due, deadline) if news else deadline
        if not waiter.woken.acquire(timeout=max(0.0, until - time.monotonic())):
            with self._lock:
                watch.waiters.discard(waiter)
                if waiter.growth is None:
                    self._waiting -= 1
                if news:
                    watch.answered = max(watch.answered, due)
        growth = waiter.growth or look(path)
        return replace(growth, grown=_is_news(growth, offset, seen_events))

    def _begin_in_child(self) -> None:
        """Begin with nothing in a forked child: it has none of its parent's threads."""
        if self._inotify is not None:
            self._inotify.close()
        if self._bell >= 0:
            os.close(self._bell)
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._watches: dict[str, _Watch] = {}
        self._waiting = 0
        self._thread: threading.Thread | None = None
        self._inotify: Inotify | None = None
        self._bell = -1
        self._asleep = False
        self._checked = 0.0

    def _watch(self, path: str) -> _Watch:
        watch = self._watches.get(path)
        if watch is None:
            watch = self._watches[path] = _Watch(path)
        watch.used = time.monotonic()
        if watch.number is None:
            self._subscribe(watch)
        return watch

    def _subscribe(self, watch: _Watch) -> None:
        """Ask for the events of a directory, or while it is not there of its parent; else it is polled."""
        if self._polling:
            return
        for directory in (watch.path, os.path.dirname(watch.path)):
            try:
                self._inotify = self._inotify or Inotify()
                watch.number = self._inotify.add(directory)
            except OSError:
                continue
            watch.is_there = directory == watch.path
            return
        watch.number = None

    def _start(self, watch: _Watch) -> None:
        """Start the thread, or tell it that it has more to do than it knew when it went to sleep."""
        if self._thread is None or not self._thread.is_alive():
            if self._bell < 0:
                self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._thread = threading.Thread(target=self._run, name="tail", daemon=True)
            self._thread.start()
        elif self._asleep or watch.number is None:
            os.eventfd_write(self._bell, 1)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        registered: Inotify | None = None
        while True:
            with self._lock:
                if self._inotify is not registered and self._inotify is not None:
                    poll.register(self._inotify.fd, select.POLLIN)
                    registered = self._inotify
                timeout = self._next_look()
                self._asleep = timeout is None
            poll.poll(None if timeout is None else max(0, math.ceil(timeout * 1000)))
            with self._lock, contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._bell)
            with self._lock:
                self._look_at(self._changed())

    def _next_look(self) -> float | None:
        """Return the seconds until a file must be looked at whether or not an event comes; None for never."""
        if not self._watches:
            return None
        now = time.monotonic()
        timeout = _CHECK
        for watch in self._watches.values():
            if watch.waiters and watch.number is None:
                timeout = min(timeout, _POLL)
            if watch.held_back and watch.waiters:
                timeout = min(timeout, watch.due - now)
        return max(0.0, timeout)

    def _changed(self) -> list[_Watch]:
        """Return the watches whose files may have changed, and forget those that nobody needs any more."""
        now = time.monotonic()
        numbers: set[int] = set()
        everything = now >= self._checked + _CHECK
        for number, mask in self._inotify.read() if self._inotify else ():
            numbers.add(number)
            if mask & IN_Q_OVERFLOW:
                everything = True
            if mask & _GONE:
                for watch in self._watches.values():
                    if watch.number == number:
                        watch.number = None
        if everything:
            self._checked = now
            for path in [p for p, w in self._watches.items() if not w.waiters and now > w.used + _LINGER]:
                self._forget(path)
        changed = []
        for watch in self._watches.values():
            if watch.waiters and (
                everything or watch.number is None or watch.number in numbers or watch.held_back
            ):
                changed.append(watch)
            if watch.number is None or (not watch.is_there and (everything or watch.number in numbers)):
                self._subscribe(watch)
        return changed

    def _forget(self, path: str) -> None:
        watch = self._watches.pop(path)
        shared = any(other.number == watch.number for other in self._watches.values())
        if watch.number is not None and self._inotify is not None and not shared:
            self._inotify.remove(watch.number)

    def _look_at(self, watches: list[_Watch]) -> None:
        for watch in watches:
            now = time.monotonic()
            growth = look(watch.path)
            may_answer = growth.final or now >= watch.due
            ready = []
            watch.held_back = False
            for waiter in watch.waiters:
                if growth.final or waiter.is_behind(growth) or waiter.wants(growth):
                    if may_answer or waiter.is_behind(growth):
                        ready.append(waiter)
                    else:
                        watch.held_back = True
            if may_answer and ready:
                watch.answered = now
                watch.interval = min(LONGEST_INTERVAL, max(SHORTEST_INTERVAL, len(ready) * _PER_WAITER))
            for waiter in ready:
                watch.waiters.remove(waiter)
                waiter.growth = growth
                waiter.woken.release()
            self._waiting -= len(ready)
            watch.used = now


def look(directory: str) -> Growth:
    """Return what is there now. The result is looked for first: it comes when all else is written."""
    final = os.path.exists(os.path.join(directory, RESULT_FILE))
    return Growth(
        size=_size(os.path.join(directory, OUTPUT_FILE)),
        events_size=_size(os.path.join(directory, EVENTS_FILE)),
        final=final,
    )


_GONE = IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED


class _Watch:
    """One directory. `number` is None while no events come for it, so that it must be polled.

    Further answers are held back until `interval` has passed since the last one, at `due`.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.number: int | None = None
        self.is_there = False
        self.waiters: set[_Waiter] = set()
        self.answered = -1.0
        self.interval = SHORTEST_INTERVAL
        self.held_back = False
        self.used = 0.0

    @property
    def due(self) -> float:
        return self.answered + self.interval


class _Waiter:
    """A request that waits: what it has seen, and the lock that it sleeps on."""

    def __init__(self, offset: int, seen_events: int | None, enough: int | None) -> None:
        self.offset = offset
        self.seen_events = seen_events
        self.enough = enough
        self.growth: Growth | None = None
        self.woken = threading.Lock()
        self.woken.acquire()

    def wants(self, growth: Growth) -> bool:
        return _is_news(growth, self.offset, self.seen_events)

    def is_behind(self, growth: Growth) -> bool:
        return self.enough is not None and growth.size - self.offset >= self.enough


def _is_news(growth: Growth, offset: int, seen_events: int | None) -> bool:
    return growth.size > offset or (seen_events is not None and growth.events_size > seen_events)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
