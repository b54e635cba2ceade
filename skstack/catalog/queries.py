"""Reads for the configuration's pages. Each needs one statement, and one more for each relationship shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import selectinload

from skstack.accounts.models import Group
from skstack.catalog.kinds import ORDERED, kind_of
from skstack.catalog.models import (
    Category,
    ConfigCenter,
    Environment,
    Variable,
    VariableGroup,
    VariableGroupMember,
    WorkOrder,
)
from skstack.errors import NotFound
from skstack.extensions import db

Thing = TypeVar("Thing", bound=Any)

MOST = 100


@dataclass(frozen=True, slots=True)
class NamedPage:
    """One page of a list in the order of names. `next` is the name it ends with, if there is more."""

    items: Sequence[Any]
    next: str | None
    newer: bool


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list is narrowed to. Ids are names, so that an address can be read and shared."""

    text: str = ""
    environment: str = ""
    category: str = ""
    state: str = ""
    after: str = ""

    @property
    def any(self) -> bool:
        return bool(self.text or self.environment or self.category or self.state)


def get(model: type[Thing], thing_id: int) -> Thing:
    """Return one object. Raises NotFound."""
    found = db.session.get(model, thing_id)
    if found is None:
        raise NotFound
    return found


def listed(model: type[Any], filters: Filters, *, template: bool = False) -> NamedPage:
    """Return one page of a list. Work orders or templates, as `template` says."""
    statement = sa.select(model)
    if filters.text:
        fits = [column.icontains(filters.text, autoescape=True) for column in _searched(model)]
        statement = statement.where(sa.or_(*fits))
    if filters.environment and hasattr(model, "environment"):
        statement = statement.where(model.environment.has(name=filters.environment))
    if filters.category and hasattr(model, "category"):
        statement = statement.where(model.category.has(name=filters.category))
    if model is WorkOrder:
        statement = statement.where(WorkOrder.template.is_(template))
        if filters.state:
            statement = statement.where(WorkOrder.active.is_(filters.state == "active"))
    if filters.after:
        statement = statement.where(model.name > filters.after)
    for name in (*kind_of(model).references, *kind_of(model).lists):
        relationship = model.members if name in ORDERED else getattr(model, name)
        statement = statement.options(selectinload(relationship))
    rows = db.session.scalars(statement.order_by(model.name).limit(MOST + 1)).unique().all()
    items = rows[:MOST]
    return NamedPage(items, items[-1].name if len(rows) > MOST else None, bool(filters.after))


def _searched(model: type[Any]) -> list[Any]:
    columns = [model.name, model.description]
    further = {
        ConfigCenter: (ConfigCenter.host,),
        Variable: (Variable.label, Variable.script),
        WorkOrder: (WorkOrder.pre_task, WorkOrder.main_task, WorkOrder.post_task),
    }
    return [*columns, *further.get(model, ())]


def environments() -> Sequence[Environment]:
    """Return all environments in the order of their tabs."""
    return db.session.scalars(sa.select(Environment).order_by(Environment.order, Environment.name)).all()


def all_named(model: type[Thing]) -> Sequence[Thing]:
    """Return every object of a kind, by name: for the selects of forms."""
    return db.session.scalars(sa.select(model).order_by(model.name)).unique().all()


def categories() -> Sequence[Category]:
    return all_named(Category)


def groups() -> Sequence[Group]:
    return all_named(Group)


def groups_with(variable: Variable) -> Sequence[VariableGroup]:
    """Return the variable groups that hold a variable."""
    return db.session.scalars(
        sa.select(VariableGroup)
        .join(VariableGroupMember, VariableGroupMember.group_id == VariableGroup.id)
        .where(VariableGroupMember.variable_id == variable.id)
        .order_by(VariableGroup.name)
    ).all()


def workorders_with(variable: Variable) -> Sequence[WorkOrder]:
    """Return the work orders and templates whose form has a variable."""
    group_ids = sa.select(VariableGroupMember.group_id).where(VariableGroupMember.variable_id == variable.id)
    return db.session.scalars(
        sa.select(WorkOrder).where(WorkOrder.variable_group_id.in_(group_ids)).order_by(WorkOrder.name)
    ).all()
