"""What becomes of that which ran, or came due, between the making of a backup and its restore.

Where the backup was made, things may have gone on. So nothing of it is started here, and nothing is called failed that
may have succeeded: it ends as unknown, or as missed where only a later time counts.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa

from skstack.audit import heads
from skstack.audit.services import Action, record
from skstack.db import transaction, utcnow
from skstack.extensions import db
from skstack.messages import N_
from skstack.runner.client import read_result
from skstack.runs import services as runs
from skstack.runs import workers
from skstack.runs.models import Run, directory_of
from skstack.schedules import occurrences, planning
from skstack.schedules import services as planned
from skstack.states import WAITING, RunState
from skstack.tickets.models import Ticket


@dataclass(frozen=True, slots=True)
class Settled:
    """How many runs, due tickets and times of schedules were not gone on with, and how many tickets still wait."""

    runs: int
    tickets: int
    times: int
    waiting: int


def settle(made_at: dt.datetime) -> Settled:
    """Leave nothing behind that would start by itself though it may have run elsewhere since `made_at`. Safe to repeat."""
    now = utcnow()
    settled = Settled(
        runs=_end_runs(made_at),
        tickets=planned.pass_over(
            now,
            reason=N_(
                "Its time came after the backup of %(at)s, from which this instance was restored, was made. Whether it ran "
                "there cannot be told here. Look at the target before you submit again.",
                at=made_at,
            ),
        ),
        times=_pass_over_times(now, made_at),
        waiting=db.session.scalar(sa.select(sa.func.count()).where(Ticket.status.in_(WAITING))) or 0,
    )
    with transaction():
        workers.forget_all()
        record(
            Action.RESTORED,
            actor=None,
            object_type="instance",
            time=made_at.isoformat(),
            runs=settled.runs,
            tickets=settled.tickets,
            times=settled.times,
        )
    heads.sweep()
    return settled


def _end_runs(made_at: dt.datetime) -> int:
    active = sa.select(Run.id, Run.state, Run.fence).where(Run.state.in_((RunState.QUEUED, RunState.RUNNING)))
    found = db.session.execute(active.order_by(Run.id)).all()
    for number, state, fence in found:
        # Outputs were read after the database: a run may have ended in between, and then its result is here.
        if state == RunState.RUNNING and (result := read_result(directory_of(number))) is not None:
            runs.end_by_result(number, fence=fence, result=result)
        else:
            reason = N_(
                "It had not ended when the backup of %(at)s was made, from which this instance was restored. What became of "
                "it there cannot be told here. Look at the target before you submit again.",
                at=made_at,
            )
            runs.lose(number, fence=fence, reason=reason)
    return len(found)


def _pass_over_times(now: dt.datetime, made_at: dt.datetime) -> int:
    reason = N_(
        "It came after the backup of %(at)s, from which this instance was restored, was made. Whether it ran there cannot "
        "be told here.",
        at=made_at,
    )
    return planning.pass_over(now, reason=reason) + occurrences.pass_over(now, reason=reason)
