"""What the audit trail keeps of a ticket beside its events: digests of its rows, from which a later change shows.

A submission's event covers what was submitted and the plan, each change of status its row in the history and, where it
was a decision, that too.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from skstack.tickets.models import Ticket, TicketLevel

# Attributes that never change after the submission. The plan is covered by its digest.
SUBMITTED = (
    "id",
    "workorder_id",
    "workorder_name",
    "workorder_version",
    "environment_id",
    "environment_name",
    "category_id",
    "category_name",
    "submitter_id",
    "submitter_name",
    "values",
    "note",
    "scheduled_at",
    "auto_run",
    "approval_flow_name",
    "allow_self_approval",
    "distinct_approvers",
    "decide_by",
    "task_lock",
    "plan_digest",
    "created_at",
)
LEVEL = ("level", "group_id", "group_name")
CHANGE = ("ticket_id", "at", "before", "after", "job_before", "job_after", "actor_id", "reason")
DECISION = ("level", "decision", "by_id", "by_name", "comment", "at")


def of_submission(
    ticket: Ticket | Mapping[str, Any],
    levels: Iterable[TicketLevel | Mapping[str, Any]],
    change: Mapping[str, Any],
) -> bytes:
    """Return the digest of a ticket as it was submitted, with the levels to be passed and the first row of its history."""
    return digest(
        [columns(ticket, SUBMITTED), [columns(level, LEVEL) for level in levels], columns(change, CHANGE)]
    )


def of_change(change: Mapping[str, Any], decision: Mapping[str, Any] | None = None) -> bytes:
    """Return the digest of one row of the history, with the decision that made it."""
    return digest([columns(change, CHANGE), columns(decision, DECISION) if decision else None])


def columns(row: object, names: Iterable[str]) -> dict[str, Any]:
    """Return what a row, an object or a mapping, has under these names; what a mapping lacks is None."""
    if isinstance(row, Mapping):
        return {name: row.get(name) for name in names}
    return {name: getattr(row, name) for name in names}


def digest(value: Any) -> bytes:
    """Return the SHA-256 of a value's JSON: keys sorted, times in UTC."""
    return hashlib.sha256(_encode(value).encode()).digest()


def _written(value: object) -> str:
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a digest")


_encode = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), sort_keys=True, check_circular=False, default=_written
).encode
