"""The log pane in a real browser, with real runs: following, scrolling back, searching, a million lines."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import axe
from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(180)]

CATALOG = r"""
environments: [{name: DEV, order: 1}]
groups: [{name: ops}]
work_orders:
  - {name: million, environment: DEV, submit_groups: [ops], active: true,
     main_task: "seq -f 'line %.0f of a million' 1 1000000"}
  - {name: slow, environment: DEV, submit_groups: [ops], active: true, pre_task: "echo prepared",
     main_task: "for n in 1 2 3 4 5 6; do echo tick $n; sleep 0.5; done\nprintf 'half '; sleep 1; echo 'a line'"}
  - name: colours
    environment: DEV
    submit_groups: [ops]
    active: true
    main_task: |
      printf '\033[31mred\033[0m \033[34;44mhidden\033[0m \033[38;2;20;20;20mdark\033[0m <b>bold</b>\n'
      printf '10%%\r50%%\r100%%\n'
      exit 3
  - {name: chatty, environment: DEV, submit_groups: [ops], active: true,
     main_task: "for n in $(seq 1 90); do seq -f \"$n %.0f\" 1 300; sleep 0.3; done"}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("log-pane")).prepare()
    server.catalog(CATALOG)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def page(server: Server, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(base_url=server.url, viewport={"width": 1200, "height": 800})
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto("/")
    page.get_by_label("User name").fill("admin")
    page.locator("input[name=password]").fill(server.admin_password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_load_state()
    yield page
    context.close()
    assert [text for text in said if "ERR_" not in text and "Failed to fetch" not in text] == []


@pytest.fixture(scope="module")
def million(server: Server) -> int:
    """Give a finished run that printed a million lines."""
    ticket = server.submit("million")
    return int(server.wait_for(ticket["id"], within=60)["runs"][-1]["id"])


def numbers(page: Page) -> list[int]:
    ids = page.locator(".l").evaluate_all("lines => lines.map(line => line.id)")
    return [int(found.rpartition("-L")[2]) for found in ids]


def scroll(page: Page, by: int) -> None:
    page.locator(".log-scroll").hover()
    page.mouse.wheel(0, by)


def is_at_end(page: Page) -> bool:
    return bool(
        page.locator(".log-scroll").evaluate(
            "box => box.scrollHeight - box.scrollTop - box.clientHeight < 32"
        )
    )


def wait_until(condition: Any, within: float = 10) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_million_lines_open_at_the_end_and_stay_few(page: Page, million: int) -> None:
    page.goto(f"/runs/{million}")
    expect(page.locator("#step-1-L1000000")).to_be_in_viewport()
    assert numbers(page) == list(range(999_001, 1_000_001))
    expect(page.locator(".log-end")).to_contain_text("Succeeded")
    page.evaluate(
        "window.stalls = [];"
        "const note = list => window.stalls.push(...list.getEntries().map(entry => entry.duration));"
        "new PerformanceObserver(note).observe({type: 'longtask'})"
    )
    for _ in range(60):
        before = min(numbers(page))
        scroll(page, -9000)
        if min(numbers(page)) < 992_000:
            break
        page.wait_for_timeout(60)
        assert min(numbers(page)) <= before
    shown = numbers(page)
    assert min(shown) < 994_500
    assert len(shown) <= 5000
    assert shown == list(range(min(shown), max(shown) + 1))
    assert 1_000_000 not in shown
    scroll(page, 10_000_000)
    wait_until(lambda: max(numbers(page)) > max(shown))
    assert len(numbers(page)) <= 5000
    assert max(page.evaluate("window.stalls") or [0]) < 1500, "the page stood still"


def test_what_one_reads_stays_in_its_place_while_lines_load_above(page: Page, million: int) -> None:
    page.goto(f"/runs/{million}")
    expect(page.locator("#step-1-L1000000")).to_be_in_viewport()
    scroll(page, -19_300)
    page.wait_for_timeout(100)
    scroll(page, -50)
    wait_until(lambda: min(numbers(page)) < 999_001)
    page.wait_for_timeout(200)
    top = page.evaluate(
        "() => { const box = document.querySelector('.log-scroll').getBoundingClientRect();"
        "  return document.elementFromPoint(box.left + 24, box.top + 100).closest('.l').id }"
    )
    assert 998_900 < int(top.rpartition("-L")[2]) < 999_200


def test_search_finds_and_goes_to_a_line_far_away(page: Page, million: int) -> None:
    page.goto(f"/runs/{million}")
    began = time.monotonic()
    page.get_by_role("searchbox").fill("line 123456 of")
    expect(page.locator(".found-list")).to_contain_text("1:123456")
    assert time.monotonic() - began < 3
    page.get_by_role("searchbox").press("Enter")
    expect(page.locator("#step-1-L123456")).to_be_in_viewport()
    expect(page.locator("#step-1-L123456")).to_have_class(re.compile("is-marked"))
    page.get_by_role("searchbox").fill("nothing like it")
    expect(page.locator(".log-found")).to_contain_text("Nothing in the output matches")
    page.get_by_role("searchbox").press("Escape")
    expect(page.locator(".log-found")).to_be_empty()
    assert axe.violations(page) == []


def test_next_and_previous_go_from_match_to_match(page: Page, million: int) -> None:
    page.goto(f"/runs/{million}")
    page.get_by_role("searchbox").fill("77777")
    expect(page.locator(".found-head")).to_contain_text("lines")
    page.get_by_role("button", name="Next match").click()
    expect(page.locator("#step-1-L77777")).to_be_in_viewport()
    page.get_by_role("button", name="Next match").click()
    expect(page.locator("#step-1-L177777")).to_be_in_viewport()
    page.get_by_role("button", name="Previous match").click()
    expect(page.locator("#step-1-L77777")).to_be_in_viewport()
    assert len(numbers(page)) <= 5000


def test_a_link_to_a_line_goes_there(page: Page, million: int) -> None:
    page.goto(f"/runs/{million}#step-1-L4711")
    expect(page.locator("#step-1-L4711")).to_be_in_viewport()
    page.locator("#step-1-L4712 > a").click()
    assert page.url.endswith("#step-1-L4712")


def test_a_live_run_is_followed_through_pre_and_main_task(page: Page, server: Server) -> None:
    ticket = server.submit("slow")
    page.goto(f"/tickets/{ticket['id']}")
    expect(page.locator("#step-1")).to_contain_text("tick 1")
    expect(page.locator("#pre-step-1")).to_contain_text("prepared")
    expect(page.locator("#log-status")).to_contain_text("Running")
    expect(page.locator(".l", has_text="half")).to_be_visible(timeout=10_000)
    expect(page.locator(".log-end")).to_contain_text("Succeeded", timeout=10_000)
    assert page.locator(".l", has_text="half a line").count() == 1
    assert page.locator("[data-poller][hx-get]").count() == 0
    expect(page.locator("#ticket-summary")).to_contain_text("Succeeded")


def test_who_scrolls_up_stays_there_and_is_told_of_new_output(page: Page, server: Server) -> None:
    ticket = server.submit("chatty")
    run = server.wait_for(ticket["id"], lambda found: found["runs"][-1]["state"] == "running")["runs"][-1][
        "id"
    ]
    page.goto(f"/runs/{run}")
    wait_until(lambda: len(numbers(page)) > 300)
    assert is_at_end(page)
    scroll(page, -2000)
    # On a busy machine lines may come between the turn of the wheel and the move: then one turns it again, as people do.
    wait_until(lambda: not is_at_end(page) or scroll(page, -2000))
    expect(page.get_by_role("button", name="New output")).to_be_visible(timeout=15_000)
    assert not is_at_end(page)
    page.get_by_role("button", name="New output").click()
    wait_until(lambda: is_at_end(page))
    expect(page.locator(".log-end")).to_contain_text("Succeeded", timeout=60_000)
    wait_until(lambda: is_at_end(page))
    shown = numbers(page)
    assert len(shown) <= 5000
    assert shown[-1] == 27_000
    assert shown == sorted(set(shown))


def test_a_lost_connection_is_said_and_mended(page: Page, server: Server) -> None:
    ticket = server.submit("slow")
    server.wait_for(ticket["id"], lambda found: len(found["runs"]) > 1)
    page.goto(f"/tickets/{ticket['id']}")
    expect(page.locator("#step-1")).to_contain_text("tick 1")
    page.context.set_offline(True)
    page.route("**/log?**", lambda route: route.abort())
    expect(page.locator("[data-log-connection]")).to_contain_text("Trying again", timeout=25_000)
    page.context.set_offline(False)
    page.unroute("**/log?**")
    expect(page.locator(".log-end")).to_contain_text("Succeeded", timeout=25_000)
    expect(page.locator("[data-log-connection]")).to_be_hidden()
    assert page.locator(".l", has_text="half a line").count() == 1


def test_colours_are_legible_and_markup_is_text(page: Page, server: Server) -> None:
    ticket = server.wait_for(server.submit("colours")["id"])
    page.goto(f"/runs/{ticket['runs'][-1]['id']}")
    expect(page.locator("#step-1-L1")).to_contain_text("red hidden dark <b>bold</b>")
    expect(page.locator("#step-2-L1 > span")).to_have_text("100%")
    expect(page.locator(".log-end")).to_contain_text("Step 3 ended with exit code 3.")
    assert axe.violations(page) == []


def test_it_fits_a_phone(page: Page, server: Server, million: int) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"/runs/{million}")
    expect(page.locator("#step-1-L1000000")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert axe.violations(page) == []


def test_it_works_without_javascript(server: Server, browser: Browser, page: Page, million: int) -> None:
    context = browser.new_context(
        base_url=server.url, java_script_enabled=False, storage_state=page.context.storage_state()
    )
    plain = context.new_page()
    plain.goto(f"/runs/{million}")
    expect(plain.locator("#step-1-L1000000")).to_have_count(1)
    plain.get_by_role("link", name="Show the first of them").first.click()
    expect(plain.locator("#step-1-L1")).to_have_count(1)
    plain.get_by_role("searchbox").fill("line 4711 ")
    plain.get_by_role("searchbox").press("Enter")
    plain.get_by_role("link", name="1:4711").click()
    expect(plain.locator("#step-1-L4711")).to_be_in_viewport()
    context.close()
