"""*Log details*: the files that a plugin wrote for a ticket, shown and downloaded."""

from __future__ import annotations

import datetime as dt
import re

from flask import Response, render_template, request
from flask_login import current_user

from skstack.accounts.models import Page
from skstack.accounts.sessions import user_after_wait
from skstack.runner.log_protocol import LogFile
from skstack.runs import log_details, pane
from skstack.runs.blueprint import blueprint
from skstack.runs.terminal import render
from skstack.tickets.models import Ticket
from skstack.tickets.plan import Plan
from skstack.tickets.queries import visible
from skstack.web.downloads import raw
from skstack.web.errors import is_fragment
from skstack.web.permissions import permit


@blueprint.get("/tickets/<int:ticket_id>/log-details")
@permit(Page.SUBMIT, Page.EXECUTE, Page.APPROVE, Page.AUDIT)
def log_files(ticket_id: int) -> str:
    """Show the end of one log file of a ticket, `?file=…&bak=1` or the newest; as a fragment, its lines alone.

    404: not the reader's to see, or a ticket whose category has no directory. Takes as long as connecting may.
    """
    ticket = visible(ticket_id, current_user)
    name, in_backup = _asked()
    found = log_details.details(ticket, name=name, in_backup=in_backup)
    ticket = visible(ticket_id, user_after_wait())
    content = found.found.content
    if found.found.offset:
        # The first line is cut somewhere: shown from the next one on, if there is one.
        content = content[content.find(b"\n") + 1 :] or content
    return render_template(
        "runs/_log_file.html" if is_fragment() else "runs/log_files.html",
        ticket=ticket,
        target=Plan.from_json(ticket.plan),
        details=found,
        shown=found.found.shown,
        lines=pane.lines_of(render(content)) if content else [],
        asked=name,
        read_at=dt.datetime.now(dt.UTC),
    )


@blueprint.get("/tickets/<int:ticket_id>/log-details/file")
@permit(Page.SUBMIT, Page.EXECUTE, Page.APPROVE, Page.AUDIT)
def log_file(ticket_id: int) -> Response:
    """Give one log file of a ticket, byte for byte, as a download. 404 as above; 503: it cannot be read now."""
    ticket = visible(ticket_id, current_user)
    name, in_backup = _asked()
    file, pieces = log_details.whole(ticket, name=name, in_backup=in_backup)
    return raw(pieces, size=file.size, name=_file_name(ticket, file))


@blueprint.app_template_global("has_log_details")
def has_log_details(ticket: Ticket) -> bool:
    """Say whether a ticket's page leads to log files: it has begun, and its category says where they are."""
    return bool(log_details.directory_of(ticket))


@blueprint.app_template_filter("from_epoch")
def from_epoch(seconds: float) -> dt.datetime | None:
    """Return the time that a host says, None where its clock says nothing of use."""
    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _asked() -> tuple[str, bool]:
    return request.args.get("file", "")[:4096], request.args.get("bak") == "1"


def _file_name(ticket: Ticket, file: LogFile) -> str:
    """Return a name that no header and no file system takes for something else."""
    plain = re.sub(r"[^\w.+-]+", "_", file.name, flags=re.ASCII).strip("._")
    return plain[-200:] or f"ticket-{ticket.id}.log"
