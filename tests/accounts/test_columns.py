"""Which columns of a list a user wants to see is remembered for them, on whatever device they sign in."""

from __future__ import annotations

import re
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from skstack.accounts.models import User
from skstack.extensions import db
from tests.factories import alice, root, sign_in
from tests.orders import make_ticket, make_workorder


@pytest.fixture
def history(app: Flask, client: FlaskClient) -> FlaskClient:
    """Give the browser of Root, who sees everyone's tickets: one of `site`."""
    with app.app_context():
        make_ticket(alice(), make_workorder("site"))
        sign_in(client, root())
    return client


def columns(client: FlaskClient, address: str = "/audit/tickets") -> dict[str, bool]:
    """Return which columns a page shows: by their cells, which agree with their heads and with the ticks."""
    page = client.get(address).text
    heads = dict(re.findall(r'<th scope="col"[^>]* data-col="(\S+)" class="([^"]*)"', page))
    cells = dict(
        re.findall(r'<t[dh][^>]* role="(?:cell|rowheader)" data-col="(\S+)"[^>]* class="([^"]*)"', page)
    )
    shown = {key: "col-off" not in classes for key, classes in cells.items()}
    assert shown == {key: "col-off" not in classes for key, classes in heads.items()}
    ticks = dict(re.findall(r'name="shown" value="(\S+)"( checked)?', page))
    assert {key: bool(ticked) for key, ticked in ticks.items()} == {key: shown[key] for key in ticks}
    return shown


def choose(client: FlaskClient, address: str, *, tick: str = "", untick: str = "", **form: Any) -> Any:
    """Send the form as the page has it, with one box more or less."""
    page = client.get(address).text
    first, listed = (re.findall(rf'name="{name}" value="([^"]+)"', page) for name in ("first", "listed"))
    shown = [key for key, ticked in re.findall(r'name="shown" value="(\S+)"( checked)?', page) if ticked]
    shown = [key for key in [*shown, tick] if key not in ("", untick)]
    sent = {"first": first, "listed": listed, "shown": shown, "next": address, **form}
    return client.post("/me/columns/tickets", data=sent)


def test_what_is_chosen_is_shown_from_then_on(app: Flask, history: FlaskClient) -> None:
    at_first = columns(history)
    assert (at_first["note"], at_first["status"]) == (False, True)
    answer = choose(history, "/audit/tickets", tick="note")
    assert (answer.status_code, answer.location) == (303, "/audit/tickets")
    choose(history, "/audit/tickets", untick="status")
    assert columns(history) == {**at_first, "note": True, "status": False}
    with app.app_context():
        assert root().columns == {"tickets": {"note": True, "status": False}}
        assert alice().columns is None
        other = app.test_client()
        sign_in(other, root())
    assert columns(other)["note"], "it is not remembered by the browser"
    choose(history, "/audit/tickets", untick="note")
    assert columns(history) == {**at_first, "status": False}


def test_a_page_with_a_script_only_saves(history: FlaskClient) -> None:
    sent = {"listed": ["note"], "shown": ["note"]}
    answer = history.post("/me/columns/tickets", data=sent, headers={"HX-Request": "true"})
    assert (answer.status_code, answer.data, answer.headers.get("HX-Redirect")) == (204, b"", None)
    assert columns(history)["note"]


def test_what_a_list_shows_by_itself_stays_so_until_it_is_chosen(history: FlaskClient) -> None:
    narrowed = "/audit/tickets?workorder=site"
    assert not columns(history, narrowed)["workorder"]
    choose(history, narrowed, tick="note")
    assert not columns(history, narrowed)["workorder"]
    assert columns(history)["workorder"], "what was hidden there for its own reason was not chosen"
    choose(history, narrowed, tick="workorder")
    assert columns(history, narrowed)["workorder"]


def test_it_is_forgotten_again(app: Flask, history: FlaskClient) -> None:
    at_first = columns(history)
    history.post("/me/columns/audit-events", data={"listed": ["address"], "shown": ["address"]})
    choose(history, "/audit/tickets", tick="note")
    choose(history, "/audit/tickets", reset="1")
    assert columns(history) == at_first
    with app.app_context():
        assert root().columns == {"audit-events": {"address": True}}
    assert columns(history, "/audit/events")["address"]
    history.post("/me/columns/audit-events", data={"reset": "1"})
    with app.app_context():
        assert root().columns is None


def test_what_cannot_be_chosen(app: Flask, history: FlaskClient) -> None:
    def post(name: str, **form: Any) -> int:
        return history.post(f"/me/columns/{name}", data=form).status_code

    assert post("nothing", listed=["id"]) == 404
    assert post("nothing", reset="1") == 404
    assert post("tickets", listed=["x" * 101]) == 422
    assert post("tickets", listed=[""]) == 422
    assert post("tickets", listed=[str(number) for number in range(201)]) == 422
    assert history.get("/me/columns/tickets").status_code == 405
    assert app.test_client().post("/me/columns/tickets", data={"reset": "1"}).status_code in (303, 401)
    answer = history.post("/me/columns/tickets", data={"next": "//elsewhere.example/"})
    assert answer.location == "/"
    with app.app_context():
        assert db.session.scalars(sa.select(User.columns).where(User.columns.is_not(None))).all() == []


def test_no_more_than_some_are_remembered(app: Flask, history: FlaskClient) -> None:
    for piece in range(3):
        keys = [f"v-{piece}-{number}" for number in range(150)]
        assert history.post("/me/columns/tickets", data={"listed": keys, "shown": keys}).status_code == 303
    with app.app_context():
        kept = (root().columns or {})["tickets"]
    assert len(kept) == 200
    assert "v-2-0" in kept
    assert "v-0-0" not in kept
