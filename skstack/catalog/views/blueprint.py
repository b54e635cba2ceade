"""The blueprint of the configuration's pages, and the sections that they are in."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from flask import Blueprint, request, url_for

from skstack.catalog.models import Source, Widget
from skstack.messages import N_, Message

blueprint = Blueprint("catalog", __name__)

SECTIONS: tuple[tuple[str, Message], ...] = (
    ("workorders", N_("Work orders")),
    ("templates", N_("Templates")),
    ("variable_groups", N_("Variable groups")),
    ("variables", N_("Variables")),
    ("approval_flows", N_("Approval flows")),
    ("config_centers", N_("Config centers")),
    ("environments", N_("Environments")),
    ("freeze_windows", N_("Freeze windows")),
    ("categories", N_("Categories")),
)


@blueprint.app_template_global("catalog_sections")
def sections(current: str = "") -> list[dict[str, object]]:
    """Return the tabs of the configuration: url, label, and which one is open."""
    current = current or (request.endpoint or "").rpartition(".")[2]
    return [
        {"url": url_for(f"catalog.{endpoint}"), "label": label, "active": endpoint == current}
        for endpoint, label in SECTIONS
    ]


@blueprint.app_template_global("section_label")
def section_label(endpoint: str) -> Message:
    """Return what a section is called."""
    return dict(SECTIONS)[endpoint]


@blueprint.app_template_filter("fingerprint")
def fingerprint(host_key: str) -> str:
    """Return a host key's fingerprint as OpenSSH prints it."""
    digest = hashlib.sha256(base64.b64decode(host_key.split(" ")[1])).digest()
    return "SHA256:" + base64.b64encode(digest).rstrip(b"=").decode()


@blueprint.app_template_filter("first_text")
def first_text(value: str | Sequence[str]) -> str:
    """Return a value, or the first of several."""
    return value if isinstance(value, str) else value[0] if value else ""


blueprint.add_app_template_filter(lambda variable: Source(variable.source).label, "source_label")
blueprint.add_app_template_filter(lambda variable: Widget(variable.widget).label, "widget_label")
