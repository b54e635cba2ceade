"""Who may ask a route anything at all. Each route declares exactly one permission, and none is served without.

    @blueprint.get("/tickets")
    @permit(Page.EXECUTE)
    def index(): ...

What a person may do with one object is asked of the object, in the service. Here only the page is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

from flask import Flask, current_app, request
from flask_login import current_user

from skstack.accounts.models import Page
from skstack.errors import NotAllowed, NotFound, NotSignedIn
from skstack.messages import N_
from skstack.web.errors import is_api


class Permission(StrEnum):
    """Permissions that are no page of the menu."""

    ANYONE = "anyone"
    SIGNED_IN = "signed in"
    SUPERUSER = "superuser"


_SIGN_IN = N_("Sign in to go on.")
_NO_TOKEN = N_("Send a token: the header Authorization, with Bearer and the token.")

View = TypeVar("View", bound=Callable[..., Any])
_ATTRIBUTE = "skstack_permission"


def permit(*permission: Page | Permission) -> Callable[[View], View]:
    """Declare what a view needs. Of several pages one is enough."""
    if not permission or (len(permission) > 1 and not all(isinstance(one, Page) for one in permission)):
        raise TypeError("permit() takes one permission, or several pages of which one is enough")

    def declare(view: View) -> View:
        setattr(view, _ATTRIBUTE, permission)
        return view

    return declare


def declared(app: Flask, endpoint: str, method: str) -> tuple[Page | Permission, ...] | None:
    """Return what the route at `endpoint` declares for `method`, None where it declares nothing."""
    view: Any = app.view_functions[endpoint]
    view_class = getattr(view, "view_class", None)
    if view_class is not None:
        view = getattr(view_class, method.lower(), None) or getattr(view_class, "get", None) or view_class
    permission: tuple[Page | Permission, ...] | None = getattr(view, _ATTRIBUTE, None)
    return permission


def check_route() -> None:
    """Refuse the request under way unless its route's declaration holds: 401, 403, or 404 where none stands."""
    if request.endpoint is None:
        return
    permission = declared(current_app, request.endpoint, request.method)
    if permission is None:
        current_app.logger.error("route %s declares no permission and is not served", request.endpoint)
        raise NotFound
    if permission == (Permission.ANYONE,):
        return
    if not current_user.is_authenticated:
        raise NotSignedIn(_NO_TOKEN if is_api() else _SIGN_IN)
    if not _holds(permission):
        raise NotAllowed(N_("Your roles do not include this page. Ask an administrator for it."))


def _holds(permission: tuple[Page | Permission, ...]) -> bool:
    if permission == (Permission.SIGNED_IN,):
        return True
    if permission == (Permission.SUPERUSER,):
        return bool(current_user.superuser)
    return any(current_user.may(page) for page in permission)
