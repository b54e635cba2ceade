"""docs/states.md is drawn from the tables of the state machine: one that was changed alone fails here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import pytest

from skstack.config import ROOT
from skstack.states import (
    JOB_ENDINGS,
    JOB_TRANSITIONS,
    RUN_TRANSITIONS,
    TICKET_TRANSITIONS,
    JobStatus,
    TicketStatus,
)

PAGE = ROOT / "docs" / "states.md"
HEAD = """# What a ticket, its job and a run can be

Drawn from the tables in `skstack/states.py` by `tests/test_states_page.py`, which compares this page with them. Each arrow is
made by one writer, which compares and sets, adds a row to the history and an event to the audit trail: `tickets/status.py` for
tickets and jobs, `runs/status.py` for runs.

## A ticket

A ticket begins as *submitted* when it waits for something, and as *running* when its first task is queued at once. It goes from
*running* back to *submitted* when its pre task ended well and it now waits for its approvers, its time or the end of a freeze.
What waits becomes *unknown* only in an instance that was restored from a backup: it came due after the backup was made, and may
have run where that was.
"""
JOBS = """
## The job of a background ticket

A ticket that the system starts (a planned time, "in the background", "by itself once approved", a schedule) has a job; a
foreground ticket has none. *WAITING* is: handed to the queue, or running. Started by hand instead, a ticket loses its job
(*REVOKED*) and is in the foreground from then on. *DONE*: its stored output was cleared by the retention rule.
"""
RUNS = """
## A run

One execution of the pre task, or of the main and the post task. A run that succeeded, failed, was stopped or is unknown ends its
ticket as *succeeded*, *failed*, *failed* and *unknown*; a pre task that ended well is followed by what the ticket waits for.
From *queued* it becomes *unknown* only when a backup is restored that was made meanwhile.
"""


def states_page() -> str:
    """Return the page as it has to be."""
    tickets = [f"| {state.code} | `{state}` | {state.label} |" for state in sorted(TicketStatus, key=_code)]
    jobs = [f"| `{state}` | {state.label} |" for state in JobStatus]
    endings = [f"| `{state}` | `{job}` |" for state, job in JOB_ENDINGS.items()]
    parts = [
        HEAD,
        _diagram(TICKET_TRANSITIONS, [TicketStatus.SUBMITTED, TicketStatus.RUNNING]),
        "\n".join(["| code | status | label |", "| --- | --- | --- |", *tickets, ""]),
        JOBS,
        _diagram(JOB_TRANSITIONS, [JobStatus.CREATED]),
        "\n".join(["| job | label |", "| --- | --- |", *jobs, ""]),
        "An open job follows its ticket's ending:\n",
        "\n".join(["| ticket | job |", "| --- | --- |", *endings, ""]),
        RUNS,
        _diagram(RUN_TRANSITIONS, [next(iter(RUN_TRANSITIONS))]),
    ]
    return "\n".join(parts)


def _code(state: TicketStatus) -> int:
    return state.code


def _diagram(table: Mapping[Any, Iterable[StrEnum]], beginnings: Iterable[StrEnum]) -> str:
    """Return a mermaid diagram; states in the order of their table, so that the text can be read as well."""
    order = list(table)
    lines = [f"    [*] --> {state}" for state in beginnings]
    for before, following in table.items():
        lines += [f"    {before} --> {after}" for after in sorted(following, key=order.index)]
        if not following:
            lines.append(f"    {before} --> [*]")
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```", ""])


def test_the_page_shows_the_tables_as_they_are() -> None:
    assert PAGE.read_text(encoding="utf-8") == states_page(), (
        f"write what states_page() returns to {PAGE}: "
        '.venv/bin/python -c "from tests.test_states_page import *; PAGE.write_text(states_page())"'
    )


@pytest.mark.parametrize(
    "arrow",
    [
        "[*] --> submitted",
        "running --> submitted",
        "l2_approved --> l2_rejected",
        "CREATED --> WAITING",
        "queued --> stopped",
    ],
)
def test_an_arrow_of_each_kind_is_drawn(arrow: str) -> None:
    assert f"    {arrow}\n" in states_page()


def test_what_cannot_happen_is_not_drawn() -> None:
    for arrow in (
        "submitted --> succeeded",
        "revoked --> running",
        "WAITING --> REVOKED",
        "queued --> succeeded",
    ):
        assert arrow not in states_page()
