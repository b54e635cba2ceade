"""Every arrow of a ticket's state diagram is walked by people in a browser, in both languages, and through the API."""

from __future__ import annotations

import gettext
import json
import os
import re
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from skstack.states import TICKET_TRANSITIONS, TicketStatus
from tests.browser.going import confirm, state_of
from tests.chromium import listen
from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]

TRANSLATIONS = Path(__file__).resolve().parents[2] / "skstack" / "translations"
PASSWORD = "correct horse battery"
APPROVERS = ("ann", "ben", "cid")
CATALOG = """
environments: [{name: DEV}]
groups: [{name: ops}, {name: l1}, {name: l2}, {name: l3}]
roles: [{name: operator, pages: [submit, execute]}, {name: approver, pages: [approve]}]
approval_flows: [{name: one, levels: [l1]}, {name: two, levels: [l1, l2]}, {name: three, levels: [l1, l2, l3]}]
users:
  - {username: alice, groups: [ops], roles: [operator]}
  - {username: ann, groups: [l1], roles: [approver]}
  - {username: ben, groups: [l2], roles: [approver]}
  - {username: cid, groups: [l3], roles: [approver]}
work_orders:
  - {name: planned, environment: DEV, submit_groups: [ops], active: true, scheduling: true, main_task: echo done}
  - {name: level1, environment: DEV, submit_groups: [ops], active: true, scheduling: true, approval_flow: one,
     main_task: echo done}
  - {name: level2, environment: DEV, submit_groups: [ops], active: true, scheduling: true, approval_flow: two,
     main_task: echo done}
  - {name: level3, environment: DEV, submit_groups: [ops], active: true, scheduling: true, approval_flow: three,
     main_task: echo done}
  - {name: checked, environment: DEV, submit_groups: [ops], active: true, approval_flow: one, pre_task: echo checked,
     main_task: echo done}
  - {name: fails, environment: DEV, submit_groups: [ops], active: true, main_task: exit 3}
  - {name: sleeps, environment: DEV, submit_groups: [ops], active: true, main_task: sleep 600}
"""
LANGUAGES = ("en-GB", "zh-CN")
MODES = (*LANGUAGES, "api")
T = TicketStatus
WAITING = (T.SUBMITTED, T.L1_APPROVED, T.L2_APPROVED, T.L3_APPROVED)
ARROWS = [(before, after) for before, following in TICKET_TRANSITIONS.items() for after in sorted(following)]
LATER = timedelta(days=30)
BUTTONS = {
    "en-GB": {"approve": "Approve", "reject": "Reject", "execute": "Run now", "revoke": "Revoke"},
    "zh-CN": {"approve": "同意", "reject": "拒绝", "execute": "立即执行", "revoke": "撤销"},
}


class World:
    """A server, people with tokens and tabs, and what happens to tickets by itself."""

    def __init__(self, server: Server, browser: Browser, elsewhere: Path) -> None:
        self.server, self.elsewhere = server, elsewhere
        self.problems: list[str] = []
        self._browser = browser
        self._tokens = {
            name: server.command("token", "create", name).strip() for name in ("alice", *APPROVERS)
        }
        self._states: dict[str, Any] = {}
        self._tabs: dict[tuple[str, str], Page] = {}

    def tab(self, name: str, language: str) -> Page:
        """Return somebody's tab in a language."""
        if name not in self._states:
            self._states[name] = state_of(self._browser, self.server, name, PASSWORD)
        if (name, language) not in self._tabs:
            context = self._browser.new_context(
                base_url=self.server.url, storage_state=self._states[name], locale=language
            )
            page = self._tabs[name, language] = context.new_page()
            listen(page, self.problems)
        return self._tabs[name, language]

    def call(self, name: str, path: str, body: Any = None) -> dict[str, Any]:
        """Make a POST as somebody."""
        headers = {"Authorization": f"Bearer {self._tokens[name]}"}
        answer = self.server.call("POST", path, body or {}, headers=headers)
        assert answer.status in (200, 201), answer.content
        return dict(answer.json)

    def submit(self, order: str, planned: timedelta | None = None) -> int:
        at = (datetime.now(UTC) + planned).isoformat() if planned else None
        path = f"/api/v1/workorders/{self.server.workorder(order)}/tickets"
        return int(self.call("alice", path, {"values": {}, "scheduled_at": at})["id"])

    def bring(self, to: TicketStatus, levels: int, planned: timedelta | None = LATER) -> int:
        """Return a ticket with so many levels that is where it is to be."""
        number = self.submit(f"level{levels}" if levels else "planned", planned)
        for name in APPROVERS[: to.level]:
            self.call(name, f"/api/v1/tickets/{number}/approve")
        assert self.server.ticket(number)["status"] == to
        return number

    def close(self) -> None:
        for page in self._tabs.values():
            page.context.close()


@pytest.fixture(scope="module")
def world(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    server = Server(tmp_path_factory.mktemp("paths"), timezone="UTC", sweep=0.3, schedule_grace=0).prepare()
    server.catalog(CATALOG)
    for name in ("alice", *APPROVERS):
        server.command("user", "set-password", name, "--password-stdin", input=PASSWORD)
    server.start("web", "worker")
    made = World(server, browser, tmp_path_factory.mktemp("elsewhere"))
    yield made
    made.close()
    server.stop()
    assert made.problems == [], "a page complained"


@pytest.fixture(scope="module")
def missed(world: World) -> dict[TicketStatus, int]:
    """Give a ticket of each status that waits, whose time came while no worker was there."""
    world.server.terminate("worker")
    tickets = {before: world.bring(before, before.level, timedelta(seconds=4)) for before in WAITING}
    _let_pass(world.server, tickets)
    world.server.start("worker")
    for number in tickets.values():
        world.server.wait_for(number, lambda ticket: ticket["status"] == "failed")
    return tickets


@pytest.fixture(scope="module")
def restored(world: World) -> Iterator[tuple[Server, dict[TicketStatus, int]]]:
    """Give a server that was restored from a backup, and tickets that came due after the backup was made.

    As many levels as were approved, so that each would have run.
    """
    tickets = {before: world.bring(before, before.level, timedelta(seconds=6)) for before in WAITING}
    file = world.elsewhere / "backup.tar.gz"
    world.server.command("backup", str(file))
    _let_pass(world.server, tickets)
    server = Server(world.elsewhere, timezone="UTC")
    server.token = world.server.token
    server.admin_password = world.server.admin_password
    server.command("restore", str(file))
    server.start("web")
    yield server, tickets
    server.stop()


def _let_pass(server: Server, tickets: dict[TicketStatus, int]) -> None:
    last = max(datetime.fromisoformat(server.ticket(number)["scheduled_at"]) for number in tickets.values())
    time.sleep(max(0.0, (last - datetime.now(UTC)).total_seconds()) + 0.2)


def label(status: TicketStatus, language: str) -> str:
    if language == "zh-CN":
        return gettext.translation("messages", TRANSLATIONS, ["zh_CN"]).gettext(str(status.label))
    return str(status.label)


def is_seen(page: Page, number: int, status: TicketStatus, language: str) -> None:
    """The page says where the ticket is, above and in its history."""
    if not page.url.endswith(f"/tickets/{number}"):
        page.goto(f"/tickets/{number}")
    # Who has just submitted or decided sees it change; the history is on the ticket's own page.
    expect(page.locator(f"#ticket-summary [data-status={status}]")).to_have_text(
        label(status, language), timeout=20_000
    )
    if not page.locator("#ticket-history").count():
        page.goto(f"/tickets/{number}")
    expect(page.locator("#ticket-history")).to_contain_text(label(status, language))


def was_walked(server: Server, number: int, before: TicketStatus, after: TicketStatus) -> None:
    """What the test says it walked is what happened, and the last of it."""
    with sqlite3.connect(server.instance / "skstack.db", timeout=10) as connection:
        changes = connection.execute(
            "select before, after from ticket_changes where ticket_id = ? and before is not after order by id",
            [number],
        ).fetchall()
    assert (str(before), str(after)) in changes
    assert TicketStatus(server.ticket(number)["status"]).code == server.ticket(number)["status_code"]


def act(world: World, name: str, number: int, action: str, mode: str) -> None:
    """Do something to a ticket that asks first: in a tab, or by a call."""
    comment = "not today" if action == "reject" else ""
    if mode == "api":
        world.call(name, f"/api/v1/tickets/{number}/{action}", {"comment": comment} if comment else {})
        return
    page = world.tab(name, mode)
    page.goto(f"/tickets/{number}")
    page.locator(f"#{action}-{number}-open").click()
    if comment:
        page.locator("dialog[open] textarea[name=comment]").fill(comment)
    confirm(page, BUTTONS[mode][action])


def begin(world: World, order: str, mode: str) -> int:
    """Submit a work order in a tab, or by a call."""
    if mode == "api":
        return world.submit(order)
    page = world.tab("alice", mode)
    page.goto(f"/workorders/{world.server.workorder(order)}/submit")
    page.locator("#submission form button[type=submit]").click()
    page.wait_for_url(re.compile(r"/tickets/\d+$"))
    return int(page.url.rsplit("/", 1)[1])


def decide(world: World, before: TicketStatus, after: TicketStatus, mode: str) -> int:
    """Approve or reject, as the one whose level the new status tells of."""
    number = world.bring(before, 3, planned=None)
    who = APPROVERS[after.level - 1]
    act(world, who, number, "approve" if after is TicketStatus.approved(after.level) else "reject", mode)
    return number


def run(world: World, before: TicketStatus, after: TicketStatus, mode: str) -> int:
    """Run what waits for its time, or what was approved, by hand."""
    number = world.bring(before, before.level)
    act(world, "alice", number, "execute", mode)
    return number


def revoke(world: World, before: TicketStatus, after: TicketStatus, mode: str) -> int:
    number = world.bring(before, 3 if before.level else 0)
    act(world, "alice", number, "revoke", mode)
    return number


def end(world: World, before: TicketStatus, after: TicketStatus, mode: str) -> int:
    """Submit what begins at once, and see how it ends."""
    orders = {T.SUCCEEDED: "planned", T.FAILED: "fails", T.SUBMITTED: "checked", T.UNKNOWN: "sleeps"}
    number = begin(world, orders[after], mode)
    if after is T.UNKNOWN:
        world.server.wait_for(number, lambda ticket: ticket["runs"][0]["state"] == "running")
        lose_runner(world.server, world.server.ticket(number)["runs"][0]["id"])
    return number


def lose_runner(server: Server, run_id: int) -> None:
    """Kill what runs a run, so that nobody knows how it ended."""
    file = server.instance / "runs" / str(run_id) / "runner.json"
    deadline = time.monotonic() + 20
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(json.loads(file.read_text())["pid"], signal.SIGKILL)


def way(before: TicketStatus, after: TicketStatus) -> Callable[..., int] | None:
    """Return what takes a ticket along an arrow; None for those that nobody does."""
    if before is T.RUNNING:
        return end
    if after is T.RUNNING:
        return run
    if after is T.REVOKED:
        return revoke
    return decide if after.level else None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("before", "after"), [(before, after) for before, after in ARROWS if way(before, after)]
)
def test_what_people_do(world: World, before: TicketStatus, after: TicketStatus, mode: str) -> None:
    go = way(before, after)
    assert go is not None
    number = go(world, before, after, mode)
    if mode == "api":
        final = after if after is not T.RUNNING else T.SUCCEEDED
        world.server.wait_for(number, lambda ticket: ticket["status"] == final)
    elif after is not T.RUNNING:
        who = APPROVERS[after.level - 1] if after.level else "alice"
        is_seen(world.tab(who, mode), number, after, mode)
    else:
        is_seen(world.tab("alice", mode), number, T.SUCCEEDED, mode)
        expect(world.tab("alice", mode).locator("#ticket-history")).to_contain_text(label(after, mode))
    was_walked(world.server, number, before, after)


@pytest.mark.parametrize("mode", LANGUAGES)
@pytest.mark.parametrize("before", WAITING)
def test_a_time_that_was_missed(
    world: World, missed: dict[TicketStatus, int], before: TicketStatus, mode: str
) -> None:
    number = missed[before]
    is_seen(world.tab("alice", mode), number, T.FAILED, mode)
    expect(world.tab("alice", mode).locator("#ticket-history")).to_contain_text(
        "Missed" if mode == "en-GB" else "错过"
    )
    was_walked(world.server, number, before, T.FAILED)


@pytest.mark.parametrize("mode", LANGUAGES)
def test_what_came_due_after_the_backup_from_which_this_is_restored(
    browser: Browser, restored: tuple[Server, dict[TicketStatus, int]], mode: str
) -> None:
    server, tickets = restored
    state = state_of(browser, server, "alice", PASSWORD)
    context = browser.new_context(base_url=server.url, storage_state=state, locale=mode)
    page = context.new_page()
    for before, number in tickets.items():
        is_seen(page, number, T.UNKNOWN, mode)
        was_walked(server, number, before, T.UNKNOWN)
    context.close()


def test_no_arrow_is_left_out() -> None:
    by_itself = {(before, after) for before in WAITING for after in (T.FAILED, T.UNKNOWN)}
    assert {arrow for arrow in ARROWS if way(*arrow) is None} == by_itself
