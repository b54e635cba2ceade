"""The pages of submitters: choose a work order, fill it in, watch."""

from __future__ import annotations

from flask import make_response, redirect, render_template, request, url_for
from flask_babel import get_timezone
from flask_login import current_user
from werkzeug.wrappers import Response as BaseResponse

from skstack.accounts.models import Page
from skstack.accounts.sessions import signed_in_user
from skstack.catalog import freezing
from skstack.catalog.models import WorkOrder
from skstack.db import utcnow
from skstack.errors import Conflict, Invalid, NotFound
from skstack.extensions import db
from skstack.tickets import forms, locks, queries, services, ticket_views
from skstack.tickets.blueprint import blueprint
from skstack.tickets.ticket_views import about
from skstack.web.errors import is_fragment
from skstack.web.links import row_id
from skstack.web.local_time import zone_name
from skstack.web.permissions import permit


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
    again = request.args.get("ticket", type=row_id)
    earlier = queries.visible(again, current_user) if again else None
    if earlier is not None and earlier.workorder_id != workorder.id:
        raise NotFound
    form = forms.SubmitForm.first(workorder, earlier)
    return _form_page("tickets/submit.html", workorder, form)


@blueprint.post("/workorders/<int:workorder_id>/submit")
@permit(Page.SUBMIT)
def submit(workorder_id: int) -> BaseResponse:
    """Submit the form: 303 to the ticket, or the ticket's pane as a fragment. 422 with the form where values are wrong.

    409 where something else is in the way, with what that is: as a fragment that alone, so that the form stays as it is.
    """
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
            scheduled_at=form.planned_time(),
            background=form.background,
            auto_run=form.auto_run,
            break_glass=form.break_glass,
            idempotency_key=form.key,
        )
    except Invalid as err:
        form.errors = err.errors
        template = "tickets/_form.html" if is_fragment() else "tickets/submit.html"
        return make_response(_form_page(template, workorder, form), 422)
    except Conflict as err:
        return _refused(workorder, form, err)
    address = url_for("tickets.detail", ticket_id=ticket.id)
    if not is_fragment():
        return redirect(address, 303)
    response = make_response(render_template("tickets/_submitted.html", ticket=ticket, **about(ticket)))
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


def _form_page(
    template: str, workorder: WorkOrder, form: forms.SubmitForm, refusal: Conflict | None = None
) -> str:
    """Lay out the form with what is in its way now. What the reader may not see is named and not linked."""
    in_the_way = refusal or locks.in_the_way(workorder) or locks.own_in_the_way(workorder, signed_in_user())
    holder = in_the_way.details.get("ticket") if in_the_way else None
    window = freezing.window_at(workorder.environment_id, utcnow())
    starts_now = workorder.pre_task.strip() or workorder.approval_flow is None
    return render_template(
        template,
        workorder=workorder,
        form=form,
        refusal=refusal,
        in_the_way=in_the_way,
        holder=holder if holder and queries.is_visible(holder, current_user) else None,
        window=window,
        breaks_glass=window is not None and starts_now and current_user.superuser,
        zone=zone_name(get_timezone(), utcnow()),
    )


def _refused(workorder: WorkOrder, form: forms.SubmitForm, refusal: Conflict) -> BaseResponse:
    db.session.expire_all()
    template = "tickets/_obstacles.html" if is_fragment() else "tickets/submit.html"
    response = make_response(_form_page(template, workorder, form, refusal), 409)
    if is_fragment():
        response.headers["HX-Retarget"] = "#obstacles"
        response.headers["HX-Reswap"] = "outerHTML"
    return response


__all__ = ["blueprint", "ticket_views"]
