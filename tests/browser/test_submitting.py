"""Filling in and submitting a work order, watching it, stopping it: as its submitter sees it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser import axe
from tests.browser.going import (
    choose,
    chosen,
    confirm,
    control_of,
    is_focused,
    offered,
    sign_in,
    state_of,
    wait_until,
)
from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]

PASSWORD = "correct horse battery"
CATALOG = r"""
environments: [{name: DEV, order: 1}, {name: PROD, order: 2}]
categories: [{name: Deploy}]
groups: [{name: ops}]
roles: [{name: operator, pages: [submit, execute]}]
variables:
  - {name: Country, source: script, widget: select, required: true, script: "printf '%s\\n' de fr"}
  - {name: City, source: script, widget: select, required: true, script: "printf '%s-1\\n%s-2\\n' {Country} {Country}"}
  - {name: Street, source: script, widget: multiselect, script: "printf '%s/a\\n%s/b\\n' {City} {City}"}
  - {name: Start, source: script, widget: select, required: true, default: two, script: "printf '%s\\n' one two"}
  - {name: Next, source: script, widget: radio, required: true, script: "printf 'after-%s\\n' {Start}"}
  - {name: Flaky, source: script, widget: select, required: true, script: "cat FLAKY"}
  - {name: Where, source: list, widget: radio, choices: [north, south], default: north}
  - {name: Marks, source: list, widget: checkboxes, choices: [red, blue], one_argument_each: true}
  - {name: Hosts, source: list, widget: multiselect, choices: [web1, web2, db1], required: true}
  - {name: Level, source: list, widget: select, choices: [low, high], required: true}
  - {name: Reason, source: input, widget: text, required: true, pattern: "[A-Z]+-[0-9]+", pattern_message: "like OPS-12"}
  - {name: Story, source: input, widget: textarea}
  - {name: Token, source: input, widget: text, secret: true, required: true}
variable_groups:
  - {name: chain, variables: [Country, City, Street]}
  - {name: started, variables: [Start, Next]}
  - {name: flaky, variables: [Flaky]}
  - {name: widgets, variables: [Where, Marks, Hosts, Level, Reason, Story, Token]}
work_orders:
  - {name: chained, environment: DEV, submit_groups: [ops], active: true, variable_group: chain,
     main_task: "echo {City} {Street}"}
  - {name: started, environment: DEV, submit_groups: [ops], active: true, variable_group: started, main_task: "echo {Next}"}
  - {name: flaky, environment: DEV, submit_groups: [ops], active: true, variable_group: flaky, main_task: "echo {Flaky}"}
  - name: widgets
    environment: PROD
    category: Deploy
    description: "Shows every widget.\nIn two lines."
    submit_groups: [ops]
    active: true
    variable_group: widgets
    pre_task: "echo prepared"
    main_task: |
      printf '<%s>\n' {Where} {Marks} {Hosts} {Level} {Reason} {Story}
      test -n "$WO_Token" && echo "a secret of ${#WO_Token} letters"
    post_task: "echo cleared"
  - {name: endless, environment: PROD, submit_groups: [ops], active: true, main_task: "echo begun\nsleep 300\necho never"}
  - {name: refused, environment: DEV, submit_groups: [ops], active: true, pre_task: "echo not today; exit 4",
     main_task: "echo never"}
"""


@pytest.fixture(scope="module")
def flaky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the file that a script reads, not there yet."""
    return tmp_path_factory.mktemp("flaky") / "choices"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, flaky: Path) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("submitting")).prepare()
    server.catalog(CATALOG.replace("FLAKY", str(flaky)))
    server.command(
        "user", "create", "alice", "--group", "ops", "--role", "operator", "--password-stdin", input=PASSWORD
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def alice(browser: Browser, server: Server) -> Any:
    """Give the cookies of Alice, who is signed in."""
    return state_of(browser, server, "alice", PASSWORD)


@pytest.fixture
def page(open_page: Callable[..., Page], server: Server, alice: Any) -> Page:
    """Give Alice's tab."""
    return open_page(base_url=server.url, storage_state=alice)


def open_form(page: Page, server: Server, name: str, query: str = "") -> None:
    page.goto(f"/workorders/{server.workorder(name)}/submit{query}")


def let_newest_session_run_out(server: Server) -> None:
    """Make it as if nobody had used the newest session for long."""
    with sqlite3.connect(server.instance / "skstack.db", timeout=10) as connection:
        newest = "id = (select max(id) from user_sessions)"
        connection.execute(f"update user_sessions set seen_at = '2020-01-01 00:00:00.000000' where {newest}")
    connection.close()


def fill_in_widgets(page: Page) -> None:
    page.get_by_label("south").check()
    page.get_by_label("red").check()
    page.get_by_label("blue").check()
    choose(page, "v-Hosts", "web2", "db1")
    choose(page, "v-Level", "high")
    page.get_by_label("Reason").fill("OPS-12")
    page.get_by_label("Story").fill('it\'s "quoted"\n$(twice) ‘中文’')
    page.locator("input[name=v-Token]").fill("s3cret-token")


def tickets(server: Server) -> int:
    return len(server.call("GET", "/api/v1/tickets?scope=all&limit=100").json["items"])


def test_one_chooses_a_work_order_by_environment_and_search(page: Page, server: Server) -> None:
    page.goto("/")
    page.get_by_role("link", name="Work orders").first.click()
    expect(page.locator(".card-item")).to_have_count(6)
    page.get_by_role("link", name="PROD").click()
    expect(page.locator(".card-item")).to_have_count(2)
    page.keyboard.press("/")
    page.keyboard.type("widg")
    expect(page.locator(".card-item")).to_have_count(1)
    assert "environment=PROD" in page.url
    assert "q=widg" in page.url
    page.locator(".card-item summary").click()
    expect(page.locator(".card-item")).to_contain_text("In two lines.")
    page.get_by_role("link", name="Submit widgets").click()
    expect(page.locator("h1")).to_have_text("widgets")
    expect(page.locator(".production-banner")).to_be_visible()


def test_all_widgets_arrive_and_every_task_shows_in_one_pane(page: Page, server: Server) -> None:
    open_form(page, server, "widgets")
    fill_in_widgets(page)
    page.get_by_role("button", name="Submit widgets to PROD").click()
    expect(page.locator(".log-end")).to_contain_text("Succeeded")
    expect(page).to_have_url(re.compile(r"/tickets/\d+$"))
    expect(page).to_have_title(re.compile(r"PROD · widgets #\d+"))
    printed = page.locator(".l > span").all_inner_texts()
    assert printed == [
        *("prepared", "<south>", "<red>", "<blue>", "<web2,db1>", "<high>", "<OPS-12>"),
        *('<it\'s "quoted"', "$(twice) ‘中文’>", "a secret of 12 letters", "cleared"),
    ]
    assert page.locator(".step-task").all_inner_texts() == ["Pre task", *["Main task"] * 2, "Post task"]
    expect(page.locator("#ticket-summary .status")).to_have_text("Succeeded")
    assert page.evaluate("Boolean(document.activeElement.closest('#submission'))")
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    assert "s3cret-token" not in page.content()
    assert axe.violations(page) == []
    page.reload()
    expect(page.locator("main")).to_contain_text("$(twice) ‘中文’")
    assert "s3cret-token" not in page.content()
    assert axe.violations(page) == []


def test_wrong_values_come_back_at_their_fields_with_what_was_typed(page: Page, server: Server) -> None:
    open_form(page, server, "widgets")
    page.get_by_label("south").check()
    page.get_by_label("blue").check()
    choose(page, "v-Hosts", "db1")
    page.get_by_label("Reason").fill("because")
    page.get_by_label("Story").fill("two\nlines")
    page.get_by_label("Note").fill("for the night")
    page.get_by_role("button", name="Submit widgets").click()

    expect(page.locator(".field-wrong")).to_have_count(3)
    expect(page.locator("#field-v-Level-error")).to_contain_text("required")
    expect(page.locator("#field-v-Reason-error")).to_contain_text("like OPS-12")
    expect(page.locator("#field-v-Token-error")).to_contain_text("required")
    wait_until(lambda: is_focused(page, "v-Level"))
    assert page.get_by_label("south").is_checked()
    assert page.get_by_label("blue").is_checked()
    assert not page.get_by_label("red").is_checked()
    wait_until(lambda: chosen(page, "v-Hosts") == ["db1"])
    expect(page.get_by_label("Reason")).to_have_value("because")
    expect(page.get_by_label("Story")).to_have_value("two\nlines")
    expect(page.get_by_label("Note")).to_have_value("for the night")
    assert axe.violations(page) == []

    choose(page, "v-Level", "low")
    page.get_by_label("Reason").fill("OPS-1")
    page.locator("input[name=v-Token]").fill("x")
    page.get_by_role("button", name="Submit widgets").click()
    expect(page.locator(".log-end")).to_contain_text("Succeeded")


def test_a_double_click_makes_one_ticket(page: Page, server: Server) -> None:
    before = tickets(server)
    open_form(page, server, "widgets")
    fill_in_widgets(page)
    page.get_by_role("button", name="Submit widgets").dblclick()
    expect(page.locator(".log-end")).to_contain_text("Succeeded")
    assert tickets(server) == before + 1


def test_a_link_fills_in_the_form_but_never_a_secret(page: Page, server: Server) -> None:
    query = "?Where=south&Marks=red&Marks=blue&Hosts=web1&Hosts=db1&Level=high&Reason=OPS-7&Story=a%0Ab&Token=leak"
    open_form(page, server, "widgets", query + "&note=by+link")
    wait_until(lambda: chosen(page, "v-Hosts") == ["web1", "db1"])
    assert chosen(page, "v-Level") == "high"
    assert page.get_by_label("south").is_checked()
    assert page.get_by_label("red").is_checked()
    expect(page.get_by_label("Reason")).to_have_value("OPS-7")
    expect(page.get_by_label("Story")).to_have_value("a\nb")
    expect(page.get_by_label("Note")).to_have_value("by link")
    expect(page.locator("input[name=v-Token]")).to_have_value("")


def test_submit_again_opens_the_form_with_the_same_values(page: Page, server: Server) -> None:
    open_form(page, server, "widgets", "?Where=south&Hosts=web1&Level=high&Reason=OPS-8&note=first+time")
    page.locator("input[name=v-Token]").fill("secret")
    page.get_by_role("button", name="Submit widgets").click()
    expect(page.locator(".log-end")).to_contain_text("Succeeded")
    page.locator("#ticket-summary").get_by_role("link", name="Submit again").click()
    wait_until(lambda: chosen(page, "v-Hosts") == ["web1"])
    assert page.get_by_label("south").is_checked()
    expect(page.get_by_label("Reason")).to_have_value("OPS-8")
    expect(page.locator("input[name=v-Token]")).to_have_value("")


def test_a_chain_of_scripts_reloads_link_by_link(page: Page, server: Server) -> None:
    open_form(page, server, "chained")
    expect(page.locator("#slot-v-City")).to_contain_text("Fill in Country first.")
    expect(page.locator("#slot-v-Street")).to_contain_text("Fill in City first.")
    assert axe.violations(page) == []
    choose(page, "v-Country", "de")
    wait_until(lambda: offered(page, "v-City") == ["de-1", "de-2"])
    choose(page, "v-City", "de-2")
    wait_until(lambda: offered(page, "v-Street") == ["de-2/a", "de-2/b"])
    choose(page, "v-Street", "de-2/a", "de-2/b")

    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.split("/fields/")[-1].split("?")[0]))
    choose(page, "v-Country", "fr")
    wait_until(lambda: offered(page, "v-City") == ["fr-1", "fr-2"])
    expect(page.locator("#slot-v-Street")).to_contain_text("Fill in City first.")
    assert asked == ["City", "Street"]
    choose(page, "v-City", "fr-1")
    wait_until(lambda: offered(page, "v-Street") == ["fr-1/a", "fr-1/b"])
    assert asked == ["City", "Street", "Street"]
    choose(page, "v-Street", "fr-1/b")
    page.get_by_role("button", name="Submit chained").click()
    expect(page.locator(".l > span")).to_have_text(["fr-1 fr-1/b"])


def test_a_chosen_value_that_is_still_offered_stays_and_focus_with_it(page: Page, server: Server) -> None:
    open_form(page, server, "chained", "?Country=de&City=de-2&Street=de-2/b")
    wait_until(lambda: chosen(page, "v-Street") == ["de-2/b"])
    assert chosen(page, "v-Country") == "de"
    assert chosen(page, "v-City") == "de-2"
    control_of(page, "v-City").locator("input").focus()
    page.locator("select[name=v-Country]").dispatch_event("change")
    page.wait_for_timeout(150)
    expect(page.locator("#slot-v-City .htmx-request")).to_have_count(0)
    wait_until(lambda: chosen(page, "v-City") == "de-2")
    wait_until(lambda: is_focused(page, "v-City"))
    assert chosen(page, "v-Street") == ["de-2/b"]


def test_what_depends_on_a_default_that_a_script_offers_waits_for_it(page: Page, server: Server) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/fields/" in request.url else None)
    open_form(page, server, "started")
    page.get_by_label("after-two").check()
    assert [address.split("/fields/")[1].split("?")[0] for address in asked] == ["Start", "Next"]
    choose(page, "v-Start", "one")
    page.get_by_label("after-one").check()
    expect(page.get_by_label("after-two")).to_have_count(0)


def test_a_script_that_fails_is_said_in_its_place_and_can_be_tried_again(
    page: Page, server: Server, flaky: Path
) -> None:
    flaky.unlink(missing_ok=True)
    open_form(page, server, "flaky")
    place = page.locator("#slot-v-Flaky")
    expect(place).to_contain_text("No such file or directory")
    assert axe.violations(page) == []
    page.get_by_role("button", name="Submit flaky").click()
    expect(place.locator(".field-errors")).to_contain_text("could not be loaded")
    expect(place.get_by_role("button", name="Try again")).to_be_focused()
    flaky.write_text("first\nsecond\n")
    place.get_by_role("button", name="Try again").click()
    choose(page, "v-Flaky", "second")
    page.get_by_role("button", name="Submit flaky").click()
    expect(page.locator(".l > span")).to_have_text(["second"])


def test_a_field_that_cannot_be_fetched_says_so_and_can_be_tried_again(
    page: Page, server: Server, flaky: Path, page_problems: list[str]
) -> None:
    flaky.write_text("only\n")
    page.route("**/fields/**", lambda route: route.abort())
    open_form(page, server, "flaky")
    expect(page.locator("#slot-v-Flaky")).to_contain_text("cannot be reached")
    page.unroute("**/fields/**")
    page.get_by_role("button", name="Try again").click()
    choose(page, "v-Flaky", "only")
    assert page_problems
    page_problems.clear()


def test_what_a_script_offers_no_more_is_refused_at_its_field(
    page: Page, server: Server, flaky: Path
) -> None:
    flaky.write_text("old\n")
    open_form(page, server, "flaky")
    choose(page, "v-Flaky", "old")
    flaky.write_text("new\n")
    page.get_by_role("button", name="Submit flaky").click()
    expect(page.locator("#field-v-Flaky-error")).to_be_visible()
    wait_until(lambda: offered(page, "v-Flaky") == ["new"])
    wait_until(lambda: is_focused(page, "v-Flaky"))


def test_stopping_asks_first_naming_it_and_its_environment(page: Page, server: Server) -> None:
    open_form(page, server, "endless")
    page.get_by_role("button", name="Submit endless").click()
    expect(page.locator(".l > span")).to_have_text(["begun"])
    page.get_by_role("button", name="Stop").click()
    dialog = page.locator("dialog[open]")
    expect(dialog).to_contain_text("Stop endless?")
    expect(dialog).to_contain_text("PROD")
    assert page.evaluate("document.activeElement.textContent.trim()") == "Cancel"
    # The summary asks for itself every two seconds: the question stays, and so does the focus.
    page.wait_for_timeout(2600)
    expect(dialog).to_be_visible()
    assert page.evaluate("document.activeElement.textContent.trim()") == "Cancel"
    assert axe.violations(page) == []
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.locator("#ticket-summary .status")).to_have_text("Running")
    page.get_by_role("button", name="Stop").click()
    confirm(page, "Stop")
    expect(page.locator(".log-end")).to_contain_text("Stopped by alice.")
    expect(page.locator("#ticket-summary .status")).to_have_text("Failed")
    expect(page.locator("#ticket-history li")).to_have_count(2)
    expect(page.locator("#ticket-history")).to_contain_text("Failed")
    expect(page.locator("#step-3")).to_contain_text("not run")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(2300)
    assert asked == []


def test_a_failed_pre_task_ends_it_clearly(page: Page, server: Server) -> None:
    open_form(page, server, "refused")
    page.get_by_role("button", name="Submit refused").click()
    expect(page.locator(".log-end")).to_contain_text("The pre task failed")
    expect(page.locator(".log-end")).to_contain_text("exit code 4")
    expect(page.locator("#ticket-summary .status")).to_have_text("Failed")
    expect(page.locator("main")).not_to_contain_text("never")


def test_what_was_typed_when_the_session_ended_is_sent_after_signing_in_beside_it(
    page: Page, server: Server, flaky: Path
) -> None:
    flaky.write_text("kept\n")
    page.context.clear_cookies()  # A session that only this test uses.
    sign_in(page, server, "alice", PASSWORD)
    open_form(page, server, "flaky")
    choose(page, "v-Flaky", "kept")
    page.locator("textarea[name=note]").fill("typed for long")
    let_newest_session_run_out(server)
    page.get_by_role("button", name="Submit flaky").click()
    prompt = page.locator("#session-ended")
    expect(prompt).to_contain_text("what you typed is still there")
    assert axe.violations(page) == []
    with page.expect_popup() as beside:
        prompt.get_by_role("link", name="Sign in").click()
    sign_in(beside.value, server, "alice", PASSWORD)
    beside.value.close()
    page.bring_to_front()
    page.evaluate(
        "document.dispatchEvent(new Event('visibilitychange'))"
    )  # Headless tabs are always visible.
    expect(prompt).to_be_hidden()
    assert chosen(page, "v-Flaky") == "kept"
    page.get_by_role("button", name="Submit flaky").click()
    expect(page.locator(".log-end")).to_contain_text("Succeeded")
    assert server.ticket(int(page.url.rsplit("/", 1)[1]))["note"] == "typed for long"


def test_who_typed_nothing_comes_back_to_the_same_page(page: Page, server: Server, flaky: Path) -> None:
    flaky.write_text("kept\n")
    open_form(page, server, "flaky")
    wait_until(lambda: offered(page, "v-Flaky") == ["kept"])
    address = page.url
    page.context.clear_cookies()
    page.get_by_role("button", name="Submit flaky").click()
    expect(page.locator("#session-ended")).to_contain_text("You will come back to this page.")
    page.locator("#session-ended").get_by_role("link", name="Sign in").click()
    sign_in(page, server, "alice", PASSWORD)
    expect(page).to_have_url(address)


def test_the_session_ends_while_one_watches(page: Page, server: Server) -> None:
    ticket = server.submit("endless")
    try:
        page.context.clear_cookies()
        sign_in(page, server)
        page.goto(f"/tickets/{ticket['id']}?tab=log")
        expect(page.locator(".l > span")).to_have_text(["begun"])
        page.context.clear_cookies()
        page.get_by_role("searchbox").fill("begun")
        expect(page.locator("#session-ended")).to_be_visible()
        page.locator("#session-ended").get_by_role("link", name="Sign in").click()
        sign_in(page, server)
        expect(page).to_have_url(f"{server.url}/tickets/{ticket['id']}?tab=log")
        expect(page.locator(".l > span")).to_have_text(["begun"])
    finally:
        server.call("POST", f"/api/v1/tickets/{ticket['id']}/stop")


def test_without_a_role_one_is_told_whom_to_ask(open_page: Callable[..., Page], server: Server) -> None:
    server.command("user", "create", "mallory", "--password-stdin", input=PASSWORD)
    page = sign_in(open_page(base_url=server.url), server, "mallory", PASSWORD)
    expect(page.locator("main")).to_contain_text("administrator")
    assert axe.violations(page) == []
    for address in ("/workorders", "/tickets", "/audit/tickets", "/config/workorders", "/accounts/users"):
        answer = page.goto(address)
        assert answer is not None
        assert answer.status in (403, 404)
        assert axe.violations(page) == []


def test_a_route_is_never_left_hanging(page: Page, server: Server, page_problems: list[str]) -> None:
    def fail(route: Route) -> None:
        route.fulfill(status=500, body="broken", content_type="text/plain")

    open_form(page, server, "refused")
    page.route("**/submit", fail)
    page.get_by_role("button", name="Submit refused").click()
    expect(page.locator("#toasts")).to_contain_text("500")
    page.unroute("**/submit")
    page.get_by_role("button", name="Submit refused").click()
    expect(page.locator(".log-end")).to_contain_text("The pre task failed")
    page_problems.clear()
