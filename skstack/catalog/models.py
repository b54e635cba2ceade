"""The catalog: everything an administrator describes so that people can submit tickets."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.orderinglist import ordering_list
from sqlalchemy.orm import Mapped, mapped_column, relationship

from skstack.accounts.models import Group, User
from skstack.db import Encrypted, JsonColumn, UtcDateTime, utcnow
from skstack.extensions import Model, db
from skstack.messages import N_, Message

VARIABLE_NAME = r"[A-Za-z_][A-Za-z0-9_]{0,63}"
SYSTEM_VARIABLES = ("sk__name", "sk__env", "sk__task_name_created")


class Source(StrEnum):
    """Where a variable's values come from."""

    SCRIPT = "script"
    LIST = "list"
    INPUT = "input"

    @property
    def label(self) -> Message:
        return {"script": N_("Script"), "list": N_("List"), "input": N_("Input")}[self.value]


class Widget(StrEnum):
    """How a variable is shown. The words are those of the catalog file."""

    SELECT = "select"
    RADIO = "radio"
    MULTISELECT = "multiselect"
    CHECKBOXES = "checkboxes"
    TEXT = "text"
    TEXTAREA = "textarea"

    @property
    def label(self) -> Message:
        return _WIDGET_LABELS[self]

    @property
    def is_choice(self) -> bool:
        return self not in (Widget.TEXT, Widget.TEXTAREA)

    @property
    def takes_several(self) -> bool:
        return self in (Widget.MULTISELECT, Widget.CHECKBOXES)


_WIDGET_LABELS = {
    Widget.SELECT: N_("Select, searchable"),
    Widget.RADIO: N_("Radio buttons"),
    Widget.MULTISELECT: N_("Multi-select, searchable"),
    Widget.CHECKBOXES: N_("Checkboxes"),
    Widget.TEXT: N_("One line of text"),
    Widget.TEXTAREA: N_("Several lines of text"),
}


class Login(StrEnum):
    """How skstack signs in to a config center."""

    PASSWORD = "password"  # noqa: S105 - a name, not a password
    KEY = "key"
    AGENT = "agent"

    @property
    def label(self) -> Message:
        return {
            "password": N_("Password"),
            "key": N_("Private key"),
            "agent": N_("SSH agent or keys of the worker's own user"),
        }[self.value]


class Versioned:
    """Counts saves, so that a form that was opened before somebody else's save is noticed."""

    version: Mapped[int] = mapped_column(default=1)


class Environment(Versioned, Model):
    """`PROD`, `STAGE`, …: every list has one tab for each, in this order."""

    __tablename__ = "environments"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(64), unique=True)
    order: Mapped[int] = mapped_column("sort_order", default=100)
    description: Mapped[str] = mapped_column(sa.Text, default="")


class Category(Versioned, Model):
    """What kind of work: `DeployDocker`, `DeployGit`, …; and how long the output of that work is kept.

    None for a limit is what the settings `retention_days` and `retention_size` say, 0 that there is none. `log_directory`
    is where plugins write log files of their own, on the host that they run on; empty if they do not.
    """

    __tablename__ = "categories"
    __table_args__ = (
        sa.CheckConstraint("retention_days >= 0", name="retention_days"),
        sa.CheckConstraint("retention_megabytes >= 0", name="retention_megabytes"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(64), unique=True)
    description: Mapped[str] = mapped_column(sa.Text, default="")
    retention_days: Mapped[int | None]
    retention_megabytes: Mapped[int | None]
    log_directory: Mapped[str] = mapped_column(sa.String(1024), default="", server_default="")


class ConfigCenter(Versioned, Model):
    """A host that commands run on, over SSH. Only `host_key`, once accepted, is trusted."""

    __tablename__ = "config_centers"
    __table_args__ = (sa.CheckConstraint("port BETWEEN 1 AND 65535", name="port"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(64), unique=True)
    host: Mapped[str] = mapped_column(sa.String(255))
    port: Mapped[int] = mapped_column(default=22)
    username: Mapped[str] = mapped_column(sa.String(64))
    login: Mapped[str] = mapped_column(sa.String(16), default=Login.AGENT)
    password: Mapped[str | None] = mapped_column(Encrypted)
    private_key: Mapped[str | None] = mapped_column(Encrypted)
    passphrase: Mapped[str | None] = mapped_column(Encrypted)
    host_key: Mapped[str | None] = mapped_column(sa.Text)  # As in known_hosts: "ssh-ed25519 AAAA…"
    description: Mapped[str] = mapped_column(sa.Text, default="")
    verified_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)

    @property
    def address(self) -> str:
        return f"{self.username}@{self.host}:{self.port}"


class Variable(Versioned, Model):
    """One input of a submit form."""

    __tablename__ = "variables"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(64), unique=True)
    label: Mapped[str] = mapped_column(sa.String(128), default="")
    description: Mapped[str] = mapped_column(sa.Text, default="")
    environment_id: Mapped[int | None] = mapped_column(sa.ForeignKey("environments.id"), index=True)
    category_id: Mapped[int | None] = mapped_column(sa.ForeignKey("categories.id"), index=True)
    source: Mapped[str] = mapped_column(sa.String(16), default=Source.INPUT)
    widget: Mapped[str] = mapped_column(sa.String(16), default=Widget.TEXT)
    script: Mapped[str] = mapped_column(sa.Text, default="")
    choices: Mapped[list[str]] = mapped_column(JsonColumn, default=list)
    required: Mapped[bool] = mapped_column(default=False)
    default: Mapped[str] = mapped_column("default_value", sa.Text, default="")
    help: Mapped[str] = mapped_column(sa.Text, default="")
    pattern: Mapped[str] = mapped_column(sa.Text, default="")
    pattern_message: Mapped[str] = mapped_column(sa.Text, default="")
    strict: Mapped[bool] = mapped_column(default=False)
    min_length: Mapped[int | None]
    max_length: Mapped[int | None]
    secret: Mapped[bool] = mapped_column(default=False)
    delimiter: Mapped[str] = mapped_column(sa.String(16), default=",")
    one_argument_each: Mapped[bool] = mapped_column(default=False)
    allow_leading_dash: Mapped[bool] = mapped_column(default=False)

    environment: Mapped[Environment | None] = relationship()
    category: Mapped[Category | None] = relationship()

    @property
    def title(self) -> str:
        return self.label or self.name

    @property
    def takes_several(self) -> bool:
        return Widget(self.widget).takes_several


class VariableGroup(Versioned, Model):
    """An ordered set of variables that several work orders can share."""

    __tablename__ = "variable_groups"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(64), unique=True)
    description: Mapped[str] = mapped_column(sa.Text, default="")
    environment_id: Mapped[int | None] = mapped_column(sa.ForeignKey("environments.id"), index=True)
    category_id: Mapped[int | None] = mapped_column(sa.ForeignKey("categories.id"), index=True)

    environment: Mapped[Environment | None] = relationship()
    category: Mapped[Category | None] = relationship()
    members: Mapped[list[VariableGroupMember]] = relationship(
        order_by="VariableGroupMember.position",
        collection_class=ordering_list("position"),
        cascade="all, delete-orphan",
    )

    @property
    def variables(self) -> list[Variable]:
        return [member.variable for member in self.members]

    @variables.setter
    def variables(self, variables: list[Variable]) -> None:
        kept = {member.variable_id: member for member in self.members}
        self.members = [
            kept.get(variable.id) or VariableGroupMember(variable=variable) for variable in variables
        ]
        for position, member in enumerate(self.members):
            member.position = position


class VariableGroupMember(Model):
    """The place of one variable in one group."""

    __tablename__ = "variable_group_members"

    group_id: Mapped[int] = mapped_column(
        sa.ForeignKey("variable_groups.id", ondelete="CASCADE"), primary_key=True
    )
    variable_id: Mapped[int] = mapped_column(sa.ForeignKey("variables.id"), primary_key=True, index=True)
    position: Mapped[int] = mapped_column(default=0)

    variable: Mapped[Variable] = relationship(lazy="joined")


class ApprovalFlow(Versioned, Model):
    """Who has to agree before something runs: one to three levels, each a group of which one member decides."""

    __tablename__ = "approval_flows"
    __table_args__ = (sa.CheckConstraint("expires_hours > 0", name="expires_hours"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(64), unique=True)
    description: Mapped[str] = mapped_column(sa.Text, default="")
    allow_self_approval: Mapped[bool] = mapped_column(default=False)
    distinct_approvers: Mapped[bool] = mapped_column(default=False)
    expires_hours: Mapped[int | None]  # Hours after the submission; None: it waits as long as it takes.

    members: Mapped[list[ApprovalLevel]] = relationship(
        order_by="ApprovalLevel.level", cascade="all, delete-orphan"
    )

    @property
    def levels(self) -> list[Group]:
        """Return the group of each level, the first first."""
        return [member.group for member in self.members]

    @levels.setter
    def levels(self, groups: list[Group]) -> None:
        kept = {member.level: member for member in self.members}
        self.members = [kept.get(level) or ApprovalLevel(level=level) for level in range(1, len(groups) + 1)]
        for member, group in zip(self.members, groups, strict=True):
            member.group = group


class ApprovalLevel(Model):
    """One level of one flow."""

    __tablename__ = "approval_levels"
    __table_args__ = (sa.CheckConstraint("level BETWEEN 1 AND 3", name="level"),)

    flow_id: Mapped[int] = mapped_column(
        sa.ForeignKey("approval_flows.id", ondelete="CASCADE"), primary_key=True
    )
    level: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    group_id: Mapped[int] = mapped_column(sa.ForeignKey("groups.id"), index=True)

    group: Mapped[Group] = relationship(lazy="joined")


class FreezeWindow(Versioned, Model):
    """A time in which nothing is started in an environment, neither by people nor by the system."""

    __tablename__ = "freeze_windows"
    __table_args__ = (sa.CheckConstraint("ends_at > starts_at", name="order"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(64), unique=True)
    description: Mapped[str] = mapped_column(sa.Text, default="")
    environment_id: Mapped[int] = mapped_column(sa.ForeignKey("environments.id"), index=True)
    starts_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    ends_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)

    environment: Mapped[Environment] = relationship()


workorder_submit_groups = sa.Table(
    "workorder_submit_groups",
    db.metadata,
    sa.Column("workorder_id", sa.ForeignKey("workorders.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("group_id", sa.ForeignKey("groups.id"), primary_key=True, index=True),
)


class WorkOrder(Versioned, Model):
    """The definition of a job: who may submit it, what they fill in, what runs where.

    A template is a work order that nobody can submit and that administrators copy from.
    """

    __tablename__ = "workorders"
    __table_args__ = (
        sa.CheckConstraint("NOT (active AND template)", name="template_inactive"),
        sa.CheckConstraint("time_limit > 0", name="time_limit"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(128), unique=True)
    description: Mapped[str] = mapped_column(sa.Text, default="")
    environment_id: Mapped[int] = mapped_column(sa.ForeignKey("environments.id"), index=True)
    category_id: Mapped[int | None] = mapped_column(sa.ForeignKey("categories.id"), index=True)
    active: Mapped[bool] = mapped_column(default=False)
    template: Mapped[bool] = mapped_column(default=False)
    builtin_variables: Mapped[dict[str, Any]] = mapped_column(JsonColumn, default=dict)
    variable_group_id: Mapped[int | None] = mapped_column(sa.ForeignKey("variable_groups.id"), index=True)
    variable_group_on: Mapped[bool] = mapped_column(default=True)
    pre_task: Mapped[str] = mapped_column(sa.Text, default="")
    main_task: Mapped[str] = mapped_column(sa.Text, default="")
    post_task: Mapped[str] = mapped_column(sa.Text, default="")
    config_center_id: Mapped[int | None] = mapped_column(sa.ForeignKey("config_centers.id"), index=True)
    time_limit: Mapped[int] = mapped_column(default=3600)
    allow_several: Mapped[bool] = mapped_column(default=True)
    approval_flow_id: Mapped[int | None] = mapped_column(sa.ForeignKey("approval_flows.id"), index=True)
    scheduling: Mapped[bool] = mapped_column(default=False)
    background_choice: Mapped[bool] = mapped_column(default=False)
    auto_run_choice: Mapped[bool] = mapped_column(default=False)
    task_lock: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    updated_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)

    environment: Mapped[Environment] = relationship()
    category: Mapped[Category | None] = relationship()
    variable_group: Mapped[VariableGroup | None] = relationship()
    config_center: Mapped[ConfigCenter | None] = relationship()
    approval_flow: Mapped[ApprovalFlow | None] = relationship()
    submit_groups: Mapped[list[Group]] = relationship(secondary=workorder_submit_groups, order_by=Group.name)

    @property
    def variables(self) -> list[Variable]:
        """Return what the submit form asks for, in its order."""
        if self.variable_group is None or not self.variable_group_on:
            return []
        return self.variable_group.variables

    def can_be_submitted_by(self, user: User) -> bool:
        return self.active and not self.template and (user.superuser or user.is_in(self.submit_groups))
