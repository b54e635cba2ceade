"""Tickets and work orders as the JSON API answers them: plain objects, as interfaces and OpenAPI document say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skstack.accounts.models import User
from skstack.catalog import choices
from skstack.catalog.models import Source, Variable, WorkOrder
from skstack.catalog.values import items_of
from skstack.tickets.actions import actions
from skstack.tickets.models import Ticket
from skstack.tickets.plan import Plan
from skstack.web.rest import message_text, rfc3339


def ticket_document(ticket: Ticket, user: User) -> dict[str, Any]:
    """Return one ticket as `user` sees it. Loads nothing that the query or the submission has loaded."""
    return {**ticket_record(ticket), "actions": actions(ticket, user)}


def ticket_record(ticket: Ticket) -> dict[str, Any]:
    """Return one ticket as everybody who sees it sees it, as exports have it. Secrets have no value in it."""
    plan = Plan.from_json(ticket.plan)
    target, waiting = plan.target_name, ticket.next_level
    return {
        "id": ticket.id,
        "workorder": {"id": ticket.workorder_id, "name": ticket.workorder_name},
        "environment": ticket.environment_name,
        "category": ticket.category_name or None,
        "submitter": ticket.submitter_name,
        "kind": ticket.kind,
        "status": ticket.status,
        "status_code": ticket.state.code,
        "job_status": ticket.job_status,
        "values": ticket.values,
        "note": ticket.note,
        "scheduled_at": rfc3339(ticket.scheduled_at),
        "auto_run": ticket.auto_run,
        "created_at": rfc3339(ticket.created_at),
        "finished_at": rfc3339(ticket.finished_at),
        "decisions": [
            {
                "level": made.level,
                "decision": made.decision,
                "by": made.by_name,
                "comment": made.comment,
                "at": rfc3339(made.at),
            }
            for made in ticket.decisions
        ],
        "waiting_for": {"level": waiting.level, "group": waiting.group_name} if waiting else None,
        "plan": [{"task": step.task, "line": step.shown, "target": target} for step in plan.steps],
        "runs": [
            {
                "id": run.id,
                "task": run.task,
                "state": run.state,
                "exit_code": run.exit_code,
                "queued_at": rfc3339(run.queued_at),
                "started_at": rfc3339(run.started_at),
                "finished_at": rfc3339(run.finished_at),
            }
            for run in ticket.runs
        ],
    }


# The columns of a ticket in a table.
ROW = (
    "id",
    "workorder",
    "environment",
    "category",
    "kind",
    "status",
    "status_code",
    "job_status",
    "submitter",
    "note",
    "scheduled_at",
    "created_at",
    "finished_at",
    "decisions",
    "values",
)


def ticket_row(ticket: Ticket, names: Sequence[str]) -> dict[str, Any]:
    """Return one ticket as a row of a table: the columns `ROW`, and `value: NAME` for each of these variables."""
    found = ticket_record(ticket)
    decided = [
        f"{made['at']} l{made['level']} {made['decision']}: {made['by']}"
        + (f" ({made['comment']})" if made["comment"] else "")
        for made in found["decisions"]
    ]
    return {
        **{name: found[name] for name in ROW},
        "workorder": ticket.workorder_name,
        "decisions": "\n".join(decided),
        **{f"value: {name}": _joined(ticket.values.get(name)) for name in names},
    }


def _joined(value: Any) -> Any:
    return ", ".join(value) if isinstance(value, list) else value


def workorder_document(workorder: WorkOrder) -> dict[str, Any]:
    """Return one work order as lists show it."""
    return {
        "id": workorder.id,
        "name": workorder.name,
        "description": workorder.description,
        "environment": workorder.environment.name,
        "category": workorder.category.name if workorder.category else None,
    }


def detail_document(workorder: WorkOrder, offers: Mapping[str, choices.Offered]) -> dict[str, Any]:
    """Return one work order with the fields of its form; `offers` has what choice fields offer now, by name."""
    names = {
        variable.name: choices.depends_on(variable, workorder=workorder) for variable in workorder.variables
    }
    return {
        **workorder_document(workorder),
        "options": {
            "scheduled_at": workorder.scheduling,
            "background": workorder.background_choice,
            "auto_run": workorder.auto_run_choice,
        },
        "approvals": [group.name for group in workorder.approval_flow.levels]
        if workorder.approval_flow
        else [],
        "fields": [
            _field(variable, names[variable.name], offers.get(variable.name))
            for variable in workorder.variables
        ],
    }


def _field(variable: Variable, depends_on: list[str], offered: choices.Offered | None) -> dict[str, Any]:
    typed = variable.source == Source.INPUT
    default = items_of(variable, variable.default) if variable.takes_several else variable.default
    return {
        "name": variable.name,
        "label": variable.title,
        "help": variable.help,
        "source": variable.source,
        "widget": variable.widget,
        "required": variable.required,
        "secret": variable.secret,
        "several": variable.takes_several,
        "default": default,
        "min_length": variable.min_length if typed else None,
        "max_length": variable.max_length if typed else None,
        "pattern": (variable.pattern or None) if typed else None,
        "pattern_message": (variable.pattern_message or None) if typed else None,
        "depends_on": depends_on,
        "choices": None
        if offered is None
        else [{"value": choice.value, "label": choice.label} for choice in offered.choices],
        "error": message_text(offered.error) if offered else None,
    }
