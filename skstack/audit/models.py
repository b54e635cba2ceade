"""Audit events: who did what to what, from where, with before and after; and where their chain ends."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from skstack.db import JsonColumn, JsonText, UtcDateTime, utcnow
from skstack.extensions import Model
from skstack.messages import Message

_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


class AuditEvent(Model):
    """One thing that was done, or refused. Rows are only ever added, by `skstack.audit.chain`.

    `id` counts from 1 without a gap. `digest` is the SHA-256 of what the event is about, where that stands in other
    tables. `previous` is the hash of the event before; `hash` is over all other columns, and needs a key to be made.
    """

    __tablename__ = "audit_events"
    __table_args__ = (sa.Index("ix_audit_events_object", "object_type", "object_id"),)

    id: Mapped[int] = mapped_column(_BIG, primary_key=True, autoincrement=False)
    at: Mapped[dt.datetime] = mapped_column(UtcDateTime, index=True)
    actor_id: Mapped[int | None] = mapped_column(
        sa.Integer
    )  # No foreign key: an event outlives what it names.
    actor: Mapped[str] = mapped_column(sa.String(64))  # "" is skstack itself.
    address: Mapped[str] = mapped_column(sa.String(64), default="")
    action: Mapped[str] = mapped_column(sa.String(64))
    object_type: Mapped[str] = mapped_column(sa.String(32))
    object_id: Mapped[int | None] = mapped_column(_BIG)
    object_name: Mapped[str] = mapped_column(sa.String(256), default="")
    changes: Mapped[dict[str, Any]] = mapped_column(JsonText)
    digest: Mapped[bytes | None] = mapped_column(sa.LargeBinary)
    previous: Mapped[bytes] = mapped_column(sa.LargeBinary)
    hash: Mapped[bytes] = mapped_column(sa.LargeBinary)


class AuditHead(Model):
    """The end of the chain: one row. Whoever adds events holds it until they are committed."""

    __tablename__ = "audit_head"
    __table_args__ = (sa.CheckConstraint("id = 1", name="one"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, default=1)
    sequence: Mapped[int] = mapped_column(_BIG)
    hash: Mapped[bytes] = mapped_column(sa.LargeBinary)


class AuditCheck(Model):
    """One verification of the chain, done in pieces; `progress` says where the next one begins."""

    __tablename__ = "audit_checks"

    id: Mapped[int] = mapped_column(primary_key=True)
    by: Mapped[str] = mapped_column(sa.String(64))  # "" is a command on the host.
    begun_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    seen_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)  # When its last piece ended.
    ended_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    progress: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    problem: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)

    @property
    def is_over(self) -> bool:
        return self.ended_at is not None

    @property
    def problem_message(self) -> Message | None:
        return Message.from_json(self.problem) if self.problem else None
