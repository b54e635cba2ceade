"""`tickets.status`: the one writer of a ticket's status."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest
import sqlalchemy as sa
from flask import Flask

from skstack.audit.models import AuditEvent
from skstack.db import db, transaction
from skstack.errors import Conflict
from skstack.messages import N_
from skstack.states import TicketStatus
from skstack.tickets import status
from skstack.tickets.models import Ticket, TicketChange
from tests.factories import alice, bob
from tests.orders import make_ticket

pytestmark = [pytest.mark.both_databases, pytest.mark.usefixtures("context")]


@pytest.fixture
def ticket(context: Flask) -> Ticket:
    return make_ticket(alice())


def put(ticket: Ticket, to: TicketStatus) -> None:
    """Set the status past its writer, and forget what happened before."""
    with transaction():
        db.session.execute(sa.delete(TicketChange))
        db.session.execute(sa.delete(AuditEvent))
        db.session.execute(sa.update(Ticket).values(status=to, finished_at=None))
    db.session.expire_all()


def changes() -> list[tuple[str | None, str, int | None]]:
    rows = db.session.scalars(sa.select(TicketChange).order_by(TicketChange.id))
    return [(row.before, row.after, row.actor_id) for row in rows]


def events() -> list[tuple[str, str, str]]:
    rows = db.session.scalars(sa.select(AuditEvent).where(AuditEvent.action == "ticket.status_changed"))
    return [(row.actor, row.changes["before"], row.changes["after"]) for row in rows]


def test_every_change_is_made_or_refused_as_the_table_says(ticket: Ticket, subtests: pytest.Subtests) -> None:
    actor = bob()
    for before, after in product(TicketStatus, repeat=2):
        with subtests.test(f"{before} to {after}"):
            put(ticket, before)
            if before.may_become(after):
                with transaction():
                    status.become(ticket, after, actor=actor)
                assert changes() == [(before, after, actor.id)]
                assert events() == [("bob", before, after)]
                assert (ticket.finished_at is not None) is after.is_final
            else:
                with pytest.raises(Conflict) as caught, transaction():
                    status.become(ticket, after, actor=actor)
                assert caught.value.details == {"ticket": ticket.id}
                assert changes() == events() == []
            db.session.expire_all()
            assert ticket.state is (after if before.may_become(after) else before)


def test_a_change_says_who_and_why(ticket: Ticket) -> None:
    with transaction():
        status.become(ticket, TicketStatus.FAILED, reason=N_("Stopped by %(user)s.", user="bob"))
    db.session.expire_all()
    change = ticket.history[-1]
    assert (str(change.reason_message), change.actor) == ("Stopped by bob.", None)
    event = db.session.scalars(sa.select(AuditEvent).order_by(AuditEvent.id.desc())).first()
    assert event is not None
    assert (event.actor, event.changes["reason"]) == ("", "Stopped by bob.")


def test_a_change_from_a_state_that_is_no_longer_is_refused_with_the_fresh_one(ticket: Ticket) -> None:
    assert ticket.state is TicketStatus.RUNNING
    with transaction():
        db.session.execute(
            sa.update(Ticket).values(status="succeeded").execution_options(synchronize_session=False)
        )
    assert ticket.state is TicketStatus.RUNNING, "what the session knows is old"
    with pytest.raises(Conflict, match="Succeeded"), transaction():
        status.become(ticket, TicketStatus.FAILED)
    assert ticket.state is TicketStatus.SUCCEEDED
    assert len(changes()) == 1


def test_a_change_that_is_undone_leaves_nothing(ticket: Ticket) -> None:
    def change_and_fail() -> None:
        with transaction():
            status.become(ticket, TicketStatus.SUCCEEDED)
            raise KeyError

    with pytest.raises(KeyError):
        change_and_fail()
    db.session.expire_all()
    assert ticket.state is TicketStatus.RUNNING
    assert (len(changes()), events()) == (1, [])


def test_of_twenty_changes_at_once_one_is_made(context: Flask, ticket: Ticket) -> None:
    wanted = [TicketStatus.SUCCEEDED, TicketStatus.FAILED, TicketStatus.UNKNOWN, TicketStatus.SUBMITTED] * 5
    barrier = threading.Barrier(len(wanted))

    def change(to: TicketStatus) -> bool:
        with context.app_context():
            mine = db.session.get_one(Ticket, ticket.id)
            assert mine.state is TicketStatus.RUNNING
            barrier.wait(20)
            try:
                with transaction():
                    status.become(mine, to)
            except Conflict:
                assert mine.state is not TicketStatus.RUNNING
                return False
            return True

    db.session.commit()
    with ThreadPoolExecutor(len(wanted)) as pool:
        made = [to for to, done in zip(wanted, pool.map(change, wanted), strict=True) if done]
    db.session.expire_all()
    # SUBMITTED is not final: others may follow it, but nothing that started from RUNNING.
    assert len(made) == 1
    assert ticket.state is made[0]
    assert len(changes()) == 2
    assert len(events()) == 1
