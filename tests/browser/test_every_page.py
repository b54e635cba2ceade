"""Every page: usable by everyone (axe), on a phone, light and dark, in Chinese, and light on the wire."""

from __future__ import annotations

import gettext
import re
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, expect

from tests.browser import axe
from tests.browser.going import sign_in, state_of
from tests.chromium import listen
from tests.faults.instances import Person, csrf_token
from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]

TRANSLATIONS = Path(__file__).resolve().parents[2] / "skstack" / "translations"
CATALOG = r"""
environments: [{name: DEV, order: 1, description: for developers}, {name: PROD, order: 2}]
categories: [{name: Deploy, description: brings versions out, log_directory: LOGS}]
config_centers: [{name: far, host: 192.0.2.1, port: 22, username: deploy, login: agent}]
groups: [{name: ops, description: operators}, {name: leads}, {name: directors}]
roles: [{name: operator, pages: [submit, execute]}, {name: approver, pages: [approve]}]
users:
  - {username: admin, groups: [leads]}
  - {username: alice, groups: [ops], roles: [operator]}
  - {username: bob, groups: [leads, directors], roles: [approver]}
approval_flows: [{name: two-level, levels: [leads, directors], expires_hours: 48, allow_self_approval: true}]
freeze_windows:
  - {name: the-week-in-which-nobody-touches-anything, environment: DEV,
     starts_at: 2026-01-01T00:00:00Z, ends_at: 2099-12-31T00:00:00Z}
variables:
  - {name: Version, label: Version to bring out, source: script, widget: select, required: true,
     script: "printf '%s\\n' 1.0 2.0", help: The newest first.}
  - {name: Marks, source: list, widget: checkboxes, choices: [red, blue]}
  - {name: Hosts, source: list, widget: multiselect, choices: [web1, web2], default: web1}
  - {name: Pin, source: input, widget: text, secret: true}
variable_groups: [{name: all, variables: [Version, Marks, Hosts, Pin]}]
work_orders:
  - name: a-work-order-whose-name-is-rather-long-as-they-are-in-life
    description: "What it does, in a sentence."
    environment: PROD
    category: Deploy
    submit_groups: [ops]
    active: true
    variable_group: all
    builtin_variables: {project: "app"}
    pre_task: echo prepared
    main_task: |
      printf '%s\n' {Version} {Hosts} {project} a-path/that/goes/on/and/on/without/any/blank/in/it/that/would/let/a/line/break
      printf '\033[31mred\033[0m and %s\n' {Marks}
    post_task: echo of the plugin > LOGS/a-file.{sk__task_name_created}
    scheduling: true
  - {name: to-copy, environment: DEV, template: true, main_task: echo copied}
  - {name: with-everything, environment: DEV, submit_groups: [ops], active: true, approval_flow: two-level, scheduling: true,
     background_choice: true, auto_run_choice: true, task_lock: true, main_task: echo late}
  - {name: planned, environment: PROD, submit_groups: [ops], active: true, scheduling: true, main_task: echo later}
  - {name: held, environment: DEV, submit_groups: [ops], active: true, main_task: echo never}
"""

# Every route that answers with a whole page, and an address of it. A new route belongs here or below.
PAGES = {
    "dashboard.index": "/",
    "accounts.sign_in": "/sign-in",
    "accounts.me": "/me",
    "accounts.my_password": "/me/password",
    "accounts.my_second_factor": "/me/second-factor",
    "accounts.my_sessions": "/me/sessions",
    "accounts.my_tokens": "/me/tokens",
    "accounts.users": "/accounts/users",
    "accounts.user": "/accounts/users/1",
    "accounts.user_password": "/accounts/users/1/password",
    "accounts.new_user": "/accounts/users/new",
    "accounts.groups": "/accounts/groups",
    "accounts.group": "/accounts/groups/1",
    "accounts.new_group": "/accounts/groups/new",
    "accounts.roles": "/accounts/roles",
    "accounts.role": "/accounts/roles/1",
    "accounts.new_role": "/accounts/roles/new",
    "accounts.matrix": "/accounts/matrix",
    "notifications.index": "/notifications",
    "notifications.mine": "/me/notifications",
    "notifications.of_flow": "/config/approval-flows/1/notifications",
    "approvals.index": "/approvals",
    "approvals.decided": "/approvals/decided",
    "approvals.ask": "/tickets/2/decide/reject",
    "audit.tickets": "/audit/tickets?workorder=a-work-order-whose-name-is-rather-long-as-they-are-in-life&sort=status",
    "audit.break_glass": "/audit/break-glass",
    "audit-events.index": "/audit/events",
    "audit-events.detail": "/audit/events/12",
    "catalog.approval_flows": "/config/approval-flows",
    "catalog.approval_flow": "/config/approval-flows/1",
    "catalog.new_approval_flow": "/config/approval-flows/new",
    "catalog.freeze_windows": "/config/freeze-windows",
    "catalog.freeze_window": "/config/freeze-windows/1",
    "catalog.new_freeze_window": "/config/freeze-windows/new",
    "catalog.categories": "/config/categories",
    "catalog.category": "/config/categories/1",
    "catalog.new_category": "/config/categories/new",
    "catalog.config_centers": "/config/config-centers",
    "catalog.config_center": "/config/config-centers/1",
    "catalog.new_config_center": "/config/config-centers/new",
    "catalog.environments": "/config/environments",
    "catalog.environment": "/config/environments/1",
    "catalog.new_environment": "/config/environments/new",
    "catalog.templates": "/config/templates",
    "catalog.variable_groups": "/config/variable-groups",
    "catalog.variable_group": "/config/variable-groups/1",
    "catalog.new_variable_group": "/config/variable-groups/new",
    "catalog.variables": "/config/variables",
    "catalog.variable": "/config/variables/1",
    "catalog.new_variable": "/config/variables/new",
    "catalog.workorders": "/config/workorders",
    "catalog.workorder": "/config/workorders/1",
    "catalog.new_workorder": "/config/workorders/new",
    "runs.detail": "/runs/2",
    "runs.search": "/runs/2/search?q=a",
    "runs.log_files": "/tickets/1/log-details",
    "schedules.index": "/schedules",
    "schedules.new": "/schedules/new?workorder=1",
    "schedules.detail": "/schedules/1",
    "schedules.edit": "/schedules/1/edit",
    "system.index": "/system",
    "tickets.index": "/tickets",
    "tickets.waiting": "/tickets/waiting",
    "tickets.detail": "/tickets/1",
    "tickets.ask": "/tickets/3/execute",
    "tickets.workorders": "/workorders",
    "tickets.submit_form": "/workorders/1/submit",
    # What is not there, and what one may not see, are pages too.
    "404": "/tickets/999",
}
# The same routes in another state: the form of a locked work order within a freeze, tickets that wait.
OTHER_STATES = {
    "a form with everything in its way": "/workorders/3/submit",
    "a form within a freeze": "/workorders/5/submit",
    "a ticket that waits for its approvers": "/tickets/2",
    "a ticket that waits for its time": "/tickets/3",
    "tickets in the background": "/tickets?kind=background",
}
NO_PAGES = {
    "static": "files",
    "accounts.code": "leads to the sign-in, whose second step it is; looked at in tests/accounts/test_browser.py",
    "accounts.set_up": "leads to the sign-in, whose second step it is; looked at in tests/accounts/test_browser.py",
    "health.alive": "plain text",
    "health.ready": "plain text",
    "accounts.oidc_begin": "leads to the provider, and there is none here",
    "accounts.oidc_callback": "leads on from the provider, and there is none here",
    "catalog.index": "leads to the first page of the configuration",
    "audit-events.state": "a fragment",
    "audit-events.export": "a download",
    "audit.export": "a download",
    "runs.log": "a fragment",
    "runs.status": "a fragment",
    "runs.output": "a download",
    "runs.log_file": "a download",
    "schedules.times": "a fragment",
    "system.prometheus": "plain text",
    "system.state": "a fragment",
    "tickets.summary": "a fragment",
    "tickets.field": "a fragment",
}
FIRST_VISIT = 120 * 1024
LATER_PAGE = 15 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("every-page")
    server = Server(folder).prepare()
    server.catalog(CATALOG.replace("LOGS", str(folder)))
    server.start()
    ticket = server.submit(
        1, {"Version": "2.0", "Marks": ["red"], "Hosts": ["web1"], "Pin": "hidden"}, note="why"
    )
    assert server.wait_for(ticket["id"])["status"] == "succeeded"
    in_a_year = (datetime.now(UTC) + timedelta(days=300)).isoformat()
    assert server.submit("with-everything", note="why", scheduled_at=in_a_year)["id"] == 2
    assert server.submit("planned", scheduled_at=in_a_year)["id"] == 3
    make_a_schedule(server)
    break_glass(server)
    yield server
    server.stop()


def make_a_schedule(server: Server) -> None:
    person, path = Person(server), "/schedules/new?workorder=1"
    form = {
        "csrf_token": csrf_token(person.page(path)),
        "schedule-name": "a-schedule-with-a-rather-long-name-that-says-what-it-does",
        "schedule-expression": "0,30 2-5 1-15 * MON-FRI",
        "schedule-timezone": "America/Argentina/ComodRivadavia",
        "v-Version": "2.0",
        "v-Marks": "red",
        "v-Hosts": "web1",
        "v-Pin": "hidden",
    }
    assert person.post(path, form).status == 303


def break_glass(server: Server) -> None:
    """Leave a start within a freeze window that somebody has to review, and one that somebody has."""
    columns = "ticket_id, window_name, by_id, reason, at, reviewed_by_id, reviewed_at, review"
    at = "2026-11-20 10:00:00.000000"
    with sqlite3.connect(server.instance / "skstack.db", timeout=10) as connection:
        admin, alice, _bob = (one for (one,) in connection.execute("select id from users order by username"))
        connection.executemany(
            f"insert into break_glass ({columns}) values (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (1, "year-end", admin, "the site is down", at, None, None, ""),
                (1, "year-end", alice, "so is the other", at, None, None, ""),
                (1, "year-end", alice, "a long story", at, admin, at, "rightly so"),
            ],
        )


@pytest.fixture(scope="module")
def root(browser: Browser, server: Server) -> Any:
    """Give the cookies of the administrator, who is signed in."""
    return state_of(browser, server)


@pytest.fixture(scope="module")
def complaints() -> list[str]:
    """Give what the pages in `tabs` complained of so far."""
    return []


@pytest.fixture(scope="module")
def tabs(browser: Browser, server: Server, root: Any, complaints: list[str]) -> Iterator[dict[str, Page]]:
    """Give a tab of the administrator and one of a stranger, to be used by one test after the other."""
    # Without transitions: axe would meet colours halfway from light to dark.
    kept = {"base_url": server.url, "reduced_motion": "reduce"}
    contexts = {
        "root": browser.new_context(storage_state=root, **kept),
        "stranger": browser.new_context(**kept),
    }
    found = {name: context.new_page() for name, context in contexts.items()}
    for page in found.values():
        listen(page, complaints)
    yield found
    for context in contexts.values():
        context.close()


def visit(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.locator("[data-loading], .htmx-request")).to_have_count(0)
    expect(page.locator("select[data-search-select]:not(.tomselected)")).to_have_count(0)


def test_every_route_is_known_as_a_page_or_as_none(app: Flask) -> None:
    routes = {
        rule.endpoint
        for rule in app.url_map.iter_rules()
        if "GET" in (rule.methods or ()) and not rule.rule.startswith("/api/")
    }
    assert routes == set(PAGES) - {"404"} | set(NO_PAGES)


@pytest.mark.parametrize("endpoint", PAGES | OTHER_STATES)
def test_axe_finds_nothing_and_nothing_is_too_wide(
    endpoint: str, tabs: dict[str, Page], complaints: list[str]
) -> None:
    complaints.clear()
    page = tabs["stranger" if endpoint == "accounts.sign_in" else "root"]
    visit(page, (PAGES | OTHER_STATES)[endpoint])
    found = []
    for width, height in ((1440, 900), (360, 740)):
        page.set_viewport_size({"width": width, "height": height})
        # Colours do not depend on the width.
        for scheme in ("light", "dark") if width > 1000 else ("light",):
            page.emulate_media(color_scheme=scheme)
            found += [
                f"{width} {scheme}: {violation}"
                for violation in axe.violations(page, colours_only=scheme == "dark")
            ]
        wide = page.evaluate("document.documentElement.scrollWidth")
        if wide > width:
            found.append(f"{wide} px wide in a window of {width}")
    assert found + complaints == []


@pytest.mark.parametrize("width", [1600, 1440, 1280, 1240, 1024])
def test_an_administrators_menu_widens_no_window(
    width: int, open_page: Callable[..., Page], server: Server, root: Any
) -> None:
    page = open_page(base_url=server.url, storage_state=root, viewport={"width": width, "height": 800})
    # On the page of a ticket the bar has its environment, too.
    visit(page, "/tickets/3")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    shown = page.locator(".topbar-environment, .user-button").evaluate_all(
        "elements => elements.map(element => element.getBoundingClientRect().right)"
    )
    assert len(shown) == 2
    assert max(shown) <= width
    assert shown[0] < page.locator(".user-button").evaluate("e => e.getBoundingClientRect().left")


def test_a_narrow_window_shows_the_open_tab_and_all_of_a_menu(
    open_page: Callable[..., Page], server: Server, root: Any
) -> None:
    page = open_page(base_url=server.url, storage_state=root, viewport={"width": 360, "height": 640})
    for address in ("/config/freeze-windows", "/me/sessions"):
        visit(page, address)
        tab = page.locator(".tabs").first.locator("[aria-current]")
        box = tab.bounding_box()
        assert box is not None
        assert 0 <= box["x"] < box["x"] + box["width"] <= 360, address
    expect(page.locator("tbody th").first).to_contain_text("Chrome")
    visit(page, "/audit/tickets")
    page.get_by_role("button", name="Columns").click()
    menu = page.locator(".menu:popover-open")
    box = menu.bounding_box()
    assert box is not None
    assert box["y"] >= 0
    assert box["y"] + box["height"] <= 640
    last = menu.locator("button, label").last
    last.scroll_into_view_if_needed()
    expect(last).to_be_in_viewport()


def test_a_chinese_browser_gets_chinese_pages(
    open_page: Callable[..., Page], server: Server, root: Any
) -> None:
    with (TRANSLATIONS / "zh_CN" / "LC_MESSAGES" / "messages.mo").open("rb") as file:
        catalog = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
    english = {
        text
        for text, translated in catalog.items()
        if isinstance(text, str) and text and text != translated and "%(" not in text
    }
    assert "Dashboard" in english
    english.discard(
        "Version"
    )  # A variable is called that here; tests/test_translations.py looks at the word.
    page = open_page(base_url=server.url, storage_state=root, locale="zh-CN")
    stranger = open_page(base_url=server.url, locale="zh-CN")
    left = []
    for endpoint, address in (PAGES | OTHER_STATES).items():
        tab = stranger if endpoint == "accounts.sign_in" else page
        visit(tab, address)
        assert tab.locator("html").get_attribute("lang") == "zh-CN"
        said = tab.evaluate(
            "() => {"
            "  const texts = document.createTreeWalker(document, NodeFilter.SHOW_TEXT);"
            "  const found = [document.title.split(' · ')[0]];"
            "  while (texts.nextNode()) if (!texts.currentNode.parentElement.closest('script, code, pre, template'))"
            "    found.push(texts.currentNode.data);"
            "  for (const name of ['aria-label', 'title', 'placeholder', 'data-label'])"
            "    for (const element of document.querySelectorAll(`[${name}]`)) found.push(element.getAttribute(name));"
            "  return found.map(text => text.replace(/\\s+/g, ' ').trim()).filter(Boolean);"
            "}"
        )
        assert any(re.search("[一-鿿]", text) for text in said), endpoint
        left += [f"{endpoint}: {text}" for text in said if text in english]
    assert left == []


def test_pages_are_light_on_the_wire(open_page: Callable[..., Page], server: Server) -> None:
    page = open_page(base_url=server.url)
    page.goto("/sign-in")
    first = taken(page)
    sign_in(page, server)
    first += taken(page)
    assert 10_000 < first <= FIRST_VISIT, "signing in and the first page"

    # The heaviest of all at first: searchable selects and the log pane. It brings what later pages need.
    visit(page, "/workorders/1/submit")
    first += taken(page)
    assert first <= FIRST_VISIT, "signing in, the first page and the first form"
    later = {}
    for endpoint, address in (PAGES | OTHER_STATES).items():
        visit(page, address)
        later[endpoint] = taken(page)
    assert {endpoint: size for endpoint, size in later.items() if not 500 < size <= LATER_PAGE} == {}


def taken(page: Page) -> int:
    """Return how many bytes came over the wire for the page that is open, with all that belongs to it."""
    page.wait_for_load_state()
    return int(
        page.evaluate(
            "() => performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'))"
            "  .reduce((sum, entry) => sum + entry.transferSize, 0)"
        )
    )
