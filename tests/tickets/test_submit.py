"""`tickets.services.submit`: from what was filled in to a ticket whose first run is queued."""

from __future__ import annotations

import copy
import datetime as dt
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from skstack.accounts.models import User
from skstack.audit.models import AuditEvent
from skstack.catalog import services as catalog
from skstack.catalog.models import WorkOrder
from skstack.db import db, transaction
from skstack.errors import Conflict, Invalid, NotFound
from skstack.extensions import queue
from skstack.runner.protocol import Outcome
from skstack.runs.models import Run
from skstack.states import TicketStatus
from skstack.tickets.models import Ticket, TicketChange
from skstack.tickets.plan import Plan, commitment, digest
from skstack.tickets.services import submit
from tests.factories import alice, mallory, root
from tests.fake_runner import FakeRunner, begin, captured, end, run_of
from tests.orders import (
    list_variable,
    make_config_center,
    make_ticket,
    make_variable,
    make_workorder,
    script_variable,
)

pytestmark = [pytest.mark.both_databases, pytest.mark.usefixtures("context")]


def count(model: type[Any]) -> int:
    return db.session.scalar(sa.select(sa.func.count()).select_from(model)) or 0


def refused(actor: User, workorder: WorkOrder, values: dict[str, Any], **more: Any) -> dict[str, list[str]]:
    """Return what a submission is refused for, by field; nothing was made."""
    with pytest.raises(Invalid) as caught:
        submit(actor=actor, workorder=workorder, values=values, **more)
    assert count(Ticket) == count(Run) == 0
    return {field: [str(message) for message in found] for field, found in caught.value.errors.items()}


def test_a_submission_makes_ticket_run_history_and_event_and_rings(monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[tuple[Any, ...]] = []
    monkeypatch.setattr(queue, "ring", lambda name, *ids: rung.append((name, *ids)))
    order = make_workorder("site", category="DeployGit", variables=[make_variable("Name")])
    ticket = submit(actor=alice(), workorder=order, values={"Name": "a b"}, note=" why\r\nnot ")
    db.session.expire_all()
    assert (ticket.workorder_name, ticket.environment_name, ticket.category_name) == (
        "site",
        "DEV",
        "DeployGit",
    )
    assert (ticket.submitter_name, ticket.kind, ticket.job_status) == ("alice", "foreground", None)
    assert (ticket.status, ticket.finished_at) == ("running", None)
    assert (ticket.values, ticket.secrets, ticket.note) == ({"Name": "a b"}, None, "why\nnot")
    [run] = ticket.runs
    assert (run.task, run.state, run.fence) == ("main", "queued", 0)
    [change] = ticket.history
    assert (change.before, change.after, change.actor_id) == (None, "running", alice().id)
    event = db.session.scalars(sa.select(AuditEvent).where(AuditEvent.action == "ticket.submitted")).one()
    assert (event.actor, event.object_id, event.object_name) == ("alice", ticket.id, "site")
    assert event.changes["values"] == {"Name": "a b"}
    assert event.changes["plan_digest"] == ticket.plan_digest
    assert rung == [("skstack.runs.tasks.execute_run", run.id)]


def test_the_pre_task_runs_first_where_there_is_one() -> None:
    ticket = make_ticket(alice(), make_workorder(pre_task="check", main_task="go", post_task="tidy"))
    assert [run.task for run in ticket.runs] == ["pre"]
    assert [(step.task, step.shown) for step in Plan.from_json(ticket.plan).steps] == [
        ("pre", "check"),
        ("main", "go"),
        ("post", "tidy"),
    ]


def test_nothing_is_rung_for_what_was_not_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[Any] = []
    monkeypatch.setattr(queue, "ring", lambda *args: rung.append(args))
    monkeypatch.setattr("skstack.runs.status.begin", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make_ticket(alice())
    assert count(Ticket) == count(TicketChange) == 0
    assert rung == []


def test_only_members_of_its_groups_and_superusers_may_submit() -> None:
    order = make_workorder(groups=("ops",))
    with pytest.raises(NotFound):
        submit(actor=mallory(), workorder=order, values={})
    assert submit(actor=root(), workorder=order, values={}).submitter_name == "root"


@pytest.mark.parametrize("columns", [{"active": False}, {"template": True}], ids=["inactive", "template"])
def test_what_is_not_offered_is_submitted_by_nobody(columns: dict[str, Any]) -> None:
    order = make_workorder(**columns)
    for actor in (alice(), root()):
        with pytest.raises(NotFound):
            submit(actor=actor, workorder=order, values={})
    assert count(Ticket) == 0


# Variables by name, what is given for them, and what the message at the field says.
WRONG: dict[str, tuple[dict[str, Any], Any, str]] = {
    "nothing": ({"required": True}, None, "required"),
    "empty text": ({"required": True}, "", "required"),
    "an empty list": (
        {"required": True, "source": "list", "widget": "checkboxes", "choices": ["a"]},
        [],
        "required",
    ),
    "a list of empty texts": (
        {"required": True, "source": "list", "widget": "checkboxes", "choices": ["a"]},
        [""],
        "required",
    ),
    "a list for one value": ({}, ["a"], "must be text"),
    "a truth value": ({}, True, "must be text"),
    "an object": ({}, {"a": "b"}, "must be text"),
    "a number in a list": (
        {"source": "list", "widget": "multiselect", "choices": ["1"]},
        [1],
        "must be text",
    ),
    "NUL": ({}, "a\0b", "character"),
    "an escape": ({}, "\x1b[31m", "character"),
    "a lone surrogate": ({}, "\udc80", "character"),
    "a new line in one line": ({}, "a\nb", ""),
    "32 KiB and one": ({}, "x" * (32 * 1024 + 1), ""),
    "32 KiB in bytes": ({}, "中" * (11 * 1024), ""),
    "too short": ({"min_length": 3}, "ab", "at least 3"),
    "too long": ({"max_length": 3}, "abcd", "at most 3"),
    "not of the pattern": (
        {"pattern": "[a-z]+", "pattern_message": "small letters"},
        "abc1",
        "small letters",
    ),
    "more than the pattern": ({"pattern": "a+"}, "aab", "pattern"),
    "a pattern's line end": ({"pattern": "a+$"}, "aa\n", ""),
    "not strict": ({"strict": True}, "a b", "letters"),
    "strict, then punctuation": ({"strict": True}, "abc-", "letters"),
    "not a choice": ({"source": "list", "widget": "select", "choices": ["a", "b"]}, "c", "“c”"),
    "one choice of several": (
        {"source": "list", "widget": "checkboxes", "choices": ["a", "b"]},
        ["a", "c"],
        "“c”",
    ),
    "an option": ({}, "-rf", "-"),
}


def test_a_wrong_value_is_refused_at_its_field(subtests: pytest.Subtests) -> None:
    for number, (name, (columns, given, told)) in enumerate(WRONG.items()):
        with subtests.test(name):
            order = make_workorder(
                variables=[make_variable(f"V{number}", **columns)], main_task=f"probe {{V{number}}}"
            )
            found = refused(alice(), order, {} if given is None else {f"V{number}": given})
            assert list(found) == [f"V{number}"]
            assert told in found[f"V{number}"][0], found


def test_everything_that_is_wrong_is_said_at_once() -> None:
    order = make_workorder(variables=[make_variable("A", required=True), list_variable("B", "x")])
    assert set(refused(alice(), order, {"B": "y", "C": "z", "": "q"})) == {"A", "B", "C", ""}


def test_values_together_have_a_limit() -> None:
    names = [f"Text{number}" for number in range(9)]
    order = make_workorder(variables=[make_variable(name) for name in names])
    given = dict.fromkeys(names, "x" * 32 * 1024)
    assert list(refused(alice(), order, given)) == [""]
    given["Text8"] = ""
    assert submit(actor=alice(), workorder=order, values=given).values["Text7"] == "x" * 32 * 1024


def test_a_note_is_checked_like_a_value() -> None:
    order = make_workorder()
    assert list(refused(alice(), order, {}, note="x" * 4001)) == ["note"]
    assert list(refused(alice(), order, {}, note="\0")) == ["note"]
    assert submit(actor=alice(), workorder=order, values={}, note="x" * 4000).note == "x" * 4000


def test_values_are_kept_in_the_form_that_the_field_has() -> None:
    order = make_workorder(
        variables=[
            make_variable("Text", widget="textarea"),
            make_variable("Number"),
            list_variable("Hosts", "h1", "h2", "h3", widget="multiselect", delimiter=":"),
            list_variable("Each", "a", "b", widget="checkboxes", one_argument_each=True),
            make_variable("Empty"),
        ],
        main_task="probe {Text} {Number} {Hosts} {Each}",
    )
    given = {"Text": "a\r\nb\rc", "Number": 5, "Hosts": ["h2", "h1", "h2"], "Each": "b"}
    ticket = submit(actor=alice(), workorder=order, values=given)
    assert ticket.values == {
        "Text": "a\nb\nc",
        "Number": "5",
        "Hosts": ["h2", "h1"],
        "Each": ["b"],
        "Empty": "",
    }
    environment = Plan.from_json(ticket.plan).environment
    assert environment["WO_Hosts"] == "h2:h1"
    assert (environment["WO_Each"], environment["WO_Each_0"], environment["WO_Empty"]) == ("b", "b", "")


def test_only_what_a_script_offers_now_can_be_chosen(runner: FakeRunner) -> None:
    runner.scripts["versions {Branch}"] = lambda request: f"{request.environment['WO_Branch']}-1".encode()
    order = make_workorder(
        variables=[make_variable("Branch"), script_variable("Version", "versions {Branch}")],
        main_task="deploy {Version}",
    )
    found = refused(alice(), order, {"Branch": "main", "Version": "other-1"})
    assert "other-1" in found["Version"][0]
    ticket = submit(actor=alice(), workorder=order, values={"Branch": "main", "Version": "main-1"})
    assert ticket.values["Version"] == "main-1"


def test_a_script_that_fails_refuses_what_was_chosen_and_says_why(runner: FakeRunner) -> None:
    order = make_workorder(variables=[script_variable("Version", "versions"), make_variable("Name")])
    for left in (
        captured(exit_code=1, stderr=b"gone"),
        captured(exit_code=None, outcome=Outcome.TIMED_OUT),
        captured(b"[1,"),
    ):
        runner.scripts["versions"] = left
        assert list(refused(alice(), order, {"Version": "v1"})) == ["Version"]
    assert submit(actor=alice(), workorder=order, values={"Name": "x"}).values["Version"] == ""
    assert len(runner.asked) == 3, "a script that nothing was chosen from is not asked again"


def test_scripts_are_asked_without_holding_a_connection(runner: FakeRunner) -> None:
    held: list[int] = []

    def answer(request: Any) -> bytes:
        held.append(db.engine.pool.checkedout())  # type: ignore[attr-defined]
        return b"v1"

    runner.scripts.update({"one": answer, "two": answer})
    order = make_workorder(variables=[script_variable("One", "one"), script_variable("Two", "two")])
    submit(actor=alice(), workorder=order, values={"One": "v1", "Two": "v1"})
    assert held == [0, 0]


def test_a_secret_is_encrypted_and_stands_nowhere_else() -> None:
    order = make_workorder(
        variables=[make_variable("Password", secret=True), make_variable("Name")], main_task="probe {Name}"
    )
    ticket = submit(
        actor=alice(), workorder=order, values={"Password": "hunter2!", "Name": "x"}, idempotency_key="k"
    )
    assert ticket.values == {"Password": None, "Name": "x"}
    assert ticket.secrets is not None
    assert ticket.secrets["values"] == {"Password": "hunter2!"}
    plan = Plan.from_json(ticket.plan)
    assert "WO_Password" not in plan.environment
    assert plan.secrets_commitment == commitment(ticket.secrets)
    for table in db.metadata.sorted_tables:
        columns = [
            sa.type_coerce(column, sa.LargeBinary) if column.name == "secrets" else column
            for column in table.c
        ]
        for row in db.session.execute(sa.select(*columns)):
            assert "hunter2!" not in repr(row), table.name
    stored = db.session.scalar(sa.select(sa.type_coerce(Ticket.secrets, sa.LargeBinary)))
    assert stored
    assert b"hunter2!" not in bytes(stored)


def test_equal_secrets_have_unequal_commitments() -> None:
    order = make_workorder(variables=[make_variable("Password", secret=True)])
    plans = [Plan.from_json(make_ticket(alice(), order, values={"Password": "x"}).plan) for _ in range(2)]
    assert plans[0].secrets_commitment != plans[1].secrets_commitment


def test_the_plan_holds_lines_values_and_target() -> None:
    center = make_config_center("ansible01")
    order = make_workorder(
        "site",
        environment="PROD",
        config_center=center,
        builtin_variables={"Project": "app01", "Fast": True, "Tries": 3},
        variables=[make_variable("Name", allow_leading_dash=True)],
        main_task="# a comment\n\nprobe {Name} '{Project}' \\\n  \"{sk__env}\"\nlast {Fast} {Tries}",
        time_limit=90,
    )
    before = dt.datetime.now(dt.UTC).replace(microsecond=0)
    ticket = submit(actor=alice(), workorder=order, values={"Name": "-a; touch C #"})
    plan = Plan.from_json(ticket.plan)
    first, last = plan.steps
    assert (first.task, first.line, last.line) == ("main", 3, 5)
    assert "touch" not in first.script
    assert "${WO_Name}" in first.script
    assert "'-a; touch C #'" in first.shown
    assert "PROD" not in first.shown
    assert plan.environment["WO_Name"] == "-a; touch C #"
    assert (plan.environment["WO_Fast"], plan.environment["WO_Tries"]) == ("true", "3")
    assert (plan.environment["WO_sk__name"], plan.environment["WO_sk__env"]) == ("site", "prod")
    name, _, moment = ticket.task_name_created.partition(".")
    assert name == "site"
    assert dt.datetime.strptime(moment, "%Y%m%d.%H%M%S").astimezone() >= before
    assert plan.target == {
        "kind": "ssh",
        "id": center.id,
        "name": "ansible01",
        "host": "192.0.2.7",
        "port": 22,
        "username": "deploy",
        "host_key": center.host_key,
    }
    assert plan.target_name == "ansible01 (deploy@192.0.2.7:22)"
    assert plan.time_limit == 90


def test_the_plan_is_frozen(context: Flask) -> None:
    order = make_workorder(variables=[make_variable("Name")], main_task="probe {Name}")
    ticket = submit(actor=alice(), workorder=order, values={"Name": "x"})
    catalog.change(order, {"main_task": "other {Name}"}, actor=None, version=order.version)
    db.session.expire_all()
    assert Plan.from_json(ticket.plan).steps[0].source == "probe {Name}"
    assert digest(ticket.plan) == ticket.plan_digest


def test_any_change_of_the_plan_changes_its_digest(subtests: pytest.Subtests) -> None:
    ticket = make_ticket(
        alice(),
        make_workorder(variables=[make_variable("Name")], main_task="probe {Name}\nb"),
        values={"Name": "é"},
    )
    db.session.expire_all()
    assert digest(json.loads(json.dumps(ticket.plan))) == ticket.plan_digest
    changes: dict[str, Callable[[dict[str, Any]], Any]] = {
        "script": lambda plan: plan["steps"][0].update(script="probe x"),
        "shown": lambda plan: plan["steps"][0].update(shown="probe x"),
        "order": lambda plan: plan["steps"].reverse(),
        "value": lambda plan: plan["environment"].update(WO_Name="e"),
        "target": lambda plan: plan["target"].update(kind="ssh"),
        "time limit": lambda plan: plan.update(time_limit=1),
        "secrets": lambda plan: plan.update(secrets_commitment="0"),
    }
    for name, change in changes.items():
        with subtests.test(name):
            plan = copy.deepcopy(ticket.plan)
            change(plan)
            assert digest(plan) != ticket.plan_digest


def test_the_same_key_gives_the_ticket_that_was_made_first() -> None:
    order = make_workorder(variables=[make_variable("Name"), make_variable("Password", secret=True)])
    given = {"values": {"Name": "x", "Password": "s"}, "note": "n", "idempotency_key": "k"}
    first = submit(actor=alice(), workorder=order, **given)
    assert submit(actor=alice(), workorder=order, **given).id == first.id
    assert count(Ticket) == count(Run) == 1
    for other in ({"Name": "y", "Password": "s"}, {"Name": "x", "Password": "t"}, {"Name": "x"}):
        with pytest.raises(Conflict) as caught:
            submit(actor=alice(), workorder=order, **{**given, "values": other})
        assert caught.value.details == {"ticket": first.id}
    with pytest.raises(Conflict):
        submit(actor=alice(), workorder=order, **{**given, "note": "m"})
    with pytest.raises(Conflict):
        submit(actor=alice(), workorder=make_workorder(), idempotency_key="k", values={})
    assert submit(actor=root(), workorder=order, **given).id != first.id


def test_the_same_key_still_gives_the_ticket_when_it_has_ended_and_the_order_was_edited() -> None:
    order = make_workorder(allow_several=False)
    first = make_ticket(alice(), order, idempotency_key="k")
    end(begin(run_of(first)))
    catalog.change(order, {"main_task": "other"}, actor=None, version=order.version)
    assert make_ticket(alice(), order, idempotency_key="k").id == first.id


def at_once(app: Flask, count: int, order_id: int, user_id: int, **submission: Any) -> list[int | str]:
    """Submit in threads that begin together; return the tickets' ids, or the name of what was raised."""
    barrier = threading.Barrier(count)

    def do(_number: int) -> int | str:
        with app.app_context():
            actor, order = db.session.get_one(User, user_id), db.session.get_one(WorkOrder, order_id)
            barrier.wait(20)
            try:
                return submit(actor=actor, workorder=order, values={}, **submission).id
            except Conflict as err:
                return type(err).__name__

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(do, range(count)))


@pytest.mark.parametrize("allow_several", [True, False])
def test_twenty_identical_submissions_at_once_make_one_ticket(context: Flask, allow_several: bool) -> None:
    order, actor = make_workorder(allow_several=allow_several), alice()
    made = at_once(context, 20, order.id, actor.id, idempotency_key="double click")
    assert len(set(made)) == 1
    assert isinstance(made[0], int)
    assert count(Ticket) == count(Run) == 1


def test_twenty_submissions_of_what_may_run_once_make_one_ticket(context: Flask) -> None:
    order, actor = make_workorder(allow_several=False), alice()
    made = at_once(context, 20, order.id, actor.id)
    assert sorted(map(str, made))[1:] == ["Conflict"] * 19
    assert count(Ticket) == 1


def test_one_at_a_time_means_per_person_and_until_it_has_ended() -> None:
    order = make_workorder(allow_several=False)
    first = make_ticket(alice(), order)
    with pytest.raises(Conflict) as caught:
        make_ticket(alice(), order)
    assert caught.value.details == {"ticket": first.id}
    make_ticket(root(), order)
    end(begin(run_of(first)))
    assert make_ticket(alice(), order).id > first.id


def meanwhile(monkeypatch: pytest.MonkeyPatch, do: Callable[[], Any]) -> None:
    """Let something happen between the check of the values and the write."""
    from skstack.tickets import plan

    freeze = plan.freeze

    def and_then(*args: Any, **more: Any) -> Any:
        frozen = freeze(*args, **more)
        thread = threading.Thread(target=do)
        thread.start()
        thread.join(10)
        return frozen

    monkeypatch.setattr(plan, "freeze", and_then)


def test_a_work_order_that_is_edited_meanwhile_is_not_submitted(
    context: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, actor = make_workorder(), alice()
    db.session.commit()

    def edit() -> None:
        with context.app_context():
            mine = db.session.get_one(WorkOrder, order.id)
            catalog.change(mine, {"main_task": "other"}, actor=None, version=mine.version)

    meanwhile(monkeypatch, edit)
    with pytest.raises(Conflict, match="changed"):
        submit(actor=actor, workorder=order, values={})
    assert count(Ticket) == 0


def test_a_work_order_that_is_deactivated_meanwhile_is_not_submitted(
    context: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, actor = make_workorder(), alice()
    db.session.commit()

    def deactivate() -> None:
        with context.app_context(), transaction():
            db.session.execute(sa.update(WorkOrder).values(active=False))

    meanwhile(monkeypatch, deactivate)
    with pytest.raises(Conflict):
        submit(actor=actor, workorder=order, values={})


def test_a_work_order_that_cannot_be_compiled_says_so() -> None:
    order = make_workorder()
    with transaction():
        order.main_task = "probe {Missing}"
    with pytest.raises(Conflict, match="Tell an administrator"):
        submit(actor=alice(), workorder=order, values={})
    assert count(Ticket) == 0


def test_a_ticket_may_not_begin_as_anything_else() -> None:
    from skstack.tickets import status

    with pytest.raises(ValueError, match="cannot begin"):
        status.begin(Ticket(), status=TicketStatus.SUCCEEDED, actor=alice())
