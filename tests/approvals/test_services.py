"""Deciding tickets: in order, by one member of each group, not one's own, and not after the end."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from skstack.accounts.models import User
from skstack.approvals.services import approve, expire_overdue, reject
from skstack.audit.models import AuditEvent
from skstack.db import transaction, utcnow
from skstack.errors import Conflict, Invalid, NotAllowed
from skstack.extensions import db
from skstack.states import JobStatus, TicketStatus
from skstack.tickets import services, status
from skstack.tickets.actions import actions
from skstack.tickets.models import Ticket
from tests.factories import APPROVER, alice, bob, carol, make_group, make_user, mallory, root
from tests.fake_runner import begin, end, result, run_of
from tests.orders import make_flow, make_ticket, make_workorder

pytestmark = [pytest.mark.both_databases, pytest.mark.usefixtures("context")]


@pytest.fixture(autouse=True)
def approvers(context: Any) -> None:
    bob(), carol()


def submitted(
    *levels: str, actor: User | None = None, flow: dict[str, Any] | None = None, **given: Any
) -> Ticket:
    names = ("scheduled_at", "background", "auto_run")
    submission = {name: given.pop(name) for name in names if name in given}
    order = make_workorder(
        approval_flow=make_flow(*levels, **flow or {}) if levels else None,
        scheduling=True,
        background_choice=True,
        auto_run_choice=True,
        **given,
    )
    return make_ticket(actor or alice(), order, **submission)


def fresh(ticket: Ticket) -> Ticket:
    db.session.expire_all()
    return ticket


def state(ticket: Ticket) -> tuple[str, str | None]:
    fresh(ticket)
    return ticket.status, ticket.job_status


def test_levels_are_decided_in_order_and_the_submitter_starts_it() -> None:
    ticket = submitted("leads", "directors")
    assert state(ticket) == ("submitted", None)
    assert ticket.runs == []
    with pytest.raises(NotAllowed, match=r"Level 1 .* leads"):
        approve(ticket, actor=carol())
    approve(ticket, actor=bob())
    assert state(ticket) == ("l1_approved", None)
    with pytest.raises(Conflict, match="waits for directors"):
        services.execute(ticket, actor=alice())
    with pytest.raises(NotAllowed):
        approve(ticket, actor=bob())
    approve(ticket, actor=carol(), comment="go")
    assert state(ticket) == ("l2_approved", None)
    assert [(made.level, made.decision, made.by_name, made.comment) for made in ticket.decisions] == [
        (1, "approved", "bob", ""),
        (2, "approved", "carol", "go"),
    ]
    assert actions(ticket, alice()) == ["execute", "revoke"]
    services.execute(ticket, actor=alice())
    assert state(ticket) == ("running", None)
    end(begin(run_of(ticket)))
    assert state(ticket) == ("succeeded", None)


def test_the_pre_task_runs_before_anybody_is_asked() -> None:
    ticket = submitted("leads", pre_task="check")
    assert state(ticket) == ("running", None)
    with pytest.raises(Conflict):
        approve(ticket, actor=bob())
    end(begin(run_of(ticket, "pre")))
    assert state(ticket) == ("submitted", None)
    approve(ticket, actor=bob())
    assert state(ticket) == ("l1_approved", None)


def test_nobody_starts_the_main_task_while_the_pre_task_runs() -> None:
    for options in ({}, {"background": True}):
        ticket = submitted(pre_task="check", **options)
        with pytest.raises(Conflict):
            services.execute(ticket, actor=alice())
        assert [run.task for run in ticket.runs] == ["pre"]


def test_a_pre_task_that_fails_ends_the_ticket() -> None:
    ticket = submitted("leads", pre_task="check", background=True)
    end(begin(run_of(ticket, "pre")), result(1, task="pre"))
    assert state(ticket) == ("failed", "FAILURE")
    with pytest.raises(Conflict):
        approve(ticket, actor=bob())


@pytest.mark.parametrize("choice", ["background", "auto_run"])
def test_what_runs_by_itself_is_queued_by_the_last_approval(choice: str) -> None:
    ticket = submitted("leads", **{choice: True})
    assert state(ticket) == ("submitted", "CREATED")
    approve(ticket, actor=bob())
    assert state(ticket) == ("running", "WAITING")
    end(begin(run_of(ticket)))
    assert state(ticket) == ("succeeded", "SUCCESS")
    assert [(change.after, change.job_after) for change in ticket.history] == [
        ("submitted", "CREATED"),
        ("l1_approved", None),
        ("running", "WAITING"),
        ("succeeded", "SUCCESS"),
    ]


def test_a_planned_ticket_waits_for_its_time_once_approved() -> None:
    ticket = submitted("leads", scheduled_at=utcnow() + dt.timedelta(hours=1))
    approve(ticket, actor=bob())
    assert state(ticket) == ("l1_approved", "CREATED")
    assert ticket.decision_is_final
    with pytest.raises(Conflict, match="final"):
        reject(ticket, actor=bob(), comment="no")
    assert actions(ticket, bob()) == []
    services.execute(ticket, actor=alice())
    assert state(ticket) == ("running", "REVOKED")
    assert ticket.kind == "foreground"
    end(begin(run_of(ticket)))
    assert state(ticket) == ("succeeded", "REVOKED")


def test_a_rejection_needs_a_reason_and_ends_the_ticket() -> None:
    ticket = submitted("leads", background=True)
    with pytest.raises(Invalid) as caught:
        reject(ticket, actor=bob(), comment="  ")
    assert list(caught.value.errors) == ["comment"]
    reject(ticket, actor=bob(), comment="not today")
    assert state(ticket) == ("l1_rejected", "REVOKED")
    assert ticket.finished_at is not None
    for late in (lambda: approve(ticket, actor=bob()), lambda: services.execute(ticket, actor=alice())):
        with pytest.raises(Conflict):
            late()


def test_a_superuser_outside_the_group_decides_nothing() -> None:
    ticket = submitted("leads")
    for decide in (lambda: approve(ticket, actor=root()), lambda: reject(ticket, actor=root(), comment="no")):
        with pytest.raises(NotAllowed):
            decide()
    assert actions(ticket, root()) == ["revoke"]


def test_nobody_decides_their_own_ticket_unless_the_flow_allows_it() -> None:
    both = make_user("both", groups=[make_group("ops"), make_group("leads")], pages=APPROVER)
    ticket = submitted("leads", actor=both)
    with pytest.raises(NotAllowed, match="You submitted"):
        approve(ticket, actor=both)
    assert actions(ticket, both) == ["revoke"]
    own = submitted("leads", actor=both, flow={"allow_self_approval": True})
    approve(own, actor=both)
    assert state(own) == ("l1_approved", None)


def test_levels_can_want_different_people() -> None:
    both = make_user("both", groups=[make_group("leads"), make_group("directors")], pages=APPROVER)
    ticket = submitted("leads", "directors", flow={"distinct_approvers": True})
    approve(ticket, actor=both)
    with pytest.raises(NotAllowed, match="another person"):
        approve(ticket, actor=both)
    assert actions(ticket, both) == ["reject"]
    approve(ticket, actor=carol())
    assert state(ticket) == ("l2_approved", None)


def test_a_change_of_mind_until_it_starts() -> None:
    ann = make_user("ann", groups=[make_group("leads")], pages=APPROVER)
    ticket = submitted("leads")
    approve(ticket, actor=bob())
    reject(ticket, actor=ann, comment="seen too late")
    assert state(ticket) == ("l1_rejected", None)
    assert [made.decision for made in ticket.decisions] == ["approved", "rejected"]
    other = submitted("leads")
    approve(other, actor=bob())
    services.execute(other, actor=alice())
    with pytest.raises(Conflict):
        reject(other, actor=bob(), comment="seen too late")


def test_only_the_level_decided_last_can_change_its_mind() -> None:
    ticket = submitted("leads", "directors")
    approve(ticket, actor=bob())
    approve(ticket, actor=carol())
    with pytest.raises(NotAllowed):
        reject(ticket, actor=bob(), comment="no")
    reject(ticket, actor=carol(), comment="no")
    assert state(ticket) == ("l2_rejected", None)


def test_who_changes_their_mind_saw_what_waits_now() -> None:
    """A page tells which level it showed as waiting, or 0: the decision is refused if that is no longer so."""
    ticket = submitted("leads", "directors")
    ann = make_user("ann", groups=[make_group("directors")], pages=APPROVER)
    approve(ticket, actor=bob(), level=1)
    with pytest.raises(Conflict, match="level 1 by bob"):
        reject(ticket, actor=bob(), comment="no", level=1)
    approve(ticket, actor=carol(), level=2)
    with pytest.raises(Conflict, match="level 2 by carol"):
        reject(ticket, actor=ann, comment="no", level=2)
    assert state(ticket) == ("l2_approved", None)
    reject(ticket, actor=ann, comment="no", level=0)
    assert state(ticket) == ("l2_rejected", None)
    other = submitted("leads", "directors")
    approve(other, actor=bob(), level=1)
    reject(other, actor=bob(), comment="on second thoughts", level=2)
    assert state(other) == ("l1_rejected", None)


def test_who_comes_second_is_told_who_was_first() -> None:
    ann = make_user("ann", groups=[make_group("leads")], pages=APPROVER)
    ticket = submitted("leads", "directors")
    approve(ticket, actor=bob())
    with pytest.raises(Conflict, match="approved at level 1 by bob"):
        approve(ticket, actor=ann, level=1)


@pytest.mark.parametrize("decided", [TicketStatus.L1_APPROVED, TicketStatus.L1_REJECTED])
def test_a_decision_upon_an_old_state_changes_nothing(decided: TicketStatus) -> None:
    ticket = submitted("leads")
    with transaction():
        db.session.execute(
            sa.update(Ticket).values(status=decided).execution_options(synchronize_session=False)
        )
    assert ticket.state is TicketStatus.SUBMITTED, "what the session knows is old"
    with pytest.raises(Conflict):
        approve(ticket, actor=bob())
    assert fresh(ticket).decisions == []


def test_only_submitter_and_superusers_revoke() -> None:
    ticket = submitted("leads", background=True)
    for other in (bob(), mallory()):
        with pytest.raises(NotAllowed):
            services.revoke(ticket, actor=other)
    services.revoke(ticket, actor=alice())
    assert state(ticket) == ("revoked", "REVOKED")
    with pytest.raises(Conflict):
        services.revoke(ticket, actor=root())


@pytest.mark.parametrize(
    ("people", "told"),
    [
        ((), r"Level 1 .* leads2"),
        ((alice,), r"Level 1 .* leads2"),
    ],
)
def test_a_level_that_nobody_could_decide_is_said_at_submission(
    people: tuple[Callable[[], User], ...], told: str
) -> None:
    group = make_group("leads2")
    for person in people:
        with transaction():
            person().groups.append(group)
    with pytest.raises(Conflict, match=told):
        submitted("leads2")
    assert db.session.scalars(sa.select(Ticket)).all() == []


def test_too_few_people_for_different_ones_is_said_at_submission() -> None:
    with pytest.raises(Conflict, match="another person"):
        submitted("leads", "leads", flow={"distinct_approvers": True})


def test_what_nobody_decides_in_time_is_revoked() -> None:
    ticket = submitted("leads", flow={"expires_hours": 2}, background=True)
    assert expire_overdue(utcnow() + dt.timedelta(minutes=119)) == 0
    assert expire_overdue(utcnow() + dt.timedelta(minutes=121)) == 1
    assert state(ticket) == ("revoked", "REVOKED")
    assert "leads did not decide in time" in str(ticket.history[-1].reason_message)
    approved = submitted("leads", flow={"expires_hours": 2})
    approve(approved, actor=bob())
    assert expire_overdue(utcnow() + dt.timedelta(minutes=121)) == 0
    assert state(approved) == ("l1_approved", None)


def test_every_change_leaves_an_event() -> None:
    ticket = submitted("leads", background=True)
    approve(ticket, actor=bob(), comment="fine")
    rows = db.session.scalars(sa.select(AuditEvent).where(AuditEvent.action == "ticket.status_changed"))
    assert [(row.actor, row.changes["after"], row.changes.get("job_after")) for row in rows] == [
        ("bob", "l1_approved", None),
        ("", "running", "WAITING"),
    ]


def test_nothing_runs_without_its_approvals() -> None:
    ticket = submitted("leads", "directors")
    approve(ticket, actor=bob())
    with pytest.raises(Conflict), transaction():
        status.become(ticket, TicketStatus.RUNNING)
    assert state(ticket) == ("l1_approved", None)


def test_a_job_takes_no_way_that_its_table_does_not_have() -> None:
    ticket = submitted("leads", background=True)
    with pytest.raises(Conflict), transaction():
        status.job_becomes(ticket, JobStatus.SUCCESS)
