"""The second factor: setting it up, asking for it at the sign-in, recovery codes, removing it. Rules of ASVS 5.0."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import threading
from collections.abc import Callable
from typing import Any

import pyotp
import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from skstack.accounts import attempts, ending, new_password, second_factor, services, signing_in
from skstack.accounts.models import PendingSignIn, RecoveryCode, SecondFactor, User, UserSession
from skstack.accounts.signing_in import Browser, Step
from skstack.audit.models import AuditEvent
from skstack.audit.services import Action
from skstack.config import Settings
from skstack.db import transaction, utcnow
from skstack.errors import Conflict, Gone, Invalid, NotAllowed, TooManyRequests
from skstack.extensions import db
from tests import factories
from tests.accounts.conftest import Person

BrowserOf = Callable[[str], Person]
NOW = dt.datetime(2026, 3, 1, 12, 0, 5, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(minutes=2)
HERE = Browser("192.0.2.1", "Test")


def code_of(user: User, now: dt.datetime) -> str:
    found = second_factor.of(user)
    assert found is not None
    return pyotp.TOTP(found.secret).at(now)


def switch_on(user: User, now: dt.datetime = NOW) -> list[str]:
    with transaction():
        second_factor.prepare(user, now=now)
    return second_factor.confirm(actor=user, code=code_of(user, now), now=now)


def sign_in(settings: Settings, now: dt.datetime = LATER, username: str = "alice") -> signing_in.SignIn:
    return signing_in.sign_in(
        username=username,
        password=factories.PASSWORD,
        address="192.0.2.1",
        user_agent="Test",
        settings=settings,
        now=now,
    )


def finish(settings: Settings, token: str | None, code: str, now: dt.datetime = LATER) -> signing_in.SignIn:
    return signing_in.finish(token=token, code=code, browser=HERE, settings=settings, now=now)


def sessions_that_hold(user: User) -> int:
    statement = sa.select(sa.func.count(UserSession.id)).where(
        UserSession.user_id == user.id, UserSession.ended_at.is_(None)
    )
    return db.session.scalar(statement) or 0


def events(action: Action) -> list[AuditEvent]:
    return list(db.session.scalars(sa.select(AuditEvent).where(AuditEvent.action == str(action))))


def requiring(settings: Settings, who: str) -> Settings:
    return dataclasses.replace(settings, second_factor=who)


@pytest.mark.both_databases
def test_a_session_begins_only_after_the_code_and_each_code_is_good_once(
    context: Flask, settings: Settings
) -> None:
    alice = factories.alice()
    switch_on(alice)
    begun = sign_in(settings)
    assert (begun.step, sessions_that_hold(alice)) == (Step.CODE, 0)
    assert finish(settings, begun.token, code_of(alice, LATER)).step is None
    assert sessions_that_hold(alice) == 1
    (event,) = events(Action.SIGNED_IN)
    assert (event.changes["way"], event.changes["second_factor"]) == ("password", True)

    again = sign_in(settings)
    with pytest.raises(Invalid) as refused:  # ASVS 6.5.1: the very same code, and one from before it.
        finish(settings, again.token, code_of(alice, LATER))
    assert list(refused.value.errors) == ["code"]
    with pytest.raises(Invalid):
        finish(settings, again.token, code_of(alice, LATER - dt.timedelta(seconds=30)))
    assert finish(settings, again.token, code_of(alice, LATER + dt.timedelta(seconds=30))).step is None


def test_the_secret_and_the_recovery_codes_cannot_be_read_in_the_database(context: Flask) -> None:
    alice = factories.alice()
    codes = switch_on(alice)
    found = second_factor.of(alice)
    assert found is not None
    stored = db.session.scalar(sa.text("SELECT secret FROM second_factors"))
    assert found.secret.encode() not in bytes(stored)
    hashes = db.session.scalars(sa.select(RecoveryCode.code_hash)).all()
    assert len(set(codes)) == len(set(hashes)) == second_factor.RECOVERY_CODES
    assert not set(codes) & set(hashes)


def test_a_phone_may_be_half_a_minute_off_and_no_more(context: Flask, settings: Settings) -> None:
    alice = factories.alice()
    switch_on(alice)
    for seconds, right in ((-90, False), (90, False), (-30, True), (30, True)):
        begun = sign_in(settings)
        code = code_of(alice, LATER + dt.timedelta(seconds=seconds))
        if right:
            assert finish(settings, begun.token, code).step is None, seconds
        else:
            with pytest.raises(Invalid):
                finish(settings, begun.token, code)


def test_what_is_no_code_is_refused(context: Flask, settings: Settings) -> None:
    alice = factories.alice()
    switch_on(alice)
    token = sign_in(settings).token
    for code in ("", "12345", "1234567", "abcdef", "\uff11\uff12\uff13\uff14\uff15\uff16", "-12345", " "):
        with pytest.raises(Invalid):
            finish(settings, token, code)
        attempts.forget(attempts.code_key("alice"))


def test_a_code_may_be_typed_with_a_blank_as_apps_show_it(context: Flask, settings: Settings) -> None:
    alice = factories.alice()
    switch_on(alice)
    code = code_of(alice, LATER)
    assert finish(settings, sign_in(settings).token, f"{code[:3]} {code[3:]} ").user is alice


def test_a_recovery_code_is_good_once_however_it_is_typed(context: Flask, settings: Settings) -> None:
    alice, bob = factories.alice(), factories.bob()
    first, second, *_ = switch_on(alice)
    switch_on(bob)
    assert finish(settings, sign_in(settings).token, f" {first.upper().replace('-', ' ')} ").user is alice
    with pytest.raises(Invalid):
        finish(settings, sign_in(settings).token, first)
    with pytest.raises(Invalid):  # Another's.
        finish(settings, sign_in(settings, username="bob").token, second)
    (event,) = events(Action.RECOVERY_CODE_USED)
    assert (event.actor, event.changes) == ("alice", {"left": second_factor.RECOVERY_CODES - 1})
    assert second_factor.codes_left(alice) == second_factor.RECOVERY_CODES - 1


def test_asvs_6_3_1_codes_are_limited_whatever_password_is_typed_between(
    context: Flask, settings: Settings
) -> None:
    alice = factories.alice()
    switch_on(alice)
    for _ in range(attempts.MOST_CODES):
        with pytest.raises(Invalid):  # A right password each time, which forgets wrong passwords only.
            finish(settings, sign_in(settings).token, "000000")
    with pytest.raises(TooManyRequests) as refused:
        finish(settings, sign_in(settings).token, code_of(alice, LATER))
    assert refused.value.retry_after > 0
    failures = events(Action.SIGN_IN_FAILED)
    assert [event.changes["reason"] for event in failures] == ["second factor"] * attempts.MOST_CODES
    assert [event.changes["limit_reached"] for event in failures] == [False] * (attempts.MOST_CODES - 1) + [
        True
    ]
    over = LATER + dt.timedelta(seconds=settings.login_pause)
    assert finish(settings, sign_in(settings, over).token, code_of(alice, over), over).user is alice


def test_the_token_of_the_first_step_opens_nothing_and_ends(context: Flask, settings: Settings) -> None:
    alice = factories.alice()
    switch_on(alice)
    token = sign_in(settings).token
    for wrong in (None, "", "another", token[:-1]):
        with pytest.raises(Gone):
            finish(settings, wrong, code_of(alice, LATER))
    too_late = LATER + signing_in.SECOND_STEP_TIME
    with pytest.raises(Gone):
        finish(settings, token, code_of(alice, too_late), too_late)
    assert finish(settings, token, code_of(alice, LATER)).user is alice
    with pytest.raises(Gone):
        finish(settings, token, code_of(alice, LATER + dt.timedelta(seconds=30)))


@pytest.mark.parametrize("what", ["deactivated", "new password", "sessions ended", "removed"])
def test_what_keeps_somebody_out_ends_the_second_step_too(
    context: Flask, settings: Settings, what: str
) -> None:
    alice = factories.alice()
    switch_on(alice)
    token, code = sign_in(settings).token, code_of(alice, LATER)
    if what == "deactivated":
        services.deactivate(alice, actor=None, now=LATER)
    elif what == "new password":
        new_password.give(alice, "a new long one", actor=None, now=LATER)
    elif what == "sessions ended":
        ending.end_sessions(alice, actor=alice, now=LATER)
    else:
        services.remove_second_factor(alice, actor=None, now=LATER)
    with pytest.raises(Gone):
        finish(settings, token, code)
    assert db.session.scalar(sa.select(sa.func.count(PendingSignIn.id))) == 0


def test_of_two_with_the_same_code_at_once_one_gets_in(app: Flask, settings: Settings) -> None:
    with app.app_context():
        alice = factories.alice()
        switch_on(alice)
        code = code_of(alice, LATER)
        tokens = [sign_in(settings).token for _ in range(4)]
    outcomes: list[str] = []
    start = threading.Barrier(4)

    def enter(token: str) -> None:
        with app.app_context():
            start.wait()
            try:
                finish(settings, token, code)
                outcomes.append("in")
            except Invalid:
                outcomes.append("refused")

    threads = [threading.Thread(target=enter, args=(token,)) for token in tokens]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["in", "refused", "refused", "refused"]


def test_setting_it_up_needs_the_password_and_ends_other_sessions(context: Flask, settings: Settings) -> None:
    alice = factories.alice()
    signed_in = [sign_in(settings, NOW) for _ in range(2)]
    rows = db.session.scalars(sa.select(UserSession.id).order_by(UserSession.id)).all()
    assert len(signed_in) == len(rows) == 2
    with pytest.raises(Invalid) as refused:
        second_factor.begin(actor=alice, password="wrong", settings=settings, now=NOW)
    assert list(refused.value.errors) == ["password"]
    second_factor.begin(actor=alice, password=factories.PASSWORD, settings=settings, now=NOW)
    assert not second_factor.is_on(alice)
    assert sign_in(settings).step is None  # Not confirmed: it asks nothing yet.
    with pytest.raises(Invalid):
        second_factor.confirm(actor=alice, code="000000", now=NOW)
    second_factor.confirm(actor=alice, code=code_of(alice, NOW), now=NOW, keep_session=rows[0])
    assert second_factor.is_on(alice)
    assert sessions_that_hold(alice) == 1
    assert len(events(Action.SECOND_FACTOR_SET_UP)) == 1
    with pytest.raises(Conflict):
        second_factor.begin(actor=alice, password=factories.PASSWORD, settings=settings, now=NOW)
    with pytest.raises(Gone):
        second_factor.confirm(actor=alice, code=code_of(alice, LATER), now=LATER)


def test_what_was_left_unconfirmed_is_too_old_after_a_while(context: Flask, settings: Settings) -> None:
    alice = factories.alice()
    second_factor.begin(actor=alice, password=factories.PASSWORD, settings=settings, now=NOW)
    late = NOW + dt.timedelta(minutes=15)
    with pytest.raises(Gone):
        second_factor.confirm(actor=alice, code=code_of(alice, late), now=late)


def test_switching_off_and_new_codes_need_password_and_code(context: Flask, settings: Settings) -> None:
    alice = factories.alice()
    given: dict[str, Any] = {"actor": alice, "settings": settings, "now": LATER}
    with pytest.raises(Conflict):
        second_factor.switch_off(password=factories.PASSWORD, code="000000", **given)
    old = switch_on(alice)
    for act in (second_factor.switch_off, second_factor.renew_codes):
        for password, code, field in (("wrong", old[0], "password"), (factories.PASSWORD, "000000", "code")):
            with pytest.raises(Invalid) as refused:
                act(password=password, code=code, **given)
            assert list(refused.value.errors) == [field]
    new = second_factor.renew_codes(password=factories.PASSWORD, code=code_of(alice, LATER), **given)
    assert second_factor.is_on(alice)
    with pytest.raises(Invalid):
        second_factor.switch_off(password=factories.PASSWORD, code=old[0], **given)
    second_factor.switch_off(password=factories.PASSWORD, code=new[0], **given)
    assert sign_in(settings).step is None
    assert not db.session.scalars(sa.select(RecoveryCode)).all()
    assert [len(events(one)) for one in (Action.RECOVERY_CODES_RENEWED, Action.SECOND_FACTOR_REMOVED)] == [
        1,
        1,
    ]


def test_an_open_session_is_no_way_to_guess_codes(context: Flask, settings: Settings) -> None:
    alice = factories.alice()
    switch_on(alice)
    given: dict[str, Any] = {"actor": alice, "settings": settings, "now": LATER}
    for _ in range(attempts.MOST_CODES):
        with pytest.raises(Invalid):
            second_factor.switch_off(password=factories.PASSWORD, code="000000", **given)
    with pytest.raises(TooManyRequests):
        second_factor.switch_off(password=factories.PASSWORD, code=code_of(alice, LATER), **given)


@pytest.mark.parametrize(("who", "asked"), [("", []), ("superusers", ["root"]), ("all", ["alice", "root"])])
def test_who_must_have_one_sets_it_up_before_the_session_begins(
    context: Flask, settings: Settings, who: str, asked: list[str]
) -> None:
    cast = {"alice": factories.alice(), "root": factories.root()}
    demanding = requiring(settings, who)
    for name, user in cast.items():
        begun = sign_in(demanding, username=name)
        assert begun.step is (Step.SET_UP if name in asked else None)
        if begun.step is None:
            continue
        assert sessions_that_hold(user) == 0
        with pytest.raises(Gone):  # The other step does not do.
            finish(demanding, begun.token, code_of(user, LATER))
        given: dict[str, Any] = {"browser": HERE, "settings": demanding, "now": LATER}
        with pytest.raises(Invalid):
            signing_in.finish_setting_up(token=begun.token, code="000000", **given)
        done, codes = signing_in.finish_setting_up(token=begun.token, code=code_of(user, LATER), **given)
        assert (done.user, len(codes)) == (user, second_factor.RECOVERY_CODES)
        assert sessions_that_hold(user) == 1
        with pytest.raises(Gone):
            signing_in.finish_setting_up(token=begun.token, code=code_of(user, LATER), **given)
        with pytest.raises(NotAllowed):
            second_factor.switch_off(
                actor=user, password=factories.PASSWORD, code=codes[0], settings=demanding, now=LATER
            )


def test_a_setting_that_says_nothing_known_stops_the_start(tmp_path: Any) -> None:
    from skstack import config

    environment = {"SKSTACK_INSTANCE": str(tmp_path), "SKSTACK_SECOND_FACTOR": "everybody"}
    with pytest.raises(config.ConfigError, match="superusers, all, or empty"):
        config.load(environment)


def test_an_administrator_removes_anothers_but_not_a_superusers_nor_their_own(
    context: Flask, settings: Settings
) -> None:
    paula = factories.make_user("paula", pages=["users"])
    alice, root = factories.alice(), factories.root()
    for user in (paula, alice, root):
        switch_on(user)
    finish(settings, sign_in(settings).token, code_of(alice, LATER))
    services.remove_second_factor(alice, actor=paula, now=LATER)
    assert (second_factor.is_on(alice), sessions_that_hold(alice)) == (False, 0)
    with pytest.raises(Conflict):
        services.remove_second_factor(alice, actor=paula, now=LATER)
    for another, actor in ((root, paula), (paula, paula), (root, root)):
        with pytest.raises(NotAllowed):
            services.remove_second_factor(another, actor=actor, now=LATER)
        assert second_factor.is_on(another)
    assert [(event.actor, event.object_name) for event in events(Action.SECOND_FACTOR_REMOVED)] == [
        ("paula", "alice")
    ]


# The pages.


def csrf_of(client: FlaskClient, path: str) -> str:
    page = client.get(path).get_data(as_text=True)
    return page.split('name="csrf_token" value="')[1].split('"')[0]


def type_password(client: FlaskClient, **fields: str) -> TestResponse:
    form = {"username": "alice", "password": factories.PASSWORD, "csrf_token": csrf_of(client, "/sign-in")}
    return client.post("/sign-in", data={**form, **fields})


def is_signed_in(client: FlaskClient) -> bool:
    return client.get("/who").status_code == 200


def now_code(app: Flask, seconds: int = 0) -> str:
    with app.app_context():
        found = db.session.scalars(sa.select(SecondFactor)).one()
        return pyotp.TOTP(found.secret).at(utcnow() + dt.timedelta(seconds=seconds))


def test_the_pages_ask_for_the_code_and_lead_where_one_wanted_to_go(app: Flask, client: FlaskClient) -> None:
    with app.app_context():
        (recovery, *_) = switch_on(factories.alice())
    answer = type_password(client, next="/me/tokens")
    assert (answer.status_code, answer.location) == (303, "/sign-in/code?next=/me/tokens")
    assert not is_signed_in(client)
    page = client.get(answer.location).get_data(as_text=True)
    assert 'autocomplete="one-time-code"' in page
    token = csrf_of(client, answer.location)
    assert (
        client.post("/sign-in/code", data={"code": recovery}).status_code == 400
    )  # Without the form's token.
    empty = client.post("/sign-in/code", data={"csrf_token": token, "code": ""})
    wrong = client.post("/sign-in/code", data={"csrf_token": token, "code": "000000", "next": "/me/tokens"})
    assert (empty.status_code, wrong.status_code) == (422, 422)
    assert "This code is wrong" in wrong.get_data(as_text=True)
    assert not is_signed_in(client)
    form = {"csrf_token": token, "code": now_code(app), "next": "/me/tokens"}
    right = client.post("/sign-in/code", data=form)
    assert (right.status_code, right.location) == (303, "/me/tokens")
    assert is_signed_in(client)
    # The second step is over, here and for whoever has kept its cookie.
    assert client.get("/sign-in/code").location.startswith("/sign-in")


def test_asvs_3_7_2_the_second_step_leads_to_no_other_site(app: Flask, client: FlaskClient) -> None:
    with app.app_context():
        switch_on(factories.alice())
    answer = type_password(client, next="https://example.org/")
    assert answer.location == "/sign-in/code"
    token = csrf_of(client, "/sign-in/code?next=//example.org")
    form = {"csrf_token": token, "code": now_code(app), "next": "//example.org/"}
    assert client.post("/sign-in/code", data=form).location == "/"


def test_too_many_codes_are_answered_with_429(app: Flask, client: FlaskClient) -> None:
    with app.app_context():
        switch_on(factories.alice())
    type_password(client)
    form = {"csrf_token": csrf_of(client, "/sign-in/code"), "code": "000000"}
    found = [client.post("/sign-in/code", data=form) for _ in range(attempts.MOST_CODES + 1)]
    assert [answer.status_code for answer in found] == [422] * attempts.MOST_CODES + [429]
    assert int(found[-1].headers["Retry-After"]) > 0


def test_without_a_first_step_there_is_no_second(client: FlaskClient) -> None:
    csrf = csrf_of(client, "/sign-in")
    for path in ("/sign-in/code", "/sign-in/set-up"):
        answer = client.post(path, data={"csrf_token": csrf, "code": "000000", "next": "/me"})
        assert (answer.status_code, answer.location) == (303, "/sign-in?next=/me")


def test_the_profile_sets_it_up_and_shows_secret_and_codes_once(app: Flask, browser_of: BrowserOf) -> None:
    client = browser_of("alice").client
    assert client.post("/me/second-factor/begin", data={"password": "wrong"}).status_code == 422
    page = client.post("/me/second-factor/begin", data={"password": factories.PASSWORD}).get_data(
        as_text=True
    )
    with app.app_context():
        secret = db.session.scalars(sa.select(SecondFactor)).one().secret
    assert f'data-copy="{secret}"' in page
    svg = re.search(r"<svg[^>]*>(?:(?!use ).)*?</svg>", page.split('class="qr"')[1], re.DOTALL)
    assert svg is not None
    assert "style=" not in svg[0]  # Our Content-Security-Policy would drop it.
    assert secret not in client.get("/me/second-factor").get_data(as_text=True)
    assert client.post("/me/second-factor/confirm", data={"code": "000000"}).status_code == 422
    done = client.post("/me/second-factor/confirm", data={"code": now_code(app)}).get_data(as_text=True)
    codes = re.findall(r"<code>((?:\w{4}-){3}\w{4})</code>", done)
    assert len(codes) == second_factor.RECOVERY_CODES
    on = client.get("/me/second-factor").get_data(as_text=True)
    assert not any(code in on for code in codes)
    assert client.post("/me/second-factor/begin", data={"password": factories.PASSWORD}).status_code == 409
    fields = {"password": factories.PASSWORD, "code": codes[0]}
    renewed = client.post("/me/second-factor/codes", data=fields)
    assert renewed.status_code == 200
    assert codes[1] not in renewed.get_data(as_text=True)
    assert client.post("/me/second-factor/off", data={**fields, "code": codes[1]}).status_code == 422
    assert client.post("/me/second-factor/off", data={**fields, "code": now_code(app, 30)}).status_code == 303
    assert "Set up" in client.get("/me/second-factor").get_data(as_text=True)


def test_who_must_have_one_sets_it_up_on_the_way_in(app: Flask, client: FlaskClient) -> None:
    app.config["SKSTACK"] = requiring(app.config["SKSTACK"], "all")
    with app.app_context():
        factories.alice()
    answer = type_password(client, next="/me/tokens")
    assert answer.location == "/sign-in/set-up?next=/me/tokens"
    assert client.get("/sign-in/code").location == "/sign-in/set-up"
    token = csrf_of(client, answer.location)
    assert client.post("/sign-in/set-up", data={"code": now_code(app)}).status_code == 400
    for code in ("", "000000"):
        wrong = client.post("/sign-in/set-up", data={"csrf_token": token, "code": code})
        assert (wrong.status_code, "<svg" in wrong.get_data(as_text=True)) == (422, True)
    assert not is_signed_in(client)
    done = client.post(
        "/sign-in/set-up", data={"csrf_token": token, "code": now_code(app), "next": "/me/tokens"}
    )
    page = done.get_data(as_text=True)
    assert (done.status_code, 'href="/me/tokens"' in page) == (200, True)
    assert len(re.findall(r"<code>(?:\w{4}-){3}\w{4}</code>", page)) == second_factor.RECOVERY_CODES
    assert is_signed_in(client)


def test_tokens_of_the_api_are_not_asked_for_codes(app: Flask, client: FlaskClient) -> None:
    with app.app_context():
        alice = factories.alice()
        switch_on(alice)
        headers = factories.bearer(alice)
    assert client.get("/api/v1/who", headers=headers).json == "alice"


def test_an_administrators_page_removes_it(app: Flask, browser_of: BrowserOf) -> None:
    with app.app_context():
        alice = factories.alice()
        switch_on(alice)
        address = f"/accounts/users/{alice.id}"
    root = browser_of("root").client
    assert "Remove second factor" in root.get(address).get_data(as_text=True)
    assert root.post(f"{address}/second-factor/remove").status_code == 303
    assert "Remove second factor" not in root.get(address).get_data(as_text=True)
