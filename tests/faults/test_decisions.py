"""Faults 11 and 12: decisions that meet, and decisions that must not be made. One holds; the others are told what is the case."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from skstack import create_app
from skstack.accounts import tokens
from skstack.accounts.models import User
from skstack.config import Settings
from skstack.db import utcnow
from skstack.extensions import db
from tests.databases import _close
from tests.server import Answer, Server

pytestmark = [pytest.mark.slow]

CROWD = 20
PEOPLE = "\n".join(
    f"  - {{username: lead{number:02}, groups: [leads], roles: [all]}}" for number in range(CROWD)
)
CATALOG = f"""
environments: [{{name: DEV, order: 1}}]
groups: [{{name: ops}}, {{name: leads}}, {{name: directors}}]
roles: [{{name: all, pages: [submit, approve, execute]}}]
users:
  - {{username: alice, groups: [ops], roles: [all]}}
  - {{username: both, groups: [ops, leads], roles: [all]}}
  - {{username: carol, groups: [directors], roles: [all]}}
  - {{username: mallory, roles: [all]}}
{PEOPLE}
approval_flows: [{{name: one, levels: [leads]}}, {{name: two, levels: [leads, directors]}}]
work_orders:
  - {{name: one, environment: DEV, submit_groups: [ops], active: true, approval_flow: one, auto_run_choice: true,
     main_task: "echo done"}}
  - {{name: two, environment: DEV, submit_groups: [ops], active: true, approval_flow: two, main_task: "echo done"}}
  - {{name: slow, environment: DEV, submit_groups: [ops], active: true, main_task: "sleep 0.15"}}
"""


class Office:
    """A server with its people: each calls with a token of their own."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.tokens = {"admin": server.token, **_tokens(server)}

    def call(self, who: str, method: str, path: str, body: Any = None) -> Answer:
        return self.server.call(method, path, body, headers={"Authorization": f"Bearer {self.tokens[who]}"})

    def submit(self, name: str, who: str = "alice", **body: Any) -> int:
        number = self.server.workorder(name)
        answer = self.call(who, "POST", f"/api/v1/workorders/{number}/tickets", {"values": {}, **body})
        assert answer.status == 201, answer.content
        return int(answer.json["id"])

    def act(self, who: str, ticket: int, verb: str) -> Answer:
        body = {"comment": "because"} if verb in ("approve", "reject") else {}
        return self.call(who, "POST", f"/api/v1/tickets/{ticket}/{verb}", body)

    def ticket(self, number: int) -> dict[str, Any]:
        return dict(self.call("admin", "GET", f"/api/v1/tickets/{number}").json)

    def at_once(self, ticket: int, *acts: tuple[str, str]) -> list[Answer]:
        """Let everybody act in the same moment, and return the answers in their order."""
        gate, answers = threading.Barrier(len(acts)), [None] * len(acts)

        def act(index: int, who: str, verb: str) -> None:
            gate.wait(20)
            answers[index] = self.act(who, ticket, verb)  # type: ignore[call-overload]

        threads = [threading.Thread(target=act, args=(index, *one)) for index, one in enumerate(acts)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers  # type: ignore[return-value]


def _tokens(server: Server) -> dict[str, str]:
    """Make a token for everybody within this process: a command for each would take a minute."""
    url = server.environment.get("SKSTACK_DATABASE_URL", "")
    app = create_app(Settings(instance=server.instance, database_url=url))
    with app.app_context():
        everybody = db.session.scalars(sa.select(User).where(~User.superuser)).all()
        made = {
            user.username: tokens.create(user, actor=None, name="test", days=1, now=utcnow())
            for user in everybody
        }
    _close(app)
    return made


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def office(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("office")
    settings: dict[str, Any] = {}
    if request.param == "postgresql":
        base, template = request.getfixturevalue("postgresql_template")
        name = f"office_{worker_id}"
        with psycopg.connect(f"{base}/postgres", autocommit=True) as connection:
            connection.execute(f"drop database if exists {name} with (force)")
            connection.execute(f"create database {name} template {template}")
        settings["database_url"] = f"{base}/{name}"
    server = Server(folder, **settings).prepare()
    server.catalog(CATALOG)
    server.start()
    yield Office(server)
    server.stop()


def statuses(answers: list[Answer]) -> list[int]:
    return sorted(answer.status for answer in answers)


def test_of_twenty_approvals_at_once_one_counts(office: Office) -> None:
    ticket = office.submit("one")
    answers = office.at_once(ticket, *((f"lead{number:02}", "approve") for number in range(CROWD)))
    assert statuses(answers) == [200, *[409] * (CROWD - 1)]
    after = office.ticket(ticket)
    assert (after["status"], len(after["decisions"])) == ("l1_approved", 1)
    by = after["decisions"][0]["by"]
    told = [answer.json["detail"] for answer in answers if answer.status == 409]
    assert all(f"approved at level 1 by {by}" in one for one in told), told


def test_of_twenty_last_approvals_of_an_automatic_ticket_one_starts_it(office: Office) -> None:
    ticket = office.submit("one", auto_run=True)
    answers = office.at_once(ticket, *((f"lead{number:02}", "approve") for number in range(CROWD)))
    assert statuses(answers) == [200, *[409] * (CROWD - 1)]
    after = office.server.wait_for(ticket)
    assert (after["status"], after["job_status"], len(after["runs"])) == ("succeeded", "SUCCESS", 1)


@pytest.mark.parametrize(
    ("first", "second", "left"),
    [
        (("lead00", "approve"), ("lead01", "reject"), {"l1_approved", "l1_rejected"}),
        (("lead00", "approve"), ("alice", "revoke"), {"revoked"}),
        (("lead00", "reject"), ("alice", "revoke"), {"l1_rejected", "revoked"}),
    ],
)
def test_what_contradicts_each_other_does_not_both_happen(
    office: Office, first: tuple[str, str], second: tuple[str, str], left: set[str]
) -> None:
    for _ in range(5):
        ticket = office.submit("one")
        answers = office.at_once(ticket, first, second)
        after = office.ticket(ticket)
        done = [
            verb for (_, verb), answer in zip((first, second), answers, strict=True) if answer.status == 200
        ]
        assert all(answer.status in (200, 409) for answer in answers)
        # Whoever is second may follow where the state allows it: a rejection or a revocation after an approval.
        assert after["status"] in (left if done != ["approve"] else {"l1_approved"})
        assert len(after["decisions"]) == sum(verb != "revoke" for verb in done)
        assert after["runs"] == []


def test_a_start_and_a_change_of_mind_do_not_both_happen(office: Office) -> None:
    for _ in range(6):
        ticket = office.submit("one")
        assert office.act("lead00", ticket, "approve").status == 200
        execute, reject = office.at_once(ticket, ("alice", "execute"), ("lead00", "reject"))
        assert sorted((execute.status, reject.status)) == [200, 409]
        after = office.server.wait_for(ticket)
        assert after["status"] == ("succeeded" if execute.status == 200 else "l1_rejected")
        assert len(after["runs"]) == (1 if execute.status == 200 else 0)


def test_twenty_starts_at_once_start_once(office: Office) -> None:
    ticket = office.submit("one")
    assert office.act("lead00", ticket, "approve").status == 200
    answers = office.at_once(ticket, *[("alice", "execute")] * CROWD)
    assert statuses(answers) == [200, *[409] * (CROWD - 1)]
    assert len(office.server.wait_for(ticket)["runs"]) == 1


def test_a_stop_that_meets_the_end_leaves_one_ending(office: Office) -> None:
    for _ in range(5):
        ticket = office.submit("slow")
        office.server.wait_for(ticket, lambda one: one["runs"][0]["state"] == "running")
        answers = office.at_once(ticket, *[("alice", "stop")] * 3)
        assert all(answer.status in (200, 409) for answer in answers)
        after = office.server.wait_for(ticket)
        assert (after["status"], after["runs"][0]["state"]) in {
            ("succeeded", "succeeded"),
            ("failed", "stopped"),
        }
        assert office.act("alice", ticket, "stop").status == 409


def test_no_level_is_skipped(office: Office) -> None:
    ticket = office.submit("two")
    assert office.act("carol", ticket, "approve").status == 403
    assert office.act("carol", ticket, "reject").status == 403
    assert office.act("alice", ticket, "execute").status == 409
    assert office.act("lead00", ticket, "approve").status == 200
    assert office.act("lead01", ticket, "approve").status == 403
    assert office.act("alice", ticket, "execute").status == 409
    assert office.ticket(ticket)["status"] == "l1_approved"


def test_nobody_decides_their_own_and_no_outsider_sees_it(office: Office) -> None:
    ticket = office.submit("one", who="both")
    for verb in ("approve", "reject"):
        assert office.act("both", ticket, verb).status == 403
        assert office.act("admin", ticket, verb).status == 403
        assert office.act("mallory", ticket, verb).status == 404
    assert office.ticket(ticket)["decisions"] == []


@pytest.mark.parametrize("ending", ["reject", "revoke", "finish"])
def test_nothing_is_decided_after_the_end(office: Office, ending: str) -> None:
    ticket = office.submit("one", auto_run=ending == "finish")
    act: dict[str, Callable[[], Answer]] = {
        "reject": lambda: office.act("lead00", ticket, "reject"),
        "revoke": lambda: office.act("alice", ticket, "revoke"),
        "finish": lambda: office.act("lead00", ticket, "approve"),
    }
    assert act[ending]().status == 200
    before = office.server.wait_for(ticket)
    for who, verb in (("lead01", "approve"), ("lead01", "reject"), ("alice", "execute"), ("alice", "revoke")):
        assert office.act(who, ticket, verb).status == 409
    after = office.ticket(ticket)
    assert {key: after[key] for key in ("status", "decisions", "runs")} == {
        key: before[key] for key in ("status", "decisions", "runs")
    }
