"""The first page: what runs now, and what one did last."""

from __future__ import annotations

from flask import Blueprint, render_template
from flask_login import current_user

from skstack.accounts.sessions import signed_in_user
from skstack.tickets import queries, reviewing
from skstack.web.permissions import Permission, permit

blueprint = Blueprint("dashboard", __name__)


@blueprint.get("/")
@permit(Permission.SIGNED_IN)
def index() -> str:
    """Show what of the reader's is under way, what ended last, and what they can submit."""
    recent = queries.tickets_of(current_user, queries.Filters(), after=None, limit=10)
    return render_template(
        "dashboard/index.html",
        unfinished=queries.unfinished_tickets(current_user),
        recent=[ticket for ticket in recent.items if ticket.state.is_final],
        approvals=queries.approvals_of(current_user, queries.Filters(), after=None, limit=10).items
        if current_user.may("approve")
        else [],
        broken_glass=reviewing.open_to(signed_in_user()),
        running=queries.running_tickets() if current_user.may("audit") else [],
        workorders=queries.submittable(current_user)[:8] if current_user.may("submit") else [],
    )
