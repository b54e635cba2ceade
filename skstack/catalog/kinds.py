"""What the catalog is made of, as one table: for audit events, for the catalog file, for what depends on what."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from skstack.accounts.models import Group, Role, User
from skstack.audit.services import MASK
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
from skstack.extensions import db
from skstack.messages import N_, Message


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object: its columns, what it refers to by name, and its secrets.

    `type` stands in audit events, `section` in the catalog file, `key` is the attribute that names one.
    """

    model: type[Any]
    type: str
    section: str
    label: Message
    named: str  # The message's text when one of them is named: "work order %(name)s".
    fields: tuple[str, ...]
    references: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    key: str = "name"

    def name_of(self, thing: Any) -> str:
        return str(getattr(thing, self.key))

    def message(self, thing: Any) -> Message:
        """Return how people read it, such as `work order site`."""
        return Message(self.named, {"name": self.name_of(thing)})


# In the order in which they can be made: each refers only to those above it.
KINDS: tuple[Kind, ...] = (
    Kind(
        Environment,
        "environment",
        "environments",
        N_("Environment"),
        N_("environment %(name)s").text,
        ("name", "order", "description"),
    ),
    Kind(
        Category,
        "category",
        "categories",
        N_("Category"),
        N_("category %(name)s").text,
        ("name", "description", "retention_days", "retention_megabytes", "log_directory"),
    ),
    Kind(Group, "group", "groups", N_("Group"), N_("group %(name)s").text, ("name", "description")),
    Kind(Role, "role", "roles", N_("Role"), N_("role %(name)s").text, ("name", "description", "pages")),
    Kind(
        User,
        "user",
        "users",
        N_("User"),
        N_("user %(name)s").text,
        ("username", "display_name", "email"),
        lists=("groups", "roles"),
        key="username",
    ),
    Kind(
        ConfigCenter,
        "config_center",
        "config_centers",
        N_("Config center"),
        N_("config center %(name)s").text,
        ("name", "description", "host", "port", "username", "login", "host_key"),
        secrets=("password", "private_key", "passphrase"),
    ),
    Kind(
        Variable,
        "variable",
        "variables",
        N_("Variable"),
        N_("variable %(name)s").text,
        (
            "name",
            "label",
            "description",
            "source",
            "script",
            "choices",
            "widget",
            "required",
            "default",
            "help",
            "pattern",
            "pattern_message",
            "min_length",
            "max_length",
            "strict",
            "secret",
            "delimiter",
            "one_argument_each",
            "allow_leading_dash",
        ),
        references=("environment", "category"),
    ),
    Kind(
        VariableGroup,
        "variable_group",
        "variable_groups",
        N_("Variable group"),
        N_("variable group %(name)s").text,
        ("name", "description"),
        references=("environment", "category"),
        lists=("variables",),
    ),
    Kind(
        ApprovalFlow,
        "approval_flow",
        "approval_flows",
        N_("Approval flow"),
        N_("approval flow %(name)s").text,
        ("name", "description", "allow_self_approval", "distinct_approvers", "expires_hours"),
        lists=("levels",),
    ),
    Kind(
        FreezeWindow,
        "freeze_window",
        "freeze_windows",
        N_("Freeze window"),
        N_("freeze window %(name)s").text,
        ("name", "description", "starts_at", "ends_at"),
        references=("environment",),
    ),
    Kind(
        WorkOrder,
        "workorder",
        "work_orders",
        N_("Work order"),
        N_("work order %(name)s").text,
        (
            "name",
            "description",
            "active",
            "template",
            "builtin_variables",
            "variable_group_on",
            "pre_task",
            "main_task",
            "post_task",
            "time_limit",
            "allow_several",
            "scheduling",
            "background_choice",
            "auto_run_choice",
            "task_lock",
        ),
        references=("environment", "category", "variable_group", "config_center", "approval_flow"),
        lists=("submit_groups",),
    ),
)

# Lists whose order means something, all others are sets.
ORDERED = ("variables", "levels")

_BY_MODEL = {kind.model: kind for kind in KINDS}


def kind_of(thing: Any) -> Kind:
    """Return the kind of an object, or of a model."""
    return _BY_MODEL[thing if isinstance(thing, type) else type(thing)]


@dataclass(frozen=True, slots=True)
class State:
    """What an object was like at one moment: what may be shown, and the secrets beside it."""

    shown: Mapping[str, Any]
    secrets: Mapping[str, Any]

    @classmethod
    def of(cls, thing: Any) -> State:
        kind = kind_of(thing)
        shown: dict[str, Any] = {}
        for field in kind.fields:
            shown[field] = _plain(getattr(thing, field))
        for field in kind.references:
            other = getattr(thing, field)
            shown[field] = None if other is None else other.name
        for field in kind.lists:
            names = [kind_of(other).name_of(other) for other in getattr(thing, field)]
            shown[field] = names if field in ORDERED else sorted(names)
        return cls(shown, {field: getattr(thing, field) for field in kind.secrets})

    @property
    def masked(self) -> dict[str, Any]:
        """Return everything for an audit event; of a secret only whether there is one."""
        return {**self.shown, **{field: MASK if value else None for field, value in self.secrets.items()}}

    def difference(self, after: State) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the fields that changed, before and after, secrets masked."""
        changed = [field for field in self.shown if self.shown[field] != after.shown[field]]
        changed += [field for field in self.secrets if self.secrets[field] != after.secrets[field]]
        before, now = self.masked, after.masked
        return {field: before[field] for field in changed}, {field: now[field] for field in changed}


def _plain(value: Any) -> Any:
    """Return a value as JSON and the catalog file have it: a copy, and a time as RFC 3339 in UTC."""
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
    return list(value) if isinstance(value, list) else dict(value) if isinstance(value, dict) else value


def dependents(thing: Any) -> list[Message]:
    """Return what would be left without `thing`: catalog objects by name, everything else by count.

    Walks the foreign keys, so that a table of a later feature is not forgotten.
    """
    found: list[Message] = []
    for table in sorted(db.metadata.tables.values(), key=lambda table: table.name):
        for key in table.foreign_keys:
            if key.column.table is not sa.inspect(type(thing)).local_table or _goes_with_it(key):
                continue
            found += _referring(table, key.parent, thing)
    return found


def _goes_with_it(key: sa.ForeignKey) -> bool:
    return (key.ondelete or "").upper() in ("CASCADE", "SET NULL")


_MOST_NAMED = 5


def _referring(table: sa.Table, column: sa.Column[Any], thing: Any) -> list[Message]:
    # A row of a membership table stands for its owner: the other key of the pair.
    owner = _OWNERS.get(table.name)
    kind = next((kind for kind in KINDS if sa.inspect(kind.model).local_table is table), None)
    if owner is not None:
        kind = kind_of(owner[0])
        statement = (
            sa.select(kind.model).join(table, table.c[owner[1]] == kind.model.id).where(column == thing.id)
        )
    elif kind is not None:
        statement = sa.select(kind.model).where(column == thing.id)
    else:
        count = (
            db.session.scalar(sa.select(sa.func.count()).select_from(table).where(column == thing.id)) or 0
        )
        return [_counted(table.name, count)] if count else []
    rows = (
        db.session.scalars(statement.order_by(getattr(kind.model, kind.key)).limit(_MOST_NAMED + 1))
        .unique()
        .all()
    )
    named = [kind.message(row) for row in rows[:_MOST_NAMED]]
    return [*named, N_("and more")] if len(rows) > _MOST_NAMED else named


_OWNERS: Mapping[str, tuple[type[Any], str]] = {
    "variable_group_members": (VariableGroup, "group_id"),
    "approval_levels": (ApprovalFlow, "flow_id"),
    "workorder_submit_groups": (WorkOrder, "workorder_id"),
}


def _counted(table: str, count: int) -> Message:
    if table in ("tickets", "ticket_levels"):
        return N_("its tickets (%(count)s), which are kept as history", count=count)
    if table == "schedules":
        return N_("its schedules (%(count)s)", count=count)
    if table == "schedule_occurrences":
        return N_("times of its schedules (%(count)s), which are kept as history", count=count)
    return N_("%(count)s rows of %(table)s", count=count, table=table)


def listed(messages: Iterable[Message]) -> Message | None:
    """Join messages with commas, so that each part is still translated. None for none."""
    parts = list(messages)
    if not parts:
        return None
    joined = parts[0]
    for part in parts[1:]:
        joined = N_("%(first)s, %(second)s", first=joined, second=part)
    return joined
