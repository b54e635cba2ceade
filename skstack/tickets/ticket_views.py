"""The pages of tickets: lists, one with everything about it, and what is done to it with a button."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flask import make_response, render_template, request, url_for
from flask_babel import get_timezone
from flask_login import current_user
from werkzeug.wrappers import Response as BaseResponse

from skstack.accounts.models import Page
from skstack.accounts.sessions import signed_in_user
from skstack.catalog import freezing
from skstack.db import utcnow
from skstack.errors import Conflict, Invalid, NotAllowed
from skstack.extensions import db
from skstack.messages import N_, Message
from skstack.runs import services as runs
from skstack.tickets import forms, queries, reviewing, services
from skstack.tickets.actions import actions, can_execute, can_revoke, can_stop
from skstack.tickets.blueprint import blueprint
from skstack.tickets.models import Ticket
from skstack.tickets.plan import Plan
from skstack.tickets.progress import has_waited, progress_of, prospects, seconds_to_next_look, waits_for
from skstack.web.errors import is_fragment
from skstack.web.forms import go_to, tell
from skstack.web.local_time import is_shown_twice
from skstack.web.pagination import Paged, PagedInOrder, asked
from skstack.web.permissions import permit

_POSSIBLE = {"execute": can_execute, "revoke": can_revoke, "stop": can_stop}


@blueprint.get("/tickets")
@permit(Page.SUBMIT, Page.EXECUTE)
def index() -> str:
    """List the reader's own tickets, newest first, narrowed by the address."""
    filters = forms.asked_filters()
    page = queries.tickets_of(current_user, filters, **asked(), with_actions=True)
    return render_template("tickets/list.html", **listing(page, filters), scope="mine")


@blueprint.get("/tickets/waiting")
@permit(Page.EXECUTE)
def waiting() -> str:
    """List those of the reader's tickets that can be run, wait or run, newest first, narrowed by the address."""
    filters = forms.asked_filters()
    page = queries.tickets_of(current_user, filters, **asked(), with_actions=True, unfinished=True)
    return render_template("tickets/list.html", **listing(page, filters), scope="waiting")


@blueprint.get("/tickets/<int:ticket_id>")
@permit(Page.SUBMIT, Page.EXECUTE, Page.APPROVE, Page.AUDIT)
def detail(ticket_id: int) -> str:
    """Show everything about one ticket. 404: not the reader's to see."""
    ticket = queries.visible(ticket_id, current_user)
    return render_template("tickets/detail.html", ticket=ticket, **about(ticket))


@blueprint.get("/tickets/<int:ticket_id>/summary")
@permit(Page.SUBMIT, Page.EXECUTE, Page.APPROVE, Page.AUDIT)
def summary(ticket_id: int) -> str:
    """Show the part of the page that changes while the ticket is not over, as a fragment.

    `runs` is how many runs the page knows. The log follows from the pre to the main task by itself, unless the ticket
    waited between them or before: then what was started meanwhile comes along.
    """
    ticket = queries.visible(ticket_id, current_user)
    shown = request.args.get("runs", type=int)
    return render_template(
        "tickets/_news.html",
        ticket=ticket,
        shows_history="history" in request.args,
        brings_log=shown is not None and len(ticket.runs) > shown and has_waited(ticket),
        **about(ticket),
    )


@blueprint.get("/tickets/<int:ticket_id>/<any(execute, revoke, stop):action>")
@permit(Page.SUBMIT, Page.EXECUTE)
def ask(ticket_id: int, action: str) -> str:
    """Ask before something is done to a ticket: a page, or the content of a dialog.

    403 for others than the submitter and superusers, 409 if it cannot be done now.
    """
    ticket = queries.visible(ticket_id, current_user)
    if not _POSSIBLE[action](ticket, signed_in_user()):
        raise NotAllowed(N_("Only the submitter or an administrator can do this to a ticket."))
    if action not in actions(ticket, current_user):
        raise Conflict(
            N_("Ticket %(id)s is %(status)s now.", id=ticket.id, status=ticket.state.label), ticket=ticket.id
        )
    return _question(ticket, action)


@blueprint.post("/tickets/<int:ticket_id>/execute")
@permit(Page.EXECUTE)
def execute(ticket_id: int) -> BaseResponse:
    """Start it by hand. 403 for others than the submitter and superusers, 409 if it cannot start now."""
    reason = request.form.get("break_glass", "")
    return _do(
        ticket_id,
        "execute",
        lambda ticket: services.execute(ticket, actor=signed_in_user(), break_glass=reason),
        N_("Ticket %(id)s was started.", id=ticket_id),
    )


@blueprint.post("/tickets/<int:ticket_id>/revoke")
@permit(Page.SUBMIT, Page.EXECUTE)
def revoke(ticket_id: int) -> BaseResponse:
    """End what has not started. 403 for others than the submitter and superusers, 409 if it does not wait."""
    return _do(
        ticket_id,
        "revoke",
        lambda ticket: services.revoke(ticket, actor=signed_in_user()),
        N_("Ticket %(id)s was revoked.", id=ticket_id),
    )


@blueprint.post("/tickets/<int:ticket_id>/stop")
@permit(Page.SUBMIT, Page.EXECUTE)
def stop(ticket_id: int) -> BaseResponse:
    """Stop what runs. 403 for others than the submitter and superusers, 409 if nothing runs."""
    return _do(
        ticket_id,
        "stop",
        lambda ticket: runs.stop(ticket, actor=signed_in_user()),
        N_("Ticket %(id)s is being stopped.", id=ticket_id),
    )


def listing(page: Paged[Ticket] | PagedInOrder[Ticket], filters: queries.Filters) -> dict[str, Any]:
    """Return what the template of every list of tickets shows beside `scope`. Needs three statements."""
    now, frozen = utcnow(), freezing.windows_at(utcnow())
    return {
        "page": page,
        "filters": filters,
        "environments": queries.environments(),
        "categories": queries.categories(),
        "waits_for": lambda ticket: waits_for(ticket, now=now, frozen=frozen),
        "actions_of": lambda ticket: actions(ticket, current_user),
    }


def about(ticket: Ticket) -> dict[str, Any]:
    """Return what the page of a ticket shows beside it, as it is now."""
    now, planned = utcnow(), ticket.scheduled_at
    window = freezing.window_at(ticket.environment_id, now) if ticket.state.waits else None
    thawed = freezing.thawed_at(ticket.environment_id, planned) if planned and ticket.state.waits else None
    return {
        "plan": Plan.from_json(ticket.plan),
        "actions": actions(ticket, current_user),
        "window": window,
        "broken_glass": reviewing.of_ticket(ticket) if ticket.runs else [],
        "levels": progress_of(ticket),
        "prospects": prospects(ticket, now=now, window=window, thawed=thawed),
        "starts_at": thawed if thawed and thawed > now and ticket.is_approved else None,
        "looks_again": seconds_to_next_look(ticket, now=now, thawed=thawed),
        "is_shown_twice": planned is not None and is_shown_twice(planned, get_timezone()),
    }


def _do(ticket_id: int, action: str, act: Callable[[Ticket], None], done: Message) -> BaseResponse:
    """Do something to a ticket and lead to its page; if it is too late for that, show it as it is, with a sentence."""
    ticket = queries.visible(ticket_id, current_user)
    try:
        act(ticket)
    except Invalid as err:
        return make_response(_question(ticket, action, err.errors), 422)
    except Conflict as err:
        db.session.expire_all()
        template = "tickets/_news.html" if is_fragment() else "tickets/detail.html"
        fresh = queries.visible(ticket_id, current_user)
        return make_response(
            render_template(template, ticket=fresh, refusal=err.message, **about(fresh)), 409
        )
    tell(done, "info")
    return go_to(url_for("tickets.detail", ticket_id=ticket_id))


def _question(ticket: Ticket, action: str, errors: Mapping[str, Sequence[Message]] | None = None) -> str:
    template = "tickets/_ask.html" if is_fragment() else "tickets/ask.html"
    return render_template(
        template,
        ticket=ticket,
        action=action,
        errors=errors or {},
        window=freezing.window_at(ticket.environment_id, utcnow()),
    )
