"""History: everyone's tickets in any order, with the variables of one work order, and as files."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from skstack.accounts.models import Page
from skstack.audit.models import AuditEvent
from skstack.db import transaction
from skstack.extensions import db
from skstack.tickets import queries
from skstack.tickets.models import Ticket
from tests.factories import alice, make_group, make_user, root, sign_in
from tests.orders import list_variable, make_ticket, make_variable, make_variable_group, make_workorder

pytestmark = pytest.mark.both_databases


@pytest.fixture
def auditor(app: Flask) -> FlaskClient:
    """Give the browser of somebody who may see history and nothing else."""
    client = app.test_client()
    with app.app_context():
        sign_in(client, make_user("audrey", pages=[Page.AUDIT]))
    return client


@pytest.fixture
def tickets(app: Flask) -> None:
    """Have five tickets of two work orders by two people: 1 3 5 of `site`, 2 4 of `=backup`."""
    with app.app_context():
        fields = [
            list_variable("Hosts", "h1", "h2", widget="checkboxes", label="Which hosts"),
            make_variable("Pin", secret=True),
            make_variable("Reason", label="Why"),
        ]
        site = make_workorder(
            name="site", variable_group=make_variable_group("v", fields), main_task="true {Hosts}"
        )
        backup = make_workorder(name="backup", submit_groups=[make_group("ops")])
        for number in range(1, 6):
            if number % 2:
                make_ticket(
                    alice() if number < 5 else root(),
                    site,
                    values={"Hosts": ["h1", "h2"], "Pin": "1234", "Reason": f"=reason {number}"},
                    note="+1",
                )
            else:
                make_ticket(root(), backup)
        with transaction():
            for number, minute in ((1, 9), (4, 8), (5, 8)):
                db.session.get_one(Ticket, number).finished_at = dt.datetime(
                    2026, 3, 1, 12, minute, tzinfo=dt.UTC
                )


def numbers(page: str) -> list[int]:
    return [int(number) for number in re.findall(r'<th scope="row"[^>]*><a[^>]*>#(\d+)</a>', page)]


def walked(client: FlaskClient, address: str) -> list[int]:
    """Follow the pages of a list to its end, and return all numbers in order."""
    found = []
    while address:
        answer = client.get(address)
        assert answer.status_code == 200, answer.text
        found += numbers(answer.text)
        following = re.search(r'rel="next" href="([^"]+)"', answer.text)
        address = following[1].replace("&amp;", "&") if following else ""
    return found


@pytest.mark.usefixtures("tickets")
@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("", [5, 4, 3, 2, 1]),
        ("id", [1, 2, 3, 4, 5]),
        ("-id", [5, 4, 3, 2, 1]),
        ("workorder", [2, 4, 1, 3, 5]),
        ("-workorder", [5, 3, 1, 4, 2]),
        ("submitter", [1, 3, 2, 4, 5]),
        ("-submitter", [5, 4, 2, 3, 1]),
        ("status", [1, 2, 3, 4, 5]),
        ("ended", [2, 3, 4, 5, 1]),  # What has not ended comes before all that has.
        ("-ended", [1, 5, 4, 3, 2]),
        ("note", [5, 4, 3, 2, 1]),  # There is no such order.
    ],
)
def test_pages_follow_one_another_in_any_order(auditor: FlaskClient, sort: str, order: list[int]) -> None:
    for limit in (1, 2, 5, 50):
        assert walked(auditor, f"/audit/tickets?sort={sort}&limit={limit}") == order


def test_every_order_has_an_index(context: Flask, subtests: pytest.Subtests) -> None:
    explain = "EXPLAIN QUERY PLAN"
    if db.engine.dialect.name == "postgresql":
        explain = "EXPLAIN"
        # There is nothing to read yet, so it would sort.
        db.session.execute(sa.text("SET LOCAL enable_seqscan TO off"))
        db.session.execute(sa.text("SET LOCAL enable_sort TO off"))
    for name, column in queries.SORTS.items():
        with subtests.test(name):
            statement = sa.select(Ticket.id).order_by(column.desc(), Ticket.id.desc()).limit(50)
            written = statement.compile(db.engine, compile_kwargs={"literal_binds": True})
            plan = str(db.session.execute(sa.text(f"{explain} {written}")).all())

            assert "TEMP B-TREE" not in plan
            assert "Sort" not in plan


@pytest.mark.usefixtures("tickets")
def test_a_page_begins_where_the_one_before_ended_whatever_comes_in_between(
    app: Flask, auditor: FlaskClient
) -> None:
    first = auditor.get("/audit/tickets?sort=workorder&limit=3").text
    assert numbers(first) == [2, 4, 1]
    with app.app_context():
        make_ticket(root(), make_workorder(name="another"))
    following = re.search(r'rel="next" href="([^"]+)"', first)
    assert following
    assert numbers(auditor.get(following[1].replace("&amp;", "&")).text) == [3, 5]


NO_CURSORS = ["5", "x", "W10", "bnVsbA", "WzEsMl0", "WyJhIiwieCJd", "4Q", "é", "W1tdLDFd", "WyJhIiwiYiIsMV0"]


@pytest.mark.parametrize(
    ("sort", "cursor"),
    [
        *(("workorder", cursor) for cursor in NO_CURSORS),
        ("id", "WyJhIiwxXQ"),
        ("ended", "WyJhIiwxXQ"),
        ("ended", "WyIyMDI2LTAxLTAxIiwxXQ"),  # A day of no zone.
    ],
)
def test_a_cursor_that_is_none_is_refused(auditor: FlaskClient, sort: str, cursor: str) -> None:
    assert auditor.get("/audit/tickets", query_string={"sort": sort, "after": cursor}).status_code == 422


@pytest.mark.usefixtures("tickets")
def test_the_head_of_a_column_says_and_turns_the_order(auditor: FlaskClient) -> None:
    page = auditor.get("/audit/tickets?sort=workorder&status=running").text
    assert 'aria-sort="ascending"' in page
    assert 'href="/audit/tickets?sort=-workorder&amp;status=running"' in page
    # The filters keep the order.
    assert '<input type="hidden" name="sort" value="workorder">' in page


@pytest.mark.usefixtures("tickets")
def test_one_work_order_shows_its_variables(auditor: FlaskClient) -> None:
    page = auditor.get("/audit/tickets?workorder=site").text
    assert numbers(page) == [5, 3, 1]
    assert re.findall(r'<th scope="col"[^>]*data-col="v-(\w+)"', page) == ["Hosts", "Pin", "Reason"]
    for shown in ("Which hosts", "Why", "=reason 3", "h1, h2"):
        assert shown in page
    assert "1234" not in page
    assert 'data-col="v-' not in auditor.get("/audit/tickets").text


@pytest.mark.usefixtures("tickets")
def test_filters_are_chosen_and_taken_away(auditor: FlaskClient) -> None:
    page = auditor.get("/audit/tickets?submitter=alice&workorder=gone").text
    assert '<option value="alice" selected>' in page
    assert '<option value="gone" selected>' in page, "a name from an old link stays chosen"
    assert "Clear all filters" in page
    assert "Clear all filters" not in auditor.get("/audit/tickets?sort=id").text
    assert numbers(auditor.get("/audit/tickets?submitter=alice&workorder=site").text) == [3, 1]


@pytest.mark.usefixtures("tickets")
def test_the_list_as_a_table(app: Flask, auditor: FlaskClient) -> None:
    answer = auditor.get("/audit/tickets.csv?workorder=site&submitter=alice")
    assert answer.headers["Content-Disposition"] == "attachment; filename=tickets.csv"
    assert answer.text.startswith("\ufeff")
    rows = list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))
    assert [(row["id"], row["workorder"], row["submitter"]) for row in rows] == [
        ("3", "site", "alice"),
        ("1", "site", "alice"),
    ]
    assert rows[0]["value: Hosts"] == "h1, h2"
    assert rows[0]["value: Pin"] == ""
    # A spreadsheet must not take it for a formula.
    assert (rows[0]["value: Reason"], rows[0]["note"]) == ("'=reason 3", "'+1")
    assert "1234" not in answer.text
    with app.app_context():
        told = db.session.scalars(sa.select(AuditEvent).where(AuditEvent.action == "audit.exported")).one()
        assert (told.actor, told.object_type) == ("audrey", "ticket")
        assert told.changes == {"format": "csv", "filters": {"workorder": "site", "submitter": "alice"}}


@pytest.mark.usefixtures("tickets")
def test_the_list_as_json(auditor: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skstack.tickets.queries._BATCH", 2)
    items: list[Any] = auditor.get("/audit/tickets.json").get_json()["items"]
    assert [one["id"] for one in items] == [5, 4, 3, 2, 1]
    assert items[0]["values"] == {"Hosts": ["h1", "h2"], "Pin": None, "Reason": "=reason 5"}
    assert auditor.get("/audit/tickets.json?submitter=nobody").get_json() == {"items": []}


@pytest.mark.usefixtures("tickets")
def test_the_links_to_the_files_keep_the_filters_and_nothing_else(auditor: FlaskClient) -> None:
    address = "/audit/tickets?status=running&sort=id&limit=2&_external=1&_scheme=javascript"
    page = auditor.get(address).text
    assert (
        'href="/audit/tickets.csv?status=running&amp;limit=2&amp;_external=1&amp;_scheme=javascript"' in page
    )
    events = auditor.get("/audit/events?object=ticket&_external=1&_anchor=x").text
    assert 'href="/audit/events/export.csv?object=ticket&amp;_external=1&amp;_anchor=x"' in events


def test_others_get_no_file(app: Flask, client: FlaskClient) -> None:
    assert client.get("/audit/tickets.csv").status_code in (302, 303, 401)
    with app.app_context():
        sign_in(client, alice())
    assert client.get("/audit/tickets.csv").status_code == 403
    assert client.get("/audit/tickets.xml").status_code == 404
