"""The queue: Huey with messages of JSON that carry ids, and a consumer that stops at once.

A message is only a doorbell: what is to be done, and whether it still is, stands in the database.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huey.api import Huey, Task
from huey.consumer import Consumer as HueyConsumer
from huey.registry import Message
from huey.storage import BaseStorage

from skstack.doorbell import Pipe, PostgresDoorbellStorage, SqliteDoorbellStorage

log = logging.getLogger(__name__)

_OPTIONAL = ("retries", "retry_delay", "retry_backoff", "priority")


class Queue(Huey):
    """Registers tasks when it is imported, and gets its storage from `bind` when the application is made."""

    storage: Any

    def __init__(self, name: str) -> None:
        super().__init__(name, results=False, storage_class=_Unbound)

    def bind(self, url: str, instance: Path) -> None:
        """Use the database at `url` if it is PostgreSQL, else `instance`/huey.db. Opens nothing yet."""
        self.storage.close()
        if url.startswith("postgresql"):
            self.storage = PostgresDoorbellStorage(self.name, url)
        else:
            self.storage = SqliteDoorbellStorage(self.name, Path(instance))

    def ring(self, name: str, *ids: int | str, at: dt.datetime | None = None) -> None:
        """Ask for the task called `module.function` without importing it, now or `at` an aware time.

        Never fails: a sweep makes up.
        """
        eta = at.astimezone(dt.UTC).replace(tzinfo=None) if at is not None else None
        try:
            self.enqueue(self._registry.string_to_task(name)(args=ids, eta=eta))
        except Exception:
            log.exception("%s%r could not be queued; the sweep will ask again", name, ids)

    def oldest_message_at(self) -> dt.datetime | None:
        """Return when the message was queued that is the oldest of those that wait; None if none does, or it does not say."""
        stored = self.storage.oldest()
        if stored is None:
            return None
        try:
            return dt.datetime.fromisoformat(json.loads(stored)["at"])
        except (KeyError, TypeError, ValueError):
            return None

    def serialize_task(self, task: Task) -> bytes:
        """Return the message. Raises TypeError for an argument that is no id, and for chains of tasks."""
        if task.on_complete or task.on_error or task.chord_config or task.expires or task.timeout:
            raise TypeError(f"{task.name}: messages carry no chains, expiry and time limits")
        for value in (*task.args, *task.kwargs.values()):
            if not isinstance(value, (int, str)):
                raise TypeError(f"{task.name}: a message carries ids, not {type(value).__name__}")
        message = self._registry.create_message(task)
        now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        fields = {"name": message.name, "id": message.id, "args": list(message.args), "at": now}
        if message.kwargs:
            fields["kwargs"] = message.kwargs
        if message.eta:
            fields["eta"] = message.eta.replace(tzinfo=dt.UTC).isoformat()
        for name in _OPTIONAL:
            if getattr(message, name) != getattr(type(task), f"default_{name}"):
                fields[name] = getattr(message, name)
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()

    def deserialize_task(self, stored: bytes) -> Task:
        """Return the task that a message asks for. Raises ValueError or HueyException if there is none."""
        fields = json.loads(stored)
        try:
            eta = fields.get("eta")
            message = Message(
                id=fields["id"],
                name=fields["name"],
                args=tuple(fields["args"]),
                kwargs=fields.get("kwargs", {}),
                eta=dt.datetime.fromisoformat(eta).replace(tzinfo=None) if eta else None,
                **{name: fields[name] for name in _OPTIONAL if name in fields},
            )
        except (AttributeError, KeyError, TypeError) as err:
            raise ValueError("a message on the queue is not one of ours") from err
        return self._registry.create_task(message)


def consumer(
    queue: Queue, workers: int = 16, *, on_stop: Callable[[], None] | None = None, grace: float = 5.0
) -> Consumer:
    """Return what takes messages off `queue` and runs their tasks in `workers` threads: `Consumer.run`."""
    return Consumer(queue, workers, on_stop=on_stop, grace=grace)


class Consumer(HueyConsumer):
    """Huey's consumer with threads, whose stop does not wait for tasks that take long.

    `on_stop` is called once, before anything is waited for: it tells running tasks to return. Those that
    have not after `grace` seconds are left behind, and end with the process.
    """

    def __init__(
        self, queue: Queue, workers: int, *, on_stop: Callable[[], None] | None, grace: float
    ) -> None:
        # A message that cannot be read is logged and gone: there is nothing to back off from.
        super().__init__(queue, workers=workers, initial_delay=0.1, backoff=1, max_delay=0.1)
        self._on_stop = on_stop
        self._grace = grace
        self._pipe = Pipe()

    def run(self) -> bool:
        """Work until `stop`, or SIGTERM, SIGINT or SIGHUP if this is the main thread.

        A second signal ends the wait for running tasks. Returns whether every task has returned; if not,
        leave by `os._exit` after flushing, since a thread that still runs cannot be ended otherwise.
        """
        self.huey.storage.begin()
        self._catch_signals()
        self.start()
        try:
            while not self._pipe.wait(self._health_check_interval):
                self.check_worker_health()
            self._pipe.clear()
            return self._leave()
        finally:
            self._restore_signal_handlers()

    def stop(self, graceful: bool = False) -> None:
        """Let `run` return, from any thread; from within a signal handler too."""
        self._pipe.write()

    def _leave(self) -> bool:
        log.info("stopping: no new task is taken")
        self.stop_flag.set()
        self.huey.storage.stop()
        if self._on_stop is not None:
            try:
                self._on_stop()
            except Exception:
                log.exception("what was to be done at the stop failed")
        threads = [thread for _, thread in self.worker_threads] + [self.scheduler]
        deadline = time.monotonic() + self._grace
        while any(thread.is_alive() for thread in threads):
            left = deadline - time.monotonic()
            if left <= 0 or self._pipe.wait(min(left, 0.02)):
                break
        running = sum(thread.is_alive() for thread in threads)
        if running:
            log.warning("%d tasks have not returned and are left behind", running)
        return not running

    def _set_signal_handlers(self) -> None:
        """Leave the signals alone: Huey does this last, when the first task may already be running."""

    def _catch_signals(self) -> None:
        self._previous: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                self._previous[number] = signal.signal(number, lambda *_: self.stop())
            # After a pause (SIGSTOP, a frozen container) another thread may get the signal; this one must wake up all the same.
            self._wakeup_fd = signal.set_wakeup_fd(self._pipe.fileno(), warn_on_full_buffer=False)

    def _restore_signal_handlers(self) -> None:
        if self._previous:
            signal.set_wakeup_fd(self._wakeup_fd)
        for number, handler in self._previous.items():
            signal.signal(number, handler)


class _Unbound(BaseStorage):
    """Stands in until `Queue.bind`: whoever uses it is told so."""

    def enqueue(self, message: bytes, priority: float | None = None) -> None:
        raise RuntimeError("the queue is not bound to an instance yet: create_app does that")

    def dequeue(self) -> bytes | None:
        raise RuntimeError("the queue is not bound to an instance yet: create_app does that")
