"""Signing in with the directory's password, against a real slapd."""

from __future__ import annotations

import dataclasses
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from skstack import config
from skstack.accounts import directory, external, ldap_client, new_password, queries, second_factor, services
from skstack.accounts import signing_in as service
from skstack.accounts.models import ExternalIdentity, SignInAttempt, User, UserSession
from skstack.audit.models import AuditEvent
from skstack.audit.services import Action
from skstack.config import ConfigError, Settings
from skstack.db import utcnow
from skstack.errors import Conflict, Invalid, NotAllowed, TooManyRequests
from skstack.extensions import db
from tests import factories
from tests.slapd import BASE, GROUPS, PEOPLE, SEARCHER, SEARCHER_PASSWORD, Slapd, slapd_or_skip

DORA = "dora knows this"


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    slapd_or_skip()
    server = Slapd(tmp_path_factory.mktemp("slapd"))
    try:
        server.start()
        server.fill()
        dora = server.add_person("dora", DORA, cn="Dora Delver")
        emil = server.add_person("emil", "emil knows that", displayName="Emil")
        server.add_person("nobody-knows")
        server.add_person("twin1", "twins share this", mail="twin@example.org")
        server.add_person("twin2", "twins share this", mail="twin@example.org")
        server.add_group("operators", dora, emil)
        server.add_group("chiefs", emil)
        yield server
    finally:
        server.stop()


@pytest.fixture
def settings(settings: Settings, slapd: Slapd) -> Settings:
    return dataclasses.replace(
        settings,
        ldap_url=slapd.url,
        ldap_ca_file=str(slapd.ca_file),
        ldap_bind_dn=SEARCHER,
        ldap_bind_password=SEARCHER_PASSWORD,
        ldap_base=PEOPLE,
        ldap_group_base=GROUPS,
        ldap_groups={"ops": ("operators",), "leads": (f"CN=chiefs, {GROUPS}", "nothing")},
        ldap_roles={"approver": ("chiefs",)},
        login_attempts=100,
    )


@pytest.fixture
def nowhere(settings: Settings) -> Iterator[Settings]:
    """Give settings of a directory that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ldap://127.0.0.1:{silent.getsockname()[1]}"
        yield dataclasses.replace(settings, ldap_url=url, ldap_timeout=0.3)


def sign_in(settings: Settings, username: str = "dora", password: str = DORA, **given: Any) -> User:
    values = {"address": "192.0.2.1", "user_agent": "Test", "now": utcnow(), **given}
    return service.sign_in(username=username, password=password, settings=settings, **values).user


def refused(settings: Settings, username: str, password: str) -> str:
    with pytest.raises(Invalid) as found:
        sign_in(settings, username, password)
    return str(found.value.message)


def failures() -> list[str]:
    statement = sa.select(AuditEvent).where(AuditEvent.action == str(Action.SIGN_IN_FAILED))
    return [event.changes["reason"] for event in db.session.scalars(statement.order_by(AuditEvent.id))]


def count(model: Any) -> int:
    return db.session.scalar(sa.select(sa.func.count()).select_from(model)) or 0


WRONG = "The user name or the password is wrong."


@pytest.mark.both_databases
def test_the_first_sign_in_makes_a_user_and_the_next_finds_it(context: Flask, settings: Settings) -> None:
    ops = factories.make_group("ops")
    dora = sign_in(settings, " DORA ")
    assert (dora.username, dora.display_name, dora.email) == ("dora", "Dora Delver", "dora@example.org")
    assert (dora.password_hash, dora.superuser, dora.groups, dora.roles) == (None, False, [ops], [])
    assert sign_in(settings) is dora
    (identity,) = queries.identities_of(dora)
    assert (identity.issuer, len(identity.subject)) == ("ldap", 36)
    signed_in = db.session.scalars(sa.select(AuditEvent).where(AuditEvent.action == str(Action.SIGNED_IN)))
    assert [event.changes["way"] for event in signed_in] == ["directory", "directory"]


def test_asvs_6_a_wrong_or_empty_password_lets_nobody_in(context: Flask, settings: Settings) -> None:
    # This slapd says that a bind without a password went well; a soft hyphen is nothing once it is prepared.
    passwords = ("", " ", "wrong", "\N{SOFT HYPHEN}", "\x00", "\udc80", f"{DORA} ", "x" * 5000)
    for password in passwords:
        assert refused(settings, "dora", password) == WRONG, repr(password)
    assert (count(User), count(UserSession), set(failures())) == (0, 0, {"unknown"})


def test_a_name_is_never_part_of_the_filter(context: Flask, settings: Settings) -> None:
    injected = ("*", "d*", "dora)(uid=*", "*)(|(uid=*", "dora)(&", "\\64ora", "dora\x00")
    for username in (*injected, "nobody", "nobody-knows", f"uid=dora,{PEOPLE}", "", "  "):
        assert refused(settings, username, DORA) == WRONG, repr(username)
    assert count(User) == 0


def test_several_entries_of_a_name_are_nobody(context: Flask, settings: Settings) -> None:
    by_mail = dataclasses.replace(settings, ldap_filter="(|(uid={name})(mail={name}))")
    assert refused(by_mail, "twin@example.org", "twins share this") == WRONG
    assert sign_in(by_mail, "dora@example.org").username == "dora"
    assert sign_in(by_mail, "twin1", "twins share this").username == "twin1"


def test_mapped_groups_follow_the_directory_and_others_stay(
    context: Flask, settings: Settings, slapd: Slapd
) -> None:
    ops, leads, outsiders = (factories.make_group(name) for name in ("ops", "leads", "outsiders"))
    approver, member = factories.make_role("approver"), factories.make_role("member")
    emil = sign_in(settings, "emil", "emil knows that")
    assert (emil.groups, emil.roles) == ([leads, ops], [approver])
    services.change_user(
        emil,
        actor=None,
        display_name="",
        email="",
        superuser=False,
        groups=[outsiders, ops],
        roles=[member],
    )
    slapd.change(f"cn=operators,{GROUPS}", member=[f"uid=dora,{PEOPLE}"])
    try:
        sign_in(settings, "emil", "emil knows that")
        assert (emil.groups, emil.roles) == ([leads, outsiders], [approver, member])
        assert emil.email == "emil@example.org"
    finally:
        slapd.change(f"cn=operators,{GROUPS}", member=[f"uid=dora,{PEOPLE}", f"uid=emil,{PEOPLE}"])


def test_groups_may_stand_in_the_persons_entry(context: Flask, settings: Settings) -> None:
    ops = factories.make_group("ops")
    by_attribute = dataclasses.replace(
        settings, ldap_group_base="", ldap_groups={"ops": (f"cn=Operators,  {GROUPS}",)}
    )
    assert sign_in(by_attribute).groups == [ops]


def test_a_group_of_the_settings_that_is_not_here_is_said_in_the_log(
    context: Flask, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    assert sign_in(settings).groups == []
    assert "do not exist: leads, ops" in caplog.text


def test_a_local_account_is_never_asked_of_the_directory(
    context: Flask, settings: Settings, slapd: Slapd, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = factories.alice()
    dn = slapd.add_person("alice", "alice in the directory")
    try:
        assert refused(settings, "alice", "alice in the directory") == WRONG
        monkeypatch.setattr(directory, "find", lambda *_: pytest.fail("the directory was asked"))
        assert sign_in(settings, "alice", factories.PASSWORD) is alice
        assert refused(settings, "alice", "wrong") == WRONG
    finally:
        slapd.delete(dn)


def test_a_user_made_beforehand_is_adopted_where_none_are_made(context: Flask, settings: Settings) -> None:
    strict = dataclasses.replace(settings, ldap_create_users=False)
    assert refused(strict, "dora", DORA).startswith("There is no account for dora here.")
    made = services.create_user(actor=None, username="Dora")
    assert sign_in(strict) is made
    assert failures() == ["no account"]


def test_a_name_given_to_somebody_else_opens_nothing_of_the_first(
    context: Flask, settings: Settings, slapd: Slapd
) -> None:
    dn = slapd.add_person("shared", "the first one's")
    first = sign_in(settings, "shared", "the first one's")
    slapd.delete(dn)
    dn = slapd.add_person("shared", "the second one's")
    try:
        assert "not linked to you" in refused(settings, "shared", "the second one's")
        (identity,) = queries.identities_of(first)
        root, paula = factories.root(), factories.make_user("paula", pages=["users"])
        external.unlink(first, identity.id, actor=paula)
        with pytest.raises(Conflict):
            external.unlink(first, identity.id, actor=paula)
        with pytest.raises(NotAllowed):
            external.unlink(root, identity.id, actor=paula)
        assert sign_in(settings, "shared", "the second one's") is first  # Now that somebody has said so.
    finally:
        slapd.delete(dn)


def test_an_entry_that_was_renamed_is_the_same_user(context: Flask, settings: Settings, slapd: Slapd) -> None:
    dn = slapd.add_person("before", "renamed but me")
    user = sign_in(settings, "before", "renamed but me")
    with slapd.administrator() as connection:
        assert connection.modify_dn(dn, "uid=after")
    try:
        assert sign_in(settings, "after", "renamed but me") is user
        assert user.username == "before"
    finally:
        slapd.delete(f"uid=after,{PEOPLE}")


def test_the_dn_is_the_identity_where_no_attribute_is(context: Flask, settings: Settings) -> None:
    dora = sign_in(dataclasses.replace(settings, ldap_id=""))
    assert [one.subject for one in queries.identities_of(dora)] == [f"uid=dora,{PEOPLE}"]


def test_who_is_deactivated_stays_out(context: Flask, settings: Settings) -> None:
    dora = sign_in(settings)
    services.deactivate(dora, actor=None, now=utcnow())
    assert refused(settings, "dora", DORA) == WRONG
    assert failures() == ["deactivated"]
    services.activate(dora, actor=None)
    assert sign_in(settings) is dora


def test_a_name_that_is_none_here_is_refused(context: Flask, settings: Settings, slapd: Slapd) -> None:
    dn = slapd.add_person("with blanks in it", "a long password")
    try:
        assert "A user name has up to 64" in refused(settings, "with blanks in it", "a long password")
        assert count(ExternalIdentity) == 0
    finally:
        slapd.delete(dn)


def test_attempts_are_limited_before_the_directory_is_asked(
    context: Flask, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = dataclasses.replace(settings, login_attempts=2)
    for _ in range(2):
        refused(limited, "dora", "wrong")
    monkeypatch.setattr(directory, "find", lambda *_: pytest.fail("the directory was asked"))
    with pytest.raises(TooManyRequests):
        sign_in(limited)


# Encryption.


def test_every_kind_of_connection_works(context: Flask, settings: Settings, slapd: Slapd) -> None:
    for url, starttls in ((slapd.url, True), (slapd.tls_url, False), (slapd.url, False)):
        given = dataclasses.replace(settings, ldap_url=url, ldap_starttls=starttls)
        assert sign_in(given).username == "dora", (url, starttls)


def test_a_certificate_that_does_not_fit_gets_no_password(
    context: Flask, settings: Settings, slapd: Slapd, caplog: pytest.LogCaptureFixture
) -> None:
    for url in (slapd.url, slapd.tls_url):
        unknown_authority = {"ldap_url": url, "ldap_ca_file": ""}
        another_name = {"ldap_url": url.replace("localhost", "127.0.0.1")}
        for wrong in (unknown_authority, another_name):
            caplog.clear()
            with pytest.raises(directory.DirectoryDown):
                sign_in(dataclasses.replace(settings, **wrong))
            assert "certificate verify failed" in caplog.text, wrong


# When the directory is down.


def test_local_accounts_sign_in_while_the_directory_is_down(
    context: Flask, settings: Settings, nowhere: Settings
) -> None:
    alice = factories.alice()
    assert sign_in(nowhere, "alice", factories.PASSWORD) is alice
    started = time.monotonic()
    for _ in range(2):
        with pytest.raises(directory.DirectoryDown, match="only accounts with a password of skstack's own"):
            sign_in(dataclasses.replace(nowhere, login_attempts=1))
    # It waits as long as was set, a few times over, and not for good.
    assert time.monotonic() - started < 20
    # What nobody could answer is not counted against anybody.
    assert count(SignInAttempt) == 0
    assert sign_in(settings).username == "dora"


def test_the_next_server_is_asked_if_one_is_down(context: Flask, settings: Settings, slapd: Slapd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        closed = probe.getsockname()[1]
    assert sign_in(dataclasses.replace(settings, ldap_url=f"ldap://127.0.0.1:{closed} {slapd.url}"))


def test_settings_that_do_not_fit_are_said_in_the_log_and_let_nobody_in(
    context: Flask, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    for wrong in (
        {"ldap_bind_password": "wrong"},
        {"ldap_base": f"ou=nowhere,{BASE}"},
        {"ldap_filter": "(uid={name}"},
        {"ldap_id": "employeeNumber"},
        {"ldap_group_base": f"ou=nowhere,{BASE}"},
    ):
        caplog.clear()
        with pytest.raises(directory.DirectoryDown):
            sign_in(dataclasses.replace(settings, **wrong))
        assert "cannot be asked" in caplog.text, wrong
        assert SEARCHER_PASSWORD not in caplog.text
        assert DORA not in caplog.text


def test_a_directory_that_hangs_does_not_hold_every_thread(
    context: Flask, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = [ldap_client._turns.acquire(blocking=False) for _ in range(16)]
    try:
        assert all(taken)
        with pytest.raises(directory.DirectoryDown):
            sign_in(dataclasses.replace(settings, ldap_timeout=0.1))
    finally:
        for _ in taken:
            ldap_client._turns.release()


# What else a password is asked for.


def test_the_second_factor_is_confirmed_with_the_directorys_password(
    context: Flask, settings: Settings, nowhere: Settings
) -> None:
    dora = sign_in(settings)
    with pytest.raises(Invalid):
        second_factor.begin(actor=dora, password="wrong", settings=settings, now=utcnow())
    with pytest.raises(directory.DirectoryDown):
        second_factor.begin(actor=dora, password=DORA, settings=nowhere, now=utcnow())
    assert second_factor.begin(actor=dora, password=DORA, settings=settings, now=utcnow()).secret
    with pytest.raises(Conflict):
        new_password.change(
            actor=dora, current=DORA, new="a new long one", session_id=None, settings=settings, now=utcnow()
        )


def test_another_entrys_password_confirms_nothing(context: Flask, settings: Settings) -> None:
    dora = sign_in(settings)
    (identity,) = queries.identities_of(dora)
    external.unlink(dora, identity.id, actor=None)
    with pytest.raises(Invalid):
        new_password.confirm(actor=dora, password=DORA, settings=settings, now=utcnow(), field="password")


def test_a_demanded_second_factor_is_demanded_here_too(context: Flask, settings: Settings) -> None:
    demanding = dataclasses.replace(settings, second_factor="all")
    found = service.sign_in(
        username="dora",
        password=DORA,
        address="192.0.2.1",
        user_agent="Test",
        settings=demanding,
        now=utcnow(),
    )
    assert (found.step, count(UserSession)) == (service.Step.SET_UP, 0)


# The pages.


def test_the_pages_sign_in_and_say_when_the_directory_is_down(
    app: Flask, client: FlaskClient, settings: Settings, nowhere: Settings
) -> None:
    page = client.get("/sign-in").get_data(as_text=True)
    form = {
        "username": "dora",
        "password": DORA,
        "next": "/me/password",
        "csrf_token": page.split('name="csrf_token" value="')[1].split('"')[0],
    }
    app.config["SKSTACK"] = nowhere
    down = client.post("/sign-in", data=form)
    assert down.status_code == 503
    assert "The directory does not answer" in down.get_data(as_text=True)
    app.config["SKSTACK"] = settings
    answer = client.post("/sign-in", data=form)
    assert (answer.status_code, answer.location) == (303, "/me/password")
    assert "You have no password here" in client.get("/me/password").get_data(as_text=True)
    assert "Set up" in client.get("/me/second-factor").get_data(as_text=True)


# The settings.


def test_settings_are_read_and_keep_their_secret(tmp_path: Any) -> None:
    lines = "ops = cn=ops,ou=groups\nops=cn=more,ou=groups\n\n"
    (tmp_path / "config.toml").write_text('ldap_roles = {member = ["a", "b"], auditor = "c"}\n')
    found = config.load(
        {
            "SKSTACK_INSTANCE": str(tmp_path),
            "SKSTACK_LDAP_URL": "ldaps://a ldap://b:390",
            "SKSTACK_LDAP_BASE": BASE,
            "SKSTACK_LDAP_BIND_DN": SEARCHER,
            "SKSTACK_LDAP_BIND_PASSWORD": "hidden",
            "SKSTACK_LDAP_GROUPS": lines,
        }
    )
    assert found.ldap_groups == {"ops": ("cn=ops,ou=groups", "cn=more,ou=groups")}
    assert found.ldap_roles == {"member": ("a", "b"), "auditor": ("c",)}
    assert "hidden" not in repr(found)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("LDAP_URL", "http://a", "ldap://HOST"),
        ("LDAP_URL", "ldap://user:word@host", "ldap://HOST"),
        ("LDAP_BASE", "", "LDAP_BASE is missing"),
        ("LDAP_FILTER", "(uid=x)", "must contain {name}"),
        ("LDAP_BIND_PASSWORD", "", "LDAP_BIND_PASSWORD is missing"),
        ("LDAP_CA_FILE", "/nowhere/at/all", "which is no file"),
        ("LDAP_GROUPS", "ops", "lines of the form NAME=GROUP"),
        ("LDAP_GROUPS", "=x", "lines of the form NAME=GROUP"),
    ],
)
def test_settings_that_cannot_work_stop_the_start(tmp_path: Any, name: str, value: str, said: str) -> None:
    environment = {
        "SKSTACK_INSTANCE": str(tmp_path),
        "SKSTACK_LDAP_URL": "ldap://a",
        "SKSTACK_LDAP_BASE": BASE,
        "SKSTACK_LDAP_BIND_DN": SEARCHER,
        "SKSTACK_LDAP_BIND_PASSWORD": "hidden",
        f"SKSTACK_{name}": value,
    }
    with pytest.raises(ConfigError, match=said):
        config.load(environment)
