"""The whole way through approval in the browser: one submits, level after level decides, and the system runs it at its time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import axe
from tests.browser.going import state_of
from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(180)]

PASSWORD = "correct horse battery"
ZONE = "Asia/Shanghai"
APPROVERS = ("bob", "carol", "dave")
CATALOG = """
environments: [{name: PROD}]
groups: [{name: ops}, {name: l1}, {name: l2}, {name: l3}]
roles: [{name: operator, pages: [submit, execute]}, {name: approver, pages: [approve]}]
approval_flows: [{name: three-level, levels: [l1, l2, l3]}]
users:
  - {username: alice, groups: [ops], roles: [operator]}
  - {username: bob, groups: [l1], roles: [approver]}
  - {username: carol, groups: [l2], roles: [approver]}
  - {username: dave, groups: [l3], roles: [approver]}
variables: [{name: Version, source: input, widget: text, required: true}]
variable_groups: [{name: version, variables: [Version]}]
work_orders:
  - {name: site, environment: PROD, submit_groups: [ops], active: true, approval_flow: three-level, scheduling: true,
     variable_group: version, pre_task: "echo checked {Version}", main_task: "echo deployed {Version}\\nsleep 3"}
"""
# What stands on the pages, by the reader's language: jobs and statuses as they follow one another, and the buttons.
SAID = {
    "en-GB": {
        "jobs": {"CREATED": "Job created", "WAITING": "Job waits to run", "SUCCESS": "Job succeeded"},
        "statuses": ["Submitted", "Level 1 approved", "Level 2 approved", "Level 3 approved"],
        "approve": "Approve",
        "reject": "Reject",
        "rejected": "Level 2 rejected",
    },
    "zh-CN": {
        "jobs": {"CREATED": "后台任务已创建", "WAITING": "后台任务等待执行", "SUCCESS": "后台任务执行成功"},
        "statuses": ["新建提交", "l1审核通过", "l2审核通过", "l3审核通过"],
        "approve": "同意",
        "reject": "拒绝",
        "rejected": "l2审核拒绝",
    },
}
People = dict[str, Page]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("approving"), timezone=ZONE).prepare()
    server.catalog(CATALOG)
    for name in ("alice", *APPROVERS):
        server.command("user", "set-password", name, "--password-stdin", input=PASSWORD)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def signed_in(browser: Browser, server: Server) -> dict[str, Any]:
    """Give everybody's cookies."""
    return {name: state_of(browser, server, name, PASSWORD) for name in ("alice", *APPROVERS)}


@pytest.fixture(params=SAID)
def said(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"language": request.param, **SAID[request.param]}


@pytest.fixture
def people(
    open_page: Callable[..., Page], server: Server, signed_in: dict[str, Any], said: dict[str, Any]
) -> People:
    """Give a tab to each, in one language."""
    language = said["language"]
    return {
        name: open_page(base_url=server.url, storage_state=state, locale=language)
        for name, state in signed_in.items()
    }


def submit(page: Page, server: Server, version: str, *, planned: timedelta | None = None) -> int:
    page.goto(f"/workorders/{server.workorder('site')}/submit")
    page.locator("[name='v-Version']").fill(version)
    if planned:
        at = datetime.now(ZoneInfo(ZONE)) + planned
        page.locator("input[name=scheduled_at]").fill(at.strftime("%Y-%m-%dT%H:%M:%S"))
    page.locator("#submission form button[type=submit]").click()
    page.wait_for_url(re.compile(r"/tickets/\d+$"))
    number = int(page.url.rsplit("/", 1)[1])
    server.wait_for(number, lambda ticket: ticket["status"] == "submitted")
    return number


def decide(page: Page, number: int, verb: str, button: str, comment: str = "") -> None:
    """Decide in the inbox, as the dialog asks."""
    page.goto("/approvals")
    page.locator(f"#{verb}-{number}-open").click()
    dialog = page.locator("dialog[open]")
    expect(dialog).to_contain_text(f"#{number}")
    expect(dialog).to_contain_text("PROD")
    if comment:
        dialog.locator("textarea[name=comment]").fill(comment)
    dialog.get_by_role("button", name=button, exact=True).click()
    expect(page.locator(f"#{verb}-{number}-open")).to_have_count(0)


def test_three_levels_approve_in_order_and_the_system_runs_it_at_its_time(
    people: People, server: Server, said: dict[str, Any]
) -> None:
    alice = people["alice"]
    number = submit(alice, server, "1.0", planned=timedelta(seconds=40))
    row = alice.locator("tbody tr", has_text=f"#{number}")
    for level, name in enumerate(APPROVERS):
        # Those who come later see nothing to decide yet.
        for other in APPROVERS[level + 1 :]:
            people[other].goto("/approvals")
            expect(people[other].locator(f"#approve-{number}-open")).to_have_count(0)
        alice.goto("/tickets?kind=background")
        expect(row).to_contain_text(said["jobs"]["CREATED"])
        expect(row).to_contain_text(said["statuses"][level])
        people[name].goto("/approvals")
        expect(people[name].locator("article", has_text=f"#{number}")).to_contain_text("echo deployed 1.0")
        assert axe.violations(people[name]) == []
        decide(people[name], number, "approve", said["approve"])
    alice.goto(f"/tickets/{number}")
    for status in ("CREATED", "WAITING", "SUCCESS"):
        there = alice.locator(f"#ticket-summary [data-status={status}]")
        expect(there).to_have_text(said["jobs"][status], timeout=60_000)
    expect(alice.locator("#ticket-history")).to_contain_text(said["statuses"][3])
    alice.goto("/tickets?kind=background")
    expect(row).to_contain_text(said["jobs"]["SUCCESS"])
    ticket = server.ticket(number)
    assert [(one["level"], one["by"]) for one in ticket["decisions"]] == [
        (1, "bob"),
        (2, "carol"),
        (3, "dave"),
    ]
    started, planned = (
        datetime.fromisoformat(at) for at in (ticket["runs"][-1]["started_at"], ticket["scheduled_at"])
    )
    assert started >= planned


def test_a_rejection_needs_its_reason_and_ends_the_ticket_also_as_a_change_of_mind(
    people: People, server: Server, said: dict[str, Any]
) -> None:
    alice, bob, carol = people["alice"], people["bob"], people["carol"]
    number = submit(alice, server, "2.0")
    decide(bob, number, "approve", said["approve"])
    decide(carol, number, "approve", said["approve"])
    # Nobody has started it: who decided last may still turn it down, on the ticket's page.
    carol.goto(f"/tickets/{number}")
    carol.locator(f"#reject-{number}-open").click()
    dialog = carol.locator("dialog[open]")
    assert axe.violations(carol) == []
    # Without a reason it is not sent, or sent back.
    dialog.get_by_role("button", name=said["reject"], exact=True).click()
    assert server.ticket(number)["status"] == "l2_approved"
    carol.locator("textarea[name=comment]:visible").fill("not on a Friday")
    carol.get_by_role("button", name=said["reject"], exact=True).and_(carol.locator(":visible")).last.click()
    expect(carol.locator("#ticket-summary [data-status=l2_rejected]")).to_have_text(said["rejected"])
    alice.goto(f"/tickets/{number}")
    expect(alice.locator("#ticket-summary [data-status=l2_rejected]")).to_have_text(said["rejected"])
    expect(alice.locator("main")).to_contain_text("not on a Friday")
    people["dave"].goto("/approvals")
    expect(people["dave"].locator(f"#approve-{number}-open")).to_have_count(0)
