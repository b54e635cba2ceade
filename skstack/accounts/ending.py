"""Ending sessions: signing out, and keeping people out."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from skstack.accounts.models import PendingSignIn, User, UserSession
from skstack.audit.services import Action, record
from skstack.crypto import hashed
from skstack.db import db, transaction
from skstack.errors import Conflict, NotFound
from skstack.messages import N_


def sign_out(*, token: str, actor: User, now: dt.datetime) -> None:
    """End the session that `token` belongs to. Does nothing if it has ended."""
    with transaction():
        if end(now, UserSession.token_hash == hashed(token)):
            record(
                Action.SIGNED_OUT,
                actor=actor,
                object_type="user",
                object_id=actor.id,
                object_name=actor.username,
            )


def end_session(session_id: int, *, actor: User, now: dt.datetime) -> None:
    """End one of the actor's own sessions. Raises NotFound if it is nobody's or another's, Conflict if it has ended."""
    with transaction():
        row = db.session.get(UserSession, session_id)
        if row is None or row.user_id != actor.id:
            raise NotFound
        if not end(now, UserSession.id == session_id):
            raise Conflict(N_("This session has already ended."))
        record(
            Action.SESSION_ENDED,
            actor=actor,
            object_type="user",
            object_id=actor.id,
            object_name=actor.username,
            sessions=1,
        )


def end_sessions(
    user: User, *, actor: User | None, now: dt.datetime, but: int | None = None, pending: bool = True
) -> int:
    """End all sessions of `user`, except the one with the id `but`, and return how many ended.

    `pending` False keeps the sign-in that is just being finished.
    """
    with transaction():
        if pending:
            drop_pending(user)
        ended = end(now, UserSession.user_id == user.id, UserSession.id != (but or 0))
        if ended:
            record(
                Action.SESSION_ENDED,
                actor=actor,
                object_type="user",
                object_id=user.id,
                object_name=user.username,
                sessions=ended,
            )
    return ended


def drop_pending(user: User) -> None:
    """Let nobody go on who has typed the password and not yet the code."""
    db.session.execute(sa.delete(PendingSignIn).where(PendingSignIn.user_id == user.id))


def end(now: dt.datetime, *conditions: sa.ColumnElement[bool]) -> int:
    """End those sessions that have not ended yet, in the transaction under way, and return how many."""
    statement = sa.update(UserSession).where(UserSession.ended_at.is_(None), *conditions).values(ended_at=now)
    return int(db.session.execute(statement.execution_options(synchronize_session="fetch")).rowcount)  # type: ignore[attr-defined]  # a CursorResult, for an UPDATE
