"""Domain errors become pages, fragments or problem documents (RFC 9457) here, and only here."""

from __future__ import annotations

from typing import Any

from flask import (
    Flask,
    Response,
    current_app,
    jsonify,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from flask_login import current_user
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException

from skstack.audit import refusals
from skstack.audit.services import Action
from skstack.errors import (
    Conflict,
    Invalid,
    NotAllowed,
    NotSignedIn,
    SkstackError,
    TooManyRequests,
    Unavailable,
)
from skstack.extensions import db
from skstack.messages import N_, Message
from skstack.web.text import translate

_TITLES = {
    400: N_("This request cannot be understood"),
    401: N_("Sign in to go on"),
    403: N_("You may not do this"),
    404: N_("Not found"),
    405: N_("This address does not take that kind of request"),
    409: N_("Somebody was quicker, or it is no longer possible"),
    410: N_("Not kept any more"),
    413: N_("That is too large"),
    415: N_("This kind of content is not taken here"),
    422: N_("Some values need another look"),
    429: N_("Too many attempts"),
    500: N_("Something went wrong in skstack"),
    503: N_("Not available right now"),
}
_INTERNAL = N_(
    "The error was written to the log. Nothing was changed halfway. Try again, or tell an administrator."
)


def init_app(app: Flask) -> None:
    """Register the translation of every kind of error."""
    app.register_error_handler(SkstackError, _domain)
    app.register_error_handler(CSRFError, _csrf)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(DataError, _not_storable)
    app.register_error_handler(OperationalError, _database)
    app.register_error_handler(PoolTimeout, _database)
    app.register_error_handler(Exception, _unexpected)


def is_api() -> bool:
    """Say whether the request under way is for the JSON API, or for what monitoring asks with a token too."""
    return request.path.startswith("/api/") or request.path == "/metrics"


def is_fragment() -> bool:
    """Say whether htmx asks for a part of a page rather than for a page."""
    return request.headers.get("HX-Request") == "true" and request.headers.get("HX-Boosted") != "true"


def _is_page_load() -> bool:
    """Say whether the request only asks for a page, so that nothing is lost by leading elsewhere first."""
    return request.method in ("GET", "HEAD") and not is_api() and not is_fragment()


def _domain(error: SkstackError) -> Response:
    if isinstance(error, NotSignedIn) and _is_page_load():
        here = request.full_path.rstrip("?")
        return make_response(redirect(url_for("accounts.sign_in", next=None if here == "/" else here), 303))
    if isinstance(error, NotAllowed):
        _note_refusal(error)
    if error.status >= 500 and not isinstance(error, Unavailable):
        current_app.logger.error("%s", error, exc_info=error)
    response = _answer(error.status, error.message, error)
    if isinstance(error, TooManyRequests):
        response.headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, NotSignedIn) and is_api():
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _note_refusal(error: NotAllowed) -> None:
    """Write down who was not allowed what, by method and path."""
    user = current_user._get_current_object() if current_user.is_authenticated else None
    refusals.note(
        Action.REFUSED,
        actor=user,
        key=user.id if user else request.remote_addr,
        object_type="request",
        object_name=f"{request.method} {request.path}",
        reason=error.message,
    )


def _csrf(error: CSRFError) -> Response:
    return _answer(400, N_("This page is too old to be sent. Load it again, then repeat what you did."), None)


def _http(error: HTTPException) -> Response | HTTPException:
    code = error.code or 500
    if code < 400:
        return error
    described = _HTTP.get(code) or N_("%(description)s", description=error.description or "")
    response = _answer(code, described, None)
    for header, value in error.get_headers():
        if header in ("Allow", "Retry-After"):
            response.headers[header] = value
    return response


def _not_storable(error: DataError) -> Response:
    """Refuse what the database cannot even compare with: PostgreSQL has no text with a NUL in it.

    The values are not logged, since one may be secret.
    """
    what = type(error.orig).__name__
    current_app.logger.error("%s at %s %s: %s", what, request.method, request.path, error.statement)
    db.session.rollback()
    return _answer(400, _HTTP[400], None)


def _database(error: Exception) -> Response:
    current_app.logger.error("database: %s", error)
    db.session.rollback()
    response = _answer(
        503, N_("The database does not answer. Nothing was changed. Try again in a moment."), None
    )
    response.headers["Retry-After"] = "5"
    return response


def _unexpected(error: Exception) -> Response:
    if current_app.config.get("PROPAGATE_EXCEPTIONS") or current_app.testing:
        raise error
    current_app.logger.error("unexpected error at %s %s", request.method, request.path, exc_info=error)
    db.session.rollback()
    return _answer(500, _INTERNAL, None)


_HTTP = {
    400: N_("The request could not be read. Go back and try again."),
    404: N_("There is nothing here that you may see."),
    405: N_("Go back to the page you came from and use its buttons."),
    413: N_("The request is larger than skstack takes. Shorten what you send."),
    500: _INTERNAL,
}


def _answer(status: int, message: Message, error: SkstackError | None) -> Response:
    title = _TITLES.get(status) or N_("Something went wrong")
    if is_api():
        return problem(status, title, message, error)
    context: dict[str, Any] = {"status": status, "title": title, "message": message, "error": error}
    if error is not None and isinstance(error, Conflict):
        context["details"] = error.details
    template = "errors/_fragment.html" if is_fragment() else "errors/page.html"
    response = make_response(render_template(template, **context), status)
    response.headers["Cache-Control"] = "no-store"
    if (
        is_fragment()
    ):  # Said beside the page, which keeps what it has; static/js/requests.js knows the exceptions.
        response.headers["HX-Retarget"] = "#toasts"
        response.headers["HX-Reswap"] = "beforeend"
    return response


def problem(status: int, title: Message, message: Message, error: SkstackError | None = None) -> Response:
    """Build a problem document. The API speaks English whatever the browser asks for: scripts read it."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": str(title),
        "status": status,
        "detail": str(message),
    }
    if error is not None:
        document.update(error.details)
    if isinstance(error, Invalid):
        document["errors"] = {field: [str(one) for one in found] for field, found in error.errors.items()}
    response = jsonify(document)
    response.status_code = status
    response.content_type = "application/problem+json"
    return response


__all__ = ["init_app", "is_api", "is_fragment", "problem", "translate"]
