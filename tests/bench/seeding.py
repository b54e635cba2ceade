"""A year of work for row 7: tickets with runs, changes and decisions, and audit events, in bulk and always the same.

What they say was chosen so that searches of every kind find something: what stands in every ticket, in one of twenty, in
three, and phrases that are rare though each of their words is common. The events' hashes are none: no page reads them.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import psycopg
import sqlalchemy as sa

from skstack.accounts.models import Group, User
from skstack.audit.models import AuditEvent
from skstack.audit.services import Action, record
from skstack.catalog.models import Category, Environment, WorkOrder
from skstack.dashboard import summing
from skstack.db import transaction, utcnow
from skstack.extensions import db
from skstack.tickets import search

Row = dict[str, Any]

BATCH = 20_000
PEOPLE, ORDERS = 100, 60
_SHARES = (("succeeded", 0.9), ("failed", 0.95), ("revoked", 0.97), ("l1_rejected", 0.99), ("unknown", 1.0))
_KINDS = (
    "deploy-app",
    "restart-nginx",
    "rollback_db",
    "DeployGit",
    "发布支付服务",
    "clean-logs",
    "重启网关",
    "sync-dns",
)
_NOTES = (
    "weekly release, see CHG-{number}",
    "hotfix for the login page",
    "修复支付回调超时问题",
    "按计划扩容 {count} 台机器",
    "requested by the data team",
    "",
    "",
    "",
)
_SOURCE = "deploy.sh --version {Version} {Hosts}"


def seed(tickets: int, events: int, *, days: int = 365) -> None:
    """Fill an instance that was prepared and has no tickets. Needs an application context."""
    period = dt.timedelta(days=days)
    _people_and_orders()
    _seal()
    now, chance = utcnow(), random.Random(7)
    there = db.session.scalar(sa.select(sa.func.max(AuditEvent.id))) or 0
    db.session.commit()
    with db.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        write: Callable[[Any, str, Sequence[Row]], None] = _copy
        if isinstance(driver, sqlite3.Connection):
            write = _insert
            driver.execute("PRAGMA synchronous=OFF")
            driver.execute("PRAGMA cache_size=-400000")
        dialect = db.engine.dialect.name
        for numbers in _batches(tickets):
            rows: dict[str, list[Row]] = {}
            for number in numbers:
                at = now - period * (1 - number / tickets)
                for table, row in _ticket(dialect, number, at, chance, is_new=number > tickets - 300):
                    rows.setdefault(table, []).append(row)
            _write_all(driver, write, rows)
        for numbers in _batches(events):
            made = [
                _event(there + number, now - period * (1 - number / events), number * tickets // events)
                for number in numbers
            ]
            _write_all(driver, write, {"audit_events": made})
        driver.execute(f"UPDATE audit_head SET sequence = {there + events}")
        if isinstance(driver, psycopg.Connection):
            for table in ("tickets", "runs", "ticket_changes", "decisions"):
                driver.execute(
                    f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))"
                )
            driver.commit()
            driver.autocommit = True
            driver.execute("VACUUM ANALYZE")
        connection.invalidate()  # It is not set as others are.
    _seal()
    for day in summing.days_to_sum(now):
        summing.sum_up(day)


def _seal() -> None:
    """Add a real event: before the others, so that the trail has an end, and after them, or the server would not start."""
    with transaction():
        record(Action.EXPORTED, actor=None, object_type="ticket", format="csv", filters={})


def _people_and_orders() -> None:
    with transaction():
        environments = [
            Environment(name=name, order=place) for place, name in enumerate(("DEV", "STAGE", "PROD"))
        ]
        categories = [Category(name=f"Category {number}") for number in range(8)]
        leads = Group(name="leads")
        db.session.add_all([leads, *environments, *categories])
        db.session.add_all(User(username=f"person{number:02}") for number in range(PEOPLE))
        db.session.flush()
        for number in range(ORDERS):
            db.session.add(
                WorkOrder(
                    name=_order_name(number),
                    environment_id=environments[number % 3].id,
                    category_id=categories[number % 8].id,
                    main_task=_SOURCE,
                    active=True,
                )
            )


def _order_name(number: int) -> str:
    return f"{_KINDS[number % len(_KINDS)]}-{number:02}"


def _ticket(
    dialect: str, number: int, at: dt.datetime, chance: random.Random, *, is_new: bool
) -> Iterator[tuple[str, Row]]:
    """Yield the rows of one ticket. The newest wait and run, as far as they go."""
    # A few work orders are submitted most of the time.
    order = chance.randrange(ORDERS) if chance.random() < 0.4 else int(chance.paretovariate(1)) % ORDERS
    person = 2 + chance.randrange(PEOPLE)
    drawn = chance.random()
    status = next(name for name, share in _SHARES if drawn < share)
    if is_new:
        status = chance.choice(("submitted", "l1_approved", "running", "succeeded"))
    waited, took = chance.lognormvariate(6, 2), chance.lognormvariate(2 + order % 5, 0.5)
    started = at + dt.timedelta(seconds=waited)
    ended = started + dt.timedelta(seconds=took) if status in ("succeeded", "failed", "unknown") else None
    name, environment = _order_name(order), ("DEV", "STAGE", "PROD")[order % 3]
    hosts = [f"app{chance.randrange(400):03}-{environment.lower()}" for _ in range(2)]
    values = {
        "Version": f"{number % 7}.{number % 89}.{number % 977}",
        "Hosts": hosts,
        "Reason": "monthly change",
    }
    note = chance.choice(_NOTES).format(number=number // 3, count=chance.randrange(40))
    step = {"task": "main", "line": 1, "source": _SOURCE, "script": "s" * 120, "shown": "d" * 90}
    plan = {
        "version": 1,
        "steps": [step],
        "environment": {"WO_sk__task_name_created": f"{name}.{at:%Y%m%d.%H%M%S}", "WO_Other": "x" * 500},
        "target": {"kind": "local"},
        "time_limit": 3600,
        "fields": [{"name": each, "label": each, "secret": False, "several": False} for each in values],
        "secrets_commitment": None,
    }
    yield (
        "tickets",
        {
            "id": number,
            "workorder_id": order + 1,
            "workorder_name": name,
            "workorder_version": 1,
            "environment_id": order % 3 + 1,
            "environment_name": environment,
            "category_id": order % 8 + 1,
            "category_name": f"Category {order % 8}",
            "submitter_id": person,
            "submitter_name": f"person{person - 2:02}",
            "kind": "background" if order % 10 == 9 else "foreground",
            "status": status,
            "submitted_values": json.dumps(values, ensure_ascii=False),
            "note": note,
            "auto_run": False,
            "allow_self_approval": False,
            "distinct_approvers": False,
            "task_lock": False,
            "plan": json.dumps(plan, ensure_ascii=False),
            "plan_digest": "0" * 64,
            "created_at": at,
            "finished_at": ended,
        },
    )
    texts = search.texts_of(name, f"person{person - 2:02}", note, values, plan)
    found = search.row(dialect, number, texts)
    if dialect == "sqlite":
        yield "ticket_search", {"rowid": number, "words": found["words"], "parts": found["parts"]}
    else:
        yield "ticket_search", {"ticket_id": number, "words": found["words"]}
    yield "ticket_changes", _change(2 * number, number, at, None, "submitted")
    yield "ticket_changes", _change(2 * number + 1, number, ended or started, "submitted", status)
    if order % 2:
        yield "ticket_levels", {"ticket_id": number, "level": 1, "group_id": 1, "group_name": "leads"}
        if ended:
            yield (
                "decisions",
                {
                    "id": number,
                    "ticket_id": number,
                    "level": 1,
                    "decision": "approved",
                    "by_id": 1,
                    "by_name": "admin",
                    "comment": "",
                    "at": at + dt.timedelta(seconds=waited * 0.7),
                },
            )
    if ended or status == "running":
        yield (
            "runs",
            {
                "id": number,
                "ticket_id": number,
                "task": "main",
                "state": status,
                "fence": 2,
                "queued_at": started,
                "started_at": started,
                "finished_at": ended,
                "duration": took if ended else None,
                "output_bytes": 1000,
                "stored_bytes": 1000,
            },
        )


def _change(number: int, ticket: int, at: dt.datetime, before: str | None, after: str) -> Row:
    return {"id": number, "ticket_id": ticket, "at": at, "before": before, "after": after, "actor_id": 1}


def _event(number: int, at: dt.datetime, ticket: int) -> Row:
    return {
        "id": number,
        "at": at,
        "actor_id": 2 + number % PEOPLE,
        "actor": f"person{number % PEOPLE:02}",
        "address": f"10.0.{number % 200}.7",
        "action": (
            "ticket.submitted",
            "ticket.status_changed",
            "run.started",
            "run.ended",
            "sign_in.succeeded",
        )[number % 5],
        "object_type": ("ticket", "ticket", "run", "run", "user")[number % 5],
        "object_id": ticket,
        "object_name": _order_name(number % ORDERS),
        "changes": '{"before":"submitted","after":"running","note":"monthly change"}',
        "digest": b"d" * 32,
        "previous": b"p" * 32,
        "hash": b"h" * 32,
    }


def _batches(count: int) -> Iterator[range]:
    for first in range(1, count + 1, BATCH):
        yield range(first, min(count, first + BATCH - 1) + 1)


def _write_all(
    driver: Any, write: Callable[[Any, str, Sequence[Row]], None], rows: Mapping[str, Sequence[Row]]
) -> None:
    driver.execute("BEGIN")
    for table, some in rows.items():
        write(driver, table, some)
    driver.execute("COMMIT")


def _insert(driver: sqlite3.Connection, table: str, rows: Sequence[Row]) -> None:
    names = list(rows[0])
    marks = ", ".join("?" for _ in names)
    statement = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})"
    driver.executemany(statement, [[_as_sqlite(value) for value in row.values()] for row in rows])


def _as_sqlite(value: Any) -> Any:
    return value.strftime("%Y-%m-%d %H:%M:%S.%f") if isinstance(value, dt.datetime) else value


def _copy(driver: psycopg.Connection[Any], table: str, rows: Sequence[Row]) -> None:
    with driver.cursor() as cursor, cursor.copy(f"COPY {table} ({', '.join(rows[0])}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(list(row.values()))
