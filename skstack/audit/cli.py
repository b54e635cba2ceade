"""`flask audit verify`: whether the audit trail holds."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import click
import sqlalchemy as sa
from flask import current_app
from flask.cli import with_appcontext

from skstack.audit import checks, heads, verifying
from skstack.audit.models import AuditEvent
from skstack.audit.verifying import Broken, Progress
from skstack.commands import fail, fails_in_one_line
from skstack.db import utcnow
from skstack.extensions import db
from skstack.messages import N_
from skstack.runs import verifying as _runs  # noqa: F401  # Registers what the trail is about.
from skstack.web.text import size


@click.group()
def audit() -> None:
    """Look after the audit trail."""


@audit.command()
@click.option(
    "--from",
    "first",
    type=click.IntRange(1),
    help="Begin at this event; what is before it is taken as it stands.",
)
@click.option("--since", type=click.DateTime(), help="Begin at the first event since this time, in UTC.")
@click.option(
    "--head",
    "heads_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Also hold it against what was kept elsewhere: a copy of audit.head, or a log of such lines.",
)
@with_appcontext
@fails_in_one_line
def verify(first: int | None, since: dt.datetime | None, heads_file: Path | None) -> None:
    """Check that no event, ticket, run or stored output was changed or taken away. Fails with the first fault."""
    if first is not None and since is not None:
        raise click.UsageError("Give --from or --since, not both.")
    begun_at, progress = utcnow(), Progress()
    try:
        anchors = heads.own_anchors(current_app.config["SKSTACK"])
        anchors += heads.anchors(heads_file) if heads_file else []
        if since is not None:
            first = _first_since(since)
        progress = verifying.begin(first or 1)
        while progress.phase != verifying.DONE:
            progress = verifying.go_on(progress, anchors, enough=lambda: True)
    except heads.HeadRefused as err:
        fail(str(err))
    except Broken as err:
        checks.keep(progress, err.message, begun_at=begun_at)
        fail(f"the audit trail does not hold. {err.message}")
    if first in (None, 1):
        checks.keep(progress, None, begun_at=begun_at)
    click.echo(_summary(progress, begun_at))


def _first_since(since: dt.datetime) -> int:
    found = db.session.scalar(
        sa.select(sa.func.min(AuditEvent.id)).where(AuditEvent.at >= since.replace(tzinfo=dt.UTC))
    )
    db.session.rollback()
    if found is None:
        raise Broken(N_("There is no event since then."))
    return int(found)


def _summary(progress: Progress, begun_at: dt.datetime) -> str:
    counts, seconds = progress.counts, (utcnow() - begun_at).total_seconds()
    parts = [
        f"{progress.verified} events",
        f"{counts.get('tickets', 0)} tickets",
        f"{counts.get('runs', 0)} runs",
        f"{counts.get('outputs', 0)} outputs ({size(counts.get('bytes', 0))})",
    ]
    if cleared := counts.get("cleared"):
        parts.append(f"{cleared} outputs cleared by the retention rule")
    if elsewhere := counts.get("elsewhere"):
        parts.append(f"{elsewhere} outputs on other hosts not looked at")
    return f"The audit trail holds: {', '.join(parts)}, in {seconds:.1f} s."
