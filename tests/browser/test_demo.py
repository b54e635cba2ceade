"""The demo, as a newcomer meets it; and a pane that outlives a restart of the server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.going import choose, offered, sign_in, state_of, wait_until
from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """Give a server with the demo, and the password of its user."""
    server = Server(tmp_path_factory.mktemp("demo")).prepare()
    said = re.search(r"user alice, password (\S+)", server.command("demo"))
    assert said is not None
    server.start()
    yield server, said[1]
    server.stop()


@pytest.fixture(scope="module")
def alice(browser: Browser, demo: tuple[Server, str]) -> Any:
    """Give the cookies of the demo's user, who is signed in."""
    return state_of(browser, demo[0], "alice", demo[1])


@pytest.fixture
def page(open_page: Callable[..., Page], demo: tuple[Server, str], alice: Any) -> Page:
    """Give the tab of the demo's user."""
    return open_page(base_url=demo[0].url, storage_state=alice)


def test_the_demo_says_how_to_sign_in_and_deploys(
    open_page: Callable[..., Page], demo: tuple[Server, str]
) -> None:
    server, password = demo
    page = sign_in(open_page(base_url=server.url), server, "alice", password)
    page.get_by_role("link", name="Submit site-prod").click()
    wait_until(lambda: len(offered(page, "v-Version")) == 4)
    choose(page, "v-Version", offered(page, "v-Version")[0])
    page.get_by_role("button", name="Submit site-prod to PROD").click()
    expect(page.locator(".log-end")).to_contain_text("Succeeded")
    expect(page.locator(".l", has_text="now live: 1.")).to_be_visible()
    for number, name in enumerate(("site-stage", "host-report", "failing-job"), start=2):
        page.goto("/workorders")
        page.get_by_role("link", name=f"Submit {name}").click()
        if name == "site-stage":
            choose(page, "v-Version", offered(page, "v-Version")[0])
        page.get_by_role("button", name=f"Submit {name}").click()
        expect(page.locator(".log-end")).to_contain_text("Failed" if name == "failing-job" else "Succeeded")
        expect(page).to_have_url(re.compile(f"/tickets/{number}$"))


def test_steps_fold_and_long_lines_wrap(page: Page) -> None:
    page.goto("/workorders")
    page.get_by_role("link", name="Submit failing-job").click()
    page.get_by_label("Reason").fill("because " * 60)
    page.get_by_role("button", name="Submit failing-job").click()
    expect(page.locator(".log-end")).to_contain_text("Failed")
    line = page.locator("#step-1-L1")
    expect(line).to_be_visible()
    before = line.bounding_box()
    page.get_by_role("button", name="Wrap long lines").click()
    wait_until(lambda: (line.bounding_box() or {})["height"] > (before or {})["height"])
    page.locator("#step-1-head").click()
    expect(line).to_be_hidden()
    page.locator("#step-1-head").press("Enter")
    expect(line).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Wrap long lines")).to_have_attribute("aria-pressed", "true")


def test_a_pane_goes_on_after_the_server_was_restarted(
    page: Page, demo: tuple[Server, str], page_problems: list[str]
) -> None:
    server, _ = demo
    page.goto("/workorders")
    page.get_by_role("link", name="Submit slow-job").click()
    page.get_by_label("Seconds").fill("9")
    page.get_by_role("button", name="Submit slow-job").click()
    expect(page.locator(".l", has_text="1 of 9 s")).to_be_visible()
    server.kill("serve")
    expect(page.locator("[data-log-connection]")).to_contain_text("Trying")
    server.start()
    expect(page.locator(".log-end")).to_contain_text("Succeeded", timeout=30_000)
    expect(page.locator(".l", has_text="9 of 9 s")).to_have_count(1)
    expect(page.locator("#ticket-summary .status")).to_have_text("Succeeded")
    expect(page.locator("[data-log-connection]")).to_be_hidden()
    expect(page.locator("#toasts")).to_be_empty()
    page_problems.clear()
