"""Log files that plugins wrote beside their output: looked for where the ticket ran, by the suffix that it gave them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import sqlalchemy as sa
from flask import current_app

from skstack.catalog.kinds import listed
from skstack.catalog.models import Category, ConfigCenter
from skstack.catalog.targets import target_of
from skstack.config import Settings
from skstack.errors import NotFound, Unavailable
from skstack.extensions import db
from skstack.hosting import runner_host
from skstack.messages import N_, Message
from skstack.runner.client import LogsUnavailable, RunnerUnavailable
from skstack.runner.log_protocol import LogFile, LogRequest, LogsFound
from skstack.tickets import plan as plans
from skstack.tickets.models import Ticket

SHOWN = 256 << 10
"""Bytes at the end of a file that its page shows; the whole file is a download."""

SHOWN_LIVE = 64 << 10
"""The same while the ticket runs, when the file is read again every few seconds."""


@dataclass(frozen=True, slots=True)
class LogDetails:
    """What was looked for and where, and what came of it: files, or the `error` why nobody could look."""

    directory: str
    suffix: str
    found: LogsFound
    error: Message | None = None


def directory_of(ticket: Ticket) -> str:
    """Return where the log files of a ticket are; empty if it has not begun, or its category has none. One statement."""
    if not ticket.category_name or not ticket.runs:
        return ""
    named = sa.select(Category.log_directory).where(Category.name == ticket.category_name)
    return db.session.scalar(named) or ""


def details(ticket: Ticket, *, name: str = "", in_backup: bool = False) -> LogDetails:
    """Look for a ticket's log files, and read the end of one of them: the newest, if none is named.

    Takes as long as connecting may. Raises NotFound if the ticket has no directory to look in.
    """
    request = _request(ticket)
    running = not ticket.state.is_final
    chosen = replace(request, name=name, in_backup=in_backup, tail=SHOWN_LIVE if running else SHOWN)
    found, error = LogsFound(files=()), None
    try:
        found = runner_host().find_logs(_at(ticket, chosen))
    except LogsUnavailable as err:
        error = err.reason
    except RunnerUnavailable as err:
        current_app.logger.error("log files of ticket %s could not be looked for: %s", ticket.id, err)
        error = N_("The files could not be looked for. Tell whoever runs skstack.")
    return LogDetails(request.directory, request.suffix, found, error)


def whole(ticket: Ticket, *, name: str, in_backup: bool) -> tuple[LogFile, Iterator[bytes]]:
    """Return one log file of a ticket, and its bytes. Raises NotFound as `details` does, and Unavailable with the reason."""
    try:
        return runner_host().read_log(_at(ticket, replace(_request(ticket), name=name, in_backup=in_backup)))
    except LogsUnavailable as err:
        raise Unavailable(err.reason) from err
    except RunnerUnavailable as err:
        current_app.logger.error("a log file of ticket %s could not be read: %s", ticket.id, err)
        raise Unavailable(N_("The file could not be read. Tell whoever runs skstack.")) from err


def _request(ticket: Ticket) -> LogRequest:
    directory = directory_of(ticket)
    if not directory:
        raise NotFound
    settings: Settings = current_app.config["SKSTACK"]
    return LogRequest(directory=directory, suffix=ticket.task_name_created, timeout=settings.connect_timeout)


def _at(ticket: Ticket, request: LogRequest) -> LogRequest:
    """Return the request for the host that the ticket was approved for. Raises LogsUnavailable if it is another now."""
    plan = plans.Plan.from_json(ticket.plan)
    if plan.target["kind"] == "local":
        db.session.commit()  # Nothing is read while we wait.
        return request
    center = db.session.get(ConfigCenter, plan.target["id"])
    if center is None:
        raise LogsUnavailable(N_("Config center %(name)s no longer exists.", name=plan.target["name"]))
    if changed := plans.target_changes(plan, center):
        raise LogsUnavailable(
            N_(
                "Config center %(name)s was changed since the submission (%(what)s): this ticket ran elsewhere.",
                name=center.name,
                what=listed(changed),
            )
        )
    target = target_of(center)
    db.session.commit()
    return replace(request, target=target)
