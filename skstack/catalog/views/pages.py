"""The pages that every kind of object has: list, add, edit, copy, delete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Response, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from skstack.accounts.models import Page
from skstack.accounts.sessions import signed_in_user
from skstack.catalog import forms, queries, services
from skstack.catalog.forms import CatalogForm
from skstack.catalog.kinds import kind_of
from skstack.catalog.models import (
    ApprovalFlow,
    Category,
    ConfigCenter,
    Environment,
    FreezeWindow,
    Variable,
    VariableGroup,
    WorkOrder,
)
from skstack.catalog.views.blueprint import blueprint
from skstack.errors import Conflict, Invalid, NotFound
from skstack.messages import N_, Message
from skstack.web.forms import go_to, tell
from skstack.web.links import row_id
from skstack.web.permissions import permit


@dataclass(frozen=True, slots=True)
class Pages:
    """What the pages of one kind need to know. `one` is the endpoint of an object, `many` that of the list."""

    model: type[Any]
    form: type[CatalogForm]
    one: str
    many: str
    path: str
    add: Message

    @property
    def can_be_copied(self) -> bool:
        return self.model in (ApprovalFlow, FreezeWindow, Variable, VariableGroup, WorkOrder)


ENVIRONMENTS = Pages(
    Environment, forms.EnvironmentForm, "environment", "environments", "environments", N_("Add environment")
)
CATEGORIES = Pages(Category, forms.CategoryForm, "category", "categories", "categories", N_("Add category"))
CONFIG_CENTERS = Pages(
    ConfigCenter,
    forms.ConfigCenterForm,
    "config_center",
    "config_centers",
    "config-centers",
    N_("Add config center"),
)
VARIABLES = Pages(Variable, forms.VariableForm, "variable", "variables", "variables", N_("Add variable"))
VARIABLE_GROUPS = Pages(
    VariableGroup,
    forms.VariableGroupForm,
    "variable_group",
    "variable_groups",
    "variable-groups",
    N_("Add variable group"),
)
APPROVAL_FLOWS = Pages(
    ApprovalFlow,
    forms.ApprovalFlowForm,
    "approval_flow",
    "approval_flows",
    "approval-flows",
    N_("Add approval flow"),
)
FREEZE_WINDOWS = Pages(
    FreezeWindow,
    forms.FreezeWindowForm,
    "freeze_window",
    "freeze_windows",
    "freeze-windows",
    N_("Add freeze window"),
)
WORKORDERS = Pages(
    WorkOrder, forms.WorkOrderForm, "workorder", "workorders", "workorders", N_("Add work order")
)

ALL = (
    ENVIRONMENTS,
    CATEGORIES,
    CONFIG_CENTERS,
    VARIABLES,
    VARIABLE_GROUPS,
    APPROVAL_FLOWS,
    FREEZE_WINDOWS,
    WORKORDERS,
)


@blueprint.get("/config")
@permit(Page.CONFIGURATION)
def index() -> BaseResponse:
    """Lead to the first list."""
    return redirect(url_for("catalog.workorders"))


def render(pages: Pages, form: CatalogForm, thing: Any | None, status: int = 200, **context: Any) -> Response:
    """Return the page with the form of an object, or of a new one."""
    template = f"catalog/{pages.one}_form.html"
    return make_response(render_template(template, pages=pages, form=form, thing=thing, **context), status)


def list_page(pages: Pages, template: str, **context: Any) -> str:
    """Return the page with the list, narrowed by `q`, `environment`, `category`, `state` and `after`."""
    args = request.args
    filters = queries.Filters(
        text=args.get("q", "").strip()[:200],
        environment=args.get("environment", ""),
        category=args.get("category", ""),
        state=args.get("state", "") if args.get("state") in ("active", "inactive") else "",
        after=args.get("after", ""),
    )
    return render_template(
        template,
        pages=pages,
        page=queries.listed(pages.model, filters, template=context.get("templates", False)),
        filters=filters,
        environments=queries.environments(),
        categories=queries.categories(),
        **context,
    )


def _register(pages: Pages) -> None:
    """Put the routes of one kind on the blueprint."""
    base = f"/config/{pages.path}"

    def index() -> str:
        """List what there is."""
        return list_page(pages, f"catalog/{pages.many}.html")

    def new() -> Response:
        """Show the form for a new one; with `?copy=ID` filled with what another one holds."""
        return render(pages, _new_form(pages), None)

    def create() -> Response:
        """Add one. 422 with the form where something is wrong."""
        form = pages.form.sent()
        if (arranged := _arranged(pages, form, None)) is not None:
            return arranged
        return _create(pages, form)

    def one(id: int) -> Response:
        """Show one, to be changed. 404."""
        thing = queries.get(pages.model, id)
        return render(pages, pages.form.showing(thing), thing)

    def change(id: int) -> Response:
        """Change one. 404; 409 with the fresh state if somebody was quicker; 422 with the form."""
        thing = queries.get(pages.model, id)
        form = pages.form.sent()
        if (arranged := _arranged(pages, form, thing)) is not None:
            return arranged
        return _change(pages, form, thing)

    def delete(id: int) -> Response:
        """Delete one. 404; where something depends on it the page says what, with 409."""
        thing = queries.get(pages.model, id)
        named = kind_of(thing).message(thing)
        back = url_for(f"catalog.{pages.many}")
        try:
            services.delete(thing, actor=signed_in_user())
        except Conflict as err:
            if err.details.get("gone"):
                raise
            return render(pages, pages.form.showing(thing), thing, 409, refusal=err.message)
        tell(N_("The %(thing)s was deleted.", thing=named))
        return go_to(back)

    routes: tuple[tuple[str, str, Callable[..., Any], str], ...] = (
        (base, pages.many, index, "GET"),
        (f"{base}/new", f"new_{pages.one}", new, "GET"),
        (f"{base}/new", f"create_{pages.one}", create, "POST"),
        (f"{base}/<int:id>", pages.one, one, "GET"),
        (f"{base}/<int:id>", f"change_{pages.one}", change, "POST"),
        (f"{base}/<int:id>/delete", f"delete_{pages.one}", delete, "POST"),
    )
    for path, endpoint, view, method in routes:
        blueprint.add_url_rule(path, endpoint, permit(Page.CONFIGURATION)(view), methods=[method])


def _new_form(pages: Pages) -> CatalogForm:
    copied = request.args.get("copy", type=row_id)
    if copied is None or not pages.can_be_copied:
        form = pages.form.showing(None)
    else:
        original = queries.get(pages.model, copied)
        form = pages.form.showing(original, name=_free_name(original))
        form.version.data = ""
        if pages is WORKORDERS:
            form["active"].data = False  # Nobody can submit a copy before it was looked over.
    if pages is WORKORDERS and request.args.get("template", "") in ("0", "1"):
        form["template"].data = request.args["template"] == "1"
    return form


def _free_name(original: Any) -> str:
    """Return a name for a copy that nothing has yet: a variable's must be a word."""
    joint = "_" if isinstance(original, Variable) else " "
    taken = {other.name for other in queries.all_named(type(original))}
    number = 2
    while (name := f"{original.name[:50]}{joint}{number}") in taken:
        number += 1
    return name


def _arranged(pages: Pages, form: CatalogForm, thing: Any | None) -> Response | None:
    """Return the form with a row moved, if a button for that was pressed rather than the one to save."""
    if not isinstance(form, forms.VariableGroupForm) or "arrange" not in request.form:
        return None
    form.arrange(request.form["arrange"])
    return render(pages, form, thing)


def _create(pages: Pages, form: CatalogForm) -> Response:
    if not form.validate():
        return render(pages, form, None, 422)
    try:
        thing = services.create(pages.model, form.values(), actor=signed_in_user())
    except Invalid as err:
        forms.place_all(form, err)
        return render(pages, form, None, 422)
    tell(N_("The %(thing)s was added.", thing=kind_of(thing).message(thing)))
    return go_to(url_for(f"catalog.{pages.one}", id=thing.id))


def _change(pages: Pages, form: CatalogForm, thing: Any) -> Response:
    if not form.validate():
        return render(pages, form, thing, 422)
    try:
        services.change(thing, form.values(), actor=signed_in_user(), version=form.opened_at)
    except Invalid as err:
        forms.place_all(form, err)
        return render(pages, form, thing, 422)
    except Conflict as err:
        return _stale(pages, form, thing, err)
    tell(N_("The %(thing)s was saved.", thing=kind_of(thing).message(thing)))
    return go_to(url_for(f"catalog.{pages.one}", id=thing.id))


def _stale(pages: Pages, form: CatalogForm, thing: Any, error: Conflict) -> Response:
    """Return the form with what was typed, beside it what is stored now; sending it again replaces that."""
    if error.details.get("gone"):
        raise NotFound(error.message) from error
    fresh = queries.get(pages.model, thing.id)
    stored = pages.form.showing(fresh)
    form.version.data = str(fresh.version)
    form.version.raw_data = None
    return render(pages, form, fresh, 409, refusal=error.message, differences=forms.differences(form, stored))


for _pages in ALL:
    _register(_pages)
