"""What every test of the pages does: sign in, choose in a searchable select, wait until something holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect

from tests.server import Server


def sign_in(page: Page, server: Server, user: str = "admin", password: str = "") -> Page:
    """Sign in on the page of that name, going there first unless the page is one already."""
    if "/sign-in" not in page.url:
        page.goto(f"{server.url}/sign-in")
    page.locator("input[name=username]").fill(user)
    page.locator("input[name=password]").fill(password or server.admin_password)
    page.locator("main form button[type=submit]").click()
    page.wait_for_url(lambda address: "/sign-in" not in address)
    return page


def state_of(browser: Browser, server: Server, user: str = "admin", password: str = "") -> Any:
    """Sign in once, and return what makes further tabs signed in: `open_page(storage_state=…)`."""
    context = browser.new_context(base_url=server.url)
    sign_in(context.new_page(), server, user, password)
    state = context.storage_state()
    context.close()
    return state


def choose(page: Page, name: str, *texts: str) -> None:
    """Choose in a searchable select by typing, as people do."""
    control = control_of(page, name)
    for text in texts:
        control.locator("input").fill(text)
        page.locator(".ts-dropdown:visible .option", has_text=text).first.click()
    page.keyboard.press("Escape")


def control_of(page: Page, name: str) -> Locator:
    """Return the searchable field that stands for the select of that name, once it is there."""
    return page.locator(f"select[name='{name}'].tomselected + .ts-wrapper .ts-control")


def chosen(page: Page, name: str) -> Any:
    """Return the value of a select: the select behind the searchable field tells."""
    return page.locator(f"select[name='{name}']").evaluate(
        "select => select.multiple ? [...select.selectedOptions].map(option => option.value) : select.value"
    )


def offered(page: Page, name: str) -> list[str]:
    """Return the values that a select offers now."""
    found = page.locator(f"select[name='{name}']").evaluate(
        "select => Object.keys(select.tomselect?.options ?? {})"
    )
    return sorted(found)


def confirm(page: Page, button: str) -> None:
    """Press the button that does it in the dialog that asks."""
    dialog = page.locator("dialog[open]")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name=button, exact=True).click()


def is_focused(page: Page, name: str) -> bool:
    """Say whether the focus is in the field of that name, whatever the widget is made of."""
    return bool(
        page.evaluate(
            "name => Boolean(document.activeElement.closest('.field')?.querySelector(`[name='${name}']`))",
            name,
        )
    )


def wait_until(condition: Callable[[], Any], within: float = 10) -> None:
    """Wait for something that is no locator's business."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)
