"""Everyone's tickets, and who started something within a freeze window, for those who have the audit page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from flask import Blueprint, make_response, render_template, request, url_for
from flask_login import current_user
from werkzeug.wrappers import Response

from skstack.accounts.models import Page
from skstack.accounts.sessions import signed_in_user
from skstack.audit.services import Action, record
from skstack.db import transaction
from skstack.errors import Invalid
from skstack.messages import N_
from skstack.tickets import queries, reviewing
from skstack.tickets.documents import ROW, ticket_record, ticket_row
from skstack.tickets.forms import asked_filters
from skstack.tickets.models import Ticket
from skstack.tickets.ticket_views import listing
from skstack.web.downloads import as_csv, as_json
from skstack.web.forms import go_to, tell
from skstack.web.pagination import Order, asked, asked_limit
from skstack.web.permissions import permit

blueprint = Blueprint("audit", __name__, url_prefix="/audit")


@blueprint.get("/tickets")
@permit(Page.AUDIT)
def tickets() -> str:
    """List all tickets, newest first or as the address says, narrowed by it; of one work order with its variables."""
    filters, order = asked_filters(), Order.asked(queries.SORTS, otherwise="-id")
    page = queries.history(filters, order=order, limit=asked_limit())
    return render_template(
        "tickets/list.html",
        **listing(page, filters),
        scope="all",
        sort=str(order),
        variables=_variables(filters, page.items),
        workorders=queries.workorder_names(),
        submitters=queries.usernames(),
    )


@blueprint.get("/tickets.<any(csv, json):kind>")
@permit(Page.AUDIT)
def export(kind: str) -> Response:
    """Send all tickets that the address asks for, newest first, as they are read. That somebody did so is an event."""
    filters, reader = asked_filters(), signed_in_user()
    chosen = {name: str(value) for name, value in asdict(filters).items() if value}
    with transaction():
        record(Action.EXPORTED, actor=reader, object_type="ticket", format=kind, filters=chosen)
    if kind == "json":
        documents = (ticket_record(ticket) for ticket in queries.export(filters))
        return as_json(documents, name="tickets")
    names = [variable["name"] for variable in _variables(filters, ())]
    rows = (ticket_row(ticket, names) for ticket in queries.export(filters))
    return as_csv([*ROW, *(f"value: {name}" for name in names)], rows, name="tickets")


def _variables(filters: queries.Filters, tickets: Iterable[Ticket]) -> list[dict[str, Any]]:
    """Return the variables of the one work order that a list is narrowed to, and others that its tickets have values of."""
    if not filters.workorder:
        return []
    workorder = queries.workorder_named(filters.workorder)
    found = {variable.name: variable.title for variable in workorder.variables} if workorder else {}
    for ticket in tickets:
        found |= {name: name for name in ticket.values if name not in found}
    return [{"name": name, "label": label} for name, label in found.items()]


@blueprint.get("/break-glass")
@permit(Page.AUDIT)
def break_glass() -> str:
    """Show the starts within freeze windows: those that somebody has to review, then those that were."""
    return _break_glass()


@blueprint.post("/break-glass/<int:number>/review")
@permit(Page.AUDIT)
def review(number: int) -> Response:
    """Review one: 303 back to the page. 403 for who did it, 409 if it was reviewed, 422 without a comment."""
    broken = reviewing.one(number)
    comment = request.form.get("comment", "")
    try:
        reviewing.review(broken, actor=signed_in_user(), comment=comment)
    except Invalid as err:
        return make_response(_break_glass(wrong=number, comment=comment, errors=err.errors["comment"]), 422)
    tell(N_("The start of ticket %(id)s is reviewed.", id=broken.ticket_id))
    return go_to(url_for("audit.break_glass"))


def _break_glass(**wrong: Any) -> str:
    return render_template(
        "audit/break_glass.html",
        waiting=[(broken, reviewing.can_review(broken, current_user)) for broken in reviewing.to_review()],
        page=reviewing.reviewed(**asked()),
        **wrong,
    )
