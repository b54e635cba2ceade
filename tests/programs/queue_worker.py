"""A worker for the queue's tests: arguments are URL, INSTANCE, THREADS, GRACE and LOOK_AGAIN; marks go to stdout."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from skstack import doorbell
from skstack.queue import Queue, consumer

queue = Queue("test")
stopping = threading.Event()
failures: dict[str, int] = {}


@queue.on_startup()
def ready() -> None:
    say("ready")


@queue.task()
def mark(what: str) -> None:
    say(f"{what} {time.monotonic()}")


@queue.task()
def hold(what: str, seconds: int) -> None:
    """Stay busy until the time is over or the worker stops."""
    say(f"{what} {time.monotonic()}")
    say(f"{what}-ended" if not stopping.wait(seconds) else f"{what}-told")


@queue.task()
def ignore(what: str, seconds: int) -> None:
    """Stay busy whatever is asked of it."""
    say(f"{what} {time.monotonic()}")
    time.sleep(seconds)
    say(f"{what}-ended")


@queue.task(retries=2)
def fail_twice(what: str) -> None:
    failures[what] = failures.get(what, 0) + 1
    if failures[what] < 3:
        raise RuntimeError("not yet")
    say(f"{what} {failures[what]}")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    url, instance, threads, grace, look_again = sys.argv[1:]
    doorbell.LOOK_AGAIN = float(look_again)
    queue.bind(url, Path(instance))
    worker = consumer(queue, int(threads), on_stop=stopping.set, grace=float(grace))
    say(f"stopped {worker.run()}")
