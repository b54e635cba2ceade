"""Lists of tickets: one's own, those under way, everyone's; foreground and background, with what can be done."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from skstack.accounts.models import Page, User
from skstack.approvals.services import approve
from skstack.db import utcnow
from skstack.extensions import db
from skstack.tickets.models import Ticket
from tests.factories import alice, bob, make_user, root
from tests.fake_runner import begin, end, run_of
from tests.orders import make_flow, make_freeze, make_ticket, make_workorder
from tests.tickets.conftest import Visitor, said

pytestmark = pytest.mark.both_databases
Visit = Callable[..., Visitor]
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def cast(app: Flask) -> dict[str, int]:
    """Give a ticket of Alice's of every kind, and a foreign one, by what they are."""
    with app.app_context():
        bob()
        order = make_workorder(
            approval_flow=make_flow("leads"), scheduling=True, background_choice=True, auto_run_choice=True
        )
        free = make_workorder(scheduling=True)
        found = {
            "waits": make_ticket(alice(), order),
            "ready": make_ticket(alice(), order),
            "auto": make_ticket(alice(), order, auto_run=True),
            "planned": make_ticket(alice(), free, scheduled_at=utcnow() + 3 * HOUR),
            "running": make_ticket(alice(), free),
            "ended": make_ticket(alice(), free),
            "foreign": make_ticket(root(), order),
        }
        approve(found["ready"], actor=bob())
        end(begin(run_of(found["ended"])))
        return {name: ticket.id for name, ticket in found.items()}


def rows(page: str) -> dict[int, str]:
    found = {}
    for row in re.findall(r'<tr role="row">\s*<th scope="row".*?</tr>', page, re.DOTALL):
        number = re.search(r"#(\d+)</a>", row)
        assert number
        found[int(number[1])] = row
    return found


def listed(answer: Any, cast: dict[str, int]) -> set[str]:
    assert answer.status_code == 200
    names = {number: name for name, number in cast.items()}
    return {names[number] for number in rows(answer.text)}


MINE = {"waits", "ready", "auto", "planned", "running", "ended"}


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("/tickets", MINE),
        ("/tickets?kind=foreground", {"waits", "ready", "running", "ended"}),
        ("/tickets?kind=background", {"auto", "planned"}),
        ("/tickets/waiting", MINE - {"ended"}),
        ("/tickets/waiting?kind=background", {"auto", "planned"}),
        ("/tickets/waiting?status=l1_approved", {"ready"}),
    ],
)
def test_lists_have_ones_own_by_kind(
    visit: Visit, cast: dict[str, int], address: str, shown: set[str]
) -> None:
    assert listed(visit(alice).get(address), cast) == shown


def test_the_audit_list_has_everyones_with_the_same_tabs(visit: Visit, cast: dict[str, int]) -> None:
    page = visit(root).get("/audit/tickets")
    assert listed(page, cast) == {*MINE, "foreign"}
    assert 'href="/audit/tickets?kind=background"' in page.text
    assert listed(visit(root).get("/audit/tickets?kind=background"), cast) == {"auto", "planned"}
    assert visit(alice).get("/audit/tickets").status_code in (403, 404)


def test_filters_stay_in_the_address_of_the_tabs_and_in_the_form(visit: Visit, cast: dict[str, int]) -> None:
    page = visit(alice).get("/tickets?kind=background&environment=DEV&status=submitted").text
    assert 'href="/tickets?environment=DEV&amp;status=submitted"' in page
    assert 'href="/tickets?kind=foreground&amp;environment=DEV&amp;status=submitted"' in page
    assert '<input type="hidden" name="kind" value="background">' in page


def test_a_row_says_job_time_and_what_it_waits_for(app: Flask, visit: Visit, cast: dict[str, int]) -> None:
    def waits() -> dict[str, str]:
        page = rows(visit(alice).get("/tickets").text)
        return {
            name: re.sub(r"<[^>]+>", "", re.findall(r'data-col="waits"[^>]*>(.*?)</td>', page[cast[name]])[0])
            for name in MINE
        }

    assert waits() == {
        "waits": "leads (level 1 of 1)",
        "ready": "alice to start it",
        "auto": "leads (level 1 of 1)",
        "planned": "its time",
        "running": "",
        "ended": "",
    }
    row = rows(visit(alice).get("/tickets").text)[cast["planned"]]
    assert 'data-status="CREATED"' in row
    assert "in 3 hours" in row
    now = utcnow()
    with app.app_context():
        make_freeze(starts_at=now - HOUR, ends_at=now + HOUR)
    assert waits()["ready"] == "the end of the freeze"


def test_a_row_offers_what_can_be_done_as_links_that_work_alone(visit: Visit, cast: dict[str, int]) -> None:
    found = rows(visit(alice).get("/tickets").text)
    offered = {
        name: set(re.findall(rf'href="/tickets/{cast[name]}/(\w+)"', found[cast[name]])) for name in MINE
    }
    assert offered == {
        "waits": {"revoke"},
        "ready": {"execute", "revoke"},
        "auto": {"revoke"},
        "planned": {"execute", "revoke"},
        "running": {"stop"},
        "ended": set(),
    }
    assert f"?ticket={cast['ended']}" in found[cast["ended"]]
    for name, actions in offered.items():
        for action in actions:
            assert visit(alice).get(f"/tickets/{cast[name]}/{action}").status_code == 200


def test_those_who_look_only_are_offered_nothing(visit: Visit, cast: dict[str, int]) -> None:
    def otto() -> User:
        return make_user("otto", pages=[Page.AUDIT])

    page = visit(otto).get("/audit/tickets").text
    assert len(rows(page)) == 7
    assert "row-actions" in page
    assert "/execute" not in page
    assert "/revoke" not in page


def test_the_execute_entry_is_for_those_with_the_page(visit: Visit) -> None:
    page = visit(alice).get("/tickets/waiting")
    assert "Nothing waits" in said(page)
    assert re.search(r'href="/tickets/waiting" aria-current="page"', page.text)

    def sven() -> User:
        return make_user("sven", pages=[Page.SUBMIT])

    assert visit(sven).get("/tickets/waiting").status_code == 403
    assert 'href="/tickets/waiting"' not in visit(sven).get("/tickets").text
    assert visit().get("/tickets/waiting").location.startswith("/sign-in")


@contextmanager
def counted(app: Flask) -> Iterator[list[str]]:
    """Collect the statements that are sent to the database."""
    statements: list[str] = []

    def note(*arguments: Any) -> None:
        statements.append(arguments[2])

    with app.app_context():
        engine = db.engine
    sa.event.listen(engine, "before_cursor_execute", note)
    yield statements
    sa.event.remove(engine, "before_cursor_execute", note)


def test_the_statements_of_a_list_do_not_grow_with_it(app: Flask, visit: Visit, cast: dict[str, int]) -> None:
    visitor = visit(alice)
    visitor.get("/tickets")
    with counted(app) as few:
        visitor.get("/tickets")
    with app.app_context():
        for _ in range(5):
            make_ticket(alice(), make_workorder(approval_flow=make_flow("leads")))
        assert db.session.scalar(sa.select(sa.func.count()).select_from(Ticket)) == 12
    with counted(app) as many:
        visitor.get("/tickets")
    assert len(few) == len(many), many
