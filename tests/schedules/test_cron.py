"""When an expression comes true: each time once, also where clocks are changed."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skstack.schedules import cron

HOUR = dt.timedelta(hours=1)
NEW_YORK, BERLIN = "America/New_York", "Europe/Berlin"
# When clocks change, in UTC, and the local day of it.
FORWARD = {NEW_YORK: "2026-03-08T07:00Z", BERLIN: "2026-03-29T01:00Z"}
BACK = {NEW_YORK: "2026-11-01T06:00Z", BERLIN: "2026-10-25T01:00Z"}
# A time of day that is skipped, and one that comes twice.
SKIPPED, TWICE = {NEW_YORK: "30 2", BERLIN: "30 2"}, {NEW_YORK: "30 1", BERLIN: "30 2"}

MOMENTS = st.integers(0, 2 * 366 * 24 * 60 * 60).map(
    lambda seconds: dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)
)


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def between(expression: str, zone: str, start: dt.datetime, end: dt.datetime) -> list[dt.datetime]:
    found = []
    for moment in cron.times(expression, zone, start):
        if moment > end:
            break
        found.append(moment)
    return found


def around(change: str) -> tuple[dt.datetime, dt.datetime]:
    """Return the local day of a change, from midnight to midnight, roughly: three days around it."""
    return at(change) - 36 * HOUR, at(change) + 36 * HOUR


@pytest.mark.parametrize("zone", [NEW_YORK, BERLIN])
def test_a_daily_time_that_is_skipped_comes_once_right_after_the_change(zone: str) -> None:
    start, end = around(FORWARD[zone])
    found = between(f"{SKIPPED[zone]} * * *", zone, start, end)
    assert [moment.astimezone(ZoneInfo(zone)).strftime("%H:%M") for moment in found] == [
        "02:30",
        "03:00",
        "02:30",
    ]
    assert found[1] == at(FORWARD[zone])


@pytest.mark.parametrize("zone", [NEW_YORK, BERLIN])
def test_a_daily_time_that_comes_twice_starts_the_first_time_only(zone: str) -> None:
    start, end = around(BACK[zone])
    found = between(f"{TWICE[zone]} * * *", zone, start, end)
    assert len(found) == 3
    assert found[1] == at(BACK[zone]) - HOUR / 2
    # Whoever asks in between, within the hour that comes again, is told of the next day.
    for minutes in (1, 29, 31, 59, 61):
        later = found[1] + dt.timedelta(minutes=minutes)
        assert cron.next_time(f"{TWICE[zone]} * * *", zone, later) == found[2]


@pytest.mark.parametrize("zone", [NEW_YORK, BERLIN])
@pytest.mark.parametrize("change", [FORWARD, BACK])
def test_every_quarter_of_an_hour_goes_on_evenly(zone: str, change: dict[str, str]) -> None:
    start, end = around(change[zone])
    found = between("*/15 * * * *", zone, start, end)
    assert {later - earlier for earlier, later in pairwise(found)} == {HOUR / 4}


@pytest.mark.parametrize("change", [FORWARD, BACK])
def test_two_times_that_become_one_moment_start_once(change: dict[str, str]) -> None:
    start, end = around(change[BERLIN])
    found = between("0,30 1,2,3 * * *", BERLIN, start, end)
    assert found == sorted(set(found))


@given(
    zone=st.sampled_from([NEW_YORK, BERLIN, "Australia/Lord_Howe", "America/Santiago", "UTC"]),
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    start=MOMENTS,
)
def test_a_daily_job_comes_once_on_every_day(zone: str, minute: int, hour: int, start: dt.datetime) -> None:
    found = cron.next_times(f"{minute} {hour} * * *", zone, start, 400)
    days = [moment.astimezone(ZoneInfo(zone)).date() for moment in found]
    assert days == [days[0] + dt.timedelta(days=number) for number in range(400)]
    assert found[0] > start


@given(start=MOMENTS)
def test_whoever_asks_again_at_each_time_gets_the_same_ones(start: dt.datetime) -> None:
    at_once = cron.next_times("30 1,2,3 * * *", BERLIN, start, 40)
    one_by_one = [start]
    for _ in range(40):
        following = cron.next_time("30 1,2,3 * * *", BERLIN, one_by_one[-1])
        assert following is not None
        one_by_one.append(following)
    assert one_by_one[1:] == at_once


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "Five fields are needed"),
        ("* * * *", "Five fields are needed"),
        ("0 * * * * *", "Five fields are needed"),
        ("@daily", "Five fields are needed"),
        ("0 " * 60 + "* * *", "Five fields are needed"),
        ("60 * * * *", "The minute is a number from 0 to 59"),
        ("* 24 * * *", "The hour is a number from 0 to 23"),
        ("* * 0 * *", "The day is a number from 1 to 31"),
        ("* * 31 2 *", "The day is a number from 1 to 31 that the month has"),
        ("* * * 13 *", "The month is a number from 1 to 12"),
        ("* * * * mo", "The weekday is a number from 0 to 7"),
        ("* * * * MON#9", "The weekday is a number from 0 to 7"),
        ("0 0 LW 2 */6", "No day fits this"),
    ],
)
def test_what_is_wrong_is_explained(expression: str, said: str) -> None:
    assert said in str(cron.problem(expression, BERLIN))


@given(st.text(alphabet="0123456789*/,-#LW MONé٣", max_size=cron.LENGTH))
def test_no_text_does_more_than_be_refused(expression: str) -> None:
    if cron.problem(expression, BERLIN) is None:
        found = cron.next_times(expression, BERLIN, at("2026-11-26T12:00Z"))
        assert found == sorted(set(found))
        assert found


def test_what_came_due_is_the_latest_time_and_how_many_were_before_it() -> None:
    since = at("2026-11-26T10:00Z")
    assert cron.due("0 * * * *", "UTC", since=since, now=since) == cron.Due(since, 0, since)
    assert cron.due("0 * * * *", "UTC", since=since, now=at("2026-11-26T12:30Z")) == cron.Due(
        at("2026-11-26T12:00Z"), 2, since
    )


@pytest.mark.parametrize(
    ("expression", "latest"),
    [
        ("* * * * *", "2026-11-29T23:59Z"),
        ("* * * * 1-5", "2026-11-27T23:59Z"),
        ("* * 2 6 *", "2026-06-02T23:59Z"),
    ],
)
def test_the_latest_of_very_many_is_found(expression: str, latest: str) -> None:
    now = at("2026-11-29T23:59:30Z")
    since = cron.next_time(expression, "UTC", at("2022-01-01T00:00Z"))
    assert since is not None
    found = cron.due(expression, "UTC", since=since, now=now)
    assert (found.latest, found.earlier) == (at(latest), cron.COUNTED)
