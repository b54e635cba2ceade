"""What was submitted is what runs: anything else is refused before a runner is asked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from skstack import hosting
from skstack.catalog.models import ConfigCenter
from skstack.db import transaction
from skstack.extensions import db
from skstack.runner.client import RunnerUnavailable
from skstack.runner.protocol import Plan
from skstack.runs.execution import Watcher
from skstack.runs.models import Run
from skstack.tickets.models import Ticket
from skstack.tickets.plan import digest
from tests.factories import alice
from tests.fake_runner import make_worker, run_of
from tests.orders import make_config_center, make_ticket, make_variable, make_workorder

pytestmark = [pytest.mark.both_databases, pytest.mark.usefixtures("context")]


class Launcher:
    """Notes what it is asked to launch, and then has no runner."""

    def __init__(self) -> None:
        self.asked: list[Plan] = []

    def launch(self, plan: Plan) -> None:
        self.asked.append(plan)
        raise RunnerUnavailable("none in this test")


@pytest.fixture
def launcher() -> Iterator[Launcher]:
    launcher = Launcher()
    hosting.set_runner_host(launcher)  # type: ignore[arg-type]
    yield launcher
    hosting.set_runner_host(None)


def submitted(**workorder: Any) -> Ticket:
    variables = [make_variable("Name"), make_variable("Word", secret=True)]
    order = make_workorder(variables=variables, main_task="probe {Name}", **workorder)
    return make_ticket(alice(), order, values={"Name": "app01", "Word": "hidden"})


def execute(app: Flask, ticket: Ticket) -> Run:
    run_id = run_of(ticket).id
    Watcher(app, make_worker().id).execute(run_id)
    db.session.expire_all()
    return run_of(ticket)


def why(run: Run) -> str:
    assert (run.state, run.ticket.status) == ("failed", "failed")
    return str(run.reason_message)


def test_the_runner_gets_lines_values_and_secrets_of_the_submission(
    context: Flask, launcher: Launcher
) -> None:
    run = execute(context, submitted())

    [plan] = launcher.asked
    assert [step.script for step in plan.steps] == ['probe "${WO_Name}"']
    assert (plan.environment["WO_Name"], plan.environment["WO_Word"]) == ("app01", "hidden")
    assert plan.secrets == ("WO_Word",)
    assert "No runner could be started" in why(run)


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "line": lambda plan: plan["steps"][0].update(script="evil"),
    "value": lambda plan: plan["environment"].update(WO_Name="other"),
    "target": lambda plan: plan["target"].update(kind="ssh", id=1),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_plan_that_was_changed_is_refused(
    context: Flask, launcher: Launcher, change: Callable[[dict[str, Any]], Any]
) -> None:
    ticket = submitted()
    plan = copy.deepcopy(ticket.plan)
    change(plan)
    with transaction():
        ticket.plan = plan

    assert "not the one that was submitted" in why(execute(context, ticket))
    assert launcher.asked == []


def test_secrets_that_were_changed_are_refused(context: Flask, launcher: Launcher) -> None:
    ticket = submitted()
    with transaction():
        ticket.secrets = {**(ticket.secrets or {}), "values": {"Word": "other"}}

    assert "not the one that was submitted" in why(execute(context, ticket))
    assert launcher.asked == []


def test_a_value_that_no_command_may_get_is_refused_even_if_the_digest_fits(
    context: Flask, launcher: Launcher
) -> None:
    ticket = submitted()
    plan = copy.deepcopy(ticket.plan)
    plan["environment"]["WO_Name"] = "\x1b[31m"
    with transaction():
        ticket.plan, ticket.plan_digest = plan, digest(plan)

    why(execute(context, ticket))
    assert launcher.asked == []


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("host", "192.0.2.99", "Host"),
        ("port", 2222, "Port"),
        ("username", "root", "User"),
        ("host_key", "ssh-ed25519 AAAAother", "Host key"),
    ],
)
def test_a_target_that_was_changed_meanwhile_is_refused(
    context: Flask, launcher: Launcher, column: str, value: object, told: str
) -> None:
    center = make_config_center()
    ticket = submitted(config_center=center)
    with transaction():
        setattr(db.session.get_one(ConfigCenter, center.id), column, value)

    assert f"({told})" in why(execute(context, ticket))
    assert launcher.asked == []


def test_new_credentials_are_no_new_target(context: Flask, launcher: Launcher) -> None:
    center = make_config_center()
    ticket = submitted(config_center=center)
    with transaction():
        center.login, center.password = "password", "new"

    execute(context, ticket)
    assert launcher.asked[0].target.password == "new"  # type: ignore[union-attr]
