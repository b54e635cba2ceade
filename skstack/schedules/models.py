"""Schedules: a work order that somebody has submitted again and again, and what became of each of its times."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from skstack.accounts.models import Page, User
from skstack.catalog.models import Versioned, WorkOrder
from skstack.db import Encrypted, JsonColumn, UtcDateTime, utcnow
from skstack.extensions import Model
from skstack.messages import N_, Message
from skstack.tickets.models import Ticket


class Outcome(StrEnum):
    """What became of one time of a schedule."""

    DUE = "due"
    STARTED = "started"
    SKIPPED = "skipped"
    REFUSED = "refused"
    MISSED = "missed"

    @property
    def label(self) -> Message:
        return _OUTCOME_LABELS[self]


_OUTCOME_LABELS = {
    Outcome.DUE: N_("due"),
    Outcome.STARTED: N_("submitted"),
    Outcome.SKIPPED: N_("skipped"),
    Outcome.REFUSED: N_("refused"),
    Outcome.MISSED: N_("missed"),
}


class Schedule(Versioned, Model):
    """What is submitted by itself, when, and as whom: the owner.

    `values` and `secrets` are as a ticket has them, by variable. `next_at` is the next time, or the one that is due; it is
    None while paused, and if the expression never comes true again. `failures` counts refusals in a row.
    """

    __tablename__ = "schedules"
    __table_args__ = (
        sa.UniqueConstraint("owner_id", "name"),
        sa.CheckConstraint("paused_at IS NULL OR next_at IS NULL", name="paused"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(64))
    owner_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"))
    workorder_id: Mapped[int] = mapped_column(sa.ForeignKey("workorders.id"), index=True)
    values: Mapped[dict[str, Any]] = mapped_column("submitted_values", JsonColumn, default=dict)
    secrets: Mapped[dict[str, Any] | None] = mapped_column(Encrypted, deferred=True)
    note: Mapped[str] = mapped_column(sa.Text, default="")
    expression: Mapped[str] = mapped_column(sa.String(100))
    timezone: Mapped[str] = mapped_column(sa.String(64))
    next_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime, index=True)
    paused_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    pause_reason: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)
    failures: Mapped[int] = mapped_column(default=0)
    last_ticket_id: Mapped[int | None] = mapped_column(sa.ForeignKey("tickets.id"))
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    updated_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)

    owner: Mapped[User] = relationship()
    workorder: Mapped[WorkOrder] = relationship()
    last_ticket: Mapped[Ticket | None] = relationship()

    @property
    def is_paused(self) -> bool:
        return self.paused_at is not None

    @property
    def pause_message(self) -> Message | None:
        return Message.from_json(self.pause_reason) if self.pause_reason else None

    @property
    def submission(self) -> dict[str, Any]:
        """Return the values to submit, secret ones with what they hide."""
        return {**self.values, **(self.secrets or {})}

    def can_be_seen_by(self, user: User) -> bool:
        return bool(user.superuser or self.owner_id == user.id)

    def obstacle(self) -> Message | None:
        """Return why the owner could not submit the work order now, or None."""
        return obstacle(self.owner, self.workorder)


class Occurrence(Model):
    """One time of a schedule that has come, or `count` of them that were missed together: then the last of those.

    `actor` is who owned the schedule then. `tried_at` is when a worker last began to submit it.
    """

    __tablename__ = "schedule_occurrences"
    __table_args__ = (
        sa.UniqueConstraint("schedule_id", "planned_at"),
        sa.CheckConstraint("outcome IN ('due', 'started', 'skipped', 'refused', 'missed')", name="outcome"),
        sa.Index("ix_schedule_occurrences_schedule_id_id", "schedule_id", "id"),
        sa.Index("ix_schedule_occurrences_outcome_id", "outcome", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    schedule_id: Mapped[int] = mapped_column(sa.ForeignKey("schedules.id", ondelete="CASCADE"))
    actor_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"))
    planned_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    count: Mapped[int] = mapped_column(default=1)
    taken_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    tried_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    outcome: Mapped[str] = mapped_column(sa.String(16))
    reason: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)
    ticket_id: Mapped[int | None] = mapped_column(sa.ForeignKey("tickets.id"))

    schedule: Mapped[Schedule] = relationship()
    actor: Mapped[User] = relationship()
    ticket: Mapped[Ticket | None] = relationship()

    @property
    def result(self) -> Outcome:
        return Outcome(self.outcome)

    @property
    def reason_message(self) -> Message | None:
        return Message.from_json(self.reason) if self.reason else None

    @property
    def key(self) -> str:
        """Return the idempotency key of its ticket."""
        return f"schedule {self.schedule_id} at {self.planned_at:%Y-%m-%dT%H:%M:%S}Z"


def obstacle(user: User, workorder: WorkOrder) -> Message | None:
    """Return why somebody could not have a work order submitted by a schedule, or None."""
    names = {"user": user.username, "name": workorder.name}
    if not user.active:
        return N_("%(user)s is deactivated.", user=user.username)
    if not user.may(Page.SUBMIT):
        return N_("%(user)s has no role any more with the page Submit.", user=user.username)
    if workorder.template or not workorder.active:
        return N_("The work order %(name)s is not active.", name=workorder.name)
    if not workorder.can_be_submitted_by(user):
        return N_("%(user)s is in no group that may submit %(name)s.", **names)
    if not workorder.scheduling:
        return N_("The work order %(name)s does not take planned times.", name=workorder.name)
    return None
