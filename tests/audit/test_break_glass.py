"""A start within a freeze window is recorded, shown to those who may review it, and reviewed once by somebody else."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from skstack.accounts.models import Page, User
from skstack.audit.models import AuditEvent
from skstack.db import utcnow
from skstack.errors import Conflict, Invalid, NotAllowed
from skstack.extensions import db
from skstack.tickets import reviewing
from skstack.tickets.models import BreakGlass
from tests.factories import alice, make_user, root, sign_in
from tests.orders import make_freeze, make_ticket, make_workorder
from tests.schedules.making import HOUR


def break_glass(reason: str = "the site is down") -> BreakGlass:
    """Let Root start something within a freeze window."""
    now = utcnow()
    make_freeze(starts_at=now - HOUR, ends_at=now + HOUR)
    ticket = make_ticket(root(), make_workorder(), break_glass=reason)
    return db.session.scalars(sa.select(BreakGlass).where(BreakGlass.ticket_id == ticket.id)).one()


def auditor() -> User:
    found = db.session.scalars(sa.select(User).where(User.username == "audrey")).one_or_none()
    return found or make_user("audrey", pages=[Page.AUDIT])


def as_(app: Flask, person: Callable[[], User]) -> FlaskClient:
    client = app.test_client()
    with app.app_context():
        sign_in(client, person())
    return client


def text_of(response: TestResponse) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.text)))


@pytest.mark.both_databases
def test_both_are_in_the_audit_trail(context: Flask) -> None:
    broken = break_glass()
    reviewing.review(broken, actor=auditor(), comment=" it was ")
    events = db.session.scalars(sa.select(AuditEvent).where(AuditEvent.action.like("ticket.glass%"))).all()
    assert [(event.action, event.actor, event.object_id) for event in events] == [
        ("ticket.glass_broken", "root", broken.ticket_id),
        ("ticket.glass_reviewed", "audrey", broken.ticket_id),
    ]
    assert events[0].changes == {"window": broken.window_name, "reason": "the site is down"}
    assert events[1].changes == {"window": broken.window_name, "by": "root", "review": "it was"}


@pytest.mark.both_databases
def test_somebody_else_with_the_audit_page_reviews_it_with_a_comment(context: Flask) -> None:
    broken = break_glass()
    for actor in (root(), alice()):
        with pytest.raises(NotAllowed):
            reviewing.review(broken, actor=actor, comment="fine")
    for comment in ("", " ", "x" * 4001, "\x00"):
        with pytest.raises(Invalid):
            reviewing.review(broken, actor=auditor(), comment=comment)
    assert [one.id for one in reviewing.to_review()] == [broken.id]
    reviewing.review(broken, actor=make_user("another", superuser=True), comment="fine")
    assert reviewing.to_review() == []
    assert (broken.review, broken.reviewed_at is None) == ("fine", False)
    with pytest.raises(Conflict):
        reviewing.review(broken, actor=auditor(), comment="not fine")


@pytest.mark.both_databases
def test_of_two_reviews_at_once_one_counts(context: Flask) -> None:
    number, reviewer = break_glass().id, auditor().id
    db.session.commit()

    def review(comment: str) -> str | None:
        with context.app_context():
            try:
                reviewing.review(
                    reviewing.one(number), actor=db.session.get_one(User, reviewer), comment=comment
                )
            except Conflict:
                return None
            return comment

    with ThreadPoolExecutor(4) as pool:
        [counted] = [found for found in pool.map(review, "abcd") if found]
    assert db.session.scalars(sa.select(BreakGlass.review)).all() == [counted]


def test_the_page_shows_who_why_and_what_and_takes_the_review(app: Flask) -> None:
    with app.app_context():
        broken = break_glass("the <b>site</b> is down")
        number, window, ticket = broken.id, broken.window_name, broken.ticket_id
    audreys = as_(app, auditor)
    shown = text_of(audreys.get("/audit/break-glass"))
    for part in ("root", window, f"#{ticket}", "the <b>site</b> is down", "To be reviewed"):
        assert part in shown
    assert f"#glass-{number}" in audreys.get("/").text
    path = f"/audit/break-glass/{number}/review"
    refused = audreys.post(path, data={"comment": " "})
    assert refused.status_code == 422
    assert f'id="comment-{number}-error"' in refused.text
    assert audreys.post(path, data={"comment": "rightly so"}).status_code == 303
    shown = text_of(audreys.get("/audit/break-glass"))
    assert "rightly so" in shown
    assert "audrey" in shown
    assert "To be reviewed" not in shown
    assert "#glass-" not in audreys.get("/").text
    assert audreys.post(path, data={"comment": "again"}).status_code == 409
    assert audreys.post("/audit/break-glass/999/review", data={"comment": "x"}).status_code == 404


def test_who_did_it_waits_for_somebody_else(app: Flask) -> None:
    with app.app_context():
        number = break_glass().id
    roots = as_(app, root)
    assert "You started this: somebody else reviews it." in text_of(roots.get("/audit/break-glass"))
    assert "#glass-" not in roots.get("/").text
    assert roots.post(f"/audit/break-glass/{number}/review", data={"comment": "fine"}).status_code == 403


def test_those_without_the_audit_page_see_nothing_of_it(app: Flask) -> None:
    with app.app_context():
        number = break_glass().id
    alices = as_(app, alice)
    assert alices.get("/audit/break-glass").status_code == 403
    assert alices.post(f"/audit/break-glass/{number}/review", data={"comment": "fine"}).status_code == 403
    assert "#glass-" not in alices.get("/").text
    stranger = app.test_client()
    assert stranger.get("/audit/break-glass").status_code == 303
    assert stranger.post(f"/audit/break-glass/{number}/review").status_code == 401


def test_without_any_the_page_says_so(app: Flask) -> None:
    assert "Nothing was started within a freeze window" in text_of(
        as_(app, auditor).get("/audit/break-glass")
    )
