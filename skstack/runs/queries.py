"""Reads about runs: one that a person may see, and how long such a run usually takes."""

from __future__ import annotations

import datetime as dt
import statistics

import sqlalchemy as sa
from sqlalchemy.orm import defer, joinedload

from skstack.accounts.models import Page, User
from skstack.errors import Gone, NotFound
from skstack.extensions import db
from skstack.messages import N_
from skstack.runs.models import Run
from skstack.states import RunState
from skstack.tickets.models import Ticket
from skstack.tickets.queries import can_see, decides

_FOR_USUAL = 11
# Built once: every fragment of every watcher asks this.
_VISIBLE = (
    sa.select(Run)
    .where(Run.id == sa.bindparam("run_id"))
    .options(joinedload(Run.ticket).options(defer(Ticket.plan)))
)

# Without the ORM: watchers of a log ask this all the time.
_runs, _tickets = sa.inspect(Run).local_table, sa.inspect(Ticket).local_table
_STATE = (
    sa.select(_runs.c.state, _runs.c.ticket_id, _runs.c.output_cleared_at, _tickets.c.submitter_id)
    .select_from(_runs.join(_tickets))
    .where(_runs.c.id == sa.bindparam("run_id"))
)


def visible_run(run_id: int, user: User) -> Run:
    """Return one run. Raises NotFound if there is none, or its ticket is not there for this user. One statement.

    The ticket's plan is left out; a look at it is one statement more.
    """
    run = db.session.scalars(
        _VISIBLE, {"run_id": run_id}, execution_options={"populate_existing": True}
    ).first()
    if run is None or not can_see(run.ticket, user):
        raise NotFound
    return run


def visible_state(run_id: int, user: User) -> RunState:
    """Return a run's state and nothing else of it. One statement for most people.

    Raises NotFound as `visible_run` does, and Gone if its output was cleared.
    """
    found = db.session.connection().execute(_STATE, {"run_id": run_id}).one_or_none()
    if found is None or not (
        found.submitter_id == user.id or user.may(Page.AUDIT) or decides(found.ticket_id, user)
    ):
        raise NotFound
    refuse_cleared(found.output_cleared_at)
    return RunState(found.state)


def refuse_cleared(cleared_at: dt.datetime | None) -> None:
    """Raise Gone if the output was cleared, so that nobody takes it for one that printed nothing."""
    if cleared_at is not None:
        raise Gone(N_("The output was cleared at %(time)s, as the retention rule says.", time=cleared_at))


def following_run(run: Run) -> Run | None:
    """Return the run that the same ticket began after this one. One statement."""
    statement = (
        sa.select(Run).where(Run.ticket_id == run.ticket_id, Run.id > run.id).order_by(Run.id).limit(1)
    )
    return db.session.scalars(statement).first()


def usual_duration(run: Run) -> float | None:
    """Return the median duration of the last successes of the same task, seconds; None before the first."""
    statement = (
        sa.select(Run.duration)
        .join(Run.ticket)
        .where(
            Ticket.workorder_id == run.ticket.workorder_id,
            Run.task == run.task,
            Run.state == RunState.SUCCEEDED,
            Run.duration.is_not(None),
            Run.id != run.id,
        )
        .order_by(Ticket.id.desc())
        .limit(_FOR_USUAL)
    )
    durations = [duration for duration in db.session.scalars(statement) if duration is not None]
    return statistics.median(durations) if durations else None
