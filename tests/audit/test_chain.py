"""The trail tells whatever was changed in it, taken from it, or in what it is about."""

from __future__ import annotations

import datetime as dt
import shutil

import pytest
import sqlalchemy as sa
from flask import Flask

from skstack import migrating
from skstack.approvals.services import approve
from skstack.audit import chain
from skstack.audit.models import AuditEvent, AuditHead
from skstack.audit.services import Action, record
from skstack.audit.verifying import Anchor
from skstack.db import transaction, utcnow
from skstack.extensions import db
from skstack.runs import retention
from skstack.runs.models import Run
from skstack.tickets.models import Ticket
from tests.audit.conftest import fault, holds, tamper, undone
from tests.factories import alice, bob
from tests.fake_runner import begin, end, result, run_of, write
from tests.orders import make_flow, make_ticket, make_workorder

pytestmark = pytest.mark.both_databases


def note(count: int = 1) -> None:
    for number in range(count):
        with transaction():
            record(
                Action.CHANGED,
                actor=None,
                object_type="thing",
                object_id=number + 1,
                object_name="näme",
                after=1.5,
            )


def test_events_are_numbered_from_1_and_follow_each_other(context: Flask) -> None:
    note()
    with transaction():
        for _ in range(3):
            record(Action.CREATED, actor=None, object_type="thing")

    events = db.session.scalars(sa.select(AuditEvent).order_by(AuditEvent.id)).all()
    assert [event.id for event in events] == [1, 2, 3, 4]
    assert [event.previous for event in events] == [chain.START, *(event.hash for event in events[:-1])]
    head = db.session.scalars(sa.select(AuditHead)).one()
    assert (head.sequence, head.hash) == (4, events[-1].hash)
    assert holds().verified == 4


def test_what_was_rolled_back_leaves_no_gap(context: Flask) -> None:
    note()

    def fail() -> None:
        with transaction():
            record(Action.CREATED, actor=None, object_type="thing")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    note()
    assert holds().verified == 2


def test_an_event_outside_a_transaction_is_refused(context: Flask) -> None:
    with pytest.raises(RuntimeError, match="outside"):
        record(Action.CREATED, actor=None, object_type="thing")


CHANGES = {
    "at": "'2001-02-03 04:05:06.000007'",
    "actor_id": "7",
    "actor": "'mallory'",
    "address": "'192.0.2.1'",
    "action": "'deleted'",
    "object_type": "'thong'",
    "object_id": "99",
    "object_name": "'name'",
    "changes": "'{\"after\": 1.5}'",  # A space that JSON does not mind.
    "digest": ":other",
    "previous": ":other",
    "hash": ":other",
    "id": "3000",
}


def test_a_change_of_any_column_is_found(context: Flask) -> None:
    assert CHANGES.keys() == {*AuditEvent.__table__.columns.keys()}
    note(5)
    other = bytes(31) + b"\x01"
    for column, value in CHANGES.items():
        given = {"other": other} if ":other" in value else {}
        with undone("audit_events"):
            statement = f"UPDATE audit_events SET {column} = {value} WHERE id = 3"
            assert tamper(statement, **given) == 1
            assert "Event 3 " in fault(), column
    assert fault() == ""


def test_an_event_that_was_taken_out_is_missed(context: Flask) -> None:
    note(5)
    tamper("DELETE FROM audit_events WHERE id = 3")
    assert fault() == "Event 3 is missing."


def test_one_taken_out_with_the_rest_moved_up_is_found(context: Flask) -> None:
    note(5)
    tamper("DELETE FROM audit_events WHERE id = 3")
    for number in (4, 5):
        tamper("UPDATE audit_events SET id = id - 1 WHERE id = :number", number=number)
    tamper("UPDATE audit_head SET sequence = 4")
    assert "Event 3 was changed" in fault()


def test_two_that_changed_places_are_found(context: Flask) -> None:
    note(5)
    for before, after in ((2, 100), (3, 2), (100, 3)):
        tamper("UPDATE audit_events SET id = :after WHERE id = :before", before=before, after=after)
    assert "Event 2 was changed" in fault()


def test_a_chain_of_another_key_is_no_chain(context: Flask) -> None:
    note(2)
    context.extensions["skstack.audit"] = (bytes(32),)
    assert "Event 1 was changed" in fault()


def test_an_older_key_still_verifies_what_it_sealed(context: Flask) -> None:
    note(2)
    context.extensions["skstack.audit"] = (b"n" * 32, *context.extensions["skstack.audit"])
    note(2)
    assert holds().verified == 4


def test_an_end_that_was_cut_off_is_found(context: Flask) -> None:
    note(5)
    tamper("DELETE FROM audit_events WHERE id > 3")
    assert "The end was cut off" in fault()


def test_everything_cut_off_is_found(context: Flask) -> None:
    note(5)
    tamper("DELETE FROM audit_events")
    assert "The end was cut off" in fault()


def test_an_end_that_was_set_back_is_found(context: Flask) -> None:
    note(5)
    tamper("UPDATE audit_head SET sequence = 3, hash = (SELECT hash FROM audit_events WHERE id = 3)")
    assert "set back to event 3" in fault()


def test_an_end_of_another_hash_is_found(context: Flask) -> None:
    note(2)
    tamper("UPDATE audit_head SET hash = :other", other=bytes(32))
    assert "does not carry the hash of event 2" in fault()


def test_an_end_that_is_gone_is_found_and_nothing_is_added_behind_it(context: Flask) -> None:
    note(2)
    tamper("DELETE FROM audit_head")
    assert "end of the trail is missing" in fault()
    with pytest.raises(Exception, match="The end of the audit trail is missing"):
        note()


def test_a_cut_that_covers_its_tracks_is_found_by_what_was_noted_elsewhere(context: Flask) -> None:
    note(5)
    noted = db.session.scalars(sa.select(AuditHead)).one()
    anchor = Anchor(noted.sequence, noted.hash, "the file")
    assert fault(anchor) == ""
    tamper("DELETE FROM audit_events WHERE id > 3")
    tamper("UPDATE audit_head SET sequence = 3, hash = (SELECT hash FROM audit_events WHERE id = 3)")
    assert fault() == ""
    assert "the file tells of event 5, which is missing" in fault(anchor)
    note(2)
    assert "Event 5 is not the one that the file tells of" in fault(anchor)


def test_it_can_begin_at_a_later_event(context: Flask) -> None:
    note(5)
    tamper("DELETE FROM audit_events WHERE id = 2")
    assert fault(first=4) == ""
    tamper("UPDATE audit_events SET actor = 'x' WHERE id = 5")
    assert "Event 5 was changed" in fault(first=4)
    assert "Event 2 is missing" in fault(first=3)


def done_ticket() -> tuple[Ticket, Run]:
    """Return a ticket that was approved and has run, and its run with two steps of output."""
    bob()
    flow = make_flow("leads")
    workorder = make_workorder(
        approval_flow=flow, auto_run_choice=True, main_task="echo a\necho b", category="kept"
    )
    ticket = make_ticket(alice(), workorder, auto_run=True, note="as agreed")
    approve(ticket, actor=bob(), comment="go on")
    run = begin(run_of(ticket))
    write(run, b"a\nb\n")
    end(run, result(0, 0))
    return ticket, run


CHANGES_OF_ROWS = {
    "UPDATE tickets SET note = 'as agreeD'": "what was submitted",
    "UPDATE tickets SET submitter_name = 'mallory'": "what was submitted",
    'UPDATE tickets SET submitted_values = \'{"a": "b"}\'': "what was submitted",
    "UPDATE tickets SET auto_run = false": "what was submitted",
    "UPDATE ticket_levels SET group_name = 'others'": "what was submitted",
    "UPDATE tickets SET plan = '{\"steps\": []}'": "its plan",
    "UPDATE tickets SET status = 'failed'": "its status",
    "UPDATE tickets SET kind = 'foreground'": "its status",
    "UPDATE tickets SET job_status = 'FAILURE'": "its status",
    "UPDATE tickets SET finished_at = created_at": "its status",
    "UPDATE ticket_changes SET actor_id = 1 WHERE actor_id IS NULL": "its history",
    "UPDATE ticket_changes SET at = '2026-01-01 00:00:00.000000' WHERE after = 'succeeded'": "its history",
    "DELETE FROM ticket_changes WHERE after = 'succeeded'": "its history",
    "UPDATE decisions SET comment = 'go on!'": "its history",
    "UPDATE decisions SET by_name = 'alice'": "its history",
    "DELETE FROM decisions": "its history",
    "DELETE FROM tickets": "Ticket 1 is missing",
    "UPDATE tickets SET id = 2": "Ticket 1 is missing",
    "UPDATE runs SET exit_code = 1": "Run 1 or its steps",
    "UPDATE runs SET started_at = NULL": "Run 1 or its steps",
    "UPDATE runs SET duration = 1.5000001": "Run 1 or its steps",
    "DELETE FROM runs": "Run 1 is missing",
    "UPDATE runs SET id = 2": "Run 1 is missing",
    "UPDATE runs SET output_cleared_at = finished_at": "cleared without an event",
    "UPDATE steps SET exit_code = 1 WHERE position = 2": "Run 1 or its steps",
    "UPDATE steps SET output_offset = 2 WHERE position = 2": "Run 1 or its steps",
    "DELETE FROM steps WHERE position = 2": "Run 1 or its steps",
}


def test_a_change_of_what_the_events_are_about_is_found(context: Flask) -> None:
    done_ticket()
    assert holds().counts == {"tickets": 1, "runs": 1, "outputs": 1, "bytes": 4}
    for change, found in CHANGES_OF_ROWS.items():
        with undone(change.split()[2 if change.startswith("DELETE") else 1]):
            assert tamper(change) > 0
            assert found in fault(), change
    assert fault() == ""


def test_a_changed_output_is_found(context: Flask) -> None:
    _, run = done_ticket()
    output, record = run.directory / "output.log", run.directory / "result.json"
    for changed in (b"a\nc\n", b"a\nb\n\n", b"a\nb"):
        output.write_bytes(changed)
        assert "The output of run 1 is not what event " in fault()
    output.unlink()
    assert "The output of run 1 is missing" in fault()
    output.write_bytes(b"a\nb\n")
    assert fault() == ""
    record.write_text(record.read_text() + " ")
    assert "The record of the steps of run 1" in fault()


def test_an_output_that_the_retention_rule_cleared_is_no_fault(context: Flask) -> None:
    _, run = done_ticket()
    with transaction():
        run.ticket.workorder.category.retention_days = 1
    assert retention.clear_old(utcnow() + dt.timedelta(days=2)) == 1
    assert holds().counts == {"tickets": 1, "runs": 1, "cleared": 1}


def test_an_output_on_another_host_is_counted_but_not_missed(
    context: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, run = done_ticket()
    shutil.rmtree(run.directory)
    assert "is missing" in fault()
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    assert holds().counts == {"tickets": 1, "runs": 1, "elsewhere": 1}


def test_events_from_before_the_chain_are_chained_by_the_migration(context: Flask) -> None:
    import flask_migrate

    migrating.bind(context)
    flask_migrate.downgrade(revision="0006")
    old = (
        "INSERT INTO audit_events (id, at, actor, address, action, object_type, object_name, changes)"
        " VALUES (:id, '2026-01-02 03:04:05.000000', 'älice', '', 'created', 'thing', 'x', :changes)"
    )
    if db.engine.dialect.name == "postgresql":
        old = old.replace(":changes", "CAST(:changes AS jsonb)")
    try:
        for number in (3, 7, 8):  # A transaction that was rolled back left a gap.
            tamper(old, id=number, changes='{"after":1}')
    finally:
        flask_migrate.upgrade()
    note()
    assert holds().verified == 4
    tamper("UPDATE audit_events SET actor = 'alice' WHERE id = 2")
    assert "Event 2 was changed" in fault()
