"""`/healthz` and `/readyz`."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from flask import Flask

from skstack.config import ROOT
from skstack.db import db, transaction, utcnow
from skstack.runs.models import Worker
from skstack.system import checks
from skstack.system.checks import heads
from tests.fake_runner import make_worker


def ready(app: Flask) -> tuple[int, dict[str, str]]:
    response = app.test_client().get("/readyz")
    assert response.json["status"] == ("ok" if response.status_code == 200 else "failed")
    return response.status_code, response.json["checks"]


def set_worker(app: Flask, **columns: object) -> None:
    with app.app_context(), transaction():
        db.session.execute(sa.update(Worker).values(**columns))


def test_a_process_that_answers_is_alive(app: Flask) -> None:
    response = app.test_client().get("/healthz")
    assert (response.status_code, response.json) == (200, {"status": "ok"})


@pytest.mark.both_databases
def test_ready_is_who_has_a_migrated_database_and_a_living_worker(app: Flask) -> None:
    assert ready(app) == (503, {"database": "ok", "migrations": "ok", "worker": "failed", "disk": "ok"})
    with app.app_context():
        make_worker()
    assert ready(app) == (200, {"database": "ok", "migrations": "ok", "worker": "ok", "disk": "ok"})
    set_worker(app, seen_at=utcnow() - dt.timedelta(hours=1))
    assert ready(app)[0] == 503
    set_worker(app, seen_at=utcnow(), stopped_at=utcnow())
    assert ready(app)[0] == 503


@pytest.fixture
def same_version_afterwards(app: Flask) -> Iterator[None]:
    """Put the version back: on PostgreSQL the next test gets the same database."""
    with app.app_context():
        version = db.session.scalar(sa.text("SELECT version_num FROM alembic_version"))
    yield
    with app.app_context(), transaction():
        db.session.execute(
            sa.text("CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
        )
        db.session.execute(sa.text("DELETE FROM alembic_version"))
        db.session.execute(sa.text("INSERT INTO alembic_version VALUES (:version)"), {"version": version})


@pytest.mark.both_databases
@pytest.mark.usefixtures("same_version_afterwards")
def test_a_database_of_another_version_is_not_ready(app: Flask) -> None:
    with app.app_context(), transaction():
        db.session.execute(sa.text("UPDATE alembic_version SET version_num = 'other'"))
    assert ready(app) == (503, {"database": "ok", "migrations": "failed", "worker": "failed", "disk": "ok"})
    with app.app_context(), transaction():
        db.session.execute(sa.text("DROP TABLE alembic_version"))
    assert ready(app)[1]["migrations"] == "failed"


def test_without_room_or_a_folder_to_write_to_it_is_not_ready(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    with app.app_context():
        make_worker()
    assert ready(app)[0] == 200
    monkeypatch.setattr(checks, "free_bytes", lambda settings: checks.NEEDED - 1)
    others = {"database": "ok", "migrations": "ok", "worker": "ok"}
    assert ready(app) == (503, {**others, "disk": "failed"})
    monkeypatch.undo()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert ready(app) == (503, {**others, "disk": "failed"})


def test_a_database_that_does_not_answer_is_not_ready(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **more: object) -> None:
        raise sa.exc.OperationalError("SELECT 1", {}, Exception("gone"))

    with app.app_context():
        monkeypatch.setattr(db.session, "connection", fail)
    assert ready(app) == (
        503,
        {"database": "failed", "migrations": "failed", "worker": "failed", "disk": "ok"},
    )
    assert app.test_client().get("/healthz").status_code == 200


def test_the_newest_migration_is_the_one_that_alembic_finds() -> None:
    assert heads() == set(ScriptDirectory(str(ROOT / "migrations")).get_heads())


def test_serving_pages_does_not_load_alembic(tmp_path: Path) -> None:
    program = "import sys, app; sys.exit('alembic' in sys.modules)"
    subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={"SKSTACK_INSTANCE": str(tmp_path)}, check=True
    )
