"""The submit form: what it asks for, what it says is in the way, and that a refusal loses nothing."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from skstack.accounts.models import User
from skstack.db import transaction, utcnow
from skstack.extensions import db
from skstack.tickets.models import BreakGlass, Ticket
from tests.factories import alice, bob, carol, mallory, root
from tests.fake_runner import begin, end, run_of
from tests.orders import make_flow, make_freeze, make_ticket, make_variable, make_workorder
from tests.tickets.conftest import Visitor, said

Visit = Callable[..., Visitor]
HOUR = dt.timedelta(hours=1)
OPTIONS = ("scheduled_at", "background", "auto_run", "break_glass")


@pytest.fixture
def order(app: Flask) -> Callable[..., str]:
    """Give a way to make a work order: it returns the address of its form."""

    def make(*levels: str, **columns: Any) -> str:
        with app.app_context():
            bob(), carol()
            flow = make_flow(*levels) if levels else None
            return f"/workorders/{make_workorder(approval_flow=flow, **columns).id}/submit"

    return make


def live_in(app: Flask, zone: str, who: Callable[[], User] = alice) -> None:
    with app.app_context(), transaction():
        who().timezone = zone


def only_ticket(app: Flask) -> Ticket:
    with app.app_context():
        return db.session.scalars(sa.select(Ticket)).one()


def tickets(app: Flask) -> int:
    with app.app_context():
        return db.session.scalar(sa.select(sa.func.count()).select_from(Ticket)) or 0


def fields(page: str) -> set[str]:
    return {name for name in OPTIONS if re.search(rf'<(input|textarea)[^>]* name="{name}"', page)}


@pytest.mark.parametrize(
    ("levels", "switches", "shown"),
    [
        ((), {}, set()),
        ((), {"scheduling": True}, {"scheduled_at"}),
        ((), {"background_choice": True}, {"background"}),
        ((), {"auto_run_choice": True}, set()),
        (("leads",), {"auto_run_choice": True}, {"auto_run"}),
        (
            ("leads",),
            {"scheduling": True, "background_choice": True, "auto_run_choice": True},
            {"scheduled_at", "background", "auto_run"},
        ),
    ],
)
def test_the_form_asks_for_exactly_what_the_work_order_switches_on(
    visit: Visit,
    order: Callable[..., str],
    levels: tuple[str, ...],
    switches: dict[str, bool],
    shown: set[str],
) -> None:
    page = visit(alice).get(order(*levels, **switches))
    assert page.status_code == 200
    assert fields(page.text) == shown


def test_it_says_who_will_decide(app: Flask, visit: Visit, order: Callable[..., str]) -> None:
    assert "Who decides" not in said(visit(alice).get(order()))
    page = said(visit(alice).get(order("leads", "directors")))
    assert "Who decides, one after the other: Level 1: leads Level 2: directors" in page
    with app.app_context():
        address = (
            f"/workorders/{make_workorder(approval_flow=make_flow('leads', expires_hours=36)).id}/submit"
        )
    assert "36 hours" in said(visit(alice).get(address))


def test_only_those_who_may_submit_it_see_the_form_or_send_it(
    visit: Visit, order: Callable[..., str]
) -> None:
    address = order(scheduling=True)
    assert visit().get(address).location.startswith("/sign-in")
    assert visit().post(address).status_code in (302, 303, 400, 401)
    for stranger in (mallory, bob):
        assert visit(stranger).get(address).status_code == 404
        assert visit(stranger).post(address).status_code == 404


# Local time, and what it is in UTC. The first of two where the clock shows it twice.
PLANNED = [
    ("Asia/Shanghai", "2026-12-31T08:00", "2026-12-31T00:00:00"),
    ("Europe/Berlin", "2027-03-28T01:59", "2027-03-28T00:59:00"),
    ("Europe/Berlin", "2027-03-28T03:00", "2027-03-28T01:00:00"),
    ("America/New_York", "2027-03-14T03:00:05", "2027-03-14T07:00:05"),
]


@pytest.mark.parametrize(("zone", "typed", "utc"), PLANNED)
def test_a_planned_time_is_by_the_clock_of_the_reader(
    app: Flask, visit: Visit, order: Callable[..., str], zone: str, typed: str, utc: str
) -> None:
    live_in(app, zone)
    address = order(scheduling=True)
    assert zone in said(visit(alice).get(address))
    answer = visit(alice).post(address, scheduled_at=typed)
    ticket = only_ticket(app)
    assert (answer.status_code, answer.location) == (303, f"/tickets/{ticket.id}")
    assert ticket.scheduled_at is not None
    assert ticket.scheduled_at.isoformat() == utc + "+00:00"


@pytest.mark.parametrize(
    ("zone", "typed", "instead"),
    [
        ("Europe/Berlin", "2027-03-28T02:30", "2027-03-28 03:30"),
        ("America/New_York", "2027-03-14T02:00", "2027-03-14 03:00"),
    ],
)
def test_a_time_that_the_zone_skips_is_refused_at_its_field(
    app: Flask, visit: Visit, order: Callable[..., str], zone: str, typed: str, instead: str
) -> None:
    live_in(app, zone)
    answer = visit(alice).post(order(scheduling=True), scheduled_at=typed, note="kept")
    assert answer.status_code == 422
    assert f"the clocks of {zone} are set forward then. Take another, such as {instead}." in said(answer)
    assert f'value="{typed}"' in answer.text
    assert "kept</textarea>" in answer.text
    assert tickets(app) == 0


def test_a_skipped_time_in_one_zone_is_a_time_in_another(
    app: Flask, visit: Visit, order: Callable[..., str]
) -> None:
    live_in(app, "Asia/Shanghai")
    assert visit(alice).post(order(scheduling=True), scheduled_at="2027-03-28T02:30").status_code == 303


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("2020-01-01T08:00", "This time has passed."),
        ("2099-01-01T08:00", "This is more than a year ahead."),
        ("tomorrow", "This is no date with a time"),
        ("0001-01-01T00:00", "This is no date with a time"),
    ],
)
def test_other_times_are_refused_at_the_field_too(
    app: Flask, visit: Visit, order: Callable[..., str], typed: str, message: str
) -> None:
    live_in(app, "Asia/Shanghai")
    answer = visit(alice).post(order(scheduling=True), scheduled_at=typed, htmx=True)
    assert answer.status_code == 422
    assert message in said(answer)
    assert 'id="field-scheduled_at-error"' in answer.text
    assert "<html" not in answer.text
    assert tickets(app) == 0


def test_what_the_work_order_no_longer_offers_is_said_above_the_form(
    app: Flask, visit: Visit, order: Callable[..., str]
) -> None:
    answer = visit(alice).post(order(), background="1")
    assert answer.status_code == 422
    assert "It was not submitted: This work order does not run in the background." in said(answer)


def test_choices_become_those_of_the_ticket(app: Flask, visit: Visit, order: Callable[..., str]) -> None:
    answer = visit(alice).post(
        order("leads", background_choice=True, auto_run_choice=True), auto_run="1", note="please"
    )
    assert answer.status_code == 303
    ticket = only_ticket(app)
    assert (ticket.kind, ticket.auto_run, ticket.job_status) == ("background", True, "CREATED")
    assert ticket.note == "please"


def test_a_ticket_that_waits_says_for_what_and_what_follows(
    app: Flask, visit: Visit, order: Callable[..., str]
) -> None:
    live_in(app, "Europe/Berlin")
    address = order("leads", "directors", scheduling=True)
    pane = visit(alice).post(address, scheduled_at="2027-01-10T12:00", htmx=True)
    assert pane.status_code == 200
    assert pane.headers["HX-Push-Url"].startswith("/tickets/")
    assert (
        "Waits for leads to decide (level 1 of 2). Once approved, it starts at 2027-01-10 12:00:00."
        in said(pane)
    )
    pane = visit(alice).post(order(scheduling=True), scheduled_at="2027-01-10T12:00", htmx=True)
    assert re.search(r"Starts at 2027-01-10 12:00:00\. \( ?in \d+ \w+ ?\)", said(pane))


def test_a_lock_is_named_before_anybody_fills_in_the_form(
    app: Flask, visit: Visit, order: Callable[..., str]
) -> None:
    address = order(task_lock=True)
    assert "in the way" not in said(visit(alice).get(address))
    visit(alice).post(address)
    holder = only_ticket(app).id
    page = visit(alice).get(address)
    assert f"ticket {holder} has not ended" in said(page)
    assert f'href="/tickets/{holder}"' in page.text


def test_ones_own_ticket_is_named_too_if_one_may_have_one_only(
    app: Flask, visit: Visit, order: Callable[..., str]
) -> None:
    address = order(allow_several=False)
    visit(alice).post(address)
    page = visit(alice).get(address)
    assert "You may have one ticket" in said(page)
    assert f'href="/tickets/{only_ticket(app).id}"' in page.text
    assert "in the way" not in said(visit(root).get(address))


def test_a_ticket_in_the_way_that_one_may_not_see_is_named_and_not_linked(
    app: Flask, visit: Visit, order: Callable[..., str]
) -> None:
    address = order(task_lock=True)
    visit(root).post(address)
    holder = only_ticket(app).id
    for answer in (visit(alice).get(address), visit(alice).post(address)):
        assert f"ticket {holder} has not ended" in said(answer)
        assert f'href="/tickets/{holder}"' not in answer.text


def test_the_locks_refusal_comes_in_the_form_with_nothing_lost(
    app: Flask, visit: Visit, order: Callable[..., str]
) -> None:
    with app.app_context():
        variables = [make_variable("Reason"), make_variable("Token", secret=True)]
    address = order(task_lock=True, scheduling=True, variables=variables, main_task="echo {Reason}")
    form = {"v-Reason": "because", "v-Token": "s3cret", "note": "my note", "scheduled_at": "2027-01-10T12:00"}
    assert visit(alice).post(address, **form).status_code == 303
    holder = only_ticket(app).id
    page = visit(alice).post(address, **form)
    assert page.status_code == 409
    assert 'value="because"' in page.text
    assert "my note</textarea>" in page.text
    assert 'value="2027-01-10T12:00"' in page.text
    assert f'href="/tickets/{holder}"' in page.text
    assert "s3cret" not in page.text
    # htmx puts only what is in the way into the form, which keeps even the secret that was typed.
    part = visit(alice).post(address, htmx=True, **form)
    assert (part.status_code, part.headers["HX-Retarget"]) == (409, "#obstacles")
    assert f"ticket {holder} has not ended" in said(part)
    assert "<form" not in part.text
    assert tickets(app) == 1
    with app.app_context():
        ticket = db.session.get_one(Ticket, holder)
        from skstack.tickets.services import revoke

        revoke(ticket, actor=alice())
    assert visit(alice).post(address, **form).status_code == 303


def test_a_freeze_is_named_with_its_end_and_refuses_what_would_start(
    app: Flask, visit: Visit, order: Callable[..., str]
) -> None:
    live_in(app, "Asia/Shanghai")
    now = utcnow()
    with app.app_context():
        window = make_freeze(starts_at=now - HOUR, ends_at=dt.datetime(2027, 2, 1, 4, tzinfo=dt.UTC)).name
    for levels, switches, advice in (
        ((), {}, "A submission starts it at once"),
        ((), {"scheduling": True}, "With a planned time you can submit it now"),
        (("leads",), {}, "You can submit it now"),
        (("leads",), {"pre_task": "check"}, "runs its pre task at once"),
    ):
        page = visit(alice).get(order(*levels, **switches))
        assert f"DEV is frozen: {window}" in said(page)
        assert "2027-02-01 12:00:00" in said(page)
        assert advice in said(page)
        assert fields(page.text) <= {"scheduled_at"}
    answer = visit(alice).post(order(), note="kept", break_glass="I want to")
    assert answer.status_code == 409
    assert "kept</textarea>" in answer.text
    assert tickets(app) == 0
    assert visit(alice).post(order("leads")).status_code == 303


def test_a_superuser_breaks_the_glass_in_the_form(
    app: Flask, visit: Visit, order: Callable[..., str]
) -> None:
    address, now = order(), utcnow()
    with app.app_context():
        make_freeze(starts_at=now - HOUR, ends_at=now + HOUR)
    assert fields(visit(root).get(address).text) == {"break_glass"}
    assert fields(visit(root).get(order("leads", pre_task="check")).text) == {"break_glass"}
    assert fields(visit(root).get(order("leads")).text) == set(), (
        "nothing starts, so there is no glass to break"
    )
    assert visit(root).post(address).status_code == 409
    wrong = visit(root).post(address, break_glass="x" * 4001)
    assert wrong.status_code == 422
    assert 'id="field-break_glass-error"' in wrong.text
    assert tickets(app) == 0
    assert visit(root).post(address, break_glass="the site is down").status_code == 303
    with app.app_context():
        assert db.session.scalars(sa.select(BreakGlass.reason)).all() == ["the site is down"]


def test_a_freeze_that_begins_meanwhile_brings_the_field_with_its_refusal(
    app: Flask, visit: Visit, order: Callable[..., str]
) -> None:
    address, now = order(), utcnow()
    assert fields(visit(root).get(address).text) == set()
    with app.app_context():
        make_freeze(starts_at=now - HOUR, ends_at=now + HOUR)
    answer = visit(root).post(address, htmx=True)
    assert answer.status_code == 409
    assert fields(answer.text) == {"break_glass"}


def test_a_link_fills_in_the_options_too(app: Flask, visit: Visit, order: Callable[..., str]) -> None:
    live_in(app, "Europe/Berlin")
    address = order("leads", scheduling=True, background_choice=True, auto_run_choice=True)
    page = visit(alice).get(address, scheduled_at="2027-01-10T12:00", background="1", auto_run="true").text
    assert 'value="2027-01-10T12:00"' in page
    assert re.search(r'name="background"[^>]* checked', page)
    assert re.search(r'name="auto_run"[^>]* checked', page)
    assert 'value="2027-01-10T12:00"' in visit(alice).get(address, scheduled_at="2027-01-10T11:00:00Z").text
    page = visit(alice).get(address, scheduled_at="2027-03-28T02:30", background="0").text
    assert 'name="scheduled_at" id="field-scheduled_at" value=""' in page
    assert not re.search(r'name="background"[^>]* checked', page)


def test_submit_again_takes_over_values_and_note_and_not_the_time(
    app: Flask, visit: Visit, order: Callable[..., str]
) -> None:
    with app.app_context():
        variables = [make_variable("Reason")]
    address = order(scheduling=True, background_choice=True, variables=variables, main_task="echo {Reason}")
    form = {"v-Reason": "because", "note": "my note", "scheduled_at": "2027-01-10T12:00"}
    visit(alice).post(address, **form)
    page = visit(alice).get(address, ticket=only_ticket(app).id).text
    assert 'value="because"' in page
    assert "my note</textarea>" in page
    assert 'name="scheduled_at" id="field-scheduled_at" value=""' in page
    assert not re.search(r'name="background"[^>]* checked', page)


def test_submit_again_keeps_the_choice_of_the_background(app: Flask, visit: Visit) -> None:
    with app.app_context():
        order = make_workorder(background_choice=True)
        ticket = make_ticket(alice(), order, background=True)
        address, number = f"/workorders/{order.id}/submit", ticket.id
        end(begin(run_of(ticket)))
    assert re.search(r'name="background"[^>]* checked', visit(alice).get(address, ticket=number).text)
