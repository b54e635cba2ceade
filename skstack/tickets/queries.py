"""Reads about tickets: who sees which, lists, one with everything about it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import defer, joinedload, selectinload, undefer

from skstack.accounts.models import Group, Page, User
from skstack.catalog.models import Category, Environment, VariableGroup, WorkOrder, workorder_submit_groups
from skstack.errors import NotFound
from skstack.extensions import db
from skstack.states import MOST_LEVELS, WAITING, TicketStatus
from skstack.tickets import search
from skstack.tickets.models import Decision, Ticket, TicketLevel
from skstack.web.pagination import Order, Paged, PagedInOrder, asked_place, paged, paged_in_order

MOST_AT_ONCE = 200
_BATCH = 500

# Built once: building it takes as long as running it, and every submission does.
_SUBMITTABLE = (
    sa.select(WorkOrder)
    .where(WorkOrder.id == sa.bindparam("workorder_id"))
    .options(
        joinedload(WorkOrder.environment),
        joinedload(WorkOrder.category),
        joinedload(WorkOrder.config_center),
        joinedload(WorkOrder.variable_group).selectinload(VariableGroup.members),
        joinedload(WorkOrder.submit_groups).load_only(Group.id),
    )
    .execution_options(populate_existing=True)
)

_UNFINISHED = [state for state in TicketStatus if not state.is_final]


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list of tickets is narrowed to; everything left empty narrows nothing."""

    environment: str = ""
    category: str = ""
    status: str = ""
    workorder: str = ""
    submitter: str = ""
    kind: str = ""
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    text: str = ""

    @property
    def narrows(self) -> bool:
        """Say whether anything is left out."""
        return self != Filters()

    def apply(self, statement: sa.Select[Any]) -> sa.Select[Any]:
        """Narrow a list, to be read in any order. A search needs a statement for it."""
        statement = self._without_text(statement)
        return statement.where(search.found_by(self.text)) if self.text else statement

    def apply_newest_first(
        self, statement: sa.Select[Any], *, below: int | None, limit: int
    ) -> sa.Select[Any]:
        """Narrow a list of which `limit` are read, newest first and from below a number. A search needs two statements."""
        statement = self._without_text(statement)
        if not self.text:
            return statement
        return statement.where(search.newest_found_by(self.text, among=statement, below=below, limit=limit))

    def _without_text(self, statement: sa.Select[Any]) -> sa.Select[Any]:
        for column, wanted in (
            (Ticket.environment_name, self.environment),
            (Ticket.category_name, self.category),
            (Ticket.status, self.status),
            (Ticket.workorder_name, self.workorder),
            (Ticket.submitter_name, self.submitter),
            (Ticket.kind, self.kind),
        ):
            if wanted:
                statement = statement.where(column == wanted)
        if self.since:
            statement = statement.where(Ticket.created_at >= self.since)
        if self.until:
            statement = statement.where(Ticket.created_at < self.until)
        return statement


def can_see(ticket: Ticket, user: User) -> bool:
    """Say whether a ticket exists for a user: it is theirs, one of their groups decides it, or they have the audit page."""
    return bool(ticket.submitter_id == user.id or user.may(Page.AUDIT) or decides(ticket.id, user))


def decides(ticket_id: int, user: User) -> bool:
    """Say whether one of the user's groups decides a level of a ticket. Needs a statement if they are in any group."""
    groups = [group.id for group in user.groups]
    if not groups:
        return False
    statement = sa.select(
        sa.exists().where(TicketLevel.ticket_id == ticket_id, TicketLevel.group_id.in_(groups))
    )
    return bool(db.session.scalar(statement))


def visible_among(tickets: Sequence[Ticket], user: User) -> set[int]:
    """Return the ids of those tickets that a user may see. Needs a statement for those in groups, without the audit page."""
    if user.may(Page.AUDIT):
        return {ticket.id for ticket in tickets}
    mine = {ticket.id for ticket in tickets if ticket.submitter_id == user.id}
    groups = [group.id for group in user.groups]
    others = [ticket.id for ticket in tickets if ticket.id not in mine]
    if not (groups and others):
        return mine
    decided = sa.select(TicketLevel.ticket_id).where(
        TicketLevel.ticket_id.in_(others), TicketLevel.group_id.in_(groups)
    )
    return mine | set(db.session.scalars(decided))


# The level whose decision a status waits for; a join of tickets and levels is narrowed to that row.
_WAITS_FOR_LEVEL = sa.or_(
    *(
        sa.and_(Ticket.status == waiting, TicketLevel.level == waiting.level + 1)
        for waiting in WAITING
        if waiting.level < MOST_LEVELS
    )
)


def approvals_of(
    user: User, filters: Filters, *, after: int | None, limit: int, whole: bool = False
) -> Paged[Ticket]:
    """Return the tickets that wait for a decision of this user, newest first. Statements as for `tickets_of`."""
    return _list(_waiting_for(user), filters, after, limit, whole)


def count_of_approvals(user: User) -> int:
    """Return how many tickets wait for a decision of this user. Needs one statement."""
    counted = sa.select(sa.func.count()).select_from(_waiting_for(user).subquery())
    return db.session.scalar(counted) or 0


def counts_of_approvals(user: User) -> dict[int, int]:
    """Return how many tickets wait for a decision of this user, by environment. Needs one statement."""
    waiting = _waiting_for(user).with_only_columns(Ticket.environment_id, sa.func.count())
    rows = db.session.execute(waiting.group_by(Ticket.environment_id))
    return {row[0]: row[1] for row in rows}


def decided_by(
    user: User, filters: Filters, *, after: int | None, limit: int, whole: bool = False
) -> Paged[Ticket]:
    """Return the tickets that this user decided a level of, newest first. Statements as for `tickets_of`."""
    mine = sa.select(Decision.ticket_id).where(Decision.by_id == user.id)
    return _list(sa.select(Ticket).where(Ticket.id.in_(mine)), filters, after, limit, whole)


def _waiting_for(user: User) -> sa.Select[Any]:
    """Select what `actions.can_approve` lets this user approve now."""
    other = sa.exists().where(
        Decision.ticket_id == Ticket.id, Decision.by_id == user.id, Decision.level != TicketLevel.level
    )
    return (
        sa.select(Ticket)
        .join(TicketLevel, TicketLevel.ticket_id == Ticket.id)
        .where(
            _WAITS_FOR_LEVEL,
            TicketLevel.group_id.in_([group.id for group in user.groups]),
            sa.or_(Ticket.allow_self_approval, Ticket.submitter_id != user.id),
            sa.or_(~Ticket.distinct_approvers, ~other),
        )
    )


def visible(ticket_id: int, user: User) -> Ticket:
    """Return one ticket. Raises NotFound if there is none, or none for this user."""
    ticket = db.session.get(Ticket, ticket_id, options=[joinedload(Ticket.submitter)])
    if ticket is None or not can_see(ticket, user):
        raise NotFound
    return ticket


def is_visible(ticket_id: int, user: User) -> bool:
    """Say whether there is such a ticket for this user."""
    try:
        visible(ticket_id, user)
    except NotFound:
        return False
    return True


def tickets_of(
    user: User,
    filters: Filters,
    *,
    after: int | None,
    limit: int,
    whole: bool = False,
    with_actions: bool = False,
    unfinished: bool = False,
) -> Paged[Ticket]:
    """Return the user's own tickets, newest first, or only those that wait or run. Needs one statement and one for the runs.

    `with_actions` they come with the work orders, groups, levels and decisions that say what may be done: three more.
    `whole` ones have their plan too.
    """
    mine = sa.select(Ticket).where(Ticket.submitter_id == user.id)
    if unfinished:
        mine = mine.where(Ticket.status.in_(_UNFINISHED))
    return _list(mine, filters, after, limit, whole, with_actions)


def all_tickets(
    filters: Filters, *, after: int | None, limit: int, whole: bool = False, with_actions: bool = False
) -> Paged[Ticket]:
    """Return everyone's tickets, newest first, for those with the audit page. Statements as for `tickets_of`."""
    return _list(sa.select(Ticket), filters, after, limit, whole, with_actions)


# What history can be sorted by: each has an index with the number, so that a page costs the same among a million.
SORTS: dict[str, sa.orm.InstrumentedAttribute[Any]] = {
    "id": Ticket.id,
    "workorder": Ticket.workorder_name,
    "submitter": Ticket.submitter_name,
    "status": Ticket.status,
    "ended": Ticket.ended,
}


def history(filters: Filters, *, order: Order, limit: int) -> PagedInOrder[Ticket]:
    """Return everyone's tickets in the order asked for, from `?after=` on. Statements as for `tickets_of` with actions."""
    if order == Order("id", descending=True):
        place = asked_place((Ticket.id,))
        below = place[0] if place else None
        statement = filters.apply_newest_first(sa.select(Ticket), below=below, limit=limit)
    else:
        statement = filters.apply(sa.select(Ticket))
    statement = statement.options(*_options(whole=False, with_actions=True))
    if order.name == "ended":
        statement = statement.options(undefer(Ticket.ended))
    return paged_in_order(statement, SORTS[order.name], Ticket.id, descending=order.descending, limit=limit)


def export(filters: Filters) -> Iterator[Ticket]:
    """Yield all tickets that the filters give, whole and newest first, a batch in memory at a time."""
    after: int | None = None
    while True:
        page = all_tickets(filters, after=after, limit=_BATCH, whole=True)
        yield from page.items
        # What is written is forgotten, and nothing is kept open while a slow reader takes it.
        db.session.expunge_all()
        db.session.rollback()
        if page.next is None:
            return
        after = page.next


def workorder_named(name: str) -> WorkOrder | None:
    """Return the work order of this name with its variables, if there is one."""
    return db.session.scalars(
        sa.select(WorkOrder)
        .where(WorkOrder.name == name)
        .options(joinedload(WorkOrder.variable_group).selectinload(VariableGroup.members))
    ).one_or_none()


def workorder_names() -> list[str]:
    """Return the names of all work orders, for the filter of a list."""
    return list(db.session.scalars(sa.select(WorkOrder.name).order_by(WorkOrder.name)))


def usernames() -> list[str]:
    """Return the names of everybody who may have submitted something, for the filter of a list."""
    return list(db.session.scalars(sa.select(User.username).order_by(sa.func.lower(User.username))))


def unfinished_tickets(user: User, *, limit: int = 20) -> list[Ticket]:
    """Return what of the user has not ended yet, newest first. Needs one statement."""
    statement = sa.select(Ticket).where(Ticket.submitter_id == user.id, Ticket.status.in_(_UNFINISHED))
    return list(db.session.scalars(statement.options(*_light()).order_by(Ticket.id.desc()).limit(limit)))


def running_tickets(*, limit: int = 20) -> list[Ticket]:
    """Return everyone's running tickets, newest first. Needs one statement and one for the runs."""
    statement = sa.select(Ticket).where(Ticket.status == TicketStatus.RUNNING)
    return list(db.session.scalars(statement.options(*_light()).order_by(Ticket.id.desc()).limit(limit)))


def submittable(user: User, *, environment: str = "", text: str = "") -> list[WorkOrder]:
    """Return the work orders that a user may submit, by environment and name. Needs one statement."""
    statement = _submittable(user, environment, text)
    return list(
        db.session.scalars(statement.order_by(Environment.order, Environment.name, WorkOrder.name)).unique()
    )


def submittable_page(
    user: User, *, environment: str = "", text: str = "", after: int | None, limit: int
) -> tuple[list[WorkOrder], int | None]:
    """Return work orders that a user may submit by id, and the id to go on after. Needs one statement."""
    statement = _submittable(user, environment, text).where(WorkOrder.id > (after or 0))
    found = db.session.scalars(statement.order_by(WorkOrder.id).limit(limit + 1)).unique().all()
    return list(found[:limit]), found[limit - 1].id if len(found) > limit else None


def _submittable(user: User, environment: str, text: str) -> sa.Select[Any]:
    statement = (
        sa.select(WorkOrder)
        .join(WorkOrder.environment)
        .where(WorkOrder.active, ~WorkOrder.template)
        .options(joinedload(WorkOrder.environment), joinedload(WorkOrder.category))
    )
    if not user.superuser:
        mine = sa.select(workorder_submit_groups.c.workorder_id).where(
            workorder_submit_groups.c.group_id.in_([group.id for group in user.groups])
        )
        statement = statement.where(WorkOrder.id.in_(mine))
    if environment:
        statement = statement.where(Environment.name == environment)
    if text:
        like = _like(text)
        statement = statement.where(
            WorkOrder.name.ilike(like, escape="\\") | WorkOrder.description.ilike(like, escape="\\")
        )
    return statement


def submittable_workorder(workorder_id: int, user: User) -> WorkOrder:
    """Return one work order that the user may submit. Raises NotFound for any other."""
    workorder = db.session.scalars(_SUBMITTABLE, {"workorder_id": workorder_id}).unique().one_or_none()
    if workorder is None or not workorder.can_be_submitted_by(user):
        raise NotFound
    return workorder


def environments() -> list[Environment]:
    """Return all environments in the order of their tabs."""
    return list(db.session.scalars(sa.select(Environment).order_by(Environment.order, Environment.name)))


def categories() -> list[Category]:
    return list(db.session.scalars(sa.select(Category).order_by(Category.name)))


def _list(
    statement: sa.Select[Any],
    filters: Filters,
    after: int | None,
    limit: int,
    whole: bool,
    with_actions: bool = False,
) -> Paged[Ticket]:
    statement = filters.apply_newest_first(statement, below=after, limit=limit)
    return paged(statement.options(*_options(whole, with_actions)), Ticket.id, after=after, limit=limit)


def _options(whole: bool, with_actions: bool) -> tuple[sa.orm.interfaces.ORMOption, ...]:
    if whole:
        return (selectinload(Ticket.runs), *_for_actions())
    return (*_light(), *_for_actions()) if with_actions else _light()


def _for_actions() -> tuple[sa.orm.interfaces.ORMOption, ...]:
    groups = joinedload(Ticket.workorder).selectinload(WorkOrder.submit_groups).load_only(Group.id)
    return (groups, selectinload(Ticket.levels), selectinload(Ticket.decisions))


def _light() -> tuple[sa.orm.interfaces.ORMOption, ...]:
    return (defer(Ticket.plan), selectinload(Ticket.runs))


def _like(text: str) -> str:
    return "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
