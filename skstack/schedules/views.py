"""The pages of schedules: one's own, and for superusers everybody's."""

from __future__ import annotations

from flask import Blueprint, make_response, render_template, request, url_for
from flask_login import current_user
from werkzeug.wrappers import Response

from skstack.accounts.models import Page
from skstack.accounts.profile import timezones
from skstack.accounts.sessions import signed_in_user
from skstack.db import utcnow
from skstack.errors import Invalid, NotAllowed, NotFound
from skstack.messages import N_
from skstack.schedules import queries, recurring
from skstack.schedules.forms import Preview, ScheduleForm
from skstack.schedules.models import Schedule
from skstack.web.errors import is_fragment
from skstack.web.forms import go_to, tell
from skstack.web.links import row_id
from skstack.web.pagination import asked
from skstack.web.permissions import permit

blueprint = Blueprint("schedules", __name__, url_prefix="/schedules")
blueprint.add_app_template_global(timezones, "timezone_names")


@blueprint.get("")
@permit(Page.SUBMIT)
def index() -> str:
    """List the reader's schedules; a superuser sees everybody's."""
    page = queries.schedules_of(current_user, **asked())
    return render_template("schedules/list.html", page=page, now=utcnow())


@blueprint.get("/new")
@permit(Page.SUBMIT)
def new() -> str:
    """Choose a work order, or with `?workorder=ID` show its form. 404: not the reader's to submit at planned times."""
    number = request.args.get("workorder", type=row_id)
    if number is None:
        return render_template("schedules/choose.html", workorders=queries.workorders_for(current_user))
    workorder = queries.workorder_for(number, current_user)
    form = ScheduleForm.first(workorder)
    return render_template("schedules/form.html", workorder=workorder, form=form, schedule=None)


@blueprint.post("/new")
@permit(Page.SUBMIT)
def create() -> Response:
    """Make a schedule: 303 to its page. 422 with the form where something is wrong, 404 as for the form."""
    workorder = queries.workorder_for(request.args.get("workorder", 0, type=row_id), current_user)
    form = ScheduleForm.sent(workorder)
    try:
        if form.errors:
            raise Invalid(form.errors)
        schedule = recurring.create(actor=signed_in_user(), workorder=workorder, **form.content)
    except Invalid as err:
        return _wrong(form, err, None)
    tell(N_("The schedule %(name)s was added.", name=schedule.name))
    return _to(schedule)


@blueprint.get("/times")
@permit(Page.SUBMIT)
def times() -> str:
    """Show the next times of the expression in the address, or what is wrong with it, as a fragment."""
    preview = Preview.of(request.args.get(recurring.EXPRESSION, ""), request.args.get(recurring.TIMEZONE, ""))
    return render_template("schedules/_times.html", preview=preview)


@blueprint.get("/<int:schedule_id>")
@permit(Page.SUBMIT)
def detail(schedule_id: int) -> str:
    """Show a schedule, its next times and what became of the last ones. 404: not the reader's to see."""
    schedule = queries.visible(schedule_id, current_user)
    return render_template(
        "schedules/detail.html",
        schedule=schedule,
        workorder=schedule.workorder,
        preview=Preview.of(schedule.expression, schedule.timezone),
        page=queries.occurrences_of(schedule, **asked()),
        owners=queries.possible_owners(schedule) if current_user.superuser else [],
        now=utcnow(),
    )


@blueprint.get("/<int:schedule_id>/edit")
@permit(Page.SUBMIT)
def edit(schedule_id: int) -> str:
    """Show the form of a schedule. 403: not the reader's own; 404: not theirs to see, or to submit any more."""
    schedule = _own(schedule_id)
    form = ScheduleForm.of(schedule)
    return render_template("schedules/form.html", workorder=schedule.workorder, form=form, schedule=schedule)


@blueprint.post("/<int:schedule_id>/edit")
@permit(Page.SUBMIT)
def change(schedule_id: int) -> Response:
    """Change a schedule: 303 to its page. 422 with the form where something is wrong, 409 if somebody else changed it."""
    schedule = _own(schedule_id)
    form = ScheduleForm.sent(schedule.workorder)
    try:
        if form.errors:
            raise Invalid(form.errors)
        recurring.change(schedule, actor=signed_in_user(), version=form.version, **form.content)
    except Invalid as err:
        return _wrong(form, err, schedule)
    tell(N_("The schedule %(name)s was saved.", name=schedule.name))
    return _to(schedule)


@blueprint.post("/<int:schedule_id>/pause")
@permit(Page.SUBMIT)
def pause(schedule_id: int) -> Response:
    """Pause a schedule. 409 if it is paused."""
    schedule = queries.visible(schedule_id, current_user)
    recurring.pause(schedule, actor=signed_in_user())
    tell(N_("The schedule %(name)s is paused.", name=schedule.name))
    return _to(schedule)


@blueprint.post("/<int:schedule_id>/resume")
@permit(Page.SUBMIT)
def resume(schedule_id: int) -> Response:
    """Let a paused schedule go on. 409 if it is not paused, or its owner may not submit the work order."""
    schedule = queries.visible(schedule_id, current_user)
    recurring.resume(schedule, actor=signed_in_user())
    tell(N_("The schedule %(name)s goes on.", name=schedule.name))
    return _to(schedule)


@blueprint.post("/<int:schedule_id>/owner")
@permit(Page.SUBMIT)
def hand_over(schedule_id: int) -> Response:
    """Hand a schedule over to `owner`. 403 for others than superusers, 404 for nobody to whom it could be given."""
    schedule = queries.visible(schedule_id, current_user)
    if not current_user.superuser:
        raise NotAllowed(N_("Only an administrator can hand over a schedule."))
    number = request.form.get("owner", type=row_id)
    owner = next((user for user in queries.possible_owners(schedule) if user.id == number), None)
    if owner is None:
        raise NotFound
    recurring.hand_over(schedule, to=owner, actor=signed_in_user())
    tell(N_("The schedule %(name)s belongs to %(user)s now.", name=schedule.name, user=owner.username))
    return _to(schedule)


@blueprint.post("/<int:schedule_id>/delete")
@permit(Page.SUBMIT)
def delete(schedule_id: int) -> Response:
    """Delete a schedule; its tickets stay."""
    schedule = queries.visible(schedule_id, current_user)
    recurring.delete(schedule, actor=signed_in_user())
    tell(N_("The schedule %(name)s was deleted.", name=schedule.name))
    return go_to(url_for("schedules.index"))


def _own(schedule_id: int) -> Schedule:
    schedule = queries.visible(schedule_id, current_user)
    if schedule.owner_id != current_user.id:
        raise NotAllowed(recurring.ONLY_ITS_OWNER)
    queries.workorder_for(schedule.workorder_id, current_user)
    return schedule


def _to(schedule: Schedule) -> Response:
    return go_to(url_for("schedules.detail", schedule_id=schedule.id))


def _wrong(form: ScheduleForm, error: Invalid, schedule: Schedule | None) -> Response:
    form.fields.errors = error.errors
    template = "schedules/_form.html" if is_fragment() else "schedules/form.html"
    content = render_template(template, workorder=form.fields.workorder, form=form, schedule=schedule)
    return make_response(content, 422)
