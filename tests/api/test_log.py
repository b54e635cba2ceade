"""`GET /runs/ID/log`: raw bytes from an offset, waiting for more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from skstack.accounts import tokens
from skstack.db import db, utcnow
from skstack.runs import raw_log, services
from skstack.runs.following import tails
from skstack.runs.models import Run
from skstack.tickets.models import Ticket
from tests.api.conftest import Caller
from tests.factories import alice
from tests.fake_runner import begin, end, finish_by_worker, leave, result, run_of, write
from tests.orders import make_ticket


@pytest.fixture
def queued(app: Flask) -> Run:
    with app.app_context():
        return run_of(make_ticket(alice()))


@pytest.fixture
def running(app: Flask, queued: Run) -> Run:
    with app.app_context():
        run = begin(queued)
        write(run, b"one\n")
        return run


def write_later(app: Flask, seconds: float, run: Run, output: bytes) -> threading.Timer:
    def do() -> None:
        with app.app_context():
            write(run, output)

    return _later(seconds, do)


def _later(seconds: float, do: Callable[..., None], *args: object) -> threading.Timer:
    timer = threading.Timer(seconds, do, args)
    timer.start()
    return timer


def seen(response: TestResponse) -> tuple[bytes, str, str, str]:
    headers = response.headers
    assert response.status_code == 200
    return response.data, headers["X-Log-Next-Offset"], headers["X-Run-State"], headers["X-Run-Final"]


@pytest.mark.both_databases
def test_the_log_is_answered_from_an_offset(app: Flask, call: Callable[..., Caller], running: Run) -> None:
    path = f"/runs/{running.id}/log"
    assert seen(call(alice).get(path)) == (b"one\n", "4", "running", "0")
    assert seen(call(alice).get(f"{path}?offset=2")) == (b"e\n", "4", "running", "0")
    assert seen(call(alice).get(f"{path}?offset=4")) == (b"", "4", "running", "0")
    with app.app_context():
        end(running)
    assert seen(call(alice).get(f"{path}?offset=2")) == (b"e\n", "4", "succeeded", "1")
    assert seen(call(alice).get(f"{path}?offset=4&wait=20")) == (b"", "4", "succeeded", "1")


def test_the_bytes_are_those_that_were_printed(app: Flask, call: Callable[..., Caller], running: Run) -> None:
    hostile = bytes(range(256)) * 3 + "中".encode()[:2] + b"\r\x1b[31m<script>"
    with app.app_context():
        write(running, hostile)
    response = call(alice).get(f"/runs/{running.id}/log?offset=4", headers={"Accept-Encoding": "gzip"})
    assert response.data == hostile
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_one_answer_has_a_mebibyte_at_most(app: Flask, call: Callable[..., Caller], running: Run) -> None:
    with app.app_context():
        write(running, b"x" * (3 << 20))
        end(running)
    offset, sizes, final = 0, [], "0"
    while final == "0":
        content, following, _, final = seen(call(alice).get(f"/runs/{running.id}/log?offset={offset}&wait=5"))
        sizes.append(len(content))
        offset = int(following)
    assert sizes == [1 << 20, 1 << 20, 1 << 20, 4]


def test_an_offset_behind_the_end_is_waited_at(app: Flask, call: Callable[..., Caller], running: Run) -> None:
    path = f"/runs/{running.id}/log?offset=100"
    assert seen(call(alice).get(path)) == (b"", "100", "running", "0")
    with app.app_context():
        end(running)
    assert seen(call(alice).get(path)) == (b"", "100", "succeeded", "1")
    assert seen(call(alice).get(f"/runs/{running.id}/log?offset={2**63 - 1}"))[0] == b""


@pytest.mark.both_databases
def test_senseless_offsets_and_waits_are_refused(call: Callable[..., Caller], running: Run) -> None:
    for query, field in (
        ("offset=-1", "offset"),
        ("offset=x", "offset"),
        (f"offset={2**63}", "offset"),
        ("offset=" + "9" * 5000, "offset"),
        ("wait=-1", "wait"),
        ("wait=nan", "wait"),
        ("wait=inf", "wait"),
        ("ofset=1", "ofset"),
    ):
        response = call(alice).get(f"/runs/{running.id}/log?{query}")
        assert response.status_code == 422, query
        assert list(response.json["errors"]) == [field]


def test_more_output_is_answered_at_once(app: Flask, call: Callable[..., Caller], running: Run) -> None:
    caller = call(alice)
    timer = write_later(app, 0.3, running, b"two\n")
    started = time.monotonic()
    assert seen(caller.get(f"/runs/{running.id}/log?offset=4&wait=20")) == (b"two\n", "8", "running", "0")
    assert 0.2 < time.monotonic() - started < 3
    timer.join()


def test_nothing_more_is_answered_after_the_wait(call: Callable[..., Caller], running: Run) -> None:
    started = time.monotonic()
    assert seen(call(alice).get(f"/runs/{running.id}/log?offset=4&wait=0.5")) == (b"", "4", "running", "0")
    assert 0.45 < time.monotonic() - started < 3


def test_a_longer_wait_than_allowed_is_cut(
    call: Callable[..., Caller], running: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skstack.runs.raw_log.LONGEST_WAIT", 0.2)
    started = time.monotonic()
    seen(call(alice).get(f"/runs/{running.id}/log?offset=4&wait=1000"))
    assert time.monotonic() - started < 5


@pytest.mark.both_databases
def test_a_queued_run_is_waited_for_though_nothing_of_it_is_there(
    app: Flask, call: Callable[..., Caller], queued: Run
) -> None:
    caller = call(alice)
    assert seen(caller.get(f"/runs/{queued.id}/log")) == (b"", "0", "queued", "0")

    def work() -> None:
        with app.app_context():
            write(begin(queued), b"first\n")

    timer = _later(0.3, work)
    assert seen(caller.get(f"/runs/{queued.id}/log?wait=20")) == (b"first\n", "6", "running", "0")
    timer.join()


@pytest.mark.both_databases
def test_a_run_stopped_in_the_queue_ends_the_wait(
    app: Flask, call: Callable[..., Caller], queued: Run
) -> None:
    caller = call(alice)

    def stop() -> None:
        with app.app_context():
            services.stop(db.session.get_one(Ticket, queued.ticket_id), actor=alice())

    timer = _later(0.2, stop)
    started = time.monotonic()
    assert seen(caller.get(f"/runs/{queued.id}/log?wait=20")) == (b"", "0", "stopped", "1")
    assert time.monotonic() - started < 5
    timer.join()


@pytest.mark.both_databases
def test_the_end_is_told_when_the_database_knows_of_it_and_not_before(
    app: Flask, call: Callable[..., Caller], running: Run
) -> None:
    caller, path = call(alice), f"/runs/{running.id}/log?offset=4"
    with app.app_context():
        leave(running, result(0))
    assert seen(caller.get(f"{path}&wait=0.2")) == (b"", "4", "running", "0")
    timer = _later(0.3, finish_by_worker, app, running.id, running.fence, result(0))
    started = time.monotonic()
    assert seen(caller.get(f"{path}&wait=20")) == (b"", "4", "succeeded", "1")
    assert time.monotonic() - started < 3
    timer.join()


def test_what_is_left_of_the_output_does_not_wait_long_for_the_end(
    app: Flask, call: Callable[..., Caller], running: Run
) -> None:
    with app.app_context():
        leave(running, result(0))
    started = time.monotonic()
    assert seen(call(alice).get(f"/runs/{running.id}/log?wait=20")) == (b"one\n", "4", "running", "0")
    assert time.monotonic() - started < 2


def test_a_hundred_wait_and_hold_no_connection(app: Flask, call: Callable[..., Caller], running: Run) -> None:
    caller = call(alice)
    caller.get("/tickets")
    path = f"/runs/{running.id}/log?offset=4&wait=20"
    with ThreadPoolExecutor(100) as pool:
        answers = [pool.submit(caller.get, path) for _ in range(100)]
        with app.app_context():
            deadline = time.monotonic() + 15
            while tails().waiting < 100 and time.monotonic() < deadline:
                time.sleep(0.02)
            assert tails().waiting == 100
            assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
            write(running, b"two\n")
        assert {seen(answer.result(20)) for answer in answers} == {(b"two\n", "8", "running", "0")}


def test_who_is_one_too_many_is_answered_at_once(
    app: Flask, call: Callable[..., Caller], running: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with app.app_context():
        monkeypatch.setattr(tails(), "limit", 0)
    started = time.monotonic()
    response = call(alice).get(f"/runs/{running.id}/log?offset=4&wait=20")
    assert seen(response) == (b"", "4", "running", "0")
    assert response.headers["Retry-After"] == "1"
    assert time.monotonic() - started < 5


def test_many_who_wait_for_one_run_share_a_look_at_the_database(
    app: Flask, running: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with app.app_context():
        states = raw_log.states_of(db.engine, running.id)
        looked = []
        connect = type(db.engine).connect
        monkeypatch.setattr(type(db.engine), "connect", lambda self: looked.append(1) or connect(self))
        with ThreadPoolExecutor(20) as pool:
            assert set(pool.map(lambda _: states.look(5), range(20))) == {"running"}
    assert len(looked) == 1


def test_who_may_not_see_it_any_more_when_there_is_more_gets_nothing_of_it(
    app: Flask, call: Callable[..., Caller], running: Run
) -> None:
    caller = call(alice)

    def revoke() -> None:
        with app.app_context():
            tokens.revoke_all(alice(), actor=None, now=utcnow())

    _later(0.5, revoke)
    write_later(app, 1.0, running, b"two\n")
    answer = caller.get(f"/runs/{running.id}/log?offset=4&wait=10")
    assert answer.status_code == 401
    assert b"two" not in answer.data
