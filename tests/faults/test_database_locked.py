"""Faults 3 and 5: the database is locked for long, or the web is killed in the middle: all or nothing, and said so."""

from __future__ import annotations

import contextlib
import http.client
import sqlite3
import threading
import time
from collections.abc import Iterator

import pytest

from tests.server import Server

TIMEOUT = 1.0
CATALOG = """
environments: [{name: DEV}]
groups: [{name: leads}]
roles: [{name: all, pages: [submit, approve, execute]}]
users: [{username: bob, groups: [leads], roles: [all]}]
approval_flows: [{name: one, levels: [leads]}]
work_orders:
  - {name: plain, environment: DEV, active: true, main_task: "echo done"}
  - {name: checked, environment: DEV, active: true, main_task: "echo done", approval_flow: one}
  - {name: slow, environment: DEV, active: true, main_task: "sleep 1; echo done"}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("locked")
    server = Server(folder, database_timeout=TIMEOUT, sweep=0.3, lease=2.0).prepare()
    server.catalog(CATALOG)
    server.start("web", "worker")
    # One that is just beginning cannot work in a locked database, and ends: that is another story.
    deadline = time.monotonic() + 60
    while not count(server, "workers"):
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.05)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def bob(server: Server) -> str:
    """Give the token of somebody who approves."""
    return server.command("token", "create", "bob").strip()


@contextlib.contextmanager
def locked(server: Server) -> Iterator[None]:
    """Hold SQLite's write lock, as a manual session would."""
    connection = sqlite3.connect(server.instance / "skstack.db", isolation_level=None, timeout=10)
    connection.execute("begin immediate")
    try:
        yield
    finally:
        connection.execute("rollback")
        connection.close()


def count(server: Server, table: str) -> int:
    with contextlib.closing(sqlite3.connect(server.instance / "skstack.db", timeout=10)) as connection:
        return int(connection.execute(f"select count(*) from {table}").fetchone()[0])


def test_a_locked_database_is_a_clear_503_and_leaves_nothing_half_done(server: Server, bob: str) -> None:
    number = server.workorder("plain")
    waiting = server.submit("checked")["id"]
    calls = [
        ("POST", f"/api/v1/workorders/{number}/tickets", {"values": {}}, server.token),
        ("POST", f"/api/v1/tickets/{waiting}/approve", {}, bob),
        ("POST", f"/api/v1/tickets/{waiting}/revoke", {}, server.token),
    ]
    tables = ("tickets", "ticket_changes", "runs", "decisions", "notifications")
    before = {table: count(server, table) for table in tables}
    with locked(server):
        for method, path, body, token in calls:
            began = time.monotonic()
            answer = server.call(method, path, body, headers={"Authorization": f"Bearer {token}"})
            assert (answer.status, answer.headers["Content-Type"]) == (503, "application/problem+json")
            assert answer.headers["Retry-After"]
            assert "Try again" in answer.json["detail"]
            assert time.monotonic() - began < 4 * TIMEOUT
        assert server.call("GET", f"/api/v1/tickets/{waiting}").status == 200, "reading goes on"
    assert {table: count(server, table) for table in tables} == before
    for method, path, body, token in calls[:2]:
        answer = server.call(method, path, body, headers={"Authorization": f"Bearer {token}"})
        assert answer.status in (200, 201)


def test_a_short_lock_is_waited_for(server: Server) -> None:
    answers = []
    with locked(server):
        asking = threading.Thread(target=lambda: answers.append(server.submit("plain")))
        asking.start()
        time.sleep(TIMEOUT / 2)
    asking.join()
    assert server.wait_for(answers[0]["id"])["status"] == "succeeded"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_run_whose_end_meets_a_lock_of_thirty_seconds_is_recorded_when_it_is_over(server: Server) -> None:
    ticket = server.submit("slow")
    server.wait_for(ticket["id"], lambda one: one["runs"][0]["state"] == "running")
    with locked(server):
        time.sleep(30)
    after = server.wait_for(ticket["id"], within=20)
    assert (after["status"], after["runs"][0]["exit_code"]) == ("succeeded", 0)
    assert len(after["runs"]) == 1


@pytest.mark.parametrize("act", ["submit", "approve"])
def test_a_web_killed_in_the_middle_does_all_or_nothing(server: Server, bob: str, act: str) -> None:
    number = server.workorder("plain")
    done = []
    for delay in (0.0, 0.006, 0.02):
        waiting = server.submit("checked")["id"]
        before = count(server, "tickets")
        path, token, body = {
            "submit": (f"/api/v1/workorders/{number}/tickets", server.token, {"values": {}}),
            "approve": (f"/api/v1/tickets/{waiting}/approve", bob, {}),
        }[act]

        def ask(path: str = path, token: str = token, body: object = body) -> None:
            # Killed while it answers, it answers by half.
            with contextlib.suppress(OSError, http.client.HTTPException):
                server.call("POST", path, body, headers={"Authorization": f"Bearer {token}"})

        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(delay)
        server.kill("web")
        asking.join()
        server.start("web")
        ticket = server.ticket(waiting)
        if act == "approve":
            happened = ticket["status"] == "l1_approved"
            assert len(ticket["decisions"]) == int(happened)
            assert ticket["status"] in ("submitted", "l1_approved")
        else:
            happened = count(server, "tickets") > before
            if happened:
                after = server.wait_for(before + 1)
                assert (after["status"], len(after["runs"])) == ("succeeded", 1)
        done.append(happened)
    assert count(server, "tickets") == count(server, "audit_events where action = 'ticket.submitted'")
