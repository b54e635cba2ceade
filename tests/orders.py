"""Work orders for tests, with what belongs to them: plain functions, to be called within an application context.

What has a name is made when it is first asked for. Everything passes the catalog's own checks.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from skstack.accounts.models import User
from skstack.catalog import services
from skstack.catalog.models import (
    ApprovalFlow,
    Category,
    ConfigCenter,
    Environment,
    FreezeWindow,
    Variable,
    VariableGroup,
    WorkOrder,
)
from skstack.db import transaction
from skstack.extensions import db
from skstack.notifications import tasks as notification_tasks  # noqa: F401
from skstack.runs import tasks  # noqa: F401  # Registers what a submission rings for.
from skstack.schedules import tasks as schedule_tasks  # noqa: F401
from skstack.tickets.models import Ticket
from skstack.tickets.services import submit
from tests.factories import make_group

_numbers = itertools.count(1)


def make_environment(name: str = "DEV", **columns: Any) -> Environment:
    return _named(Environment, name, **columns)


def make_category(name: str = "DeployGit", **columns: Any) -> Category:
    return _named(Category, name, **columns)


def make_config_center(name: str = "", **columns: Any) -> ConfigCenter:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEs9xN9YyVYG0Sg2cYkQwTn0Vl1Pi1cs1l1VY2Qm5x9z"
    given = {"host": "192.0.2.7", "username": "deploy", "host_key": key, **columns}
    return _named(ConfigCenter, name or f"center{next(_numbers)}", **given)


def make_variable(name: str, **columns: Any) -> Variable:
    """Return the variable called `name`: typed text, unless `columns` say otherwise."""
    return _named(Variable, name, **columns)


def script_variable(name: str, script: str, **columns: Any) -> Variable:
    """Return a variable whose choices `script` prints."""
    return make_variable(name, **{"source": "script", "widget": "select", "script": script, **columns})


def list_variable(name: str, *choices: str, **columns: Any) -> Variable:
    """Return a variable with these choices."""
    return make_variable(name, **{"source": "list", "widget": "select", "choices": list(choices), **columns})


def make_workorder(
    name: str = "",
    *,
    groups: Collection[str] = ("ops",),
    environment: str = "DEV",
    category: str | None = None,
    variables: Sequence[Variable] = (),
    main_task: str = "echo done",
    **columns: Any,
) -> WorkOrder:
    """Return a new active work order that Alice may submit."""
    name = name or f"order{next(_numbers)}"
    values = {
        "name": name,
        "environment": make_environment(environment),
        "category": make_category(category) if category else None,
        "submit_groups": [make_group(group) for group in groups],
        "variable_group": make_variable_group(f"{name}-variables", variables) if variables else None,
        "main_task": main_task,
        "active": not columns.get("template", False),
        **columns,
    }
    return services.create(WorkOrder, values, actor=None)


def make_variable_group(name: str, variables: Sequence[Variable]) -> VariableGroup:
    return services.create(VariableGroup, {"name": name, "variables": list(variables)}, actor=None)


def make_ticket(actor: User, workorder: WorkOrder | None = None, **submission: Any) -> Ticket:
    """Return a new ticket of `actor`; its first run waits in the queue."""
    return submit(actor=actor, workorder=workorder or make_workorder(), **{"values": {}, **submission})


def _named(model: type[Any], name: str, **columns: Any) -> Any:
    found = db.session.scalar(sa.select(model).where(model.name == name))
    return found or services.create(model, {"name": name, **columns}, actor=None)


def make_flow(*groups: str, name: str = "", **columns: Any) -> ApprovalFlow:
    """Return a new approval flow whose levels these groups decide, in order."""
    levels = [make_group(group) for group in groups]
    with transaction():
        flow = ApprovalFlow(name=name or f"flow{next(_numbers)}", levels=levels, **columns)
        db.session.add(flow)
    return flow


def make_freeze(environment: str = "DEV", *, starts_at: dt.datetime, ends_at: dt.datetime) -> FreezeWindow:
    """Return a new freeze window of an environment."""
    with transaction():
        window = FreezeWindow(
            name=f"freeze{next(_numbers)}",
            environment=make_environment(environment),
            starts_at=starts_at,
            ends_at=ends_at,
        )
        db.session.add(window)
    return window
