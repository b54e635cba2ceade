"""The approval levels of a ticket: frozen when it is submitted, and refused then if nobody could decide one of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import selectinload

from skstack.accounts.models import Group, Page, User, user_groups
from skstack.catalog.models import ApprovalFlow
from skstack.errors import Conflict
from skstack.extensions import db
from skstack.messages import N_
from skstack.tickets.models import TicketLevel


def freeze(flow: ApprovalFlow | None, *, submitter: User) -> list[TicketLevel]:
    """Return the levels that a new ticket has to pass. Raises Conflict if one of them could never be decided."""
    if flow is None:
        return []
    possible = [
        {user.id for user in members if flow.allow_self_approval or user.id != submitter.id}
        for _, members in deciders(flow)
    ]
    for level, (group, people) in enumerate(zip(flow.levels, possible, strict=True), start=1):
        if not people:
            raise Conflict(
                N_(
                    "Level %(level)s of the approval flow %(flow)s is decided by %(group)s, and nobody in it could "
                    "decide yours. Ask an administrator to add somebody.",
                    level=level,
                    flow=flow.name,
                    group=group.name,
                )
            )
    if flow.distinct_approvers and not _can_differ(possible):
        raise Conflict(
            N_(
                "The approval flow %(flow)s wants another person for each level, and its groups have too few. Ask an "
                "administrator to add somebody.",
                flow=flow.name,
            )
        )
    return [
        TicketLevel(level=level, group_id=group.id, group_name=group.name)
        for level, group in enumerate(flow.levels, start=1)
    ]


def terms(flow: ApprovalFlow | None, now: dt.datetime) -> dict[str, Any]:
    """Return what a ticket keeps of its flow beside the levels, as columns."""
    if flow is None:
        return {}
    ends = now + dt.timedelta(hours=flow.expires_hours) if flow.expires_hours else None
    return {
        "approval_flow_name": flow.name,
        "allow_self_approval": flow.allow_self_approval,
        "distinct_approvers": flow.distinct_approvers,
        "decide_by": ends,
    }


def deciders(flow: ApprovalFlow) -> list[tuple[Group, list[User]]]:
    """Return each level's group with its active members whose roles, or being superuser, let them approve.

    Needs two statements.
    """
    groups = flow.levels
    statement = (
        sa.select(user_groups.c.group_id, User)
        .join(User, User.id == user_groups.c.user_id)
        .where(user_groups.c.group_id.in_({group.id for group in groups}), User.active)
        .options(selectinload(User.roles))
    )
    members = [(group_id, user) for group_id, user in db.session.execute(statement) if user.may(Page.APPROVE)]
    return [(group, [user for group_id, user in members if group_id == group.id]) for group in groups]


def _can_differ(possible: Sequence[set[int]]) -> bool:
    """Say whether each level can have a person of its own; there are three levels at most."""
    if not possible:
        return True
    first, *rest = possible
    return any(_can_differ([people - {person} for people in rest]) for person in first)
