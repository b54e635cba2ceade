"""*Check* on a variable: what users would be offered now."""

from __future__ import annotations

from flask import Response, request

from skstack.accounts.models import Page
from skstack.catalog import choices, queries
from skstack.catalog.models import Variable, WorkOrder
from skstack.catalog.views.blueprint import blueprint
from skstack.catalog.views.pages import VARIABLES, render
from skstack.web.links import row_id
from skstack.web.permissions import permit


@blueprint.post("/config/variables/<int:id>/check")
@permit(Page.CONFIGURATION)
def check_variable(id: int) -> Response:
    """Run the stored script for a work order, with `v-NAME` as the values of others, and show its choices. 404."""
    variable = queries.get(Variable, id)
    chosen = request.form.get("workorder", type=row_id)
    # Without a work order: on this host, with nothing but what the script itself says.
    alone = WorkOrder(name="check", builtin_variables={})
    workorder = alone if chosen is None else queries.get(WorkOrder, chosen)
    values = {
        other.name: request.form.getlist(f"v-{other.name}")
        if other.takes_several
        else request.form.get(f"v-{other.name}", "")
        for other in workorder.variables
    }
    offered = choices.offer(variable, workorder=workorder, values=values)
    return render(
        VARIABLES,
        VARIABLES.form.showing(variable),
        variable,
        offered=offered,
        checked_with=workorder,
        values=values,
    )


@blueprint.app_template_global("workorders_with")
def workorders_with(variable: Variable) -> list[WorkOrder]:
    """Return the work orders whose form has a variable."""
    return list(queries.workorders_with(variable))


@blueprint.app_template_global("variables_needed")
def variables_needed(variable: Variable) -> list[Variable]:
    """Return the variables whose values a script uses."""
    names = set(choices.depends_on(variable))
    return [other for other in queries.all_named(Variable) if other.name in names]
