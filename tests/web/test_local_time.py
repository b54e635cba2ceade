"""Times by the clocks of real zones, on the days when they are set."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest

from skstack.web.local_time import WrongTime, is_shown_twice, read_local, written_local, zone_name

NEW_YORK, BERLIN, SHANGHAI = (
    ZoneInfo(name) for name in ("America/New_York", "Europe/Berlin", "Asia/Shanghai")
)


@pytest.mark.parametrize(
    ("zone", "typed", "utc"),
    [
        (SHANGHAI, "2026-07-01T08:00", "2026-07-01T00:00"),
        (SHANGHAI, "2026-11-01T01:30", "2026-10-31T17:30"),
        (BERLIN, "2026-07-01T08:00", "2026-07-01T06:00"),
        (BERLIN, "2026-03-29T01:59", "2026-03-29T00:59"),
        (BERLIN, "2026-03-29T03:00", "2026-03-29T01:00"),
        (BERLIN, "2026-10-25T02:30", "2026-10-25T00:30"),
        (BERLIN, "2026-10-25T03:00", "2026-10-25T02:00"),
        (NEW_YORK, "2026-03-08T01:59", "2026-03-08T06:59"),
        (NEW_YORK, "2026-03-08T03:00", "2026-03-08T07:00"),
        (NEW_YORK, "2026-11-01T01:30", "2026-11-01T05:30"),
        (NEW_YORK, "2026-11-01T02:00", "2026-11-01T07:00"),
        (NEW_YORK, "2026-07-01T08:00:00+02:00", "2026-07-01T06:00"),
        (NEW_YORK, " 2026-07-01 08:00 ", "2026-07-01T12:00"),
    ],
)
def test_a_typed_time_is_the_first_moment_at_which_the_clock_shows_it(
    zone: ZoneInfo, typed: str, utc: str
) -> None:
    assert read_local(typed, zone) == dt.datetime.fromisoformat(utc).replace(tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("zone", "typed", "instead"),
    [
        (BERLIN, "2026-03-29T02:00", "2026-03-29 03:00"),
        (BERLIN, "2026-03-29T02:59:59", "2026-03-29 03:59"),
        (NEW_YORK, "2026-03-08T02:30", "2026-03-08 03:30"),
    ],
)
def test_a_time_that_the_clock_skips_is_refused_with_another(
    zone: ZoneInfo, typed: str, instead: str
) -> None:
    with pytest.raises(WrongTime, match=f"{zone.key}.*such as {instead}"):
        read_local(typed, zone)


@pytest.mark.parametrize("typed", ["", "soon", "2026-13-01T00:00", "0001-01-01T00:00", "9999-12-31T23:59"])
def test_what_is_no_time_is_refused(typed: str) -> None:
    with pytest.raises(WrongTime, match="no date with a time"):
        read_local(typed, NEW_YORK if typed.startswith("9") else SHANGHAI)


@pytest.mark.parametrize(
    ("zone", "utc", "twice"),
    [
        (BERLIN, "2026-10-25T00:30", True),
        (BERLIN, "2026-10-25T01:30", True),
        (BERLIN, "2026-10-25T02:30", False),
        (NEW_YORK, "2026-11-01T05:30", True),
        (NEW_YORK, "2026-03-08T07:00", False),
        (SHANGHAI, "2026-10-25T00:30", False),
    ],
)
def test_a_time_that_the_clock_shows_twice_is_known(zone: ZoneInfo, utc: str, twice: bool) -> None:
    assert is_shown_twice(dt.datetime.fromisoformat(utc).replace(tzinfo=dt.UTC), zone) is twice


def test_a_moment_is_written_as_the_field_takes_it() -> None:
    moment = dt.datetime(2026, 7, 1, 6, tzinfo=dt.UTC)
    assert written_local(moment, BERLIN) == "2026-07-01T08:00"
    assert written_local(moment.replace(second=5), BERLIN) == "2026-07-01T08:00:05"


def test_a_zone_is_called_by_its_name() -> None:
    now = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)
    assert zone_name(BERLIN, now) == "Europe/Berlin"
    assert zone_name(dt.timezone(dt.timedelta(hours=2)), now) == "UTC+02:00"
