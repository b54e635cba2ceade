"""Runs: executions of a ticket's tasks, their steps, and the workers that watch over them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.orm import Mapped, mapped_column, relationship

from skstack.db import JsonColumn, UtcDateTime, utcnow
from skstack.extensions import Model
from skstack.messages import Message
from skstack.states import RunState
from skstack.tickets.models import Ticket

PRE, MAIN = "pre", "main"
TASKS = {PRE: ("pre",), MAIN: ("main", "post")}


class Worker(Model):
    """One worker process. `beat` counts up while it lives; a reader with its own clock sees when it stops."""

    __tablename__ = "workers"

    id: Mapped[int] = mapped_column(primary_key=True)
    host: Mapped[str] = mapped_column(sa.String(255))
    pid: Mapped[int]
    process_start: Mapped[int] = mapped_column(sa.BigInteger)  # Clock ticks after boot, from /proc/PID/stat.
    boot_id: Mapped[str] = mapped_column(sa.String(64))
    beat: Mapped[int] = mapped_column(default=0)
    started_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    seen_at: Mapped[dt.datetime] = mapped_column(
        UtcDateTime, default=utcnow
    )  # For people; decisions use `beat`.
    stopped_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    capacity: Mapped[int | None]  # Runs at a time. None: of a version that did not say.
    version: Mapped[str | None] = mapped_column(sa.String(32))


class Look(Model):
    """When some worker last did one of the regular things, and what came of it: for people and for monitoring."""

    __tablename__ = "looks"

    name: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    found: Mapped[dict[str, Any]] = mapped_column(JsonColumn, default=dict)


class Run(Model):
    """One execution. `fence` goes up with every change of owner; whoever carries an older one writes nothing.

    The run called `main` holds the steps of the main and the post task.
    """

    __tablename__ = "runs"
    __table_args__ = (
        sa.UniqueConstraint("ticket_id", "task"),
        sa.CheckConstraint("task IN ('pre', 'main')", name="task"),
        sa.Index("ix_runs_state_id", "state", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(sa.ForeignKey("tickets.id"))
    task: Mapped[str] = mapped_column(sa.String(8))
    state: Mapped[str] = mapped_column(sa.String(16), default=RunState.QUEUED)
    exit_code: Mapped[int | None]
    fence: Mapped[int] = mapped_column(default=0)
    worker_id: Mapped[int | None] = mapped_column(sa.ForeignKey("workers.id"), index=True)
    start_before: Mapped[
        float | None
    ]  # By the worker's CLOCK_BOOTTIME: after it, nothing may begin any more.
    queued_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    started_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    duration: Mapped[float | None]  # Seconds by a clock that nobody sets.
    stop_asked_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    stop_asked_by_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))
    reason: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)
    output_bytes: Mapped[int | None] = mapped_column(sa.BigInteger)  # All that was printed.
    stored_bytes: Mapped[int | None] = mapped_column(sa.BigInteger)  # What the output limit let in.

    output_cleared_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)  # By the retention rule.

    ticket: Mapped[Ticket] = relationship(back_populates="runs")
    worker: Mapped[Worker | None] = relationship()
    steps: Mapped[list[Step]] = relationship(order_by="Step.position", back_populates="run")

    @property
    def run_state(self) -> RunState:
        return RunState(self.state)

    @property
    def directory(self) -> Path:
        return directory_of(self.id)

    @property
    def reason_message(self) -> Message | None:
        return Message.from_json(self.reason) if self.reason else None


def directory_of(run_id: int) -> Path:
    """Return where a run leaves its output and its record."""
    return Path(current_app.config["SKSTACK"].runs_directory) / str(run_id)


class Step(Model):
    """One command line of a finished run. While the run goes on, its event file tells the same."""

    __tablename__ = "steps"

    run_id: Mapped[int] = mapped_column(sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)  # Counted from 1, as people do.
    task: Mapped[str] = mapped_column(sa.String(8))  # pre, main or post
    line: Mapped[int]
    exit_code: Mapped[int | None]
    started_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    duration: Mapped[float | None]
    offset: Mapped[int] = mapped_column("output_offset", sa.BigInteger, default=0)
    end: Mapped[int | None] = mapped_column("output_end", sa.BigInteger)

    run: Mapped[Run] = relationship(back_populates="steps")
