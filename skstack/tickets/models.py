"""Tickets: one submission of a work order each, with its frozen plan and everything that happened to it."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from skstack.accounts.models import User
from skstack.catalog.models import WorkOrder
from skstack.db import Encrypted, JsonColumn, UtcDateTime, utcnow
from skstack.extensions import Model
from skstack.messages import Message
from skstack.states import JobStatus, TicketStatus

if TYPE_CHECKING:
    from skstack.runs.models import Run

FOREGROUND, BACKGROUND = "foreground", "background"


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

    @property
    def state(self) -> TicketStatus:
        return TicketStatus(self.status)

    @property
    def job_state(self) -> JobStatus | None:
        return JobStatus(self.job_status) if self.job_status else None

    @property
    def task_name_created(self) -> str:
        """Return `NAME.YYYYmmdd.HHMMSS`, which plugins append to the names of their own log files."""
        return str(self.plan["environment"]["WO_sk__task_name_created"])


class TicketChange(Model):
    """One change of a ticket's status: what it was, what it became, by whom and why."""

    __tablename__ = "ticket_changes"

    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(sa.ForeignKey("tickets.id"), index=True)
    at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    before: Mapped[str | None] = mapped_column(sa.String(16))
    after: Mapped[str] = mapped_column(sa.String(16))
    actor_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))
    reason: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)

    ticket: Mapped[Ticket] = relationship(back_populates="history")
    actor: Mapped[User | None] = relationship()

    @property
    def reason_message(self) -> Message | None:
        return Message.from_json(self.reason) if self.reason else None
