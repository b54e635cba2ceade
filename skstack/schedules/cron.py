"""Cron expressions: what is wrong with one, and when it comes true in a time zone. Times are aware, in UTC.

The expression is read as Debian's cron does. A job at a fixed time runs once on each of its days: if the clocks skip that
time it runs when they have been changed, and if they show it twice it runs the first time. One that says `*` for
minute or hour follows elapsed time instead.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from skstack.messages import N_, Message

LENGTH = 100
COUNTED = 1000

_ALLOWED = {
    "minute": N_("The minute is a number from 0 to 59. %(forms)s", forms=N_("Also *, */15, 0-30 or 0,30.")),
    "hour": N_("The hour is a number from 0 to 23. %(forms)s", forms=N_("Also *, */4, 8-18 or 8,20.")),
    "day-of-month": N_(
        "The day is a number from 1 to 31 that the month has. %(forms)s",
        forms=N_("Also *, 1-7, 1,15, L for the last day or LW for the last working day."),
    ),
    "month": N_(
        "The month is a number from 1 to 12 or JAN to DEC. %(forms)s", forms=N_("Also *, */3 or 4-9.")
    ),
    "day-of-week": N_(
        "The weekday is a number from 0 to 7 (0 and 7 are Sunday) or SUN to SAT. %(forms)s",
        forms=N_("Also *, MON-FRI, MON#1 for the first or FRI#L for the last of the month."),
    ),
}


@dataclass(frozen=True, slots=True)
class Due:
    """What came true by now: the latest time, and how many there were before it, of which the first.

    `earlier` counts to COUNTED and no further.
    """

    latest: dt.datetime
    earlier: int
    first: dt.datetime


def problem(expression: str, zone: str = "UTC") -> Message | None:
    """Return what is wrong with an expression, or None."""
    parts = expression.split()
    if len(parts) != 5 or len(expression) > LENGTH:
        return N_(
            "Five fields are needed: minute, hour, day, month, weekday. For example 30 2 * * 1-5 is half past two on "
            "working days."
        )
    try:
        _simulated(expression, dt.datetime.now(dt.UTC), zone)
    except CronSimError as err:
        return _ALLOWED[str(err).removeprefix("Bad ")]
    if next_time(expression, zone, dt.datetime.now(dt.UTC)) is None:
        return N_("No day fits this: nothing would ever start.")
    return None


def next_time(expression: str, zone: str, after: dt.datetime) -> dt.datetime | None:
    """Return the first time after `after`, or None if there is none within fifty years."""
    return next(times(expression, zone, after), None)


def next_times(expression: str, zone: str, after: dt.datetime, count: int = 5) -> list[dt.datetime]:
    """Return the first `count` times after `after`."""
    return list(islice(times(expression, zone, after), count))


def times(expression: str, zone: str, after: dt.datetime) -> Iterator[dt.datetime]:
    """Give each time after `after`, in order and each once. Raises CronSimError for what is no expression."""
    last = after
    for found in _simulated(expression, after, zone):
        moment = found.astimezone(dt.UTC)
        # Where clocks are changed two times of the expression may be one moment, or one that has passed.
        if moment > last:
            last = moment
            yield moment


def due(expression: str, zone: str, *, since: dt.datetime, now: dt.datetime) -> Due:
    """Return what came true from `since`, which is a time of the expression, up to `now`."""
    latest, count = since, 0
    for moment in times(expression, zone, since):
        if moment > now:
            return Due(latest, count, since)
        latest, count = moment, count + 1
        if count == COUNTED:
            break
    return Due(_latest(expression, zone, since=latest, now=now), count, since)


def _latest(expression: str, zone: str, *, since: dt.datetime, now: dt.datetime) -> dt.datetime:
    """Return the last time up to `now`: looked for in ever longer spans before it, since there may be very many."""
    for days in (1 / 24, 1, 8, 32, 367):
        begin = now - dt.timedelta(days=days)
        if begin <= since:
            break
        found = None
        for moment in times(expression, zone, begin):
            if moment > now:
                break
            found = moment
        if found is not None:
            return found
    latest = since
    for moment in times(expression, zone, since):
        if moment > now:
            break
        latest = moment
    return latest


def _simulated(expression: str, after: dt.datetime, zone: str) -> CronSim:
    return CronSim(expression, after.astimezone(ZoneInfo(zone)))
