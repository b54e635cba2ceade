"""What is due is started once, what was missed is said to be, and a freeze holds everything."""

from __future__ import annotations

import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from skstack.approvals.services import approve
from skstack.db import transaction, utcnow
from skstack.errors import Conflict, Invalid
from skstack.extensions import db
from skstack.runs.models import Run
from skstack.schedules.services import start_due, start_if_due
from skstack.tickets import services
from skstack.tickets.models import BreakGlass, Ticket
from tests.factories import alice, bob, root
from tests.fake_runner import begin, end, run_of
from tests.orders import make_flow, make_freeze, make_ticket, make_workorder

pytestmark = [pytest.mark.both_databases, pytest.mark.usefixtures("context")]

HOUR = dt.timedelta(hours=1)
MINUTE = dt.timedelta(minutes=1)


def planned(*, at: dt.datetime | None = None, **columns: Any) -> Ticket:
    bob()
    submission = {"scheduled_at": at or utcnow() + HOUR}
    return make_ticket(alice(), make_workorder(scheduling=True, **columns), **submission)


def due(now: dt.datetime, looked_at: dt.datetime | None = None) -> int:
    return start_due(now, grace=HOUR, looked_at=looked_at)


def state(ticket: Ticket) -> tuple[str, str | None]:
    db.session.expire_all()
    return ticket.status, ticket.job_status


def test_a_planned_ticket_starts_at_its_time_and_once() -> None:
    ticket = planned()
    assert state(ticket) == ("submitted", "CREATED")
    at = ticket.scheduled_at
    assert at is not None
    assert due(at - dt.timedelta(microseconds=1)) == 0
    assert due(at) == 1
    assert state(ticket) == ("running", "WAITING")
    assert due(at + MINUTE) == 0
    assert len(ticket.runs) == 1
    end(begin(run_of(ticket)))
    assert state(ticket) == ("succeeded", "SUCCESS")


def test_of_many_that_start_it_at_once_one_does(context: Flask) -> None:
    ticket = planned()
    at, ticket_id, together = ticket.scheduled_at, ticket.id, threading.Barrier(8)
    assert at is not None
    db.session.commit()

    def start(_: int) -> bool:
        with context.app_context():
            together.wait(20)
            try:
                return start_if_due(ticket_id, at, grace=HOUR)
            except Conflict:
                return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(start, range(8))) == 1
    assert db.session.scalar(sa.select(sa.func.count()).select_from(Run)) == 1


def test_what_was_due_while_nobody_was_there_runs_within_the_grace_and_is_missed_after_it() -> None:
    early, late = planned(), planned(at=utcnow() + 3 * HOUR)
    assert early.scheduled_at is not None
    assert late.scheduled_at is not None
    assert due(early.scheduled_at + HOUR) == 1
    assert due(late.scheduled_at + HOUR + dt.timedelta(seconds=1)) == 0
    assert state(early) == ("running", "WAITING")
    assert state(late) == ("failed", "FAILURE")
    assert "Missed: no worker" in str(late.history[-1].reason_message)


def test_a_clock_that_is_set_forward_makes_nobody_miss_anything() -> None:
    ticket = planned(at=utcnow() + MINUTE)
    assert ticket.scheduled_at is not None
    before = utcnow()
    assert due(before) == 0
    assert due(before + 2 * HOUR, looked_at=before) == 1
    assert state(ticket) == ("running", "WAITING")


def test_a_clock_that_is_set_back_starts_nothing_twice() -> None:
    ticket = planned()
    assert ticket.scheduled_at is not None
    assert due(ticket.scheduled_at) == 1
    assert due(ticket.scheduled_at - HOUR, looked_at=ticket.scheduled_at) == 0
    assert due(ticket.scheduled_at, looked_at=ticket.scheduled_at - HOUR) == 0
    assert len(ticket.runs) == 1


def test_a_planned_ticket_waits_for_its_approvers_until_the_grace_is_over() -> None:
    ticket = planned(approval_flow=make_flow("leads"))
    at = ticket.scheduled_at
    assert at is not None
    assert due(at) == 0
    assert state(ticket) == ("submitted", "CREATED")
    assert due(at + HOUR + MINUTE) == 0
    assert state(ticket) == ("failed", "FAILURE")
    assert "nobody approved it" in str(ticket.history[-1].reason_message)


def test_an_approval_within_the_grace_starts_it_at_once() -> None:
    ticket = planned(approval_flow=make_flow("leads"))
    with transaction():
        db.session.execute(sa.update(Ticket).values(scheduled_at=utcnow() - MINUTE))
    db.session.expire_all()
    approve(ticket, actor=bob())
    assert state(ticket) == ("running", "WAITING")


def test_a_revoked_ticket_is_never_started() -> None:
    ticket = planned()
    services.revoke(ticket, actor=alice())
    assert ticket.scheduled_at is not None
    assert due(ticket.scheduled_at) == 0
    assert state(ticket) == ("revoked", "REVOKED")


def test_a_freeze_holds_what_is_due_until_it_is_over() -> None:
    ticket = planned()
    at = ticket.scheduled_at
    assert at is not None
    make_freeze(starts_at=at - MINUTE, ends_at=at + 5 * HOUR)
    make_freeze(starts_at=at + 4 * HOUR, ends_at=at + 6 * HOUR)
    assert due(at) == 0
    assert due(at + 5 * HOUR) == 0
    assert state(ticket) == ("submitted", "CREATED")
    assert due(at + 6 * HOUR) == 1
    assert state(ticket) == ("running", "WAITING")


def test_a_freeze_refuses_what_would_start_now() -> None:
    now = utcnow()
    make_freeze(starts_at=now - MINUTE, ends_at=now + HOUR)
    for columns in ({}, {"pre_task": "check", "approval_flow": make_flow("leads")}):
        bob()
        with pytest.raises(Conflict, match="DEV is frozen until"):
            make_ticket(alice(), make_workorder(**columns))
    assert db.session.scalars(sa.select(Ticket)).all() == []
    elsewhere = make_ticket(alice(), make_workorder(environment="STAGE"))
    assert state(elsewhere) == ("running", None)


def test_a_freeze_lets_people_prepare_and_refuses_the_start() -> None:
    bob()
    ticket = make_ticket(alice(), make_workorder(approval_flow=make_flow("leads")))
    now = utcnow()
    make_freeze(starts_at=now - MINUTE, ends_at=now + HOUR)
    approve(ticket, actor=bob())
    with pytest.raises(Conflict, match="is frozen"):
        services.execute(ticket, actor=alice())
    with pytest.raises(Conflict, match="is frozen"):
        services.execute(ticket, actor=alice(), break_glass="I want to")
    assert state(ticket) == ("l1_approved", None)


def test_a_superuser_breaks_the_glass_with_a_reason() -> None:
    bob()
    now = utcnow()
    ticket = make_ticket(alice(), make_workorder(approval_flow=make_flow("leads")))
    approve(ticket, actor=bob())
    make_freeze(starts_at=now - MINUTE, ends_at=now + HOUR)
    with pytest.raises(Invalid):
        services.execute(ticket, actor=root())
    services.execute(ticket, actor=root(), break_glass="the site is down")
    assert state(ticket) == ("running", None)
    submitted = make_ticket(root(), make_workorder(), break_glass="the site is still down")
    rows = db.session.scalars(sa.select(BreakGlass).order_by(BreakGlass.id)).all()
    assert [(row.ticket_id, row.by.username, row.reason) for row in rows] == [
        (ticket.id, "root", "the site is down"),
        (submitted.id, "root", "the site is still down"),
    ]


def test_what_was_approved_within_a_freeze_starts_after_it() -> None:
    bob()
    order = make_workorder(approval_flow=make_flow("leads"), auto_run_choice=True)
    ticket = make_ticket(alice(), order, auto_run=True)
    now = utcnow()
    make_freeze(starts_at=now - MINUTE, ends_at=now + HOUR)
    approve(ticket, actor=bob())
    assert state(ticket) == ("l1_approved", "CREATED")
    assert due(now + MINUTE) == 0
    assert due(now + HOUR) == 1
    assert state(ticket) == ("running", "WAITING")


def test_a_freeze_that_begins_during_the_pre_task_holds_the_main_task() -> None:
    order = make_workorder(pre_task="check", background_choice=True)
    ticket = make_ticket(alice(), order, background=True)
    now = utcnow()
    make_freeze(starts_at=now - MINUTE, ends_at=now + HOUR)
    end(begin(run_of(ticket, "pre")))
    assert state(ticket) == ("submitted", "CREATED")
    assert due(now + HOUR) == 1
    assert state(ticket) == ("running", "WAITING")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("scheduled_at", utcnow() + HOUR),
        ("background", True),
        ("auto_run", True),
    ],
)
def test_what_the_work_order_does_not_offer_is_refused_at_its_field(option: str, value: object) -> None:
    with pytest.raises(Invalid) as caught:
        make_ticket(alice(), make_workorder(), **{option: value})
    assert list(caught.value.errors) == [option]


@pytest.mark.parametrize("offset", [-HOUR, dt.timedelta(days=400)])
def test_a_planned_time_is_in_the_coming_year(offset: dt.timedelta) -> None:
    with pytest.raises(Invalid) as caught:
        planned(at=utcnow() + offset)
    assert list(caught.value.errors) == ["scheduled_at"]
