"""The system page and `/metrics`: who may see them, and that they tell what is so."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from skstack.accounts.models import Page
from skstack.config import Settings
from skstack.db import transaction, utcnow
from skstack.extensions import db, queue
from skstack.runs import looks, retention, workers
from skstack.runs.models import Run, Worker
from skstack.runs.services import EXECUTE
from skstack.system import checks
from skstack.system.queries import State, last_backup
from tests.factories import alice, bearer, bob, make_user, sign_in
from tests.fake_runner import begin, end, run_of
from tests.orders import make_flow, make_ticket, make_workorder

HOUR = dt.timedelta(hours=1)


@pytest.fixture
def browser(app: Flask) -> FlaskClient:
    """Give the browser of somebody with the system page and nothing else."""
    client = app.test_client()
    with app.app_context():
        sign_in(client, make_user("operator", pages=[Page.SYSTEM]))
    return client


@pytest.fixture
def scrape(app: Flask) -> Callable[[], dict[str, float]]:
    """Give the metrics, by name and labels."""
    with app.app_context():
        headers = bearer(make_user("prometheus", pages=[Page.SYSTEM]))

    def ask() -> dict[str, float]:
        response = app.test_client().get("/metrics", headers=headers)
        assert response.status_code == 200
        assert response.content_type.startswith("text/plain; version=")
        return {
            sample.name.removeprefix("skstack_")
            + "".join(f" {name}={value}" for name, value in sample.labels.items()): sample.value
            for family in text_string_to_metric_families(response.text)
            for sample in family.samples
        }

    return ask


def lines(page: str) -> dict[str, tuple[str, str]]:
    """Return the lines of the page: by label, how it is, and what it says with its advice."""
    found = re.findall(
        r'<div class="check check-(\w+)"><dt>.*?</span>(.*?)</dt>\s*<dd>(.*?)</dd>', page, re.DOTALL
    )
    return {label: (tone, " ".join(re.sub(r"<[^>]+>", " ", text).split())) for tone, label, text in found}


def test_the_page_is_for_those_who_have_it(app: Flask, browser: FlaskClient) -> None:
    stranger = app.test_client()
    member = app.test_client()
    with app.app_context():
        sign_in(member, alice())
    for address in ("/system", "/system/state"):
        assert browser.get(address).status_code == 200
        assert member.get(address).status_code == 403
        assert stranger.get(address).status_code == 303
        assert browser.post(address).status_code == 405
    assert 'href="/system"' in browser.get("/").text
    assert 'href="/system"' not in member.get("/").text
    assert browser.get("/system/state").text.strip().startswith('<div id="system" hx-get="/system/state"')


def test_metrics_need_the_token_of_somebody_with_the_page(app: Flask, browser: FlaskClient) -> None:
    with app.app_context():
        member = bearer(alice())
    stranger = app.test_client()
    answer = stranger.get("/metrics")
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert answer.content_type == "application/problem+json"
    assert stranger.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert stranger.get("/metrics", headers=member).status_code == 403
    assert browser.get("/metrics").status_code == 401, "a cookie is no token"
    assert stranger.post("/metrics").status_code == 405


def test_a_fresh_instance_says_what_to_do(browser: FlaskClient) -> None:
    found = lines(browser.get("/system").text)
    assert found["Alive"][0] == "bad"
    assert "systemctl start" in found["Alive"][1]
    assert found["Retention"][0] == "warn"
    assert "no limit in days" in found["Retention"][1]
    assert "see whether one is alive" in found["Retention"][1]
    assert found["Last backup"][0] == "warn"
    assert "flask --app app backup FILE" in found["Last backup"][1]
    assert found["Migration"] == ("good", ", ".join(checks.heads()))
    assert found["Runs that wait"] == ("good", "0")
    assert found["Reserve"][0] == "warn"


@pytest.mark.both_databases
def test_workers_are_told_with_lease_runs_and_capacity(
    app: Flask, browser: FlaskClient, scrape: Callable[[], dict[str, float]]
) -> None:
    with app.app_context():
        worker = workers.register(5, "0.0.9")
        run = begin(run_of(make_ticket(alice(), make_workorder())))
        holder = db.session.get_one(Worker, run.worker_id)
        with transaction():
            holder.seen_at = utcnow() - HOUR
            db.session.add(Worker(host="long-gone", pid=1, process_start=1, boot_id="b", stopped_at=utcnow()))
        assert [(one.worker.id, one.is_alive, one.runs) for one in State(app.config["SKSTACK"]).workers] == [
            (holder.id, False, 1),
            (worker.id, True, 0),
        ]
    page = browser.get("/system").text
    assert lines(page)["Alive"] == ("good", "1, with room for 5 runs at a time")
    assert "workers are 0.0.9" in lines(page)["Version"][1]
    assert "The others take over its runs" in page
    assert "long-gone" not in page
    told = scrape()
    assert (told["workers lease=alive"], told["workers lease=lost"]) == (1, 1)
    assert (told["worker_capacity_runs"], told["worker_held_runs lease=lost"]) == (5, 1)
    assert told["runs state=running"] == 1


@pytest.mark.both_databases
def test_what_waits_is_told_with_its_age(
    app: Flask, browser: FlaskClient, scrape: Callable[[], dict[str, float]]
) -> None:
    with app.app_context():
        bob()
        undecided = make_ticket(alice(), make_workorder(approval_flow=make_flow("leads")))
        run = run_of(make_ticket(alice(), make_workorder()))
        while queue.pending_count():
            queue.dequeue()
        queue.ring(EXECUTE, run.id)
        queue.ring(EXECUTE, run.id, at=utcnow() + HOUR)
        with transaction():
            undecided.created_at = utcnow() - 2 * HOUR
            db.session.get_one(Run, run.id).queued_at = utcnow() - HOUR
        waiting = State(app.config["SKSTACK"]).queued
        assert waiting.oldest_message_at
        assert abs(utcnow() - waiting.oldest_message_at) < dt.timedelta(minutes=1)
    tone, said = lines(browser.get("/system").text)["Runs that wait"]
    assert (tone, said.startswith("1 · the oldest queued 1 hour ago")) == ("warn", True)
    assert "raise SKSTACK_WORKERS" in said
    told = scrape()
    assert (told["queue_messages"], told["runs state=queued"]) == (waiting.messages, 1)
    assert told["tickets status=submitted"] == 1
    assert 3590 < told["oldest_waiting_age_seconds waits_for=worker"] < 4000
    assert 7190 < told["oldest_waiting_age_seconds waits_for=approval"] < 7600
    assert 0 <= told["queue_oldest_message_age_seconds"] < 60


@pytest.mark.both_databases
def test_output_and_what_retention_cleared_are_told(
    app: Flask, browser: FlaskClient, scrape: Callable[[], dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_next_look", 0.0)
    with app.app_context():
        for size in (2048, 1024):
            ticket = make_ticket(alice(), make_workorder())
            end(begin(run_of(ticket)))
            with transaction():
                db.session.get_one(Run, run_of(ticket).id).stored_bytes = size
        retention.sweep()
    found = lines(browser.get("/system").text)
    assert found["Output kept"][1].startswith("3.0 KiB of 2 runs")
    assert found["Retention"][0] == "good"
    with app.app_context():
        looks.note_clearing(utcnow(), 0)
        at = utcnow() - HOUR
        with transaction():
            db.session.get_one(Run, run_of(ticket).id).output_cleared_at = at
        looks.note_clearing(at, 1)
        looks.note_clearing(utcnow(), 0)
        looks.note_output(utcnow())
    found = lines(browser.get("/system").text)
    assert found["Output kept"][1].startswith("2.0 KiB of 1 runs")
    assert "last cleared 1 runs, 1.0 KiB, 1 hour ago" in found["Retention"][1]
    told = scrape()
    assert (told["output_bytes"], told["output_runs"]) == (2048, 1)
    assert told["retention_age_seconds"] < 60
    assert told["disk_free_bytes"] > 0


def test_the_last_backup_is_told(
    settings: Settings, browser: FlaskClient, scrape: Callable[[], dict[str, float]]
) -> None:
    assert last_backup(settings) is None
    assert "backup_age_seconds" not in scrape()
    note = settings.instance / "last-backup.json"
    at = (utcnow() - HOUR).isoformat()
    note.write_text(json.dumps({"at": at, "bytes": 2048, "file": "/backup/a.tar"}))
    assert lines(browser.get("/system").text)["Last backup"] == (
        "good",
        "1 hour ago · 2.0 KiB · /backup/a.tar",
    )
    assert 3590 < scrape()["backup_age_seconds"] < 4000
    note.write_text(json.dumps({"at": "2026-01-01T00:00:00Z", "bytes": 1, "file": "old"}))
    assert lines(browser.get("/system").text)["Last backup"][0] == "warn"
    for broken in ("{", "[]", '{"at": "yesterday"}'):
        note.write_text(broken)
        assert last_backup(settings) is None


def test_a_full_disk_and_an_older_database_are_told(
    browser: FlaskClient, scrape: Callable[[], dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "free_bytes", lambda settings: 0)
    monkeypatch.setattr(checks, "heads", lambda: {"9999"})
    found = lines(browser.get("/system").text)
    assert found["Free disk"][0] == "bad"
    assert "Make room" in found["Free disk"][1]
    assert found["Migration"][0] == "bad"
    assert "needs 9999" in found["Migration"][1]
    assert scrape()["database_migrated"] == 0


@pytest.mark.both_databases
def test_metrics_name_nobody_and_keep_secrets(app: Flask, scrape: Callable[[], dict[str, float]]) -> None:
    with app.app_context():
        make_ticket(alice(), make_workorder("hush"))
        text = app.test_client().get("/metrics", headers=bearer(make_user("p2", pages=[Page.SYSTEM]))).text
    for word in ("alice", "hush", "prometheus", "p2", str(Path(app.instance_path))):
        assert word not in text
    told = scrape()
    database = "PostgreSQL" if app.config["SKSTACK"].is_postgresql else "SQLite"
    assert any(
        name.startswith("build_info ") and f"database={database}" in name and "version=0.1.0" in name
        for name in told
    )
    assert told["database_size_bytes"] > 10_000
    assert told["tickets status=running"] == 1
