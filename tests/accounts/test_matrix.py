"""The matrix: which role sees which page, which group may submit and decide what."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask

from skstack.accounts import queries
from skstack.catalog import who_may
from skstack.catalog.models import ApprovalFlow, Environment, WorkOrder
from skstack.db import transaction
from skstack.extensions import db
from tests import factories
from tests.accounts.conftest import Person

BrowserOf = Callable[[str], Person]


@pytest.fixture
def filled(app: Flask) -> None:
    with app.app_context():
        factories.alice(), factories.bob(), factories.carol(), factories.root()
        ops, leads, directors = (factories.make_group(name) for name in ("ops", "leads", "directors"))
        with transaction():
            prod, dev = Environment(name="PROD", order=2), Environment(name="DEV", order=1)
            flow = ApprovalFlow(name="two-level")
            flow.levels = [leads, directors]
            db.session.add_all([prod, dev, flow])
            for name, environment, groups, columns in (
                ("site", prod, [ops], {"active": True, "approval_flow": flow}),
                ("cache", dev, [ops, leads], {"active": True}),
                ("sleeping", dev, [ops], {}),
                ("left-over", dev, [], {"active": True}),
                ("to-copy", dev, [ops], {"template": True}),
            ):
                order = WorkOrder(name=name, environment=environment, **columns)
                order.submit_groups = groups
                db.session.add(order)


def shown(**filters: str) -> dict[str, tuple[list[str], list[str]]]:
    return {
        reach.group.name if reach.group else "": (
            [order.name for order in reach.submits],
            [f"{one.flow.name} {one.level}" for one in reach.decides],
        )
        for reach in who_may.reaches(**filters)
    }


def test_each_group_has_what_it_submits_and_decides_and_templates_are_left_out(
    context: Flask, filled: None
) -> None:
    assert shown() == {
        "directors": ([], ["two-level 2"]),
        "leads": (["cache"], ["two-level 1"]),
        "ops": (["cache", "sleeping", "site"], []),
        "": (["left-over"], []),
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("OPS", {"ops": (["cache", "sleeping", "site"], [])}),
        ("archer", {"ops": (["cache", "sleeping", "site"], [])}),
        ("cac", {"leads": (["cache"], []), "ops": (["cache"], [])}),
        ("two-l", {"directors": ([], ["two-level 2"]), "leads": ([], ["two-level 1"])}),
        ("left", {"": (["left-over"], [])}),
        ("%", {}),
    ],
)
def test_a_search_finds_groups_people_work_orders_and_flows(
    context: Flask, filled: None, text: str, expected: dict[str, tuple[list[str], list[str]]]
) -> None:
    assert shown(text=text) == expected


def test_one_environment_leaves_the_others_and_the_flows_out(context: Flask, filled: None) -> None:
    assert shown(environment="PROD") == {"ops": (["site"], [])}


def test_it_needs_as_many_statements_for_many_groups_as_for_few(context: Flask, filled: None) -> None:
    def statements() -> int:
        db.session.expire_all()
        count = 0

        def note(*_: object) -> None:
            nonlocal count
            count += 1

        sa.event.listen(db.engine, "before_cursor_execute", note)
        shown()
        queries.roles_with_holders()
        queries.superusers()
        sa.event.remove(db.engine, "before_cursor_execute", note)
        return count

    few = statements()
    for number in range(5):
        factories.make_user(groups=[factories.make_group()], pages=["audit"])
        with transaction():
            db.session.add(WorkOrder(name=f"more{number}", environment=db.session.get_one(Environment, 1)))
    assert statements() == few


def test_the_page_shows_roles_superusers_and_groups(app: Flask, filled: None, browser_of: BrowserOf) -> None:
    page = browser_of("paula").client.get("/accounts/matrix").get_data(as_text=True)

    def row(name: str) -> str:
        (found,) = (part for part in page.split('<tr role="row">') if f"{name}</a></th>" in part)
        return found

    # Bob and Carol are approvers, who see four pages of eight; a superuser sees all of them.
    assert row("approver").count("matrix-yes") == 4
    assert "bob" in row("approver")
    assert page.split("superuser</th>")[1].split("</tr>")[0].count("matrix-yes") == 8
    assert "two-level · level 1" in row("leads")
    assert "left-over" in page.split("no group: superusers only")[1]
    # Paula does not see the configuration, so nothing leads there.
    assert "/config/workorders" not in page
    assert "/config/workorders" in browser_of("root").client.get("/accounts/matrix").get_data(as_text=True)


def test_the_page_narrows_and_says_when_nothing_matches(
    app: Flask, filled: None, browser_of: BrowserOf
) -> None:
    client = browser_of("paula").client
    nothing = client.get("/accounts/matrix?q=nothing-is-called-so").get_data(as_text=True)
    assert "No role matches" in nothing
    assert "No group matches" in nothing
    narrowed = client.get("/accounts/matrix?environment=PROD").get_data(as_text=True)
    assert "site" in narrowed
    assert "cache" not in narrowed
    assert "cache" in client.get("/accounts/matrix?environment=NONE").get_data(as_text=True)
