"""The matrix: which role sees which page, which group may submit and decide what."""

from __future__ import annotations

from flask import render_template, request

from skstack.accounts import queries
from skstack.accounts.blueprint import blueprint
from skstack.accounts.models import Page
from skstack.catalog import queries as catalog
from skstack.catalog import who_may
from skstack.web.permissions import permit


@blueprint.get("/accounts/matrix")
@permit(Page.USERS)
def matrix() -> str:
    """Show who may what; `q` and `environment` narrow it."""
    text = request.args.get("q", "").strip()
    environments = catalog.environments()
    names = [environment.name for environment in environments]
    environment = request.args.get("environment", "")
    environment = environment if environment in names else ""
    return render_template(
        "accounts/matrix.html",
        q=text,
        environment=environment,
        environments=names,
        pages=list(Page),
        roles=queries.roles_with_holders(text),
        superusers=queries.superusers(text),
        reaches=who_may.reaches(text=text, environment=environment),
    )
