"""Who did what to what: the page, one event, the export, the API; and what was refused."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from skstack.accounts.models import User
from skstack.audit import checks, labels, queries, refusals
from skstack.audit.models import AuditCheck, AuditEvent
from skstack.audit.queries import Filters
from skstack.audit.refusals import Allowance
from skstack.audit.services import MASK, Action, client_address, record
from skstack.db import transaction
from skstack.errors import Conflict
from skstack.extensions import db
from skstack.messages import N_
from skstack.tickets.services import submit
from tests.audit.conftest import tamper
from tests.factories import alice, bearer, make_user, mallory, root, sign_in
from tests.orders import make_config_center, make_ticket, make_workorder
from tests.tickets.conftest import said


@pytest.fixture(autouse=True)
def _as_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_allowance", Allowance())


@pytest.fixture
def auditor(app: Flask, client: FlaskClient) -> FlaskClient:
    with app.app_context():
        sign_in(client, make_user("audrey", pages=["audit"]))
    return client


def note(
    number: int, action: Action = Action.CHANGED, *, actor: User | None = None, **changes: object
) -> None:
    with transaction():
        record(
            action,
            actor=actor,
            object_type="workorder",
            object_id=number,
            object_name=f"site{number}",
            **changes,
        )


def test_the_page_shows_who_did_what_with_before_and_after(app: Flask, auditor: FlaskClient) -> None:
    with app.app_context():
        client_address.set("192.0.2.9")
        note(1, actor=root(), before={"main_task": "echo <a>"}, after={"main_task": "echo <b>"})
        client_address.set("")
    page = auditor.get("/audit/events")
    text = said(page)
    assert "root" in text
    assert "work order site1" in text
    assert "echo <a> became → echo <b>" in text
    assert "192.0.2.9" in text
    assert 'href="/config/workorders/1"' in page.text
    assert "Not verified yet" in text


def test_every_action_and_object_has_a_name() -> None:
    assert set(labels.ACTIONS) == set(Action)
    with pytest.raises(KeyError):
        labels.ACTIONS["nothing"]
    assert str(labels.action_label("of.tomorrow")) == "of.tomorrow"
    assert str(labels.object_label("new_thing")) == "new thing"


def test_the_objects_of_all_events_have_names(app: Flask) -> None:
    from skstack.catalog.kinds import KINDS

    assert {kind.type for kind in KINDS} <= set(labels.OBJECTS)


def test_filters_stand_in_the_address(app: Flask, auditor: FlaskClient) -> None:
    with app.app_context():
        note(1, actor=root(), reason="Größe 100%")
        note(2, Action.DELETED, actor=alice(), before={"name": "site2"})
        note(3)
        tamper("UPDATE audit_events SET at = '2026-01-15 12:00:00.000000' WHERE object_name = 'site3'")
    for address, found in (
        ("q=größe+100%25", {"site1"}),
        ("q=site_", set()),
        ("actor=alice", {"site2"}),
        ("actor=-&object=workorder", {"site3"}),
        ("action=deleted", {"site2"}),
        ("object=workorder&id=3", {"site3"}),
        ("object=workorder", {"site1", "site2", "site3"}),
        ("from=2026-01-15&to=2026-01-15", {"site3"}),
        ("to=2026-01-14", set()),
        ("from=yesterday&id=x&object=workorder", {"site1", "site2", "site3"}),
    ):
        text = said(auditor.get(f"/audit/events?{address}"))
        assert {name for name in ("site1", "site2", "site3") if f"work order {name}" in text} == found, (
            address
        )
    assert "No event fits these filters." in said(auditor.get("/audit/events?q=nowhere"))


def test_pages_follow_each_other_by_number(app: Flask, auditor: FlaskClient) -> None:
    with app.app_context():
        for number in range(1, 8):
            note(number)
    seen: list[str] = []
    address = "/audit/events?object=workorder&limit=3"
    for _ in range(3):
        page = auditor.get(address)
        seen += re.findall(r">(site\d)</a>", page.text)
        if 'rel="next"' not in page.text:
            break
        address = page.text.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
    assert seen == [f"site{n}" for n in range(7, 0, -1)]


def test_a_search_looks_through_a_bounded_part_and_goes_on(
    context: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "SPAN", 4)
    for number in range(1, 11):
        note(number)
    found, after, pages = [], None, 0
    while True:
        page = queries.events(Filters(text="site2"), after=after, limit=50)
        found += [event.object_name for event in page.items]
        pages, after = pages + 1, page.next
        if after is None:
            break
    assert (found, pages) == (["site2"], 3)
    assert [event.object_name for event in queries.export(Filters(text="site2"))] == ["site2"]


def test_one_event_shows_all_of_it(app: Flask, auditor: FlaskClient) -> None:
    with app.app_context():
        note(1, Action.DELETED, before={"name": "site1", "pages": ["a", "b"], "limit": 3})
        event = db.session.scalars(sa.select(AuditEvent).where(AuditEvent.object_name == "site1")).one()
        number, sealed = event.id, event.hash.hex()
    page = auditor.get(f"/audit/events/{number}")
    assert sealed in page.text
    assert "a, b" in said(page)
    assert 'href="/config/workorders/1"' not in page.text  # It is gone.
    assert auditor.get("/audit/events/99999").status_code == 404


def test_secrets_are_masked(app: Flask, auditor: FlaskClient) -> None:
    with app.app_context():
        make_config_center("far", login="password", password="hunter2hunter2")
    text = said(auditor.get("/audit/events?object=config_center"))
    assert MASK in text
    assert "hunter2" not in text


def test_the_export_streams_what_the_filters_give(app: Flask, auditor: FlaskClient) -> None:
    with app.app_context():
        note(1, after={"a": "=1+1"})
        note(2)
    answer = auditor.get("/audit/events/export.csv?object=workorder")
    rows = list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))
    assert [row["object_name"] for row in rows] == ["site2", "site1"]
    assert json.loads(rows[1]["changes"]) == {"after": {"a": "=1+1"}}
    exported = json.loads(auditor.get("/audit/events/export.json?object=workorder").text)
    assert [item["object"]["id"] for item in exported["items"]] == [2, 1]
    with app.app_context():
        told = db.session.scalars(sa.select(AuditEvent).where(AuditEvent.action == "audit.exported")).all()
        assert [event.changes["format"] for event in told] == ["csv", "json"]
    assert auditor.get("/audit/events/export.xml").status_code == 404


def test_a_spreadsheet_gets_no_formula(app: Flask, auditor: FlaskClient) -> None:
    with app.app_context(), transaction():
        record(Action.CREATED, actor=None, object_type="workorder", object_name="=HYPERLINK(1)")
    assert "'=HYPERLINK(1)" in auditor.get("/audit/events/export.csv").text


def test_the_api_gives_the_same(app: Flask, client: FlaskClient) -> None:
    with app.app_context():
        note(1, actor=root(), before={"x": 1}, after={"x": 2})
        note(2)
        headers, others = bearer(make_user("audrey", pages=["audit"])), bearer(alice())
    answer = client.get("/api/v1/audit/events?object_type=workorder&limit=1", headers=headers).json
    assert answer["items"][0]["object"] == {"type": "workorder", "id": 2, "name": "site2"}
    following = client.get(
        f"/api/v1/audit/events?object_type=workorder&after={answer['next']}", headers=headers
    ).json
    [event] = following["items"]
    assert (event["actor"], event["changes"]) == ("root", {"before": {"x": 1}, "after": {"x": 2}})
    assert event["at"].endswith("Z")
    assert len(event["hash"]) == len(event["previous"]) == 64
    assert following["next"] is None
    assert client.get("/api/v1/audit/events?from=x", headers=headers).status_code == 422
    assert client.get("/api/v1/audit/events?colour=red", headers=headers).status_code == 422
    assert client.get("/api/v1/audit/events", headers=others).status_code == 403


def test_others_do_not_see_it(app: Flask, client: FlaskClient) -> None:
    assert client.get("/audit/events").status_code == 303
    with app.app_context():
        sign_in(client, alice())
    for path in ("/audit/events", "/audit/events/1", "/audit/events/state", "/audit/events/export.csv"):
        assert client.get(path).status_code == 403
    assert client.post("/audit/events/verify").status_code == 403


def test_the_page_lets_a_worker_verify_and_shows_the_result(
    app: Flask, auditor: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[int] = []
    monkeypatch.setattr(checks.queue, "ring", lambda name, number: rung.append(number))
    with app.app_context():
        make_ticket(alice())
    assert auditor.post("/audit/events/verify").status_code == 303
    page = auditor.get("/audit/events")
    assert 'hx-trigger="every 2s"' in page.text
    assert "Verify now" not in page.text
    with app.app_context():
        checks.verify_on(rung[-1])
    state = auditor.get("/audit/events/state")
    assert "The audit trail holds" in said(state)
    assert "Tickets: 1, runs: 1, stored outputs: 0." in said(state)
    assert "hx-trigger" not in state.text
    with app.app_context():
        tamper("UPDATE audit_events SET actor = 'x' WHERE id = 2")
        auditor.post("/audit/events/verify")
        checks.verify_on(rung[-1])
    assert "Event 2 was changed" in said(auditor.get("/audit/events/state"))


def test_a_lost_verification_is_rung_for_again(context: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[int] = []
    monkeypatch.setattr(checks.queue, "ring", lambda name, number: rung.append(number))
    check = checks.begin(actor=root())
    checks.sweep()
    assert rung == [check.id]
    with transaction():
        db.session.execute(sa.update(AuditCheck).values(seen_at=check.seen_at - 2 * checks.LOST))
    db.session.expire_all()
    checks.sweep()
    assert rung == [check.id] * 2


def refused() -> list[AuditEvent]:
    actions = ("request.refused", "ticket.submission_refused", "session.sign_in_refused")
    statement = sa.select(AuditEvent).where(AuditEvent.action.in_(actions)).order_by(AuditEvent.id)
    return list(db.session.scalars(statement))


def test_who_was_not_allowed_what_is_an_event(app: Flask, client: FlaskClient) -> None:
    with app.app_context():
        sign_in(client, mallory())
    client.post("/accounts/roles/new", data={"name": "x"})
    with app.app_context():
        [event] = refused()
        assert (event.actor, event.object_name) == ("mallory", "POST /accounts/roles/new")
        assert event.address == "127.0.0.1"
        assert "Your roles do not include this page" in event.changes["reason"]


def test_nobody_floods_the_trail_with_refusals(app: Flask, client: FlaskClient) -> None:
    with app.app_context():
        sign_in(client, mallory())
    for _ in range(refusals.MOST + 5):
        assert client.get("/accounts/users").status_code == 403
    with app.app_context():
        assert len(refused()) == refusals.MOST


def test_how_many_were_left_out_is_told_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    allowance = Allowance(most=2, every=60)
    assert [allowance.take("a") for _ in range(5)] == [0, 0, None, None, None]
    assert allowance.take("b") == 0
    now += 60
    assert [allowance.take("a") for _ in range(2)] == [3, 0]


def test_a_refused_submission_is_an_event(context: Flask) -> None:
    workorder = make_workorder("locked", task_lock=True)
    make_ticket(alice(), workorder)
    with pytest.raises(Conflict):
        submit(actor=alice(), workorder=workorder, values={})
    [event] = refused()
    assert (event.action, event.object_name, event.actor) == ("ticket.submission_refused", "locked", "alice")


def test_a_sign_in_beyond_the_limit_is_an_event(app: Flask, client: FlaskClient) -> None:
    app.config["WTF_CSRF_ENABLED"] = False
    with app.app_context():
        alice()
    for _ in range(12):
        answer = client.post("/sign-in", data={"username": "alice", "password": "wrong"})
    assert answer.status_code == 429
    with app.app_context():
        assert [event.object_name for event in refused()] == ["alice", "alice"]


def test_a_refusal_is_not_lost_over_a_database_that_does_not_answer(
    context: Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object, **more: object) -> None:
        raise sa.exc.OperationalError("INSERT", None, Exception("locked"))

    monkeypatch.setattr(refusals, "record", fail)
    refusals.note(Action.REFUSED, actor=None, key="x", object_type="request", reason=N_("No."))
    assert "a refusal was not recorded" in caplog.text
