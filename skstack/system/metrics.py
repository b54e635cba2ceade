"""What Prometheus is told. Everything is asked of the database at each scrape: there may be several web processes.

No name of a user, ticket, host key or file is in it.
"""

from __future__ import annotations

import datetime as dt
import platform
from collections.abc import Iterator, Mapping
from typing import Any

import skstack
from skstack.config import Settings
from skstack.dashboard.queries import totals
from skstack.states import RunState, TicketStatus
from skstack.system.queries import State, oldest_undecided


def exposition(settings: Settings) -> tuple[bytes, str]:
    """Return all metrics as text, and its content type."""
    # Loaded when it is first needed: most web processes are never asked.
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(settings))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Collector:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def describe(self) -> list[Any]:
        """Return nothing: else registering would collect once more than asked."""
        return []

    def collect(self) -> Iterator[Any]:
        state = State(self._settings)
        yield from self._build(state)
        yield from self._tickets(state)
        yield from self._workers(state)
        yield from self._queue(state)
        yield from self._storage(state)

    def _build(self, state: State) -> Iterator[Any]:
        labels = {
            "version": skstack.__version__,
            "python": platform.python_version(),
            "database": state.database.kind,
            "database_version": state.database.version,
        }
        yield _by("build_info", "What runs here.", tuple(labels), {tuple(labels.values()): 1})
        yield _one("database_size_bytes", "Size of the database.", state.database.bytes)
        yield _one(
            "database_migrated",
            "Whether the database has the form that this version needs.",
            state.database.is_current,
        )

    def _tickets(self, state: State) -> Iterator[Any]:
        tickets, runs = totals(state.now.date())
        yield _by(
            "tickets", "Tickets by status.", ("status",), {(one,): tickets[one] for one in TicketStatus}
        )
        yield _by("runs", "Runs by state.", ("state",), {(one,): runs[one] for one in RunState})
        ages = {
            ("approval",): _age(state.now, oldest_undecided()),
            ("worker",): _age(state.now, state.queued.oldest_run_at),
        }
        yield _by(
            "oldest_waiting_age_seconds",
            "Age of the oldest ticket that waits for an approval, and of the oldest run that waits for a worker; 0: none.",
            ("waits_for",),
            ages,
        )

    def _workers(self, state: State) -> Iterator[Any]:
        alive = state.alive
        count = {("alive",): len(alive), ("lost",): len(state.workers) - len(alive)}
        yield _by("workers", "Workers by whether their lease holds.", ("lease",), count)
        capacity = sum(one.worker.capacity or 0 for one in alive)
        yield _one("worker_capacity_runs", "Runs that the living workers take at a time.", capacity)
        held = {
            ("alive",): sum(one.runs for one in alive),
            ("lost",): sum(one.runs for one in state.workers if not one.is_alive),
        }
        yield _by(
            "worker_held_runs", "Runs that workers hold, by whether their lease holds.", ("lease",), held
        )
        seen = min((_age(state.now, one.worker.seen_at) for one in alive), default=float("nan"))
        yield _one("worker_seen_age_seconds", "Time since the last sign of life of any living worker.", seen)

    def _queue(self, state: State) -> Iterator[Any]:
        queued = state.queued
        yield _one("queue_messages", "Messages that wait for a worker.", queued.messages)
        yield _one("queue_later_messages", "Messages for a planned time.", queued.later)
        yield _one(
            "queue_oldest_message_age_seconds",
            "Age of the oldest message that waits; 0: none.",
            _age(state.now, queued.oldest_message_at),
        )

    def _storage(self, state: State) -> Iterator[Any]:
        storage = state.storage
        yield _one(
            "output_bytes", "Output of ended runs that is kept, as counted by a worker.", storage.bytes
        )
        yield _one("output_runs", "Ended runs whose output is kept.", storage.runs)
        yield _one("disk_free_bytes", "Room left in this host's instance folder.", storage.free)
        yield _one("disk_size_bytes", "Size of the disk of this host's instance folder.", storage.total)
        if storage.reserve is not None:
            yield _one(
                "reserve_missing_pieces",
                "Pieces of the reserve that were given back.",
                storage.whole_reserve - storage.reserve,
            )
        if state.retention.at is not None:
            yield _one(
                "retention_age_seconds",
                "Time since the retention rule was looked after.",
                _age(state.now, state.retention.at),
            )
        if state.backup is not None:
            yield _one(
                "backup_age_seconds",
                "Time since the last backup that succeeded.",
                _age(state.now, state.backup.at),
            )
            yield _one("backup_size_bytes", "Size of the last backup.", state.backup.bytes)


def _one(name: str, help_: str, value: float) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(f"skstack_{name}", help_, value=float(value))


def _by(name: str, help_: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"skstack_{name}", help_, labels=labels)
    for key, value in values.items():
        family.add_metric([str(part) for part in key], float(value))
    return family


def _age(now: dt.datetime, then: dt.datetime | None) -> float:
    return max((now - then).total_seconds(), 0.0) if then is not None else 0.0
