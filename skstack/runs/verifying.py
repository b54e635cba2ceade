"""Holding tickets, runs and stored output against the events that tell of them, for `skstack.audit.verifying`."""

from __future__ import annotations

import json
import socket
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from skstack.audit.models import AuditEvent
from skstack.audit.services import Action
from skstack.audit.verifying import Broken, subject
from skstack.messages import N_, Message
from skstack.runs import evidence
from skstack.runs.models import Run, Step, directory_of
from skstack.states import JobStatus, RunState, TicketStatus
from skstack.tickets import evidence as of_tickets
from skstack.tickets import plan as plans
from skstack.tickets.models import BACKGROUND, FOREGROUND, Decision, Ticket, TicketChange, TicketLevel

BATCH = 200

Row = Mapping[str, Any]


@subject("tickets")
def tickets(connection: Connection, after: int) -> Iterator[tuple[int, Mapping[str, int]]]:
    """Look at the next tickets: what was submitted, the plan, the history, the decisions."""
    ids = _next_ids(connection, "ticket", Ticket, after)
    rows = {row["id"]: row for row in _rows(connection, Ticket, Ticket.id, ids)}
    events = _events(connection, "ticket", ids)
    changes = _by(_rows(connection, TicketChange, TicketChange.ticket_id, ids), "ticket_id")
    levels = _by(_rows(connection, TicketLevel, TicketLevel.ticket_id, ids), "ticket_id")
    decisions = _by(_rows(connection, Decision, Decision.ticket_id, ids), "ticket_id")
    for number in ids:
        _check_ticket(
            number, rows.get(number), events[number], changes[number], levels[number], decisions[number]
        )
        yield number, {"tickets": 1}


@subject("runs")
def runs(connection: Connection, after: int) -> Iterator[tuple[int, Mapping[str, int]]]:
    """Look at the next runs: how each ended, its steps, and the output that is stored on this host."""
    ids = _next_ids(connection, "run", Run, after)
    rows = {row["id"]: row for row in _rows(connection, Run, Run.id, ids)}
    events = _events(connection, "run", ids)
    steps = _by(_rows(connection, Step, Step.run_id, ids), "run_id")
    for number in ids:
        yield number, _check_run(connection, number, rows.get(number), events[number], steps[number])


def _check_ticket(
    number: int,
    row: Row | None,
    events: list[Row],
    changes: list[Row],
    levels: list[Row],
    decisions: list[Row],
) -> None:
    told = [event for event in events if event["action"] in (Action.SUBMITTED, Action.STATUS_CHANGED)]
    if row is None:
        raise Broken(N_("Ticket %(id)s is missing. Its events are there.", id=number))
    if not told or told[0]["action"] != Action.SUBMITTED:
        raise Broken(N_("Ticket %(id)s has no event that tells of its submission.", id=number))
    if len(changes) != len(told):
        raise _differs(number, N_("its history"))
    if row["plan_digest"] != plans.digest(row["plan"]):
        raise _differs(number, N_("its plan"))
    if told[0]["digest"] is None:
        return  # From before events carried a digest.
    if told[0]["digest"] != of_tickets.of_submission(row, levels, changes[0]):
        raise _differs(number, N_("what was submitted"))
    made = iter(decisions)
    for event, change in zip(told[1:], changes[1:], strict=True):
        decision = None
        if change["before"] != change["after"] and _level(change["after"]):
            decision = next(made, None)
        if event["digest"] != of_tickets.of_change(change, decision):
            raise _differs(number, N_("its history"))
    if next(made, None) is not None:
        raise _differs(number, N_("its decisions"))
    if any(row[name] != value for name, value in _state_after(changes).items()):
        raise _differs(number, N_("its status"))


def _state_after(changes: list[Row]) -> dict[str, Any]:
    """Return what the history says that a ticket's changing columns are now."""
    jobs = [change for change in changes if change["job_after"]]
    by_hand = any(
        change["job_after"] == JobStatus.REVOKED and change["after"] == TicketStatus.RUNNING
        for change in jobs
    )
    last = changes[-1]["after"]
    ended = [change["at"] for change in changes if change["after"] == last != change["before"]]
    return {
        "status": last,
        "job_status": jobs[-1]["job_after"] if jobs else None,
        "kind": BACKGROUND if changes[0]["job_after"] and not by_hand else FOREGROUND,
        "finished_at": ended[-1] if last in _FINAL else None,
    }


def _check_run(
    connection: Connection, number: int, row: Row | None, events: list[Row], steps: list[Row]
) -> Mapping[str, int]:
    if row is None:
        raise Broken(N_("Run %(id)s is missing. Its events are there.", id=number))
    told = [
        (event, json.loads(event["changes"])) for event in events if event["action"] == Action.RUN_CHANGED
    ]
    if row["started_at"] is not None and not any(said["after"] == RunState.RUNNING for _, said in told):
        raise Broken(N_("Run %(id)s has no event that tells of its start.", id=number))
    ended = [(event, said) for event, said in told if said["after"] in _ENDED]
    if not ended:
        if row["state"] in _ENDED:
            raise Broken(N_("Run %(id)s has no event that tells of its end.", id=number))
        return {"runs": 1}
    event, said = ended[-1]
    if event["digest"] is None:
        return {"runs": 1}
    if event["digest"] != evidence.of_run(row, steps):
        raise Broken(
            N_("Run %(id)s or its steps were changed after event %(event)s.", id=number, event=event["id"])
        )
    cleared = any(event["action"] == Action.OUTPUT_CLEARED for event in events)
    if row["output_cleared_at"] is not None or cleared:
        if not cleared:
            raise Broken(N_("The output of run %(id)s was cleared without an event.", id=number))
        return {"runs": 1, "cleared": 1}
    if "output_sha256" not in said:
        return {"runs": 1}
    directory = directory_of(number)
    if said["host"] != socket.gethostname() and not directory.exists():
        return {"runs": 1, "elsewhere": 1}
    found = evidence.of_output(directory)
    if any(said[name] != found[name] for name in found if name != "host") and not _was_cleared_meanwhile(
        connection, number
    ):
        raise Broken(_output_differs(number, event["id"], said, found))
    return {"runs": 1, "outputs": 1, "bytes": found["output_bytes"]}


def _output_differs(number: int, event: int, said: Row, found: Row) -> Message:
    if found["output_bytes"] == 0 and said["output_bytes"]:
        return N_("The output of run %(id)s is missing: event %(event)s tells of it.", id=number, event=event)
    if found["output_sha256"] != said["output_sha256"]:
        return N_("The output of run %(id)s is not what event %(event)s tells of.", id=number, event=event)
    return N_(
        "The record of the steps of run %(id)s is not what event %(event)s tells of.", id=number, event=event
    )


def _was_cleared_meanwhile(connection: Connection, number: int) -> bool:
    """Say whether the retention rule took the output since this look at the database began."""
    with connection.engine.connect() as now:
        return now.scalar(sa.select(Run.output_cleared_at).where(Run.id == number)) is not None


def _differs(number: int, what: Message) -> Broken:
    return Broken(N_("Ticket %(id)s is not what its events tell of: %(what)s.", id=number, what=what))


def _level(status: str) -> int:
    return TicketStatus(status).level if status in _STATUSES else 0


def _next_ids(connection: Connection, kind: str, model: Any, after: int) -> list[int]:
    """Return the next ids that there is a row or an event of."""
    of_rows = sa.select(model.id.label("id")).where(model.id > after).order_by(model.id).limit(BATCH)
    of_events = (
        sa.select(AuditEvent.object_id.label("id"))
        .where(AuditEvent.object_type == kind, AuditEvent.object_id > after)
        .group_by(AuditEvent.object_id)
        .order_by(AuditEvent.object_id)
        .limit(BATCH)
    )
    found = {*connection.scalars(of_rows), *connection.scalars(of_events)}
    return sorted(found)[:BATCH]


def _rows(connection: Connection, model: Any, key: Any, ids: list[int]) -> list[Row]:
    """Return rows by attribute, in the order of their keys."""
    mapper = sa.inspect(model)
    columns = [column.label(name) for name, column in mapper.columns.items()]
    found = connection.execute(sa.select(*columns).where(key.in_(ids)).order_by(*mapper.primary_key))
    return [dict(row) for row in found.mappings()]


def _events(connection: Connection, kind: str, ids: list[int]) -> Mapping[int, list[Row]]:
    columns = (
        AuditEvent.id,
        AuditEvent.object_id,
        AuditEvent.action,
        AuditEvent.digest,
        sa.type_coerce(AuditEvent.changes, sa.Text).label("changes"),  # As text: only those of runs are read.
    )
    statement = (
        sa.select(*columns)
        .where(AuditEvent.object_type == kind, AuditEvent.object_id.in_(ids))
        .order_by(AuditEvent.id)
    )
    return _by([dict(row) for row in connection.execute(statement).mappings()], "object_id")


def _by(rows: list[Row], name: str) -> Mapping[int, list[Row]]:
    found: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        found[row[name]].append(row)
    return found


_STATUSES = set(TicketStatus)
_FINAL = {status for status in TicketStatus if status.is_final}
_ENDED = {state for state in RunState if state.is_final}
