"""What the manual's first page says is so: the lines that `make run` prints, and what alice sees."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page

from tests.browser.going import sign_in
from tests.server import ROOT, Server

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]
LOCALES = {"en": "en-GB", "zh": "zh-CN"}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """Give a server that was prepared as `make run` does, and what that and the server printed."""
    server = Server(tmp_path_factory.mktemp("first"))
    printed = server.command("init") + server.command("demo", "--if-empty")
    server.start()
    yield server, printed + server.log.read_text(encoding="utf-8")
    server.stop()


@pytest.mark.parametrize("language", LOCALES)
def test_what_is_printed_and_seen_is_what_the_manual_says(
    first: tuple[Server, str], language: str, open_page: Callable[..., Page]
) -> None:
    server, printed = first
    text = (ROOT / "docs" / "manual" / language / "getting-started.md").read_text(encoding="utf-8")
    shown = re.search(r"```\n(Created.*?)```", text, re.DOTALL)
    assert shown is not None
    people = [line.removesuffix("…") for line in shown[1].splitlines() if line.startswith("Created")]
    assert [line for line in people if line not in printed] == []
    assert len(people) == printed.count("Created")

    password = printed.split("user alice, password ", 1)[1].split()[0]
    page = open_page(base_url=server.url, locale=LOCALES[language])
    sign_in(page, server, "alice", password)
    sentence = next(line for line in text.splitlines() if "`alice`" in line and "`admin`" not in line)
    named = re.findall(r"\*([^*]+)\*|“([^”]+)”", sentence)
    seen = page.locator("#nav a").all_inner_texts()
    assert [english or chinese for english, chinese in named] == [name.strip() for name in seen]
