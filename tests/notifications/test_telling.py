"""Who is told what: those who decide, the submitter, the targets of people and of flows; nobody for nothing."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa

from skstack.accounts.models import User
from skstack.approvals.services import approve, reject
from skstack.catalog.models import ApprovalFlow
from skstack.db import transaction, utcnow
from skstack.extensions import db
from skstack.notifications.models import Delivery, Notification, Target
from skstack.notifications.telling import tell_of_expiry
from skstack.runs import services as runs
from skstack.schedules.services import start_due
from skstack.tickets import services
from skstack.tickets.models import Ticket
from tests.factories import APPROVER, alice, bob, carol, make_group, make_user, root
from tests.fake_runner import begin, end, result, run_of
from tests.orders import make_flow, make_ticket, make_variable, make_workorder

pytestmark = [pytest.mark.both_databases, pytest.mark.usefixtures("context")]

EVENTS = ["waits", "decided", "started", "ended", "expires"]


def told(user: User) -> list[str]:
    rows = db.session.scalars(
        sa.select(Notification).where(Notification.user_id == user.id).order_by(Notification.id)
    )
    return [f"{row.event}: {row.message}" for row in rows]


def make_target(owner: User | ApprovalFlow, *, events: list[str] = EVENTS, active: bool = True) -> Target:
    with transaction():
        target = Target(name="hook", url="json://127.0.0.1:1/x", scheme="json", events=events, active=active)
        if isinstance(owner, User):
            target.user_id = owner.id
        else:
            target.flow_id = owner.id
        db.session.add(target)
    return target


def sent() -> list[tuple[int, str]]:
    rows = db.session.scalars(sa.select(Delivery).order_by(Delivery.id))
    return [(row.target_id, row.event) for row in rows]


def waiting(**columns: Any) -> Ticket:
    bob(), carol()
    options = {name: columns.pop(name) for name in ("auto_run", "scheduled_at") if name in columns}
    flow = columns.pop("flow", None) or make_flow("leads", "directors")
    order = make_workorder(name="site", approval_flow=flow, scheduling=True, auto_run_choice=True, **columns)
    return make_ticket(alice(), order, **options)


def test_those_who_can_decide_are_told_level_by_level() -> None:
    make_user("silent", groups=[make_group("leads")])
    make_user("gone", groups=[make_group("leads")], pages=APPROVER, active=False)
    ticket = waiting()
    assert told(bob()) == [f"waits: site #{ticket.id} in DEV, submitted by alice, waits for leads (level 1)."]
    assert told(carol()) == []
    approve(ticket, actor=bob())
    assert told(carol()) == [
        f"waits: site #{ticket.id} in DEV, submitted by alice, waits for directors (level 2)."
    ]
    assert told(alice()) == [f"decided: site #{ticket.id} in DEV was approved at level 1 by bob."]
    assert db.session.scalar(sa.select(sa.func.count()).select_from(Notification)) == 3


def test_nobody_is_asked_before_the_pre_task_is_done() -> None:
    ticket = waiting(pre_task="check")
    assert told(bob()) == []
    end(begin(run_of(ticket, "pre")))
    assert len(told(bob())) == 1


def test_a_rejection_is_told_once() -> None:
    ticket = waiting()
    reject(ticket, actor=bob(), comment="no")
    assert told(alice()) == [f"decided: site #{ticket.id} in DEV was rejected at level 1 by bob."]


def test_the_submitter_is_told_what_the_system_does() -> None:
    ticket = waiting(flow=make_flow("leads"), auto_run=True)
    approve(ticket, actor=bob())
    end(begin(run_of(ticket)))
    assert [one.partition(":")[0] for one in told(alice())] == ["decided", "started", "ended"]
    assert told(alice())[-1].endswith("succeeded.")


def test_a_ticket_that_its_submitter_watches_to_its_good_end_tells_nobody() -> None:
    ticket = make_ticket(alice(), make_workorder())
    end(begin(run_of(ticket)))
    assert db.session.scalars(sa.select(Notification)).all() == []
    bad = make_ticket(alice(), make_workorder(name="bad"))
    end(begin(run_of(bad)), result(1))
    assert told(alice()) == [f"ended: bad #{bad.id} in DEV failed."]


def test_a_long_one_is_told_of() -> None:
    ticket = make_ticket(alice(), make_workorder(name="long"))
    run = begin(run_of(ticket))
    with transaction():
        db.session.execute(sa.update(Ticket).values(created_at=utcnow() - dt.timedelta(minutes=2)))
    db.session.expire_all()
    end(run)
    assert told(alice()) == [f"ended: long #{ticket.id} in DEV succeeded."]


def test_what_one_does_oneself_one_is_not_told() -> None:
    ticket = waiting()
    services.revoke(ticket, actor=alice())
    running = make_ticket(alice(), make_workorder())
    runs.stop(running, actor=alice())
    assert told(alice()) == []
    other = make_ticket(alice(), ticket.workorder)
    services.revoke(other, actor=root())
    assert told(alice()) == [f"ended: site #{other.id} in DEV was revoked."]


def test_a_missed_start_is_told() -> None:
    ticket = make_ticket(
        alice(), make_workorder(name="late", scheduling=True), scheduled_at=utcnow() + dt.timedelta(hours=1)
    )
    start_due(utcnow() + dt.timedelta(hours=3), grace=dt.timedelta(hours=1))
    assert told(alice()) == [f"ended: late #{ticket.id} in DEV failed."]


def test_targets_get_what_they_ask_for() -> None:
    flow = make_flow("leads")
    of_flow, of_bob = make_target(flow), make_target(bob(), events=["waits"])
    make_target(bob(), active=False), make_target(alice(), events=["started"])
    ticket = waiting(flow=flow)
    assert sorted(sent()) == sorted([(of_bob.id, "waits"), (of_flow.id, "waits")])
    approve(ticket, actor=bob())
    services.execute(ticket, actor=alice())
    end(begin(run_of(ticket)), result(1))
    assert (of_flow.id, "ended") in sent()
    assert len(sent()) == 3


def test_what_expires_soon_is_told_once() -> None:
    ticket = waiting(flow=make_flow("leads", expires_hours=10))
    assert ticket.decide_by is not None

    def remind(left: dt.timedelta) -> int:
        assert ticket.decide_by is not None
        with transaction():
            return tell_of_expiry(ticket.decide_by - left)

    assert remind(dt.timedelta(minutes=90)) == 0
    assert remind(dt.timedelta(minutes=59)) == 1
    assert remind(dt.timedelta(minutes=30)) == 0
    assert "is revoked at" in told(bob())[-1]
    assert "if nobody of leads decides it" in told(bob())[-1]


def test_a_target_is_reminded_once_though_nobody_can_decide() -> None:
    flow = make_flow("leads", expires_hours=10)
    target = make_target(flow, events=["expires"])
    ticket = waiting(flow=flow)
    with transaction():
        db.session.execute(sa.update(User).where(User.username == "bob").values(active=False))
    assert ticket.decide_by is not None
    for expected in (1, 0, 0):
        with transaction():
            assert tell_of_expiry(ticket.decide_by - dt.timedelta(minutes=30)) == expected
    assert sent() == [(target.id, "expires")]


def test_a_secret_is_in_no_message() -> None:
    make_target(bob())
    order = make_workorder(variables=[make_variable("Pin", secret=True)], approval_flow=make_flow("leads"))
    bob()
    make_ticket(alice(), order, values={"Pin": "hunter2-very-secret"}, note="n")
    for model in (Notification, Delivery):
        for row in db.session.scalars(sa.select(model)):
            assert "hunter2" not in str(row.text)


def test_a_submission_that_is_undone_tells_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "start", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        waiting(pre_task="check")
    assert db.session.scalars(sa.select(Notification)).all() == []


def test_an_ordinary_ticket_costs_no_statement_more() -> None:
    statements: list[str] = []
    order = make_workorder()
    alice()
    sa.event.listen(db.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    ticket = make_ticket(alice(), order)
    end(begin(run_of(ticket)))
    assert not [one for one in statements if "notif" in one or "deliver" in one]
