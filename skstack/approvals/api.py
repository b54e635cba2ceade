"""Decisions over JSON."""

from __future__ import annotations

from typing import Any

from flask import Response, jsonify
from flask_login import current_user

from skstack.accounts.models import Page
from skstack.accounts.sessions import signed_in_user
from skstack.approvals import services
from skstack.errors import Invalid
from skstack.extensions import db
from skstack.messages import N_
from skstack.tickets import queries
from skstack.tickets.documents import ticket_document
from skstack.tickets.models import Ticket
from skstack.web.permissions import permit
from skstack.web.rest import Blueprint, Number, body_of, json_object, text_in

blueprint = Blueprint(
    "approvals-api", __name__, url_prefix="/api/v1", description="Decide what waits for a group of yours."
)
_BODY = ("comment", "level")


@blueprint.route("/tickets/<int:ticket_id>/approve", methods=["POST"])
@blueprint.doc(requestBody=body_of("Approval", required=False))
@blueprint.alt_response(200, schema="Ticket", success=True)
@permit(Page.APPROVE)
def approve(ticket_id: int) -> Response:
    """Approve a ticket at the level that waits

    With the last approval, a ticket that runs by itself is queued or waits for its time; any other waits until its
    submitter starts it.
    """
    ticket = queries.visible(ticket_id, current_user)
    body = json_object(_BODY, optional=True)
    services.approve(ticket, actor=signed_in_user(), comment=text_in(body, "comment"), level=_level(body))
    return _answered(ticket)


@blueprint.route("/tickets/<int:ticket_id>/reject", methods=["POST"])
@blueprint.doc(requestBody=body_of("Rejection"))
@blueprint.alt_response(200, schema="Ticket", success=True)
@permit(Page.APPROVE)
def reject(ticket_id: int) -> Response:
    """Reject a ticket, which ends it; or turn the last approval into a rejection, as long as it has not started"""
    ticket = queries.visible(ticket_id, current_user)
    body = json_object(_BODY, optional=True)
    services.reject(ticket, actor=signed_in_user(), comment=text_in(body, "comment"), level=_level(body))
    return _answered(ticket)


def _level(body: dict[str, Any]) -> int | None:
    given = body.get("level")
    if given is None:
        return None
    if not isinstance(given, Number) or given not in ("1", "2", "3"):
        raise Invalid({"level": [N_("This must be 1, 2 or 3.")]})
    return int(given)


def _answered(ticket: Ticket) -> Response:
    db.session.expire(ticket)
    return jsonify(ticket_document(ticket, current_user))
