"""*Verify* on a config center, and accepting its key."""

from __future__ import annotations

from flask import Response, request

from skstack.accounts.models import Page
from skstack.accounts.sessions import signed_in_user
from skstack.catalog import queries, services, verification
from skstack.catalog.models import ConfigCenter
from skstack.catalog.views.blueprint import blueprint
from skstack.catalog.views.pages import CONFIG_CENTERS, render
from skstack.web.permissions import permit


@blueprint.post("/config/config-centers/<int:id>/verify")
@permit(Page.CONFIGURATION)
def verify_config_center(id: int) -> Response:
    """Connect and run `date`: the time, the key to be accepted first, or the error. 404."""
    return _verified(queries.get(ConfigCenter, id))


@blueprint.post("/config/config-centers/<int:id>/host-key")
@permit(Page.CONFIGURATION)
def accept_host_key(id: int) -> Response:
    """Accept the key that was shown, then verify with it. 404; 422 for what is no key."""
    center = queries.get(ConfigCenter, id)
    services.accept_host_key(center, request.form.get("key", ""), actor=signed_in_user())
    return _verified(center)


def _verified(center: ConfigCenter) -> Response:
    verified = verification.verify(center, actor=signed_in_user())
    return render(CONFIG_CENTERS, CONFIG_CENTERS.form.showing(center), center, verified=verified)
