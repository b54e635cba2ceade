"""The approver's pages: what waits for a decision, what was decided, and deciding one or several."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flask import Blueprint, make_response, render_template, request, url_for
from flask_login import current_user
from werkzeug.wrappers import Response

from skstack.accounts.models import Page
from skstack.accounts.sessions import signed_in_user
from skstack.approvals import services
from skstack.approvals.comparing import Comparison, comparisons
from skstack.errors import Conflict, Invalid, NotFound, SkstackError
from skstack.extensions import db
from skstack.messages import N_, Message
from skstack.states import MOST_LEVELS
from skstack.tickets import forms, queries
from skstack.tickets.actions import actions
from skstack.tickets.models import Ticket
from skstack.tickets.plan import Plan
from skstack.tickets.ticket_views import about
from skstack.web.errors import is_fragment
from skstack.web.forms import go_to, tell
from skstack.web.pagination import asked
from skstack.web.permissions import permit
from skstack.web.setup import count_at

blueprint = Blueprint("approvals", __name__)
blueprint.add_app_template_filter(Plan.from_json, "plan")

VERBS: Mapping[str, tuple[Callable[..., None], Message]] = {
    "approve": (services.approve, N_("Ticket %(id)s was approved.")),
    "reject": (services.reject, N_("Ticket %(id)s was rejected.")),
}


@blueprint.get("/approvals")
@permit(Page.APPROVE)
def index() -> str:
    """Show what waits for a decision of the reader's, narrowed by the address."""
    return _inbox()


@blueprint.get("/approvals/decided")
@permit(Page.APPROVE)
def decided() -> str:
    """List the tickets that the reader decided, newest first."""
    filters = forms.asked_filters()
    page = queries.decided_by(current_user, filters, **asked(), whole=True)
    return render_template(
        "approvals/decided.html",
        page=page,
        filters=filters,
        environments=queries.environments(),
        mine=lambda ticket: [made for made in ticket.decisions if made.by_id == current_user.id],
    )


@blueprint.get("/tickets/<int:ticket_id>/decide/<any(approve, reject):verb>")
@permit(Page.APPROVE)
def ask(ticket_id: int, verb: str) -> str:
    """Ask before deciding, on a page of its own. 404: not the reader's to see; 403 and 409 as for the decision itself."""
    ticket = queries.visible(ticket_id, current_user)
    {"approve": services.to_approve, "reject": services.to_reject}[verb](ticket, signed_in_user())
    return _question(ticket, verb)


@blueprint.post("/tickets/<int:ticket_id>/approve")
@permit(Page.APPROVE)
def approve(ticket_id: int) -> Response:
    """Approve a ticket: 303 back. 403 for who does not decide it, 409 with the ticket as it is if somebody was quicker."""
    return _decide(ticket_id, "approve")


@blueprint.post("/tickets/<int:ticket_id>/reject")
@permit(Page.APPROVE)
def reject(ticket_id: int) -> Response:
    """Reject a ticket: as `approve`, and 422 with the question where the reason is missing."""
    return _decide(ticket_id, "reject")


@blueprint.post("/approvals/decide")
@permit(Page.APPROVE)
def decide_several() -> Response:
    """Decide several tickets of one work order, each on its own: asks first, then 303 back with what went through.

    422 with the inbox where the choice is wrong, and with the question where the comment is.
    """
    verb = request.form.get("verb", "")
    if verb not in VERBS:
        raise NotFound
    tickets, wrong = _chosen()
    if wrong is not None:
        return make_response(_inbox(wrong=wrong, chosen=[ticket.id for ticket in tickets]), 422)
    comment = request.form.get("comment", "")
    question = {"tickets": tickets, "verb": verb, "comment": comment}
    if not request.form.get("confirmed"):
        return make_response(render_template("approvals/several.html", errors={}, **question))
    try:
        comment = services.checked_comment(comment, needed=verb == "reject")
    except Invalid as err:
        return make_response(render_template("approvals/several.html", errors=err.errors, **question), 422)
    for ticket in tickets:
        try:
            _carry_out(ticket, verb, comment, request.form.get(f"level-{ticket.id}", "0"))
        except SkstackError as err:
            tell(err.message, "warning")
        else:
            tell(Message(VERBS[verb][1].text, {"id": ticket.id}))
    return go_to(url_for("approvals.index"))


def _chosen() -> tuple[list[Ticket], Message | None]:
    """Return the tickets that were chosen and can be seen, and what is wrong with the choice."""
    numbers = dict.fromkeys(
        int(one)
        for one in request.form.getlist("ticket")
        if one.isascii() and one.isdigit() and len(one) < 10
    )
    if len(numbers) > queries.MOST_AT_ONCE:
        return [], N_("At most %(count)s tickets can be decided at once.", count=queries.MOST_AT_ONCE)
    tickets = []
    for number in numbers:
        with contextlib.suppress(NotFound):
            tickets.append(queries.visible(number, current_user))
    if not tickets:
        return tickets, N_("Choose at least one ticket.")
    if len({ticket.workorder_id for ticket in tickets}) > 1:
        return tickets, N_("Several can be decided at once only if they are of the same work order.")
    return tickets, None


@count_at("approvals.index")
def waiting() -> int:
    """Return how many tickets wait for the reader, for the menu. Needs one statement."""
    return queries.count_of_approvals(current_user)


def _inbox(**wrong: Any) -> str:
    filters = forms.asked_filters()
    page = queries.approvals_of(current_user, filters, **asked(), whole=True)
    counts = queries.counts_of_approvals(current_user)
    environments = queries.environments()
    for environment in environments:
        environment.count = counts.get(environment.id, 0)  # type: ignore[attr-defined]  # shown in its tab
    orders = [ticket.workorder_id for ticket in page.items]
    return render_template(
        "approvals/index.html",
        page=page,
        filters=filters,
        environments=environments,
        comparisons=comparisons(page.items, reader=signed_in_user()),
        since=_waits_since,
        several={one for one in orders if orders.count(one) > 1},
        **wrong,
    )


def _waits_since(ticket: Ticket) -> dt.datetime:
    """Return since when a ticket waits: for its first level since its pre task, later since the level before."""
    if ticket.decisions:
        return ticket.decisions[-1].at
    return max([ticket.created_at, *(run.finished_at for run in ticket.runs if run.finished_at)])


def _decide(ticket_id: int, verb: str) -> Response:
    ticket = queries.visible(ticket_id, current_user)
    try:
        _carry_out(ticket, verb, request.form.get("comment", ""), request.form.get("level", ""))
    except Invalid as err:
        return make_response(_question(ticket, verb, err.errors), 422)
    except Conflict as err:
        db.session.expire_all()
        fresh = queries.visible(ticket_id, current_user)
        template = "tickets/_news.html" if is_fragment() else "tickets/detail.html"
        shown = render_template(template, ticket=fresh, refusal=err.message, **about(fresh))
        return make_response(shown, 409)
    tell(Message(VERBS[verb][1].text, {"id": ticket.id}))
    from_inbox = request.form.get("back") == "inbox"
    return go_to(url_for("approvals.index") if from_inbox else url_for("tickets.detail", ticket_id=ticket_id))


def _carry_out(ticket: Ticket, verb: str, comment: str, level: str) -> None:
    seen = int(level) if level in map(str, range(MOST_LEVELS + 1)) else None
    VERBS[verb][0](ticket, actor=signed_in_user(), comment=comment, level=seen)


def _question(ticket: Ticket, verb: str, errors: Mapping[str, Sequence[Message]] | None = None) -> str:
    return render_template(
        "approvals/ask.html",
        ticket=ticket,
        verb=verb,
        errors=errors or {},
        actions=actions(ticket, current_user),
        comment=request.form.get("comment", ""),
    )


@blueprint.app_template_global("comparison_of")
def comparison_of(ticket: Ticket) -> Comparison:
    """Return what differs between a ticket and the last success of its work order. Needs three statements."""
    return comparisons([ticket], reader=signed_in_user())[ticket.id]
