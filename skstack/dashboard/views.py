"""The first page: what waits for the reader, what runs now, and numbers."""

from __future__ import annotations

import datetime as dt
from typing import Any

from flask import Blueprint, render_template, request, url_for
from flask_login import current_user

from skstack.accounts.models import Page, User
from skstack.accounts.sessions import signed_in_user
from skstack.dashboard import buckets, charts
from skstack.dashboard.queries import Numbers, configured, numbers, open_now
from skstack.dashboard.summing import APPROVAL, QUEUE, START
from skstack.db import utcnow
from skstack.messages import N_
from skstack.states import TicketStatus
from skstack.tickets import queries, reviewing
from skstack.tickets.actions import EXECUTE, actions
from skstack.web.permissions import Permission, permit

blueprint = Blueprint("dashboard", __name__)

DAYS = {7: N_("7 days"), 30: N_("30 days"), 84: N_("12 weeks"), 90: N_("90 days")}
_USUAL = 30

_TONES = {
    TicketStatus.SUCCEEDED: "good",
    TicketStatus.FAILED: "bad",
    TicketStatus.UNKNOWN: "odd",
    TicketStatus.RUNNING: "busy",
    **{status: "wait" for status in TicketStatus if status.waits},
}

# Seconds, and what a wait of that class is called.
_CLASSES = (
    (60.0, N_("under a minute")),
    (600.0, N_("1 to 10 minutes")),
    (3600.0, N_("10 minutes to an hour")),
    (8 * 3600.0, N_("1 to 8 hours")),
    (86400.0, N_("8 hours to a day")),
    (7 * 86400.0, N_("1 to 7 days")),
    (float("inf"), N_("over 7 days")),
)
_WAITS = {
    APPROVAL: N_("From submission to the last approval"),
    START: N_("From submission to start, without planned ones"),
    QUEUE: N_("From the queue to a worker"),
}


@blueprint.get("/")
@permit(Permission.SIGNED_IN)
def index() -> str:
    """Show what waits for the reader, what runs, and numbers: of everybody with the page for it, else of their own tickets."""
    user = signed_in_user()
    asked = request.args.get("days", _USUAL, type=int)
    recent = queries.tickets_of(current_user, queries.Filters(), after=None, limit=10)
    return render_template(
        "dashboard/index.html",
        **_mine(user),
        recent=[ticket for ticket in recent.items if ticket.state.is_final],
        running=queries.running_tickets(limit=8) if user.may(Page.AUDIT) else [],
        workorders=queries.submittable(current_user)[:8] if user.may(Page.SUBMIT) else [],
        **_numbers(user, asked if asked in DAYS else _USUAL),
    )


def _mine(user: User) -> dict[str, Any]:
    """Return what waits for the user to act, and what of theirs is under way besides."""
    unfinished = queries.tickets_of(
        user, queries.Filters(), after=None, limit=20, with_actions=True, unfinished=True
    ).items
    to_run = [
        ticket for ticket in unfinished if ticket.kind == "foreground" and EXECUTE in actions(ticket, user)
    ]
    return {
        "approvals": queries.approvals_of(current_user, queries.Filters(), after=None, limit=10).items
        if user.may(Page.APPROVE)
        else [],
        "broken_glass": reviewing.open_to(user),
        "to_run": to_run,
        "unfinished": [ticket for ticket in unfinished if ticket not in to_run],
    }


def _numbers(user: User, days: int) -> dict[str, Any]:
    """Return what the charts show; nothing for those who neither see everybody's numbers nor submit."""
    everybody = user.may(Page.DASHBOARD)
    if not (everybody or user.may(Page.SUBMIT) or user.may(Page.EXECUTE)):
        return {"numbers": None}
    found = numbers(days, utcnow().date(), of=None if everybody else user)
    return {
        "numbers": found,
        "days": days,
        "ranges": DAYS,
        "everybody": everybody,
        "open": open_now() if everybody else None,
        "configured": configured() if everybody else None,
        "tickets_url": _links(found, everybody, user),
        "charts": {
            "status": charts.bars(_by_status(found), _TONES),
            "environment": charts.stacked_bars(found.environments),
            "category": charts.stacked_bars(found.categories),
            "weeks": charts.columns(found.weeks),
        },
        "week_labels": [f"{monday:%m-%d}" for monday in found.weeks],
        "week_ends": [monday + dt.timedelta(days=6) for monday in found.weeks],
        "waits": [
            (_WAITS[wait.measure], wait, charts.bars(_by_class(wait.counts)))
            for wait in found.waits
            if wait.total
        ],
    }


def _by_status(found: Numbers) -> dict[TicketStatus, int]:
    return {status: found.statuses[status] for status in TicketStatus if found.statuses[status]}


def _by_class(counts: dict[int, int]) -> dict[Any, int]:
    numbers = buckets.within(counts, tuple(limit for limit, _ in _CLASSES[:-1]))
    return {label: count for (_, label), count in zip(_CLASSES, numbers, strict=True)}


def _links(found: Numbers, everybody: bool, user: User) -> Any:
    """Return what makes the address of the list behind a number, None for those who may not see that list."""
    if everybody and not user.may(Page.AUDIT):
        return None
    endpoint = "audit.tickets" if everybody else "tickets.index"
    period = {"from": found.first.isoformat(), "to": found.last.isoformat()}
    return lambda **filters: url_for(endpoint, **{**period, **filters})
