"""Reads about runs. A run is seen by those who see its ticket."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import joinedload

from skstack.accounts.models import Page, User
from skstack.errors import NotFound
from skstack.extensions import db
from skstack.runs.models import Run
from skstack.states import RunState
from skstack.tickets.models import Ticket
from skstack.tickets.queries import can_see

_STATE = sa.select(Run.state, Ticket.submitter_id).join(Ticket).where(Run.id == sa.bindparam("run_id"))


def visible_run(run_id: int, user: User) -> Run:
    """Return one run with its ticket. Raises NotFound if there is none, or none for this user. Needs one statement."""
    run = db.session.get(Run, run_id, options=[joinedload(Run.ticket)])
    if run is None or not can_see(run.ticket, user):
        raise NotFound
    return run


def visible_state(run_id: int, user: User) -> RunState:
    """Return a run's state and nothing else of it. Raises NotFound as `visible_run` does. Needs one statement."""
    found = db.session.execute(_STATE, {"run_id": run_id}).one_or_none()
    if found is None or not (found.submitter_id == user.id or user.may(Page.AUDIT)):
        raise NotFound
    return RunState(found.state)
