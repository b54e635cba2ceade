"""`POST /workorders/ID/tickets`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from skstack.catalog.services import set_active
from skstack.db import db
from skstack.runs.models import Run
from skstack.tickets.models import Ticket
from tests.api.conftest import Caller
from tests.factories import alice, bob, carol, mallory, root
from tests.orders import list_variable, make_category, make_variable, make_workorder

pytestmark = pytest.mark.both_databases


@pytest.fixture
def order(app: Flask) -> int:
    """Give a work order with typed, chosen, several and secret fields."""
    with app.app_context():
        alice()
        make_category("DeployGit")
        return make_workorder(
            "site",
            category="DeployGit",
            variables=[
                make_variable("Reason", required=True, allow_leading_dash=True),
                list_variable("Mode", "update", "restart"),
                list_variable("Hosts", "h1", "h2", widget="multiselect"),
                make_variable("Text", widget="textarea", allow_leading_dash=True),
                make_variable("Password", secret=True),
            ],
            pre_task="check {Mode}",
            main_task="deploy -r {Reason} {Mode}\nreport {Hosts}",
            post_task="tidy {Text}",
        ).id


def test_a_submission_is_answered_with_the_ticket(
    app: Flask, call: Callable[..., Caller], order: int
) -> None:
    values = {"Reason": "because", "Mode": "update", "Hosts": ["h1", "h2"], "Password": "s3cret"}
    response = call(alice).post(f"/workorders/{order}/tickets", {"values": values, "note": "please"})
    assert response.status_code == 201
    ticket = response.json
    assert response.headers["Location"] == f"/api/v1/tickets/{ticket['id']}"
    run = ticket["runs"][0]
    assert ticket == {
        "id": ticket["id"],
        "workorder": {"id": order, "name": "site"},
        "environment": "DEV",
        "category": "DeployGit",
        "submitter": "alice",
        "kind": "foreground",
        "status": "running",
        "status_code": 10,
        "job_status": None,
        "values": {
            "Reason": "because",
            "Mode": "update",
            "Hosts": ["h1", "h2"],
            "Text": "",
            "Password": None,
        },
        "note": "please",
        "scheduled_at": None,
        "auto_run": False,
        "created_at": ticket["created_at"],
        "finished_at": None,
        "decisions": [],
        "waiting_for": None,
        "plan": [
            {"task": "pre", "line": "check update", "target": "local"},
            {"task": "main", "line": "deploy -r because update", "target": "local"},
            {"task": "main", "line": "report h1,h2", "target": "local"},
            {"task": "post", "line": "tidy ''", "target": "local"},
        ],
        "runs": [
            {
                "id": run["id"],
                "task": "pre",
                "state": "queued",
                "exit_code": None,
                "queued_at": run["queued_at"],
                "started_at": None,
                "finished_at": None,
            }
        ],
        "actions": ["stop"],
    }
    assert ticket["created_at"].endswith("Z")
    assert call(alice).get(f"/tickets/{ticket['id']}").json == ticket


def test_numbers_become_text_as_they_are_written(call: Callable[..., Caller], order: int) -> None:
    body = '{"values": {"Reason": 1.10, "Hosts": ["h1"], "Text": -9007199254740993000}}'
    response = call(alice).post(f"/workorders/{order}/tickets", data=body, content_type="application/json")
    assert response.status_code == 201
    assert response.json["values"]["Reason"] == "1.10"
    assert response.json["values"]["Text"] == "-9007199254740993000"


def test_null_is_nothing_given(call: Callable[..., Caller], order: int) -> None:
    response = call(alice).post(
        f"/workorders/{order}/tickets", {"values": {"Reason": "x", "Mode": None, "Hosts": None}}
    )
    assert response.status_code == 201
    assert response.json["values"] == {"Reason": "x", "Mode": "", "Hosts": [], "Text": "", "Password": None}


def test_the_values_of_a_ticket_can_be_submitted_again(call: Callable[..., Caller], order: int) -> None:
    given = {"values": {"Reason": "x", "Hosts": ["h2"]}}
    first = call(alice).post(f"/workorders/{order}/tickets", given).json
    again = call(alice).post(
        f"/workorders/{order}/tickets", {"values": first["values"], "note": first["note"]}
    )
    assert again.status_code == 201
    assert again.json["values"] == first["values"]


WRONG: dict[str, tuple[Any, set[str]]] = {
    "nothing that is required": ({}, {"Reason"}),
    "a field that the form does not have": ({"values": {"Reason": "x", "Other": "y"}}, {"Other"}),
    "several fields": (
        {"values": {"Mode": "destroy", "Hosts": ["h3"], "Password": "\0"}},
        {"Reason", "Mode", "Hosts", "Password"},
    ),
    "an object as value": ({"values": {"Reason": {"a": 1}}}, {"Reason"}),
    "a boolean as value": ({"values": {"Reason": True}}, {"Reason"}),
    "null in a list": ({"values": {"Reason": "x", "Hosts": [None]}}, {"Hosts"}),
    "a list in a list": ({"values": {"Reason": "x", "Hosts": [["h1"]]}}, {"Hosts"}),
    "a list where one text belongs": ({"values": {"Reason": ["x"]}}, {"Reason"}),
    "a control character": ({"values": {"Reason": "\x1b[31m"}}, {"Reason"}),
    "a lone surrogate": ({"values": {"Reason": "\ud800"}}, {"Reason"}),
    "a lone surrogate as name": ({"values": {"Reason": "x", "\ud800": "y"}}, {"\ud800"}),
    "a text that is too long": ({"values": {"Reason": "x" * 40_000}}, {"Reason"}),
    "values that are no object": ({"values": ["x"]}, {"values"}),
    "a key that is not known": ({"values": {"Reason": "x"}, "notes": "x"}, {"notes"}),
    "a note that is no text": ({"values": {"Reason": "x"}, "note": 5}, {"note"}),
    "a note with a NUL": ({"values": {"Reason": "x"}, "note": "\0"}, {"note"}),
    "a note that is too long": ({"values": {"Reason": "x"}, "note": "x" * 5000}, {"note"}),
    "a planned time": ({"values": {"Reason": "x"}, "scheduled_at": "2027-01-01T00:00:00Z"}, {"scheduled_at"}),
    "the background": ({"values": {"Reason": "x"}, "background": True}, {"background"}),
    "running by itself": ({"values": {"Reason": "x"}, "auto_run": True}, {"auto_run"}),
    "zero for no": ({"values": {"Reason": "x"}, "auto_run": 0}, {"auto_run"}),
    "a list as body": ([], {""}),
    "a text as body": ("x", {""}),
}


def test_what_is_wrong_is_said_at_its_field_and_nothing_is_made(
    app: Flask, call: Callable[..., Caller], order: int, subtests: pytest.Subtests
) -> None:
    for name, (body, fields) in WRONG.items():
        with subtests.test(name):
            response = call(alice).post(f"/workorders/{order}/tickets", body)
            assert response.status_code == 422
            assert set(response.json["errors"]) == fields
            assert all(messages and all(messages) for messages in response.json["errors"].values())
    with app.app_context():
        assert db.session.scalar(sa.select(sa.func.count()).select_from(Ticket)) == 0
        assert db.session.scalar(sa.select(sa.func.count()).select_from(Run)) == 0


def test_what_later_versions_take_may_be_said_in_its_neutral_form(
    call: Callable[..., Caller], order: int
) -> None:
    neutral = {"values": {"Reason": "x"}, "scheduled_at": None, "background": False, "auto_run": False}
    assert call(alice).post(f"/workorders/{order}/tickets", neutral).status_code == 201


UNREADABLE = [
    b"",
    b"{",
    b'{"values": {}} x',
    b"\xff\xfe",
    b'{"note": "\xff"}',
    b'{"note": NaN}',
    b'{"note": Infinity}',
    b'{"note": "a", "note": "b"}',
    b'{"values": ' + b"[" * 100_000,
    b'{"values": {"Reason": ' + b"9" * 10_000 + b"}",
    b'{"note": "\x00"}',
]


def test_a_body_that_is_no_json_is_refused(
    call: Callable[..., Caller], order: int, subtests: pytest.Subtests
) -> None:
    for body in UNREADABLE:
        with subtests.test(repr(body[:25])):
            response = call(alice).post(
                f"/workorders/{order}/tickets", data=body, content_type="application/json"
            )
            assert response.status_code == 400
            assert "JSON" in response.json["detail"]


def test_a_body_of_another_kind_is_refused(call: Callable[..., Caller], order: int) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        response = call(alice).post(f"/workorders/{order}/tickets", data='{"values": {}}', content_type=kind)
        assert response.status_code == 415, kind


def test_a_body_that_is_too_large_is_refused(call: Callable[..., Caller], order: int) -> None:
    body = json.dumps({"note": "x" * (5 << 20)})
    response = call(alice).post(f"/workorders/{order}/tickets", data=body, content_type="application/json")
    assert response.status_code == 413


def test_the_same_key_gives_the_same_ticket(app: Flask, call: Callable[..., Caller], order: int) -> None:
    body, key = {"values": {"Reason": "x"}}, {"Idempotency-Key": "k-1"}
    answers = [call(alice).post(f"/workorders/{order}/tickets", body, headers=key) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert answers[0].json == answers[1].json == answers[2].json
    with app.app_context():
        assert db.session.scalar(sa.select(sa.func.count()).select_from(Ticket)) == 1


def test_the_same_key_with_other_content_is_a_conflict(call: Callable[..., Caller], order: int) -> None:
    key = {"Idempotency-Key": "k-1"}
    first = call(alice).post(f"/workorders/{order}/tickets", {"values": {"Reason": "x"}}, headers=key)
    other = call(alice).post(f"/workorders/{order}/tickets", {"values": {"Reason": "y"}}, headers=key)
    assert other.status_code == 409
    assert other.json["ticket"] == first.json["id"]


def test_a_key_belongs_to_one_person(call: Callable[..., Caller], order: int) -> None:
    body, key = {"values": {"Reason": "x"}}, {"Idempotency-Key": "k-1"}
    first = call(alice).post(f"/workorders/{order}/tickets", body, headers=key)
    other = call(root).post(f"/workorders/{order}/tickets", body, headers=key)
    assert other.status_code == 201
    assert other.json["id"] != first.json["id"]


def test_a_key_that_cannot_be_kept_is_refused(call: Callable[..., Caller], order: int) -> None:
    for key in ("", "x" * 129, "a\tb"):
        response = call(alice).post(
            f"/workorders/{order}/tickets", {"values": {"Reason": "x"}}, headers={"Idempotency-Key": key}
        )
        assert response.status_code == 422, key
        assert "idempotency_key" in response.json["errors"]


def test_outsiders_do_not_learn_that_a_work_order_exists(call: Callable[..., Caller], order: int) -> None:
    body = {"values": {"Reason": "x"}}
    assert call().post(f"/workorders/{order}/tickets", body).status_code == 401
    for who in (mallory, bob, carol):
        assert call(who).post(f"/workorders/{order}/tickets", body).status_code == 404
    assert call(alice).post(f"/workorders/{order + 1}/tickets", body).status_code == 404


def test_an_inactive_work_order_is_not_there(app: Flask, call: Callable[..., Caller], order: int) -> None:
    from skstack.catalog.models import WorkOrder

    with app.app_context():
        set_active(db.session.get_one(WorkOrder, order), False, actor=None)
    assert call(alice).post(f"/workorders/{order}/tickets", {"values": {"Reason": "x"}}).status_code == 404


def test_an_id_that_cannot_be_is_not_found(call: Callable[..., Caller], order: int) -> None:
    for number in ("0", "2147483648", str(2**63), "9" * 5000, "-1", "1.5", "x"):
        response = call(alice).post(f"/workorders/{number}/tickets", {"values": {}})
        assert response.status_code == 404, number


def test_one_at_a_time_names_the_ticket_in_the_way(app: Flask, call: Callable[..., Caller]) -> None:
    with app.app_context():
        alice()
        order = make_workorder(allow_several=False).id
    first = call(alice).post(f"/workorders/{order}/tickets", {})
    second = call(alice).post(f"/workorders/{order}/tickets", {})
    assert (first.status_code, second.status_code) == (201, 409)
    assert second.json["ticket"] == first.json["id"]


def test_a_submission_needs_few_statements(app: Flask, call: Callable[..., Caller], order: int) -> None:
    body = {"values": {"Reason": "x", "Mode": "update"}}
    call(alice).post(f"/workorders/{order}/tickets", body)
    with app.app_context():
        engine = db.engine
    statements: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    response = call(alice).post(f"/workorders/{order}/tickets", body, headers={"Idempotency-Key": "counted"})
    assert response.status_code == 201
    needed = [statement.replace("\n", " ")[:140] for statement in statements if "BEGIN" not in statement]
    # Token and user; work order, its variables; the key; the version; ticket, change, what it is found by, run; the trail's
    # end, event, its end.
    assert len(needed) <= 12, "\n".join(needed)
