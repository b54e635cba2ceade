"""Every route about people × everyone who may ask: fault 20 of the design."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask, request
from flask.testing import FlaskClient

from skstack.accounts.models import ApiToken, User, UserSession
from skstack.extensions import db
from skstack.web.permissions import Permission, declared
from tests import factories
from tests.accounts.conftest import Person

BrowserOf = Callable[[str], Person]
ANYONE = {
    "accounts.sign_in",
    "accounts.sign_in_post",
    "accounts.code",
    "accounts.code_post",
    "accounts.set_up",
    "accounts.set_up_post",
    "accounts.oidc_begin",
    "accounts.oidc_callback",
}
OWN = {
    "accounts.sign_out",
    "accounts.me",
    "accounts.change_me",
    "accounts.set_language",
    "accounts.choose_columns",
    "accounts.my_password",
    "accounts.change_my_password",
    "accounts.my_second_factor",
    "accounts.begin_second_factor",
    "accounts.confirm_second_factor",
    "accounts.renew_recovery_codes",
    "accounts.switch_second_factor_off",
    "accounts.my_tokens",
    "accounts.create_token",
    "accounts.revoke_token",
    "accounts.my_sessions",
    "accounts.end_session",
    "accounts.end_other_sessions",
}
# The second step of a sign-in: without one that waits for it there is nothing to do but begin.
SECOND_STEP = {"accounts.code", "accounts.code_post", "accounts.set_up", "accounts.set_up_post"}
# No provider is set. What these pages do with one is in test_oidc.py.
NO_PROVIDER = {"accounts.oidc_begin", "accounts.oidc_callback"}
# What the other requests need is taken away at the end.
LAST = ("accounts.delete_group", "accounts.delete_role", "accounts.end_other_sessions", "accounts.sign_out")
VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@pytest.fixture
def routes(app: Flask) -> list[tuple[str, str, str]]:
    """Give each route about people: endpoint, method, and its address about objects that exist."""
    with app.app_context():
        user, group, role = (
            factories.make_user("target"),
            factories.make_group("unused"),
            factories.make_role("unused"),
        )
        factories.make_token(user)
        ids = {
            "user_id": user.id,
            "group_id": group.id,
            "role_id": role.id,
            "token_id": db.session.scalars(sa.select(ApiToken.id)).one(),
            "session_id": 10_000,
            "identity_id": 10_000,
            "name": "tickets",
        }
    found = []
    with app.test_request_context():
        adapter = app.create_url_adapter(request) or pytest.fail("no adapter")
        for rule in app.url_map.iter_rules():
            if rule.endpoint.startswith("accounts."):
                address = adapter.build(rule.endpoint, {name: ids[name] for name in rule.arguments})
                found += [
                    (rule.endpoint, method, address) for method in (rule.methods or set()) & {"GET", "POST"}
                ]
    return sorted(found, key=lambda route: (route[0] in LAST, route))


def ask(client: FlaskClient, method: str, address: str) -> int:
    return client.open(address, method=method, data={} if method == "POST" else None).status_code


def test_every_route_declares_the_permission_it_should(
    app: Flask, routes: list[tuple[str, str, str]]
) -> None:
    for endpoint, method, _ in routes:
        permission = declared(app, endpoint, method)
        if endpoint in ANYONE:
            assert permission == (Permission.ANYONE,)
        elif endpoint in OWN:
            assert permission == (Permission.SIGNED_IN,)
        else:
            assert permission == ("users",), endpoint


def test_anonymous_people_only_sign_in(client: FlaskClient, routes: list[tuple[str, str, str]]) -> None:
    for endpoint, method, address in routes:
        status = ask(client, method, address)
        if endpoint in ANYONE:
            expected = 404 if endpoint in NO_PROVIDER else 303 if endpoint in SECOND_STEP else 200
            assert status == (400 if method == "POST" else expected), endpoint
        else:
            assert status == (303 if method == "GET" else 401), endpoint


@pytest.mark.parametrize("name", ["alice", "bob", "carol", "mallory"])
def test_those_without_the_page_reach_their_own_profile_only(
    browser_of: BrowserOf, routes: list[tuple[str, str, str]], name: str
) -> None:
    client = browser_of(name).client
    for endpoint, method, address in routes:
        status = ask(client, method, address)
        if endpoint in ANYONE:
            assert status in ((404,) if endpoint in NO_PROVIDER else (303, 422)), endpoint
        elif endpoint in ("accounts.revoke_token", "accounts.end_session"):
            assert status == 404, f"{endpoint}: another's, so that it does not exist"
        elif endpoint == "accounts.confirm_second_factor":
            assert status == 410, f"{endpoint}: nothing waits to be confirmed"
        elif endpoint in OWN:
            assert status in (200, 303, 422), endpoint
        else:
            assert status == 403, endpoint


@pytest.mark.parametrize("name", ["paula", "root"])
def test_administrators_reach_every_page(
    browser_of: BrowserOf, routes: list[tuple[str, str, str]], name: str
) -> None:
    client = browser_of(name).client
    for endpoint, method, address in routes:
        status = ask(client, method, address)
        if endpoint in ("accounts.revoke_token", "accounts.end_session"):
            assert status == 404, endpoint
        elif endpoint == "accounts.confirm_second_factor":
            assert status == 410, endpoint
        elif endpoint in NO_PROVIDER:
            assert status == 404, endpoint
        elif endpoint in (
            "accounts.activate_user",
            "accounts.remove_second_factor",
            "accounts.unlink_identity",
        ):
            assert status == 409, f"{endpoint}: active, without a second factor, linked to nothing"
        else:
            assert status in (200, 303, 422), endpoint


def test_a_role_taken_away_closes_its_pages_at_once(app: Flask, browser_of: BrowserOf) -> None:
    paula = browser_of("paula")
    assert ask(paula.client, "GET", "/accounts/users") == 200
    with app.app_context():
        role_id = db.session.get_one(User, paula.user.id).roles[0].id
    fields = {"name": "nothing any more"}
    assert browser_of("root").client.post(f"/accounts/roles/{role_id}", data=fields).status_code == 303
    assert ask(paula.client, "GET", "/accounts/users") == 403


def test_wrong_methods_are_refused(browser_of: BrowserOf, routes: list[tuple[str, str, str]]) -> None:
    client = browser_of("root").client
    taken: dict[str, set[str]] = {}
    for _, method, address in routes:
        taken.setdefault(address, set()).add(method)
    for address, methods in taken.items():
        for method in set(VERBS) - methods:
            assert ask(client, method, address) == 405, (method, address)


def test_what_does_not_exist_is_not_found(browser_of: BrowserOf) -> None:
    client = browser_of("root").client
    for kind in ("users", "groups", "roles"):
        for method in ("GET", "POST"):
            assert ask(client, method, f"/accounts/{kind}/9999") == 404
    for address in (
        "users/9999/deactivate",
        "users/9999/activate",
        "users/9999/second-factor/remove",
        "users/9999/identities/1/unlink",
        "groups/9999/delete",
        "roles/9999/delete",
    ):
        assert ask(client, "POST", f"/accounts/{address}") == 404


def test_the_sessions_and_tokens_of_others_do_not_exist(app: Flask, browser_of: BrowserOf) -> None:
    alice, root = browser_of("alice"), browser_of("root")
    with app.app_context():
        factories.make_token(alice.user)
        token_id = db.session.scalars(sa.select(ApiToken.id)).one()
    assert ask(root.client, "POST", f"/me/sessions/{alice.session_id}/end") == 404
    assert ask(root.client, "POST", f"/me/tokens/{token_id}/revoke") == 404
    with app.app_context():
        assert db.session.get_one(UserSession, alice.session_id).ended_at is None
        assert db.session.get_one(ApiToken, token_id).revoked_at is None
