"""A backup is made while everything goes on, and an instance made from it elsewhere is the same: fault 22."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from flask import Flask

from skstack import create_app, migrating
from skstack.accounts.models import ApiToken
from skstack.accounts.services import create_first_admin
from skstack.audit import verifying
from skstack.audit.models import AuditEvent
from skstack.backups import restoring, services, settling
from skstack.backups.archive import BackupUnusable, Writer, unpack
from skstack.backups.settling import Settled
from skstack.catalog.models import ConfigCenter
from skstack.config import Settings
from skstack.db import transaction, utcnow
from skstack.errors import Conflict
from skstack.extensions import db
from skstack.runs import workers
from skstack.runs.models import Run, Worker, directory_of
from skstack.schedules import sweeping
from skstack.schedules.models import Occurrence, Schedule
from skstack.tickets.models import Ticket, TicketChange
from tests.databases import _close
from tests.factories import alice, make_group, make_token, make_user, root
from tests.fake_runner import begin, end, leave, result, run_of, write
from tests.orders import make_config_center, make_environment, make_flow, make_ticket, make_workorder
from tests.schedules.making import make_schedule

DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Elsewhere:
    """An empty instance on another host."""

    settings: Settings

    def restore(self, file: Path) -> Settled:
        made = create_app(self.settings)
        try:
            with made.app_context():
                return restoring.restore(made, file)[1]
        finally:
            _close(made)


@pytest.fixture
def elsewhere(database: str, tmp_path: Path, worker_id: str, request: pytest.FixtureRequest) -> Elsewhere:
    """Give an empty instance on another host. On SQLite, its database lies in another folder."""
    (tmp_path / "disk").mkdir()
    url = f"sqlite:///{tmp_path}/disk/other.db"
    if database == "postgresql":
        server, name = request.getfixturevalue("postgresql_server"), f"restored_{worker_id}"
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            connection.execute(f"drop database if exists {name} with (force)")
            connection.execute(f"create database {name}")
        url = f"{server}/{name}"
    return Elsewhere(Settings(instance=tmp_path / "elsewhere", database_url=url))


@pytest.fixture
def found(elsewhere: Elsewhere) -> Iterator[Flask]:
    """Give the application of what was restored, in its context."""
    made = create_app(elsewhere.settings)
    with made.app_context():
        yield made
    _close(made)


@pytest.fixture
def file(app: Flask, tmp_path: Path) -> Path:
    """Give a backup of an instance in use: runs that ended, run and wait, tickets that wait for people and for their time."""
    made = tmp_path / "backup.tar.gz"
    with app.app_context():
        make_config_center("far", password="hunter2-of-the-host")
        order = make_workorder(name="site", scheduling=True)
        begun = [begin(run_of(make_ticket(alice(), order))) for _ in range(3)]
        for run in begun:
            write(run, b"\xff")
        end(begun[0])
        make_ticket(alice(), order)
        make_user("lead", groups=[make_group("leads")], pages=["approve"])
        make_ticket(alice(), make_workorder(approval_flow=make_flow("leads")))
        for days in (0.5, 2):
            make_ticket(alice(), order, scheduled_at=utcnow() + days * DAY)
        make_schedule(workorder=order)
        make_token(root())
        assert services.backup(made, settings=app.config["SKSTACK"]) == made.stat().st_size
    return made


@pytest.fixture
def restored(elsewhere: Elsewhere, file: Path, monkeypatch: pytest.MonkeyPatch) -> Settled:
    """Restore it a day later; say what was not gone on with."""
    monkeypatch.setattr(settling, "utcnow", lambda: utcnow() + DAY)
    return elsewhere.restore(file)


def verified() -> int:
    """Verify the whole trail, and return how many outputs were looked at."""
    progress = verifying.begin()
    while progress.phase != verifying.DONE:
        progress = verifying.go_on(progress, [], enough=lambda: True)
    return progress.counts["outputs"]


@pytest.mark.both_databases
def test_an_instance_elsewhere_is_the_same_and_starts_nothing_that_may_have_run(
    restored: Settled, found: Flask
) -> None:
    assert restored == Settled(runs=3, tickets=1, times=1, waiting=2)
    assert db.session.query(ConfigCenter).one().password == "hunter2-of-the-host"
    assert [(ticket.id, ticket.status) for ticket in db.session.query(Ticket).order_by(Ticket.id)] == [
        (1, "succeeded"),
        (2, "unknown"),
        (3, "unknown"),
        (4, "unknown"),
        (5, "submitted"),
        (6, "unknown"),
        (7, "submitted"),
    ]
    assert [run.state for run in db.session.query(Run).order_by(Run.id)] == ["succeeded", *["unknown"] * 3]
    last = db.session.query(TicketChange).filter_by(ticket_id=6, after="unknown").one()
    assert "Whether it ran there cannot be told here" in str(last.reason)
    assert (directory_of(1) / "output.log").read_bytes() == b"\xff"
    assert db.session.query(ApiToken).count() == 1
    schedule, missed = db.session.query(Schedule).one(), db.session.query(Occurrence).one()
    assert schedule.next_at is not None
    assert schedule.next_at > utcnow() + DAY - dt.timedelta(hours=1)
    assert (missed.outcome, missed.count) == ("missed", 24)
    assert db.session.query(Worker).filter(Worker.stopped_at.is_(None)).count() == 0
    # A worker that looks for what is due finds nothing.
    sweeping.sweep()
    assert db.session.query(Run).filter(Run.state == "queued").count() == 0
    assert verified() == 4
    actions = set(db.session.scalars(sa.select(AuditEvent.action)))
    assert "instance.restored" in actions
    # What is added gets numbers that nobody has.
    assert make_ticket(alice(), make_workorder(name="another")).id == 8


def test_what_ended_while_the_backup_was_made_ends_as_it_did(
    app: Flask, elsewhere: Elsewhere, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with app.app_context():
        # As if the database had been read before.
        leave(begin(run_of(make_ticket(alice(), make_workorder(main_task="true\nfalse")))), result(0, 3))
        services.backup(tmp_path / "taken", settings=app.config["SKSTACK"])
    elsewhere.restore(tmp_path / "taken")
    request.getfixturevalue("found")
    run = db.session.query(Run).one()
    assert (run.state, run.exit_code) == ("failed", 3)


@pytest.mark.both_databases
@pytest.mark.parametrize("moment", ["keys", "tables", "upgrade", "settle"])
def test_what_was_left_in_the_middle_is_taken_up_by_doing_it_again(
    elsewhere: Elsewhere,
    file: Path,
    moment: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if moment == "keys":
            patch.setattr(shutil, "rmtree", die)
        elif moment == "tables":
            patch.setattr(restoring, "_place_database", die)
            patch.setattr(restoring.tables, "_statement", die)
        elif moment == "upgrade":
            patch.setattr(restoring.migrating, "upgrade", die)
        else:
            patch.setattr(settling.workers, "forget_all", die)
        with pytest.raises(Killed):
            elsewhere.restore(file)
    with pytest.raises(Conflict, match="was not finished"):
        restoring.check_finished(elsewhere.settings)
    assert elsewhere.restore(file).runs == 3
    restoring.check_finished(elsewhere.settings)
    request.getfixturevalue("found")
    assert db.session.query(ConfigCenter).one().password == "hunter2-of-the-host"
    assert db.session.query(Ticket).count() == 7


def test_a_backup_is_for_its_owner_only_and_replaces_nothing(app: Flask, file: Path) -> None:
    assert file.stat().st_mode & 0o077 == 0
    before = file.read_bytes()
    with app.app_context(), pytest.raises(FileExistsError):
        services.backup(file, settings=app.config["SKSTACK"])
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir() if path.name.startswith(".")] == []
    told = json.loads((app.config["SKSTACK"].instance / "last-backup.json").read_text())
    assert told["bytes"] == file.stat().st_size


def test_one_that_meets_the_retention_rule_is_made_again(
    app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_once, times = services._write, []

    def write(archive: Writer, settings: Settings, scratch: Path) -> None:
        write_once(archive, settings, scratch)
        if not times:
            with transaction():
                db.session.query(Run).update({"output_cleared_at": utcnow()})
        else:
            with transaction():
                db.session.query(Run).update({"output_cleared_at": utcnow() - DAY})
        times.append(archive)

    monkeypatch.setattr(services, "_write", write)
    with app.app_context():
        end(begin(run_of(make_ticket(alice(), make_workorder()))))
        services.backup(tmp_path / "taken", settings=app.config["SKSTACK"])
    assert len(times) == 2


@pytest.mark.both_databases
def test_an_instance_in_use_is_left_alone(app: Flask, file: Path) -> None:
    with app.app_context(), pytest.raises(Conflict, match="in use already"):
        restoring.restore(app, file)
    with app.app_context():
        assert db.session.query(Ticket).count() == 7


@pytest.mark.both_databases
def test_one_that_was_only_initialized_is_empty(
    elsewhere: Elsewhere, file: Path, request: pytest.FixtureRequest
) -> None:
    """People run `init` first. Its keys and its administrator give way to those of the backup."""
    made = create_app(elsewhere.settings)
    with made.app_context():
        migrating.upgrade(made)
        create_first_admin()
    _close(made)
    (elsewhere.settings.instance / "audit.head").write_text("skstack audit head 1 " + "0" * 64 + "\n")
    assert elsewhere.restore(file).runs == 3
    request.getfixturevalue("found")
    assert db.session.query(Ticket).count() == 7
    assert db.session.query(ConfigCenter).one().password == "hunter2-of-the-host"
    assert verified() == 4


@pytest.mark.parametrize("what", ["an environment", "somebody else", "a worker"])
def test_one_that_somebody_has_begun_to_use_is_not(elsewhere: Elsewhere, file: Path, what: str) -> None:
    made = create_app(elsewhere.settings)
    with made.app_context():
        migrating.upgrade(made)
        create_first_admin()
        if what == "an environment":
            make_environment()
        elif what == "somebody else":
            make_user("somebody")
        else:
            workers.register()
    _close(made)
    with pytest.raises(Conflict, match="in use already"):
        elsewhere.restore(file)


def test_what_else_lies_beside_keys_and_outputs_does_no_harm(
    app: Flask, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    """The draft of a rotation that was killed, say: a backup that cannot be restored would be worse than none."""
    instance = app.config["SKSTACK"].instance
    for name in (
        "keys/.encryption.keys.4711",
        "keys/encryption.keys.old",
        "runs/1/core.1234",
        "runs/1/UPPER",
    ):
        (instance / name).parent.mkdir(exist_ok=True)
        (instance / name).write_bytes(b"x")
    with app.app_context():
        make_environment()
        services.backup(tmp_path / "taken", settings=app.config["SKSTACK"])
    elsewhere.restore(tmp_path / "taken")
    assert sorted(path.name for path in (elsewhere.settings.instance / "keys").iterdir()) == [
        "audit.keys",
        "encryption.keys",
        "session.key",
    ]
    with pytest.raises(ValueError, match="cannot be in a backup"):
        Writer(io.BytesIO()).add("keys/.encryption.keys.4711", io.BytesIO(b"x"), 1)


def test_settings_that_are_there_are_kept(elsewhere: Elsewhere, app: Flask, tmp_path: Path) -> None:
    (app.config["SKSTACK"].instance / "config.toml").write_text("# of the backup\n")
    with app.app_context():
        services.backup(tmp_path / "taken", settings=app.config["SKSTACK"])
    elsewhere.settings.instance.mkdir()
    ours = elsewhere.settings.instance / "config.toml"
    ours.write_text("# ours\n")
    elsewhere.restore(tmp_path / "taken")
    assert ours.read_text() == "# ours\n"


def test_what_a_lost_database_left_beside_it_is_not_applied_to_the_restored_one(
    elsewhere: Elsewhere, file: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "disk" / "other.db-wal").write_bytes(b"of another one")
    elsewhere.restore(file)
    request.getfixturevalue("found")
    assert db.session.query(Ticket).count() == 7


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Give a backup with hardly anything in it."""
    made = tmp_path / "small.tar.gz"
    with made.open("wb") as target:
        archive = Writer(target)
        archive.add("runs/1/output.log", io.BytesIO(b"printed"), 7)
        archive.finish(database="sqlite", revision="0001", at="2026-11-26T00:00:00+00:00")
    return made


def changed(file: Path, change: Callable[[dict[str, bytes]], Any], **types: bytes) -> None:
    """Write a backup anew, with other members."""
    with tarfile.open(file) as tar:
        members = {one.name: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]
    change(members)
    with tarfile.open(file, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.type = len(content), types.get(name, tarfile.REGTYPE)
            tar.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize(
    "change",
    [
        lambda members: members.update({"runs/1/output.log": b"something else"}),
        lambda members: members.pop("runs/1/output.log"),
        lambda members: members.pop("manifest.json"),
        lambda members: members.update({"manifest.json": b"[]"}),
        lambda members: members.update({"runs/1/more.log": b"x"}),
    ],
)
def test_what_was_changed_is_not_restored(
    elsewhere: Elsewhere, small: Path, tmp_path: Path, change: Any
) -> None:
    changed(small, change)
    with pytest.raises(BackupUnusable):
        elsewhere.restore(small)
    restoring.check_finished(elsewhere.settings)
    assert list(tmp_path.glob("disk/*")) == []
    assert list(elsewhere.settings.instance.glob(".*")) == []


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "runs/../../evil", "keys/../evil.keys", "runs/1/.x"]
)
def test_no_member_leaves_the_instance(tmp_path: Path, small: Path, name: str) -> None:
    changed(small, lambda members: members.update({name: b"x"}))
    (tmp_path / "into").mkdir()
    with pytest.raises(BackupUnusable, match="unexpected member"):
        unpack(small, tmp_path / "into")
    assert list(tmp_path.rglob("*evil*")) == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_a_backup_has_files_only(tmp_path: Path, small: Path, kind: bytes) -> None:
    changed(small, lambda members: members.update({"config.toml": b""}), **{"config.toml": kind})
    (tmp_path / "into").mkdir()
    with pytest.raises(BackupUnusable, match="unexpected member"):
        unpack(small, tmp_path / "into")


def test_a_file_that_is_cut_is_said_to_be(elsewhere: Elsewhere, small: Path) -> None:
    small.write_bytes(small.read_bytes()[:200])
    with pytest.raises(BackupUnusable, match="no whole backup"):
        elsewhere.restore(small)


def test_a_backup_of_a_newer_version_is_refused(elsewhere: Elsewhere, small: Path) -> None:
    def newer(members: dict[str, bytes]) -> None:
        manifest = json.loads(members["manifest.json"])
        members["manifest.json"] = json.dumps({**manifest, "revision": "9999"}).encode()

    changed(small, newer)
    with pytest.raises(BackupUnusable, match="newer version"):
        elsewhere.restore(small)


def test_anything_else_is_no_backup(elsewhere: Elsewhere, tmp_path: Path) -> None:
    for content in (b"", b"not a backup", gzip.compress(b"not a tar")):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(BackupUnusable):
            elsewhere.restore(tmp_path / "other")
