"""Tickets: one submission of a work order each, with its frozen plan and everything that happened to it."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Mapped, column_property, mapped_column, relationship

from skstack.accounts.models import Group, User
from skstack.catalog.models import WorkOrder
from skstack.db import Encrypted, JsonColumn, UtcDateTime, utcnow
from skstack.extensions import Model
from skstack.messages import Message
from skstack.states import JobStatus, TicketStatus

if TYPE_CHECKING:
    from skstack.runs.models import Run

FOREGROUND, BACKGROUND = "foreground", "background"


class _NotEnded(sa.ColumnElement[dt.datetime]):
    """A time before every end that there is: what has not ended gets its place in the order of the ends by it.

    Each database writes it in its own way, in the text of the statement: an index over an expression knows no parameters.
    """

    inherit_cache = True
    type = UtcDateTime()


@compiles(_NotEnded)
def _write_not_ended(element: _NotEnded, compiler: Any, **options: Any) -> str:
    return "'0001-01-01 00:00:00+00'"


@compiles(_NotEnded, "sqlite")
def _write_not_ended_for_sqlite(element: _NotEnded, compiler: Any, **options: Any) -> str:
    return "'0001-01-01 00:00:00.000000'"


class Ticket(Model):
    """One submission. Names are copied, so that history reads the same after a rename.

    `values` maps each variable to its text, or its list of texts; a secret one to None. `secrets` holds those,
    encrypted, with the salt of their commitment in the plan. `plan` is the JSON of `skstack.tickets.plan.Plan`.
    """

    __tablename__ = "tickets"
    __table_args__ = (
        sa.UniqueConstraint("submitter_id", "idempotency_key"),
        sa.CheckConstraint("kind IN ('foreground', 'background')", name="kind"),
        sa.Index("ix_tickets_submitter_id_id", "submitter_id", "id"),
        sa.Index("ix_tickets_workorder_id_id", "workorder_id", "id"),
        sa.Index("ix_tickets_status_id", "status", "id"),
        sa.Index("ix_tickets_workorder_name_id", "workorder_name", "id"),
        sa.Index("ix_tickets_submitter_name_id", "submitter_name", "id"),
        sa.Index("ix_tickets_environment_name_id", "environment_name", "id"),
        sa.Index("ix_tickets_created_at", "created_at"),
        sa.Index("ix_tickets_submitter_id_created_at", "submitter_id", "created_at"),
        sa.Index("ix_tickets_ended_id", sa.func.coalesce(sa.column("finished_at"), _NotEnded()), "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    workorder_id: Mapped[int] = mapped_column(sa.ForeignKey("workorders.id"))
    workorder_name: Mapped[str] = mapped_column(sa.String(128))
    workorder_version: Mapped[int]
    environment_id: Mapped[int] = mapped_column(sa.ForeignKey("environments.id"), index=True)
    environment_name: Mapped[str] = mapped_column(sa.String(64))
    category_id: Mapped[int | None] = mapped_column(sa.ForeignKey("categories.id"), index=True)
    category_name: Mapped[str] = mapped_column(sa.String(64), default="")
    submitter_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"))
    submitter_name: Mapped[str] = mapped_column(sa.String(64))
    kind: Mapped[str] = mapped_column(sa.String(16), default=FOREGROUND)
    status: Mapped[str] = mapped_column(sa.String(16))
    job_status: Mapped[str | None] = mapped_column(sa.String(16))
    values: Mapped[dict[str, Any]] = mapped_column("submitted_values", JsonColumn, default=dict)
    secrets: Mapped[dict[str, Any] | None] = mapped_column(Encrypted, deferred=True)
    note: Mapped[str] = mapped_column(sa.Text, default="")
    scheduled_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    auto_run: Mapped[bool] = mapped_column(default=False)
    approval_flow_name: Mapped[str | None] = mapped_column(sa.String(64))
    allow_self_approval: Mapped[bool] = mapped_column(default=False)
    distinct_approvers: Mapped[bool] = mapped_column(default=False)
    decide_by: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    task_lock: Mapped[bool] = mapped_column(default=False)  # Whether it was submitted under a lock.
    plan: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    plan_digest: Mapped[str] = mapped_column(sa.String(64))
    idempotency_key: Mapped[str | None] = mapped_column(sa.String(128))
    request_digest: Mapped[str | None] = mapped_column(sa.String(64))
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    finished_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)

    workorder: Mapped[WorkOrder] = relationship()
    submitter: Mapped[User] = relationship()
    history: Mapped[list[TicketChange]] = relationship(order_by="TicketChange.id", back_populates="ticket")
    runs: Mapped[list[Run]] = relationship(order_by="Run.id", back_populates="ticket")
    levels: Mapped[list[TicketLevel]] = relationship(order_by="TicketLevel.level")
    decisions: Mapped[list[Decision]] = relationship(order_by="Decision.id", back_populates="ticket")

    # What history is sorted by: the end, or a time before all ends.
    ended: Mapped[dt.datetime] = column_property(sa.func.coalesce(finished_at, _NotEnded()), deferred=True)

    @property
    def state(self) -> TicketStatus:
        return TicketStatus(self.status)

    @property
    def job_state(self) -> JobStatus | None:
        return JobStatus(self.job_status) if self.job_status else None

    @property
    def next_level(self) -> TicketLevel | None:
        """Return the level whose decision the ticket waits for; None if it waits for none."""
        if not self.state.waits:
            return None
        return next((one for one in self.levels if one.level == self.state.level + 1), None)

    @property
    def is_approved(self) -> bool:
        """Say whether it waits for nobody's decision any more: for its time, or for somebody to start it."""
        return self.state.waits and self.state.level == len(self.levels)

    @property
    def decision_is_final(self) -> bool:
        """Say whether the last approval cannot be taken back: the system will start it by itself."""
        return self.is_approved and self.kind == BACKGROUND

    @property
    def task_name_created(self) -> str:
        """Return `NAME.YYYYmmdd.HHMMSS`, which plugins append to the names of their own log files."""
        return str(self.plan["environment"]["WO_sk__task_name_created"])


class TicketLevel(Model):
    """One level of the approval flow as it was at submission. Who is in the group is asked when it is decided."""

    __tablename__ = "ticket_levels"
    __table_args__ = (sa.CheckConstraint("level BETWEEN 1 AND 3", name="level"),)

    ticket_id: Mapped[int] = mapped_column(sa.ForeignKey("tickets.id"), primary_key=True)
    level: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    group_id: Mapped[int] = mapped_column(sa.ForeignKey("groups.id"), index=True)
    group_name: Mapped[str] = mapped_column(sa.String(64))

    group: Mapped[Group] = relationship()


class Decision(Model):
    """What somebody decided for one level. Rows are only added: a change of mind is one more."""

    __tablename__ = "decisions"
    __table_args__ = (
        sa.CheckConstraint("decision IN ('approved', 'rejected')", name="decision"),
        sa.Index("ix_decisions_by_id_id", "by_id", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(sa.ForeignKey("tickets.id"), index=True)
    level: Mapped[int]
    decision: Mapped[str] = mapped_column(sa.String(16))
    by_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"))
    by_name: Mapped[str] = mapped_column(sa.String(64))
    comment: Mapped[str] = mapped_column(sa.Text, default="")
    at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)

    ticket: Mapped[Ticket] = relationship(back_populates="decisions")


class TaskLock(Model):
    """Held by the one ticket of a work order that has not ended. The database lets nobody make a second."""

    __tablename__ = "task_locks"

    environment_id: Mapped[int] = mapped_column(
        sa.ForeignKey("environments.id"), primary_key=True, autoincrement=False
    )
    workorder_name: Mapped[str] = mapped_column(sa.String(128), primary_key=True)
    ticket_id: Mapped[int] = mapped_column(sa.ForeignKey("tickets.id"), unique=True)


class BreakGlass(Model):
    """A start within a freeze window, by a superuser who said why. Somebody else looks at it afterwards."""

    __tablename__ = "break_glass"

    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(sa.ForeignKey("tickets.id"), index=True)
    window_name: Mapped[str] = mapped_column(sa.String(64))
    by_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"))
    reason: Mapped[str] = mapped_column(sa.Text)
    at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    reviewed_by_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))
    reviewed_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    review: Mapped[str] = mapped_column(sa.Text, default="")

    ticket: Mapped[Ticket] = relationship()
    by: Mapped[User] = relationship(foreign_keys=by_id)
    reviewed_by: Mapped[User | None] = relationship(foreign_keys=reviewed_by_id)


class TicketChange(Model):
    """One change of a ticket's status, or of its job's: what it was, what it became, by whom and why."""

    __tablename__ = "ticket_changes"

    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(sa.ForeignKey("tickets.id"), index=True)
    at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    before: Mapped[str | None] = mapped_column(sa.String(16))
    after: Mapped[str] = mapped_column(sa.String(16))
    job_before: Mapped[str | None] = mapped_column(sa.String(16))
    job_after: Mapped[str | None] = mapped_column(sa.String(16))
    actor_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))
    reason: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)

    ticket: Mapped[Ticket] = relationship(back_populates="history")
    actor: Mapped[User | None] = relationship()

    @property
    def reason_message(self) -> Message | None:
        return Message.from_json(self.reason) if self.reason else None
