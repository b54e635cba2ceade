"""Audit events as JSON, for the API and the export, with their schema in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from marshmallow import fields

from skstack.audit.models import AuditEvent
from skstack.web.rest import JsonSchema, ListQuery, Text, list_of, record, rfc3339, text

SCHEMAS: dict[str, JsonSchema] = {
    "AuditEvent": record(
        id={"type": "integer", "description": "Counts from 1 without a gap."},
        at={"type": "string", "format": "date-time"},
        actor=text("User name; empty: skstack itself, or a command on the host."),
        address=text("Where the request came from; empty: from no request."),
        action=text("What was done, such as `ticket.submitted`."),
        object={
            **record(type=text(), id={"type": ["integer", "null"]}, name=text()),
            "description": "What it was done to.",
        },
        changes={
            "type": "object",
            "description": "What changed: `before` and `after` where there is both. Secrets are masked.",
        },
        digest={"type": ["string", "null"], "description": "SHA-256 of what it is about in other tables."},
        previous=text("The hash of the event before."),
        hash=text("Over all the rest, made with the instance's key."),
    ),
    "AuditEventList": list_of("AuditEvent"),
}


class EventQuery(ListQuery):
    """What a list of events is narrowed by."""

    actor = Text(
        load_default="",
        metadata={"description": "User name of who did it; `-` for skstack itself."},
    )
    action = Text(load_default="", metadata={"description": "Such as `ticket.submitted`."})
    object_type = Text(load_default="", metadata={"description": "Such as `ticket`."})
    object_id = fields.Integer(load_default=None, validate=lambda given: 0 < given < 2**63)
    since = Text(
        load_default="",
        data_key="from",
        metadata={"description": "At or after this time (RFC 3339), or from this day on (UTC)."},
    )
    until = Text(
        load_default="",
        data_key="to",
        metadata={"description": "Before this time (RFC 3339), or up to and with this day (UTC)."},
    )
    q = Text(load_default="", metadata={"description": "Text in name, changes, user name or address."})


def event_document(event: AuditEvent) -> dict[str, Any]:
    """Return an event as the API gives it."""
    return {
        "id": event.id,
        "at": rfc3339(event.at),
        "actor": event.actor,
        "address": event.address,
        "action": event.action,
        "object": {"type": event.object_type, "id": event.object_id, "name": event.object_name},
        "changes": event.changes,
        "digest": event.digest.hex() if event.digest is not None else None,
        "previous": event.previous.hex(),
        "hash": event.hash.hex(),
    }
