"""What only work orders have: templates, activating, and the preview of what they would run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Response, render_template, url_for

from skstack.accounts.models import Page
from skstack.accounts.sessions import signed_in_user
from skstack.catalog import compiling, queries, services
from skstack.catalog.forms import WorkOrderForm
from skstack.catalog.models import WorkOrder
from skstack.catalog.views.blueprint import blueprint
from skstack.catalog.views.pages import WORKORDERS, list_page, render
from skstack.db import utcnow
from skstack.errors import Conflict, Invalid
from skstack.extensions import db
from skstack.messages import N_, Message
from skstack.substitution import Problem
from skstack.web.forms import go_to, tell
from skstack.web.permissions import permit


@blueprint.get("/config/templates")
@permit(Page.CONFIGURATION)
def templates() -> str:
    """List the templates."""
    return list_page(WORKORDERS, "catalog/templates.html", templates=True)


@blueprint.post("/config/workorders/<int:id>/activate")
@permit(Page.CONFIGURATION)
def activate_workorder(id: int) -> Response:
    """Let users see a work order. 404; 409 with the reason where it is a template or would be refused."""
    return _switched(id, active=True)


@blueprint.post("/config/workorders/<int:id>/deactivate")
@permit(Page.CONFIGURATION)
def deactivate_workorder(id: int) -> Response:
    """Hide a work order from users. 404."""
    return _switched(id, active=False)


@blueprint.post("/config/workorders/<int:id>/template")
@permit(Page.CONFIGURATION)
def turn_into_template(id: int) -> Response:
    """Turn a work order into a template. 404."""
    return _switched(id, template=True)


@blueprint.post("/config/templates/<int:id>/workorder")
@permit(Page.CONFIGURATION)
def turn_into_workorder(id: int) -> Response:
    """Turn a template into a work order that is not active. 404; 409 where it would be refused."""
    return _switched(id, template=False)


@blueprint.post("/config/workorders/preview")
@permit(Page.CONFIGURATION)
def preview_workorder() -> str:
    """Show what the work order in the form would run, and what is refused, as a fragment. Saves nothing."""
    form = WorkOrderForm.sent()
    return render_template("catalog/_preview.html", **preview(form))


def _switched(id: int, *, active: bool | None = None, template: bool | None = None) -> Response:
    workorder = queries.get(WorkOrder, id)
    try:
        if active is not None:
            services.set_active(workorder, active, actor=signed_in_user())
        if template is not None:
            services.set_template(workorder, template, actor=signed_in_user())
    except (Conflict, Invalid) as err:
        if err.details.get("gone"):
            raise
        workorder = queries.get(WorkOrder, id)
        return render(WORKORDERS, WorkOrderForm.showing(workorder), workorder, 409, refusal=err.message)
    told = {
        (True, None): N_("%(name)s is active: its groups can submit it."),
        (False, None): N_("%(name)s is not active any more: nobody can submit it."),
        (None, True): N_("%(name)s is a template now."),
        (None, False): N_("%(name)s is a work order now. It is not active yet."),
    }[active, template]
    tell(Message(told.text, {"name": workorder.name}))
    return go_to(url_for("catalog.workorder", id=workorder.id))


@dataclass(frozen=True, slots=True)
class ShownProblem:
    """One refusal beside the line that it is about, cut where the mark begins and ends."""

    problem: Problem
    before: str
    marked: str
    after: str

    @classmethod
    def of(cls, problem: Problem, text: str) -> ShownProblem:
        lines = text.split("\n")
        line = lines[problem.line - 1] if problem.line <= len(lines) else ""
        start = problem.column - 1
        end = start + max(problem.length, 1)
        return cls(problem, line[:start], line[start:end], line[end:])


def preview(form: WorkOrderForm) -> dict[str, Any]:
    """Return what `catalog/_preview.html` shows of a form: lines and refusals of each task, and other errors."""
    try:
        values = form.values()
    except Invalid as err:
        return {
            "tasks": [],
            "errors": [message for found in err.errors.values() for message in found],
            "samples": {},
        }
    with db.session.no_autoflush:
        workorder = WorkOrder()
        services.set_defaults(workorder)
        for attribute in (
            *compiling.TASKS,
            "name",
            "builtin_variables",
            "variable_group",
            "variable_group_on",
            "environment",
        ):
            setattr(workorder, attribute, values[attribute])
        found = compiling.preview(workorder, now=utcnow())
    labels = {field: form[field].label.text for field in compiling.TASKS}
    tasks = [
        {
            "label": labels[field],
            "lines": found.lines.get(field, []),
            "problems": [
                ShownProblem.of(problem, values[field] or "") for problem in found.problems.get(field, ())
            ],
        }
        for field in compiling.TASKS
    ]
    return {
        "tasks": tasks,
        "errors": [message for messages in found.errors.values() for message in messages],
        "samples": found.samples,
    }


blueprint.add_app_template_global(preview, "preview_of")
