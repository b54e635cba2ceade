"""Random people do random things to random work orders, and what the product promises of a ticket always holds."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from skstack.accounts.models import User
from skstack.approvals.services import approve, expire_overdue, reject
from skstack.audit.models import AuditEvent
from skstack.catalog.models import FreezeWindow, WorkOrder
from skstack.db import transaction, utcnow
from skstack.errors import Conflict, NotAllowed
from skstack.extensions import db, queue
from skstack.runner.protocol import Outcome
from skstack.runs import services as runs
from skstack.runs.models import Run
from skstack.schedules.services import start_due
from skstack.states import JobStatus, RunState, TicketStatus
from skstack.tickets import services
from skstack.tickets.actions import actions
from skstack.tickets.documents import ticket_document
from skstack.tickets.models import TaskLock, Ticket
from tests.factories import APPROVER, make_group, make_user
from tests.fake_runner import begin, end, result
from tests.orders import make_flow, make_freeze, make_workorder

pytestmark = [pytest.mark.slow, pytest.mark.both_databases]

HOUR = dt.timedelta(hours=1)
GRACE = HOUR
EXAMPLES = {"sqlite": 16, "postgresql": 6}
PEOPLE = ("ann", "ben", "cleo", "dan", "eve", "sue")
ACTIVE = (RunState.QUEUED, RunState.RUNNING)

# Who is where: everybody submits, some decide at several levels, Sue is a superuser in no group.
GROUPS = {"first": ("ann", "ben"), "second": ("ben", "cleo"), "third": ("cleo", "dan")}


VERBS: dict[str, Callable[[Ticket, User], None]] = {
    "approve": lambda ticket, actor: approve(ticket, actor=actor, comment="fine"),
    "reject": lambda ticket, actor: reject(ticket, actor=actor, comment="not now"),
    "execute": lambda ticket, actor: services.execute(ticket, actor=actor, break_glass="it burns"),
    "revoke": lambda ticket, actor: services.revoke(ticket, actor=actor),
    "stop": lambda ticket, actor: runs.stop(ticket, actor=actor),
}


class Life(RuleBasedStateMachine):
    """One example: work orders of its own, and the tickets that are made of them."""

    def __init__(self) -> None:
        super().__init__()
        db.session.rollback()
        db.session.expunge_all()
        groups = {name: make_group(f"{name}") for name in GROUPS}
        submitters = make_group("everybody")
        self.people: dict[str, User] = {}
        for name in PEOPLE:
            found = db.session.scalar(sa.select(User).where(User.username == name))
            self.people[name] = found or make_user(
                name,
                groups=[
                    *([submitters] if name != "sue" else []),
                    *(group for key, group in groups.items() if name in GROUPS[key]),
                ],
                pages=APPROVER,
                superuser=name == "sue",
            )
        self.later = dt.timedelta()
        self.ended: dict[int, int] = {}
        self.made: list[int] = []
        self.orders: list[int] = []
        with transaction():
            db.session.execute(sa.delete(FreezeWindow))

    @property
    def now(self) -> dt.datetime:
        return utcnow() + self.later

    def teardown(self) -> None:
        db.session.rollback()

    @initialize(
        levels=st.lists(st.sampled_from(list(GROUPS)), min_size=1, max_size=3),
        allow_self=st.booleans(),
        distinct=st.booleans(),
        expires=st.sampled_from([None, 2]),
        pre=st.booleans(),
        lock=st.booleans(),
    )
    def configure_with_approval(
        self, levels: list[str], allow_self: bool, distinct: bool, expires: int | None, pre: bool, lock: bool
    ) -> None:
        flow = make_flow(
            *levels, allow_self_approval=allow_self, distinct_approvers=distinct, expires_hours=expires
        )
        self._make(approval_flow=flow, pre_task="check" if pre else "", task_lock=lock)

    @initialize(pre=st.booleans(), lock=st.booleans())
    def configure_without(self, pre: bool, lock: bool) -> None:
        self._make(pre_task="check" if pre else "", task_lock=lock)

    def _make(self, **columns: Any) -> None:
        switches = {"scheduling": True, "background_choice": True, "auto_run_choice": True}
        self.orders.append(make_workorder(groups=("everybody",), **switches, **columns).id)

    @rule(choice=st.randoms(use_true_random=False))
    def a_while_passes(self, choice: Random) -> None:
        """Several things happen, weighted so that tickets get somewhere: most of what pure chance tries is refused."""
        for _ in range(8):
            db.session.expire_all()
            unfinished = [one for one in map(self._ticket, self.made) if not one.state.is_final]
            happens = choice.choices(
                (self.submit, self.go_on, self.act, self.work, self.time_passes, self.freeze_or_thaw),
                (6 if len(unfinished) < 4 else 1, 8, 5, 8, 1, 1),
            )[0]
            happens(choice)
            self.everything_holds()

    def submit(self, choice: Random) -> None:
        workorder = db.session.get_one(WorkOrder, choice.choice(self.orders))
        hours = choice.choice([None, None, 0.5, 3])
        held = db.session.scalar(
            sa.select(TaskLock.ticket_id).where(TaskLock.workorder_name == workorder.name)
        )
        try:
            ticket = services.submit(
                actor=self.people[choice.choice(PEOPLE)],
                workorder=workorder,
                values={},
                scheduled_at=utcnow() + hours * HOUR if hours else None,
                background=choice.random() < 0.3,
                auto_run=choice.random() < 0.3,
            )
        except Conflict as err:
            refusal = str(err)
        else:
            assert held is None, "a lock is held by one"
            self.made.append(ticket.id)
            return
        assert held or re.search(r"Level \d|another person|is frozen until", refusal), refusal

    def act(self, choice: Random) -> None:
        """Anybody tries anything."""
        if self.made:
            self._try(choice.choice(self.made), choice.choice(PEOPLE), choice.choice(list(VERBS)))

    def go_on(self, choice: Random) -> None:
        """Somebody who may do what a ticket needs does it."""
        waiting = [one for one in map(self._ticket, self.made) if one.state.waits]
        if not waiting:
            return
        ticket = choice.choice(waiting)
        possible = [
            (name, verb)
            for name, person in self.people.items()
            for verb in actions(ticket, person)
            if verb in ("approve", "execute", "reject")
        ]
        if possible:
            weights = [1 if verb == "reject" else 6 for _, verb in possible]
            self._try(ticket.id, *choice.choices(possible, weights)[0])

    def _try(self, ticket_id: int, who: str, verb: str) -> None:
        """What `actions` offers is done, and nothing else is."""
        ticket, actor = self._ticket(ticket_id), self.people[who]
        offered = verb in actions(ticket, actor)
        frozen = db.session.scalar(sa.select(FreezeWindow.id)) is not None
        refusal: Exception | None = None
        try:
            VERBS[verb](ticket, actor)
        except (Conflict, NotAllowed) as err:
            refusal = err
        if frozen and verb == "execute" and not actor.superuser:
            assert refusal is not None, "nobody else starts anything in a freeze"
        else:
            assert offered is (refusal is None), f"{who}, {verb}: {refusal}"

    def work(self, choice: Random) -> None:
        """A worker takes what is queued, or ends what runs."""
        active = db.session.scalars(
            sa.select(Run).where(Run.state.in_(ACTIVE), Run.ticket_id.in_(self.made)).order_by(Run.id)
        ).all()
        if not active:
            return
        run = choice.choice(active)
        if run.run_state is RunState.QUEUED:
            begin(run)
            return
        end(run, choice.choice([result(0), result(0), result(1), result(outcome=Outcome.LOST)]))

    def time_passes(self, choice: Random) -> None:
        before = self.now
        self.later += choice.choice([0, 0, 1]) * HOUR
        start_due(self.now, grace=GRACE, looked_at=before)
        expire_overdue(self.now)

    def freeze_or_thaw(self, choice: Random) -> None:
        now = utcnow()
        if db.session.scalar(sa.select(FreezeWindow.id)) is None:
            make_freeze(starts_at=now - HOUR, ends_at=now + HOUR)
            return
        with transaction():
            db.session.execute(sa.delete(FreezeWindow))

    def _ticket(self, ticket_id: int) -> Ticket:
        return db.session.get_one(Ticket, ticket_id)

    @invariant()
    def everything_holds(self) -> None:
        db.session.rollback()
        db.session.expire_all()
        for ticket_id in self.made:
            ticket = db.session.get_one(Ticket, ticket_id)
            for check in CHECKS:
                check(ticket)
            if ticket.state.is_final:
                decisions = self.ended.setdefault(ticket_id, len(ticket.decisions))
                assert len(ticket.decisions) == decisions, "nobody decides after the end"
            else:
                assert ticket_id not in self.ended, "an ending is an ending"


def code_and_status_agree(ticket: Ticket) -> None:
    document = ticket_document(ticket, ticket.submitter)
    assert document["status_code"] == TicketStatus(document["status"]).code
    assert (document["job_status"] is None) is not (
        document["kind"] == "background" or any(change.job_after for change in ticket.history)
    )
    assert (document["finished_at"] is not None) is ticket.state.is_final


def nothing_runs_without_its_approvals(ticket: Ticket) -> None:
    mains = [run for run in ticket.runs if run.task == "main"]
    assert len(mains) <= 1, "one start per ticket"
    if mains and ticket.levels:
        last = {made.level: made for made in ticket.decisions}
        assert [last[level.level].decision for level in ticket.levels] == ["approved"] * len(ticket.levels)
        assert all(last[level.level].at <= mains[0].queued_at for level in ticket.levels)


def levels_are_decided_in_order_by_those_who_may(ticket: Ticket) -> None:
    groups = {level.level: level.group_id for level in ticket.levels}
    reached = 0
    approvers: dict[int, int] = {}
    for made in ticket.decisions:
        by = db.session.get_one(User, made.by_id)
        assert groups[made.level] in {group.id for group in by.groups}
        assert ticket.allow_self_approval or made.by_id != ticket.submitter_id
        if made.decision == "approved":
            assert made.level == reached + 1
            approvers[made.level] = made.by_id
            reached = made.level
        else:
            assert made.level in (reached, reached + 1)
            assert made is ticket.decisions[-1]
            assert ticket.state is TicketStatus.rejected(made.level)
    if ticket.distinct_approvers:
        assert len(set(approvers.values())) == len(approvers)


def a_lock_is_held_until_the_end(ticket: Ticket) -> None:
    held = db.session.scalars(
        sa.select(TaskLock.ticket_id).where(
            TaskLock.environment_id == ticket.environment_id, TaskLock.workorder_name == ticket.workorder_name
        )
    ).all()
    assert len(held) <= 1
    assert (ticket.id in held) is (ticket.task_lock and not ticket.state.is_final)


def running_means_that_something_runs(ticket: Ticket) -> None:
    active = [run for run in ticket.runs if run.run_state in ACTIVE]
    assert len(active) == (1 if ticket.state is TicketStatus.RUNNING else 0)


def the_history_is_whole(ticket: Ticket) -> None:
    first, *rest = ticket.history
    assert first.before is None
    status, job = TicketStatus(first.after), JobStatus(first.job_after) if first.job_after else None
    for change in rest:
        assert change.before == status
        after = TicketStatus(change.after)
        assert after is status or status.may_become(after)
        if change.job_after:
            assert job is not None
            assert change.job_before == job
            assert job.may_become(JobStatus(change.job_after))
            job = JobStatus(change.job_after)
        status = after
    assert (status, job) == (ticket.state, ticket.job_state)
    if status.is_final and job is not None:
        assert not job.is_open


def every_change_has_its_event(ticket: Ticket) -> None:
    of_ticket = sa.select(AuditEvent).where(
        AuditEvent.object_type == "ticket", AuditEvent.object_id == ticket.id
    )
    events = db.session.scalars(of_ticket.order_by(AuditEvent.id)).all()
    submitted = [event for event in events if event.action == "ticket.submitted"]
    changed = [event for event in events if event.action == "ticket.status_changed"]
    assert len(submitted) == 1
    assert [(event.changes["before"], event.changes["after"]) for event in changed] == [
        (change.before, change.after) for change in ticket.history[1:]
    ]


CHECKS = (
    code_and_status_agree,
    nothing_runs_without_its_approvals,
    levels_are_decided_in_order_by_those_who_may,
    a_lock_is_held_until_the_end,
    running_means_that_something_runs,
    the_history_is_whole,
    every_change_has_its_event,
)


@pytest.fixture
def quiet_queue(context: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody be rung for: the machine itself is the worker."""
    monkeypatch.setattr(queue, "ring", lambda *_, **__: None)


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("quiet_queue")
def test_no_promise_about_a_ticket_ever_breaks(database: str) -> None:
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=EXAMPLES[database], stateful_step_count=5, deadline=None, phases=[Phase.generate]
        ),
    )
