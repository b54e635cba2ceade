"""A real Chromium: one per test process, a fresh profile per page.

`page` is a tab of 1280 × 800 in English. `open_page(locale="zh-CN", color_scheme="dark", …)` gives others; it
takes what Playwright's `new_context` takes. A page must not complain: what it writes to the console as an
error, exceptions in its scripts and violations of its Content-Security-Policy fail the test, unless the test
takes them out of `page_problems`. A test that fails leaves a picture of each of its pages in tests/artifacts/.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

ARTIFACTS = Path(__file__).parent / "artifacts"
# The first is Chromium without its window: the same engine, at half the work.
PROGRAMS = (
    "/usr/bin/chromium-headless-shell",
    "/usr/bin/chromium",
    "/usr/bin/chromium-browser",
    "/usr/bin/google-chrome",
)
ARGUMENTS = [
    "--no-sandbox",  # The tests run as root, where Chromium has no sandbox.
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_failed = pytest.StashKey[bool]()


def program() -> str | None:
    """Return where Chromium is on this host."""
    return next((path for path in PROGRAMS if shutil.which(path)), None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[_failed] = True
    return report


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Give the Chromium of this test process."""
    if program() is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page_problems() -> list[str]:
    """Give what pages complained of so far; it must be empty when the test ends."""
    return []


@pytest.fixture
def open_page(
    browser: Browser, page_problems: list[str], request: pytest.FixtureRequest
) -> Iterator[Callable[..., Page]]:
    """Give what opens a tab with a profile of its own; see `Browser.new_context` for its arguments."""
    contexts: list[BrowserContext] = []

    def open_one(**options: Any) -> Page:
        chosen = {"viewport": {"width": 1280, "height": 800}, "locale": "en-GB", **options}
        context = browser.new_context(**chosen)
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        listen(page, page_problems)
        return page

    yield open_one
    for number, context in enumerate(contexts):
        for page in context.pages:
            if request.node.stash.get(_failed, False):
                _picture(page, request.node.nodeid, number)
        context.close()
    assert page_problems == [], "a page complained"


def listen(page: Page, problems: list[str]) -> None:
    """Append to `problems` what the page complains of from now on."""
    page.on("pageerror", lambda error: problems.append(f"{page.url}: {error}"))
    page.on("console", lambda said: _note(page, said, problems))


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    """Give a tab of 1280 × 800 in English."""
    return open_page()


def _note(page: Page, said: Any, problems: list[str]) -> None:
    # Chromium writes an error for every answer from 400 on. Whether such an answer is right is for the test to say.
    if said.type == "error" and "Failed to load resource" not in said.text:
        problems.append(f"{page.url}: {said.text}")


def _picture(page: Page, test: str, number: int) -> None:
    ARTIFACTS.mkdir(exist_ok=True)
    name = re.sub(r"\W+", "-", test.removeprefix("tests/")).strip("-")
    page.screenshot(path=ARTIFACTS / f"{name}-{number}.png", full_page=True, timeout=5_000)
