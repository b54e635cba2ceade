"""The queue with real worker processes and real signals, on SQLite and on PostgreSQL."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import os
import pickle
import signal
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from huey.api import Task
from huey.storage import SqliteStorage

from skstack import doorbell
from skstack.doorbell import LOOK_AGAIN, Pipe, SqliteDoorbellStorage
from skstack.queue import Queue, consumer
from tests.programs import queue_worker

REPOSITORY = Path(__file__).parent.parent
# Not run as a script: its tasks would be called __main__.
START = "from tests.programs import queue_worker; queue_worker.main()"
_numbers = itertools.count(1)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield "sqlite:///not-used"
        return
    server = request.getfixturevalue("postgresql_server")
    name = f"queue_{request.getfixturevalue('worker_id')}_{next(_numbers)}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"create database {name}")
        yield f"postgresql+psycopg:{server.partition(':')[2]}/{name}"
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture
def queue(url: str, tmp_path: Path) -> Iterator[Queue]:
    queue_worker.queue.bind(url, tmp_path)
    yield queue_worker.queue
    queue_worker.queue.storage.close()


class Worker:
    """A worker process, and what its tasks said. `look_again` stands for LOOK_AGAIN in it."""

    def __init__(
        self, url: str, instance: Path, threads: int = 4, grace: float = 5, look_again: float = LOOK_AGAIN
    ) -> None:
        self.output = instance / f"worker-{next(_numbers)}"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, url, instance, *map(str, (threads, grace, look_again))],
                stdout=output,
                cwd=REPOSITORY,
            )
        self.wait_for("ready")

    def said(self) -> dict[str, str]:
        lines = [line.partition(" ") for line in self.output.read_text().splitlines()]
        return {what: rest for what, _, rest in lines}

    def wait_for(self, *what: str, seconds: float = 20) -> dict[str, str]:
        eventually(lambda: set(what) <= set(self.said()), seconds)
        return self.said()

    def stop(self, seconds: float = 10) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


@pytest.fixture
def worker(url: str, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    started: list[Worker] = []

    def start(**options: float) -> Worker:
        started.append(Worker(url, tmp_path, **options))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


def eventually(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def stored(queue: Queue) -> list[dict[str, object]]:
    return [json.loads(message) for message in queue.storage.enqueued_items()]


# --- messages


def test_a_message_is_json_with_the_name_the_id_and_the_ids(queue: Queue) -> None:
    queue_worker.mark("a")
    (message,) = stored(queue)
    assert message.pop("id")
    assert dt.datetime.fromisoformat(message.pop("at")).tzinfo is not None
    assert message == {"name": "tests.programs.queue_worker.mark", "args": ["a"]}


@pytest.mark.parametrize("value", [object(), {"password": "p"}, ["a"], b"a", 1.5, None, Path("a")])
def test_a_message_carries_nothing_but_ids(queue: Queue, value: object) -> None:
    with pytest.raises(TypeError, match="a message carries ids"):
        queue_worker.mark(value)
    with pytest.raises(TypeError, match="a message carries ids"):
        queue_worker.mark(what=value)
    assert stored(queue) == []


def test_a_message_carries_no_chain(queue: Queue) -> None:
    with pytest.raises(TypeError, match="carry no chains"):
        queue.enqueue(queue_worker.mark.s("a").then(queue_worker.mark, "b"))
    assert stored(queue) == []


def test_a_pickled_message_is_not_read_and_stops_nobody(
    queue: Queue, worker: Callable[..., Worker], tmp_path: Path
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "owned"),)

    for message in (
        pickle.dumps(Evil()),
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"id":"1","name":"no.such","args":[]}',
    ):
        queue.storage.enqueue(message)
    queue_worker.mark("after")
    worker(threads=1).wait_for("after")
    assert not (tmp_path / "owned").exists()
    assert stored(queue) == []


def test_a_task_that_fails_is_tried_again(queue: Queue, worker: Callable[..., Worker]) -> None:
    queue_worker.fail_twice("late")
    assert worker().wait_for("late")["late"] == "3"


def test_a_task_can_wait_for_its_time(queue: Queue, worker: Callable[..., Worker]) -> None:
    running = worker()
    before = time.monotonic()
    queue_worker.mark.schedule(args=("later",), delay=1)
    assert float(running.wait_for("later")["later"]) - before > 0.9


def test_times_and_retries_come_back_as_they_were(queue: Queue) -> None:
    task = queue_worker.fail_twice.s("a", eta=None)
    assert "retries" not in json.loads(queue.serialize_task(task))
    task.retries, task.retry_delay = 0, 7
    again: Task = queue.deserialize_task(queue.serialize_task(task))
    assert (again.args, again.retries, again.retry_delay, again.id) == (("a",), 0, 7, task.id)


def test_a_queue_that_is_not_bound_says_so() -> None:
    unbound = Queue("unbound")
    task = unbound.task()(lambda: None)
    with pytest.raises(RuntimeError, match="not bound"):
        task()
    with pytest.raises(RuntimeError, match="not bound"):
        unbound.dequeue()


def test_binding_opens_nothing(tmp_path: Path) -> None:
    Queue("idle").bind("sqlite:///not-used", tmp_path / "not-there")
    Queue("idle").bind("postgresql+psycopg://nobody@127.0.0.1:1/none", tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- waking


def test_an_idle_worker_starts_a_task_at_once(queue: Queue, worker: Callable[..., Worker]) -> None:
    running = worker(threads=16, look_again=60)
    sent = {}
    for number in range(20):
        time.sleep(0.02)
        sent[f"m{number}"] = time.monotonic()
        queue_worker.mark(f"m{number}")
    said = running.wait_for(*sent)
    delays = [float(said[what]) - before for what, before in sent.items()]
    # A few milliseconds on an idle machine. Nothing but the ring can have woken it.
    assert statistics.median(delays) < 0.5


def test_an_idle_worker_costs_next_to_nothing(worker: Callable[..., Worker]) -> None:
    process = psutil.Process(worker(threads=16).process.pid)
    time.sleep(0.5)
    before = process.cpu_times()
    time.sleep(2)
    after = process.cpu_times()
    assert after.user + after.system - before.user - before.system <= 0.04


def test_a_message_wakes_one_thread_only(queue: Queue) -> None:
    looks: list[str] = []
    take = queue.storage._take
    queue.storage._take = lambda: looks.append(threading.current_thread().name) or take()
    running = consumer(queue, 16)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    try:
        eventually(lambda: bool(looks))
        time.sleep(0.2)
        looks.clear()
        queue_worker.mark("one")
        time.sleep(LOOK_AGAIN / 4)
        # One finds it, the next looks once for more; a look by the clock may come between.
        assert len(set(looks)) <= 2
        assert len(looks) <= 4
    finally:
        running.stop()
        thread.join(10)
    assert not thread.is_alive()


def test_a_lost_ring_delays_a_message_but_does_not_lose_it(
    queue: Queue, worker: Callable[..., Worker], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = worker()
    time.sleep(0.2)
    message = queue.serialize_task(queue_worker.mark.s("quiet"))
    if url.startswith("sqlite"):
        SqliteStorage.enqueue(queue.storage, message)
    else:
        queue.storage.sql(
            f"insert into {queue.storage.table_task} (queue, data) values (%s, %s)", (queue.name, message)
        )
    running.wait_for("quiet", seconds=LOOK_AGAIN + 3)


def test_two_workers_share_messages_even_when_one_has_no_thread_left(
    queue: Queue, worker: Callable[..., Worker]
) -> None:
    workers = [worker(threads=1, look_again=60), worker(threads=1, look_again=60)]
    queue_worker.hold("first", 60)
    queue_worker.hold("second", 60)
    eventually(lambda: {"first", "second"} <= {what for each in workers for what in each.said()})
    assert not any({"first", "second"} <= set(each.said()) for each in workers)


def test_each_message_is_taken_once(queue: Queue, worker: Callable[..., Worker]) -> None:
    workers = [worker(threads=4), worker(threads=4)]
    wanted = {f"m{number}" for number in range(200)}
    rings = [
        threading.Thread(target=lambda part: [queue_worker.mark(what) for what in part], args=(part,))
        for part in (sorted(wanted)[:100], sorted(wanted)[100:])
    ]
    for thread in rings:
        thread.start()
    for thread in rings:
        thread.join()
    eventually(lambda: wanted <= {what for each in workers for what in each.said()})
    lines = [line.split()[0] for each in workers for line in each.output.read_text().splitlines()]
    assert sorted(line for line in lines if line != "ready") == sorted(wanted)


# --- stops and crashes


def test_a_queue_that_was_stopped_can_be_worked_on_again(queue: Queue) -> None:
    looks: list[float] = []
    take = queue.storage._take
    queue.storage._take = lambda: looks.append(time.monotonic()) or take()
    for _ in range(2):
        looks.clear()
        running = consumer(queue, 2)
        thread = threading.Thread(target=running.run, daemon=True)
        thread.start()
        queue_worker.mark("one")
        eventually(lambda: stored(queue) == [])
        time.sleep(0.3)
        # One that still saw the stop would look again and again.
        assert 1 <= len(looks) <= 6
        running.stop()
        thread.join(10)
        assert not thread.is_alive()


def test_messages_outlive_every_process(queue: Queue, worker: Callable[..., Worker]) -> None:
    queue_worker.mark("early")
    queue.storage.close()
    worker().wait_for("early")


def test_a_killed_worker_loses_no_message_that_it_has_not_taken(
    queue: Queue, worker: Callable[..., Worker]
) -> None:
    victim = worker(threads=1)
    queue_worker.ignore("taken", 30)
    victim.wait_for("taken")
    for number in range(5):
        queue_worker.mark(f"m{number}")
    victim.process.kill()
    victim.process.wait()
    said = worker().wait_for(*(f"m{number}" for number in range(5)))
    assert "taken" not in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_an_idle_worker(worker: Callable[..., Worker], number: signal.Signals) -> None:
    running = worker(threads=16)
    time.sleep(0.3)
    running.process.send_signal(number)
    assert running.process.wait(10) == 0
    assert running.said()["stopped"] == "True"


def test_a_stop_wakes_who_listens(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorbell, "LOOK_AGAIN", 60.0)
    running = consumer(queue, 16, grace=10)
    returned: list[bool] = []
    thread = threading.Thread(target=lambda: returned.append(running.run()), daemon=True)
    thread.start()
    time.sleep(0.5)
    running.stop()
    thread.join(20)
    assert returned == [True]


def test_a_stop_tells_running_tasks_and_takes_no_new_one(queue: Queue, worker: Callable[..., Worker]) -> None:
    running = worker(threads=1)
    queue_worker.hold("busy", 30)
    running.wait_for("busy")
    queue_worker.mark("not-yet")
    assert running.stop() == 0
    said = running.said()
    assert "busy-told" in said
    assert "not-yet" not in said
    assert said["stopped"] == "True"
    worker().wait_for("not-yet")


def test_a_stop_leaves_behind_what_does_not_return(queue: Queue, worker: Callable[..., Worker]) -> None:
    running = worker(threads=2, grace=0.3)
    queue_worker.ignore("stubborn", 30)
    running.wait_for("stubborn")
    running.stop()
    assert running.said()["stopped"] == "False"


def test_a_second_signal_hurries_and_harms_nothing(queue: Queue, worker: Callable[..., Worker]) -> None:
    running = worker(threads=2, grace=60)
    queue_worker.ignore("stubborn", 60)
    running.wait_for("stubborn")
    running.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert running.process.poll() is None
    for _ in range(3):
        running.process.send_signal(signal.SIGTERM)
    running.process.wait(5)
    assert running.said()["stopped"] == "False"
    queue_worker.mark("after")
    worker().wait_for("after")


# --- SQLite


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[SqliteDoorbellStorage]:
    storage = SqliteDoorbellStorage("test", tmp_path)
    yield storage
    storage.close()


def test_a_message_is_durable_before_enqueue_returns(storage: SqliteDoorbellStorage, tmp_path: Path) -> None:
    storage.enqueue(b"a")
    assert storage.sql("pragma synchronous", results=True) == [(2,)]
    assert storage.sql("pragma journal_mode", results=True) == [("wal",)]
    other = sqlite3.connect(tmp_path / "huey.db")
    assert other.execute("select data from task").fetchall() == [(b"a",)]
    other.close()


def test_ringing_never_blocks(storage: SqliteDoorbellStorage) -> None:
    for _ in range(70_000):
        storage._ring()
    storage.enqueue(b"a")
    assert storage.dequeue() == b"a"


def test_many_rings_for_nothing_cost_one_look(storage: SqliteDoorbellStorage) -> None:
    for _ in range(5_000):
        storage._ring()
    assert storage._take() is None
    storage._listen()
    before = time.monotonic()
    storage._listen()
    assert time.monotonic() - before > 0.9 * LOOK_AGAIN


def test_whoever_takes_one_of_several_messages_rings_for_the_rest(storage: SqliteDoorbellStorage) -> None:
    for message in (b"a", b"b"):
        storage.enqueue(message)
    storage._listen()
    bell = Pipe()
    assert not bell.wait(0, storage._open_bell())
    storage._take()
    assert bell.wait(0, storage._open_bell())
    storage._listen()
    storage._take()
    assert not bell.wait(0, storage._open_bell())


def test_a_plain_file_in_place_of_the_fifo_is_replaced(
    storage: SqliteDoorbellStorage, tmp_path: Path
) -> None:
    (tmp_path / "huey.bell").write_text("restored from a copy")
    storage.enqueue(b"a")
    assert storage.dequeue() == b"a"


def test_a_locked_database_delays_but_does_not_end_the_wait(
    storage: SqliteDoorbellStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.enqueue(b"a")
    storage._timeout = 0
    storage.sql("pragma busy_timeout = 0")
    other = sqlite3.connect(tmp_path / "huey.db", check_same_thread=False, isolation_level=None)
    other.execute("begin exclusive")
    threading.Timer(0.3, lambda: other.execute("rollback")).start()
    assert storage.dequeue() == b"a"
    other.close()


# --- PostgreSQL


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_restarted_server_is_found_again(
    queue: Queue, worker: Callable[..., Worker], url: str, postgresql_server: str
) -> None:
    running = worker(threads=16)
    queue_worker.mark("before")
    running.wait_for("before")
    with psycopg.connect(f"{postgresql_server}/postgres", autocommit=True) as connection:
        ended = connection.execute(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = %s",
            (url.rpartition("/")[2],),
        ).fetchone()
    # The worker listens on one connection for all of its threads, and works on another; this process has one.
    assert ended == (3,)
    queue_worker.mark("after")
    running.wait_for("after")
    assert running.stop() == 0
