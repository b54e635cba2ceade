"""`GET /runs/ID`: a run and its steps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask

from skstack.messages import N_
from skstack.runner.protocol import Outcome
from skstack.runs import services
from skstack.runs.models import Run
from tests.api.conftest import Caller
from tests.factories import alice, mallory, root
from tests.fake_runner import FINISHED, begin, end, note, result, run_of, write
from tests.orders import make_ticket, make_variable, make_workorder

pytestmark = pytest.mark.both_databases


@pytest.fixture
def run(app: Flask) -> Run:
    """Give the queued run of a ticket with two lines and a post task."""
    with app.app_context():
        order = make_workorder(
            variables=[make_variable("Name")], main_task="# greet\nprobe {Name}\nsecond", post_task="third"
        )
        return run_of(make_ticket(alice(), order, values={"Name": "a b"}))


def test_a_queued_run_has_no_steps(call: Callable[..., Caller], run: Run) -> None:
    answer = call(alice).get(f"/runs/{run.id}").json
    assert answer == {
        "id": run.id,
        "ticket": run.ticket_id,
        "task": "main",
        "state": "queued",
        "exit_code": None,
        "reason": None,
        "queued_at": answer["queued_at"],
        "started_at": None,
        "finished_at": None,
        "duration": None,
        "output_bytes": None,
        "stored_bytes": None,
        "output_cleared_at": None,
        "steps": [],
    }


def test_a_running_run_has_the_steps_that_were_started(
    app: Flask, call: Callable[..., Caller], run: Run
) -> None:
    with app.app_context():
        run = begin(run)
        note(run, "step_started", 1)
        write(run, b"hello\n")
        note(run, "step_finished", 1, exit_code=0, duration=0.5)
        note(run, "step_started", 2)
        write(run, b"more")
    answer = call(alice).get(f"/runs/{run.id}").json
    assert (answer["state"], answer["exit_code"]) == ("running", None)
    first, second = answer["steps"]
    assert first == {
        "position": 1,
        "task": "main",
        "line": 2,
        "command": "probe 'a b'",
        "exit_code": 0,
        "started_at": "2026-11-24T08:00:00Z",
        "finished_at": "2026-11-24T08:00:00Z",
        "duration": 0.5,
        "offset": 0,
        "end": 6,
    }
    assert (second["command"], second["offset"], second["end"], second["exit_code"]) == (
        "second",
        6,
        None,
        None,
    )


def test_a_run_that_ended_has_its_steps_exit_codes_and_times(
    app: Flask, call: Callable[..., Caller], run: Run
) -> None:
    with app.app_context():
        end(begin(run), result(0, 4))
    answer = call(alice).get(f"/runs/{run.id}").json
    assert (answer["state"], answer["exit_code"], answer["duration"]) == ("failed", 4, 1.5)
    assert answer["finished_at"] == FINISHED.replace(".5+00:00", ".500000Z")
    assert [(step["command"], step["exit_code"]) for step in answer["steps"]] == [
        ("probe 'a b'", 0),
        ("second", 4),
    ]
    assert [step["started_at"] for step in answer["steps"]] == ["2026-11-24T08:00:00Z"] * 2


def test_a_lost_run_has_the_steps_that_were_noted(app: Flask, call: Callable[..., Caller], run: Run) -> None:
    with app.app_context():
        run = begin(run)
        note(run, "step_started", 1)
        services.end_by_result(run.id, fence=run.fence, result=None)
    answer = call(alice).get(f"/runs/{run.id}").json
    assert (answer["state"], answer["exit_code"]) == ("unknown", None)
    assert answer["reason"].startswith("The worker or the runner was lost")
    assert [step["command"] for step in answer["steps"]] == ["probe 'a b'"]


def test_a_refused_run_says_why(app: Flask, call: Callable[..., Caller], run: Run) -> None:
    with app.app_context():
        reason = N_("The host %(name)s is not known.", name="h1")
        end(begin(run), result(outcome=Outcome.REFUSED, reason=reason))
    answer = call(alice).get(f"/runs/{run.id}").json
    assert (answer["state"], answer["reason"], answer["steps"]) == ("failed", "The host h1 is not known.", [])


def test_a_run_is_seen_by_those_who_see_its_ticket(call: Callable[..., Caller], run: Run) -> None:
    for path in (f"/runs/{run.id}", f"/runs/{run.id}/log"):
        assert call().get(path).status_code == 401
        assert call(mallory).get(path).status_code == 404
        assert call(root).get(path).status_code == 200
        assert call(alice).get(path.replace(str(run.id), str(run.id + 1))).status_code == 404
        assert call(alice).get(path.replace(str(run.id), str(2**63))).status_code == 404
