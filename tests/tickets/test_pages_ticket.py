"""The page of a ticket: its levels, what it waits for, and the buttons that start, revoke and stop it."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from skstack.accounts.models import Page, User
from skstack.approvals.services import approve, reject
from skstack.db import transaction, utcnow
from skstack.extensions import db
from skstack.schedules.services import start_due
from skstack.tickets import services
from skstack.tickets.models import BreakGlass, Ticket
from tests.factories import alice, bob, carol, make_group, make_user, mallory, root
from tests.fake_runner import begin, end, run_of
from tests.orders import make_flow, make_freeze, make_ticket, make_workorder
from tests.tickets.conftest import Visitor, said

Visit = Callable[..., Visitor]
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def ticket(app: Flask) -> Callable[..., int]:
    """Give a way to let Alice submit a ticket: levels of its flow, what it is submitted with, columns of its work order."""

    def make(*levels: str, submission: dict[str, Any] | None = None, **columns: Any) -> int:
        with app.app_context():
            bob(), carol()
            flow = make_flow(*levels, expires_hours=columns.pop("expires_hours", None)) if levels else None
            return make_ticket(
                alice(), make_workorder(approval_flow=flow, **columns), **(submission or {})
            ).id

    return make


def planned(ticket: Callable[..., int], *levels: str, at: dt.datetime | None = None) -> int:
    return ticket(*levels, submission={"scheduled_at": at or utcnow() + 3 * HOUR}, scheduling=True)


def act(app: Flask, number: int, what: Callable[..., Any], **arguments: Any) -> None:
    with app.app_context():
        actor = arguments.pop("actor")()
        what(db.session.get_one(Ticket, number), actor=actor, **arguments)


def state(app: Flask, number: int) -> tuple[str, str, str | None]:
    with app.app_context():
        found = db.session.get_one(Ticket, number)
        return found.status, found.kind, found.job_status


def buttons(page: str) -> set[str]:
    return set(re.findall(r'<form method="post" action="/tickets/\d+/(\w+)"', page))


def levels(page: str) -> list[str]:
    return re.findall(r'data-level-state="(\w+)"', page)


def test_levels_show_who_decided_what_and_which_waits(
    app: Flask, visit: Visit, ticket: Callable[..., int]
) -> None:
    number = ticket("leads", "directors")
    page = visit(alice).get(f"/tickets/{number}")
    assert levels(page.text) == ["waits", "later"]
    act(app, number, approve, actor=bob, comment="go ahead")
    page = visit(alice).get(f"/tickets/{number}")
    assert levels(page.text) == ["approved", "waits"]
    assert re.search(r"Level 1: leads Approved bob · .* go ahead", said(page))
    act(app, number, reject, actor=carol, comment="not today")
    page = visit(alice).get(f"/tickets/{number}")
    assert levels(page.text) == ["approved", "rejected"]
    assert "not today" in said(page)


def test_a_level_that_was_never_asked_is_not_reached(
    app: Flask, visit: Visit, ticket: Callable[..., int]
) -> None:
    number = ticket("leads", "directors")
    act(app, number, services.revoke, actor=alice)
    assert levels(visit(alice).get(f"/tickets/{number}").text) == ["not_reached", "not_reached"]


def test_a_change_of_mind_shows_the_last_word(app: Flask, visit: Visit, ticket: Callable[..., int]) -> None:
    number = ticket("leads")
    act(app, number, approve, actor=bob)
    act(app, number, reject, actor=bob, comment="I was wrong")
    page = visit(alice).get(f"/tickets/{number}")
    assert levels(page.text) == ["rejected"]
    assert "Level 1 approved" in said(page)


@pytest.mark.parametrize(
    ("submission", "columns", "sentence"),
    [
        ({}, {}, "Once approved, it waits for alice to start it."),
        ({"background": True}, {"background_choice": True}, "It starts by itself with the last approval."),
        ({"auto_run": True}, {"auto_run_choice": True}, "It starts by itself with the last approval."),
    ],
)
def test_it_says_what_follows_the_approval(
    visit: Visit,
    ticket: Callable[..., int],
    submission: dict[str, Any],
    columns: dict[str, Any],
    sentence: str,
) -> None:
    page = said(visit(alice).get(f"/tickets/{ticket('leads', submission=submission, **columns)}"))
    assert f"Waits for leads to decide (level 1 of 1). {sentence}" in page


def test_during_the_pre_task_it_says_what_comes_after_it(visit: Visit, ticket: Callable[..., int]) -> None:
    page = said(visit(alice).get(f"/tickets/{ticket('leads', 'directors', pre_task='check')}"))
    assert "When its pre task has succeeded, it waits for leads to decide (level 1 of 2)." in page
    number = ticket(pre_task="check", scheduling=True, submission={"scheduled_at": utcnow() + HOUR})
    assert "When its pre task has succeeded, it waits until" in said(visit(alice).get(f"/tickets/{number}"))


def test_what_was_approved_waits_for_its_submitter(
    app: Flask, visit: Visit, ticket: Callable[..., int]
) -> None:
    number = ticket("leads")
    act(app, number, approve, actor=bob)
    assert "Nothing is missing. It waits for alice to start it." in said(
        visit(alice).get(f"/tickets/{number}")
    )


def test_a_planned_ticket_shows_its_time_its_job_and_when_it_expires(
    app: Flask, visit: Visit, ticket: Callable[..., int]
) -> None:
    with app.app_context(), transaction():
        alice().timezone = "Europe/Berlin"
    at = dt.datetime(2027, 10, 31, 0, 30, tzinfo=dt.UTC)
    page = visit(alice).get(f"/tickets/{planned(ticket, at=at)}")
    assert re.search(r"Planned time in \d+ \w+", said(page))
    assert 'title="2027-10-31 02:30:00"' in page.text
    # The clock shows half past two twice that night.
    assert "comes twice that day, as the clocks are set back: it is the one at 00:30 UTC" in said(page)
    assert "Background job Job created" in said(page)
    page = visit(alice).get(f"/tickets/{planned(ticket, at=at - 24 * HOUR)}")
    assert "comes twice" not in said(page)
    assert "Expires" not in said(page)
    assert "Expires in 5 hours" in said(visit(alice).get(f"/tickets/{ticket('leads', expires_hours=5)}"))


def test_a_freeze_at_its_time_moves_the_start_that_it_shows(
    app: Flask, visit: Visit, ticket: Callable[..., int]
) -> None:
    with app.app_context(), transaction():
        alice().timezone = "UTC"
    at = dt.datetime(2027, 1, 10, 12, tzinfo=dt.UTC)
    number = planned(ticket, at=at)
    with app.app_context():
        make_freeze(starts_at=at - HOUR, ends_at=at + HOUR)
    page = said(visit(alice).get(f"/tickets/{number}"))
    assert "DEV is frozen at its planned time. It starts at 2027-01-10 13:00:00, when that is over." in page


def test_history_tells_of_the_job_too(app: Flask, visit: Visit, ticket: Callable[..., int]) -> None:
    number = planned(ticket)
    with app.app_context():
        start_due(utcnow() + 3 * HOUR, grace=HOUR)
        end(begin(run_of(db.session.get_one(Ticket, number))))
    page = visit(alice).get(f"/tickets/{number}").text
    history = page[page.index('id="ticket-history"') :]
    assert re.findall(r'data-status="(\w+)"', history) == [
        *("submitted", "CREATED"),
        *("running", "WAITING"),
        *("succeeded", "SUCCESS"),
    ]


def test_history_tells_of_a_job_that_changes_alone(
    app: Flask, visit: Visit, ticket: Callable[..., int]
) -> None:
    number = ticket(pre_task="check", background_choice=True, submission={"background": True})
    with app.app_context():
        end(begin(run_of(db.session.get_one(Ticket, number), "pre")))
    page = visit(alice).get(f"/tickets/{number}").text
    history = page[page.index('id="ticket-history"') :]
    assert re.findall(r'data-status="(\w+)"', history) == ["running", "CREATED", "WAITING"]


# ── Who sees which button ────────────────────────────────────────────────────────────────────────────────────────────


def test_buttons_are_those_of_the_readers_actions(
    app: Flask, visit: Visit, ticket: Callable[..., int]
) -> None:
    number = ticket("leads")
    page = f"/tickets/{number}"
    assert buttons(visit(alice).get(page).text) == {"revoke"}
    assert buttons(visit(bob).get(page).text) <= {"approve", "reject"}
    act(app, number, approve, actor=bob)
    assert buttons(visit(alice).get(page).text) == {"execute", "revoke"}
    assert buttons(visit(root).get(page).text) == {"execute", "revoke"}
    act(app, number, services.execute, actor=alice)
    assert buttons(visit(alice).get(page).text) == {"stop"}
    with app.app_context():
        end(begin(run_of(db.session.get_one(Ticket, number))))
    assert buttons(visit(alice).get(page).text) == set()
    assert f"?ticket={number}" in visit(alice).get(page).text


def test_an_approver_without_the_submit_page_is_led_nowhere_closed(
    app: Flask, visit: Visit, ticket: Callable[..., int]
) -> None:
    number = ticket("leads")

    def erin() -> User:
        return make_user("erin", groups=[make_group("leads")], pages=[Page.APPROVE])

    page = visit(erin).get(f"/tickets/{number}")
    assert page.status_code == 200
    # The sign-in is that of a session that has ended.
    links = set(re.findall(r'<a [^>]*href="(/[^"#]*)"', page.text)) - {"/sign-in"}
    assert "/approvals" in links
    assert {link: visit(erin).get(link).status_code for link in links} == dict.fromkeys(links, 200)


def test_strangers_do_not_learn_that_it_exists(visit: Visit, ticket: Callable[..., int]) -> None:
    number = ticket("leads")
    for path in ("", "/summary", "/execute", "/revoke", "/stop"):
        assert visit(mallory).get(f"/tickets/{number}{path}").status_code == 404
        assert visit().get(f"/tickets/{number}{path}").status_code in (303, 401)
    assert visit(alice).get("/tickets/999/execute").status_code == 404


# ── Run, revoke, stop ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def ready(app: Flask, ticket: Callable[..., int]) -> int:
    """Give an approved ticket."""
    number = ticket("leads")
    act(app, number, approve, actor=bob)
    return number


@pytest.fixture
def running(ticket: Callable[..., int]) -> int:
    """Give a ticket whose main run is queued."""
    return ticket()


@pytest.mark.parametrize(
    ("action", "fixture", "ends"),
    [
        ("execute", "ready", ("running", "foreground", None)),
        ("revoke", "ready", ("revoked", "foreground", None)),
        ("stop", "running", ("failed", "foreground", None)),
    ],
)
class TestAction:
    def test_it_asks_and_does_it(
        self,
        app: Flask,
        visit: Visit,
        request: pytest.FixtureRequest,
        action: str,
        fixture: str,
        ends: tuple[str, str, str | None],
    ) -> None:
        number = request.getfixturevalue(fixture)
        address = f"/tickets/{number}/{action}"
        question = visit(alice).get(address)
        assert buttons(question.text) == {action}
        assert "DEV" in said(question)
        assert "<html" not in visit(alice).get(address, htmx=True).text
        answer = visit(alice).post(address)
        assert (answer.status_code, answer.location) == (303, f"/tickets/{number}")
        assert state(app, number) == ends
        assert f"Ticket {number}" in said(visit(alice).get(f"/tickets/{number}"))

    def test_htmx_is_led_on_with_a_header(
        self, visit: Visit, request: pytest.FixtureRequest, action: str, fixture: str, ends: object
    ) -> None:
        number = request.getfixturevalue(fixture)
        answer = visit(alice).post(f"/tickets/{number}/{action}", htmx=True)
        assert (answer.status_code, answer.headers["HX-Redirect"]) == (204, f"/tickets/{number}")

    def test_doing_it_again_shows_the_ticket_as_it_is(
        self,
        app: Flask,
        visit: Visit,
        request: pytest.FixtureRequest,
        action: str,
        fixture: str,
        ends: object,
    ) -> None:
        number = request.getfixturevalue(fixture)
        address = f"/tickets/{number}/{action}"
        visit(alice).post(address)
        before = state(app, number)
        again = visit(alice).post(address)
        assert again.status_code == 409
        assert "It was too late for that" in said(again)
        assert f'data-status="{before[0]}"' in again.text
        part = visit(alice).post(address, htmx=True)
        assert part.status_code == 409
        assert 'id="ticket-summary"' in part.text
        assert "<html" not in part.text
        assert visit(alice).get(address).status_code == 409
        assert state(app, number) == before

    def test_others_may_not(
        self,
        app: Flask,
        visit: Visit,
        request: pytest.FixtureRequest,
        action: str,
        fixture: str,
        ends: object,
    ) -> None:
        number = request.getfixturevalue(fixture)
        before = state(app, number)
        address = f"/tickets/{number}/{action}"

        def olga() -> User:
            pages = [Page.AUDIT, Page.EXECUTE]
            return make_user("olga", pages=pages)

        def audit_only() -> User:
            return make_user("otto", pages=[Page.AUDIT])

        assert visit(olga).post(address).status_code == 403
        assert visit(audit_only).post(address).status_code == 403
        assert visit(mallory).post(address).status_code == 404
        assert visit().post(address).status_code in (303, 400, 401)
        assert state(app, number) == before

    def test_other_verbs_are_refused(
        self, visit: Visit, request: pytest.FixtureRequest, action: str, fixture: str, ends: object
    ) -> None:
        number = request.getfixturevalue(fixture)
        assert visit(alice).put(f"/tickets/{number}/{action}").status_code == 405


def test_running_needs_the_execute_page(app: Flask, visit: Visit, ticket: Callable[..., int]) -> None:
    def sven() -> User:
        return make_user("sven", groups=[make_group("ops")], pages=[Page.SUBMIT])

    number = ticket("leads")
    with app.app_context():
        sven_id, sven_name = sven().id, "sven"
        with transaction():
            db.session.execute(sa.update(Ticket).values(submitter_id=sven_id, submitter_name=sven_name))
    act(app, number, approve, actor=bob)

    def same() -> User:
        return db.session.get_one(User, sven_id)

    assert buttons(visit(same).get(f"/tickets/{number}").text) == {"revoke"}
    assert visit(same).post(f"/tickets/{number}/execute").status_code == 403
    assert visit(same).post(f"/tickets/{number}/revoke").status_code == 303


def test_what_waits_for_its_approvers_cannot_be_run(
    app: Flask, visit: Visit, ticket: Callable[..., int]
) -> None:
    number = ticket("leads")
    answer = visit(alice).post(f"/tickets/{number}/execute")
    assert answer.status_code == 409
    assert f"Ticket {number} waits for leads to decide." in said(answer)
    assert state(app, number)[0] == "submitted"


def test_a_ticket_cannot_be_run_while_its_pre_task_is(
    app: Flask, visit: Visit, ticket: Callable[..., int]
) -> None:
    number = ticket(pre_task="check")
    assert visit(alice).post(f"/tickets/{number}/execute").status_code == 409
    with app.app_context():
        assert [run.task for run in db.session.get_one(Ticket, number).runs] == ["pre"]


def test_a_planned_one_run_early_loses_its_job(app: Flask, visit: Visit, ticket: Callable[..., int]) -> None:
    number = planned(ticket)
    for address in (f"/tickets/{number}", f"/tickets/{number}/execute"):
        assert "Its job is revoked with this: it runs now, as a foreground ticket." in said(
            visit(alice).get(address)
        )
    assert visit(alice).post(f"/tickets/{number}/execute").status_code == 303
    assert state(app, number) == ("running", "foreground", "REVOKED")
    page = visit(alice).get(f"/tickets/{number}").text
    assert re.findall(r'data-status="(\w+)"', page[page.index('id="ticket-history"') :]) == [
        *("submitted", "CREATED"),
        *("running", "REVOKED"),
    ]


def test_in_a_freeze_only_a_superuser_runs_it_with_a_reason(app: Flask, visit: Visit, ready: int) -> None:
    now = utcnow()
    with app.app_context():
        make_freeze(starts_at=now - HOUR, ends_at=now + HOUR)
    page = visit(alice).get(f"/tickets/{ready}")
    assert "DEV is frozen until" in said(page)
    assert re.search(r'id="execute-\d+-open"[^>]* disabled', page.text)
    assert "break_glass" not in page.text
    assert visit(alice).post(f"/tickets/{ready}/execute", break_glass="please").status_code == 409
    assert 'name="break_glass"' in visit(root).get(f"/tickets/{ready}").text
    answer = visit(root).post(f"/tickets/{ready}/execute", break_glass=" ")
    assert answer.status_code == 422
    assert 'id="ask-reason-error"' in answer.text
    assert "Say why it cannot wait" in said(answer)
    assert visit(root).post(f"/tickets/{ready}/execute", break_glass="the site is down").status_code == 303
    assert state(app, ready)[0] == "running"
    with app.app_context():
        assert db.session.scalars(sa.select(BreakGlass.reason)).all() == ["the site is down"]
    page = said(visit(alice).get(f"/tickets/{ready}"))
    assert re.search(
        r"Started by root within the freeze “freeze\d+” the site is down Nobody has reviewed it yet\.", page
    )


# ── The summary keeps itself fresh ───────────────────────────────────────────────────────────────────────────────────


def asks_again(page: str) -> int | None:
    found = re.search(r'hx-trigger="every (\d+)s, run-ended', page)
    return int(found[1]) if found else None


def test_it_asks_often_only_while_something_happens(
    app: Flask, visit: Visit, ticket: Callable[..., int]
) -> None:
    def seconds(number: int) -> int | None:
        return asks_again(visit(alice).get(f"/tickets/{number}/summary", htmx=True).text)

    assert seconds(ticket()) == 2
    assert seconds(ticket("leads")) == 15
    assert seconds(planned(ticket)) == 30
    assert seconds(planned(ticket, at=utcnow() + dt.timedelta(seconds=20))) in (9, 10)
    assert seconds(planned(ticket, at=utcnow() + dt.timedelta(seconds=1))) == 2
    number = ticket("leads")
    act(app, number, services.revoke, actor=alice)
    assert seconds(number) is None


def test_news_bring_history_levels_and_the_log_of_what_was_started(
    app: Flask, visit: Visit, ticket: Callable[..., int]
) -> None:
    number = ticket("leads")
    page = visit(alice).get(f"/tickets/{number}").text
    address = re.search(r'hx-get="(/tickets/\d+/summary[^"]*)"', page)
    assert address
    path = address[1].replace("&amp;", "&")
    news = visit(alice).get(path, htmx=True).text
    assert 'id="log"' not in news
    assert levels(news) == ["waits"]
    act(app, number, approve, actor=bob)
    act(app, number, services.execute, actor=alice)
    news = visit(alice).get(path, htmx=True).text
    assert 'hx-target="#ticket-output"' in news
    assert 'id="log"' in news
    assert levels(news) == ["approved"]
    following = re.search(r'hx-get="(/tickets/\d+/summary[^"]*)"', news)
    assert following
    news = visit(alice).get(following[1].replace("&amp;", "&"), htmx=True).text
    assert 'id="log"' not in news, "it is in the page already"


def test_a_log_that_goes_on_from_the_pre_task_by_itself_is_left_alone(
    app: Flask, visit: Visit, ticket: Callable[..., int]
) -> None:
    number = ticket(pre_task="check")
    with app.app_context():
        end(begin(run_of(db.session.get_one(Ticket, number), "pre")))
    news = visit(alice).get(f"/tickets/{number}/summary?runs=1", htmx=True).text
    assert "running" in news
    assert 'id="log"' not in news
