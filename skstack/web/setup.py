"""Ties the shared page machinery to an application: headers, filters, what every template knows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from flask import Flask, Response, request, url_for
from flask_babel import get_locale
from flask_login import current_user
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import IntegerConverter, Map

from skstack.accounts.models import Page
from skstack.audit.services import client_address
from skstack.config import Settings
from skstack.messages import N_
from skstack.web import errors, links, marks, permissions, text

# No inline script or style, nothing from elsewhere: OWASP ASVS 5.0, V3.4.3.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    "manifest-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)

NAVIGATION: tuple[dict[str, Any], ...] = (
    {"endpoint": "dashboard.index", "label": N_("Dashboard"), "icon": "speedometer2", "pages": ()},
    {
        "endpoint": "tickets.workorders",
        "label": N_("Work orders"),
        "icon": "card-checklist",
        "pages": (Page.SUBMIT,),
    },
    {
        "endpoint": "approvals.index",
        "label": N_("Approvals"),
        "icon": "check-circle",
        "pages": (Page.APPROVE,),
    },
    {
        "endpoint": "tickets.waiting",
        "label": N_("Execute"),
        "icon": "play-circle",
        "pages": (Page.EXECUTE,),
    },
    {
        "endpoint": "tickets.index",
        "label": N_("My tickets"),
        "icon": "ticket-perforated",
        "pages": (Page.SUBMIT, Page.EXECUTE),
    },
    {
        "endpoint": "schedules.index",
        "label": N_("Schedules"),
        "icon": "calendar3",
        "pages": (Page.SUBMIT,),
    },
    {
        "endpoint": "audit.tickets",
        "label": N_("All tickets"),
        "icon": "clock-history",
        "pages": (Page.AUDIT,),
    },
    {
        "endpoint": "audit-events.index",
        "label": N_("Audit events"),
        "icon": "journal-text",
        "pages": (Page.AUDIT,),
    },
    {
        "endpoint": "catalog.index",
        "label": N_("Configuration"),
        "icon": "sliders",
        "pages": (Page.CONFIGURATION,),
    },
    {"endpoint": "accounts.users", "label": N_("People"), "icon": "people", "pages": (Page.USERS,)},
    {"endpoint": "system.index", "label": N_("System"), "icon": "server", "pages": (Page.SYSTEM,)},
)


# How much waits behind an entry of the menu, by its endpoint; features announce themselves with `count_at`.
_counts: dict[str, Callable[[], int]] = {}


def count_at(endpoint: str) -> Callable[[Callable[[], int]], Callable[[], int]]:
    """Show what the function returns beside a menu entry, if it is not 0. It is asked once for each page."""

    def register(count: Callable[[], int]) -> Callable[[], int]:
        _counts[endpoint] = count
        return count

    return register


class Id(IntegerConverter):
    """An id in an address. One that no column could hold is not found, rather than a database error."""

    regex = r"\d{1,10}"

    def __init__(self, map: Map, *args: Any, **kwargs: Any) -> None:
        super().__init__(map, *args, **{"max": links.LARGEST_ID, **kwargs})


def init_app(app: Flask, settings: Settings) -> None:
    """Install everything that stands before and after a view."""
    app.url_map.converters["int"] = Id
    errors.init_app(app)
    app.before_request(_remember_address)
    app.before_request(permissions.check_route)
    app.after_request(_headers)
    app.context_processor(_context)
    app.jinja_env.filters.update(
        translate=text.translate,
        when=text.when,
        ago=text.ago,
        duration=text.duration,
        size=text.size,
        iso=_iso,
    )
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals["url_with"] = links.url_with
    app.jinja_env.globals["with_filters"] = links.with_filters
    app.jinja_env.globals["static"] = lambda name: _static(app.static_folder, request.script_root, name)
    app.jinja_env.globals["icon_of"] = marks.icon
    app.jinja_env.globals["cell_of"] = marks.cell
    app.jinja_env.globals["chosen_columns"] = marks.chosen_columns
    if settings.behind_proxy:
        count = settings.behind_proxy
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count, x_host=count)  # type: ignore[method-assign]


def _remember_address() -> None:
    client_address.set(request.remote_addr or "")


def _headers(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    response.headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    response.headers.setdefault("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
    if request.is_secure:
        response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")
    if request.endpoint == "static":
        versioned = "v" in request.args
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if versioned else "no-cache"
        _whole(response)
    else:
        response.headers.setdefault("Cache-Control", "no-store")
        response.vary.update(("Cookie", "Accept-Language", "HX-Request"))
    return response


def _whole(response: Response) -> None:
    """Read a static file into the response: streams are not compressed for clients that know only gzip."""
    if response.status_code == 200 and response.direct_passthrough:
        response.direct_passthrough = False
        file: Any = response.response
        response.set_data(response.get_data())
        file.close()


def _context() -> dict[str, Any]:
    return {
        "may": lambda page: current_user.is_authenticated and current_user.may(page),
        "navigation": _navigation,
        "locale": str(get_locale() or "en"),
        "languages": text.LANGUAGES,
        "theme": request.cookies.get("theme")
        if request.cookies.get("theme") in ("light", "dark")
        else "auto",
    }


def _navigation() -> list[dict[str, Any]]:
    """Return the menu entries that the reader may open: endpoint, label, icon, url and whether it is open."""
    if not current_user.is_authenticated:
        return []
    section = (request.endpoint or "").partition(".")[0]
    entries = []
    for entry in NAVIGATION:
        if entry["pages"] and not any(current_user.may(page) for page in entry["pages"]):
            continue
        same_section = entry["endpoint"].partition(".")[0] == section and section != "tickets"
        # One's own pages are no part of People.
        same_section = same_section and not request.path.startswith("/me")
        entries.append(
            {
                **entry,
                "url": url_for(entry["endpoint"]),
                "active": same_section or request.endpoint == entry["endpoint"],
                "count": _counts[entry["endpoint"]]() if entry["endpoint"] in _counts else 0,
            }
        )
    return entries


def _iso(moment: Any) -> str:
    return "" if moment is None else moment.isoformat().replace("+00:00", "Z")


@cache
def _static(folder: str | None, root: str, name: str) -> str:
    """A list asks for the address of the icons two hundred times; it is the same below the same root."""
    return url_for("static", filename=name, v=_version(folder, name))


@cache
def _version(folder: str | None, name: str) -> str:
    path = Path(folder or "") / name
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else "0"
