"""The encryption key is changed while everybody works, and whatever happens meanwhile: fault 22."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from flask import Flask
from flask.testing import FlaskCliRunner

from skstack import create_app, crypto, rotating
from skstack.audit import verifying
from skstack.catalog.models import ConfigCenter
from skstack.db import Encrypted, transaction, utcnow
from skstack.errors import Unavailable
from skstack.extensions import db
from skstack.tickets.models import Ticket
from tests.databases import _close
from tests.factories import alice, root, sign_in
from tests.orders import make_config_center, make_ticket, make_variable, make_variable_group, make_workorder
from tests.server import Server

PASSWORD = "hunter2-of-the-host"
ROWS = 2 * rotating.BATCH + 3


class Killed(BaseException):
    """The process was killed here."""


def die(*_: Any, **__: Any) -> None:
    raise Killed


def keys_of(app: Flask) -> list[bytes]:
    return crypto.read_encryption_keys(app.config["SKSTACK"].instance / "keys" / crypto.ENCRYPTION_KEYS)


def stored() -> list[bytes]:
    """Return everything that is stored encrypted, as it is stored."""
    found: list[bytes] = []
    for table in db.metadata.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, Encrypted):
                raw = sa.type_coerce(column, sa.LargeBinary)
                found += [bytes(value) for value in db.session.scalars(sa.select(raw)) if value is not None]
    return found


def all_newest(app: Flask) -> bool:
    only = crypto.Cipher(app.config["SKSTACK"].instance / "keys" / crypto.ENCRYPTION_KEYS)
    return all(only.is_newest(value) for value in stored())


def passwords() -> set[str | None]:
    db.session.expire_all()
    return set(db.session.scalars(sa.select(ConfigCenter.password)))


@pytest.fixture
def filled(context: Flask) -> Flask:
    """Give an instance with more secrets than fit into one batch."""
    make_config_center("far", password=PASSWORD)
    raw = db.session.execute(sa.select(ConfigCenter.__table__)).mappings().one()
    values = {**raw, "passphrase": None}
    with transaction():
        for number in range(1, ROWS):
            db.session.execute(
                sa.insert(ConfigCenter).values({**values, "id": number + 1, "name": f"far{number}"})
            )
    pin = make_variable("Pin", secret=True, widget="text")
    order = make_workorder(variable_group=make_variable_group("pins", [pin]), main_task="true")
    make_ticket(alice(), order, values={"Pin": "4711-0815"})
    assert len(stored()) == ROWS + 1
    return context


@pytest.mark.both_databases
def test_everything_is_encrypted_with_the_new_key_and_read_as_before(filled: Flask) -> None:
    old = keys_of(filled)
    assert rotating.rotate(filled.config["SKSTACK"]) == ROWS + 1
    assert keys_of(filled)[1:] == old
    assert all_newest(filled)
    assert rotating.retire(filled.config["SKSTACK"]) == 1
    assert len(keys_of(filled)) == 1
    assert not set(old) & set(keys_of(filled))
    assert all_newest(filled)
    assert passwords() == {PASSWORD}
    assert db.session.query(Ticket).one().secrets["values"]["Pin"] == "4711-0815"  # type: ignore[index]
    progress = verifying.begin()
    while progress.phase != verifying.DONE:
        progress = verifying.go_on(progress, [], enough=lambda: True)


def test_without_the_old_key_what_was_stored_before_cannot_be_read(filled: Flask) -> None:
    """What the others show would be nothing if the key did not matter."""
    crypto.write_encryption_keys(filled.config["SKSTACK"].instance, [b"A" * 43 + b"="])
    other = create_app(filled.config["SKSTACK"])
    with other.app_context(), pytest.raises(Unavailable, match="no key in"):
        passwords()
    _close(other)


@pytest.mark.parametrize("batch", [0, 1, 2])
def test_killed_between_batches_everything_can_be_read_and_the_next_time_finishes_it(
    filled: Flask, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    renew, done = rotating._renew, []

    def renew_some(*arguments: Any) -> int:
        if len(done) == batch:
            raise Killed
        done.append(renew(*arguments))
        return done[-1]

    with monkeypatch.context() as patch:
        patch.setattr(rotating, "_renew", renew_some)
        with pytest.raises(Killed):
            rotating.rotate(filled.config["SKSTACK"])
    db.session.rollback()
    assert len(keys_of(filled)) == 2
    assert not all_newest(filled)
    assert passwords() == {PASSWORD}
    assert rotating.retire(filled.config["SKSTACK"]) == 1
    assert passwords() == {PASSWORD}


def test_killed_while_the_file_is_written_the_old_one_is_there(
    filled: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = keys_of(filled)
    with monkeypatch.context() as patch:
        patch.setattr(crypto.os, "replace", die)
        with pytest.raises(Killed):
            rotating.rotate(filled.config["SKSTACK"])
    assert keys_of(filled) == old
    rotating.rotate(filled.config["SKSTACK"])
    with monkeypatch.context() as patch:
        patch.setattr(rotating, "write_encryption_keys", die)
        with pytest.raises(Killed):
            rotating.retire(filled.config["SKSTACK"])
    assert len(keys_of(filled)) == 2
    assert rotating.retire(filled.config["SKSTACK"]) == 1
    assert passwords() == {PASSWORD}


def test_a_process_that_began_before_goes_on_with_the_new_key(filled: Flask) -> None:
    """It reads what others encrypted with a key that it has not seen, and uses that key itself from then on."""
    other = create_app(filled.config["SKSTACK"])
    rotating.rotate(filled.config["SKSTACK"])
    with other.app_context():
        assert passwords() == {PASSWORD}
        make_config_center("new", password="stored after the rotation")
        assert all_newest(other)
    _close(other)
    rotating.retire(filled.config["SKSTACK"])
    assert passwords() == {PASSWORD, "stored after the rotation"}


def test_what_somebody_stores_meanwhile_is_not_overwritten(
    filled: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    renew = rotating._renew

    def renew_later(*arguments: Any) -> int:
        with transaction():
            db.session.query(ConfigCenter).filter(ConfigCenter.id == 1).update(
                {"password": "changed meanwhile"}
            )
        return renew(*arguments)

    monkeypatch.setattr(rotating, "_renew", renew_later)
    rotating.rotate(filled.config["SKSTACK"])
    assert passwords() == {PASSWORD, "changed meanwhile"}


@pytest.mark.parametrize(
    ("first", "second"), [("rotate", "rotate"), ("rotate", "retire"), ("retire", "rotate")]
)
def test_two_at_once_lose_no_key_for_the_second_is_refused(
    filled: Flask, command: FlaskCliRunner, first: str, second: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second comes when the first has read the keys and not yet written them."""
    rotating.rotate(filled.config["SKSTACK"])
    before, write = keys_of(filled), rotating.write_encryption_keys

    def write_later(*arguments: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(rotating, "write_encryption_keys", write)
            told = command.invoke(args=["keys", second])
        assert told.exit_code == 1
        assert told.stderr == (
            "skstack: Another command is changing the keys. Run this one again once that has ended.\n"
        )
        assert keys_of(filled) == before
        write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(rotating, "write_encryption_keys", write_later)
        told = command.invoke(args=["keys", first])
    assert told.exit_code == 0, told.output
    assert all_newest(filled)
    assert passwords() == {PASSWORD}
    assert command.invoke(args=["keys", second]).exit_code == 0
    assert passwords() == {PASSWORD}


@pytest.mark.parametrize("name", ["rotate", "retire"])
def test_a_value_that_no_key_fits_is_named_in_one_line_and_no_key_is_lost(
    filled: Flask, command: FlaskCliRunner, name: str
) -> None:
    rotating.rotate(filled.config["SKSTACK"])
    far = Fernet.generate_key()
    strange = Fernet(far).encrypt(f'"{PASSWORD}"'.encode())
    with transaction():
        table = ConfigCenter.__table__
        raw = sa.bindparam(None, strange, sa.LargeBinary)
        db.session.execute(sa.update(table).where(table.c.id == 7).values(password=raw))
    before = keys_of(filled)
    told = command.invoke(args=["keys", name])
    assert told.exit_code == 1
    assert len(told.stderr.splitlines()) == 1
    assert "fits password in row 7 of the table config_centers." in told.stderr
    assert set(before) <= set(keys_of(filled))
    crypto.write_encryption_keys(filled.config["SKSTACK"].instance, [*keys_of(filled), far])
    assert command.invoke(args=["keys", name]).exit_code == 0
    assert all_newest(filled)
    assert passwords() == {PASSWORD}


def test_a_page_that_needs_a_value_that_no_key_fits_says_what_to_do(app: Flask) -> None:
    with app.app_context():
        make_config_center("far", password=PASSWORD)
        crypto.write_encryption_keys(app.config["SKSTACK"].instance, [Fernet.generate_key()])
    other = create_app(app.config["SKSTACK"])
    client = other.test_client()
    with other.app_context():
        sign_in(client, root())
    page = client.get("/config/config-centers")
    assert page.status_code == 503
    assert "no key in keys/encryption.keys fits it" in page.text
    assert client.get("/config/environments").status_code == 200
    _close(other)


def test_the_file_stays_for_its_owner_only(filled: Flask) -> None:
    folder: Path = filled.config["SKSTACK"].instance / "keys"
    (folder / ".encryption.keys.4711").write_bytes(b"of one that was killed")
    rotating.rotate(filled.config["SKSTACK"])
    assert (folder / crypto.ENCRYPTION_KEYS).stat().st_mode & 0o077 == 0
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_while_one_thread_reads_the_new_keys_no_other_encrypts_with_the_old_ones(
    context: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = context.config["SKSTACK"].instance
    old = keys_of(context)
    cipher = crypto.load_encryption(instance)
    crypto.write_encryption_keys(instance, [Fernet.generate_key(), *old])
    reading, go_on = threading.Event(), threading.Event()
    read = crypto.read_encryption_keys

    def read_later(path: Path) -> list[bytes]:
        if threading.current_thread() is not threading.main_thread():
            reading.set()
            assert go_on.wait(30)
        return read(path)

    monkeypatch.setattr(crypto, "read_encryption_keys", read_later)
    with ThreadPoolExecutor(1) as pool:
        one = pool.submit(cipher.encrypt, b"one")
        try:
            assert reading.wait(30)
            another = cipher.encrypt(b"another")
        finally:
            go_on.set()
        assert cipher.is_newest(one.result(30))
    with pytest.raises(crypto.InvalidToken):
        Fernet(old[0]).decrypt(another)
    assert cipher.is_newest(another)


@pytest.mark.slow
def test_a_running_server_decrypts_on(make_server: Callable[..., Server]) -> None:
    """The commands themselves, while web and worker run: what was stored before and what is stored after arrives."""
    server = make_server()
    server.catalog("""
environments: [{name: DEV}]
variables: [{name: Pin, source: input, widget: text, secret: true}]
variable_groups: [{name: all, variables: [Pin]}]
work_orders: [{name: pin, environment: DEV, active: true, variable_group: all, scheduling: true,
  main_task: "printenv WO_Pin | grep -qx 4711-0815"}]
""")
    server.start()
    before = server.submit(
        "pin", {"Pin": "4711-0815"}, scheduled_at=(utcnow() + dt.timedelta(days=9)).isoformat()
    )
    assert "There is a new key" in server.program("keys", "rotate")
    after = server.submit("pin", {"Pin": "4711-0815"})
    assert server.wait_for(after["id"])["status"] == "succeeded"
    assert "1 older keys are removed" in server.program("keys", "retire")
    assert server.call("POST", f"/api/v1/tickets/{before['id']}/execute").status == 200
    assert server.wait_for(before["id"])["status"] == "succeeded"
