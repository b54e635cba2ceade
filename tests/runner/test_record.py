"""The room that is set aside for a result holds it, whatever the steps are."""

from __future__ import annotations

import json

import pytest

from skstack.messages import N_
from skstack.runner.protocol import Outcome, PlanStep, Result, StepResult, Task
from skstack.runner.record import rfc3339_now, room_for_result


@pytest.mark.parametrize("line", ["true", "发布 " * 5_000, '\U0001f680\x01"' * 10_000])
@pytest.mark.parametrize("count", [0, 1, 400])
def test_the_result_of_a_plan_fits_into_the_room_set_aside_for_it(line: str, count: int) -> None:
    steps = [
        PlanStep(position=position, task=Task.MAIN, line=line, script=line)
        for position in range(1, count + 1)
    ]
    result = Result(
        outcome=Outcome.LOG_FULL,
        exit_code=None,
        reason=N_("The output could not be stored any more: the disk is full."),
        steps=tuple(
            StepResult(
                position=step.position,
                task=step.task,
                line=step.line,
                exit_code=255,
                started_at=rfc3339_now(),
                finished_at=rfc3339_now(),
                duration=123456.7891,
                offset=1 << 62,
                end=1 << 62,
            )
            for step in steps
        ),
        started_at=rfc3339_now(),
        finished_at=rfc3339_now(),
        duration=123456.7891,
        output_bytes=1 << 62,
        stored_bytes=1 << 62,
        capped=False,
    )
    assert len(json.dumps(result.to_json())) <= room_for_result(steps)
