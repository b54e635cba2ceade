"""Freeze windows: whether something may be started in an environment now, and when it may again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

import sqlalchemy as sa

from skstack.catalog.models import FreezeWindow
from skstack.extensions import db


def window_at(environment_id: int, now: dt.datetime) -> FreezeWindow | None:
    """Return the window that an environment is in, of several the one that ends last; None if it is in none."""
    statement = (
        sa.select(FreezeWindow)
        .where(
            FreezeWindow.environment_id == environment_id,
            FreezeWindow.starts_at <= now,
            FreezeWindow.ends_at > now,
        )
        .order_by(FreezeWindow.ends_at.desc(), FreezeWindow.id)
        .limit(1)
    )
    return db.session.scalars(statement).first()


def windows_at(now: dt.datetime) -> dict[int, FreezeWindow]:
    """Return the window that each environment is in, as `window_at` chooses it. Needs one statement."""
    statement = (
        sa.select(FreezeWindow)
        .where(FreezeWindow.starts_at <= now, FreezeWindow.ends_at > now)
        .order_by(FreezeWindow.ends_at, FreezeWindow.id.desc())
    )
    return {window.environment_id: window for window in db.session.scalars(statement)}


def thawed_at(environment_id: int, moment: dt.datetime) -> dt.datetime:
    """Return the first time from `moment` on that is in no window: `moment` itself, or the end of what covers it."""
    statement = (
        sa.select(FreezeWindow)
        .where(FreezeWindow.environment_id == environment_id, FreezeWindow.ends_at > moment)
        .order_by(FreezeWindow.starts_at)
    )
    return end_of(db.session.scalars(statement), moment)


def end_of(windows: Iterable[FreezeWindow], moment: dt.datetime) -> dt.datetime:
    """Follow `windows`, earliest start first, for as long as each begins before the one before it has ended."""
    for window in windows:
        if window.starts_at <= moment < window.ends_at:
            moment = window.ends_at
    return moment
