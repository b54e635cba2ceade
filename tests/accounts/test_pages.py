"""What each page about people does: it works, says what is wrong at its field, keeps what was typed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from skstack.accounts import queries, signing_in
from skstack.accounts.models import ApiToken, Group, Role, User
from skstack.db import utcnow
from skstack.extensions import db
from tests import factories
from tests.accounts.conftest import Person

BrowserOf = Callable[[str], Person]
PROFILE = {"display_name": "Alice", "language": "", "timezone": "", "theme": "auto"}


@pytest.fixture
def root(browser_of: BrowserOf) -> FlaskClient:
    return browser_of("root").client


@pytest.fixture
def alice(browser_of: BrowserOf) -> Person:
    return browser_of("alice")


def text_of(client: FlaskClient, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.get_data(as_text=True)


def load(app: Flask, read: Callable[[], Any]) -> Any:
    with app.app_context():
        return read()


# ── Own profile ──


def test_the_profile_is_saved_and_shown_in_the_language_chosen(alice: Person) -> None:
    fields = {
        **PROFILE,
        "display_name": "Alice <b>",
        "language": "zh_CN",
        "timezone": "Asia/Shanghai",
        "theme": "dark",
    }
    answer = alice.client.post("/me", data=fields)
    assert (answer.status_code, answer.location) == (303, "/me")
    page = text_of(alice.client, "/me")
    assert '<html lang="zh' in page
    assert "Alice &lt;b&gt;" in page
    assert 'data-bs-theme="dark"' in page
    assert re.search(r'<option[^>]* selected[^>]*value="Asia/Shanghai"', page)


@pytest.mark.parametrize(
    ("field", "value"),
    [("display_name", "x" * 129), ("language", "tlh"), ("timezone", "Mars/Olympus"), ("theme", "pink")],
)
def test_a_profile_that_is_not_right_keeps_what_was_typed(alice: Person, field: str, value: str) -> None:
    answer = alice.client.post("/me", data={**PROFILE, "display_name": "Typed", field: value})
    page = answer.get_data(as_text=True)
    assert answer.status_code == 422
    assert f'id="{field}-error"' in page
    assert ("Typed" if field != "display_name" else value) in page


def test_the_language_is_set_from_any_page_and_leads_back(app: Flask, alice: Person) -> None:
    answer = alice.client.post("/me/language", data={"language": "zh_CN", "next": "/me/tokens"})
    assert (answer.status_code, answer.location) == (303, "/me/tokens")
    assert load(app, lambda: queries.user(alice.user.id).language) == "zh_CN"
    assert (
        alice.client.post("/me/language", data={"language": "en", "next": "//evil.example"}).location == "/me"
    )
    assert alice.client.post("/me/language", data={"language": "tlh"}).status_code == 422


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"current": "wrong"}, "current"),
        ({"new": "short", "repeated": "short"}, "new"),
        ({"repeated": "something else"}, "repeated"),
        ({"current": ""}, "current"),
    ],
)
def test_a_password_change_says_what_is_wrong_and_shows_no_password(
    alice: Person, fields: dict[str, str], field: str
) -> None:
    typed = {"current": factories.PASSWORD, "new": "a new long one", "repeated": "a new long one", **fields}
    answer = alice.client.post("/me/password", data=typed)
    page = answer.get_data(as_text=True)
    assert answer.status_code == 422
    assert f'id="{field}-error"' in page
    assert not any(f'value="{value}"' in page for value in typed.values() if value)
    assert alice.client.get("/me").status_code == 200


def test_guessing_the_present_password_ends_in_a_pause(alice: Person) -> None:
    fields = {"current": "wrong", "new": "a new long one", "repeated": "a new long one"}
    found = [alice.client.post("/me/password", data=fields).status_code for _ in range(11)]
    assert found == [422] * 10 + [429]


def test_a_token_is_shown_only_once(app: Flask, alice: Person) -> None:
    answer = alice.client.post("/me/tokens", data={"name": "deploy", "days": "30"})
    page = answer.get_data(as_text=True)
    (token,) = set(re.findall(r"sks_[\w-]{43}", page))
    assert answer.headers["Cache-Control"] == "no-store"
    answer = app.test_client().get("/api/v1/who", headers={"Authorization": f"Bearer {token}"})
    assert answer.json == "alice"
    again = text_of(alice.client, "/me/tokens")
    assert "deploy" in again
    assert token[:10] in again
    assert token not in again


@pytest.mark.parametrize(
    ("fields", "field"), [({"name": ""}, "name"), ({"days": "0"}, "days"), ({"days": "x"}, "days")]
)
def test_a_token_that_is_not_right_is_not_made(
    app: Flask, alice: Person, fields: dict[str, str], field: str
) -> None:
    answer = alice.client.post("/me/tokens", data={"name": "deploy", "days": "30", **fields})
    assert answer.status_code == 422
    assert f'id="{field}-error"' in answer.get_data(as_text=True)
    assert load(app, lambda: db.session.scalar(sa.select(sa.func.count(ApiToken.id)))) == 0


def test_a_token_without_days_is_valid_until_revoked(app: Flask, alice: Person) -> None:
    assert alice.client.post("/me/tokens", data={"name": "deploy", "days": ""}).status_code == 200
    row = load(app, lambda: db.session.scalars(sa.select(ApiToken)).one())
    assert row.expires_at is None
    assert [alice.client.post(f"/me/tokens/{row.id}/revoke").status_code for _ in range(2)] == [303, 409]
    assert "revoked" in text_of(alice.client, "/me/tokens")


def test_the_list_of_sessions_marks_this_one(browser_of: BrowserOf, alice: Person) -> None:
    other = browser_of("alice")
    page = text_of(alice.client, "/me/sessions")
    assert page.count("</svg> this session") == 1
    assert f"/me/sessions/{other.session_id}/end" in page
    assert f"/me/sessions/{alice.session_id}/end" not in page
    assert [alice.client.post(f"/me/sessions/{other.session_id}/end").status_code for _ in range(2)] == [
        303,
        409,
    ]


# ── Users ──


def test_a_user_is_added_and_can_sign_in(app: Flask, root: FlaskClient) -> None:
    ops, member = load(app, lambda: (factories.make_group("ops").id, factories.make_role("member").id))
    fields = {
        "username": "dora",
        "password": "long enough",
        "display_name": "Dora",
        "groups": ops,
        "roles": member,
    }
    assert root.post("/accounts/users/new", data=fields).status_code == 303
    assert "dora" in text_of(root, "/accounts/users")
    with app.app_context():
        found = signing_in.sign_in(
            username="dora",
            password="long enough",
            address="",
            user_agent="",
            settings=app.config["SKSTACK"],
            now=utcnow(),
        )
        assert [group.name for group in found.user.groups] == ["ops"]
        assert [role.name for role in found.user.roles] == ["member"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"username": "root"}, "username"),
        ({"username": "not good"}, "username"),
        ({"password": "short"}, "password"),
        ({"password": ""}, "password"),
        ({"email": "none"}, "email"),
        ({"groups": "999"}, "groups"),
        ({"roles": "x"}, "roles"),
    ],
)
def test_a_user_that_is_not_right_keeps_what_was_typed(
    app: Flask, root: FlaskClient, fields: dict[str, str], field: str
) -> None:
    typed = {"username": "dora", "password": "long enough", "display_name": "Typed", **fields}
    answer = root.post("/accounts/users/new", data=typed)
    page = answer.get_data(as_text=True)
    assert answer.status_code == 422
    assert f'id="{field}-error"' in page
    assert 'value="Typed"' in page
    assert "long enough" not in page
    assert load(app, lambda: queries.user_named("dora")) is None


def test_a_user_is_changed(app: Flask, root: FlaskClient, alice: Person) -> None:
    path = f"/accounts/users/{alice.user.id}"
    leads = load(app, lambda: factories.make_group("leads").id)
    page = text_of(root, path)
    assert re.search(r"<option[^>]* selected[^>]*>ops", page)
    assert (
        root.post(path, data={"display_name": "New", "groups": [leads], "superuser": "y"}).status_code == 303
    )
    user = load(app, lambda: queries.user(alice.user.id))
    assert (user.display_name, user.superuser, [group.name for group in user.groups], user.roles) == (
        "New",
        True,
        ["leads"],
        [],
    )
    answer = root.post(path, data={"display_name": "Typed", "email": "none", "superuser": "y"})
    assert answer.status_code == 422
    assert 'value="Typed"' in answer.get_data(as_text=True)


def test_htmx_is_led_on_by_a_header_so_that_the_notice_is_not_lost(root: FlaskClient, alice: Person) -> None:
    path = f"/accounts/users/{alice.user.id}"
    answer = root.post(path, data={"display_name": "New"}, headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (204, "/accounts/users")
    assert "alice was saved." in text_of(root, "/accounts/users")


def test_deactivating_and_activating(root: FlaskClient, alice: Person) -> None:
    path = f"/accounts/users/{alice.user.id}"
    assert [root.post(f"{path}/deactivate").status_code for _ in range(2)] == [303, 409]
    assert "alice" not in text_of(root, "/accounts/users?state=active").split('id="list"')[1]
    assert "Activate" in text_of(root, path)
    assert [root.post(f"{path}/activate").status_code for _ in range(2)] == [303, 409]


def test_a_new_password_is_set(root: FlaskClient, alice: Person) -> None:
    path = f"/accounts/users/{alice.user.id}/password"
    assert root.post(path, data={"new": "short", "repeated": "short"}).status_code == 422
    assert root.post(path, data={"new": "a new long one", "repeated": "another"}).status_code == 422
    assert alice.client.get("/me").status_code == 200
    assert root.post(path, data={"new": "a new long one", "repeated": "a new long one"}).status_code == 303
    assert alice.client.get("/me").status_code == 303


def test_who_is_no_superuser_can_neither_become_nor_touch_one(app: Flask, browser_of: BrowserOf) -> None:
    paula, root = browser_of("paula"), browser_of("root")
    path = f"/accounts/users/{root.user.id}"
    page = text_of(paula.client, path)
    assert "Only a superuser may change the account." in page
    assert 'id="form"' not in page
    new = {"new": "a new long one", "repeated": "a new long one"}
    assert paula.client.post(path, data={"display_name": "x"}).status_code == 403
    assert paula.client.post(f"{path}/password", data=new).status_code == 403
    assert paula.client.post(f"{path}/deactivate").status_code == 403
    assert 'name="superuser"' not in text_of(paula.client, "/accounts/users/new")
    fields = {"username": "dora", "password": "long enough", "superuser": "y"}
    assert paula.client.post("/accounts/users/new", data=fields).status_code == 403
    assert load(app, lambda: queries.user_named("dora")) is None
    paula.client.post(f"/accounts/users/{paula.user.id}", data={"superuser": "y"})
    assert not load(app, lambda: queries.user(paula.user.id)).superuser


def test_one_cannot_shut_oneself_out(app: Flask, browser_of: BrowserOf) -> None:
    me = browser_of("root")
    path = f"/accounts/users/{me.user.id}"
    page = text_of(me.client, path)
    assert "/deactivate" not in page
    assert 'name="superuser"' not in page
    assert me.client.post(f"{path}/deactivate").status_code == 403
    assert (
        me.client.post(
            f"{path}/password", data={"new": "a new long one", "repeated": "a new long one"}
        ).status_code
        == 403
    )
    assert me.client.post(path, data={"display_name": "Root"}).status_code == 303
    user = load(app, lambda: queries.user(me.user.id))
    assert (user.superuser, user.active, user.display_name) == (True, True, "Root")


def test_users_are_searched_and_paged(app: Flask, root: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries.users, "__kwdefaults__", {**queries.users.__kwdefaults__, "limit": 2})
    with app.app_context():
        for number in (98, 99, 100):
            factories.make_user(f"person{number:03}")
    page = text_of(root, "/accounts/users")
    assert "person099" in page
    assert "person100" not in page
    link = re.search(r'rel="next" href="([^"]+)"', page)
    assert link is not None
    assert "person100" in text_of(root, link[1])
    assert "No user matches" in text_of(root, "/accounts/users?q=nobody+here")


# ── Groups and roles ──


@pytest.mark.parametrize(("kind", "model"), [("groups", Group), ("roles", Role)])
def test_groups_and_roles_are_added_changed_and_deleted(
    app: Flask, root: FlaskClient, kind: str, model: Any
) -> None:
    assert "Add" in text_of(root, f"/accounts/{kind}")
    assert (
        root.post(f"/accounts/{kind}/new", data={"name": "night", "description": "on call"}).status_code
        == 303
    )
    row = load(app, lambda: db.session.scalars(sa.select(model)).one())
    path = f"/accounts/{kind}/{row.id}"
    assert "on call" in text_of(root, path)
    assert root.post(path, data={"name": "day", "description": "", "pages": ["audit"]}).status_code == 303
    assert "day" in text_of(root, f"/accounts/{kind}")
    assert [root.post(f"{path}/delete").status_code for _ in range(2)] == [303, 404]


@pytest.mark.parametrize("kind", ["groups", "roles"])
def test_a_name_that_is_taken_is_said_at_its_field(app: Flask, root: FlaskClient, kind: str) -> None:
    with app.app_context():
        factories.make_group("ops")
        factories.make_role("ops")
    answer = root.post(f"/accounts/{kind}/new", data={"name": "ops", "description": "Typed"})
    page = answer.get_data(as_text=True)
    assert answer.status_code == 422
    assert "The name ops is already taken." in page
    assert "Typed" in page


def test_a_role_shows_its_pages_and_refuses_others(app: Flask, root: FlaskClient) -> None:
    role_id = load(app, lambda: factories.make_role("auditor", ["audit"]).id)
    page = text_of(root, f"/accounts/roles/{role_id}")
    assert re.findall(r'value="(\w+)" checked', page) == ["audit"]
    answer = root.post(
        f"/accounts/roles/{role_id}", data={"name": "auditor", "pages": ["audit", "everything"]}
    )
    assert answer.status_code == 422
    assert 'id="pages-error"' in answer.get_data(as_text=True)


def test_a_group_that_a_work_order_uses_is_not_deleted(app: Flask, root: FlaskClient) -> None:
    from skstack.catalog.models import Environment, WorkOrder
    from skstack.db import transaction

    with app.app_context(), transaction():
        group = factories.make_group("ops")
        db.session.add(WorkOrder(name="site", environment=Environment(name="PROD"), submit_groups=[group]))
    group_id = group.id
    answer = root.post(f"/accounts/groups/{group_id}/delete")
    assert answer.status_code == 409
    assert "ops is used by work order site, so it was not deleted." in answer.get_data(as_text=True)
    assert load(app, lambda: db.session.get(Group, group_id)) is not None


def test_members_and_holders_are_named(app: Flask, root: FlaskClient, alice: Person) -> None:
    user: User = load(app, lambda: queries.user(alice.user.id))
    assert "Alice Archer" in text_of(root, f"/accounts/groups/{user.groups[0].id}")
    assert "Alice Archer" in text_of(root, f"/accounts/roles/{user.roles[0].id}")
