"""Verifications that are kept: begun by a person or a command, carried out by a worker in pieces, their result shown."""

from __future__ import annotations

import datetime as dt
import time

import sqlalchemy as sa
from flask import current_app

from skstack.audit import heads, verifying
from skstack.audit.models import AuditCheck
from skstack.audit.services import Action, Actor, record
from skstack.audit.verifying import Broken, Progress
from skstack.db import transaction, utcnow
from skstack.extensions import db, queue
from skstack.messages import Message

VERIFY = "skstack.runs.tasks.verify_audit"  # There, because it looks at runs too.

PIECE = 2.0
"""Seconds that a worker verifies before it lets others have their turn."""

LOST = dt.timedelta(seconds=60)
"""A piece that took so long has probably died with its worker."""


def begin(*, actor: Actor) -> AuditCheck:
    """Let a worker verify the whole trail; one that is under way is joined instead."""
    with transaction():
        check = under_way()
        if check is None:
            check = AuditCheck(by=actor.username, progress=Progress().to_json())
            db.session.add(check)
            db.session.flush()
            record(Action.VERIFICATION_BEGUN, actor=actor, object_type="audit", object_id=check.id)
    queue.ring(VERIFY, check.id)
    return check


def verify_on(check_id: int) -> None:
    """Verify one piece, and ring for the next. A message that came twice verifies twice, with the same result."""
    check = db.session.get(AuditCheck, check_id, populate_existing=True)
    if check is None or check.is_over:
        return
    until = time.monotonic() + PIECE
    problem: Message | None = None
    progress = Progress.from_json(check.progress)
    db.session.rollback()  # Nothing is held while it takes its time.
    try:
        anchors = heads.own_anchors(current_app.config["SKSTACK"])
        progress = verifying.go_on(progress, anchors, enough=lambda: time.monotonic() > until)
    except Broken as err:
        problem = err.message
    except heads.HeadRefused as err:
        problem = Message(str(err).replace("%", "%%"))
    over = problem is not None or progress.phase == verifying.DONE
    note(check_id, progress, problem, over=over)
    if not over:
        queue.ring(VERIFY, check_id)


def note(check_id: int, progress: Progress, problem: Message | None, *, over: bool) -> None:
    """Write down how far a verification is, or how it ended."""
    now = utcnow()
    with transaction():
        db.session.execute(
            sa.update(AuditCheck)
            .where(AuditCheck.id == check_id, AuditCheck.ended_at.is_(None))
            .values(
                progress=progress.to_json(),
                problem=problem.to_json() if problem else None,
                seen_at=now,
                ended_at=now if over else None,
            )
            .execution_options(synchronize_session=False)
        )


def keep(progress: Progress, problem: Message | None, *, begun_at: dt.datetime) -> None:
    """Keep the result of a verification that a command on the host carried out."""
    with transaction():
        db.session.add(
            AuditCheck(
                by="",
                begun_at=begun_at,
                ended_at=utcnow(),
                progress=progress.to_json(),
                problem=problem.to_json() if problem else None,
            )
        )


def under_way() -> AuditCheck | None:
    """Return the verification that is not over yet."""
    return db.session.scalars(
        sa.select(AuditCheck).where(AuditCheck.ended_at.is_(None)).order_by(AuditCheck.id.desc()).limit(1)
    ).first()


def latest() -> AuditCheck | None:
    """Return the last verification that is over."""
    return db.session.scalars(
        sa.select(AuditCheck).where(AuditCheck.ended_at.is_not(None)).order_by(AuditCheck.id.desc()).limit(1)
    ).first()


def sweep() -> None:
    """Ring again for a verification whose worker died, or whose message was lost."""
    check = under_way()
    if check is not None and check.seen_at < utcnow() - LOST:
        queue.ring(VERIFY, check.id)
