"""What a ticket offers to somebody is what they can do with it, and nothing else: in every state, for everybody."""

from __future__ import annotations

import datetime as dt

import pytest
from flask import Flask

from skstack.accounts.models import Page, User
from skstack.approvals import services as approvals
from skstack.db import transaction, utcnow
from skstack.extensions import db
from skstack.tickets import services
from skstack.tickets.models import Ticket
from tests.factories import alice, bearer, bob, carol, make_group, make_user, root
from tests.orders import make_flow, make_ticket, make_workorder

# These are the lines that other tests measure.
pytestmark = pytest.mark.no_cover

EVERYTHING = tuple(Page)
VERBS: dict[str, dict[str, str]] = {
    "approve": {},
    "reject": {"comment": "no"},
    "execute": {},
    "revoke": {},
    "stop": {},
}


def waits_for_leads(submitter: User) -> Ticket:
    return make_ticket(submitter, make_workorder(approval_flow=make_flow("leads", "directors")))


def waits_for_directors(submitter: User) -> Ticket:
    ticket = waits_for_leads(submitter)
    approvals.approve(ticket, actor=bob())
    return ticket


def approved(submitter: User) -> Ticket:
    ticket = waits_for_directors(submitter)
    approvals.approve(ticket, actor=carol())
    return ticket


def planned(submitter: User) -> Ticket:
    soon = utcnow() + dt.timedelta(hours=3)
    return make_ticket(submitter, make_workorder(scheduling=True), scheduled_at=soon)


def running(submitter: User) -> Ticket:
    return make_ticket(submitter, make_workorder())


def rejected(submitter: User) -> Ticket:
    ticket = waits_for_leads(submitter)
    approvals.reject(ticket, actor=bob(), comment="no")
    return ticket


def revoked(submitter: User) -> Ticket:
    ticket = planned(submitter)
    services.revoke(ticket, actor=submitter)
    return ticket


STATES = (waits_for_leads, waits_for_directors, approved, planned, running, rejected, revoked)


def other(name: str, *groups: str, pages: tuple[Page, ...] = EVERYTHING) -> User:
    """Return somebody with these groups, and the pages, which are all if nothing is said."""
    return make_user(name, groups=[make_group(group) for group in groups], pages=pages)


def test_what_is_offered_is_what_can_be_done(app: Flask) -> None:
    with app.app_context():
        bob(), carol()
        submitter, both, former = (
            other("sam", "ops"),
            other("both", "ops", "leads", "directors"),
            other("former"),
        )
        people = {
            submitter: submitter,  # Whose ticket it is that each of them asks for.
            alice(): submitter,
            bob(): submitter,
            carol(): submitter,
            root(): submitter,
            other("everything but a group"): submitter,
            other("dave", "leads", pages=(Page.SUBMIT, Page.EXECUTE)): submitter,
            other("auditor", pages=(Page.AUDIT,)): submitter,
            both: both,  # Would decide their own.
            former: former,  # Submitted, and lost the roles for everything but looking.
        }
        asking = [(user.username, bearer(user), owner.username) for user, owner in people.items()]
        with transaction():
            former.groups.append(make_group("ops"))
            former.roles[0].pages = [Page.AUDIT]
    client, wrong, done = app.test_client(), [], set()
    for make in STATES:
        tickets: dict[str, int] = {}
        for name, headers, owner in asking:
            looked_at = 0
            for verb, body in VERBS.items():
                if owner not in tickets:
                    with app.app_context():
                        tickets[owner] = make(db.session.query(User).filter_by(username=owner).one()).id
                path = f"/api/v1/tickets/{tickets[owner]}"
                if looked_at != tickets[owner]:
                    looked_at, seen = tickets[owner], client.get(path, headers=headers)
                    offered = seen.json["actions"] if seen.status_code == 200 else []
                status = client.post(f"{path}/{verb}", json=body, headers=headers).status_code
                assert status in (200, 403, 404, 409), (make.__name__, name, verb, status)
                if (status == 200) != (verb in offered):
                    wrong.append(
                        f"{make.__name__}: {name}: {verb}: offered are {offered}, and it gave {status}"
                    )
                if status == 200:
                    done.add((make.__name__, verb))
                    del tickets[owner]
    assert not wrong
    assert {verb for _, verb in done} == VERBS.keys()
