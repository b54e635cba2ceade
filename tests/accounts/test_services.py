"""Users, groups, roles, profile and tokens: the services and queries, on both databases."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from skstack.accounts import passwords, profile, queries, services, tokens
from skstack.accounts.models import ApiToken, Group, Role, User, UserSession
from skstack.audit.models import AuditEvent
from skstack.config import Settings
from skstack.crypto import hashed
from skstack.db import transaction, utcnow
from skstack.errors import Conflict, Invalid, NotAllowed, NotFound, SkstackError
from skstack.extensions import db
from skstack.messages import N_
from tests import factories

pytestmark = pytest.mark.both_databases


def last_event() -> AuditEvent:
    found = db.session.scalar(sa.select(AuditEvent).order_by(AuditEvent.id.desc()).limit(1))
    assert found is not None
    return found


def events() -> int:
    return db.session.scalar(sa.select(sa.func.count(AuditEvent.id))) or 0


def change(user: User, actor: User | None, **given: Any) -> User:
    values: dict[str, Any] = {
        "display_name": user.display_name,
        "email": user.email,
        "superuser": user.superuser,
        "groups": user.groups,
        "roles": user.roles,
        **given,
    }
    return services.change_user(user, actor=actor, **values)


# ── Users ──


def test_the_first_start_makes_one_administrator(context: Flask) -> None:
    password = services.create_first_admin()
    admin = queries.user_named("admin")
    assert password is not None
    assert admin is not None
    assert admin.superuser
    assert passwords.is_right(admin.password_hash, password)
    assert password not in str(last_event().changes)
    assert services.create_first_admin() is None


def test_there_is_no_first_administrator_where_people_are(context: Flask) -> None:
    factories.alice()
    assert services.create_first_admin() is None
    assert queries.user_named("admin") is None


def test_a_user_is_created_with_groups_and_roles_and_an_event(context: Flask) -> None:
    root, ops, member = factories.root(), factories.make_group("ops"), factories.make_role("member")
    user = services.create_user(
        actor=root,
        username="dora",
        password="long enough",
        email="d@example.org",
        groups=[ops],
        roles=[member],
    )
    assert passwords.is_right(user.password_hash, "long enough")
    event = last_event()
    assert (event.actor, event.action, event.object_type, event.object_id) == (
        "root",
        "created",
        "user",
        user.id,
    )
    assert event.changes["after"] == {
        "username": "dora",
        "display_name": "",
        "email": "d@example.org",
        "superuser": False,
        "groups": ["ops"],
        "roles": ["member"],
    }


WRONG_USERS: list[tuple[dict[str, Any], str]] = [
    ({"username": ""}, "username"),
    ({"username": "has space"}, "username"),
    ({"username": "-x"}, "username"),
    ({"username": "x" * 65}, "username"),
    ({"username": "line\nend"}, "username"),
    ({"username": "ALICE"}, "username"),
    ({"password": "short"}, "password"),
    ({"username": "administrator", "password": "Administrator"}, "password"),
    ({"email": "no mail"}, "email"),
    ({"email": "@"}, "email"),
]


def test_a_user_that_is_not_right_is_refused_at_its_field(context: Flask) -> None:
    factories.alice()
    before = events()
    for given, field in WRONG_USERS:
        with pytest.raises(Invalid) as refused:
            services.create_user(actor=None, **{"username": "dora", "password": "long enough", **given})
        assert list(refused.value.errors) == [field], given
    assert (events(), db.session.scalar(sa.select(sa.func.count(User.id)))) == (before, 1)


def test_several_at_once_make_one_user(app: Flask) -> None:
    outcomes: list[str] = []
    start = threading.Barrier(5)

    def create() -> None:
        with app.app_context():
            start.wait()
            try:
                services.create_user(actor=None, username="dora")
                outcomes.append("made")
            except Invalid as err:
                outcomes.append(",".join(err.errors))

    threads = [threading.Thread(target=create) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["made"] + ["username"] * 4


def test_a_change_says_what_was_and_what_is(context: Flask) -> None:
    alice, root, leads = factories.alice(), factories.root(), factories.make_group("leads")
    change(alice, root, display_name="Alice B", groups=[leads])
    assert last_event().changes == {
        "before": {"display_name": "Alice Archer", "groups": ["ops"]},
        "after": {"display_name": "Alice B", "groups": ["leads"]},
    }
    before = events()
    change(alice, root)
    assert events() == before


Act = Callable[[User, User | None], Any]
ON_AN_ACCOUNT: dict[str, Act] = {
    "change": lambda user, actor: change(user, actor, display_name="x"),
    "set_password": lambda user, actor: services.set_password(user, "long enough", actor=actor, now=utcnow()),
    "deactivate": lambda user, actor: services.deactivate(user, actor=actor, now=utcnow()),
    "activate": lambda user, actor: services.activate(user, actor=actor),
}


@pytest.mark.parametrize("act", ON_AN_ACCOUNT.values(), ids=ON_AN_ACCOUNT)
def test_only_a_superuser_touches_a_superusers_account(context: Flask, act: Act) -> None:
    paula, root = factories.make_user("paula", pages=["users"]), factories.root()
    other = factories.make_user("other", superuser=True)
    if act is ON_AN_ACCOUNT["activate"]:
        services.deactivate(other, actor=root, now=utcnow())
    before = events()
    with pytest.raises(NotAllowed):
        act(other, paula)
    assert events() == before
    act(other, root)
    assert events() > before


def test_only_a_superuser_makes_a_superuser(context: Flask) -> None:
    paula, root, alice = factories.make_user("paula", pages=["users"]), factories.root(), factories.alice()
    with pytest.raises(NotAllowed):
        services.create_user(actor=paula, username="dora", superuser=True)
    for user in (alice, paula):
        with pytest.raises(NotAllowed):
            change(user, paula, superuser=True)
    assert change(alice, root, superuser=True).superuser


def test_nobody_shuts_themselves_out(context: Flask) -> None:
    root, _ = factories.root(), factories.make_user("other", superuser=True)
    paula = factories.make_user("paula", pages=["users"])
    refused: list[Callable[[], Any]] = [
        lambda: change(root, root, superuser=False),
        lambda: services.deactivate(root, actor=root, now=utcnow()),
        lambda: services.deactivate(paula, actor=paula, now=utcnow()),
        lambda: services.set_password(root, "long enough", actor=root, now=utcnow()),
    ]
    for act in refused:
        with pytest.raises(NotAllowed):
            act()
    db.session.expire_all()
    assert root.superuser
    assert root.active
    assert paula.active


def test_one_superuser_remains(context: Flask) -> None:
    root, other = factories.root(), factories.make_user("other", superuser=True)
    services.deactivate(other, actor=None, now=utcnow())
    for act in (
        lambda: change(root, None, superuser=False),
        lambda: services.deactivate(root, actor=None, now=utcnow()),
    ):
        with pytest.raises(Conflict):
            act()
    services.activate(other, actor=None)
    change(root, None, superuser=False)


def test_two_superusers_cannot_shut_each_other_out_at_once(app: Flask) -> None:
    with app.app_context():
        ids = [factories.make_user(name, superuser=True).id for name in ("one", "two")]
    start, outcomes = threading.Barrier(2), []

    def deactivate(mine: int, other: int) -> None:
        with app.app_context():
            actor, user = queries.user(mine), queries.user(other)
            start.wait()
            try:
                services.deactivate(user, actor=actor, now=utcnow())
                outcomes.append("done")
            except SkstackError as err:
                outcomes.append(type(err).__name__)

    threads = [threading.Thread(target=deactivate, args=pair) for pair in (ids, ids[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["Conflict", "done"]


def test_deactivation_ends_sessions_and_tokens_for_good(context: Flask) -> None:
    alice, root = factories.alice(), factories.root()
    token = factories.make_token(alice)
    with transaction():
        db.session.add(UserSession(token_hash="x", user_id=alice.id))
    services.deactivate(alice, actor=root, now=utcnow())
    with pytest.raises(Conflict):
        services.deactivate(alice, actor=root, now=utcnow())
    assert last_event().changes == {"before": {"active": True}, "after": {"active": False}}
    services.activate(alice, actor=root)
    with pytest.raises(Conflict):
        services.activate(alice, actor=root)
    row = db.session.scalar(sa.select(ApiToken).where(ApiToken.token_hash == hashed(token)))
    session = db.session.scalar(sa.select(UserSession))
    assert row is not None
    assert session is not None
    assert not row.is_valid(utcnow())
    assert session.ended_at is not None


# ── Groups and roles ──


def test_groups_and_roles_are_created_changed_and_deleted_with_events(context: Flask) -> None:
    root = factories.root()
    group = services.save_group(None, actor=root, name=" ops ", description="on call")
    assert (group.name, last_event().action) == ("ops", "created")
    services.save_group(group, actor=root, name="operations", description="on call")
    assert last_event().changes == {"before": {"name": "ops"}, "after": {"name": "operations"}}
    services.delete_group(group, actor=root)
    assert (last_event().action, last_event().object_name) == ("deleted", "operations")
    role = services.save_role(None, actor=root, name="auditor", pages=["audit", "dashboard", "audit"])
    assert role.pages == ["audit", "dashboard"]
    services.save_role(role, actor=root, name="auditor", pages=["audit"])
    assert last_event().changes == {
        "before": {"pages": ["audit", "dashboard"]},
        "after": {"pages": ["audit"]},
    }
    services.delete_role(role, actor=root)
    assert db.session.scalar(sa.select(sa.func.count(Group.id))) == 0
    assert db.session.scalar(sa.select(sa.func.count(Role.id))) == 0


def test_a_name_must_be_short_printable_and_free(context: Flask) -> None:
    factories.make_group("taken")
    factories.make_role("taken")
    for name in ("", "   ", "x" * 65, "two\nlines", "taken"):
        with pytest.raises(Invalid) as of_group:
            services.save_group(None, actor=None, name=name)
        with pytest.raises(Invalid) as of_role:
            services.save_role(None, actor=None, name=name, pages=[])
        assert (list(of_group.value.errors), list(of_role.value.errors)) == (["name"], ["name"])


def test_a_role_grants_pages_that_exist(context: Flask) -> None:
    with pytest.raises(Invalid) as refused:
        services.save_role(None, actor=None, name="x", pages=["audit", "everything"])
    assert "everything" in str(refused.value)


def test_members_lose_a_deleted_group_and_holders_a_deleted_role(context: Flask) -> None:
    alice = factories.alice()
    services.delete_group(alice.groups[0], actor=None)
    services.delete_role(alice.roles[0], actor=None)
    db.session.expire_all()
    assert (alice.groups, alice.roles) == ([], [])
    assert not alice.may("submit")


def test_a_group_in_use_stays_and_the_message_says_where(
    context: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = factories.make_group("ops")
    used = [N_("work order %(name)s", name=name) for name in ("site", "app")]
    monkeypatch.setattr(services, "group_dependents", [lambda one: used if one is group else []])
    with pytest.raises(Conflict) as refused:
        services.delete_group(group, actor=None)
    assert "ops is used by work order site, work order app" in str(refused.value)
    assert db.session.scalar(sa.select(sa.func.count(Group.id))) == 1
    services.delete_group(factories.make_group("free"), actor=None)


def test_the_database_keeps_a_group_that_something_refers_to(
    context: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skstack.catalog.models import Environment, WorkOrder

    monkeypatch.setattr(services, "group_dependents", [])
    group = factories.make_group("ops")
    with transaction():
        environment = Environment(name="PROD")
        db.session.add(WorkOrder(name="site", environment=environment, submit_groups=[group]))
    with pytest.raises(Conflict):
        services.delete_group(group, actor=None)
    assert db.session.scalar(sa.select(Group.name)) == "ops"
    assert db.session.scalar(sa.select(sa.func.count(AuditEvent.id))) == 0


# ── Tokens ──


def test_a_token_is_given_out_once_and_kept_as_a_hash(context: Flask) -> None:
    alice, now = factories.alice(), utcnow()
    token = tokens.create(alice, actor=alice, name=" deploy ", days=30, now=now)
    row = db.session.scalars(sa.select(ApiToken)).one()
    assert token.startswith("sks_")
    assert (row.name, row.token_hash, row.hint) == ("deploy", hashed(token), token[:10])
    assert row.expires_at == now + dt.timedelta(days=30)
    assert row.is_valid(now + dt.timedelta(days=30, seconds=-1))
    assert not row.is_valid(now + dt.timedelta(days=30))
    assert token not in str(last_event().changes)
    assert tokens.create(alice, actor=alice, name="other", days=None, now=now) != token


def test_a_token_needs_a_name_and_a_sensible_life(context: Flask) -> None:
    alice = factories.alice()
    for name, days, field in (
        ("", 1, "name"),
        ("x" * 65, 1, "name"),
        ("a\tb", 1, "name"),
        ("x", 0, "days"),
        ("x", -1, "days"),
        ("x", 3651, "days"),
    ):
        with pytest.raises(Invalid) as refused:
            tokens.create(alice, actor=alice, name=name, days=days, now=utcnow())
        assert list(refused.value.errors) == [field]


def test_a_deactivated_user_gets_no_token(context: Flask) -> None:
    gone = factories.make_user("gone", active=False)
    with pytest.raises(Conflict):
        tokens.create(gone, actor=None, name="x", days=None, now=utcnow())


def test_a_token_is_revoked_by_its_owner_once(context: Flask) -> None:
    alice, bob = factories.alice(), factories.bob()
    factories.make_token(alice)
    row = db.session.scalars(sa.select(ApiToken)).one()
    with pytest.raises(NotFound):
        tokens.revoke(row.id, actor=bob, now=utcnow())
    tokens.revoke(row.id, actor=alice, now=utcnow())
    assert last_event().action == "token.revoked"
    with pytest.raises(Conflict):
        tokens.revoke(row.id, actor=alice, now=utcnow())
    with pytest.raises(NotFound):
        tokens.revoke(row.id + 1, actor=alice, now=utcnow())


# ── Profile ──


def test_people_change_their_own_profile(context: Flask) -> None:
    alice = factories.alice()
    profile.change(actor=alice, display_name=" 爱丽丝 ", language="zh_CN", timezone="Asia/Shanghai")
    assert (alice.display_name, alice.language, alice.timezone) == ("爱丽丝", "zh_CN", "Asia/Shanghai")
    before = events()
    profile.change(actor=alice, display_name="爱丽丝", language="zh_CN", timezone="Asia/Shanghai")
    profile.set_language(actor=alice, language="zh_CN")
    assert events() == before
    profile.set_language(actor=alice, language="en")
    assert last_event().changes == {"before": {"language": "zh_CN"}, "after": {"language": "en"}}


def test_a_profile_that_is_not_right_is_refused_at_its_field(context: Flask) -> None:
    alice = factories.alice()
    for field, value in (
        ("display_name", "x" * 129),
        ("display_name", "two\nlines"),
        ("language", "tlh"),
        ("timezone", "Mars/Olympus"),
    ):
        with pytest.raises(Invalid) as refused:
            profile.change(actor=alice, **{"display_name": "", "language": "", "timezone": "", field: value})
        assert list(refused.value.errors) == [field]
    with pytest.raises(Invalid):
        profile.set_language(actor=alice, language="")


# ── Lists ──


def test_users_are_listed_by_name_in_pages(context: Flask) -> None:
    for name in ("dora", "Bert", "anna", "carl"):
        factories.make_user(name)
    first = queries.users(limit=3)
    assert [user.username for user in first.items] == ["anna", "Bert", "carl"]
    assert (first.next, first.newer) == ("carl", False)
    last = queries.users(limit=3, after="carl")
    assert [user.username for user in last.items] == ["dora"]
    assert (last.next, last.newer) == (None, True)


def test_users_are_found_by_part_of_name_or_mail_and_by_state(context: Flask) -> None:
    factories.make_user("anna", display_name="Anna Otter", email="anna@example.org")
    factories.make_user("bert", active=False)

    def found(**given: str) -> list[str]:
        return [user.username for user in queries.users(**given).items]

    assert found(text="OTT") == found(text="anna@") == found(text="nn") == ["anna"]
    assert found(text="%") == found(text="_") == []
    assert found(state="active") == ["anna"]
    assert found(state="deactivated") == ["bert"]


def test_lists_count_their_statements(context: Flask, settings: Settings) -> None:
    groups, roles = [factories.make_group() for _ in range(3)], [factories.make_role() for _ in range(2)]
    users = [factories.make_user(groups=groups, roles=roles) for _ in range(10)]
    factories.make_token(users[0])
    for read, most in (
        (queries.users, 3),
        (lambda: queries.user(users[0].id), 3),
        (queries.groups_with_counts, 1),
        (queries.roles_with_counts, 1),
        (lambda: queries.sessions_of(users[0], settings, utcnow()), 1),
        (lambda: queries.tokens_of(users[0]), 1),
    ):
        db.session.commit()
        statements: list[str] = []

        def note(connection: Any, cursor: Any, statement: str, *_: Any, into: list[str] = statements) -> None:
            into.append(statement)

        sa.event.listen(db.engine, "before_cursor_execute", note)
        read()
        sa.event.remove(db.engine, "before_cursor_execute", note)
        assert len([one for one in statements if one.startswith("SELECT")]) == most
    assert [(one.row.name, one.count) for one in queries.groups_with_counts()] == [
        (name, 10) for name in sorted(g.name for g in groups)
    ]


@pytest.mark.parametrize("load", [queries.user, queries.group, queries.role])
def test_what_is_not_there_is_not_found(context: Flask, load: Callable[[int], Any]) -> None:
    with pytest.raises(NotFound):
        load(99)
