"""The retention rule: what is too old or too much is cleared, said to be, and everything else stays known."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from skstack.audit.models import AuditEvent
from skstack.catalog.models import Category
from skstack.config import Settings
from skstack.db import transaction, utcnow
from skstack.extensions import db
from skstack.runs import retention
from skstack.runs.models import Run
from skstack.runs.retention import clear_old
from skstack.tickets.models import Ticket
from tests.factories import alice, bearer, sign_in
from tests.fake_runner import begin, end, result, run_of, write
from tests.orders import make_category, make_ticket, make_workorder

pytestmark = [pytest.mark.both_databases, pytest.mark.usefixtures("context")]

DAY = dt.timedelta(days=1)
KILO = b"x" * 1024


def printed(category: str | None = "DeployGit", *, kilobytes: int = 1, background: bool = False) -> Ticket:
    """Return a ticket that has ended and printed something."""
    order = make_workorder(category=category, background_choice=True)
    ticket = make_ticket(alice(), order, background=background)
    run = begin(run_of(ticket))
    write(run, KILO * kilobytes)
    end(run, dataclasses.replace(result(0), stored_bytes=1024 * kilobytes, output_bytes=1024 * kilobytes))
    return ticket


def has_output(ticket: Ticket) -> bool:
    run = run_of(ticket)
    there = (run.directory / "output.log").exists()
    assert there is (run.output_cleared_at is None)
    return there


def rule(**columns: Any) -> Category:
    with transaction():
        category = make_category()
        for name, value in columns.items():
            setattr(category, name, value)
    return category


def test_without_a_rule_everything_is_kept() -> None:
    ticket = printed()
    assert clear_old(utcnow() + 10_000 * DAY) == 0
    assert has_output(ticket)


def test_what_is_older_than_its_days_is_cleared_and_told() -> None:
    rule(retention_days=30)
    ticket, other = printed(background=True), printed("DeployDocker")
    assert clear_old(utcnow() + 29 * DAY) == 0
    assert clear_old(utcnow() + 31 * DAY) == 1
    assert not has_output(ticket)
    assert has_output(other)
    assert (ticket.status, ticket.job_status) == ("succeeded", "DONE")
    [event] = db.session.scalars(sa.select(AuditEvent).where(AuditEvent.action == "run.output_cleared"))
    assert (event.actor, event.changes) == ("", {"ticket": ticket.id, "bytes": 1024})
    run = run_of(ticket)
    assert [step.exit_code for step in run.steps] == [0]
    assert (run.directory / "result.json").exists()


def test_clearing_twice_clears_once() -> None:
    rule(retention_days=1)
    printed(background=True)
    assert clear_old(utcnow() + 2 * DAY) == 1
    assert clear_old(utcnow() + 3 * DAY) == 0


def test_the_oldest_goes_when_a_category_has_too_much() -> None:
    rule(retention_megabytes=1)
    first, second, third = (printed(kilobytes=500) for _ in range(3))
    assert clear_old(utcnow()) == 1
    assert [has_output(ticket) for ticket in (first, second, third)] == [False, True, True]


def test_what_has_not_ended_is_kept() -> None:
    rule(retention_days=1)
    order = make_workorder(category="DeployGit", pre_task="check")
    ticket = make_ticket(alice(), order)
    pre = begin(run_of(ticket, "pre"))
    write(pre, KILO)
    end(pre)
    assert clear_old(utcnow() + 100 * DAY) == 0
    assert (pre.directory / "output.log").exists()


def test_a_job_is_done_when_all_its_output_is_cleared() -> None:
    rule(retention_days=1)
    order = make_workorder(category="DeployGit", pre_task="check", background_choice=True)
    ticket = make_ticket(alice(), order, background=True)
    for task in ("pre", "main"):
        run = begin(run_of(ticket, task))
        write(run, KILO)
        end(run)
    assert clear_old(utcnow() + 2 * DAY) == 2
    db.session.expire_all()
    assert ticket.job_status == "DONE"
    assert [change.job_after for change in ticket.history][-1] == "DONE"


def test_what_a_killed_worker_left_behind_is_removed_by_the_next() -> None:
    rule(retention_days=1)
    ticket = printed()
    with transaction():
        db.session.execute(sa.update(Run).values(output_cleared_at=utcnow()))
    assert (run_of(ticket).directory / "output.log").exists()
    assert clear_old(utcnow()) == 0
    assert not has_output(ticket)


def test_pages_and_api_say_that_it_was_cleared(context: Flask) -> None:
    rule(retention_days=1)
    ticket = printed()
    clear_old(utcnow() + 2 * DAY)
    run = run_of(ticket)
    client = context.test_client()
    sign_in(client, alice())
    for path in (f"/tickets/{ticket.id}", f"/runs/{run.id}"):
        page = client.get(path).text
        assert "The output was cleared at" in page
        assert "/output.txt" not in page
    answer = client.get(f"/runs/{run.id}/output.txt")
    assert answer.status_code == 410
    assert "The output was cleared at" in answer.text
    headers = bearer(alice())
    answer = client.get(f"/api/v1/runs/{run.id}/log", headers=headers)
    assert (answer.status_code, answer.mimetype) == (410, "application/problem+json")
    shown = client.get(f"/api/v1/runs/{run.id}", headers=headers).json
    assert shown["output_cleared_at"].endswith("Z")
    assert [step["exit_code"] for step in shown["steps"]] == [0]


def test_a_worker_looks_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[dt.datetime] = []
    monkeypatch.setattr(retention, "clear_old", lambda now: looks.append(now) or 0)
    monkeypatch.setattr(retention, "_next_look", 0.0)
    retention.sweep()
    retention.sweep()
    assert len(looks) == 1


class TestWithASetting:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return dataclasses.replace(settings, retention_days=30)

    def test_it_is_for_categories_that_say_nothing(self, context: Flask) -> None:
        rule(retention_days=0)
        kept, filed, unfiled = printed(), printed("DeployDocker"), printed(None)
        assert clear_old(utcnow() + 31 * DAY) == 2
        assert [has_output(ticket) for ticket in (kept, filed, unfiled)] == [True, False, False]
