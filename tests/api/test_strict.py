"""Whatever is sent, the answer is one of ours: never a 500, and always what the document says."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.conftest import Caller
from tests.factories import alice
from tests.fake_runner import begin, run_of
from tests.orders import list_variable, make_ticket, make_variable, make_workorder

pytestmark = pytest.mark.both_databases

_TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["\0", "\ud800", "a\r\nb", "-rf", "'", "{Reason}", "%s", "update", "1e400", "٣", "x" * 70_000]
    ),
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=6,
)
_NAMES = st.sampled_from(["values", "note", "scheduled_at", "background", "auto_run", "Reason", "other"])
_FIELDS = st.dictionaries(
    st.sampled_from(["Reason", "Mode", "Hosts", "Password"]) | _TEXTS, _JSON, max_size=4
)
_BODIES = st.one_of(
    _JSON, st.dictionaries(_NAMES, _JSON, max_size=4), st.fixed_dictionaries({"values": _FIELDS})
)
_QUERIES = st.dictionaries(
    st.sampled_from(
        [
            "limit",
            "after",
            "scope",
            "status",
            "environment",
            "category",
            "workorder",
            "submitter",
            "kind",
            "from",
            "to",
            "q",
            "offset",
            "wait",
        ]
    ),
    st.one_of(
        _TEXTS.filter(lambda text: len(text) < 1000),
        st.integers().map(str),
        st.floats().map(str),
        st.datetimes().map(lambda moment: moment.isoformat()),
        st.dates().map(str),
        st.sampled_from(["mine", "all", "approvals", "running", "foreground", "0.01"]),
    ),
    max_size=3,
)


@pytest.fixture
def place(app: Flask, call: Callable[..., Caller]) -> tuple[Caller, int, int]:
    """Give Alice's way to call, a work order and a run."""
    with app.app_context():
        alice()
        order = make_workorder(
            variables=[
                make_variable("Reason", pattern="(a+)+b|.*", max_length=1000),
                list_variable("Mode", "update", "restart"),
                list_variable("Hosts", "h1", "h2", widget="multiselect", one_argument_each=True),
                make_variable("Password", secret=True),
            ],
            main_task="probe {Reason} {Mode} {Hosts}",
        )
        run = begin(run_of(make_ticket(alice(), order)))
    return call(alice), order.id, run.id


_few = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_few
@given(body=_BODIES)
def test_any_json_is_answered(place: tuple[Caller, int, int], body: Any) -> None:
    caller, order, _ = place
    response = caller.post(
        f"/workorders/{order}/tickets", data=json.dumps(body), content_type="application/json"
    )
    assert response.status_code in (201, 400, 422)


@_few
@given(body=st.binary(max_size=40))
def test_any_bytes_are_answered(place: tuple[Caller, int, int], body: bytes) -> None:
    caller, order, _ = place
    response = caller.post(f"/workorders/{order}/tickets", data=body, content_type="application/json")
    assert response.status_code in (201, 400, 422)


@_few
@given(body=_JSON, action=st.sampled_from(["approve", "reject", "execute", "revoke", "stop"]))
def test_any_json_is_answered_by_what_is_done_to_a_ticket(
    place: tuple[Caller, int, int], body: Any, action: str
) -> None:
    caller, _, _ = place
    ticket = caller.get("/tickets").json["items"][0]["id"]
    response = caller.post(
        f"/tickets/{ticket}/{action}", data=json.dumps(body), content_type="application/json"
    )
    assert response.status_code in (200, 400, 403, 409, 422)


@_few
@given(
    query=_QUERIES, path=st.sampled_from(["tickets", "workorders", "runs/{run}/log", "workorders/{order}"])
)
def test_any_query_is_answered(place: tuple[Caller, int, int], query: dict[str, str], path: str) -> None:
    caller, order, run = place
    if path.endswith("log") and "wait" in query:
        query["wait"] = query["wait"].replace("9", "").replace("1", "0.")[:3]
    query = {name: text.encode("utf-8", "replace").decode() for name, text in query.items()}
    response = caller("GET", f"/{path.format(order=order, run=run)}", query_string=query)
    assert response.status_code in (200, 403, 422)


@_few
@given(key=st.text(st.characters(max_codepoint=255, blacklist_characters="\r\n"), max_size=140))
def test_any_idempotency_key_is_answered(place: tuple[Caller, int, int], key: str) -> None:
    caller, order, _ = place
    response = caller.post(f"/workorders/{order}/tickets", {}, headers={"Idempotency-Key": key})
    assert response.status_code in (201, 422)


def test_any_authorization_is_answered(app: Flask, call: Callable[..., Caller]) -> None:
    for given_header in (
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "Bearer \xff\xfe",
        "Bearer a b",
        "bearer " + "x" * 5000,
    ):
        response = call().get("/tickets", headers={"Authorization": given_header})
        assert response.status_code == 401, given_header
        assert response.headers["WWW-Authenticate"] == "Bearer"


def test_an_address_that_is_none_of_ours_is_answered_as_a_problem(call: Callable[..., Caller]) -> None:
    for path in ("", "/", "/nothing", "/tickets/", "/tickets/1/stop/x", "/tickets/%00", "/tickets/%F0%9F"):
        response = call(alice).get(path)
        assert response.status_code == 404, path
        assert response.json["status"] == 404
