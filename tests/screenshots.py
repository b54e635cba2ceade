"""`make screenshots`: the pictures of the manual, taken from the demo in both languages. CI does not run it.

Each picture is written to docs/images/manual/LANGUAGE/NAME.png, the same names every time.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from tests.browser.going import state_of
from tests.chromium import ARGUMENTS, program
from tests.faults.instances import Person, csrf_token
from tests.server import ROOT, Server

IMAGES = ROOT / "docs" / "images" / "manual"
LANGUAGES = {"en": "en-GB", "zh": "zh-CN"}
SIZE = {"width": 1366, "height": 780}
SLOW = 40  # Seconds that the run takes which is watched.


def main() -> None:
    if not shutil.which("fc-list") or "CJK" not in subprocess.check_output(["fc-list"], text=True):
        sys.exit("Chinese pages need a font with Chinese characters, such as fonts-noto-cjk of Debian.")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        browsers = {language: launch(playwright, folder, locale) for language, locale in LANGUAGES.items()}
        with demo(folder) as (server, passwords):
            tickets = history(server, passwords)
            states = {
                "admin": state_of(browsers["en"], server),
                "alice": state_of(browsers["en"], server, "alice", passwords["alice"]),
                "bob": state_of(browsers["en"], server, "bob", passwords["bob"]),
                "nobody": None,
            }
            tabs = {
                language: {
                    who: tab(browser, server, LANGUAGES[language], state) for who, state in states.items()
                }
                for language, browser in browsers.items()
            }
            for language in LANGUAGES:
                (IMAGES / language).mkdir(parents=True, exist_ok=True)
                still(tabs[language], server, tickets, IMAGES / language)
            # A run that goes on, and is stopped, would stand in the other pictures.
            for language in LANGUAGES:
                live(tabs[language]["alice"], server, IMAGES / language / "live-log.png")
        for browser in browsers.values():
            browser.close()


def launch(playwright: Playwright, folder: Path, locale: str) -> Browser:
    """Return a browser whose fields for dates are of this language too, which no option of a tab changes."""
    prefix = folder / f"renderer-{locale}"
    prefix.write_text(f'#!/bin/bash\nexec "${{@/#--lang=*/--lang={locale}}}"\n')
    prefix.chmod(0o755)
    return playwright.chromium.launch(
        executable_path=program(), args=[*ARGUMENTS, "--no-zygote", f"--renderer-cmd-prefix={prefix}"]
    )


@contextmanager
def demo(folder: Path) -> Iterator[tuple[Server, dict[str, str]]]:
    """Give a server with the demo, and the passwords of its people."""
    server = Server(folder, timezone="Asia/Shanghai").prepare()
    said = server.command("demo")
    passwords = dict(re.findall(r"user (\w+), password (\S+)", said))
    logs = folder / "logs"
    logs.mkdir()
    server.catalog(
        f"categories: [{{name: DeployDocker, log_directory: {logs}}}]\n"
        "work_orders:\n"
        "  - {name: docker-app01, environment: STAGE, category: DeployDocker, active: true, scheduling: true,\n"
        "     submit_groups: [demo-ops],\n"
        "     description: Replaces the container of app01., main_task: \"printf '09:30:%02d INFO container web%d replaced\\\\n'"
        f' 1 1 2 2 4 3 | tee {logs}/app01.{{sk__task_name_created}}"}}\n'
        "environments: [{name: DEV, order: 10}, {name: STAGE, order: 20}, {name: PROD, order: 30}]\n"
        "groups: [{name: demo-ops}, {name: demo-leads}]\n"
    )
    server.start()
    try:
        yield server, passwords
    finally:
        server.stop()


def history(server: Server, passwords: dict[str, str]) -> dict[str, int]:
    """Let something have happened; return the tickets that pictures show."""
    alice = {"Authorization": f"Bearer {server.command('token', 'create', 'alice').strip()}"}
    bob = {"Authorization": f"Bearer {server.command('token', 'create', 'bob').strip()}"}

    def submit(name: str, values: dict[str, Any] | None = None, **more: Any) -> int:
        path = f"/api/v1/workorders/{server.workorder(name)}/tickets"
        answer = server.call("POST", path, {"values": values or {}, **more}, headers=alice)
        assert answer.status == 201, answer.content
        return int(answer.json["id"])

    fields = server.call("GET", f"/api/v1/workorders/{server.workorder('site-stage')}").json["fields"]
    versions = [choice["value"] for choice in next(f for f in fields if f["name"] == "Version")["choices"]]
    site = {"Version": versions[0], "Restart": "graceful"}
    finished = submit("site-stage", site, note="the new opening hours")
    server.wait_for(finished)
    for number in (
        submit("site-prod", site),
        submit("docker-app01"),
        submit("site-stage", {"Version": versions[1], "Restart": "none"}),
        submit("docker-app01"),
    ):
        server.wait_for(number)
    logs = number
    submit("site-stage", site, scheduled_at=(datetime.now(UTC) + timedelta(hours=6)).isoformat())
    rejected = submit("site-release", {"Version": versions[2], "Restart": "full"}, note="back to last week's")
    server.wait_for(rejected, lambda ticket: ticket["status"] == "submitted")
    path = f"/api/v1/tickets/{rejected}/reject"
    assert server.call("POST", path, {"comment": "not on a Friday"}, headers=bob).status == 200
    waits = submit("site-release", site, note="Friday's release, tried in STAGE")
    server.wait_for(waits, lambda ticket: ticket["status"] == "submitted")
    person, address = Person(server), f"/schedules/new?workorder={server.workorder('docker-app01')}"
    form = {
        "csrf_token": csrf_token(person.page(address)),
        "schedule-name": "nightly",
        "schedule-expression": "30 2 * * MON-FRI",
        "schedule-timezone": "Asia/Shanghai",
    }
    assert person.post(address, form).status == 303
    return {"finished": finished, "logs": logs, "waits": waits}


def tab(browser: Browser, server: Server, locale: str, state: Any) -> Page:
    """Return a tab in which one person is signed in, or nobody."""
    return browser.new_context(
        base_url=server.url,
        storage_state=state,
        locale=locale,
        viewport=SIZE,
        timezone_id="Asia/Shanghai",
        reduced_motion="reduce",
    ).new_page()


def still(tabs: dict[str, Page], server: Server, tickets: dict[str, int], folder: Path) -> None:
    """Take every picture of one language on which nothing runs."""
    form = server.workorder("site-stage")
    addresses = {
        "sign-in": ("nobody", "/sign-in"),
        "workorders": ("alice", "/workorders?environment=STAGE"),
        "submit": ("alice", f"/workorders/{form}/submit"),
        "ticket": ("alice", f"/tickets/{tickets['finished']}"),
        "approvals": ("bob", "/approvals"),
        "execute": ("alice", "/tickets/waiting"),
        "history": ("admin", "/audit/tickets"),
        "dashboard": ("admin", "/"),
        "audit-events": ("admin", "/audit/events"),
        "audit-event": ("admin", "/audit/events/12"),
        "config-workorder": ("admin", f"/config/workorders/{form}"),
        "config-variables": ("admin", "/config/variables"),
        "matrix": ("admin", "/accounts/matrix"),
        "notifications": ("bob", "/notifications"),
        "schedules": ("admin", "/schedules"),
        "system": ("admin", "/system"),
        "log-details": ("alice", f"/tickets/{tickets['logs']}/log-details"),
    }
    for name, (who, address) in addresses.items():
        visit(tabs[who], address)
        rename(
            tabs[who],
            {str(server.instance): "/srv/skstack", str(server.instance.parent / "logs"): "/var/log/deploy"},
        )
        tabs[who].screenshot(path=folder / f"{name}.png")


def visit(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.locator("[data-loading], .htmx-request")).to_have_count(0)
    expect(page.locator("select[data-search-select]:not(.tomselected)")).to_have_count(0)


def rename(page: Page, names: dict[str, str]) -> None:
    """Show folders of the demo, which lie in a temporary one, where an installation has them."""
    page.evaluate(
        """names => {
            const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
            while (texts.nextNode())
                for (const [found, shown] of Object.entries(names))
                    texts.currentNode.data = texts.currentNode.data.replaceAll(found, shown);
        }""",
        names,
    )


def live(page: Page, server: Server, path: Path) -> None:
    """Take the picture of a run that goes on."""
    slow = next(
        item["id"]
        for item in server.call("GET", "/api/v1/workorders?limit=200").json["items"]
        if "slow" in item["name"] or "progress" in item["name"]
    )
    page.goto(f"/workorders/{slow}/submit")
    page.locator("[name='v-Seconds']").fill(str(SLOW))
    page.locator("#submission form button[type=submit]").click()
    page.wait_for_url(re.compile(r"/tickets/\d+$"))
    number = page.url.rsplit("/", 1)[1]
    page.goto(f"/tickets/{number}")
    time.sleep(SLOW / 3)
    page.screenshot(path=path)
    server.call("POST", f"/api/v1/tickets/{number}/stop")


if __name__ == "__main__":
    main()
