"""Watching a run line by line: who watches is not looked at anew for each line, and yet loses sight of it at once."""

from __future__ import annotations

import datetime as dt
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from skstack.accounts import ending, profile, tokens
from skstack.accounts import services as accounts
from skstack.accounts.models import ApiToken, Role, User, UserSession
from skstack.approvals.services import approve
from skstack.audit import access
from skstack.audit.access import AccessVersion
from skstack.db import db, transaction, utcnow
from skstack.runs import middleware, views
from skstack.runs.following import MOMENT, tails
from skstack.runs.models import Run
from skstack.tickets import services as tickets
from tests.api.conftest import Caller
from tests.factories import alice, bearer, bob, make_group, mallory, root, sign_in
from tests.fake_runner import begin, end, note, run_of, write
from tests.orders import make_flow, make_ticket, make_workorder

WITHIN = 10.0


@pytest.fixture
def running(app: Flask) -> Run:
    """Give a run of Alice's that Bob's group has approved."""
    with app.app_context():
        bob()
        order = make_workorder(approval_flow=make_flow("leads"), main_task="echo one\necho two")
        ticket = make_ticket(alice(), order)
        approve(ticket, actor=bob())
        tickets.execute(ticket, actor=alice())
        run = begin(run_of(ticket))
        note(run, "step_started", 1, line="echo one")
        write(run, b"one\n")
        return run


@pytest.fixture
def statements(app: Flask) -> list[str]:
    """Give the statements that are made from now on."""
    made: list[str] = []
    with app.app_context():
        sa.event.listen(db.engine, "before_cursor_execute", lambda *given: made.append(given[2]))
    return made


def wait_for(count: int, app: Flask) -> None:
    """Wait until so many requests wait for lines."""
    with app.app_context():
        found, deadline = tails(), time.monotonic() + WITHIN
        while found.waiting < count:
            assert time.monotonic() < deadline, f"only {found.waiting} wait"
            time.sleep(0.005)


def print_line(app: Flask, run: Run, line: bytes) -> None:
    with app.app_context():
        write(run, line)


def lines_after(app: Flask, run: Run, caller: Caller, offset: int) -> Future[Any]:
    """Ask for what comes behind `offset` in a thread, and return once that waits."""
    pool = ThreadPoolExecutor(1)
    answer = pool.submit(caller.get, f"/runs/{run.id}/log?offset={offset}&wait=20")
    pool.shutdown(wait=False)
    wait_for(1, app)
    return answer


@pytest.mark.both_databases
def test_each_further_line_costs_a_look_at_the_trail_and_nothing_else(
    app: Flask, call: Callable[..., Caller], running: Run, statements: list[str]
) -> None:
    caller = call(alice)
    assert caller.get(f"/runs/{running.id}/log").data == b"one\n"
    statements.clear()
    for number in range(5):
        answer = lines_after(app, running, caller, 4 + 2 * number)
        print_line(app, running, b"%d\n" % number)
        assert answer.result(WITHIN).data == b"%d\n" % number
    named = [re.search(r"(?:FROM|UPDATE|INTO) (\w+)", statement) for statement in statements]
    assert {found[1] for found in named if found} <= {"audit_head"}
    assert len(statements) <= 5 * 2


@pytest.mark.both_databases
def test_what_happens_to_tickets_and_runs_takes_no_pass_away(app: Flask) -> None:
    with app.app_context():
        order = make_workorder()
        accounts.save_group(None, actor=root(), name="one")
        version = AccessVersion(db.engine)
        before = version.get(0)
        assert before > 0
        end(begin(run_of(make_ticket(alice(), order))))
        assert version.get(0) == before
        accounts.save_group(None, actor=root(), name="another")
        assert version.get(0) > before
        assert version.get(0) == version.get(60)


def _deactivate(run: Run) -> None:
    accounts.deactivate(bob(), actor=root(), now=utcnow())


def _revoke(run: Run) -> None:
    tokens.revoke_all(bob(), actor=root(), now=utcnow())


def change(**memberships: Any) -> None:
    accounts.change_user(bob(), actor=root(), display_name="", email="", superuser=False, **memberships)


def _take_groups(run: Run) -> None:
    change(groups=[make_group("elsewhere")], roles=bob().roles)


def _take_roles(run: Run) -> None:
    change(groups=bob().groups, roles=[])


def _end_sessions(run: Run) -> None:
    ending.end_sessions(bob(), actor=root(), now=utcnow())


def _empty_the_role(run: Run) -> None:
    role = db.session.scalars(sa.select(Role).where(Role.name == "approver")).one()
    accounts.save_role(role, actor=root(), name="approver", description="", pages=[])


TAKEN = [
    (_empty_the_role, 403),
    (_deactivate, 401),
    (_revoke, 401),
    (_take_groups, 404),
    (_take_roles, 403),
]


@pytest.mark.both_databases
@pytest.mark.parametrize(("take", "status"), TAKEN, ids=lambda given: getattr(given, "__name__", ""))
@pytest.mark.parametrize("waiting", [True, False], ids=["waiting", "between"])
def test_who_loses_access_gets_no_further_line(
    app: Flask,
    call: Callable[..., Caller],
    running: Run,
    take: Callable[[Run], None],
    status: int,
    waiting: bool,
) -> None:
    with app.app_context():
        root()
    caller = call(bob)
    assert caller.get(f"/runs/{running.id}/log").data == b"one\n"
    answer = lines_after(app, running, caller, 4) if waiting else None
    with app.app_context():
        take(running)
    time.sleep(middleware._FRESH)
    print_line(app, running, b"secret\n")
    last = answer.result(WITHIN) if answer else caller.get(f"/runs/{running.id}/log?offset=4&wait=20")
    assert last.status_code == status
    assert b"secret" not in last.data


def fragment_after(client: FlaskClient, html: str) -> str:
    """Ask for what the poller in a page or fragment asks for."""
    found = re.search(r'id="log-poller"[^>]*hx-get="([^"]*)"', html, re.DOTALL)
    assert found, html
    answer = client.get(found[1].replace("&amp;", "&"), headers={"HX-Request": "true"})
    return answer.text if answer.status_code == 200 else str(answer.status_code)


def watcher(app: Flask, who: Callable[[], User], **headers: str) -> FlaskClient:
    with app.app_context():
        client = app.test_client()
        sign_in(client, who())
    client.environ_base.update(headers)
    return client


def _sign_out(run: Run) -> None:
    row = db.session.scalars(sa.select(UserSession).where(UserSession.user_id == bob().id)).one()
    ending.end_session(row.id, actor=bob(), now=utcnow())


class Watching:
    """People who watch the page of a run, each in a thread of their own."""

    def __init__(self, app: Flask, run: Run, clients: list[FlaskClient]) -> None:
        self._app, self._run, self._clients = app, run, clients
        self._pool = ThreadPoolExecutor(len(clients))
        self.fragments = [client.get(f"/runs/{run.id}").text for client in clients]

    def after(self, do: Callable[[], None]) -> list[str]:
        """Let all wait, do something, and return what each is answered."""
        pairs = zip(self._clients, self.fragments, strict=True)
        answers = [self._pool.submit(fragment_after, *pair) for pair in pairs]
        wait_for(len(answers), self._app)
        do()
        self.fragments = [answer.result(WITHIN) for answer in answers]
        return self.fragments

    def after_line(self, line: bytes) -> list[str]:
        return self.after(lambda: print_line(self._app, self._run, line))


@pytest.mark.both_databases
@pytest.mark.parametrize("take", [_deactivate, _take_groups, _take_roles, _end_sessions, _sign_out])
def test_a_page_shows_no_further_line_either_though_others_get_it(
    app: Flask, running: Run, take: Callable[[Run], None]
) -> None:
    with app.app_context():
        root()
    watching = Watching(app, running, [watcher(app, alice), watcher(app, bob)])
    for line in (b"two\n", b"three\n"):
        assert all(line.decode().strip() in fragment for fragment in watching.after_line(line))

    def take_and_print() -> None:
        with app.app_context():
            take(running)
        time.sleep(middleware._FRESH)
        print_line(app, running, b"secret\n")

    hers, his = watching.after(take_and_print)
    assert "secret" in hers
    assert his in ("401", "403", "404")


@pytest.mark.parametrize("through", ["token", "session"])
def test_what_ends_while_one_waits_is_over(
    app: Flask, call: Callable[..., Caller], running: Run, through: str
) -> None:
    """By itself: nothing is changed when its time comes."""
    soon, over = dt.timedelta(seconds=4), 4.1
    if through == "token":
        caller = call(bob)
        with app.app_context(), transaction():
            db.session.execute(sa.update(ApiToken).values(expires_at=utcnow() + soon))
        assert caller.get(f"/runs/{running.id}/log").status_code == 200
        answer = lines_after(app, running, caller, 4)
        time.sleep(over)
        print_line(app, running, b"secret\n")
        assert answer.result(WITHIN).status_code == 401
        return
    clients = [watcher(app, alice), watcher(app, bob)]
    with app.app_context(), transaction():
        lived = dt.timedelta(seconds=app.config["SKSTACK"].session_lifetime_absolute)
        his = sa.update(UserSession).where(UserSession.user_id == bob().id)
        db.session.execute(his.values(created_at=utcnow() - lived + soon))
    watching = Watching(app, running, clients)

    def wait_and_print() -> None:
        time.sleep(over)
        print_line(app, running, b"secret\n")

    hers, his_answer = watching.after(wait_and_print)
    assert "secret" in hers
    assert his_answer == "401"


def test_a_pass_is_of_use_to_nobody_else(app: Flask, call: Callable[..., Caller], running: Run) -> None:
    path = f"/runs/{running.id}/log"
    assert call(alice).get(path).data == b"one\n"
    assert call(mallory).get(path).status_code == 404
    assert call().get(path).status_code == 401
    with app.app_context():
        hers = begin(run_of(make_ticket(mallory(), make_workorder(name="hers", groups=["outsiders"]))))
        write(hers, b"of mallory\n")
    # Both have a pass now, each for one run.
    assert call(mallory).get(f"/runs/{hers.id}/log").data == b"of mallory\n"
    assert call(mallory).get(path).status_code == 404
    assert call(alice).get(f"/runs/{hers.id}/log").status_code == 404
    client = watcher(app, alice)
    fragment_of = client.get(f"/runs/{running.id}/log?size=0").text
    assert "one" in fragment_of
    with app.app_context():
        other = run_of(make_ticket(root(), make_workorder()))
        begin(other)
        write(other, b"of another\n")
    assert client.get(f"/runs/{other.id}/log?size=0").status_code == 404
    # The cookie counts for pages only, the token for the API only.
    assert client.get(f"/api/v1{path}").status_code == 401
    with app.app_context():
        token = bearer(alice())
    assert app.test_client().get(path, headers=token).status_code in (302, 303, 401)


def test_many_watchers_get_a_fragment_that_was_made_once_for_each_language(
    app: Flask, running: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    render = views._answer
    monkeypatch.setattr(views, "_answer", lambda *given: made.append("") or render(*given))
    clients = [watcher(app, who) for who in (alice, bob) for _ in range(5)]
    clients += [watcher(app, alice, HTTP_ACCEPT_LANGUAGE="zh-CN") for _ in range(10)]
    fragments = [client.get(f"/runs/{running.id}").text for client in clients]
    with ThreadPoolExecutor(20) as pool:
        for number in range(3):
            answers = [pool.submit(fragment_after, *pair) for pair in zip(clients, fragments, strict=True)]
            wait_for(20, app)
            made.clear()
            print_line(app, running, b"line %d\n" % number)
            fragments = [answer.result(WITHIN) for answer in answers]
            assert len(made) == 2
            assert all(f"line {number}<" in fragment for fragment in fragments)
            assert len(set(fragments)) <= 2


def test_one_that_is_made_anew_says_the_same(app: Flask, running: Run) -> None:
    """What was shared is what the view alone answers."""
    client = watcher(app, alice)
    page = client.get(f"/runs/{running.id}").text
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(fragment_after, client, page)
        wait_for(1, app)
        print_line(app, running, b"\x1b[31mred <b>\n")
        shared = answer.result(WITHIN)
    assert shared == fragment_after(watcher(app, alice), page)
    assert "red &lt;b&gt;" in shared


def test_a_pass_is_not_longer_than_the_token(app: Flask, running: Run) -> None:
    with app.app_context():
        headers = bearer(alice())
        with transaction():
            db.session.execute(sa.update(ApiToken).values(expires_at=utcnow() + dt.timedelta(seconds=1)))
    client, path = app.test_client(), f"/api/v1/runs/{running.id}/log"
    assert client.get(path, headers=headers).data == b"one\n"
    time.sleep(1.1)
    assert client.get(path, headers=headers).status_code == 401


def test_what_an_ending_offers_is_for_its_reader(
    app: Flask, running: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends after its last line was seen and before the fragment for all is made."""
    watching = Watching(app, running, [watcher(app, alice), watcher(app, bob)])
    look = views.wait_for_more

    def end_first(*given: Any, **more: Any) -> Any:
        with app.app_context():
            run = db.session.get_one(Run, running.id)
            if not run.run_state.is_final:
                end(run)
        return look(*given, **more)

    lock = threading.Lock()

    def one_by_one(*given: Any, **more: Any) -> Any:
        with lock:
            return end_first(*given, **more)

    def print_last() -> None:
        monkeypatch.setattr(views, "wait_for_more", one_by_one)
        print_line(app, running, b"the last\n")

    hers, his = watching.after(print_last)
    assert "Submit again" in hers
    assert "Submit again" not in his


def test_who_changes_the_language_while_waiting_changes_it_for_nobody_else(app: Flask, running: Run) -> None:
    watching = Watching(app, running, [watcher(app, alice), watcher(app, bob)])

    def change_and_print() -> None:
        with app.app_context():
            profile.set_language(actor=alice(), language="zh_CN")
        time.sleep(middleware._FRESH)
        print_line(app, running, b"two\n")

    before = watching.fragments[1]
    _, his = watching.after(change_and_print)
    assert his == fragment_after(watcher(app, bob), before)


def test_the_end_of_the_run_is_told_to_who_waits(
    app: Flask, call: Callable[..., Caller], running: Run
) -> None:
    caller = call(alice)
    caller.get(f"/runs/{running.id}/log")
    answer = lines_after(app, running, caller, 4)
    with app.app_context():
        end(running)
    told = answer.result(WITHIN)
    assert (told.data, told.headers["X-Run-State"], told.headers["X-Run-Final"]) == (b"", "succeeded", "1")


def test_what_is_asked_unusually_waits_too(app: Flask, call: Callable[..., Caller], running: Run) -> None:
    caller = call(alice)
    caller.get(f"/runs/{running.id}/log")
    timer = threading.Timer(0.3, print_line, (app, running, b"two\n"))
    timer.start()
    assert caller.get(f"/runs/{running.id}/log?wait=2e1&offset=%34").data == b"two\n"
    timer.join()


def test_asking_unusually_gets_nobody_round_it(app: Flask, call: Callable[..., Caller], running: Run) -> None:
    caller = call(bob)
    with app.app_context():
        root()
    caller.get(f"/runs/{running.id}/log")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(caller.get, f"/runs/{running.id}/log?offset=4&wait=2e1")
        wait_for(1, app)
        with app.app_context():
            _take_groups(running)
        time.sleep(MOMENT)
        print_line(app, running, b"secret\n")
        assert answer.result(WITHIN).status_code == 404


def test_a_failing_look_does_not_make_the_wait_longer(
    app: Flask, call: Callable[..., Caller], running: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = call(alice)
    caller.get(f"/runs/{running.id}/log")
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(caller.get, f"/runs/{running.id}/log?offset=4&wait=2")
        wait_for(1, app)
        monkeypatch.setattr(AccessVersion, "get", fail)
        assert answer.result(WITHIN).data == b""
    assert time.monotonic() - began < 3.8


def test_who_waits_for_a_failing_look_learns_of_it_too(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    with app.app_context():
        version = AccessVersion(db.engine)

    looks: list[int] = []

    def slow(_: AccessVersion) -> None:
        looks.append(1)
        time.sleep(0.3)
        fail()

    monkeypatch.setattr(AccessVersion, "_look", slow)
    gate = threading.Barrier(10)

    def ask(_: int) -> None:
        gate.wait(WITHIN)
        with pytest.raises(sa.exc.OperationalError):
            version.get(0)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(ask, range(10)))
    assert len(looks) < 8


def test_after_a_long_pause_everybody_is_looked_at_anew(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skstack.audit.access._MOST", 2)
    with app.app_context():
        order = make_workorder()
        end(begin(run_of(make_ticket(alice(), order))))
        version = AccessVersion(db.engine)
        before = version.get(0)
        end(begin(run_of(make_ticket(alice(), order))))
        assert version.get(0) > before


def fail(*_: Any) -> int:
    raise sa.exc.OperationalError("", {}, Exception("gone"))


def test_a_database_that_cannot_be_asked_is_said_to_be(
    app: Flask, call: Callable[..., Caller], running: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = call(alice)
    assert caller.get(f"/runs/{running.id}/log").status_code == 200
    monkeypatch.setattr(AccessVersion, "get", fail)
    # The view looks itself, and finds that it can.
    assert caller.get(f"/runs/{running.id}/log").data == b"one\n"


def test_no_event_about_people_is_passed_over() -> None:
    root_folder = Path(__file__).parents[2] / "skstack"
    files = [
        file for name in ("accounts", "catalog", "backups") for file in (root_folder / name).rglob("*.py")
    ]
    found = {kind for file in files for kind in re.findall(r'object_type="(\w+)"', file.read_text("utf-8"))}
    assert {"user", "token", "instance", "catalog"} <= found
    assert not found & set(access._WITHOUT_RIGHTS)
    assert not {"group", "role", "workorder", "approval_flow"} & set(access._WITHOUT_RIGHTS)
