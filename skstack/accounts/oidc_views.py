"""The way to the OIDC provider and back."""

from __future__ import annotations

import secrets

from flask import Flask, Response, current_app, request, session, url_for

from skstack.accounts import attempts, oidc, sessions, signing_in
from skstack.accounts.blueprint import blueprint
from skstack.accounts.forms import SignInForm
from skstack.accounts.sign_in_views import browser, go_on, sign_in_page
from skstack.config import Settings
from skstack.db import utcnow
from skstack.errors import Invalid, SkstackError, TooManyRequests
from skstack.web.permissions import Permission, permit

_NEXT = "oidc_next"


@blueprint.get("/sign-in/oidc")
@permit(Permission.ANYONE)
def oidc_begin() -> Response:
    """Lead to the provider; 404 if there is none, 503 if it does not answer. Changes nothing but the cookie."""
    # What was begun before and left would fill the cookie.
    for key in [key for key in session if key.startswith(f"_state_{oidc.NAME}_")]:
        del session[key]
    session[_NEXT] = sessions.local_path(request.args.get("next"), "")
    settings: Settings = current_app.config["SKSTACK"]
    root = settings.public_url or request.url_root
    try:
        return oidc.begin(_app(), root.rstrip("/") + url_for("accounts.oidc_callback"))
    except oidc.ProviderDown as err:
        return _refused(err)


@blueprint.get("/sign-in/oidc/callback")
@permit(Permission.ANYONE)
def oidc_callback() -> Response:
    """Begin the session of whom the provider names; 403 if its answer proves nothing, 422 if they have no account."""
    settings: Settings = current_app.config["SKSTACK"]
    target, now = session.get(_NEXT), utcnow()
    try:
        # Each try asks the provider; those that go well are taken back.
        attempt = attempts.count(secrets.token_hex(8), request.remote_addr or "", settings, now)
        person = oidc.finish(_app())
        found = signing_in.sign_in_by_provider(person, browser=browser(), settings=settings, now=now)
        attempts.take_back(attempt)
    except (oidc.ProviderDown, oidc.Untrusted, Invalid) as err:
        return _refused(err)
    except TooManyRequests as err:
        response = _refused(err)
        response.headers["Retry-After"] = str(err.retry_after)
        return response
    return go_on(found, target)


def _refused(err: SkstackError) -> Response:
    form = SignInForm(formdata=None, next=session.pop(_NEXT, ""))
    form.form_errors.append(err.message)
    return sign_in_page(form, err.status)


def _app() -> Flask:
    found: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # a LocalProxy
    return found
