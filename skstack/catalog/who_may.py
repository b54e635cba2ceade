"""What each group may submit and decide: for the matrix of permissions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import selectinload

from skstack.accounts.models import Group
from skstack.catalog.models import ApprovalFlow, Environment, WorkOrder
from skstack.extensions import db


@dataclass(frozen=True, slots=True)
class Decides:
    """A level of an approval flow that a group decides."""

    flow: ApprovalFlow
    level: int


@dataclass(frozen=True, slots=True)
class Reach:
    """What one group may submit and decide. `group` None: work orders that no group may submit."""

    group: Group | None
    submits: Sequence[WorkOrder]
    decides: Sequence[Decides]


def reaches(*, text: str = "", environment: str = "") -> list[Reach]:
    """Return what the groups may do, by name, and last what is left to superusers. Seven statements at most.

    `text` is looked for in names of groups, of their members, of work orders and flows; a group that is found itself is
    shown whole. `environment` narrows the work orders to those of one environment, and leaves flows out.
    """
    text = text.casefold()
    groups = db.session.scalars(
        sa.select(Group).options(selectinload(Group.members)).order_by(Group.name)
    ).all()
    orders, flows = _workorders(environment), [] if environment else _flows()
    found = []
    for group in groups:
        names = (group.name, *(name for one in group.members for name in (one.username, one.display_name)))
        whole = any(text in name.casefold() for name in names)
        submits = [
            order
            for order in orders
            if group in order.submit_groups and (whole or text in order.name.casefold())
        ]
        decides = [
            Decides(flow, member.level)
            for flow in flows
            for member in flow.members
            if member.group_id == group.id and (whole or text in flow.name.casefold())
        ]
        if submits or decides or (whole and not environment):
            found.append(Reach(group, submits, decides))
    left = [order for order in orders if not order.submit_groups and text in order.name.casefold()]
    return [*found, Reach(None, left, ())] if left else found


def _workorders(environment: str) -> Sequence[WorkOrder]:
    statement = (
        sa.select(WorkOrder)
        .join(WorkOrder.environment)
        .where(WorkOrder.template.is_(False))
        .options(selectinload(WorkOrder.submit_groups), selectinload(WorkOrder.environment))
        .order_by(Environment.order, Environment.name, WorkOrder.name)
    )
    if environment:
        statement = statement.where(Environment.name == environment)
    return db.session.scalars(statement).all()


def _flows() -> Sequence[ApprovalFlow]:
    statement = (
        sa.select(ApprovalFlow).options(selectinload(ApprovalFlow.members)).order_by(ApprovalFlow.name)
    )
    return db.session.scalars(statement).all()
