"""Two hundred tickets due in the same second, with a real server: none early, none twice, none left waiting."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from tests.server import Server

pytestmark = [pytest.mark.both_databases, pytest.mark.slow, pytest.mark.timeout(180)]

MANY, WORKERS, SAMPLE = 200, 16, 10
# What is promised: seconds after the planned time, or after a worker has become free.
PROMPT = 5.0
# Seconds for a submission one after another on an idle machine with two cores.
SUBMISSION = 0.02
CATALOG = """
environments: [{name: DEV}]
work_orders: [{name: trivial, environment: DEV, active: true, scheduling: true, main_task: "true"}]
"""


@pytest.fixture
def server(make_server: Callable[..., Server], database: str, request: pytest.FixtureRequest) -> Server:
    """Give a server that is up, on a database of its own, with a work order that takes planned times."""
    settings: dict[str, Any] = {"workers": WORKERS}
    if database == "postgresql":
        address = request.getfixturevalue("postgresql_server")
        with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
            connection.execute("drop database if exists many_due with (force)")
            connection.execute("create database many_due")
        settings["database_url"] = f"{address}/many_due"
    made = make_server(**settings)
    made.catalog(CATALOG)
    return made.start()


def rows(server: Server, statement: str) -> list[Any]:
    """Read from the server's database."""
    url = server.environment.get("SKSTACK_DATABASE_URL") or f"sqlite:///{server.instance}/skstack.db"
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        with engine.begin() as connection:
            result = connection.execute(sa.text(statement))
            return list(result)
    finally:
        engine.dispose()


def seconds_after(at: dt.datetime, moments: list[Any]) -> list[float]:
    """Return how long after `at` each moment was, in order: SQLite has them as text, in UTC."""
    aware = [
        dt.datetime.fromisoformat(moment).replace(tzinfo=dt.UTC) if isinstance(moment, str) else moment
        for (moment,) in moments
    ]
    return sorted((moment - at).total_seconds() for moment in aware)


def test_two_hundred_tickets_due_in_one_second_start_when_they_should_and_once(server: Server) -> None:
    number = server.workorder("trivial")
    begun = time.monotonic()
    for _ in range(SAMPLE):
        server.submit(number, scheduled_at=(dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).isoformat())
    # Late enough for a busy machine to submit them all before it.
    needed = (time.monotonic() - begun) / SAMPLE * MANY
    at = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(seconds=5 + 2 * needed)
    for _ in range(MANY):
        server.submit(number, scheduled_at=at.isoformat())
    assert dt.datetime.now(dt.UTC) < at, "this machine is too busy to submit them before their time"
    unfinished = f"select count(*) from tickets where finished_at is null and id > {SAMPLE}"
    deadline = time.monotonic() + 120
    while rows(server, unfinished) != [(0,)] and time.monotonic() < deadline:
        time.sleep(0.5)
    assert rows(
        server, f"select status, job_status, count(*) from tickets where id > {SAMPLE} group by 1, 2"
    ) == [("succeeded", "SUCCESS", MANY)]

    handed_over = seconds_after(at, rows(server, "select at from ticket_changes where after = 'running'"))
    started = seconds_after(at, rows(server, "select started_at from runs"))
    finished = seconds_after(at, rows(server, "select finished_at from runs"))
    assert len(handed_over) == len(started) == len(finished) == MANY, "one start for each ticket"
    assert rows(server, "select distinct fence from runs") == [(2,)], "claimed once and ended once"
    assert handed_over[0] >= 0
    # Before the k-th start k - WORKERS have finished: then at the latest a worker was free for it.
    free = [0.0] * WORKERS + finished
    late = [start - max(0.0, since) for start, since in zip(started, free, strict=False)]
    # Where other tests keep the processors busy, a submission takes longer than on an idle machine, and all else with it.
    slowness = max(1.0, needed / MANY / SUBMISSION)
    assert max(late) <= PROMPT * slowness, (
        f"started {started[-1]} s after the time, {slowness:.1f} times as slow"
    )
