"""Submitting for later, `POST /tickets/ID/execute` and `/revoke`: what waits, and what ends the waiting."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from skstack.accounts.models import Page, User
from skstack.approvals.services import approve
from skstack.db import db, transaction, utcnow
from skstack.tickets.models import BreakGlass, Ticket
from tests.api.conftest import Caller
from tests.factories import alice, bob, make_group, make_user, mallory, root
from tests.orders import make_flow, make_freeze, make_workorder

pytestmark = pytest.mark.both_databases
HOUR = dt.timedelta(hours=1)
Call = Callable[..., Caller]


@pytest.fixture
def order(app: Flask) -> int:
    """Give a work order with every option and no approval."""
    with app.app_context():
        alice(), bob()
        return make_workorder(scheduling=True, background_choice=True, auto_run_choice=True).id


@pytest.fixture
def approved_order(app: Flask) -> int:
    """Give one that the leads approve."""
    with app.app_context():
        alice(), bob()
        return make_workorder(approval_flow=make_flow("leads"), auto_run_choice=True).id


def submit(call: Call, order: int, who: Callable[[], User] = alice, **body: Any) -> dict[str, Any]:
    response = call(who).post(f"/workorders/{order}/tickets", body)
    assert response.status_code == 201, response.text
    return dict(response.json)


def approve_by_bob(app: Flask, number: int) -> None:
    with app.app_context():
        approve(db.session.get_one(Ticket, number), actor=bob())


def in_an_hour() -> str:
    return (utcnow() + HOUR).replace(microsecond=0).isoformat().replace("+00:00", "Z")


def freeze(app: Flask) -> None:
    with app.app_context():
        make_freeze(starts_at=utcnow() - HOUR, ends_at=utcnow() + HOUR)


@pytest.mark.parametrize("zone", ["+00:00", "+08:00", "-04:30"])
def test_a_planned_time_waits_in_the_background(call: Call, order: int, zone: str) -> None:
    moment = utcnow().replace(microsecond=0) + HOUR
    hours, minutes = int(zone[:3]), int(zone[0] + zone[4:])
    local = moment.astimezone(dt.timezone(dt.timedelta(hours=hours, minutes=minutes)))
    ticket = submit(call, order, scheduled_at=local.isoformat())
    assert dt.datetime.fromisoformat(ticket["scheduled_at"]) == moment
    assert ticket["scheduled_at"].endswith("Z")
    assert (ticket["kind"], ticket["status"], ticket["status_code"], ticket["job_status"]) == (
        *("background", "submitted", 0, "CREATED"),
    )
    assert ticket["actions"] == ["execute", "revoke"]
    assert call(alice).get("/tickets?kind=background").json["items"] == [ticket]


@pytest.mark.parametrize("option", ["background", "auto_run"])
def test_what_the_system_starts_is_queued_as_its_job(call: Call, order: int, option: str) -> None:
    ticket = submit(call, order, **{option: True})
    assert (ticket["kind"], ticket["status"], ticket["job_status"]) == ("background", "running", "WAITING")
    assert ticket["auto_run"] is (option == "auto_run")


def test_a_ticket_says_which_group_it_waits_for(app: Flask, call: Call, approved_order: int) -> None:
    ticket = submit(call, approved_order, auto_run=True)
    assert ticket["waiting_for"] == {"level": 1, "group": "leads"}
    assert ticket["actions"] == ["revoke"]
    approve_by_bob(app, ticket["id"])
    ticket = call(alice).get(f"/tickets/{ticket['id']}").json
    assert (ticket["waiting_for"], ticket["status"], ticket["job_status"]) == (None, "running", "WAITING")


WRONG = {
    "passed": ("2020-01-01T00:00:00Z", "This time has passed."),
    "too far": ("2099-01-01T00:00:00Z", "This is more than a year ahead."),
    "without a zone": ("2027-01-01T00:00:00", "This must be a time with its zone"),
    "a number": (1_800_000_000, "This must be a time with its zone"),
    "a day": ("2027-01-01", "This must be a time with its zone"),
}


@pytest.mark.parametrize("name", WRONG)
def test_other_times_are_refused(app: Flask, call: Call, order: int, name: str) -> None:
    given, message = WRONG[name]
    response = call(alice).post(f"/workorders/{order}/tickets", {"scheduled_at": given})
    assert response.status_code == 422
    assert list(response.json["errors"]) == ["scheduled_at"]
    assert response.json["errors"]["scheduled_at"][0].startswith(message)


@pytest.mark.parametrize(("option", "value"), [("background", 1), ("auto_run", "yes"), ("break_glass", None)])
def test_options_have_one_type(call: Call, order: int, option: str, value: object) -> None:
    response = call(alice).post(f"/workorders/{order}/tickets", {option: value})
    assert response.status_code == 422
    assert list(response.json["errors"]) == [option]


def test_the_same_key_with_another_time_is_another_request(call: Call, order: int) -> None:
    path, key = f"/workorders/{order}/tickets", {"Idempotency-Key": "nightly"}
    body = {"scheduled_at": in_an_hour()}
    first = call(alice).post(path, body, headers=key)
    assert call(alice).post(path, body, headers=key).json["id"] == first.json["id"]
    assert call(alice).post(path, {**body, "background": True}, headers=key).status_code == 409
    assert call(alice).post(path, {}, headers=key).status_code == 409


def test_a_lock_names_the_ticket_in_the_way(app: Flask, call: Call) -> None:
    with app.app_context():
        alice()
        locked = make_workorder(task_lock=True, scheduling=True).id
    holder = submit(call, locked, scheduled_at=in_an_hour())["id"]
    response = call(alice).post(f"/workorders/{locked}/tickets", {})
    assert (response.status_code, response.json["ticket"]) == (409, holder)
    assert call(alice).post(f"/tickets/{holder}/revoke").status_code == 200
    submit(call, locked)


# ── Execute ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_approved_ticket_is_started(app: Flask, call: Call, approved_order: int) -> None:
    number = submit(call, approved_order)["id"]
    waits = call(alice).post(f"/tickets/{number}/execute")
    assert (waits.status_code, waits.json["ticket"]) == (409, number)
    assert "waits for leads" in waits.json["detail"]
    approve_by_bob(app, number)
    started = call(alice).post(f"/tickets/{number}/execute")
    assert started.status_code == 200
    assert (started.json["status"], started.json["status_code"]) == ("running", 10)
    assert [run["task"] for run in started.json["runs"]] == ["main"]
    assert started.json["actions"] == ["stop"]
    assert call(alice).post(f"/tickets/{number}/execute").status_code == 409


def test_a_planned_one_started_early_is_in_the_foreground(call: Call, order: int) -> None:
    number = submit(call, order, scheduled_at=in_an_hour())["id"]
    ticket = call(alice).post(f"/tickets/{number}/execute", {}).json
    assert (ticket["kind"], ticket["status"], ticket["job_status"]) == ("foreground", "running", "REVOKED")


def test_a_freeze_refuses_the_start_unless_a_superuser_says_why(app: Flask, call: Call, order: int) -> None:
    number = submit(call, order, scheduled_at=in_an_hour())["id"]
    freeze(app)
    path = f"/tickets/{number}/execute"
    for who, body in ((alice, {}), (alice, {"break_glass": "please"})):
        refused = call(who).post(path, body)
        assert refused.status_code == 409
        assert "DEV is frozen until" in refused.json["detail"]
        assert dt.datetime.fromisoformat(refused.json["frozen_until"]) > utcnow()
    assert call(root).post(path, {}).status_code == 422
    assert call(root).post(path, {"break_glass": "the site is down"}).json["status"] == "running"
    assert call(root).post(f"/workorders/{order}/tickets", {}).status_code == 409
    submit(call, order, root, break_glass="and the other one")
    with app.app_context():
        reasons = db.session.scalars(sa.select(BreakGlass.reason).order_by(BreakGlass.id)).all()
    assert reasons == ["the site is down", "and the other one"]


# ── Revoke ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_waits_is_revoked_once(call: Call, order: int) -> None:
    number = submit(call, order, scheduled_at=in_an_hour())["id"]
    ticket = call(alice).post(f"/tickets/{number}/revoke").json
    assert (ticket["status"], ticket["status_code"], ticket["job_status"]) == ("revoked", 9, "REVOKED")
    assert ticket["finished_at"]
    assert ticket["actions"] == ["submit_again"]
    again = call(alice).post(f"/tickets/{number}/revoke")
    assert (again.status_code, again.json["detail"]) == (409, f"Ticket {number} is Revoked now.")


def test_what_runs_is_stopped_and_not_revoked(call: Call, order: int) -> None:
    number = submit(call, order)["id"]
    assert call(alice).post(f"/tickets/{number}/revoke").status_code == 409
    assert call(alice).get(f"/tickets/{number}").json["status"] == "running"


# ── Who may ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("action", ["execute", "revoke"])
def test_only_the_submitter_and_superusers_may(app: Flask, call: Call, order: int, action: str) -> None:
    number = submit(call, order, scheduled_at=in_an_hour())["id"]
    path = f"/tickets/{number}/{action}"

    def olga() -> User:
        return make_user("olga", pages=[Page.AUDIT, Page.EXECUTE])

    def otto() -> User:
        return make_user("otto", pages=[Page.AUDIT])

    assert call().post(path).status_code == 401
    assert call(mallory).post(path).status_code == 404
    assert call(olga).post(path).status_code == 403
    assert call(otto).post(path).status_code == 403
    assert call(alice).get(path).status_code in (404, 405)
    assert call(alice).get(f"/tickets/{number}").json["status"] == "submitted"
    assert call(root).post(path).status_code == 200


def test_starting_needs_the_execute_page_and_revoking_does_not(app: Flask, call: Call, order: int) -> None:
    def sven() -> User:
        return make_user("sven", groups=[make_group("ops")], pages=[Page.SUBMIT])

    ticket = submit(call, order, sven, scheduled_at=in_an_hour())
    assert ticket["actions"] == ["revoke"]
    assert call(sven).post(f"/tickets/{ticket['id']}/execute").status_code == 403
    assert call(sven).post(f"/tickets/{ticket['id']}/revoke").status_code == 200


def test_who_may_no_longer_submit_it_can_still_revoke_it(app: Flask, call: Call, order: int) -> None:
    number = submit(call, order, scheduled_at=in_an_hour())["id"]
    with app.app_context(), transaction():
        alice().groups = []
    assert call(alice).post(f"/tickets/{number}/revoke").json["actions"] == []
