"""Tickets that wait: for their time, their approvers, a thaw; and what is in the way of a submission."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import axe
from tests.browser.going import confirm, state_of
from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]

PASSWORD = "correct horse battery"
ZONE = "Asia/Shanghai"
CATALOG = r"""
environments: [{name: DEV, order: 1}, {name: PROD, order: 2}]
groups: [{name: ops}, {name: leads}, {name: directors}]
roles: [{name: operator, pages: [submit, execute]}, {name: approver, pages: [approve]}]
approval_flows: [{name: two-level, levels: [leads, directors]}]
freeze_windows: [{name: year-end, environment: PROD, starts_at: 2026-01-01T00:00:00Z, ends_at: 2099-12-31T00:00:00Z}]
users:
  - {username: alice, groups: [ops], roles: [operator]}
  - {username: bob, groups: [leads, directors], roles: [approver]}
variables: [{name: Token, source: input, widget: text, secret: true}, {name: Reason, source: input, widget: text}]
variable_groups: [{name: both, variables: [Token, Reason]}]
work_orders:
  - {name: planned, environment: DEV, submit_groups: [ops], active: true, scheduling: true, main_task: "echo at last\nsleep 3"}
  - {name: approved, environment: DEV, submit_groups: [ops], active: true, approval_flow: two-level, auto_run_choice: true,
     background_choice: true, scheduling: true, pre_task: echo checked, main_task: echo by itself}
  - {name: locked, environment: DEV, submit_groups: [ops], active: true, scheduling: true, task_lock: true, variable_group: both,
     main_task: "echo {Reason}"}
  - {name: frozen, environment: PROD, submit_groups: [ops], active: true, scheduling: true, main_task: echo in an emergency}
"""
JOBS = {
    "en-GB": {"CREATED": "Job created", "WAITING": "Job waits to run", "SUCCESS": "Job succeeded"},
    "zh-CN": {"CREATED": "后台任务已创建", "WAITING": "后台任务等待执行", "SUCCESS": "后台任务执行成功"},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("waiting"), timezone=ZONE).prepare()
    server.catalog(CATALOG)
    for name in ("alice", "bob"):
        server.command("user", "set-password", name, "--password-stdin", input=PASSWORD)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def alice(browser: Browser, server: Server) -> Any:
    """Give the cookies of Alice, who is signed in."""
    return state_of(browser, server, "alice", PASSWORD)


@pytest.fixture(scope="module")
def bob(server: Server) -> dict[str, str]:
    """Give the headers of Bob's calls, who approves."""
    return {"Authorization": f"Bearer {server.command('token', 'create', 'bob').strip()}"}


@pytest.fixture(params=JOBS)
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def page(open_page: Callable[..., Page], server: Server, alice: Any) -> Page:
    """Give Alice's tab."""
    return open_page(base_url=server.url, storage_state=alice)


def ahead(**span: float) -> str:
    """Return what the field for the planned time takes, by the clock of the reader."""
    return (datetime.now(ZoneInfo(ZONE)) + timedelta(**span)).strftime("%Y-%m-%dT%H:%M:%S")


def open_form(page: Page, server: Server, name: str) -> None:
    page.goto(f"/workorders/{server.workorder(name)}/submit")


def send(page: Page) -> None:
    page.locator("#submission form button[type=submit]").click()


def plan(page: Page, server: Server, name: str, **span: float) -> int:
    """Submit a work order for later, and return the ticket."""
    open_form(page, server, name)
    page.locator("input[name=scheduled_at]").fill(ahead(**span))
    send(page)
    page.wait_for_url(re.compile(r"/tickets/\d+$"))
    return int(page.url.rsplit("/", 1)[1])


def job(page: Page, status: str) -> Any:
    return page.locator(f"#ticket-summary [data-status={status}]")


def test_a_planned_ticket_goes_through_its_states_while_one_watches(
    open_page: Callable[..., Page], server: Server, alice: Any, language: str
) -> None:
    page = open_page(base_url=server.url, storage_state=alice, locale=language)
    number = plan(page, server, "planned", seconds=4)
    expect(job(page, "CREATED")).to_have_text(JOBS[language]["CREATED"])
    expect(page.locator("#log")).to_have_count(0)
    # Four seconds to its time, and two from one look to the next.
    expect(job(page, "WAITING")).to_have_text(JOBS[language]["WAITING"], timeout=15_000)
    expect(page.locator(".l > span")).to_have_text(["at last"])
    expect(job(page, "SUCCESS")).to_have_text(JOBS[language]["SUCCESS"], timeout=15_000)
    expect(page.locator("#ticket-summary [data-status=succeeded]")).to_be_visible()
    page.goto("/tickets?kind=background")
    row = page.locator("tbody tr").first
    expect(row).to_contain_text(f"#{number}")
    expect(row).to_contain_text(JOBS[language]["SUCCESS"])
    expect(page.locator("html")).to_have_attribute("lang", re.compile(f"^{language[:2]}"))


def test_a_planned_ticket_is_run_early_by_hand(
    open_page: Callable[..., Page], server: Server, alice: Any, language: str
) -> None:
    page = open_page(base_url=server.url, storage_state=alice, locale=language)
    number = plan(page, server, "planned", hours=2)
    page.locator(f"#execute-{number}-open").click()
    dialog = page.locator("dialog[open]")
    expect(dialog).to_contain_text(f"#{number}")
    expect(dialog).to_contain_text("DEV")
    assert axe.violations(page) == []
    dialog.locator("button:not([type])").click()
    expect(job(page, "REVOKED")).to_be_visible()
    expect(page.locator(".l > span")).to_have_text(["at last"])
    expect(page.locator("#ticket-summary [data-status=succeeded]")).to_be_visible()
    assert server.ticket(number)["kind"] == "foreground"


def test_one_is_revoked_from_the_list_after_a_question(page: Page, server: Server) -> None:
    number = plan(page, server, "planned", hours=2)
    page.goto("/tickets/waiting")
    row = page.locator("tbody tr", has_text=f"#{number}")
    expect(row).to_contain_text("its time")
    row.get_by_role("link", name="Revoke").click()
    dialog = page.locator("dialog[open]")
    expect(dialog).to_contain_text(f"Revoke planned #{number}?")
    expect(dialog).to_contain_text("DEV")
    assert page.evaluate("document.activeElement.textContent.trim()") == "Cancel"
    assert axe.violations(page) == []
    dialog.get_by_role("link", name="Cancel").click()
    expect(dialog).to_have_count(0)
    assert page.url.endswith("/tickets/waiting")
    row.get_by_role("link", name="Revoke").click()
    confirm(page, "Revoke")
    expect(page.locator("#ticket-summary [data-status=revoked]")).to_be_visible()
    expect(job(page, "REVOKED")).to_be_visible()
    page.goto("/tickets/waiting")
    expect(page.locator("tbody tr", has_text=f"#{number}")).to_have_count(0)


def test_without_javascript_the_same_links_lead_to_a_page_that_asks(
    open_page: Callable[..., Page], server: Server, alice: Any
) -> None:
    page = open_page(base_url=server.url, storage_state=alice, java_script_enabled=False)
    number = plan(page, server, "planned", hours=2)
    page.goto("/tickets/waiting")
    page.locator("tbody tr", has_text=f"#{number}").get_by_role("link", name="Revoke").click()
    expect(page).to_have_url(f"{server.url}/tickets/{number}/revoke")
    page.get_by_role("button", name="Revoke").click()
    expect(page).to_have_url(f"{server.url}/tickets/{number}")
    expect(page.locator("#ticket-summary [data-status=revoked]")).to_be_visible()


def test_a_held_lock_is_said_at_once_and_its_refusal_keeps_what_was_typed(
    open_page: Callable[..., Page], page: Page, server: Server, alice: Any
) -> None:
    open_form(page, server, "locked")
    expect(page.locator("#obstacles")).not_to_contain_text("ticket")
    other = open_page(base_url=server.url, storage_state=alice)
    holder = plan(other, server, "locked", hours=2)
    page.locator("input[name=v-Token]").fill("a secret")
    page.get_by_label("Reason").fill("because")
    send(page)
    refusal = page.locator("#obstacles [role=alert]")
    expect(refusal).to_contain_text(f"ticket {holder} has not ended")
    expect(refusal).to_be_focused()
    expect(page.locator("input[name=v-Token]")).to_have_value("a secret")
    expect(page.get_by_label("Reason")).to_have_value("because")
    assert axe.violations(page) == []
    open_form(other, server, "locked")
    expect(other.locator("#obstacles")).to_contain_text(f"ticket {holder} has not ended")
    other.locator("#obstacles").get_by_role("link").click()
    expect(other).to_have_url(f"{server.url}/tickets/{holder}")
    other.locator(f"#revoke-{holder}-open").click()
    confirm(other, "Revoke")
    expect(other.locator("#ticket-summary [data-status=revoked]")).to_be_visible()
    send(page)
    expect(page.locator(".l > span")).to_have_text(["because"])


def test_a_ticket_runs_by_itself_with_its_last_approval_before_the_eyes_of_its_submitter(
    page: Page, server: Server, bob: dict[str, str]
) -> None:
    open_form(page, server, "approved")
    expect(page.locator(".deciders li")).to_have_text(["Level 1: leads", "Level 2: directors"])
    page.get_by_label("Run by itself once approved").check()
    send(page)
    page.wait_for_url(re.compile(r"/tickets/\d+$"))
    number = int(page.url.rsplit("/", 1)[1])
    expect(page.locator(".ticket-prospects")).to_contain_text("Waits for leads to decide (level 1 of 2).")
    page.goto(f"/tickets/{number}")
    expect(page.locator("[data-level-state]")).to_have_text(["Waits for a decision", "Later"])
    for states in (["approved", "waits"], ["approved", "approved"]):
        assert server.call("POST", f"/api/v1/tickets/{number}/approve", {}, headers=bob).status == 200
        # What the page would ask by itself in a while.
        page.evaluate("document.body.dispatchEvent(new Event('run-ended'))")
        for place, state in enumerate(states):
            expect(page.locator("[data-level-state]").nth(place)).to_have_attribute("data-level-state", state)
    expect(page.locator(".step-task").last).to_have_text("Main task")
    expect(page.locator("#ticket-summary [data-status=succeeded]")).to_be_visible()
    expect(page.locator("#ticket-history")).to_contain_text("Approved, and to be run by itself.")


def test_what_an_approver_cannot_decide_any_more_goes_away_by_itself(
    open_page: Callable[..., Page], browser: Browser, server: Server, alice: Any, bob: dict[str, str]
) -> None:
    number = plan(open_page(base_url=server.url, storage_state=alice), server, "approved", hours=2)
    server.wait_for(number, lambda ticket: ticket["status"] == "submitted")
    page = open_page(base_url=server.url, storage_state=state_of(browser, server, "bob", PASSWORD))
    page.goto(f"/tickets/{number}")
    expect(page.locator(f"#approve-{number}-open")).to_be_visible()
    assert axe.violations(page) == []
    for _ in range(2):
        assert server.call("POST", f"/api/v1/tickets/{number}/approve", {}, headers=bob).status == 200
    page.evaluate("document.body.dispatchEvent(new Event('run-ended'))")
    expect(page.locator("[data-level-state=approved]")).to_have_count(2)
    expect(page.locator(f"#approve-{number}-open")).to_have_count(0)
    expect(page.locator("#ticket-decide")).to_be_empty()
    expect(page.locator(".ticket-prospects")).to_contain_text("Starts at ")


def test_an_action_that_comes_too_late_shows_the_ticket_as_it_is(page: Page, server: Server) -> None:
    number = plan(page, server, "planned", hours=2)
    assert server.call("POST", f"/api/v1/tickets/{number}/revoke").status == 200
    page.locator(f"#execute-{number}-open").click()
    confirm(page, "Run now")
    expect(page.locator(".ticket-refusal")).to_contain_text(f"Ticket {number} is Revoked now.")
    expect(page.locator("#ticket-summary [data-status=revoked]").first).to_be_visible()
    assert axe.violations(page) == []


def test_in_a_freeze_a_superuser_breaks_the_glass_in_the_dialog(
    open_page: Callable[..., Page], browser: Browser, page: Page, server: Server
) -> None:
    open_form(page, server, "frozen")
    expect(page.locator("#obstacles")).to_contain_text("PROD is frozen: year-end")
    expect(page.locator("[name=break_glass]")).to_have_count(0)
    number = plan(page, server, "frozen", hours=2)
    expect(page.locator(f"#execute-{number}-open")).to_be_disabled()
    root = open_page(base_url=server.url, storage_state=state_of(browser, server))
    root.goto(f"/tickets/{number}")
    root.locator(f"#execute-{number}-open").click()
    root.get_by_label("Break the glass").fill("the site is down")
    assert axe.violations(root) == []
    confirm(root, "Run now")
    expect(root.locator(".l > span")).to_have_text(["in an emergency"])
    expect(root.locator("#ticket-summary [data-status=succeeded]")).to_be_visible()
