"""Single sign-on with a real provider on loopback, one that misbehaves too."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pyotp
import pytest
import requests
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient, FlaskCliRunner
from werkzeug.test import TestResponse

from skstack import config, create_app
from skstack.accounts import queries, second_factor, services
from skstack.accounts.models import ExternalIdentity, User, UserSession
from skstack.audit.models import AuditEvent
from skstack.audit.services import Action
from skstack.config import ConfigError, Settings
from skstack.db import transaction, utcnow
from skstack.extensions import db
from tests import factories
from tests.accounts.conftest import Person
from tests.oidc_provider import CLIENT_ID, CLIENT_SECRET, Provider

BrowserOf = Callable[[str], Person]


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    provider = Provider()
    provider.start()
    yield provider
    provider.stop()


@pytest.fixture
def provider(running: Provider) -> Iterator[Provider]:
    running.reset()
    yield running
    running.reset()


@pytest.fixture
def settings(settings: Settings, provider: Provider) -> Settings:
    return dataclasses.replace(
        settings,
        oidc_issuer=provider.issuer,
        oidc_client_id=CLIENT_ID,
        oidc_client_secret=CLIENT_SECRET,
        oidc_label="The company's sign-in",
        oidc_groups={"ops": ("operators",), "leads": ("chiefs",)},
        oidc_roles={"member": ("operators",)},
    )


def begin(client: FlaskClient, query: str = "") -> str:
    """Go to the provider and return the address that it sends back to, without its host."""
    answer = client.get(f"/sign-in/oidc{query}")
    assert answer.status_code == 302
    back = requests.get(answer.location, allow_redirects=False, timeout=10).headers["Location"]
    parts = urlsplit(back)
    assert parts.path == "/sign-in/oidc/callback"
    return f"{parts.path}?{parts.query}"


def sign_in(client: FlaskClient, query: str = "") -> TestResponse:
    return client.get(begin(client, query))


def is_signed_in(client: FlaskClient) -> bool:
    return client.get("/who").status_code == 200


def said(answer: TestResponse) -> str:
    return answer.get_data(as_text=True).replace("&#39;", "'")


def failures() -> list[str]:
    statement = sa.select(AuditEvent).where(AuditEvent.action == str(Action.SIGN_IN_FAILED))
    return [event.changes["reason"] for event in db.session.scalars(statement.order_by(AuditEvent.id))]


@pytest.fixture
def fay(app: Flask) -> Callable[[], User]:
    """Give what finds the user who came from the provider, within an application context."""
    return lambda: db.session.scalars(
        sa.select(User).join(ExternalIdentity).where(ExternalIdentity.subject == "1001")
    ).one()


def test_the_first_sign_in_makes_a_user_and_the_next_finds_it(
    app: Flask, client: FlaskClient, fay: Callable[[], User], provider: Provider
) -> None:
    with app.app_context():
        factories.make_group("ops"), factories.make_group("leads"), factories.make_role("member")
    button = said(client.get("/sign-in?next=/me/tokens"))
    assert 'href="/sign-in/oidc?next=/me/tokens"' in button
    assert "The company's sign-in" in button
    before = client.get_cookie("skstack")
    answer = sign_in(client, "?next=/me/tokens")
    assert (answer.status_code, answer.location) == (303, "/me/tokens")
    assert client.get("/who").json == "fay"
    # Nothing that the browser had before survives: neither the cookie nor what was kept for the way there and back.
    with client.session_transaction() as cookie:
        assert set(cookie) == {"_user_id"}
    assert before is not None
    with app.app_context():
        user = fay()
        assert (user.display_name, user.email, user.password_hash) == ("Fay Fisher", "fay@example.org", None)
        assert [group.name for group in user.groups] == ["ops"]
        assert [role.name for role in user.roles] == ["member"]
        assert not user.superuser
    # Known by the subject: a new name at the provider changes nobody here.
    provider.claims |= {"preferred_username": "fay.fisher", "groups": ["chiefs"]}
    other = app.test_client()
    assert sign_in(other).status_code == 303
    assert other.get("/who").json == "fay"
    with app.app_context():
        assert [group.name for group in fay().groups] == ["leads"]
        assert not fay().roles
        events = db.session.scalars(sa.select(AuditEvent).where(AuditEvent.action == str(Action.SIGNED_IN)))
        assert [event.changes["way"] for event in events] == ["provider", "provider"]


def test_the_request_has_what_protects_it(client: FlaskClient, settings: Settings) -> None:
    query = parse_qs(urlsplit(client.get("/sign-in/oidc").location).query)
    assert query["code_challenge_method"] == ["S256"]
    assert len(query["nonce"][0]) >= 16
    assert len(query["state"][0]) >= 16
    assert query["scope"] == ["openid profile email"]
    assert query["redirect_uri"] == ["http://localhost/sign-in/oidc/callback"]
    again = parse_qs(urlsplit(client.get("/sign-in/oidc").location).query)
    assert not {again[name][0] for name in ("nonce", "state")} & {
        query[name][0] for name in ("nonce", "state")
    }


def test_the_address_that_people_use_is_where_the_provider_sends_back_to(
    app: Flask, client: FlaskClient
) -> None:
    app.config["SKSTACK"] = dataclasses.replace(app.config["SKSTACK"], public_url="https://sk.example.org/")
    answer = client.get("/sign-in/oidc", headers={"Host": "evil.example.org"})
    query = parse_qs(urlsplit(answer.location).query)
    assert query["redirect_uri"] == ["https://sk.example.org/sign-in/oidc/callback"]


def test_asvs_3_7_2_the_way_back_leads_to_no_other_site(client: FlaskClient) -> None:
    for target in ("https://example.org/", "//example.org", "/\\example.org", "javascript:alert(1)"):
        assert client.get(begin(client, f"?{urlencode({'next': target})}")).location == "/", target


WRONG_TOKENS: dict[str, dict[str, Any]] = {
    "nonce": {"nonce": "another"},
    "no nonce": {"nonce": None},
    "no nonce, as if it were not known": {"nonce": None, "nonce_supported": False},
    "audience": {"aud": "another client"},
    "audience, and presented by us": {"aud": "another client", "azp": CLIENT_ID},
    "presented by another": {"aud": [CLIENT_ID, "another"], "azp": "another"},
    "no audience": {"aud": None},
    "issuer": {"iss": "https://elsewhere.example.org"},
    "no issuer": {"iss": None},
    "expired": {"exp": int(time.time()) - 3600},
    "no end": {"exp": None},
    "from the future": {"iat": int(time.time()) + 86400, "nbf": int(time.time()) + 86400},
    "no subject": {"sub": None},
    "empty subject": {"sub": ""},
    "subject that is no text": {"sub": 1001},
    "long subject": {"sub": "x" * 256},
}


def test_an_id_token_that_does_not_hold_signs_nobody_in(
    app: Flask, client: FlaskClient, provider: Provider
) -> None:
    for what, changes in WRONG_TOKENS.items():
        provider.in_token = changes
        answer = sign_in(client)
        assert answer.status_code == 403, what
        assert "The answer of The company's sign-in was too old or not meant" in said(answer)
        assert not is_signed_in(client), what
    for signature in ("another key", "client secret", "nothing"):
        provider.in_token, provider.signed_with = {}, signature
        assert sign_in(client).status_code == 403, signature
        assert not is_signed_in(client), signature
    with app.app_context():
        assert db.session.scalars(sa.select(User)).all() == []
    provider.signed_with = "key"
    assert sign_in(client).status_code == 303


def test_state_and_code_are_good_once_and_only_in_the_browser_that_began(
    app: Flask, client: FlaskClient, provider: Provider
) -> None:
    victim, back = app.test_client(), begin(client)
    # An attacker's own code in another's browser would sign them in as the attacker.
    assert victim.get(back).status_code == 403
    begin(victim)
    assert victim.get(back).status_code == 403
    assert "/token" not in provider.asked
    assert client.get(back).status_code == 303
    client.post("/sign-out")
    assert client.get(back).status_code == 403
    for query in ("", "?code=x", "?state=x", "?code=x&state=x", "?error=server_error"):
        assert app.test_client().get(f"/sign-in/oidc/callback{query}").status_code == 403


def test_a_code_that_the_provider_does_not_know_signs_nobody_in(
    client: FlaskClient, provider: Provider
) -> None:
    back = begin(client)
    provider.codes.clear()
    assert client.get(back).status_code == 403


def test_a_browser_without_the_code_verifier_gets_nothing(client: FlaskClient, provider: Provider) -> None:
    back = begin(client)
    with client.session_transaction() as cookie:
        (key,) = (key for key in cookie if key.startswith("_state_"))
        cookie[key] = {**cookie[key], "data": {**cookie[key]["data"], "code_verifier": "x" * 48}}
    assert client.get(back).status_code == 403


def test_a_refusal_of_the_provider_is_said(client: FlaskClient, provider: Provider) -> None:
    provider.refuses = True
    answer = sign_in(client)
    assert (answer.status_code, "did not let you in" in said(answer)) == (403, True)


def test_a_name_that_is_taken_is_nobodys_to_take_over(
    app: Flask, client: FlaskClient, provider: Provider
) -> None:
    with app.app_context():
        factories.root()
        services.create_user(actor=None, username="without-password", superuser=True)
    for name in ("ROOT", "without-password"):
        provider.claims["preferred_username"] = name
        answer = sign_in(client)
        assert answer.status_code == 422
        assert f"There is an account {name} already, and it is not linked to you." in said(answer)
        assert not is_signed_in(client)
    with app.app_context():
        assert db.session.scalars(sa.select(ExternalIdentity)).all() == []
        assert failures() == ["name taken", "name taken"]


def test_somebody_elses_subject_is_not_one_of_another_issuer(
    app: Flask, client: FlaskClient, provider: Provider
) -> None:
    with app.app_context():
        alice = factories.alice()
        with transaction():
            identity = ExternalIdentity(
                user_id=alice.id, issuer="https://elsewhere.example.org", subject="1001"
            )
            db.session.add(identity)
    assert sign_in(client).status_code == 303
    assert client.get("/who").json == "fay"


def test_a_command_links_a_user_who_is_here_already(
    app: Flask, client: FlaskClient, provider: Provider, command: FlaskCliRunner, browser_of: BrowserOf
) -> None:
    with app.app_context():
        alice = factories.alice()
        address = f"/accounts/users/{alice.id}"
    assert command.invoke(args=["user", "link", "alice", "1001"]).exit_code == 0
    assert "linked already" in command.invoke(args=["user", "link", "alice", "1002"]).stderr
    provider.claims["groups"] = []
    assert sign_in(client).status_code == 303
    assert client.get("/who").json == "alice"
    with app.app_context():
        assert factories.alice().groups == []  # `ops` is the provider's to give and to take.
        (identity,) = queries.identities_of(factories.alice())
    root = browser_of("root").client
    assert "1001" in said(root.get(address))
    unlink = f"{address}/identities/{identity.id}/unlink"
    assert client.post(unlink).status_code == 403
    assert root.post(unlink).status_code == 303
    assert root.post(unlink).status_code == 409
    assert "not linked" not in said(root.get(address))


def test_who_is_deactivated_or_unknown_stays_out(
    app: Flask, client: FlaskClient, fay: Callable[[], User], provider: Provider
) -> None:
    app.config["SKSTACK"] = dataclasses.replace(app.config["SKSTACK"], oidc_create_users=False)
    answer = sign_in(client)
    assert (answer.status_code, "There is no account for fay here." in said(answer)) == (422, True)
    app.config["SKSTACK"] = dataclasses.replace(app.config["SKSTACK"], oidc_create_users=True)
    assert sign_in(client).status_code == 303
    with app.app_context():
        services.deactivate(fay(), actor=None, now=utcnow())
    assert not is_signed_in(client)
    assert sign_in(client).status_code == 422
    assert not is_signed_in(client)
    with app.app_context():
        assert failures() == ["no account", "deactivated"]


def test_a_name_that_is_none_here_is_refused(client: FlaskClient, provider: Provider) -> None:
    for name, status in (("two words", 422), ("", 422), (None, 403), (["fay"], 403)):
        provider.claims["preferred_username"] = name
        assert sign_in(client).status_code == status, name
        assert not is_signed_in(client)


def test_a_mail_address_that_is_not_verified_is_not_kept(
    app: Flask, client: FlaskClient, fay: Callable[[], User], provider: Provider
) -> None:
    provider.claims["email_verified"] = False
    sign_in(client)
    with app.app_context():
        assert fay().email == ""


def test_the_user_info_adds_what_the_token_does_not_say(
    app: Flask,
    client: FlaskClient,
    fay: Callable[[], User],
    provider: Provider,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with app.app_context():
        factories.make_group("ops")
    provider.in_token = {"groups": None, "preferred_username": None}
    provider.in_user_info = {"sub": "1002"}  # Somebody else's must not be mixed in.
    assert sign_in(client).status_code == 403
    assert "about another subject" in caplog.text
    provider.in_user_info = {}
    assert sign_in(client).status_code == 303
    with app.app_context():
        assert [group.name for group in fay().groups] == ["ops"]


def test_groups_may_stand_within_another_claim(
    app: Flask, client: FlaskClient, fay: Callable[[], User], provider: Provider
) -> None:
    app.config["SKSTACK"] = dataclasses.replace(
        app.config["SKSTACK"], oidc_groups_claim="realm_access.roles", oidc_roles={}
    )
    with app.app_context():
        factories.make_group("ops")
    provider.claims["realm_access"] = {"roles": ["Operators", 7]}
    sign_in(client)
    with app.app_context():
        assert [group.name for group in fay().groups] == ["ops"]


def test_ones_own_second_factor_is_asked_for_and_a_demanded_one_is_the_providers(
    app: Flask, client: FlaskClient, fay: Callable[[], User]
) -> None:
    app.config["SKSTACK"] = dataclasses.replace(app.config["SKSTACK"], second_factor="all")
    assert sign_in(client).location == "/"
    with app.app_context():
        user, now = fay(), utcnow()
        with transaction():
            secret = second_factor.prepare(user, now=now).secret
        second_factor.confirm(actor=user, code=pyotp.TOTP(secret).at(now), now=now)
        sessions = sa.select(sa.func.count(UserSession.id)).where(UserSession.ended_at.is_(None))
        before = db.session.scalar(sessions)
    other = app.test_client()
    assert sign_in(other, "?next=/me").location == "/sign-in/code?next=/me"
    assert not is_signed_in(other)
    with app.app_context():
        assert db.session.scalar(sessions) == before


def test_people_of_the_provider_have_no_password_to_change_or_confirm(client: FlaskClient) -> None:
    sign_in(client)
    assert "You have no password here" in said(client.get("/me/password"))
    assert "You sign in without a password" in said(client.get("/me/second-factor"))


def test_local_accounts_sign_in_while_the_provider_is_down(
    app: Flask, client: FlaskClient, provider: Provider
) -> None:
    with app.app_context():
        factories.alice()
    provider.down = {"/.well-known/openid-configuration"}
    page = client.get("/sign-in/oidc?next=/me/tokens")
    assert (page.status_code, "does not answer" in said(page)) == (503, True)
    form = {"username": "alice", "password": factories.PASSWORD, "next": "/me/tokens"}
    csrf = said(page).split('name="csrf_token" value="')[1].split('"')[0]
    assert client.post("/sign-in", data={**form, "csrf_token": csrf}).location == "/me/tokens"
    client.post("/sign-out")
    # It comes back, and then goes down in the middle.
    provider.down = set()
    back = begin(client)
    provider.down = {"/token", "/jwks"}
    assert client.get(back).status_code in (403, 503)
    provider.down = {"/jwks"}
    assert client.get(begin(client)).status_code == 503
    provider.down = set()
    assert sign_in(client).status_code == 303


def test_a_discovery_document_of_another_issuer_is_refused(
    app: Flask, client: FlaskClient, provider: Provider
) -> None:
    provider.metadata = {"issuer": "https://elsewhere.example.org"}
    assert client.get("/sign-in/oidc").status_code == 503
    provider.metadata = {}
    assert sign_in(client).status_code == 303


def test_tries_that_fail_are_limited_by_address(app: Flask, client: FlaskClient, provider: Provider) -> None:
    app.config["SKSTACK"] = dataclasses.replace(app.config["SKSTACK"], login_attempts_address=3)
    for _ in range(4):  # Those that go well do not count.
        assert sign_in(client).status_code == 303
    provider.signed_with = "another key"
    found = [sign_in(client) for _ in range(4)]
    assert [answer.status_code for answer in found] == [403, 403, 403, 429]
    assert int(found[-1].headers["Retry-After"]) > 0


def test_ways_begun_and_left_do_not_fill_the_cookie(client: FlaskClient) -> None:
    for _ in range(5):
        client.get("/sign-in/oidc")
    with client.session_transaction() as cookie:
        assert len([key for key in cookie if key.startswith("_state_")]) == 1


def test_without_a_provider_there_is_no_such_page(settings: Settings) -> None:
    app = create_app(dataclasses.replace(settings, oidc_issuer=""))
    client = app.test_client()
    assert client.get("/sign-in/oidc").status_code == 404
    assert "/sign-in/oidc" not in said(client.get("/sign-in"))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OIDC_ISSUER", "http://example.org", "must begin with https://"),
        ("OIDC_CLIENT_ID", "", "OIDC_CLIENT_ID is missing"),
        ("OIDC_CLIENT_SECRET", "", "OIDC_CLIENT_SECRET is missing"),
        ("OIDC_SCOPES", "profile email", "must contain openid"),
    ],
)
def test_settings_that_cannot_work_stop_the_start(tmp_path: Any, name: str, value: str, said: str) -> None:
    environment = {
        "SKSTACK_INSTANCE": str(tmp_path),
        "SKSTACK_OIDC_ISSUER": "https://example.org",
        "SKSTACK_OIDC_CLIENT_ID": "a",
        "SKSTACK_OIDC_CLIENT_SECRET": "hidden",
    }
    assert "hidden" not in repr(config.load(environment))
    with pytest.raises(ConfigError, match=said):
        config.load({**environment, f"SKSTACK_{name}": value})
