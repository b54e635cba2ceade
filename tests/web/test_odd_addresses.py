"""Addresses that no page makes: what cannot be understood is left out or refused, and is never an error of the server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.factories import root, sign_in
from tests.orders import make_flow, make_workorder

HUGE = "9" * 24


@pytest.fixture
def roots(any_app: Flask) -> Callable[[str], int]:
    """Give what asks for an address as Root, and returns the status. There is one of what the addresses name."""
    client: FlaskClient = any_app.test_client()
    with any_app.app_context():
        sign_in(client, root())
        make_workorder(scheduling=True, approval_flow=make_flow("leads"))
    return lambda address: client.get(address).status_code


def test_days_at_the_ends_of_the_calendar_narrow_nothing(roots: Callable[[str], int]) -> None:
    for page in (
        "/tickets",
        "/tickets/waiting",
        "/approvals",
        "/approvals/decided",
        "/audit/tickets",
        "/audit/events",
    ):
        for days in (
            "from=9999-12-31&to=9999-12-31",
            "from=0001-01-01&to=0001-01-01",
            "from=2026-02-30&to=x",
        ):
            assert roots(f"{page}?{days}") == 200, page


def test_ids_that_no_column_holds_name_nothing(roots: Callable[[str], int]) -> None:
    for kind in ("approval-flows", "freeze-windows", "variables", "variable-groups", "workorders"):
        assert roots(f"/config/{kind}/new?copy={HUGE}") == 200, kind
    for address in (
        f"/me/notifications?target={HUGE}",
        f"/config/approval-flows/1/notifications?target={HUGE}",
        f"/workorders/1/submit?ticket={HUGE}",
        f"/schedules/new?workorder={HUGE}",
    ):
        assert roots(address) == 200, address
    assert roots(f"/tickets/{HUGE}") == 404


def test_a_character_that_no_text_holds_is_found_nowhere_or_refused(
    roots: Callable[[str], int], database: str
) -> None:
    refused = 200 if database == "sqlite" else 400
    for address in ("/audit/tickets?workorder=a%00b", "/config/workorders?q=%00", "/audit/events?actor=%00"):
        assert roots(address) == refused, address
    assert roots("/audit/tickets?workorder=a%2500b") == 200
