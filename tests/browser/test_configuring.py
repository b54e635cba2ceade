"""From an empty database to a ticket that succeeded, as the first administrator: by the pages alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import axe
from tests.browser.going import choose, confirm, sign_in, state_of
from tests.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("configuring")).prepare()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def root(browser: Browser, server: Server) -> Any:
    """Give the cookies of the administrator, who is signed in."""
    return state_of(browser, server)


@pytest.fixture
def page(open_page: Callable[..., Page], server: Server, root: Any) -> Page:
    """Give the administrator's tab."""
    return open_page(base_url=server.url, storage_state=root)


def put(page: Page, **values: Any) -> None:
    """Fill in fields by name: texts, ticks, plain selects, and searchable ones."""
    for name, value in values.items():
        field = page.locator(f"#form [name='{name}']")
        if value is True:
            field.check()
        elif field.first.get_attribute("type") == "radio":
            page.locator(f"#form [name='{name}'][value='{value}']").check()
        elif field.evaluate("field => field.matches('[data-search-select]')"):
            choose(page, name, value)
        elif field.evaluate("field => field.matches('select')"):
            field.select_option(label=value)
        else:
            field.fill(str(value))


def save(page: Page) -> None:
    page.locator("#form .form-actions button[type=submit]").click()
    expect(page.locator("#notices")).not_to_be_empty()
    expect(page.locator(".field-wrong")).to_have_count(0)


def add(page: Page, button: str, **values: Any) -> None:
    """Follow the button of the list that is open, fill in, save."""
    page.locator("main").get_by_role("link", name=button).first.click()
    put(page, **values)
    save(page)


def test_from_nothing_to_a_ticket_that_succeeded(page: Page, server: Server) -> None:
    page.goto("/workorders")
    page.get_by_role("link", name="Configure work orders").click()
    expect(page.locator("main")).to_contain_text("There is no environment yet")
    add(page, "Add environment", name="STAGE", order=10, description="before production")
    page.goto("/config/categories")
    add(page, "Add category", name="DeployGit")
    page.goto("/accounts/groups")
    page.locator("main").get_by_role("link", name="Add group").first.click()
    page.get_by_label("Name").fill("ops")
    page.locator("main form button[type=submit]").first.click()
    page.wait_for_url(re.compile(r"/accounts/groups(/\d+)?$"))

    variables: dict[str, dict[str, Any]] = {
        "Version": {
            "source": "script",
            "widget": "select",
            "script": "printf '%s\\n' 1.0 2.0",
            "required": True,
        },
        "Zone": {"source": "list", "widget": "radio", "choices": "north\nsouth", "default": "north"},
        "Hosts": {"source": "list", "widget": "multi-select", "choices": "web1\nweb2"},
        "Checks": {"source": "list", "widget": "checkboxes", "choices": "disk\nload"},
        "Change": {"source": "input", "widget": "one line", "pattern": "[A-Z]+-[0-9]+", "required": True},
        "Story": {"source": "input", "widget": "several lines"},
        "Pin": {"source": "input", "widget": "one line", "secret": True},
    }
    for name, values in variables.items():
        page.goto("/config/variables/new")
        widget = values.pop("widget")
        label = page.locator("#form [name=widget] option", has_text=re.compile(f"^{widget}", re.IGNORECASE))
        put(page, name=name, source=values.pop("source"), widget=label.first.inner_text().strip(), **values)
        save(page)
    page.goto("/config/variables")
    expect(page.locator("tbody tr")).to_have_count(7)

    page.goto("/config/variable-groups")
    page.locator("main").get_by_role("link", name="Add variable group").first.click()
    put(page, name="deploy")
    for number, name in enumerate(variables, start=1):
        choose(page, "add", name)
        page.get_by_role("button", name="Add it").click()
        expect(page.locator(".arranged-row")).to_have_count(number)
    page.get_by_role("button", name="Move Story up").click()
    expect(page.locator(".arranged-name").nth(4)).to_contain_text("Story")
    save(page)

    page.goto("/config/workorders")
    page.locator("main").get_by_role("link", name="Add work order").first.click()
    put(
        page,
        name="deploy-stage",
        description="Brings a version out.",
        environment="STAGE",
        category="DeployGit",
        submit_groups="ops",
        variable_group="deploy",
        builtin_variables='{"project": "app01"}',
        pre_task="echo preparing {project}",
        main_task="echo {Version} to {sk__env}\neval {Change}",
        post_task="echo {Nowhere}",
    )
    preview = page.locator("#preview")
    expect(preview).to_contain_text("echo preparing")
    expect(preview).to_contain_text("Line 2, column 1")
    expect(preview).to_contain_text("Line 1, column 6")
    expect(preview.locator("mark")).to_have_text(["eval", "{Nowhere}"])
    assert axe.violations(page) == []
    page.locator("#form .form-actions button[type=submit]").click()
    expect(page.locator(".field-wrong")).to_have_count(2)
    expect(page.locator("#main_task-error")).to_contain_text("Line 2, column 1")
    expect(page.locator("[name=main_task]")).to_be_focused()
    expect(page.locator("[name=main_task]")).to_have_value("echo {Version} to {sk__env}\neval {Change}")
    assert axe.violations(page) == []
    put(
        page,
        main_task="echo {Version} to {sk__env}: {Change} {Zone} {Hosts} {Checks} {Story}",
        post_task="echo over",
    )
    expect(preview.locator("mark")).to_have_count(0)
    save(page)

    expect(page.locator(".page-lead")).to_contain_text("not active")
    page.get_by_role("button", name="Activate").click()
    expect(page.locator("dialog[open]")).to_contain_text("STAGE")
    confirm(page, "Activate")
    expect(page.locator("#notices")).to_contain_text("deploy-stage is active")

    page.goto("/workorders")
    page.get_by_role("link", name="Submit deploy-stage").click()
    choose(page, "v-Version", "2.0")
    choose(page, "v-Hosts", "web1", "web2")
    page.get_by_label("disk").check()
    page.get_by_label("Change").fill("OPS-1")
    page.get_by_label("Story").fill("a 'story'")
    page.locator("input[name=v-Pin]").fill("1234")
    page.get_by_role("button", name="Submit deploy-stage to STAGE").click()
    expect(page.locator(".log-end")).to_contain_text("Succeeded")
    assert page.locator(".l > span").all_inner_texts() == [
        "preparing app01",
        "2.0 to stage: OPS-1 north web1,web2 disk a 'story'",
        "over",
    ]


def test_what_is_in_use_is_not_deleted_and_says_why(page: Page, server: Server) -> None:
    server.catalog(
        "environments: [{name: USED, order: 1}]\n"
        "work_orders: [{name: uses-it, environment: USED, main_task: echo}]\n"
    )
    page.goto("/config/environments")
    page.get_by_role("link", name="USED").click()
    page.get_by_role("button", name="Delete").click()
    confirm(page, "Delete")
    expect(page.locator("main")).to_contain_text("uses-it")
    expect(page.locator("h1")).to_have_text("USED")
    assert axe.violations(page) == []


def test_who_was_slower_sees_what_the_other_stored(
    page: Page, open_page: Callable[..., Page], server: Server, root: Any
) -> None:
    server.catalog("environments: [{name: SHARED, order: 5, description: first}]\n")
    page.goto("/config/environments")
    page.get_by_role("link", name="SHARED").click()
    other = open_page(base_url=server.url, storage_state=root)
    other.goto(page.url)
    put(other, description="theirs")
    save(other)
    put(page, description="mine")
    page.locator("#form .form-actions button[type=submit]").click()
    expect(page.locator("#form [role=alert]")).to_contain_text("theirs")
    expect(page.locator("[name=description]")).to_have_value("mine")
    assert axe.violations(page) == []
    save(page)
    other.reload()
    expect(other.locator("[name=description]")).to_have_value("mine")


def test_columns_are_hidden_at_once_and_stay_hidden(page: Page) -> None:
    page.goto("/audit/events")
    cells = page.locator("[data-col=who]")
    expect(cells.first).to_be_visible()
    page.get_by_role("button", name="Columns").click()
    with page.expect_response("**/me/columns/**") as saved:
        page.get_by_role("checkbox", name="Who", exact=True).uncheck()
    assert saved.value.status == 204
    expect(cells.first).to_be_hidden()
    assert axe.violations(page) == []
    page.reload()
    expect(page.locator("[data-col=id]").first).to_be_visible()
    expect(cells.first).to_be_hidden()
    page.get_by_role("button", name="Columns").click()
    page.get_by_role("button", name="As at first").click()
    expect(cells.first).to_be_visible()


def test_one_signs_in_and_out(open_page: Callable[..., Page], server: Server) -> None:
    page = open_page(base_url=server.url)
    page.goto("/config/workorders?q=deploy")
    expect(page.get_by_label("User name")).to_be_focused()
    page.get_by_label("User name").fill("admin")
    page.locator("input[name=password]").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("[role=alert]")).to_be_visible()
    expect(page.get_by_label("User name")).to_have_value("admin")
    assert axe.violations(page) == []
    sign_in(page, server)
    assert page.url.endswith("/config/workorders?q=deploy")
    page.get_by_role("button", name="Account: admin").click()
    assert axe.violations(page) == []
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in**")
    page.goto("/tickets")
    assert "/sign-in" in page.url


def test_language_and_appearance_are_chosen_and_kept(
    open_page: Callable[..., Page], server: Server, root: Any
) -> None:
    page = open_page(base_url=server.url, storage_state=root)
    page.goto("/tickets")
    page.get_by_role("button", name="Account: admin").click()
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    page.get_by_role("button", name="Account: admin").click()
    page.get_by_role("button", name="中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    assert page.url.endswith("/tickets")
    page.locator(".user-button").click()
    page.get_by_role("button", name="English").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")
