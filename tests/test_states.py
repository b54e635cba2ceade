"""The state machine, said a second time by hand: a change of one table alone fails here."""

from __future__ import annotations

from itertools import product

import pytest

from skstack.states import JOB_ENDINGS, JobStatus, RunState, TicketStatus

# The codes of the original skstack, and our 10 and 11.
CODES = {
    "submitted": 0,
    "l1_approved": 1,
    "l1_rejected": 2,
    "succeeded": 3,
    "failed": 4,
    "l2_approved": 5,
    "l2_rejected": 6,
    "l3_approved": 7,
    "l3_rejected": 8,
    "revoked": 9,
    "running": 10,
    "unknown": 11,
}

TICKET_CHANGES = {
    "submitted": "running failed revoked unknown l1_approved l1_rejected",
    "l1_approved": "running failed revoked unknown l1_rejected l2_approved l2_rejected",
    "l2_approved": "running failed revoked unknown l2_rejected l3_approved l3_rejected",
    "l3_approved": "running failed revoked unknown l3_rejected",
    "running": "submitted succeeded failed unknown",
}

JOB_CHANGES = {
    "CREATED": "WAITING REVOKED FAILURE",
    "WAITING": "SUCCESS FAILURE",
    "SUCCESS": "DONE",
    "FAILURE": "DONE",
}

RUN_CHANGES = {"queued": "running failed stopped unknown", "running": "succeeded failed stopped unknown"}


def test_every_ticket_status_has_the_code_of_the_original() -> None:
    assert {status.value: status.code for status in TicketStatus} == CODES


@pytest.mark.parametrize(("before", "after"), [*product(TicketStatus, repeat=2)])
def test_a_ticket_changes_only_as_described(before: TicketStatus, after: TicketStatus) -> None:
    assert before.may_become(after) is (after in TICKET_CHANGES.get(before, "").split())


@pytest.mark.parametrize(("before", "after"), [*product(RunState, repeat=2)])
def test_a_run_changes_only_as_described(before: RunState, after: RunState) -> None:
    assert before.may_become(after) is (after in RUN_CHANGES.get(before, "").split())


@pytest.mark.parametrize(("before", "after"), [*product(JobStatus, repeat=2)])
def test_a_job_changes_only_as_described(before: JobStatus, after: JobStatus) -> None:
    assert before.may_become(after) is (after in JOB_CHANGES.get(before, "").split())


def test_every_ending_of_a_ticket_ends_its_job() -> None:
    assert {status for status in TicketStatus if status.is_final} == set(JOB_ENDINGS)
    assert not any(job.is_open for job in JOB_ENDINGS.values())


def test_a_status_knows_its_level() -> None:
    assert {status: status.level for status in TicketStatus if status.level} == {
        getattr(TicketStatus, made)(level): level for made in ("approved", "rejected") for level in (1, 2, 3)
    }


def test_what_nothing_can_follow_is_final() -> None:
    final = {"succeeded", "failed", "revoked", "unknown", "l1_rejected", "l2_rejected", "l3_rejected"}
    assert {status for status in TicketStatus if status.is_final} == final
    assert {state for state in RunState if state.is_final} == {"succeeded", "failed", "stopped", "unknown"}


@pytest.mark.parametrize("words", [TicketStatus, JobStatus, RunState])
def test_every_state_has_a_label_of_its_own(words: type[TicketStatus | JobStatus | RunState]) -> None:
    labels = [str(state.label) for state in words]
    assert all(labels)
    assert len(set(labels)) == len(labels)
