"""Reads about schedules: whose they are, and what became of their times."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import joinedload, selectinload

from skstack.accounts.models import User
from skstack.catalog.models import WorkOrder
from skstack.errors import NotFound
from skstack.extensions import db
from skstack.schedules.models import Occurrence, Schedule, obstacle
from skstack.tickets.models import Ticket
from skstack.tickets.queries import submittable, submittable_workorder
from skstack.web.pagination import Paged, paged


def visible(schedule_id: int, user: User) -> Schedule:
    """Return one schedule. Raises NotFound if there is none, or none for this user."""
    schedule = db.session.get(Schedule, schedule_id)
    if schedule is None or not schedule.can_be_seen_by(user):
        raise NotFound
    return schedule


def schedules_of(user: User, *, after: int | None, limit: int) -> Paged[Schedule]:
    """Return the user's schedules, a superuser's are everybody's, newest first. Needs four statements."""
    statement = sa.select(Schedule).options(
        joinedload(Schedule.owner).selectinload(User.groups),
        joinedload(Schedule.owner).selectinload(User.roles),
        joinedload(Schedule.workorder).joinedload(WorkOrder.environment),
        joinedload(Schedule.workorder).selectinload(WorkOrder.submit_groups),
        joinedload(Schedule.last_ticket).load_only(Ticket.status, Ticket.submitter_id),
    )
    if not user.superuser:
        statement = statement.where(Schedule.owner_id == user.id)
    return paged(statement, Schedule.id, after=after, limit=limit)


def occurrences_of(schedule: Schedule, *, after: int | None, limit: int) -> Paged[Occurrence]:
    """Return what became of a schedule's times, newest first. Needs one statement."""
    statement = (
        sa.select(Occurrence)
        .where(Occurrence.schedule_id == schedule.id)
        .options(joinedload(Occurrence.ticket).load_only(Ticket.status))
    )
    return paged(statement, Occurrence.id, after=after, limit=limit)


def workorders_for(user: User) -> list[WorkOrder]:
    """Return the work orders that the user may have submitted at planned times. Needs one statement."""
    return [workorder for workorder in submittable(user) if workorder.scheduling]


def workorder_for(workorder_id: int, user: User) -> WorkOrder:
    """Return one of those. Raises NotFound for any other."""
    workorder = submittable_workorder(workorder_id, user)
    if not workorder.scheduling:
        raise NotFound
    return workorder


def possible_owners(schedule: Schedule) -> list[User]:
    """Return the people to whom a schedule could be handed over, by name. Needs three statements."""
    statement: sa.Select[Any] = (
        sa.select(User)
        .where(User.active, User.id != schedule.owner_id)
        .options(selectinload(User.groups), selectinload(User.roles))
        .order_by(User.username)
    )
    return [user for user in db.session.scalars(statement) if obstacle(user, schedule.workorder) is None]
