"""Every route × everybody × their own and others' objects: fault 20. A new route belongs into the table of who_may.py."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from skstack.catalog import verification
from skstack.catalog.verification import Verified
from skstack.messages import N_
from skstack.notifications import sending
from skstack.runner.log_protocol import LogFile, LogsFound
from skstack.web.permissions import declared
from tests.fake_runner import FakeRunner
from tests.web.who_may import (
    ANYONE,
    LOGGED,
    NEEDS,
    NOTE,
    PEOPLE,
    SEEN_BY,
    TRACES,
    Person,
    Route,
    World,
    expected,
    routes_of,
    state_of,
    with_page_for,
    without_page_for,
)

# These are the lines that other tests measure.
pytestmark = pytest.mark.no_cover

# What would do it, for those who may not; nothing else than who asks keeps it from being done.
WOULD = {
    "approvals.reject": {"comment": "no", "level": "1"},
    "approvals.approve": {"level": "1"},
    "approvals-api.reject": {"comment": "no"},
    "tickets.submit": {"v-Branch": "main", "idempotency_key": "mine"},
    "tickets-api.submit": {"values": {"Branch": "main"}},
}
# What is refused for another reason, for those who may: nothing changes for those who ask after them.
WOULD_NOT: dict[str, dict[str, Any]] = {
    "approvals.approve": {"comment": "x" * 4001, "level": "1"},
    "approvals-api.approve": {"comment": "x" * 4001},
    "approvals.reject": {"level": "1"},
    "tickets.submit": {"v-Branch": "none", "idempotency_key": "mine"},
    "tickets-api.submit": {"values": {"Branch": "none"}},
    "approvals.decide_several": {"verb": "approve"},
}
# These leave nothing to ask for again.
ENDS_IT = {"tickets.revoke", "tickets-api.revoke"}


class AnyScript(dict[str, bytes]):
    """Scripts that all print the same."""

    def __missing__(self, line: str) -> bytes:
        return b"main\n"


@pytest.fixture
def world(app: Flask, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch) -> World:
    """Give an instance in which no other host is asked."""
    runner.scripts = AnyScript()  # type: ignore[assignment]
    file = LogFile(name="log", in_backup=False, size=len(LOGGED), modified=0.0)
    found = LogsFound(files=(file,), shown=file, content=LOGGED)
    monkeypatch.setattr(runner, "find_logs", lambda _: found, raising=False)
    monkeypatch.setattr(runner, "read_log", lambda _: (file, iter((LOGGED,))), raising=False)
    monkeypatch.setattr(verification, "verify", lambda *_, **__: Verified(error=N_("Not asked.")))
    monkeypatch.setattr(sending, "send", lambda *_, **__: "")
    return World(app)


def outcome(answer: TestResponse) -> str:
    """Return what came of a request, in the words of `expected`."""
    if answer.status_code == 401 or "/sign-in?next=" in answer.headers.get("Location", ""):
        return "sign in"
    if answer.headers.get("Location", "") == "/sign-in" and answer.request.path == "/":
        return "sign in"
    assert answer.status_code < 500, answer.text
    return str(answer.status_code) if answer.status_code in (403, 404) else "reached"


def wrongly_got(world: World, person: Person | None, route: Route) -> list[str]:
    """Let somebody try what they must not do, and return what they did get."""
    should = expected(person, route)
    if should == "reached":
        return []
    # A refusal is the same for a page and for a part of it, and quicker told for a part.
    body, is_signed_in = WOULD.get(route.endpoint, {}), person is not None
    answer = world.ask(person.name if person else None, route, body, fragment=is_signed_in)
    if outcome(answer) == should:
        return []
    name = person.name if person else "anonymous"
    return [f"{name}: {route.method} {route.endpoint}: {answer.status_code}, not {should}"]


def test_every_route_stands_in_the_table_and_declares_what_it_says(app: Flask) -> None:
    routes = routes_of(app)
    assert {route.endpoint for route in routes} == NEEDS.keys()
    wrong = [
        f"{route.endpoint} declares {permission}"
        for route in routes
        if set(permission := declared(app, route.endpoint, route.method) or ()) != set(NEEDS[route.endpoint])
    ]
    assert not wrong


def test_without_the_page_nothing_is_shown_or_done(world: World) -> None:
    before = state_of(world.app)
    tried = [(person, route) for route in routes_of(world.app) for person in without_page_for(route.endpoint)]
    assert len(tried) > 400
    assert all(expected(person, route) in ("sign in", "403") for person, route in tried)
    assert not [wrong for person, route in tried for wrong in wrongly_got(world, person, route)]
    assert state_of(world.app) == before


def test_what_is_somebody_elses_is_not_there_or_not_theirs_to_do(world: World) -> None:
    before = state_of(world.app)
    people = [PEOPLE[name] for name in ("alice", "erin", "bob", "carol", "dave", "audrey", "mallory", "root")]
    routes = [route for route in routes_of(world.app) if route.object]
    assert len(routes) == 41
    assert not [wrong for route in routes for person in people for wrong in wrongly_got(world, person, route)]
    assert state_of(world.app) == before


def test_what_is_somebody_elses_leaves_no_trace_on_any_page(world: World) -> None:
    """Mallory has every page but the one that shows everything, and searches for what she must not find."""
    traces = (*TRACES, f'href="/tickets/{world.ids["ticket_id"]}"', f'href="/runs/{world.ids["run_id"]}')
    pages = [
        route
        for route in routes_of(world.app)
        if route.method == "GET"
        and NEEDS[route.endpoint] != ANYONE
        and not route.endpoint.startswith("accounts.")
    ]
    looked_at = (
        "tickets.detail",
        "runs.output",
        "runs.log_file",
        "schedules.index",
        "audit.tickets",
        "audit.break_glass",
    )
    by_root = ""
    for route in pages:
        shown = world.ask("mallory", route, {}).text
        if not route.object:
            shown += (
                world.ask("mallory", route, {}, q=NOTE)
                .text.replace(f'value="{NOTE}"', "")
                .replace(f"q={NOTE}", "")
            )
        assert not [trace for trace in traces if trace in shown], route
        if route.endpoint in looked_at:
            by_root += world.ask("root", route, {}).text
    assert not [trace for trace in traces if trace not in by_root], "nothing was looked at"


def test_who_may_gets_what_they_ask_for(world: World) -> None:
    wrong = []
    for route in routes_of(world.app):
        if route.endpoint.startswith("accounts.") and route.method == "POST":
            continue  # tests/accounts/test_routes.py does these.
        owners = [PEOPLE[name] for name in sorted(SEEN_BY[route.object])] if route.object else []
        for person in owners or with_page_for(route.endpoint):
            if expected(person, route) != "reached":
                continue
            with world.app.app_context():
                if route.endpoint in ENDS_IT:
                    world.ids["ticket_id"], world.ids["run_id"] = world.waiting_ticket()
                if route.object == "schedule":
                    world.ids["schedule_id"] = world.schedule()
            body = WOULD_NOT.get(route.endpoint, {})
            if route.endpoint == "schedules.hand_over":
                body = {"owner": world.ids["user_id"]}
            # Whose work order is named in the query is tried in tests/schedules/test_pages.py.
            if (
                route.endpoint != "schedules.create"
                and outcome(world.ask(person.name, route, body)) != "reached"
            ):
                wrong.append(f"{person.name}: {route.method} {route.endpoint}")
    assert not wrong
