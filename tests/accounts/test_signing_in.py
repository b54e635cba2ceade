"""Signing in, the limits on attempts, and ending sessions: the services, on both databases."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
from typing import Any

import argon2
import pytest
import sqlalchemy as sa
from flask import Flask

from skstack.accounts import ending, new_password, passwords, queries, signing_in
from skstack.accounts.models import SignInAttempt, User, UserSession
from skstack.audit.models import AuditEvent
from skstack.audit.services import Action
from skstack.config import Settings
from skstack.crypto import hashed
from skstack.db import transaction, utcnow
from skstack.errors import Conflict, Invalid, NotFound, TooManyRequests
from skstack.extensions import db
from tests import factories

pytestmark = pytest.mark.both_databases

LIMIT, ADDRESS_LIMIT, PAUSE = 3, 5, 900


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(
        settings, login_attempts=LIMIT, login_attempts_address=ADDRESS_LIMIT, login_pause=PAUSE
    )


def sign_in(
    settings: Settings, username: str = "alice", password: str = factories.PASSWORD, **given: Any
) -> signing_in.SignIn:
    values: dict[str, Any] = {"address": "192.0.2.1", "user_agent": "Test", "now": utcnow(), **given}
    return signing_in.sign_in(username=username, password=password, settings=settings, **values)


def fail(settings: Settings, username: str = "alice", **given: Any) -> None:
    with pytest.raises(Invalid):
        sign_in(settings, username, "wrong", **given)


def events(action: Action) -> list[AuditEvent]:
    return list(db.session.scalars(sa.select(AuditEvent).where(AuditEvent.action == str(action))))


def session_of(token: str) -> UserSession:
    row = db.session.scalar(
        sa.select(UserSession)
        .where(UserSession.token_hash == hashed(token))
        .execution_options(populate_existing=True)
    )
    assert row is not None
    return row


def test_the_right_password_begins_a_session(context: Flask, settings: Settings) -> None:
    alice = factories.alice()
    found = sign_in(settings)
    assert found.user is alice
    row = session_of(found.token)
    assert (row.user_id, row.address, row.user_agent, row.ended_at) == (alice.id, "192.0.2.1", "Test", None)
    assert alice.signed_in_at is not None
    assert [(event.actor, event.object_id) for event in events(Action.SIGNED_IN)] == [("alice", alice.id)]


def test_case_and_space_around_a_name_do_not_matter(context: Flask, settings: Settings) -> None:
    alice = factories.alice()
    assert sign_in(settings, " ALICE ").user is alice


def test_asvs_6_3_8_name_and_password_are_refused_alike(context: Flask, settings: Settings) -> None:
    factories.alice()
    factories.make_user("gone", active=False)
    factories.make_user("empty").password_hash = None
    db.session.commit()
    found = []
    for username, password in (
        ("alice", "wrong"),
        ("nobody", "wrong"),
        ("gone", factories.PASSWORD),
        ("empty", ""),
    ):
        with pytest.raises(Invalid) as refused:
            sign_in(settings, username, password, address=f"192.0.2.{len(found)}")
        found.append(refused.value.errors)
    assert found == [found[0]] * 4
    assert db.session.scalar(sa.select(sa.func.count(UserSession.id))) == 0


def test_a_failed_sign_in_is_an_audit_event_that_keeps_no_unknown_name(
    context: Flask, settings: Settings
) -> None:
    factories.alice()
    fail(settings)
    fail(settings, "my secret password")
    known, unknown = events(Action.SIGN_IN_FAILED)
    assert (known.object_name, known.changes["reason"]) == ("alice", "password")
    assert (unknown.object_name, unknown.object_id, unknown.changes["reason"]) == ("", None, "unknown")
    kept = db.session.scalars(sa.select(SignInAttempt.account)).all()
    assert not any("secret" in account for account in kept)


def test_beyond_the_limit_of_an_account_no_password_is_looked_at(
    context: Flask, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    factories.alice()
    for number in range(LIMIT):
        fail(settings, address=f"192.0.2.{number}")
    monkeypatch.setattr(passwords, "is_right", lambda *_: pytest.fail("a password was looked at"))
    with pytest.raises(TooManyRequests) as refused:
        sign_in(settings, address="192.0.2.9")
    assert PAUSE - 30 < refused.value.retry_after <= PAUSE
    assert [event.changes["limit_reached"] for event in events(Action.SIGN_IN_FAILED)] == [False] * (
        LIMIT - 1
    ) + [True]


def test_an_unknown_account_reaches_its_limit_like_a_known_one(context: Flask, settings: Settings) -> None:
    for number in range(LIMIT):
        fail(settings, "nobody", address=f"192.0.2.{number}")
    with pytest.raises(TooManyRequests):
        sign_in(settings, "nobody", "wrong", address="192.0.2.9")


def test_an_address_has_its_own_limit_over_all_accounts(context: Flask, settings: Settings) -> None:
    factories.alice()
    for number in range(ADDRESS_LIMIT):
        fail(settings, f"nobody{number}")
    with pytest.raises(TooManyRequests):
        sign_in(settings)
    assert sign_in(settings, address="192.0.2.2").user.username == "alice"


def test_success_with_one_account_does_not_clear_attempts_on_others(
    context: Flask, settings: Settings
) -> None:
    factories.mallory()
    for number in range(ADDRESS_LIMIT - 1):
        fail(settings, f"nobody{number}")
    sign_in(settings, "mallory")
    fail(settings, "nobody9")
    with pytest.raises(TooManyRequests):
        sign_in(settings, "mallory")


def test_the_pause_ends(context: Flask, settings: Settings) -> None:
    factories.alice()
    now = utcnow()
    for _ in range(LIMIT):
        fail(settings, now=now)
    with pytest.raises(TooManyRequests) as refused:
        sign_in(settings, now=now + dt.timedelta(seconds=PAUSE - 1))
    assert refused.value.retry_after == 1
    assert sign_in(settings, now=now + dt.timedelta(seconds=PAUSE)).user.username == "alice"


def test_success_forgets_the_failures_of_the_account(context: Flask, settings: Settings) -> None:
    factories.alice()
    for _ in range(4):
        fail(settings, address="192.0.2.7")
        sign_in(settings, address="192.0.2.7")
    assert db.session.scalar(sa.select(sa.func.count(SignInAttempt.id))) == 0


def test_asvs_6_3_1_attempts_at_the_same_time_are_all_counted(app: Flask, settings: Settings) -> None:
    with app.app_context():
        factories.alice()
    outcomes: list[str] = []
    start = threading.Barrier(12)

    def attempt() -> None:
        with app.app_context():
            start.wait()
            try:
                sign_in(settings, password="wrong", address="")
            except (Invalid, TooManyRequests) as err:
                outcomes.append(type(err).__name__)

    threads = [threading.Thread(target=attempt) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["Invalid"] * LIMIT + ["TooManyRequests"] * (12 - LIMIT)


def test_an_outdated_hash_is_made_anew_at_sign_in(context: Flask, settings: Settings) -> None:
    alice = factories.alice()
    with transaction():
        alice.password_hash = argon2.PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(
            factories.PASSWORD
        )
    sign_in(settings)
    assert alice.password_hash is not None
    assert not passwords.is_outdated(alice.password_hash)
    assert sign_in(settings).user is alice


def test_a_password_changed_meanwhile_lets_nobody_in(
    context: Flask, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = factories.alice()
    new = passwords.hash_password("something else")
    real = passwords.is_right

    def changed_meanwhile(kept: str | None, password: str) -> bool:
        with transaction():
            db.session.execute(
                sa.update(User).values(password_hash=new).execution_options(synchronize_session=False)
            )
        return real(kept, password)

    monkeypatch.setattr(passwords, "is_right", changed_meanwhile)
    with pytest.raises(Invalid):
        sign_in(settings, alice.username)
    assert db.session.scalar(sa.select(sa.func.count(UserSession.id))) == 0


def test_asvs_7_2_4_signing_in_again_replaces_the_browsers_session(
    context: Flask, settings: Settings
) -> None:
    factories.alice()
    first = sign_in(settings)
    second = sign_in(settings, former_token=first.token)
    assert second.token != first.token
    assert session_of(first.token).ended_at is not None
    assert session_of(second.token).ended_at is None


def test_forms_are_kept_only_for_ones_own_session_that_ran_out(context: Flask, settings: Settings) -> None:
    alice, _ = factories.alice(), factories.bob()
    ran_out = sign_in(settings)
    assert sign_in(settings, former_token=ran_out.token).renews
    assert not sign_in(settings, former_token=ran_out.token).renews  # It was ended by the sign-in before.
    of_another = sign_in(settings, "bob")
    assert not sign_in(settings, former_token=of_another.token).renews
    ended = sign_in(settings)
    ending.end_sessions(alice, actor=alice, now=utcnow())
    assert not sign_in(settings, former_token=ended.token).renews
    assert not sign_in(settings, former_token="of no session").renews


def test_asvs_7_4_1_signing_out_ends_the_session_once(context: Flask, settings: Settings) -> None:
    alice = factories.alice()
    token, other = sign_in(settings).token, sign_in(settings).token
    for _ in range(2):
        ending.sign_out(token=token, actor=alice, now=utcnow())
    assert session_of(token).ended_at is not None
    assert session_of(other).ended_at is None
    assert len(events(Action.SIGNED_OUT)) == 1


def test_a_session_is_ended_by_its_owner_once(context: Flask, settings: Settings) -> None:
    alice, bob = factories.alice(), factories.bob()
    row = session_of(sign_in(settings).token)
    with pytest.raises(NotFound):
        ending.end_session(row.id, actor=bob, now=utcnow())
    ending.end_session(row.id, actor=alice, now=utcnow())
    with pytest.raises(Conflict):
        ending.end_session(row.id, actor=alice, now=utcnow())
    with pytest.raises(NotFound):
        ending.end_session(999, actor=alice, now=utcnow())
    assert len(events(Action.SESSION_ENDED)) == 1


def test_all_other_sessions_end_and_nobody_elses(context: Flask, settings: Settings) -> None:
    alice, _ = factories.alice(), factories.bob()
    mine, *others = [session_of(sign_in(settings).token) for _ in range(3)]
    of_bob = session_of(sign_in(settings, "bob").token)
    assert ending.end_sessions(alice, actor=alice, now=utcnow(), but=mine.id) == 2
    db.session.expire_all()
    assert [row.ended_at is None for row in (mine, *others, of_bob)] == [True, False, False, True]
    assert ending.end_sessions(alice, actor=alice, now=utcnow(), but=mine.id) == 0


def test_asvs_7_4_3_a_password_change_ends_other_sessions(context: Flask, settings: Settings) -> None:
    alice = factories.alice()
    mine, other = (session_of(sign_in(settings).token) for _ in range(2))
    change(alice, settings, session_id=mine.id)
    db.session.expire_all()
    assert mine.ended_at is None
    assert other.ended_at is not None
    fail(settings)
    assert sign_in(settings, password="a new long one").user is alice
    (event,) = events(Action.PASSWORD_CHANGED)
    assert event.changes == {"sessions_ended": 1}


@pytest.mark.parametrize(
    ("current", "new", "field"),
    [
        ("wrong", "a new long one", "current"),
        (factories.PASSWORD, "short", "new"),
        (factories.PASSWORD, factories.PASSWORD, "new"),
    ],
)
def test_asvs_6_2_3_a_change_needs_the_present_password_and_a_good_new_one(
    context: Flask, settings: Settings, current: str, new: str, field: str
) -> None:
    alice = factories.alice()
    with pytest.raises(Invalid) as refused:
        change(alice, settings, current=current, new=new)
    assert list(refused.value.errors) == [field]
    assert sign_in(settings).user is alice
    assert not events(Action.PASSWORD_CHANGED)


def test_an_open_session_is_no_way_to_guess_the_password(context: Flask, settings: Settings) -> None:
    alice = factories.alice()
    for _ in range(LIMIT):
        with pytest.raises(Invalid):
            change(alice, settings, current="wrong")
    with pytest.raises(TooManyRequests):
        change(alice, settings)


def test_a_new_password_ends_the_pause(context: Flask, settings: Settings) -> None:
    alice = factories.alice()
    for _ in range(LIMIT):
        fail(settings)
    new_password.give(alice, "a new long one", actor=None, now=utcnow())
    assert sign_in(settings, password="a new long one").user is alice


def test_sessions_long_over_are_deleted_at_sign_in(context: Flask, settings: Settings) -> None:
    alice = factories.alice()
    long_ago = utcnow() - dt.timedelta(days=365)
    sign_in(settings, now=long_ago)
    sign_in(settings)
    assert db.session.scalar(sa.select(sa.func.count(UserSession.id))) == 1
    assert len(queries.sessions_of(alice, settings, utcnow())) == 1


def change(actor: User, settings: Settings, **given: Any) -> None:
    values: dict[str, Any] = {
        "current": factories.PASSWORD,
        "new": "a new long one",
        "session_id": None,
        **given,
    }
    new_password.change(actor=actor, settings=settings, now=utcnow(), **values)
