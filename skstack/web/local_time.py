"""Times as people type them: by the clock of their own zone, which skips some and shows others twice."""

from __future__ import annotations

import datetime as dt

from skstack.messages import N_, Message


class WrongTime(ValueError):
    """What was typed is no time of that zone. `message` says why."""

    def __init__(self, message: Message) -> None:
        super().__init__(str(message))
        self.message = message


def read_local(text: str, zone: dt.tzinfo) -> dt.datetime:
    """Return the moment, in UTC, at which the clock of `zone` shows `text`, as a datetime-local field sends it.

    The first one if the clock shows it twice. A text with a zone of its own is that moment. Raises WrongTime for what
    is no time, and for one that the clock skips.
    """
    try:
        typed = dt.datetime.fromisoformat(text.strip())
        moment = (typed if typed.tzinfo else typed.replace(tzinfo=zone, fold=0)).astimezone(dt.UTC)
        shown = moment.astimezone(zone)
    except (ValueError, OverflowError) as err:
        raise WrongTime(N_("This is no date with a time, such as 2026-01-31 08:00.")) from err
    if typed.tzinfo is None and shown.replace(tzinfo=None, fold=0) != typed:
        raise WrongTime(
            N_(
                "There is no such time: the clocks of %(zone)s are set forward then. Take another, such as %(time)s.",
                zone=zone_name(zone, moment),
                time=shown.strftime("%Y-%m-%d %H:%M"),
            )
        )
    return moment


def written_local(moment: dt.datetime, zone: dt.tzinfo) -> str:
    """Write a moment as a datetime-local field takes it, by the clock of `zone`."""
    local = moment.astimezone(zone)
    return local.strftime("%Y-%m-%dT%H:%M:%S" if local.second else "%Y-%m-%dT%H:%M")


def is_shown_twice(moment: dt.datetime, zone: dt.tzinfo) -> bool:
    """Say whether the clock of `zone` shows what it shows at `moment` once more, since it is set back then."""
    local = moment.astimezone(zone)
    return local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()


def zone_name(zone: dt.tzinfo, at: dt.datetime) -> str:
    """Return what people call a zone: Europe/Berlin, or for one without such a name what its clock says it is."""
    return getattr(zone, "key", None) or at.astimezone(zone).tzname() or str(zone)
