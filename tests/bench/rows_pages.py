"""Row 7: pages over a year of a large site, 1,000,000 tickets and 5,000,000 events, on both databases."""

from __future__ import annotations

import datetime as dt
import json
import os
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from skstack import config, create_app
from skstack.db import utcnow
from skstack.extensions import db
from tests import postgresql
from tests.bench import seeding
from tests.bench.client import Client, Clock, percentile
from tests.bench.table import Results
from tests.databases import _close
from tests.server import Server

TICKETS, EVENTS, ROUNDS = 1_000_000, 5_000_000, 40
LIST, TICKET, DASHBOARD, SEARCH = 50, 30, 100, 200

Ask = Callable[[str], tuple[int, bytes]]


def measure(results: Results, sign_in: Callable[[Server], str]) -> None:
    """Make the instance, on SQLite and then on PostgreSQL if it is installed, and time its pages. It takes half an hour."""
    for name, url in _databases():
        with tempfile.TemporaryDirectory(prefix="skstack-bench-") as folder:
            server = Server(Path(folder), database_url=url).prepare()
            app = create_app(config.load(server.environment))
            with app.app_context():
                seeding.seed(TICKETS, EVENTS)
                floor = rows_by_key(ROUNDS)
            _close(app)
            server.start("web")
            try:
                with closing(Client(server.port, {"Cookie": sign_in(server)})) as client:
                    pages(results, name, _asking(client), TICKETS, ROUNDS, floor)
            finally:
                server.stop()


def _databases() -> Iterator[tuple[str, str]]:
    yield "SQLite", ""
    programs = postgresql._programs()
    if programs is None:
        print("row 7 on PostgreSQL is left out: its server programs are not installed")
        return
    os.environ["SKSTACK_TEST_SESSION"] = str(os.getpid())  # The server ends with this process.
    yield "PostgreSQL", f"{postgresql._start(programs)}/postgres"


def _asking(client: Client) -> Ask:
    def ask(path: str) -> tuple[int, bytes]:
        status, _, content = client.ask("GET", path)
        return status, content

    return ask


def rows_by_key(rounds: int) -> list[float]:
    """Return how long it takes to read the newest 50 tickets and nothing else, in ms. Needs an application context."""
    times = []
    with db.engine.connect() as connection:
        for _ in range(rounds):
            clock = Clock()
            connection.execute(sa.text("SELECT * FROM tickets ORDER BY id DESC LIMIT 50")).all()
            times.append(clock() * 1000)
    return times


def pages(results: Results, name: str, ask: Ask, tickets: int, rounds: int, floor: list[float]) -> None:
    """Ask for each page `rounds` times, and once before."""
    least = percentile(floor, 0.95)
    for what, path, target, finds in addresses(tickets):
        ask(path)
        times = []
        for _ in range(rounds):
            clock = Clock()
            status, content = ask(path)
            times.append(clock() * 1000)
            assert status == 200, (path, status)
        if tickets == TICKETS:
            assert (b"Nothing matches" not in content) is finds, path
        results.add("7", f"{name}: {what}, p50", percentile(times, 0.5), "ms", floor=percentile(floor, 0.5))
        results.add("7", f"{name}: {what}, p95", percentile(times, 0.95), "ms", floor=least, target=target)


def addresses(tickets: int) -> list[tuple[str, str, int, bool]]:
    """Return what is asked for, where, within how many ms, and whether there is anything to be found."""
    middle = tickets // 2
    return [
        ("history", "/audit/tickets", LIST, True),
        ("history, one status", "/audit/tickets?status=failed", LIST, True),
        ("history, one work order", "/audit/tickets?workorder=sync-dns-47", LIST, True),
        ("history, person and status", "/audit/tickets?submitter=person07&status=revoked", LIST, True),
        ("history, category and tab", "/audit/tickets?category=Category+3&environment=DEV", LIST, True),
        ("history, by end", "/audit/tickets?sort=-ended", LIST, True),
        ("history, by work order", "/audit/tickets?sort=workorder", LIST, True),
        ("history, amidst", f"/audit/tickets?after={_cursor(middle)}", LIST, True),
        (
            "history, amidst by person",
            f"/audit/tickets?sort=submitter&after={_cursor('person50', middle)}",
            LIST,
            True,
        ),
        ("search: in a few", f"/audit/tickets?q=CHG-{middle // 30}", SEARCH, True),
        ("search: in none", "/audit/tickets?q=nowhere", SEARCH, False),
        ("search: in 1 of 200", "/audit/tickets?q=app017", SEARCH, True),
        ("search: in 1 of 8", "/audit/tickets?q=release", SEARCH, True),
        ("search: Chinese, in 1 of 8", "/audit/tickets?q=%E6%94%AF%E4%BB%98%E5%9B%9E%E8%B0%83", SEARCH, True),
        ("search: in all", "/audit/tickets?q=monthly", SEARCH, True),
        ("search: in all, one status", "/audit/tickets?q=monthly&status=revoked", SEARCH, True),
        ("search: in 1 of 8, by end", "/audit/tickets?q=release&sort=-ended", SEARCH, True),
        (
            "search: in 1 of 12, all old",
            f"/audit/tickets?q={utcnow() - dt.timedelta(days=330):%Y%m}",
            SEARCH,
            True,
        ),
        ("search: two words", "/audit/tickets?q=release+app01", SEARCH, True),
        ("search: a phrase of none", "/audit/tickets?q=change-monthly", SEARCH, False),
        ("a ticket", f"/tickets/{middle}", TICKET, True),
        ("dashboard", "/", DASHBOARD, True),
        ("dashboard, 90 days", "/?days=90", DASHBOARD, True),
        ("audit events", "/audit/events", LIST, True),
        ("audit events, amidst", f"/audit/events?after={middle}", LIST, True),
        ("audit events, one ticket", f"/audit/events?object=ticket&id={middle}", LIST, True),
    ]


def _cursor(*place: Any) -> str:
    return urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")
