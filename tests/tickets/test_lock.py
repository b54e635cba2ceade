"""The task lock: one ticket of a work order at a time, freed by every ending, whoever comes at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from skstack.approvals.services import reject
from skstack.catalog.models import WorkOrder
from skstack.errors import Conflict
from skstack.extensions import db
from skstack.runner.protocol import Outcome
from skstack.runs import services as runs
from skstack.states import TicketStatus
from skstack.tickets import services
from skstack.tickets.models import TaskLock, Ticket
from tests.factories import alice, bob, make_group, make_user
from tests.fake_runner import begin, end, result, run_of
from tests.orders import make_flow, make_ticket, make_workorder

pytestmark = [pytest.mark.both_databases, pytest.mark.usefixtures("context")]


def locked(**columns: Any) -> WorkOrder:
    bob()
    return make_workorder(task_lock=True, **columns)


def test_the_refusal_names_the_ticket_in_the_way() -> None:
    order = locked()
    first = make_ticket(alice(), order)
    other = make_user(groups=[make_group("ops")])
    with pytest.raises(Conflict, match=rf"ticket {first.id}\b") as caught:
        make_ticket(other, order)
    assert caught.value.details == {"ticket": first.id}
    assert db.session.scalars(sa.select(Ticket.id)).all() == [first.id]


ENDINGS = {
    TicketStatus.SUCCEEDED: lambda ticket: end(begin(run_of(ticket))),
    TicketStatus.FAILED: lambda ticket: end(begin(run_of(ticket)), result(3)),
    TicketStatus.UNKNOWN: lambda ticket: end(begin(run_of(ticket)), result(outcome=Outcome.LOST)),
}


@pytest.mark.parametrize("status", ENDINGS)
def test_every_ending_of_a_run_frees_it(status: TicketStatus) -> None:
    order = locked()
    first = make_ticket(alice(), order)
    ENDINGS[status](first)
    assert first.state is status
    make_ticket(alice(), order)


def test_stopping_what_is_queued_frees_it() -> None:
    order = locked()
    runs.stop(make_ticket(alice(), order), actor=alice())
    make_ticket(alice(), order)


def test_rejecting_and_revoking_free_it() -> None:
    order = locked(approval_flow=make_flow("leads"))
    first = make_ticket(alice(), order)
    with pytest.raises(Conflict):
        make_ticket(alice(), order)
    reject(first, actor=bob(), comment="no")
    second = make_ticket(alice(), order)
    services.revoke(second, actor=alice())
    make_ticket(alice(), order)


def test_a_submission_that_is_undone_leaves_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    order = locked()

    def fail(*_: object, **__: object) -> None:
        raise KeyError

    monkeypatch.setattr(services, "start_main", fail)
    with pytest.raises(KeyError):
        make_ticket(alice(), order)
    assert db.session.scalars(sa.select(TaskLock)).all() == []


def test_another_work_order_is_not_in_the_way() -> None:
    make_ticket(alice(), locked())
    make_ticket(alice(), locked())


def test_of_twenty_submissions_at_once_one_is_made(context: Flask) -> None:
    order_id, people = locked().id, [make_user(groups=[make_group("ops")]).id for _ in range(20)]
    together = threading.Barrier(len(people))
    db.session.commit()

    def submit(user_id: int) -> int | None:
        from skstack.accounts.models import User
        from skstack.tickets import queries

        with context.app_context():
            actor = db.session.get_one(User, user_id)
            order = queries.submittable_workorder(order_id, actor)
            together.wait(20)
            try:
                return make_ticket(actor, order).id
            except Conflict as err:
                return -int(err.details["ticket"])

    with ThreadPoolExecutor(len(people)) as pool:
        answers = list(pool.map(submit, people))
    [made] = [one for one in answers if one and one > 0]
    assert set(answers) == {made, -made}
    assert db.session.scalars(sa.select(TaskLock.ticket_id)).all() == [made]
