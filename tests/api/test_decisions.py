"""Deciding over JSON: the ticket that comes back, and what is refused with which status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from skstack.db import transaction
from skstack.extensions import db
from skstack.tickets.models import Ticket
from tests.api.conftest import Caller
from tests.factories import MEMBER, alice, bob, carol, mallory, root
from tests.fake_runner import run_of
from tests.orders import make_flow, make_ticket, make_workorder

pytestmark = pytest.mark.both_databases


@pytest.fixture
def ticket(app: Flask) -> int:
    """Return a ticket of Alice's that waits for Bob's group, and then for Carol's."""
    with app.app_context():
        bob(), carol(), mallory(), root()
        order = make_workorder(approval_flow=make_flow("leads", "directors"))
        return make_ticket(alice(), order, note="please").id


def test_levels_are_decided_and_the_ticket_started(call: Callable[..., Caller], ticket: int) -> None:
    path = f"/tickets/{ticket}"
    first = call(bob).get(path).json
    assert (first["waiting_for"], first["actions"]) == ({"level": 1, "group": "leads"}, ["approve", "reject"])
    assert call(alice).get(path).json["actions"] == ["revoke"]

    answer = call(bob).post(f"{path}/approve", json={"comment": "fine"})
    assert answer.status_code == 200
    assert (answer.json["status"], answer.json["status_code"]) == ("l1_approved", 1)
    assert answer.json["waiting_for"] == {"level": 2, "group": "directors"}
    [decision] = answer.json["decisions"]
    assert decision.pop("at").endswith("Z")
    assert decision == {"level": 1, "decision": "approved", "by": "bob", "comment": "fine"}

    answer = call(carol).post(f"{path}/approve")
    assert (answer.json["status"], answer.json["waiting_for"]) == ("l2_approved", None)
    assert call(alice).get(path).json["actions"] == ["execute", "revoke"]
    answer = call(alice).post(f"{path}/execute", json={})
    assert (answer.status_code, answer.json["status"]) == (200, "running")
    assert [run["task"] for run in answer.json["runs"]] == ["main"]


def test_what_waits_for_me_is_a_list_of_its_own(call: Callable[..., Caller], ticket: int) -> None:
    path = "/tickets?scope=approvals"
    assert [one["id"] for one in call(bob).get(path).json["items"]] == [ticket]
    assert call(carol).get(path).json["items"] == []
    call(bob).post(f"/tickets/{ticket}/approve")
    assert call(bob).get(path).json["items"] == []
    assert [one["id"] for one in call(carol).get(path).json["items"]] == [ticket]


@pytest.mark.parametrize(
    ("verb", "body", "field"),
    [
        ("reject", {}, "comment"),
        ("reject", {"comment": " \n"}, "comment"),
        ("reject", {"comment": "x" * 4001}, "comment"),
        ("approve", {"comment": "a\x1b[31m"}, "comment"),
        ("approve", {"comment": 7}, "comment"),
        ("approve", {"level": 4}, "level"),
        ("approve", {"level": "1"}, "level"),
        ("approve", {"remark": "x"}, "remark"),
    ],
)
def test_what_is_wrong_is_told_at_its_field(
    call: Callable[..., Caller], ticket: int, verb: str, body: dict[str, Any], field: str
) -> None:
    answer = call(bob).post(f"/tickets/{ticket}/{verb}", json=body)
    assert answer.status_code == 422
    assert list(answer.json["errors"]) == [field]
    assert call(bob).get(f"/tickets/{ticket}").json["decisions"] == []


@pytest.mark.parametrize(
    ("who", "status"), [(alice, 403), (carol, 403), (root, 403), (mallory, 403), (None, 401)]
)
def test_who_may_not_decide_it_is_refused(
    call: Callable[..., Caller], client: Any, ticket: int, who: Any, status: int
) -> None:
    for verb in ("approve", "reject"):
        path, body = f"/tickets/{ticket}/{verb}", {"comment": "no"}
        answer = call(who).post(path, json=body) if who else client.post(f"/api/v1{path}", json=body)
        assert answer.status_code == status


def test_a_decision_upon_another_level_than_was_seen_is_stale(
    call: Callable[..., Caller], ticket: int
) -> None:
    call(bob).post(f"/tickets/{ticket}/approve", json={"level": 1})
    answer = call(carol).post(f"/tickets/{ticket}/approve", json={"level": 1})
    assert (answer.status_code, answer.json["ticket"]) == (409, ticket)
    assert "already approved at level 1 by bob" in answer.json["detail"]


def test_after_the_end_everything_is_stale(call: Callable[..., Caller], ticket: int) -> None:
    assert call(bob).post(f"/tickets/{ticket}/reject", json={"comment": "no"}).json["status"] == "l1_rejected"
    for who, verb in ((bob, "approve"), (bob, "reject"), (alice, "execute"), (alice, "revoke")):
        body = {"comment": "x"} if verb in ("approve", "reject") else {}
        assert call(who).post(f"/tickets/{ticket}/{verb}", json=body).status_code == 409


def test_who_decides_sees_the_ticket_its_run_and_its_log_and_nobody_else(
    app: Flask, call: Callable[..., Caller]
) -> None:
    with app.app_context():
        bob(), mallory()
        order = make_workorder(pre_task="check", approval_flow=make_flow("leads"))
        ticket = make_ticket(alice(), order)
        number, run = ticket.id, run_of(ticket, "pre").id
    for path in (f"/tickets/{number}", f"/runs/{run}", f"/runs/{run}/log"):
        assert call(bob).get(path).status_code == 200, path
        assert call(mallory).get(path).status_code == 404, path


def test_a_member_without_the_page_does_not_decide(
    app: Flask, call: Callable[..., Caller], ticket: int
) -> None:
    with app.app_context(), transaction():
        [role] = bob().roles
        role.pages = [str(page) for page in MEMBER]
    assert call(bob).post(f"/tickets/{ticket}/approve").status_code == 403
    assert call(bob).get(f"/tickets/{ticket}").json["actions"] == []


def test_the_page_of_a_revoked_ticket_has_nothing_to_decide(
    app: Flask, call: Callable[..., Caller], ticket: int
) -> None:
    assert call(alice).post(f"/tickets/{ticket}/revoke").json["status_code"] == 9
    with app.app_context():
        assert db.session.get_one(Ticket, ticket).next_level is None
    assert call(bob).get(f"/tickets/{ticket}").json["actions"] == []
