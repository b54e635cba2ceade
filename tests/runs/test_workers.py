"""When a worker counts as lost: on this host by its process, on another only by the time it does not count up."""

from __future__ import annotations

import dataclasses
import os
import socket

import pytest
from flask import Flask

from skstack.config import Settings
from skstack.db import transaction, utcnow
from skstack.extensions import db
from skstack.runs import workers
from skstack.runs.execution import Watcher
from skstack.runs.models import Worker
from skstack.runs.workers import Keeper, register

pytestmark = [pytest.mark.both_databases, pytest.mark.usefixtures("context")]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(settings, lease=10.0)


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(workers.time, "monotonic", clock.monotonic)
    return clock


@pytest.fixture
def keeper(context: Flask) -> Keeper:
    return Keeper(context, Watcher(context, register().id))


def change(worker: Worker, **columns: object) -> Worker:
    with transaction():
        for name, value in columns.items():
            setattr(worker, name, value)
    return worker


def another(**columns: object) -> Worker:
    """Return a worker of this very process, but for `columns`."""
    return change(register(), **columns)


def test_a_living_worker_of_this_host_is_not_lost(keeper: Keeper, clock: Clock) -> None:
    assert not keeper._is_lost(another())


@pytest.mark.parametrize(
    "columns",
    [
        {"stopped_at": utcnow()},
        {"boot_id": "an earlier boot"},
        {"process_start": 1},
        {"pid": 2**22 + 1},
    ],
    ids=["stopped", "rebooted", "pid used again", "gone"],
)
def test_a_worker_of_this_host_is_lost_at_once(
    keeper: Keeper, clock: Clock, columns: dict[str, object]
) -> None:
    assert keeper._is_lost(another(**columns))


@pytest.mark.parametrize("stopped_at", [None, utcnow()], ids=["silent", "stopped"])
def test_a_worker_of_another_host_is_lost_only_after_a_lease(
    keeper: Keeper, clock: Clock, stopped_at: object
) -> None:
    worker = another(host="elsewhere", pid=2**22 + 1, stopped_at=stopped_at)

    assert not keeper._is_lost(worker)
    clock.now += 9.9
    assert not keeper._is_lost(worker)
    clock.now += 0.2
    assert keeper._is_lost(worker)


def test_a_worker_that_counts_up_has_a_new_lease_whatever_the_clocks_say(
    keeper: Keeper, clock: Clock
) -> None:
    worker = another(host="elsewhere")
    assert not keeper._is_lost(worker)
    for _ in range(5):
        clock.now += 9
        assert not keeper._is_lost(change(worker, beat=worker.beat + 1, seen_at=utcnow().replace(year=2001)))


def test_a_look_counts_up(keeper: Keeper, clock: Clock) -> None:
    mine = db.session.get_one(Worker, keeper._watcher.worker_id)
    assert (mine.host, mine.pid) == (socket.gethostname(), os.getpid())
    keeper.look()
    keeper.look()  # Too early for another.
    clock.now += 5
    keeper.look()
    db.session.refresh(mine)
    assert mine.beat == 2
