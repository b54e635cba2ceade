"""Everyone's tickets, and who started something within a freeze window, for those who have the audit page."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, make_response, render_template, request, url_for
from flask_login import current_user
from werkzeug.wrappers import Response

from skstack.accounts.models import Page
from skstack.accounts.sessions import signed_in_user
from skstack.errors import Invalid
from skstack.messages import N_
from skstack.tickets import queries, reviewing
from skstack.tickets.forms import asked_filters
from skstack.tickets.ticket_views import listing
from skstack.web.forms import go_to, tell
from skstack.web.pagination import asked
from skstack.web.permissions import permit

blueprint = Blueprint("audit", __name__, url_prefix="/audit")


@blueprint.get("/tickets")
@permit(Page.AUDIT)
def tickets() -> str:
    """List all tickets, newest first, narrowed by the address."""
    filters = asked_filters()
    page = queries.all_tickets(filters, **asked(), with_actions=True)
    return render_template("tickets/list.html", **listing(page, filters), scope="all")


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
