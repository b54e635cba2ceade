"""Everyone's tickets, for those who have the audit page."""

from __future__ import annotations

from flask import Blueprint, render_template

from skstack.accounts.models import Page
from skstack.tickets import queries
from skstack.tickets.forms import asked_filters
from skstack.web.pagination import asked
from skstack.web.permissions import permit

blueprint = Blueprint("audit", __name__, url_prefix="/audit")


@blueprint.get("/tickets")
@permit(Page.AUDIT)
def tickets() -> str:
    """List all tickets, newest first, narrowed by the address."""
    filters = asked_filters()
    return render_template(
        "tickets/list.html",
        everyone=True,
        page=queries.all_tickets(filters, **asked()),
        filters=filters,
        environments=queries.environments(),
        categories=queries.categories(),
    )
