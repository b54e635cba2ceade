"""The pages of the audit trail: who did what to what, and whether the chain of events holds."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response, render_template, request, url_for
from flask_babel import get_timezone
from werkzeug.routing import BuildError

from skstack.accounts.models import Page
from skstack.accounts.sessions import signed_in_user
from skstack.audit import checks, labels, queries
from skstack.audit.documents import event_document
from skstack.audit.models import AuditEvent, AuditHead
from skstack.audit.queries import Filters
from skstack.audit.services import Action, record
from skstack.audit.verifying import EVENTS
from skstack.db import transaction
from skstack.extensions import db
from skstack.messages import N_, Message
from skstack.web.downloads import as_csv, as_json
from skstack.web.forms import go_to, tell
from skstack.web.pagination import asked
from skstack.web.permissions import permit

blueprint = Blueprint("audit-events", __name__, url_prefix="/audit/events")

# Where an object has its page: the endpoint, and the name of its number there.
_PAGES = {
    "ticket": ("tickets.detail", "ticket_id"),
    "run": ("runs.detail", "run_id"),
    "schedule": ("schedules.detail", "schedule_id"),
    "user": ("accounts.user", "user_id"),
    "group": ("accounts.group", "group_id"),
    "role": ("accounts.role", "role_id"),
    **{
        name: (f"catalog.{name}", "id")
        for name in (
            "environment",
            "category",
            "config_center",
            "variable",
            "variable_group",
            "approval_flow",
            "freeze_window",
            "workorder",
        )
    },
}

_STATES = {"status", "job_status", "job_before", "job_after"}


@blueprint.app_context_processor
def _names() -> dict[str, Any]:
    return {"action_label": labels.action_label, "object_label": labels.object_label}


@blueprint.get("")
@permit(Page.AUDIT)
def index() -> str:
    """List the events, newest first, narrowed by the address; with the state of the chain."""
    filters = _asked_filters()
    page = queries.events(filters, **asked())
    return render_template(
        "audit/events.html",
        page=page,
        filters=request.args,
        narrowed=filters != Filters(),
        actions=sorted(labels.ACTIONS.items()),
        objects=list(labels.OBJECTS.items()),
        link=_link,
        changed=changed,
        **_state(),
    )


@blueprint.get("/<int:number>")
@permit(Page.AUDIT)
def detail(number: int) -> str:
    """Show all of one event. 404 if there is none."""
    event = queries.one(number)
    return render_template("audit/event.html", event=event, link=_link, changed=changed)


@blueprint.get("/state")
@permit(Page.AUDIT)
def state() -> str:
    """Show whether the chain holds, as far as it was verified: a fragment that asks again while it is."""
    return render_template("audit/_state.html", **_state())


@blueprint.post("/verify")
@permit(Page.AUDIT)
def verify() -> Response:
    """Let a worker verify the trail: 303 back to the page, which shows how far it is."""
    checks.begin(actor=signed_in_user())
    tell(N_("The audit trail is being verified. This page shows how far it is."))
    return go_to(url_for("audit-events.index"))


@blueprint.get("/export.<any(csv, json):kind>")
@permit(Page.AUDIT)
def export(kind: str) -> Response:
    """Send all events that the address asks for, as they are read. That somebody did so is an event too."""
    filters = _asked_filters()
    chosen = {name: str(value) for name, value in asdict(filters).items() if value}
    with transaction():
        record(Action.EXPORTED, actor=signed_in_user(), object_type="audit", format=kind, filters=chosen)
    documents = map(event_document, queries.export(filters))
    if kind == "csv":
        return as_csv(_COLUMNS, _rows(documents), name="audit-events")
    return as_json(documents, name="audit-events")


def changed(changes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Lay out what an event says, as rows: `name` and its `label`, and `before` and `after`, or `value`."""
    before, after = changes.get("before"), changes.get("after")
    rows: list[dict[str, Any]] = []
    if isinstance(before, dict) or isinstance(after, dict):
        old, new = before or {}, after or {}
        rows += [
            {
                "name": name,
                "before": _text(old[name]) if name in old else None,
                "after": _text(new[name]) if name in new else None,
            }
            for name in dict.fromkeys((*old, *new))
        ]
    elif before is not None or after is not None:
        states = [None if one is None else _state_text(one) for one in (before, after)]
        rows.append({"name": "", "label": N_("state"), "before": states[0], "after": states[1]})
    rows += [
        {
            "name": name,
            "label": labels.FIELDS.get(name),
            "value": _state_text(value) if name in _STATES else _text(value),
            "is_detail": name in labels.DETAILS,
        }
        for name, value in changes.items()
        if name not in ("before", "after") and value not in (None, "", {}, [])
    ]
    return rows


def _state_text(value: Any) -> Message | str:
    said = _text(value)
    return labels.state_label(said) if isinstance(said, str) else said


def _text(value: Any) -> Message | str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return N_("yes") if value else N_("no")
    if isinstance(value, str):
        return value or "–"
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value) or "–"
    return json.dumps(value, ensure_ascii=False)


def _state() -> dict[str, Any]:
    head = db.session.get(AuditHead, 1)
    running = checks.under_way()
    return {
        "head": head.sequence if head else 0,
        "latest": checks.latest(),
        "running": running,
        "is_reading_events": running is not None and running.progress["phase"] == EVENTS,
    }


def _link(event: AuditEvent) -> str | None:
    """Return the address of what an event is about, None if it has no page or is gone."""
    if event.object_type not in _PAGES or event.object_id is None or event.action == Action.DELETED:
        return None
    endpoint, name = _PAGES[event.object_type]
    try:
        return url_for(endpoint, **{name: event.object_id})  # type: ignore[arg-type]  # mypy takes it for the other arguments
    except BuildError:
        return None


def _asked_filters() -> Filters:
    """Read the filters from the address; what is not understood narrows nothing."""
    args = request.args
    number = args.get("id", "")
    return Filters(
        actor=args.get("actor", "").strip()[:64],
        action=args.get("action", "")[:64],
        object_type=args.get("object", "")[:32],
        object_id=int(number) if number.isascii() and number.isdigit() and len(number) < 18 else None,
        since=_day(args.get("from", ""), 0),
        until=_day(args.get("to", ""), 1),
        text=args.get("q", "").replace("\0", "").strip()[:200],
    )


def _day(given: str, later: int) -> dt.datetime | None:
    """Return the beginning of a day in the reader's zone, `later` days on."""
    try:
        day = dt.date.fromisoformat(given) + dt.timedelta(days=later)
        return dt.datetime.combine(day, dt.time(), get_timezone()).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None


_COLUMNS = (
    "id",
    "at",
    "actor",
    "address",
    "action",
    "object_type",
    "object_id",
    "object_name",
    "changes",
    "digest",
    "previous",
    "hash",
)


def _rows(documents: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for document in documents:
        told = document.pop("object")
        yield document | {f"object_{name}": value for name, value in told.items()}
