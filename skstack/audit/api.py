"""The audit trail over JSON."""

from __future__ import annotations

from typing import Any

from flask import Response

from skstack.accounts.models import Page
from skstack.audit import queries
from skstack.audit.documents import EventQuery, event_document
from skstack.audit.queries import Filters
from skstack.web.permissions import permit
from skstack.web.rest import Blueprint, cursor, listed, moment

blueprint = Blueprint(
    "audit-api", __name__, url_prefix="/api/v1", description="Read who did what to what, from where."
)


@blueprint.route("/audit/events")
@blueprint.arguments(EventQuery(), location="query")
@blueprint.alt_response(200, schema="AuditEventList", description="Newest first.", success=True)
@permit(Page.AUDIT)
def list_events(query: dict[str, Any]) -> Response:
    """List the audit events, newest first

    A page may have fewer items than `limit`, or none, while there is a `next`: each looks through a bounded part.
    """
    filters = Filters(
        actor=query["actor"],
        action=query["action"],
        object_type=query["object_type"],
        object_id=query["object_id"],
        since=moment("from", query["since"]),
        until=moment("to", query["until"], day_after=True),
        text=query["q"].strip(),
    )
    page = queries.events(filters, after=cursor(query["after"]), limit=query["limit"])
    return listed(map(event_document, page.items), page.next)
