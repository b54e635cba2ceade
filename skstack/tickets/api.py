"""Work orders and tickets over JSON: the same services as the pages."""

from __future__ import annotations

import datetime as dt
from typing import Any

from flask import Response, jsonify, request, url_for
from flask_login import current_user

from skstack.accounts.models import Page
from skstack.accounts.sessions import signed_in_user
from skstack.catalog.models import WorkOrder
from skstack.catalog.values import items_of
from skstack.errors import Invalid, NotAllowed
from skstack.extensions import db
from skstack.messages import N_, Message
from skstack.runs import services as runs
from skstack.tickets import queries, services
from skstack.tickets import values as checking
from skstack.tickets.documents import detail_document, ticket_document, workorder_document
from skstack.tickets.models import Ticket
from skstack.tickets.schemas import TicketQuery, WorkOrderQuery
from skstack.web.permissions import permit
from skstack.web.rest import Blueprint, Number, body_of, cursor, json_object, listed, moment, text_in

blueprint = Blueprint(
    "tickets-api",
    __name__,
    url_prefix="/api/v1",
    description="Submit work orders, and see what became of them.",
)

_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": services.KEY_LENGTH},
    "description": "Any text of your own. The same key with the same content gives the ticket that was made first.",
}
_SUBMISSION = body_of("Submission")
_SUBMITTED = ("values", "note", "scheduled_at", "background", "auto_run", "break_glass")


@blueprint.route("/workorders")
@blueprint.arguments(WorkOrderQuery(), location="query")
@blueprint.alt_response(200, schema="WorkOrderList", description="By id.", success=True)
@permit(Page.SUBMIT)
def list_workorders(query: dict[str, Any]) -> Response:
    """List the work orders that the caller may submit"""
    page, following = queries.submittable_page(
        current_user,
        environment=query["environment"],
        text=query["q"].strip(),
        after=cursor(query["after"]),
        limit=query["limit"],
    )
    return listed(map(workorder_document, page), following)


@blueprint.route("/workorders/<int:workorder_id>")
@blueprint.alt_response(200, schema="WorkOrderDetail", success=True)
@permit(Page.SUBMIT)
def show_workorder(workorder_id: int) -> Response:
    """Show a work order with its fields and what they offer now

    Choices that depend on other fields are those for the defaults, or for the values given as query parameters:
    `?Branch=main`. A script that fails gives its field an `error`, and the other fields are answered all the same.
    """
    workorder = queries.submittable_workorder(workorder_id, current_user)
    return jsonify(detail_document(workorder, checking.offers(workorder, _filled_in(workorder))))


@blueprint.route("/workorders/<int:workorder_id>/tickets", methods=["POST"])
@blueprint.doc(parameters=[_IDEMPOTENCY_KEY], requestBody=_SUBMISSION)
@blueprint.alt_response(
    201,
    schema="Ticket",
    success=True,
    headers={"Location": {"schema": {"type": "string"}, "description": "Address of the ticket."}},
)
@permit(Page.SUBMIT)
def submit(workorder_id: int) -> Response:
    """Submit a work order; its first task is queued at once, unless the ticket waits for approvers or its time"""
    workorder = queries.submittable_workorder(workorder_id, current_user)
    ticket = services.submit(
        actor=signed_in_user(),
        workorder=workorder,
        **_read_submission(json_object(_SUBMITTED)),
        idempotency_key=request.headers.get("Idempotency-Key"),
    )
    response = jsonify(ticket_document(ticket, current_user))
    response.status_code = 201
    response.headers["Location"] = url_for("tickets-api.show_ticket", ticket_id=ticket.id)
    return response


@blueprint.route("/tickets")
@blueprint.arguments(TicketQuery(), location="query")
@blueprint.alt_response(200, schema="TicketList", description="Newest first.", success=True)
@permit(Page.SUBMIT, Page.EXECUTE, Page.APPROVE, Page.AUDIT)
def list_tickets(query: dict[str, Any]) -> Response:
    """List the caller's own tickets, those that wait for the caller's approval, or everyone's"""
    filters = queries.Filters(
        environment=query["environment"],
        category=query["category"],
        status=query["status"],
        workorder=query["workorder"],
        submitter=query["submitter"],
        kind=query["kind"],
        since=moment("from", query["since"]),
        until=moment("to", query["until"], day_after=True),
        text=query["q"].strip(),
    )
    asked = {"after": cursor(query["after"]), "limit": query["limit"], "whole": True}
    if query["scope"] == "all":
        if not current_user.may(Page.AUDIT):
            raise NotAllowed(N_("Everyone's tickets are for those with the audit page."))
        page = queries.all_tickets(filters, **asked)
    elif query["scope"] == "approvals":
        page = queries.approvals_of(current_user, filters, **asked)
    else:
        page = queries.tickets_of(current_user, filters, **asked)
    return listed((ticket_document(ticket, current_user) for ticket in page.items), page.next)


@blueprint.route("/tickets/<int:ticket_id>")
@blueprint.alt_response(200, schema="Ticket", success=True)
@permit(Page.SUBMIT, Page.EXECUTE, Page.APPROVE, Page.AUDIT)
def show_ticket(ticket_id: int) -> Response:
    """Show a ticket with everything about it"""
    return jsonify(ticket_document(queries.visible(ticket_id, current_user), current_user))


@blueprint.route("/tickets/<int:ticket_id>/stop", methods=["POST"])
@blueprint.alt_response(200, schema="Ticket", success=True)
@permit(Page.SUBMIT, Page.EXECUTE)
def stop(ticket_id: int) -> Response:
    """Stop what runs of a ticket

    At once if no worker took it yet. Else the command is told to end, and killed if it does not; the ticket
    that is answered may still say that it runs.
    """
    ticket = queries.visible(ticket_id, current_user)
    runs.stop(ticket, actor=signed_in_user())
    return _answered(ticket)


@blueprint.route("/tickets/<int:ticket_id>/execute", methods=["POST"])
@blueprint.doc(requestBody=body_of("Start", required=False))
@blueprint.alt_response(200, schema="Ticket", success=True)
@permit(Page.EXECUTE)
def execute(ticket_id: int) -> Response:
    """Start an approved ticket, or a planned one before its time

    A ticket that the system was to start loses its job with it, and is in the foreground from now on.
    """
    ticket = queries.visible(ticket_id, current_user)
    body = json_object(("break_glass",), optional=True)
    services.execute(ticket, actor=signed_in_user(), break_glass=text_in(body, "break_glass"))
    return _answered(ticket)


@blueprint.route("/tickets/<int:ticket_id>/revoke", methods=["POST"])
@blueprint.alt_response(200, schema="Ticket", success=True)
@permit(Page.SUBMIT, Page.EXECUTE)
def revoke(ticket_id: int) -> Response:
    """End a ticket that has not started"""
    ticket = queries.visible(ticket_id, current_user)
    services.revoke(ticket, actor=signed_in_user())
    return _answered(ticket)


def _answered(ticket: Ticket) -> Response:
    db.session.expire(ticket)
    return jsonify(ticket_document(ticket, current_user))


def _filled_in(workorder: WorkOrder) -> dict[str, checking.Value]:
    """Return what the choices are to be offered for: the values in the address, else the defaults."""
    values: dict[str, checking.Value] = {}
    for variable in workorder.variables:
        given = request.args.getlist(variable.name) or items_of(variable, variable.default)
        values[variable.name] = given if variable.takes_several else (given or [""])[0]
    return values


def _read_submission(body: dict[str, Any]) -> dict[str, Any]:
    """Return what `services.submit` takes, values as text. Raises Invalid for everything that has the wrong type."""
    errors: dict[str, list[Message]] = {}
    for name in ("background", "auto_run"):
        if not isinstance(body.get(name, False), bool):
            errors[name] = [N_("This must be true or false.")]
    for name in ("note", "break_glass"):
        if type(body.get(name, "")) is not str:
            errors[name] = [N_("This must be text.")]
    scheduled_at, given_values = body.get("scheduled_at"), body.get("values", {})
    if scheduled_at is not None:
        try:
            scheduled_at = _planned(scheduled_at)
        except ValueError:
            errors["scheduled_at"] = [
                N_("This must be a time with its zone as in RFC 3339, such as 2026-01-31T08:00:00Z.")
            ]
    values: dict[str, checking.Value | None] = {}
    if not isinstance(given_values, dict):
        errors["values"] = [N_("This must be an object: each field's name with its value.")]
        given_values = {}
    for name, given in given_values.items():
        try:
            values[name] = _as_text(given)
        except TypeError:
            errors[name] = [N_("This must be text, or a list of texts.")]
    if errors:
        raise Invalid(errors)
    return {
        "values": values,
        "note": body.get("note", ""),
        "scheduled_at": scheduled_at,
        "background": body.get("background", False),
        "auto_run": body.get("auto_run", False),
        "break_glass": body.get("break_glass", ""),
    }


def _planned(given: Any) -> dt.datetime:
    """Read a time that says its zone. Raises ValueError for anything else: nobody's zone is guessed."""
    if type(given) is not str or "T" not in given.upper():
        raise ValueError
    moment = dt.datetime.fromisoformat(given)
    if moment.tzinfo is None:
        raise ValueError
    try:
        return moment.astimezone(dt.UTC)
    except OverflowError as err:
        raise ValueError from err


def _as_text(given: Any) -> checking.Value | None:
    if given is None:
        return None
    if isinstance(given, list) and all(isinstance(item, str) for item in given):
        return [str(item) for item in given]
    if isinstance(given, (str, Number)):
        return str(given)
    raise TypeError
