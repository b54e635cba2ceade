"""A schedule in a browser: the next times while one types, what is wrong beside the field, pause, resume, delete."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.going import choose, confirm, is_focused, state_of, wait_until
from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]

CATALOG = r"""
environments: [{name: DEV}]
variables: [{name: Version, source: script, widget: select, required: true, script: "printf '%s\\n' 1.0 2.0"}]
variable_groups: [{name: version, variables: [Version]}]
work_orders:
  - {name: backup, environment: DEV, active: true, scheduling: true, variable_group: version, main_task: "echo {Version}"}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("schedules")).prepare()
    server.catalog(CATALOG)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def root(browser: Browser, server: Server) -> Any:
    return state_of(browser, server)


def test_one_is_added_with_its_times_before_the_eyes(
    open_page: Callable[..., Page], server: Server, root: Any
) -> None:
    page = open_page(base_url=server.url, storage_state=root)
    page.goto("/schedules")
    page.get_by_role("link", name="Add schedule").first.click()
    page.get_by_role("link", name="Choose").click()
    times = page.locator("#schedule-times")
    expression = page.locator("[name=schedule-expression]")

    expression.press_sequentially("30 2 * * ")
    expect(times).to_contain_text("Five fields are needed")
    expression.press_sequentially("*")
    expect(times.locator("tbody tr")).to_have_count(5)
    expect(times.locator("tbody")).to_contain_text("02:30")
    choose(page, "schedule-timezone", "Asia/Shanghai")
    expect(times.locator("tbody")).to_contain_text("02:30 +08:00")
    expect(times.locator("tbody")).to_contain_text("18:30")
    expression.fill("99 2 * * *")
    expect(times).to_contain_text("The minute is a number from 0 to 59")

    page.locator("[name=schedule-name]").fill("nightly")
    page.get_by_role("button", name="Add schedule").click()
    error = page.locator("#field-schedule-expression-error")
    expect(error).to_contain_text("The minute is a number from 0 to 59")
    expect(page.locator("#field-v-Version-error")).to_be_visible()
    wait_until(lambda: is_focused(page, "schedule-expression"))
    expect(expression).to_have_value("99 2 * * *")

    expression.fill("30 2 * * *")
    expect(times.locator("tbody tr")).to_have_count(5)
    choose(page, "v-Version", "2.0")
    page.get_by_role("button", name="Add schedule").click()
    expect(page.locator("h1")).to_have_text("nightly")
    expect(page.locator("main")).to_contain_text("The schedule nightly was added.")
    expect(page.locator(".facts")).to_contain_text("2.0")

    page.get_by_role("button", name="Pause").click()
    expect(page.locator("main")).to_contain_text("It was paused by hand.")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("main .status").first).to_have_text("active")
    page.get_by_role("link", name="Edit").click()
    expect(expression).to_have_value("30 2 * * *")
    expect(page.locator("select[name=v-Version]")).to_have_value("2.0")
    page.go_back()
    page.get_by_role("button", name="Delete").click()
    confirm(page, "Delete")
    expect(page.locator("main")).to_contain_text("There is no schedule yet")
