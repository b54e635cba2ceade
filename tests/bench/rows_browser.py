"""Rows 8 and 9: a finished log of 1,000,000 lines in Chromium, and what pages weigh on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import BrowserContext, Page, sync_playwright

from tests.bench.client import Clock
from tests.bench.table import Results
from tests.chromium import program
from tests.server import Server

ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
STALLS = """() => {
  window.longest = 0; let last = performance.now();
  const look = () => {
    const now = performance.now();
    window.longest = Math.max(window.longest, now - last);
    last = now;
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""


@contextmanager
def _browser(server: Server) -> Iterator[BrowserContext]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=ARGUMENTS)
        context = browser.new_context(viewport={"width": 1440, "height": 900}, bypass_csp=True)
        yield context
        browser.close()


def _sign_in(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/sign-in")
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", server.admin_password)
    page.press("input[name=password]", "Enter")
    page.wait_for_url(f"{server.url}/")


def long_log(server: Server, results: Results) -> None:
    """Row 8: first lines, longest stall while one scrolls through, lines in the page, search."""
    ticket = server.submit("much")
    server.wait_for(ticket["id"], within=60)
    run = ticket["runs"][0]["id"]
    with _browser(server) as context:
        page = context.new_page()
        _sign_in(page, server)
        page.goto(f"{server.url}/runs/{run}")  # Once, so that scripts and styles are in the cache.
        clock = Clock()
        page.goto(f"{server.url}/runs/{run}", wait_until="commit")
        page.wait_for_selector("[data-log] .log-line, [data-log] [id*='-L']", state="attached")
        results.add("8", "1,000,000 lines: first lines", clock() * 1000, "ms", target=300)
        page.wait_for_load_state("load")
        page.wait_for_timeout(500)
        page.evaluate(STALLS)
        for _ in range(30):
            page.mouse.move(700, 500)
            page.mouse.wheel(0, -4000)
            page.wait_for_timeout(60)
        results.add(
            "8",
            "1,000,000 lines: longest stall in scrolling",
            page.evaluate("window.longest"),
            "ms",
            target=100,
        )
        lines = page.evaluate("document.querySelectorAll('[data-log] [id*=\"-L\"]').length")
        results.add("8", "1,000,000 lines: lines in the page", lines, "", target=5000)
        clock = Clock()
        page.fill("input[type=search][name=q]", "0123456789")
        page.press("input[type=search][name=q]", "Enter")
        page.wait_for_function("document.querySelector('#log-found').textContent.trim() !== ''")
        results.add("8", "1,000,000 lines: search", clock() * 1000, "ms", target=500)


def weight(server: Server, results: Results) -> None:
    """Row 9: bytes over the wire at the first visit, and of pages after it."""
    with _browser(server) as context:
        page = context.new_page()
        taken: list[float] = []
        session = context.new_cdp_session(page)
        session.send("Network.enable")
        session.on("Network.loadingFinished", lambda event: taken.append(event["encodedDataLength"]))
        _sign_in(page, server)
        page.wait_for_load_state("networkidle")
        results.add("9", "first visit: sign-in and first page", sum(taken) / 1024, "KB", target=120)
        heaviest = 0.0
        for path in ("/workorders", "/tickets", "/config/workorders", "/"):
            page.goto(f"{server.url}{path}")
            page.wait_for_load_state("networkidle")
            taken.clear()
            page.goto(f"{server.url}{path}")
            page.wait_for_load_state("networkidle")
            heaviest = max(heaviest, sum(taken) / 1024)
        results.add("9", "later pages: the heaviest", heaviest, "KB", target=15)
