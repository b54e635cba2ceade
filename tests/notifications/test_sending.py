"""Messages really arrive, at a web hook and at a mail server; they are tried again while those are down, and say no secret."""

from __future__ import annotations

import datetime as dt
import json
import logging
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from skstack.accounts.models import User
from skstack.audit.models import AuditEvent
from skstack.db import transaction, utcnow
from skstack.errors import Invalid
from skstack.extensions import db, queue
from skstack.notifications import sending, services
from skstack.notifications.models import Delivery, DeliveryState, Target
from tests.factories import alice, bob
from tests.orders import make_flow, make_ticket, make_workorder
from tests.server import Server, _free_port

SECRET = "t0ken-that-nobody-may-read"


class Hook:
    """A web hook on loopback: what it got, and what it answers."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status = 200
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.got.append(json.loads(body))
                self.send_response(hook.status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"json://user:{SECRET}@127.0.0.1:{self.port}/hook"


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


class _Mail(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"220 test\r\n")
        while line := self.rfile.readline().strip():
            verb = line.split(b" ")[0].upper().split(b":")[0]
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                letter = b""
                while (part := self.rfile.readline()) != b".\r\n":
                    letter += part
                self.server.letters.append(letter)  # type: ignore[attr-defined]
            if verb == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(b"250 ok\r\n")


@pytest.fixture
def mail() -> Iterator[socketserver.TCPServer]:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Mail)
    server.daemon_threads = True
    server.letters = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def save(url: str, owner: User | None = None, **columns: Any) -> Target:
    owner = owner or bob()
    given = {"name": "hook", "events": ["waits", "decided"], "active": True, **columns}
    return services.save_target(None, actor=owner, owner=owner, url=url, **given)


def waiting() -> None:
    make_ticket(alice(), make_workorder(name="site", approval_flow=make_flow("leads")))


def only() -> Delivery:
    db.session.expire_all()
    return db.session.scalars(sa.select(Delivery)).one()


@pytest.mark.both_databases
def test_a_message_arrives_in_the_readers_language_with_a_link(context: Flask, hook: Hook) -> None:
    with transaction():
        bob().language = "zh_CN"
    save(hook.url)
    waiting()
    services.deliver(only().id)
    [got] = hook.got
    assert "等待" in got["message"] + got["title"]
    assert "site #1" in got["message"]
    assert got["message"].endswith("http://127.0.0.1:8000/tickets/1")
    assert (only().state, only().error) == (DeliveryState.SENT, "")
    services.deliver(only().id)
    assert len(hook.got) == 1, "once sent it is not sent again"


def test_mail_arrives(context: Flask, mail: socketserver.TCPServer) -> None:
    port = mail.server_address[1]
    error = sending.send(
        f"mailto://127.0.0.1:{port}?from=skstack@example.org&to=bob@example.org&mode=insecure",
        title="a title",
        body="a body",
    )
    assert error == ""
    assert b"a body" in mail.letters[0]  # type: ignore[attr-defined]


@pytest.mark.both_databases
def test_a_target_that_is_down_is_tried_again_and_again_and_then_given_up(
    context: Flask, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    hook.status = 500
    save(hook.url)
    waiting()
    for attempt, wait in enumerate(services.BACKOFF, start=1):
        services.deliver(only().id)
        assert (only().state, only().attempts, len(hook.got)) == (DeliveryState.QUEUED, attempt, attempt)
        assert only().next_at > utcnow() + dt.timedelta(seconds=wait - 10)
        services.deliver(only().id)
        assert len(hook.got) == attempt, "not before its time"
        with transaction():
            only().next_at = utcnow()
    services.deliver(only().id)
    assert only().state == DeliveryState.FAILED
    assert only().error
    assert SECRET not in only().error + caplog.text


@pytest.mark.both_databases
def test_what_a_killed_worker_claimed_is_sent_by_the_next(
    context: Flask, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[int] = []
    save(hook.url)
    waiting()
    monkeypatch.setattr(queue, "ring", lambda name, number, **_: rung.append(number))
    with transaction():
        only().state = DeliveryState.SENDING
        only().next_at = utcnow() + dt.timedelta(minutes=1)
    services.sweep()
    assert rung == []
    with transaction():
        only().next_at = utcnow() - dt.timedelta(seconds=1)
    services.sweep()
    assert rung == [only().id]
    services.deliver(only().id)
    assert len(hook.got) == 1


def test_of_many_that_deliver_at_once_one_sends(context: Flask, hook: Hook) -> None:
    save(hook.url)
    waiting()
    number, gate = only().id, threading.Barrier(8)
    db.session.commit()

    def deliver() -> None:
        with context.app_context():
            gate.wait(20)
            services.deliver(number)

    threads = [threading.Thread(target=deliver) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(hook.got) == 1


@pytest.mark.parametrize(
    "url",
    [
        "syslog://",
        "dbus://",
        "gnome://",
        "windows://",
        "file:///etc/passwd",
        "config://x",
        "bar",
        "json://",
        "",
        "json://a b",
        "dingtalk://",
        "json://h/\x00",
        "json://" + "x" * 3000,
    ],
)
def test_what_is_no_service_is_refused_at_its_field(context: Flask, url: str) -> None:
    with pytest.raises(Invalid) as caught:
        save(url)
    assert list(caught.value.errors) == ["url"]
    assert db.session.scalars(sa.select(Target)).all() == []


@pytest.mark.parametrize(
    "url",
    [
        "workflows://host/workflow/sig?template={file}",
        "workflows://host/workflow/sig?Template={file}",
        "workflows://host/workflow/sig?%74emplate={file}",
        "workflows://host/workflow/sig?to=x&template={file}",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ?template={file}",
        "mailtos://bob:word@example.org?pgp=yes&pgppub={file}",
        "json://127.0.0.1/?rto=100000",
        "json://127.0.0.1/?cto=100000",
        "json://127.0.0.1/?+X-Header=1",
        "json://127.0.0.1/?:message=1",
        "ntfy://topic?attach=file://{file}",
    ],
)
def test_options_that_read_files_or_take_time_are_refused(context: Flask, tmp_path: Path, url: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("word")
    url = url.format(file=secret)
    with pytest.raises(Invalid) as caught:
        save(url)
    assert "is not taken" in str(caught.value.errors["url"])
    # A row from before this rule, or from elsewhere, is not sent either.
    assert sending.send(url, title="title", body="body") == "the address is not one that can be sent to"


@pytest.mark.parametrize(
    "url", ["dingtalk://abcdef0123456789abcdef0123456789", "feishu://a1b2c3d4", "jsons://host/x"]
)
def test_services_are_taken(context: Flask, url: str) -> None:
    assert save(url).scheme == url.partition(":")[0]


def test_an_empty_address_keeps_the_one_that_is_stored(context: Flask, hook: Hook) -> None:
    target = save(hook.url)
    services.save_target(
        target, actor=bob(), owner=bob(), name="other", url="", events=["ended"], active=False
    )
    db.session.expire_all()
    assert (target.url, target.name, target.events, target.active) == (hook.url, "other", ["ended"], False)


def test_the_address_stands_nowhere_in_the_open(
    context: Flask, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    target = save(hook.url)
    hook.status = 500
    waiting()
    services.deliver(only().id)
    assert SECRET not in services.try_target(target) + caplog.text
    raw = db.session.execute(sa.text("SELECT url FROM notification_targets")).scalar_one()
    assert SECRET.encode() not in bytes(raw)
    for event in db.session.scalars(sa.select(AuditEvent)):
        assert SECRET not in str(event.changes)


@pytest.mark.parametrize(
    ("text", "url", "expected"),
    [
        (
            "POST to https://oapi/robot?token=abcdef failed",
            "dingtalk://abcdef",
            "POST to https://oapi/robot?token=*** failed",
        ),
        (
            "bob with pa55word at mail.example.org",
            "mailtos://bob:pa55word@mail.example.org",
            "*** with *** at mail.example.org",
        ),
        ("p%40ss%20word or p@ss word", "json://bob:p%40ss%20word@host", "*** or ***"),
    ],
)
def test_what_a_service_says_is_masked(text: str, url: str, expected: str) -> None:
    assert sending.without_secrets(text, url) == expected


@pytest.mark.slow
@pytest.mark.faults
def test_a_real_worker_sends_and_a_ticket_does_not_wait_for_it(
    make_server: Callable[..., Server], hook: Hook
) -> None:
    server = make_server()
    server.catalog(
        "environments: [{name: DEV}]\ngroups: [{name: ops}]\n"
        "work_orders: [{name: fails, environment: DEV, submit_groups: [ops], active: true, main_task: 'exit 3'}]\n"
    )
    from skstack import create_app
    from skstack.config import Settings
    from tests.databases import _close

    app = create_app(Settings(instance=server.instance))
    with app.app_context():
        admin = db.session.scalars(sa.select(User)).one()
        save(hook.url, admin, events=["ended"])
        save(f"json://127.0.0.1:{_free_port()}/", admin, name="down", events=["ended"])
    _close(app)
    server.start()
    ticket = server.wait_for(server.submit("fails")["id"])
    assert ticket["status"] == "failed"
    for _ in range(200):
        if hook.got:
            break
        threading.Event().wait(0.05)
    assert "fails #1 in DEV failed." in hook.got[0]["message"]
