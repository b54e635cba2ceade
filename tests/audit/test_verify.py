"""`audit verify`, what is noted elsewhere, and many who write at once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskCliRunner

from skstack import config
from skstack.audit import checks, heads, verifying
from skstack.audit.models import AuditEvent
from skstack.audit.services import Action, record
from skstack.config import Settings
from skstack.crypto import KeysUnusable
from skstack.db import transaction, utcnow
from skstack.extensions import db
from tests.audit.conftest import fault, holds, tamper
from tests.factories import root


def note(count: int = 1) -> None:
    for _ in range(count):
        with transaction():
            record(Action.CHANGED, actor=None, object_type="thing", object_id=1, object_name="x")


def test_verify_says_in_one_line_that_it_holds(app: Flask, command: FlaskCliRunner) -> None:
    with app.app_context():
        note(3)
    done = command.invoke(args=["audit", "verify"])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("The audit trail holds: 3 events, 0 tickets, 0 runs, 0 outputs (0 B), in ")
    assert done.output.count("\n") == 1


def test_verify_fails_with_the_first_fault(app: Flask, command: FlaskCliRunner) -> None:
    with app.app_context():
        note(5)
        tamper("UPDATE audit_events SET actor = 'x' WHERE id in (2, 4)")
    done = command.invoke(args=["audit", "verify"])
    assert done.exit_code == 1
    assert done.stderr == (
        "skstack: the audit trail does not hold. Event 2 was changed: its hash is not that of what it says.\n"
    )
    with app.app_context():
        kept = checks.latest()
        assert kept is not None
        assert "Event 2 was changed" in str(kept.problem_message)


def test_verify_can_begin_later(app: Flask, command: FlaskCliRunner) -> None:
    with app.app_context():
        note(3)
        now = utcnow()
        note(2)
        tamper("UPDATE audit_events SET actor = 'x' WHERE id = 2")
    for option in (["--from", "4"], ["--since", f"{now:%Y-%m-%d %H:%M:%S}"]):
        done = command.invoke(args=["audit", "verify", *option])
        first = 4 if option[0] == "--from" else None
        # A whole second may hold all five.
        assert done.exit_code == 0 or first is None, done.output
    assert command.invoke(args=["audit", "verify", "--from", "1", "--since", "2026-01-01"]).exit_code == 2
    assert command.invoke(args=["audit", "verify", "--since", "2999-01-01"]).exit_code == 1


def test_the_end_is_written_to_a_file_and_held_against_it(
    app: Flask, settings: Settings, command: FlaskCliRunner
) -> None:
    file = heads.file_of(settings)
    with app.app_context():
        heads.sweep()
        assert not file.exists()
        note(5)
        heads.sweep()
        last = db.session.scalars(sa.select(AuditEvent).order_by(AuditEvent.id.desc())).first()
        assert last is not None
        assert file.read_text().endswith(f"skstack audit head 5 {last.hash.hex()}\n")
        tamper("DELETE FROM audit_events WHERE id > 3")
        tamper("UPDATE audit_head SET sequence = 3, hash = (SELECT hash FROM audit_events WHERE id = 3)")
    done = command.invoke(args=["audit", "verify"])
    assert done.exit_code == 1
    assert "tells of event 5, which is missing" in done.stderr
    with app.app_context():
        note(3)
        before = file.read_text()
        heads.sweep()  # Must not cover it up.
        assert file.read_text() == before


def test_verify_takes_a_log_that_was_kept_elsewhere(
    app: Flask, settings: Settings, command: FlaskCliRunner, tmp_path: Path
) -> None:
    log = tmp_path / "auth.log"
    with app.app_context():
        for _ in range(3):
            note()
            heads.sweep()
            with log.open("a") as kept:
                kept.write(f"Nov 26 08:00:00 host skstack: {heads.file_of(settings).read_text()}")
        heads.file_of(settings).unlink()
    assert command.invoke(args=["audit", "verify", "--head", str(log)]).exit_code == 0
    log.write_text(log.read_text().replace("head 2 ", "head 1 "))
    done = command.invoke(args=["audit", "verify", "--head", str(log)])
    assert done.exit_code == 1
    assert "Event 1 is not the one that" in done.stderr
    log.write_text("nothing\n")
    assert "tells of no event" in command.invoke(args=["audit", "verify", "--head", str(log)]).stderr


def test_the_end_is_sent_to_syslog(app: Flask, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, app.app_context():
        server.bind(("127.0.0.1", 0))
        server.settimeout(30)
        monkeypatch.setattr(heads, "_next_message", 0.0)
        heads._send(f"127.0.0.1:{server.getsockname()[1]}", heads._line(7, bytes(32)))
        assert server.recv(1000) == b"<86>skstack: skstack audit head 7 " + b"0" * 64


def test_a_syslog_that_is_no_address_is_refused() -> None:
    with pytest.raises(config.ConfigError, match="SKSTACK_AUDIT_SYSLOG"):
        config.load({"SKSTACK_AUDIT_SYSLOG": "loghost"})


def test_another_type_with_the_same_look_is_found(context: Flask) -> None:
    note(3)
    tamper("UPDATE audit_events SET object_name = CAST(object_name AS BLOB) WHERE id = 2")
    assert "Event 2 was changed" in fault()


def test_a_check_goes_on_piece_by_piece(context: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[int] = []
    monkeypatch.setattr(checks.queue, "ring", lambda name, number: rung.append(number))
    monkeypatch.setattr(checks, "PIECE", 0.0)
    monkeypatch.setattr(verifying, "BATCH", 2)
    note(5)
    check = checks.begin(actor=root())
    assert checks.begin(actor=root()).id == check.id
    pieces = 0
    while not check.is_over:
        checks.verify_on(check.id)
        db.session.refresh(check)
        pieces += 1
    assert pieces > 4
    assert check.problem is None
    assert check.progress["verified"] == 6  # With the event of its own beginning.
    assert rung == [check.id] * (pieces + 1)  # Twice asked for, then once after each piece but the last.


WRITER = """
import sys
from pathlib import Path
from skstack import create_app
from skstack.audit.services import Action, record
from skstack.config import Settings
from skstack.crypto import KeysUnusable
from skstack.db import transaction
import threading
app = create_app(Settings(instance=Path(sys.argv[1]), database_url=sys.argv[2]))
def write(number):
    with app.app_context():
        for count in range(10):
            with transaction():
                for _ in range(count % 3 + 1):
                    record(Action.CHANGED, actor=None, object_type="thing", object_id=number)
threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


def test_many_processes_write_one_chain(any_app: Flask, settings: Settings, tmp_path: Path) -> None:
    program = tmp_path / "writer.py"
    program.write_text(WRITER)
    command = [sys.executable, str(program), str(settings.instance), settings.database_url]
    environment = {**os.environ, "PYTHONPATH": str(config.ROOT)}
    writers = [subprocess.Popen(command, env=environment) for _ in range(3)]
    assert [writer.wait(300) for writer in writers] == [0, 0, 0]
    with any_app.app_context():
        assert holds().verified == 3 * 3 * (4 * 1 + 3 * 2 + 3 * 3)


def test_verifying_while_others_write_finds_no_fault(any_app: Flask) -> None:
    stop = threading.Event()

    def write() -> None:
        with any_app.app_context():
            while not stop.is_set():
                note()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with any_app.app_context():
            for _ in range(10):
                assert fault() == ""
    finally:
        stop.set()
        writer.join()


def test_a_host_with_a_key_of_its_own_does_not_start(any_app: Flask) -> None:
    with any_app.app_context():
        verifying.check_keys()
        note(3)
        verifying.check_keys()
        tamper("UPDATE audit_events SET actor = 'x' WHERE id = 3")
        verifying.check_keys()  # One that was changed must not keep skstack from starting.
        any_app.extensions["skstack.audit"] = (b"o" * 32,)
        with pytest.raises(KeysUnusable, match="copy it from the host"):
            verifying.check_keys()
