"""Audit events: who did what to what, from where, with before and after."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from skstack.db import JsonColumn, UtcDateTime, utcnow
from skstack.extensions import Model


class AuditEvent(Model):
    """One thing that was done, or refused. Rows are only ever added."""

    __tablename__ = "audit_events"
    __table_args__ = (sa.Index("ix_audit_events_object", "object_type", "object_id"),)

    id: Mapped[int] = mapped_column(sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True)
    at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow, index=True)
    actor_id: Mapped[int | None] = mapped_column(
        sa.Integer
    )  # No foreign key: an event outlives what it names.
    actor: Mapped[str] = mapped_column(sa.String(64))  # "" is skstack itself.
    address: Mapped[str] = mapped_column(sa.String(64), default="")
    action: Mapped[str] = mapped_column(sa.String(64))
    object_type: Mapped[str] = mapped_column(sa.String(32))
    object_id: Mapped[int | None] = mapped_column(sa.BigInteger().with_variant(sa.Integer, "sqlite"))
    object_name: Mapped[str] = mapped_column(sa.String(256), default="")
    changes: Mapped[dict[str, Any]] = mapped_column(JsonColumn, default=dict)
