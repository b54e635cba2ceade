"""Who is asking: cookies, tokens, CSRF, redirects. Tests are named after the rules of ASVS 5.0 that they show."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy as sa
from flask import Flask, request, session
from flask.testing import FlaskClient
from flask_login import current_user
from werkzeug.test import TestResponse

from skstack import create_app
from skstack.accounts import ending, sessions
from skstack.accounts.models import ApiToken, User, UserSession
from skstack.config import Settings
from skstack.crypto import hashed
from skstack.db import transaction, utcnow
from skstack.extensions import db
from tests import factories
from tests.accounts.conftest import Person

ALICE = {"username": "alice", "password": factories.PASSWORD}
BrowserOf = Callable[[str], Person]


@pytest.fixture
def alice(app: Flask) -> User:
    with app.app_context():
        return factories.alice()


def csrf_of(client: FlaskClient, path: str = "/sign-in") -> str:
    page = client.get(path).get_data(as_text=True)
    return page.split('name="csrf_token" value="')[1].split('"')[0]


def sign_in(client: FlaskClient, path: str = "/sign-in", **fields: str) -> TestResponse:
    return client.post(path, data={**ALICE, "csrf_token": csrf_of(client), **fields})


def who(client: FlaskClient) -> str | None:
    answer = client.get("/who")
    return str(answer.json) if answer.status_code == 200 else None


def set_in(app: Flask, model: type[Any], row_id: int, **columns: Any) -> None:
    with app.app_context(), transaction():
        db.session.execute(sa.update(model).where(model.id == row_id).values(**columns))


@contextmanager
def counted(app: Flask) -> Iterator[list[str]]:
    """Collect the statements that are sent to the database."""
    statements: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    with app.app_context():
        engine = db.engine
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


def queries_of(statements: list[str]) -> list[str]:
    return [one for one in statements if not one.startswith("BEGIN")]


# ── Signing in and out through the pages ──


def test_signing_in_leads_on_and_signing_out_ends_it(client: FlaskClient, alice: User) -> None:
    answer = sign_in(client)
    assert (answer.status_code, answer.location) == (303, "/")
    assert who(client) == "alice"
    answer = client.post("/sign-out", data={"csrf_token": csrf_of(client, "/me")})
    assert (answer.status_code, answer.location) == (303, "/sign-in")
    assert who(client) is None


def test_a_wrong_password_shows_the_form_again_without_it(client: FlaskClient, alice: User) -> None:
    answer = sign_in(client, password="something wrong")
    page = answer.get_data(as_text=True)
    assert answer.status_code == 422
    assert "The user name or the password is wrong." in page
    assert 'value="alice"' in page
    assert "something wrong" not in page
    assert who(client) is None


def test_an_empty_form_says_what_is_missing(client: FlaskClient, alice: User) -> None:
    answer = sign_in(client, username="", password="")
    assert answer.status_code == 422
    assert answer.get_data(as_text=True).count("This is needed.") == 2


def test_beyond_the_limit_the_page_says_when_to_come_back(
    app: Flask, client: FlaskClient, alice: User
) -> None:
    for _ in range(10):
        assert sign_in(client, password="wrong").status_code == 422
    answer = sign_in(client)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 900
    assert "Too many failed attempts. Try again in 15 min" in answer.get_data(as_text=True)


def test_asvs_6_3_1_the_limit_holds_in_all_web_processes(app: Flask, settings: Settings, alice: User) -> None:
    clients = [app.test_client(), create_app(settings).test_client()]
    for number in range(10):
        assert sign_in(clients[number % 2], password="wrong").status_code == 422
    assert [sign_in(client).status_code for client in clients] == [429, 429]


def test_the_sign_in_page_leads_on_whoever_is_signed_in(client: FlaskClient, alice: User) -> None:
    sign_in(client)
    assert client.get("/sign-in").location == "/"
    assert client.get("/sign-in?next=/me").location == "/me"


@pytest.mark.parametrize("path", ["/me", "/accounts/users?q=a%26b&state=active"])
def test_a_page_asked_for_without_a_session_is_shown_after_signing_in(
    client: FlaskClient, alice: User, path: str
) -> None:
    answer = client.get(path)
    assert answer.status_code == 303
    leads_to = urlsplit(answer.location)
    wanted = parse_qs(leads_to.query)["next"][0]
    assert (leads_to.path, wanted) == ("/sign-in", path)
    assert "Sign in to go on." in client.get(answer.location).get_data(as_text=True)
    assert sign_in(client, next=wanted).location == path


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "///evil.example/",
        "/\\evil.example/",
        "\\\\evil.example/",
        "/\t/evil.example/",
        "/\r\n/evil.example/",
        "javascript:alert(1)",
        "me",
        "@evil.example",
        "",
        "/" + "x" * 3000,
    ],
)
def test_asvs_3_7_2_signing_in_leads_to_no_other_site(client: FlaskClient, alice: User, target: str) -> None:
    assert sign_in(client, next=target).location == "/"
    assert client.get("/sign-in", query_string={"next": target}).location == "/"


@pytest.mark.parametrize("path", ["/", "/me", "/tickets?status=failed&q=%C3%A4", "/a/b#c"])
def test_paths_of_this_site_are_kept(path: str) -> None:
    assert sessions.local_path(path, "/elsewhere") == path


def test_a_fragment_or_an_action_without_a_session_is_told_so(client: FlaskClient, alice: User) -> None:
    fragment = client.get("/me", headers={"HX-Request": "true"})
    assert (fragment.status_code, fragment.location) == (401, None)
    assert "<html" not in fragment.get_data(as_text=True)
    action = client.post("/me", data={"display_name": "x"})
    assert (action.status_code, action.location) == (401, None)


# ── The cookie ──


def test_asvs_3_3_the_cookie_is_for_the_server_only(app: Flask, client: FlaskClient, alice: User) -> None:
    header = sign_in(client).headers["Set-Cookie"]
    attributes = {part.strip().lower() for part in header.split(";")}
    assert {"httponly", "samesite=lax", "path=/"} <= attributes
    assert not any(part.startswith(("domain", "expires", "max-age")) for part in attributes)


def test_asvs_3_3_1_behind_tls_the_cookie_is_secure_and_of_this_host(
    app: Flask, settings: Settings, alice: User
) -> None:
    client = create_app(dataclasses.replace(settings, secure_cookies=True)).test_client()
    base = "https://localhost"
    page = client.get("/sign-in", base_url=base).get_data(as_text=True)
    fields = {**ALICE, "csrf_token": page.split('name="csrf_token" value="')[1].split('"')[0]}
    answer = client.post("/sign-in", data=fields, base_url=base, headers={"Referer": f"{base}/sign-in"})
    header = answer.headers["Set-Cookie"]
    assert answer.status_code == 303
    assert header.startswith("__Host-skstack=")
    assert "; Secure" in header
    assert "; Path=/" in header


def test_asvs_7_2_4_signing_in_changes_the_session_token(
    app: Flask, client: FlaskClient, alice: User
) -> None:
    sign_in(client)
    client.get("/me")
    with client.session_transaction() as before:
        first, secret = before["_user_id"], before["csrf_token"]
    client.post("/sign-out", data={"csrf_token": csrf_of(client, "/me")})
    sign_in(client)
    client.get("/me")
    with client.session_transaction() as after:
        assert after["_user_id"] != first
        assert after["csrf_token"] != secret


def test_nothing_planted_in_the_cookie_before_survives(app: Flask, client: FlaskClient, alice: User) -> None:
    with client.session_transaction() as planted:
        planted["something"] = "planted"
    secret = csrf_of(client)
    with client.session_transaction() as before:
        raw = before["csrf_token"]
    client.post("/sign-in", data={**ALICE, "csrf_token": secret})
    with client.session_transaction() as after:
        assert "something" not in after
        assert after.get("csrf_token") != raw


def test_only_a_hash_of_the_token_is_stored(app: Flask, client: FlaskClient, alice: User) -> None:
    sign_in(client)
    with client.session_transaction() as cookie, app.app_context():
        kept = db.session.scalars(sa.select(UserSession.token_hash)).all()
        assert kept == [hashed(cookie["_user_id"])]


@pytest.mark.parametrize("token", [None, 7, "", "rubbish", ["list"], "x" * 5000])
def test_a_token_of_no_session_is_nobodys(client: FlaskClient, alice: User, token: Any) -> None:
    with client.session_transaction() as cookie:
        cookie["_user_id"] = token
    assert who(client) is None


def test_a_cookie_of_another_program_on_this_host_does_no_harm(client: FlaskClient, alice: User) -> None:
    client.set_cookie("remember_token", "alice|rubbish")
    sign_in(client)
    assert who(client) == "alice"


def test_a_cookie_that_we_did_not_sign_is_nobodys(client: FlaskClient, browser_of: BrowserOf) -> None:
    known = browser_of("alice").client.get_cookie("skstack")
    assert known is not None
    client.set_cookie("skstack", known.value[:-4] + "AAAA")
    assert who(client) is None


def test_asvs_7_4_1_after_signing_out_a_copied_cookie_is_worthless(app: Flask, browser_of: BrowserOf) -> None:
    person = browser_of("alice")
    cookie = person.client.get_cookie("skstack")
    assert cookie is not None
    thief = app.test_client()
    thief.set_cookie("skstack", cookie.value)
    assert who(thief) == "alice"
    person.client.post("/sign-out")
    assert who(thief) is None


def test_asvs_7_4_2_deactivation_ends_sessions_on_every_device(app: Flask, browser_of: BrowserOf) -> None:
    devices = [browser_of("alice") for _ in range(3)]
    assert [who(device.client) for device in devices] == ["alice"] * 3
    root = browser_of("root").client
    assert root.post(f"/accounts/users/{devices[0].user.id}/deactivate").status_code == 303
    assert [who(device.client) for device in devices] == [None] * 3
    assert root.post(f"/accounts/users/{devices[0].user.id}/activate").status_code == 303
    assert [who(device.client) for device in devices] == [None] * 3


def test_asvs_7_4_3_a_new_password_ends_the_sessions_on_other_devices(browser_of: BrowserOf) -> None:
    here, there = browser_of("alice"), browser_of("alice")
    fields = {"current": factories.PASSWORD, "new": "a new long one", "repeated": "a new long one"}
    assert here.client.post("/me/password", data=fields).status_code == 303
    assert (who(here.client), who(there.client)) == ("alice", None)


def test_a_password_set_by_an_administrator_ends_every_session(browser_of: BrowserOf) -> None:
    devices = [browser_of("alice") for _ in range(2)]
    fields = {"new": "a new long one", "repeated": "a new long one"}
    path = f"/accounts/users/{devices[0].user.id}/password"
    assert browser_of("root").client.post(path, data=fields).status_code == 303
    assert [who(device.client) for device in devices] == [None] * 2


def test_asvs_7_5_2_sessions_can_be_ended_one_by_one_and_all_others(browser_of: BrowserOf) -> None:
    here, second, third, fourth = (browser_of("alice") for _ in range(4))
    assert here.client.post(f"/me/sessions/{second.session_id}/end").status_code == 303
    assert [who(one.client) for one in (here, second, third)] == ["alice", None, "alice"]
    assert here.client.post("/me/sessions/end-others").status_code == 303
    assert [who(one.client) for one in (here, third, fourth)] == ["alice", None, None]


@pytest.mark.parametrize(
    ("columns", "holds"),
    [
        ({"seen_at": dt.timedelta(hours=11, minutes=58)}, True),
        ({"seen_at": dt.timedelta(hours=12, minutes=1)}, False),
        ({"created_at": dt.timedelta(days=6, hours=23)}, True),
        ({"created_at": dt.timedelta(days=7, minutes=1)}, False),
    ],
    ids=["asvs_7_3_1 used lately", "asvs_7_3_1 unused too long", "asvs_7_3_2 young", "asvs_7_3_2 too old"],
)
def test_a_session_ends_by_itself(
    app: Flask, browser_of: BrowserOf, columns: dict[str, dt.timedelta], holds: bool
) -> None:
    person = browser_of("alice")
    set_in(app, UserSession, person.session_id, **{key: utcnow() - ago for key, ago in columns.items()})
    assert (who(person.client) == "alice") is holds


def test_a_form_left_open_can_be_sent_after_signing_in_again(app: Flask, browser_of: BrowserOf) -> None:
    person = browser_of("alice")
    form = {"display_name": "Alice the Late", "csrf_token": csrf_of(person.client, "/me")}
    set_in(app, UserSession, person.session_id, seen_at=utcnow() - dt.timedelta(days=1))
    del person.client.environ_base["HTTP_X_CSRFTOKEN"]
    form |= {"language": "", "timezone": "", "theme": "auto"}
    assert person.client.post("/me", data=form).status_code == 401
    assert sign_in(person.client).status_code == 303
    assert person.client.post("/me", data=form).status_code == 303


# ── CSRF ──


@pytest.mark.parametrize("given", [{}, {"csrf_token": "rubbish"}, {"csrf_token": ""}])
@pytest.mark.parametrize(
    "path",
    ["/sign-out", "/me", "/me/password", "/me/tokens", "/me/sessions/end-others", "/accounts/groups/new"],
)
def test_asvs_3_5_1_actions_need_the_forms_token(
    app: Flask, browser_of: BrowserOf, path: str, given: dict[str, str]
) -> None:
    root = browser_of("root").client
    del root.environ_base["HTTP_X_CSRFTOKEN"]
    answer = root.post(path, data={"name": "x", **given})
    assert answer.status_code == 400
    assert "too old to be sent" in answer.get_data(as_text=True)
    assert who(root) == "root"


def test_asvs_3_5_1_signing_in_needs_the_forms_token_too(client: FlaskClient, alice: User) -> None:
    assert client.post("/sign-in", data=ALICE).status_code == 400
    assert who(client) is None


def test_the_forms_token_of_another_person_does_not_do(app: Flask, browser_of: BrowserOf) -> None:
    alice, mallory = browser_of("alice").client, browser_of("mallory").client
    alice.environ_base["HTTP_X_CSRFTOKEN"] = mallory.environ_base["HTTP_X_CSRFTOKEN"]
    assert alice.post("/sign-out").status_code == 400


# ── The API ──


def test_a_token_opens_the_api_and_a_cookie_does_not(app: Flask, browser_of: BrowserOf) -> None:
    person = browser_of("alice")
    answer = person.client.get("/api/v1/who")
    assert answer.status_code == 401
    assert answer.content_type == "application/problem+json"
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    with app.app_context():
        headers = factories.bearer(person.user)
    assert app.test_client().get("/api/v1/who", headers=headers).json == "alice"


def test_a_token_opens_no_page(app: Flask, client: FlaskClient, alice: User) -> None:
    with app.app_context():
        headers = factories.bearer(alice)
    assert client.get("/who", headers=headers).status_code == 303
    assert client.post("/who", headers=headers).status_code == 401


def test_the_api_needs_no_forms_token_but_only_because_no_cookie_counts(
    app: Flask, browser_of: BrowserOf
) -> None:
    person = browser_of("alice")
    with app.app_context():
        headers = factories.bearer(person.user)
    assert app.test_client().post("/api/v1/who", headers=headers).json == "alice"
    assert person.client.post("/api/v1/who").status_code == 401


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer rubbish", "Basic YWxpY2U6eA==", "Token x", "Bearer \x7f", "Bearer é"],
)
def test_anything_but_a_token_is_refused(client: FlaskClient, alice: User, header: str) -> None:
    answer = client.get("/api/v1/who", headers={"Authorization": header})
    assert (answer.status_code, answer.content_type) == (401, "application/problem+json")
    assert answer.json is not None
    assert answer.json["status"] == 401


@pytest.mark.parametrize("how", ["revoked", "expired", "deactivated"])
def test_a_token_that_no_longer_holds_is_refused(
    app: Flask, client: FlaskClient, alice: User, how: str
) -> None:
    with app.app_context():
        headers = {"Authorization": f"bearer {factories.make_token(alice, days=1)}"}
        token_id = db.session.scalar(sa.select(ApiToken.id))
    assert token_id is not None
    assert client.get("/api/v1/who", headers=headers).status_code == 200
    if how == "revoked":
        set_in(app, ApiToken, token_id, revoked_at=utcnow())
    elif how == "expired":
        set_in(app, ApiToken, token_id, expires_at=utcnow())
    else:
        set_in(app, User, alice.id, active=False)
    answer = client.get("/api/v1/who", headers=headers)
    assert answer.status_code == 401
    assert answer.json is not None
    assert "not valid" in answer.json["detail"]


# ── What it costs: the log asks a hundred times a second ──


@pytest.mark.parametrize("way", ["cookie", "token"])
def test_one_statement_finds_user_groups_and_roles(app: Flask, way: str) -> None:
    seen: list[Any] = []

    @app.before_request
    def look() -> None:
        user = sessions.signed_in_user()
        seen.append(
            (
                user.name,
                [group.name for group in user.groups],
                [role.name for role in user.roles],
                user.may("audit"),
            )
        )

    client = app.test_client()
    with app.app_context():
        groups = [factories.make_group(name) for name in ("b", "a", "c")]
        roles = [factories.make_role("writer"), factories.make_role("auditor", ["audit"])]
        user = factories.make_user("uma", groups=groups, roles=roles)
        factories.sign_in(client, user)
        headers = factories.bearer(user)
    path, headers = ("/who", {}) if way == "cookie" else ("/api/v1/who", headers)
    client.get(path, headers=headers)
    with counted(app) as statements:
        assert client.get(path, headers=headers).json == "uma"
    assert len(queries_of(statements)) == 1, statements
    assert seen[-1] == ("uma", ["a", "b", "c"], ["auditor", "writer"], True)


@pytest.mark.parametrize(
    ("way", "model", "column"), [("cookie", UserSession, "seen_at"), ("token", ApiToken, "used_at")]
)
def test_last_use_is_written_at_most_once_a_minute(
    app: Flask, browser_of: BrowserOf, way: str, model: type[Any], column: str
) -> None:
    person = browser_of("alice")
    with app.app_context():
        headers = factories.bearer(person.user)
    path, headers = ("/who", {}) if way == "cookie" else ("/api/v1/who", headers)

    def last_use() -> dt.datetime:
        with app.app_context():
            found: dt.datetime | None = db.session.scalar(sa.select(getattr(model, column)))
            assert found is not None
            return found

    person.client.get(path, headers=headers)
    first = last_use()
    person.client.get(path, headers=headers)
    assert last_use() == first
    with app.app_context():
        row_id = db.session.scalars(sa.select(model.id)).one()
    set_in(app, model, row_id, **{column: utcnow() - dt.timedelta(seconds=61)})
    person.client.get(path, headers=headers)
    assert last_use() > first


def test_a_busy_database_keeps_nobody_from_reading(
    app: Flask, browser_of: BrowserOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = browser_of("alice")
    set_in(app, UserSession, person.session_id, seen_at=utcnow() - dt.timedelta(hours=1))

    def busy() -> Iterator[None]:
        raise sa.exc.OperationalError("update", {}, Exception("database is locked"))
        yield

    monkeypatch.setattr(sessions, "transaction", contextmanager(busy))
    assert who(person.client) == "alice"


def test_a_failing_database_is_a_clear_503(
    app: Flask, browser_of: BrowserOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = browser_of("alice")

    def fail(*_: Any) -> None:
        raise sa.exc.OperationalError("select", {}, Exception("gone"))

    monkeypatch.setattr(sessions, "_statement", fail)
    answer = person.client.get("/me")
    assert answer.status_code == 503
    assert "The database does not answer" in answer.get_data(as_text=True)


def test_the_row_behind_current_user_is_given_to_services(app: Flask, alice: User) -> None:
    with app.test_request_context():
        sessions.begin(alice, "token")
        assert sessions.signed_in_user() is alice
        assert current_user.username == "alice"
        assert request.path == "/"
        sessions.forget()
        assert not current_user.is_authenticated
        assert sessions.current_session_id() is None
        assert not session


def test_sign_out_twice_is_quiet(app: Flask, browser_of: BrowserOf) -> None:
    person = browser_of("alice")
    with app.app_context():
        ending.end_sessions(person.user, actor=None, now=utcnow())
    assert person.client.post("/sign-out").status_code == 401
