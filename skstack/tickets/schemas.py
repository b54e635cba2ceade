"""Tickets and work orders in the OpenAPI document: JSON Schema, as the API answers them."""

from __future__ import annotations

from marshmallow import fields, validate

from skstack.catalog.models import Source, Widget
from skstack.states import JobStatus, RunState, TicketStatus
from skstack.tickets.models import BACKGROUND, FOREGROUND
from skstack.web.rest import JsonSchema, ListQuery, Text, list_of, record, reference, text, time_or_null

_INTEGER: JsonSchema = {"type": "integer"}
_BOOLEAN: JsonSchema = {"type": "boolean"}
_TEXT_OR_NULL: JsonSchema = {"type": ["string", "null"]}
_INTEGER_OR_NULL: JsonSchema = {"type": ["integer", "null"]}
_TEXTS: JsonSchema = {"type": "array", "items": {"type": "string"}}
_TEXT_OR_TEXTS: JsonSchema = {"anyOf": [{"type": "string"}, _TEXTS]}
_BREAK_GLASS = text(
    "Why it cannot wait for the end of a freeze window. For superusers; somebody else reviews it.", default=""
)
_SEEN_LEVEL: JsonSchema = {
    **_INTEGER_OR_NULL,
    "default": None,
    "description": "The level that the caller decides: 409 if another one waits by now.",
}

_WORKORDER: dict[str, JsonSchema] = {
    "id": _INTEGER,
    "name": text(),
    "description": text("What the help button shows."),
    "environment": text(),
    "category": _TEXT_OR_NULL,
}

SCHEMAS: dict[str, JsonSchema] = {
    "WorkOrder": record(**_WORKORDER),
    "WorkOrderDetail": record(
        **_WORKORDER,
        options={
            **record(scheduled_at=_BOOLEAN, background=_BOOLEAN, auto_run=_BOOLEAN),
            "description": "What a submission may choose beside its values.",
        },
        approvals={
            **_TEXTS,
            "description": "The group that decides each level, in order. Empty: no approval.",
        },
        fields={"type": "array", "items": reference("Field"), "description": "In the form's order."},
    ),
    "WorkOrderList": list_of("WorkOrder"),
    "Field": record(
        name=text("The key of its value in `values`."),
        label=text(),
        help=text(),
        source=text(enum=[str(one) for one in Source]),
        widget=text(enum=[str(one) for one in Widget]),
        required=_BOOLEAN,
        secret=_BOOLEAN,
        several={**_BOOLEAN, "description": "Whether the value is a list of texts."},
        default=_TEXT_OR_TEXTS,
        min_length=_INTEGER_OR_NULL,
        max_length=_INTEGER_OR_NULL,
        pattern={
            **_TEXT_OR_NULL,
            "description": "A Python regular expression that the whole text must match.",
        },
        pattern_message=_TEXT_OR_NULL,
        depends_on={**_TEXTS, "description": "The fields whose values the choices depend on."},
        choices={
            "type": ["array", "null"],
            "items": record(value=text(), label=text()),
            "description": "null: anything may be typed. Empty if there is an `error`.",
        },
        error={
            **_TEXT_OR_NULL,
            "description": "Why there are no choices; the field cannot be filled in then.",
        },
    ),
    "Submission": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "values": {
                "type": "object",
                "description": "By the fields' names. Numbers become text as they are written; null is nothing.",
                "additionalProperties": {
                    "anyOf": [
                        {"type": ["string", "number", "null"]},
                        {"type": "array", "items": {"type": ["string", "number"]}},
                    ]
                },
            },
            "note": text("For those who read the ticket.", default=""),
            "scheduled_at": time_or_null(
                "When the system starts it (RFC 3339), if the work order takes that."
            ),
            "background": {**_BOOLEAN, "default": False, "description": "Let the system start it."},
            "auto_run": {
                **_BOOLEAN,
                "default": False,
                "description": "Let the system start it once it is approved.",
            },
            "break_glass": _BREAK_GLASS,
        },
    },
    "Approval": {
        "type": "object",
        "additionalProperties": False,
        "properties": {"comment": text(default=""), "level": _SEEN_LEVEL},
    },
    "Rejection": {
        "type": "object",
        "additionalProperties": False,
        "required": ["comment"],
        "properties": {"comment": text("Why.", minLength=1), "level": _SEEN_LEVEL},
    },
    "Start": {
        "type": "object",
        "additionalProperties": False,
        "properties": {"break_glass": _BREAK_GLASS},
    },
    "Ticket": record(
        id=_INTEGER,
        workorder=record(id=_INTEGER, name=text()),
        environment=text(),
        category=_TEXT_OR_NULL,
        submitter=text("The user's name."),
        kind=text(enum=[FOREGROUND, BACKGROUND]),
        status=text(enum=[str(one) for one in TicketStatus]),
        status_code={"type": "integer", "enum": sorted(one.code for one in TicketStatus)},
        job_status={
            "enum": [None, *(str(one) for one in JobStatus)],
            "description": "null: not in the background.",
        },
        values={
            "type": "object",
            "description": "What was submitted; null for a secret.",
            "additionalProperties": {"anyOf": [{"type": ["string", "null"]}, _TEXTS]},
        },
        note=text(),
        scheduled_at=time_or_null("When it is planned to start."),
        auto_run=_BOOLEAN,
        created_at=text(format="date-time"),
        finished_at=time_or_null("When it ended."),
        decisions={
            "type": "array",
            "items": record(
                level=_INTEGER,
                decision=text(enum=["approved", "rejected"]),
                by=text(),
                comment=text(),
                at=text(format="date-time"),
            ),
        },
        waiting_for={"anyOf": [{"type": "null"}, record(level=_INTEGER, group=text())]},
        plan={"type": "array", "items": reference("PlannedLine"), "description": "Frozen at submission."},
        runs={"type": "array", "items": reference("TicketRun"), "description": "Oldest first."},
        actions={**_TEXTS, "description": "What the caller may do now."},
    ),
    "TicketList": list_of("Ticket"),
    "PlannedLine": record(
        task=text(enum=["pre", "main", "post"]),
        line=text("The command line, with the values in their places."),
        target=text("Where it runs: `local`, or the config center."),
    ),
    "TicketRun": record(
        id=_INTEGER,
        task=text("`main` holds the steps of the main and the post task.", enum=["pre", "main"]),
        state=text(enum=[str(one) for one in RunState]),
        exit_code={
            **_INTEGER_OR_NULL,
            "description": "That of the step that failed, else 0; null if it cannot be told.",
        },
        queued_at=text(format="date-time"),
        started_at=time_or_null("When a worker took it."),
        finished_at=time_or_null("When it ended."),
    ),
}


class WorkOrderQuery(ListQuery):
    """What the list of work orders is narrowed by."""

    environment = Text(load_default="", metadata={"description": "Name of an environment."})
    q = Text(load_default="", metadata={"description": "Text in name or description."})


class TicketQuery(ListQuery):
    """What a list of tickets is narrowed by."""

    scope = fields.String(
        load_default="mine",
        validate=validate.OneOf(["mine", "approvals", "all"]),
        metadata={
            "description": "`mine`: submitted by the caller; `approvals`: waiting for the caller's decision; `all` needs the "
            "audit page."
        },
    )
    status = fields.String(
        load_default="", validate=validate.OneOf(["", *(str(one) for one in TicketStatus)])
    )
    environment = Text(load_default="")
    category = Text(load_default="")
    workorder = Text(
        load_default="", metadata={"description": "Name of a work order, as it was at submission."}
    )
    submitter = Text(load_default="")
    kind = fields.String(load_default="", validate=validate.OneOf(["", FOREGROUND, BACKGROUND]))
    since = Text(
        load_default="",
        data_key="from",
        metadata={"description": "Submitted at or after this time (RFC 3339), or from this day on (UTC)."},
    )
    until = Text(
        load_default="",
        data_key="to",
        metadata={"description": "Submitted before this time (RFC 3339), or up to and with this day (UTC)."},
    )
    q = Text(
        load_default="",
        metadata={
            "description": "Words in name, note, values, commands or submitter, the last one perhaps only begun; or a ticket's"
            " number."
        },
    )
