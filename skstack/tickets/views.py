"""The pages of submitters: choose a work order, fill it in, watch, look back."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, flash, make_response, redirect, render_template, request, url_for
from flask_login import current_user
from werkzeug.wrappers import Response as BaseResponse

from skstack.accounts.models import Page
from skstack.accounts.sessions import signed_in_user
from skstack.errors import Invalid, NotFound
from skstack.messages import N_
from skstack.runs import services as runs
from skstack.states import TicketStatus
from skstack.tickets import forms, queries, services
from skstack.tickets.actions import actions
from skstack.tickets.plan import Plan
from skstack.web.errors import is_fragment
from skstack.web.links import url_with
from skstack.web.pagination import asked
from skstack.web.permissions import permit
from skstack.web.text import translate

blueprint = Blueprint("tickets", __name__)
blueprint.add_app_template_filter(TicketStatus, "ticket_status")
blueprint.add_app_template_filter(lambda name: f"[name='{name}']", "field_selector")
blueprint.add_app_template_filter(lambda name: f"change from:#slot-{name} delay:150ms", "changes_of")
blueprint.add_app_template_filter(
    lambda choices: [(choice.value, choice.label) for choice in choices], "choice_pairs"
)
blueprint.add_app_template_global(lambda: [(state, state.label) for state in TicketStatus], "ticket_statuses")
blueprint.add_app_template_global(lambda name: url_with(environment=name), "tab_url")


@blueprint.get("/workorders")
@permit(Page.SUBMIT)
def workorders() -> str:
    """Show what the reader may submit, a tab for each environment."""
    environment, text = request.args.get("environment", ""), request.args.get("q", "").strip()[:200]
    return render_template(
        "tickets/workorders.html",
        workorders=queries.submittable(current_user, environment=environment, text=text),
        environments=queries.environments(),
        environment=environment,
        text=text,
    )


@blueprint.get("/workorders/<int:workorder_id>/submit")
@permit(Page.SUBMIT)
def submit_form(workorder_id: int) -> str:
    """Show the form, filled with the values of `?ticket=ID` or of `?Var=value`. 404: not the reader's to submit."""
    workorder = queries.submittable_workorder(workorder_id, current_user)
    again = request.args.get("ticket", type=int)
    earlier = queries.visible(again, current_user) if again else None
    if earlier is not None and earlier.workorder_id != workorder.id:
        raise NotFound
    form = forms.SubmitForm.first(workorder, earlier)
    return render_template("tickets/submit.html", workorder=workorder, form=form)


@blueprint.post("/workorders/<int:workorder_id>/submit")
@permit(Page.SUBMIT)
def submit(workorder_id: int) -> BaseResponse:
    """Submit the form: 303 to the ticket, or the ticket's pane as a fragment. 422 with the form where values are wrong."""
    workorder = queries.submittable_workorder(workorder_id, current_user)
    form = forms.SubmitForm.sent(workorder)
    try:
        if form.errors:
            raise Invalid(form.errors)
        ticket = services.submit(
            actor=signed_in_user(),
            workorder=workorder,
            values=form.values,
            note=form.note,
            idempotency_key=form.key,
        )
    except Invalid as err:
        form.errors = err.errors
        template = "tickets/_form.html" if is_fragment() else "tickets/submit.html"
        return make_response(render_template(template, workorder=workorder, form=form), 422)
    address = url_for("tickets.detail", ticket_id=ticket.id)
    if not is_fragment():
        return redirect(address, 303)
    response = make_response(render_template("tickets/_submitted.html", ticket=ticket, **_about(ticket)))
    response.headers["HX-Push-Url"] = address
    return response


@blueprint.get("/workorders/<int:workorder_id>/fields/<name>")
@permit(Page.SUBMIT)
def field(workorder_id: int, name: str) -> str:
    """Run one variable's script and show its field: the choices, or why there are none."""
    workorder = queries.submittable_workorder(workorder_id, current_user)
    variable = next((one for one in workorder.variables if one.name == name and one.source == "script"), None)
    if variable is None:
        raise NotFound
    shown, values = forms.fragment_field(workorder, variable)
    forms.load(shown, workorder, values)
    return render_template("tickets/_field.html", workorder=workorder, field=shown)


@blueprint.get("/tickets")
@permit(Page.SUBMIT, Page.EXECUTE)
def index() -> str:
    """List the reader's own tickets, newest first, narrowed by the address."""
    filters = forms.asked_filters()
    return render_template(
        "tickets/list.html",
        everyone=False,
        page=queries.tickets_of(current_user, filters, **asked()),
        filters=filters,
        environments=queries.environments(),
        categories=queries.categories(),
    )


@blueprint.get("/tickets/<int:ticket_id>")
@permit(Page.SUBMIT, Page.EXECUTE, Page.APPROVE, Page.AUDIT)
def detail(ticket_id: int) -> str:
    """Show everything about one ticket. 404: not the reader's to see."""
    ticket = queries.visible(ticket_id, current_user)
    return render_template("tickets/detail.html", ticket=ticket, **_about(ticket))


@blueprint.get("/tickets/<int:ticket_id>/summary")
@permit(Page.SUBMIT, Page.EXECUTE, Page.APPROVE, Page.AUDIT)
def summary(ticket_id: int) -> str:
    """Show the part of the page that changes while the ticket runs, as a fragment."""
    ticket = queries.visible(ticket_id, current_user)
    return render_template(
        "tickets/_news.html", ticket=ticket, shows_history="history" in request.args, **_about(ticket)
    )


@blueprint.post("/tickets/<int:ticket_id>/stop")
@permit(Page.SUBMIT, Page.EXECUTE)
def stop(ticket_id: int) -> BaseResponse:
    """Stop what runs. 403 for others than the submitter and superusers, 409 if nothing runs."""
    ticket = queries.visible(ticket_id, current_user)
    runs.stop(ticket, actor=signed_in_user())
    flash(translate(N_("Ticket %(id)s is being stopped.", id=ticket.id)), "info")
    address = url_for("tickets.detail", ticket_id=ticket.id)
    if is_fragment():
        return Response(status=204, headers={"HX-Redirect": address})
    return redirect(address, 303)


def _about(ticket: Any) -> dict[str, Any]:
    plan = Plan.from_json(ticket.plan)
    return {"plan": plan, "actions": actions(ticket, current_user)}
