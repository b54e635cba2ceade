"""The log of a run: the page, the fragments that keep it going, search and download."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from flask import Response, abort, render_template, request
from flask_babel import get_locale, get_timezone
from flask_login import current_user

from skstack.accounts.models import Page
from skstack.accounts.sessions import user_after_wait
from skstack.errors import Unreadable
from skstack.extensions import db
from skstack.messages import N_
from skstack.runs import log_views, pane, passes
from skstack.runs.blueprint import blueprint
from skstack.runs.following import LONGEST_WAIT, MOMENT, state_after_result, wait_for_more
from skstack.runs.models import PRE, Run
from skstack.runs.output import Output
from skstack.runs.queries import following_run, refuse_cleared, visible_run
from skstack.runs.search import Match
from skstack.runs.search import search as search_output
from skstack.runs.sgr import Style
from skstack.runs.tail import Growth
from skstack.states import RunState
from skstack.tickets.actions import actions
from skstack.tickets.models import Ticket
from skstack.web.downloads import raw
from skstack.web.permissions import permit

__all__ = ["blueprint", "log_views"]

MATCHES = 200
_LARGEST = 1 << 53
_MUCH = 1 << 16


@blueprint.get("/runs/<int:run_id>")
@permit(Page.SUBMIT, Page.EXECUTE, Page.APPROVE, Page.AUDIT)
def detail(run_id: int) -> str:
    """Show one run's log on a page of its own; `?step=2&line=120` what is around that line. 404: not to be seen."""
    run = visible_run(run_id, current_user)
    output = Output(run.directory)
    step, line = _number("step"), _number("line", 1)
    view = pane.view_around(run, output, step, line) if step else pane.view_of(run, output)
    return render_template("runs/detail.html", run=run, ticket=run.ticket, log=_log([view], whole=False))


@blueprint.get("/runs/<int:run_id>/log")
@permit(Page.SUBMIT, Page.EXECUTE, Page.APPROVE, Page.AUDIT)
def log(run_id: int) -> str:
    """Answer with what was printed since the pane was last told, once there is more; or with the lines of a gap.

    Waits up to 20 s. The answer carries the next request, until the run is over. 404: not to be seen.
    """
    run = visible_run(run_id, current_user)
    if "step" in request.args:
        return _gap(run)
    cursor = _cursor()
    began = time.monotonic()
    growth = wait_for_more(run, cursor.size, passes.longest_wait(LONGEST_WAIT), seen_events=cursor.events)
    growth = replace(growth, busy=growth.busy or passes.is_busy())
    if time.monotonic() - began > MOMENT:
        visible_run(run_id, user_after_wait())
    prefix = _prefix(run, whole=_is_whole())
    if run.run_state is RunState.RUNNING:
        passes.offer(str(get_locale()), str(get_timezone()))
    goes_on = not (growth.final or run.run_state.is_final)
    if goes_on and not growth.grown and passes.nothing_yet():
        return ""
    if goes_on and growth.grown and growth.events_size == cursor.events and run.run_state is RunState.RUNNING:
        # Only more lines: nothing of that is in the database or about who asks.
        passes.for_all()
        return _answer(
            run, cursor, growth, *pane.more_lines(run, Output(run.directory), cursor, prefix=prefix)
        )
    if growth.final:
        state_after_result(run_id)
    run = visible_run(run_id, user_after_wait())
    return _answer(
        run, cursor, growth, *pane.changed_since(run, Output(run.directory), cursor, prefix=prefix)
    )


@blueprint.get("/runs/<int:run_id>/status")
@permit(Page.SUBMIT, Page.EXECUTE, Page.APPROVE, Page.AUDIT)
def status(run_id: int) -> str:
    """Show where a run is, as a fragment. 404: not to be seen."""
    run = visible_run(run_id, current_user)
    view = pane.view_of(run, Output(run.directory), prefix=_prefix(run, whole=_is_whole()), room=0)
    return render_template("runs/_status.html", view=view)


@blueprint.get("/runs/<int:run_id>/search")
@permit(Page.SUBMIT, Page.EXECUTE, Page.APPROVE, Page.AUDIT)
def search(run_id: int) -> str:
    """Find a text in the whole output, as a fragment or a page. 404: not to be seen."""
    run = visible_run(run_id, current_user)
    text = request.args.get("q", "")[:200]
    runs = pane.runs_of(run.ticket) if _is_whole() else [run]
    found: list[tuple[Run, str, Match]] = []
    more = False
    for one in runs:
        matches = search_output(
            Output(one.directory), text, limit=MATCHES - len(found), match_case=bool(request.args.get("case"))
        )
        found += [(one, _prefix(one, whole=_is_whole()), match) for match in matches.found]
        more = more or matches.more
        if len(found) >= MATCHES:
            break
    template = "runs/_search.html" if request.headers.get("HX-Request") else "runs/search.html"
    return render_template(template, run=run, ticket=run.ticket, text=text, found=found, more=more)


@blueprint.get("/runs/<int:run_id>/output.txt")
@permit(Page.SUBMIT, Page.EXECUTE, Page.APPROVE, Page.AUDIT)
def output(run_id: int) -> Response:
    """Give what was printed, byte for byte, as a download. 404: not to be seen; 410: cleared by the retention rule."""
    run = visible_run(run_id, current_user)
    refuse_cleared(run.output_cleared_at)
    stored = Output(run.directory)
    db.session.remove()
    return raw(stored.stream(), size=stored.size, name=f"run-{run_id}.txt")


@blueprint.app_template_global("log_of")
def log_of(ticket: Ticket) -> dict[str, Any]:
    """Return what the pane of a ticket shows: its runs, one after the other."""
    runs = pane.runs_of(ticket)
    views: list[pane.RunView] = []
    room = pane.FIRST_LINES
    for run in reversed(runs):
        view = pane.view_of(run, Output(run.directory), prefix=_prefix(run, whole=True), room=room)
        shown = sum(len(p.lines) for s in view.steps for p in s.body if isinstance(p, pane.Part))
        room = max(0, room - shown)
        views.insert(0, view)
    return _log(views, whole=True)


def _answer(
    run: Run, cursor: pane.Cursor, growth: Growth, view: pane.RunView, added: list[pane.Gap | pane.Part]
) -> str:
    """Render what is new since `cursor`, with the next request in it."""
    follower = _follower(run) if view.is_over else None
    return render_template(
        "runs/_log.html",
        view=view,
        added=added,
        known=cursor.step,
        is_news=view.cursor.events != cursor.events or view.is_over,
        log=_log([view, follower] if follower else [view], whole=_is_whole()),
        follower=follower,
        delay=1000 if growth.busy else 200 if view.cursor.size - cursor.size > _MUCH else 0,
        busy=growth.busy,
    )


def _log(views: list[pane.RunView], *, whole: bool) -> dict[str, Any]:
    """Return what the pane's templates need beside each run: how it goes on or ended, and what to do next."""
    last = views[-1] if views else None
    return {
        "runs": views,
        "last": last,
        "whole": whole,
        "actions": actions(last.run.ticket, current_user) if last and last.is_over else [],
    }


def _follower(run: Run) -> pane.RunView | None:
    """Return the main run that a ticket's pane goes on with after its pre run."""
    after = following_run(run) if _is_whole() and run.task == PRE else None
    return pane.view_of(after, Output(after.directory)) if after is not None else None


def _gap(run: Run) -> str:
    """Render lines of a gap of one step, and what is left of it on both sides."""
    directory, prefix = run.directory, _prefix(run, whole=_is_whole())
    db.session.remove()
    stored = Output(directory)
    step = stored.step(_number("step"))
    if step is None:
        abort(404)
    first, last, at = _number("from", 1), _number("to", _LARGEST), _number("at", 1)
    last = min(last, stored.line_count(step))
    lines = pane.lines_around(stored, step, first, last, at)
    body: list[pane.Gap | pane.Part] = []
    if lines is not None:
        body = [pane.Gap(first, lines.first - 1)] if lines.first > first else []
        body.append(pane.rendered(stored, step, lines))
        if lines.last < last:
            body.append(pane.Gap(lines.last + 1, last))
    return render_template(
        "runs/_lines.html",
        body=body,
        run=run,
        whole=_is_whole(),
        number=step.position,
        anchor=f"{prefix}step-{step.position}",
    )


def _cursor() -> pane.Cursor:
    style = request.args.get("style", "")
    try:
        Style.from_token(style)
    except ValueError as err:
        raise _unreadable() from err
    return pane.Cursor(
        offset=_number("offset"),
        size=_number("size"),
        events=_number("events"),
        step=_number("known"),
        style=style,
    )


def _number(name: str, default: int = 0) -> int:
    given = request.args.get(name, "")
    if not given:
        return default
    if not (given.isascii() and given.isdigit() and len(given) < 17):
        raise _unreadable()
    return int(given)


def _unreadable() -> Unreadable:
    return Unreadable(N_("This place in the output cannot be understood. Reload the page."))


def _is_whole() -> bool:
    """Say whether a fragment is for a ticket's pane, which shows all of its runs."""
    return request.args.get("pane") == "ticket"


def _prefix(run: Run, *, whole: bool) -> str:
    return "pre-" if whole and run.task == PRE else ""
