"""The system page, and the same for Prometheus."""

from __future__ import annotations

import platform
from typing import Any

from flask import Blueprint, Response, current_app, render_template

import skstack
from skstack.accounts.models import Page
from skstack.config import Settings
from skstack.system import checks, metrics
from skstack.system.queries import State
from skstack.web.permissions import permit

blueprint = Blueprint("system", __name__)


@blueprint.get("/system")
@permit(Page.SYSTEM)
def index() -> str:
    """Show how skstack is doing, and what to do where something is wrong."""
    return render_template("system/index.html", **_state())


@blueprint.get("/system/state")
@permit(Page.SYSTEM)
def state() -> str:
    """Show the same as a fragment, which the page asks for again and again."""
    return render_template("system/_state.html", **_state())


@blueprint.get("/metrics")
@permit(Page.SYSTEM)
def prometheus() -> Response:
    """Tell everything as metrics. Needs the token of a user with this page, as the API does."""
    text, content_type = metrics.exposition(_settings())
    return Response(text, content_type=content_type)


def _state() -> dict[str, Any]:
    return {
        "state": State(_settings()),
        "settings": _settings(),
        "version": skstack.__version__,
        "python": platform.python_version(),
        "heads": checks.heads(),
    }


def _settings() -> Settings:
    settings: Settings = current_app.config["SKSTACK"]
    return settings
