"""The inbox and the pages of targets: one's own, and those of a flow."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from skstack.accounts.models import User
from skstack.extensions import db
from skstack.notifications.models import Notification, Target
from tests.factories import alice, bob, root, sign_in
from tests.orders import make_flow, make_ticket, make_workorder


@pytest.fixture
def as_user(app: Flask) -> Callable[[Callable[[], User]], FlaskClient]:
    def signed_in(who: Callable[[], User]) -> FlaskClient:
        client = app.test_client()
        with app.app_context():
            sign_in(client, who())
        return client

    return signed_in


@pytest.fixture
def waiting(app: Flask) -> None:
    """Leave two tickets that wait for Bob."""
    with app.app_context():
        bob()
        order = make_workorder(name="site", approval_flow=make_flow("leads"))
        make_ticket(alice(), order), make_ticket(alice(), order)


def text_of(response: TestResponse) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.text)))


def test_the_inbox_shows_what_i_was_told_and_the_bell_how_much(as_user: Any, waiting: None) -> None:
    client = as_user(bob)
    page = text_of(client.get("/notifications"))
    assert "site #2 in DEV, submitted by alice, waits for leads (level 1)." in page
    assert "Notifications 2 unread" in page
    assert "Nothing to tell you" in text_of(as_user(alice).get("/notifications"))


def test_opening_one_marks_it_read_and_leads_to_its_ticket(as_user: Any, waiting: None) -> None:
    client = as_user(bob)
    assert client.get("/notifications/1/open").status_code == 405
    answer = client.post("/notifications/1/open")
    assert (answer.status_code, answer.location) == (303, "/tickets/1")
    assert "Notifications 1 unread" in text_of(client.get("/notifications"))
    client.post("/notifications/read")
    assert "unread" not in text_of(client.get("/notifications"))


def test_anothers_notification_does_not_exist(app: Flask, as_user: Any, waiting: None) -> None:
    assert as_user(alice).post("/notifications/1/open").status_code == 404
    as_user(alice).post("/notifications/read")
    with app.app_context():
        assert [row.read_at for row in db.session.scalars(sa.select(Notification))] == [None, None]


@pytest.mark.parametrize("path", ["/notifications", "/me/notifications"])
def test_only_who_is_signed_in_sees_them(client: FlaskClient, path: str) -> None:
    assert client.get(path).location.startswith("/sign-in")


def test_a_target_is_added_changed_and_deleted_without_its_address_being_shown(
    app: Flask, as_user: Any
) -> None:
    client = as_user(alice)
    values = {"name": "my chat", "url": "dingtalk://abcdef0123456789", "events": ["ended"], "active": "1"}
    assert client.post("/me/notifications", data=values).location == "/me/notifications"
    for path in ("/me/notifications", "/me/notifications?target=1"):
        page = client.get(path).text
        assert "my chat" in page
        assert "abcdef0123456789" not in page
    changed = {"target": "1", "name": "renamed", "url": "", "events": ["waits", "ended"]}
    client.post("/me/notifications", data=changed)
    with app.app_context():
        target = db.session.scalars(sa.select(Target)).one()
        assert (target.name, target.url, target.events, target.active) == (
            "renamed",
            "dingtalk://abcdef0123456789",
            ["waits", "ended"],
            False,
        )
    client.post("/me/notifications/1/delete")
    with app.app_context():
        assert db.session.scalars(sa.select(Target)).all() == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"url": "syslog://"}, "must begin with one of"),
        ({"url": ""}, "The address is needed"),
        ({"events": []}, "Choose at least one"),
        ({"name": " "}, "A name has 1 to 64"),
    ],
)
def test_a_target_that_is_wrong_comes_back_with_the_message(
    app: Flask, as_user: Any, changed: dict[str, Any], told: str
) -> None:
    values = {"name": "my chat", "url": "json://host/x", "events": ["ended"], "active": "1", **changed}
    answer = as_user(alice).post("/me/notifications", data=values)
    assert answer.status_code == 422
    assert told in text_of(answer)
    with app.app_context():
        assert db.session.scalars(sa.select(Target)).all() == []


def test_anothers_target_does_not_exist(app: Flask, as_user: Any) -> None:
    as_user(alice).post("/me/notifications", data={"name": "a", "url": "json://host/x", "events": ["ended"]})
    client = as_user(bob)
    assert client.get("/me/notifications?target=1").status_code == 404
    for path in ("/me/notifications/1/delete", "/me/notifications/1/test"):
        assert client.post(path).status_code == 404
    assert client.post("/me/notifications", data={"target": "1", "name": "mine"}).status_code == 404
    with app.app_context():
        assert db.session.scalars(sa.select(Target.name)).all() == ["a"]


def test_a_test_message_that_fails_says_why_without_the_secret(as_user: Any) -> None:
    client = as_user(alice)
    url = "json://user:s3cret-word@127.0.0.1:1/x"
    client.post("/me/notifications", data={"name": "down", "url": url, "events": ["ended"]})
    client.post("/me/notifications/1/test")
    page = client.get("/me/notifications").text
    assert "down does not work" in text_of(
        client.get("/me/notifications")
    ) or "down does not work" in html.unescape(page)
    assert "s3cret-word" not in page


def test_the_targets_of_a_flow_are_for_those_who_configure(app: Flask, as_user: Any) -> None:
    with app.app_context():
        flow = make_flow("leads", name="one").id
    path = f"/config/approval-flows/{flow}/notifications"
    assert as_user(alice).get(path).status_code == 403
    client = as_user(root)
    assert "Notifications of one" in text_of(client.get(path))
    client.post(path, data={"name": "team", "url": "json://host/x", "events": ["waits"], "active": "1"})
    with app.app_context():
        target = db.session.scalars(sa.select(Target)).one()
        assert (target.flow_id, target.user_id) == (flow, None)
    assert client.get("/config/approval-flows/999/notifications").status_code == 404
