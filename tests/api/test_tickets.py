"""`GET /tickets`, `GET /tickets/ID` and `POST /tickets/ID/stop`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask

from skstack.accounts.models import Page, User
from skstack.db import db, transaction
from skstack.runner.client import RunnerProcess
from skstack.tickets.models import Ticket
from tests.api.conftest import Caller
from tests.factories import alice, bob, make_user, mallory, root
from tests.fake_runner import begin, end, result, run_of
from tests.orders import make_environment, make_ticket, make_variable, make_workorder

pytestmark = pytest.mark.both_databases


def auditor() -> User:
    return make_user("auditor", pages=[Page.AUDIT])


@pytest.fixture
def tickets(app: Flask) -> dict[str, int]:
    """Give some tickets of Alice and one of Root, oldest first."""
    with app.app_context():
        make_environment("PROD", order=1)
        site = make_workorder("site", variables=[make_variable("Reason")])
        prod = make_workorder("prod-site", environment="PROD", category="DeployGit")
        made = {
            "ended": make_ticket(alice(), site, values={"Reason": "wörld"}, note="first"),
            "failed": make_ticket(alice(), prod),
            "running": make_ticket(alice(), site, values={"Reason": "other"}),
            "root's": make_ticket(root(), site),
        }
        end(begin(run_of(made["ended"])))
        end(begin(run_of(made["failed"])), result(3))
        begin(run_of(made["running"]))
        return {name: ticket.id for name, ticket in made.items()}


def listed(caller: Caller, query: str = "") -> list[int]:
    response = caller.get(f"/tickets?{query}")
    assert response.status_code == 200, response.json
    return [item["id"] for item in response.json["items"]]


def test_the_list_has_the_callers_own_tickets_newest_first(
    call: Callable[..., Caller], tickets: dict[str, int]
) -> None:
    assert listed(call(alice)) == [tickets["running"], tickets["failed"], tickets["ended"]]
    assert listed(call(root)) == [tickets["root's"]]
    assert listed(call(mallory)) == []


def test_everyones_tickets_are_for_those_with_the_audit_page(
    call: Callable[..., Caller], tickets: dict[str, int]
) -> None:
    everything = sorted(tickets.values(), reverse=True)
    assert listed(call(root), "scope=all") == everything
    assert listed(call(auditor), "scope=all") == everything
    for who in (alice, bob, mallory):
        assert call(who).get("/tickets?scope=all").status_code == 403
    assert call().get("/tickets?scope=all").status_code == 401


def test_nothing_waits_for_approval_yet(call: Callable[..., Caller], tickets: dict[str, int]) -> None:
    assert call(bob).get("/tickets?scope=approvals").json == {"items": [], "next": None}


NARROWED = [
    ("status=failed", ["failed"]),
    ("status=succeeded", ["ended"]),
    ("status=running", ["running"]),
    ("status=submitted", []),
    ("status=", ["running", "failed", "ended"]),
    ("environment=PROD", ["failed"]),
    ("category=DeployGit", ["failed"]),
    ("workorder=site", ["running", "ended"]),
    ("workorder=site&status=running", ["running"]),
    ("submitter=alice", ["running", "failed", "ended"]),
    ("submitter=root", []),
    ("kind=background", []),
    ("kind=foreground", ["running", "failed", "ended"]),
    ("q=first", ["ended"]),
    ("q=w%C3%B6rld", ["ended"]),
    ("q=%25", []),
    ("from=2020-01-01", ["running", "failed", "ended"]),
    ("from=2999-01-01", []),
    ("to=2020-01-01", []),
    ("to=2999-01-01T00:00:00Z", ["running", "failed", "ended"]),
]


def test_the_list_can_be_narrowed(
    call: Callable[..., Caller], tickets: dict[str, int], subtests: pytest.Subtests
) -> None:
    for query, names in NARROWED:
        with subtests.test(query):
            assert listed(call(alice), query) == [tickets[name] for name in names]


def test_times_narrow_to_the_microsecond_and_days_are_whole_ones_in_utc(
    app: Flask, call: Callable[..., Caller], tickets: dict[str, int]
) -> None:
    with app.app_context(), transaction():
        ticket = db.session.get_one(Ticket, tickets["failed"])
        ticket.created_at = dt.datetime(2026, 3, 31, 23, 59, 59, 999999, dt.UTC)
    mine = call(alice)
    assert listed(mine, "from=2026-03-31&to=2026-03-31") == [tickets["failed"]]
    assert listed(mine, "to=2026-03-30") == []
    assert listed(mine, "to=2026-04-01T01:59:59.999999%2B02:00") == []
    assert listed(mine, "to=2026-04-01T02:00:00%2B02:00") == [tickets["failed"]]
    assert listed(mine, "to=2026-04-01T02:00:00+02:00") == [tickets["failed"]]
    assert listed(mine, "from=2026-03-31T23:59:59.999999Z&to=2026-03-31") == [tickets["failed"]]


SENSELESS = [
    ("scope=everything", "scope"),
    ("status=done", "status"),
    ("kind=other", "kind"),
    ("from=yesterday", "from"),
    ("to=2026-13-01", "to"),
    ("to=9999-12-31", "to"),
    ("from=0001-01-01T00:00:00%2B23:59", "from"),
    ("q=%00", "q"),
    ("after=1.5", "after"),
    ("limit=1000", "limit"),
    ("stauts=failed", "stauts"),
]


def test_a_query_that_makes_no_sense_is_refused(
    call: Callable[..., Caller], subtests: pytest.Subtests
) -> None:
    for query, field in SENSELESS:
        with subtests.test(query):
            response = call(alice).get(f"/tickets?{query}")
            assert response.status_code == 422
            assert list(response.json["errors"]) == [field]


def test_the_list_comes_in_pages(call: Callable[..., Caller], tickets: dict[str, int]) -> None:
    first = call(root).get("/tickets?scope=all&limit=3").json
    second = call(root).get(f"/tickets?scope=all&limit=3&after={first['next']}").json
    assert [item["id"] for item in first["items"] + second["items"]] == sorted(tickets.values(), reverse=True)
    assert second["next"] is None


def test_a_list_shows_its_tickets_as_whole_as_one_alone(
    call: Callable[..., Caller], tickets: dict[str, int]
) -> None:
    for item in call(alice).get("/tickets").json["items"]:
        assert item == call(alice).get(f"/tickets/{item['id']}").json


def test_the_statements_of_a_list_do_not_grow_with_it(
    app: Flask, call: Callable[..., Caller], tickets: dict[str, int]
) -> None:
    assert len(listed(call(root), "scope=all&limit=1")) == 1
    with app.app_context():
        engine = db.engine
    statements: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    assert len(listed(call(root), "scope=all")) == 4
    # The token; tickets with their work orders; the groups of those; their runs, levels and decisions.
    assert len([one for one in statements if "BEGIN" not in one]) == 6


def test_a_ticket_that_ended_tells_how(call: Callable[..., Caller], tickets: dict[str, int]) -> None:
    ticket = call(alice).get(f"/tickets/{tickets['failed']}").json
    assert (ticket["status"], ticket["status_code"]) == ("failed", 4)
    assert ticket["finished_at"].endswith("Z")
    assert [(run["task"], run["state"], run["exit_code"]) for run in ticket["runs"]] == [
        ("main", "failed", 3)
    ]
    assert ticket["actions"] == ["submit_again"]


def test_a_ticket_is_seen_by_its_submitter_and_those_with_the_audit_page(
    call: Callable[..., Caller], tickets: dict[str, int]
) -> None:
    path, theirs = f"/tickets/{tickets['running']}", tickets["root's"]
    assert call().get(path).status_code == 401
    assert call(alice).get(path).json["actions"] == ["stop"]
    assert call(root).get(path).json["actions"] == ["stop"]
    assert call(auditor).get(path).json["actions"] == []
    for who in (bob, mallory):
        assert call(who).get(path).status_code == 404
        assert call(who).post(f"{path}/stop").status_code == 404
    assert call(alice).get(f"/tickets/{theirs}").status_code == 404
    assert call(alice).get("/tickets/2147483647").status_code == 404
    assert call(alice).get(f"/tickets/{2**64}").status_code == 404


def test_stopping_a_queued_ticket_ends_it_at_once(app: Flask, call: Callable[..., Caller]) -> None:
    with app.app_context():
        ticket = make_ticket(alice()).id
    response = call(alice).post(f"/tickets/{ticket}/stop")
    assert response.status_code == 200
    assert (response.json["status"], response.json["actions"]) == ("failed", ["submit_again"])
    assert response.json["runs"][0]["state"] == "stopped"
    again = call(alice).post(f"/tickets/{ticket}/stop")
    assert again.status_code == 409


def test_stopping_a_running_ticket_asks_its_runner(
    app: Flask, call: Callable[..., Caller], tickets: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Process:
        def stop(self) -> None:
            asked.append("stop")

    monkeypatch.setattr(RunnerProcess, "adopt", lambda directory: Process())
    response = call(alice).post(f"/tickets/{tickets['running']}/stop")
    assert response.status_code == 200
    assert (response.json["status"], response.json["runs"][0]["state"]) == ("running", "running")
    assert asked == ["stop"]


def test_stopping_is_up_to_the_submitter_and_superusers(
    call: Callable[..., Caller], tickets: dict[str, int]
) -> None:
    def seer_who_executes() -> User:
        return make_user("seer", pages=[Page.AUDIT, Page.EXECUTE])

    assert call().post(f"/tickets/{tickets['running']}/stop").status_code == 401
    assert call(auditor).post(f"/tickets/{tickets['running']}/stop").status_code == 403
    assert call(seer_who_executes).post(f"/tickets/{tickets['running']}/stop").status_code == 403
    assert call(alice).get(f"/tickets/{tickets['running']}").json["status"] == "running"


def test_a_ticket_is_not_stopped_by_looking(call: Callable[..., Caller], tickets: dict[str, int]) -> None:
    assert call(alice).get(f"/tickets/{tickets['running']}/stop").status_code == 405
