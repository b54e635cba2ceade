"""What a change of a ticket means for people: whom it is told, in which words. Within the transaction of the change."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from functools import partial

import sqlalchemy as sa
from sqlalchemy.orm import selectinload

from skstack.accounts.models import Group, Page, User
from skstack.catalog.models import ApprovalFlow
from skstack.db import after_commit, utcnow
from skstack.extensions import db, queue
from skstack.messages import N_, Message
from skstack.notifications.models import Delivery, Event, Notification, Target
from skstack.states import WAITING, JobStatus, TicketStatus
from skstack.tickets.actions import can_approve
from skstack.tickets.changes import on_change
from skstack.tickets.models import BACKGROUND, Ticket, TicketLevel

DELIVER = "skstack.notifications.tasks.deliver"
# A ticket that somebody started and watched is not worth a message if it ended well within this time.
SHORT = dt.timedelta(minutes=1)

_T = TicketStatus
_RESULTS: Mapping[TicketStatus, Message] = {
    _T.SUCCEEDED: N_("%(name)s #%(id)s in %(environment)s succeeded."),
    _T.FAILED: N_("%(name)s #%(id)s in %(environment)s failed."),
    _T.UNKNOWN: N_("It cannot be told how %(name)s #%(id)s in %(environment)s ended. Look at the target."),
    _T.REVOKED: N_("%(name)s #%(id)s in %(environment)s was revoked."),
}


@on_change
def tell_of_change(
    ticket: Ticket, before: TicketStatus | None, job_before: JobStatus | None, actor: User | None
) -> None:
    """Tell whoever a change concerns. Costs nothing for a ticket without a flow that somebody watches to its good end."""
    after = ticket.state
    if after is before and ticket.job_state is job_before:
        return
    if after.waits and ticket.approval_flow_name and after is not before:
        _tell_of_waiting(ticket)
    if after.level and after is not before:
        _tell_of_decision(ticket, actor)
    elif after is _T.RUNNING and ticket.job_state is JobStatus.WAITING and job_before is JobStatus.CREATED:
        _tell_submitter(
            ticket, Event.STARTED, N_("%(name)s #%(id)s in %(environment)s was started by the system.")
        )
    elif after in _RESULTS and after is not before and not _is_seen(ticket, actor):
        _tell_submitter(ticket, Event.ENDED, _RESULTS[after])
        _deliver(_targets_of_flow(ticket, Event.ENDED), ticket, Event.ENDED, _filled(_RESULTS[after], ticket))


def tell_of_expiry(now: dt.datetime) -> int:
    """Remind those who decide what expires soon, once for each ticket, and return how many there were."""
    told = sa.or_(
        *(
            sa.exists().where(row.ticket_id == Ticket.id, row.event == Event.EXPIRES)
            for row in (Notification, Delivery)
        )
    )
    due = db.session.scalars(
        sa.select(Ticket).where(
            Ticket.status.in_(WAITING),
            Ticket.decide_by.is_not(None),
            Ticket.decide_by > now,
            Ticket.decide_by <= now + dt.timedelta(days=2),
            ~told,
        )
    ).all()
    count = 0
    for ticket in due:
        level = ticket.next_level
        if level is None or not _is_due_soon(ticket, now):
            continue
        text = N_(
            "%(name)s #%(id)s in %(environment)s is revoked at %(time)s if nobody of %(group)s decides it.",
            time=ticket.decide_by,
            group=level.group_name,
        )
        _tell(_deciders(ticket, level), ticket, Event.EXPIRES, _filled(text, ticket))
        _deliver(_targets_of_flow(ticket, Event.EXPIRES), ticket, Event.EXPIRES, _filled(text, ticket))
        count += 1
    return count


def _is_due_soon(ticket: Ticket, now: dt.datetime) -> bool:
    """Say whether an hour, or a tenth of the time that the flow gives, is left: whichever is more, but half at most."""
    assert ticket.decide_by is not None, "the caller asked for it"
    given = ticket.decide_by - ticket.created_at
    return ticket.decide_by - now <= max(given / 10, min(dt.timedelta(hours=1), given / 2))


def _is_seen(ticket: Ticket, actor: User | None) -> bool:
    """Say whether the submitter knows already how a ticket ended: they did it, or watched it for a moment."""
    if actor is not None and actor.id == ticket.submitter_id:
        return True
    if ticket.state is not _T.SUCCEEDED or ticket.kind == BACKGROUND:
        return False
    if not ticket.approval_flow_name:
        return utcnow() - ticket.created_at < SHORT
    queued = max((run.queued_at for run in ticket.runs), default=ticket.created_at)
    return utcnow() - queued < SHORT


def _tell_of_waiting(ticket: Ticket) -> None:
    level = ticket.next_level
    if level is None:
        return
    text = _filled(
        N_(
            "%(name)s #%(id)s in %(environment)s, submitted by %(submitter)s, waits for %(group)s (level %(level)s).",
            group=level.group_name,
            level=level.level,
        ),
        ticket,
    )
    _tell(_deciders(ticket, level), ticket, Event.WAITS, text)
    _deliver(_targets_of_flow(ticket, Event.WAITS), ticket, Event.WAITS, text)


def _tell_of_decision(ticket: Ticket, actor: User | None) -> None:
    if actor is not None and actor.id == ticket.submitter_id:
        return
    text = (
        N_("%(name)s #%(id)s in %(environment)s was approved at level %(level)s by %(by)s.")
        if not ticket.state.is_final
        else N_("%(name)s #%(id)s in %(environment)s was rejected at level %(level)s by %(by)s.")
    )
    values = {"level": ticket.state.level, "by": actor.username if actor else "skstack"}
    _tell_submitter(ticket, Event.DECIDED, Message(text.text, values))


def _tell_submitter(ticket: Ticket, event: Event, text: Message) -> None:
    _tell([ticket.submitter], ticket, event, _filled(text, ticket))


def _filled(text: Message, ticket: Ticket) -> Message:
    """Put in what every sentence says: what, where and by whom."""
    named = {
        "id": ticket.id,
        "name": ticket.workorder_name,
        "environment": ticket.environment_name,
        "submitter": ticket.submitter_name,
    }
    return Message(text.text, {**named, **text.values})


def _deciders(ticket: Ticket, level: TicketLevel) -> list[User]:
    """Return those who can approve `level`. Needs three statements."""
    members = db.session.scalars(
        sa.select(User)
        .where(User.active, User.groups.any(Group.id == level.group_id))
        .options(selectinload(User.groups), selectinload(User.roles))
        .order_by(User.id)
    )
    return [user for user in members if user.may(Page.APPROVE) and can_approve(ticket, level, user)]


def _tell(users: Iterable[User], ticket: Ticket, event: Event, text: Message) -> None:
    users = list(users)
    stored = text.to_json()
    db.session.add_all(
        Notification(user_id=user.id, ticket_id=ticket.id, event=event, text=stored) for user in users
    )
    if users:
        targets = sa.select(Target).where(Target.active, Target.user_id.in_([user.id for user in users]))
        _deliver([one for one in db.session.scalars(targets) if event in one.events], ticket, event, text)


def _targets_of_flow(ticket: Ticket, event: Event) -> list[Target]:
    if not ticket.approval_flow_name:
        return []
    targets = (
        sa.select(Target)
        .join(ApprovalFlow)
        .where(Target.active, ApprovalFlow.name == ticket.approval_flow_name)
    )
    return [one for one in db.session.scalars(targets) if event in one.events]


def _deliver(targets: Iterable[Target], ticket: Ticket, event: Event, text: Message) -> None:
    for target in targets:
        delivery = Delivery(target_id=target.id, ticket_id=ticket.id, event=event, text=text.to_json())
        db.session.add(delivery)
        db.session.flush()
        after_commit(partial(queue.ring, DELIVER, delivery.id))
