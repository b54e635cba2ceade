"""Notifications, the targets outside that they go to, and each delivery to one of them."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from skstack.accounts.models import User
from skstack.catalog.models import ApprovalFlow
from skstack.db import Encrypted, JsonColumn, UtcDateTime, utcnow
from skstack.extensions import Model
from skstack.messages import N_, Message
from skstack.tickets.models import Ticket


class Event(StrEnum):
    """What somebody is told of."""

    WAITS = "waits"
    DECIDED = "decided"
    STARTED = "started"
    ENDED = "ended"
    EXPIRES = "expires"

    @property
    def label(self) -> Message:
        return _EVENT_LABELS[self]


_EVENT_LABELS = {
    Event.WAITS: N_("A ticket waits for a decision"),
    Event.DECIDED: N_("A ticket was decided"),
    Event.STARTED: N_("The system started a ticket"),
    Event.ENDED: N_("A ticket ended"),
    Event.EXPIRES: N_("A decision is due soon"),
}


class DeliveryState(StrEnum):
    """Where one message to one target is."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"

    @property
    def label(self) -> Message:
        return {
            "queued": N_("Queued"),
            "sending": N_("Being sent"),
            "sent": N_("Sent"),
            "failed": N_("Failed"),
        }[self.value]


class Notification(Model):
    """Something that one user is told in their inbox, as a sentence that is translated when it is shown."""

    __tablename__ = "notifications"
    __table_args__ = (
        sa.Index("ix_notifications_user_id_id", "user_id", "id"),
        sa.Index("ix_notifications_user_id_read_at", "user_id", "read_at"),
        sa.Index("ix_notifications_ticket_id_event", "ticket_id", "event"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"))
    ticket_id: Mapped[int] = mapped_column(sa.ForeignKey("tickets.id"))
    event: Mapped[str] = mapped_column(sa.String(16))
    text: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    read_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)

    ticket: Mapped[Ticket] = relationship()

    @property
    def message(self) -> Message:
        return Message.from_json(self.text)


class Target(Model):
    """An address outside, as Apprise writes it, of one user or of one approval flow. Its credentials are never shown again."""

    __tablename__ = "notification_targets"
    __table_args__ = (sa.CheckConstraint("(user_id IS NULL) <> (flow_id IS NULL)", name="owner"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    flow_id: Mapped[int | None] = mapped_column(
        sa.ForeignKey("approval_flows.id", ondelete="CASCADE"), index=True
    )
    name: Mapped[str] = mapped_column(sa.String(64))
    url: Mapped[str] = mapped_column(Encrypted)
    scheme: Mapped[str] = mapped_column(sa.String(32))
    events: Mapped[list[str]] = mapped_column(JsonColumn, default=list)
    active: Mapped[bool] = mapped_column(default=True)

    user: Mapped[User | None] = relationship()
    flow: Mapped[ApprovalFlow | None] = relationship()


class Delivery(Model):
    """One message to one target. A worker claims it, sends it outside any transaction, and writes down what came of it."""

    __tablename__ = "deliveries"
    __table_args__ = (sa.Index("ix_deliveries_state_next_at", "state", "next_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    target_id: Mapped[int] = mapped_column(
        sa.ForeignKey("notification_targets.id", ondelete="CASCADE"), index=True
    )
    ticket_id: Mapped[int] = mapped_column(sa.ForeignKey("tickets.id"))
    event: Mapped[str] = mapped_column(sa.String(16))
    text: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    state: Mapped[str] = mapped_column(sa.String(16), default=DeliveryState.QUEUED)
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    error: Mapped[str] = mapped_column(sa.String(300), default="")
    at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)

    target: Mapped[Target] = relationship()
    ticket: Mapped[Ticket] = relationship()

    @property
    def message(self) -> Message:
        return Message.from_json(self.text)
