"""The pages about people in a real browser: usable by everybody, wide and narrow, light and dark."""

from __future__ import annotations

from collections.abc import Iterator

import pyotp
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import axe
from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(180)]

CATALOG = """
groups: [{name: ops, description: on call}, {name: leads}]
roles: [{name: operator, pages: [submit, execute, dashboard]}, {name: auditor, pages: [audit]}]
users: [{username: alice, email: alice@example.org, groups: [ops], roles: [operator]}, {username: bob}]
"""
PATHS = (
    "/me",
    "/me/password",
    "/me/second-factor",
    "/me/tokens",
    "/me/sessions",
    "/accounts/users",
    "/accounts/users?q=nobody+here",
    "/accounts/users/new",
    "/accounts/users/2",
    "/accounts/users/2/password",
    "/accounts/groups",
    "/accounts/groups/new",
    "/accounts/groups/1",
    "/accounts/roles",
    "/accounts/roles/new",
    "/accounts/roles/1",
    "/accounts/matrix",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("people")).prepare()
    server.catalog(CATALOG)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def page(server: Server, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(base_url=server.url, viewport={"width": 1200, "height": 900})
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto("/sign-in")
    sign_in(page, "admin", server.admin_password)
    yield page
    context.close()
    assert [text for text in said if "the server responded with a status of" not in text] == []


def sign_in(page: Page, username: str, password: str, *, leads_to: str = "") -> None:
    page.get_by_label("User name").fill(username)
    page.locator("input[name=password]").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: leads_to in url if leads_to else "/sign-in" not in url)


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (360, "dark")])
def test_every_page_is_usable_by_everybody(page: Page, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto("/me/tokens")
    page.get_by_label("Name", exact=False).first.fill("deploy")
    page.get_by_role("button", name="Create token").click()
    expect(
        page.get_by_text("It is not shown again", exact=False).or_(page.get_by_text("sks_"))
    ).not_to_have_count(0)
    found = {"/me/tokens, with a new one": axe.violations(page)}
    for path in PATHS:
        page.goto(path)
        found[path] = axe.violations(page)
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found[path].append("scrolls sideways")
    page.goto("/accounts/groups/new")
    page.get_by_role("textbox", name="Name").fill("ops")
    page.get_by_role("button", name="Add group").click()
    expect(page.get_by_text("The name ops is already taken.")).to_be_visible()
    found["/accounts/groups/new, refused"] = axe.violations(page)
    assert {path: wrong for path, wrong in found.items() if wrong} == {}


def test_a_person_is_added_and_signs_in(page: Page, server: Server, browser: Browser) -> None:
    page.goto("/accounts/users")
    page.get_by_role("link", name="Add user").click()
    page.get_by_label("User name").fill("dora")
    page.locator("input[name=password]").fill("short")
    page.locator("#groups-ts-control").click()
    page.get_by_role("option", name="ops").click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Add user").click()
    expect(page.get_by_text("A password needs at least 8 characters.")).to_be_visible()
    expect(page.get_by_label("User name")).to_have_value("dora")
    page.locator("input[name=password]").fill("long enough")
    page.get_by_role("button", name="Add user").click()
    expect(page.get_by_text("The user dora was created.")).to_be_visible()
    expect(page.get_by_role("row", name="dora")).to_contain_text("ops")
    other = browser.new_context(base_url=server.url).new_page()
    other.goto("/me")
    sign_in(other, "dora", "long enough")
    expect(other).to_have_url(f"{server.url}/me")
    other.context.close()


def test_a_second_factor_is_set_up_and_asked_for(server: Server, browser: Browser) -> None:
    server.command("user", "set-password", "bob", "--password-stdin", input="bob has a long one")
    context = browser.new_context(base_url=server.url, viewport={"width": 360, "height": 800})
    page = context.new_page()
    page.goto("/me/second-factor")
    sign_in(page, "bob", "bob has a long one")
    page.locator("input[name=password]").fill("bob has a long one")
    page.get_by_role("button", name="Set up").click()
    found = {"the secret": axe.violations(page)}
    expect(page.get_by_role("img", name="QR code")).to_be_visible()
    secret = page.get_by_role("button", name="Copy the key").get_attribute("data-copy") or ""
    page.get_by_role("textbox", name="Code").fill(pyotp.TOTP(secret).now())
    page.get_by_role("button", name="Switch on").click()
    found["recovery codes"] = axe.violations(page)
    code = page.locator(".recovery-codes code").first.inner_text()
    page.get_by_role("link", name="I have kept them").click()
    found["switched on"] = axe.violations(page)
    context.clear_cookies()
    page.goto("/me/tokens")
    sign_in(page, "bob", "bob has a long one", leads_to="/sign-in/code")
    found["the code"] = axe.violations(page)
    page.get_by_role("textbox", name="Code").fill("000000")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("This code is wrong")).to_be_visible()
    page.get_by_role("link", name="Use a recovery code").click()
    page.get_by_role("textbox", name="Code").fill(code)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/me/tokens")
    assert {what: wrong for what, wrong in found.items() if wrong} == {}
    context.close()


def test_a_session_that_ends_in_the_middle_loses_nothing(page: Page, server: Server) -> None:
    page.goto("/me")
    page.get_by_label("Name", exact=False).first.fill("Typed before it ended")
    server.command("user", "set-password", "admin", "--password-stdin", input="another long one")
    server.admin_password = "another long one"
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Your session has ended")).to_be_visible()
    page.get_by_role("button", name="Not now").click()
    expect(page.get_by_label("Name", exact=False).first).to_have_value("Typed before it ended")
