"""Real runners for the tests of this folder: a host process, plans, and runs watched to their end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from skstack.runner import processes
from skstack.runner.client import RunnerHost, RunnerProcess, new_token, read_events, read_result
from skstack.runner.protocol import CaptureRequest, Event, Plan, PlanStep, Result, Task


@dataclass
class Finished:
    """A run that is over."""

    plan: Plan
    result: Result
    output: bytes
    events: list[Event]
    seconds: float

    @property
    def why(self) -> str:
        """The reason as a person reads it."""
        return str(self.result.reason)


class Runs:
    """Makes plans in fresh directories and sees them through."""

    def __init__(self, host: RunnerHost, directory: Path) -> None:
        self.host = host
        self._directory = directory
        self._count = 0

    def steps(self, *scripts: str) -> tuple[PlanStep, ...]:
        """Return one step for each script."""
        return tuple(
            PlanStep(position=i, task=Task.MAIN, line=script, script=script)
            for i, script in enumerate(scripts)
        )

    def plan(self, *scripts: str, **changes: Any) -> Plan:
        """Return a plan with these steps, a short grace and a directory of its own."""
        self._count += 1
        directory = self._directory / f"run-{self._count}"
        if "directory" not in changes:
            directory.mkdir()
        values = {
            "directory": str(directory),
            "token": new_token(),
            "steps": self.steps(*scripts),
            "time_limit": 30.0,
            "grace": 0.3,
        }
        return Plan(**{**values, **changes})

    def capture(self, *scripts: str, **changes: Any) -> CaptureRequest:
        """Return a request to capture these steps."""
        return CaptureRequest(**{"token": new_token(), "steps": self.steps(*scripts), **changes})

    def finish(self, plan: Plan, process: RunnerProcess | None = None) -> Finished:
        """Run a plan, or go on watching its process, to the end."""
        began = time.monotonic()
        process = process or self.host.launch(plan)
        assert process.wait(30), "the run does not end"
        process.close()
        result = read_result(plan.directory)
        assert result is not None
        events, _ = read_events(plan.directory)
        output = (Path(plan.directory) / "output.log").read_bytes()
        return Finished(plan, result, output, events, time.monotonic() - began)

    def __call__(self, *scripts: str, **changes: Any) -> Finished:
        """Run these steps to their end."""
        return self.finish(self.plan(*scripts, **changes))

    def started(self, *scripts: str, **changes: Any) -> tuple[Plan, RunnerProcess]:
        """Start these steps and wait until the first has printed something."""
        plan = self.plan(*scripts, **changes)
        process = self.host.launch(plan)
        output = Path(plan.directory) / "output.log"
        wait_until(lambda: output.stat().st_size > 0)
        return plan, process


def wait_until(holds: Callable[[], object], within: float = 10.0) -> None:
    """Wait until something holds; fail if it does not in time."""
    until = time.monotonic() + within
    while not holds():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.005)


def left_of(plan: Plan) -> set[int]:
    """Return the processes that carry the mark of a plan's run."""
    return processes.marked(plan.token)


@pytest.fixture(scope="session")
def host() -> Iterator[RunnerHost]:
    """One runner host for all tests that do not break it."""
    runner_host = RunnerHost(environment=measured())
    runner_host.start()
    yield runner_host
    runner_host.close()


@pytest.fixture
def runs(host: RunnerHost, tmp_path: Path) -> Runs:
    """Plans and runs on the shared host."""
    return Runs(host, tmp_path)


@pytest.fixture
def own_host(tmp_path: Path) -> Iterator[Runs]:
    """Plans and runs on a host that the test may break."""
    runner_host = RunnerHost(environment=measured())
    yield Runs(runner_host, tmp_path)
    runner_host.close()


def measured() -> dict[str, str]:
    """Return what makes coverage follow into the host and its runners."""
    return {k: v for k, v in os.environ.items() if k.startswith("COVERAGE_")}
