"""What the manual says of settings is so; every page is there in both languages, and every link leads somewhere."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from skstack.config import ROOT, Settings

PAGE = ROOT / "docs" / "manual" / "en" / "settings.md"


def _default(setting: object) -> str:
    default = setting.default  # type: ignore[attr-defined]
    if default is MISSING:
        return "none"
    if isinstance(default, Path):
        return "`instance` in the checkout"
    if default == "":
        return "empty"
    return f"`{str(default).lower() if isinstance(default, bool) else f'{default:g}' if isinstance(default, float) else default}`"


def settings_table() -> str:
    rows = [
        f"| `SKSTACK_{setting.name.upper()}` | {_default(setting)} | {setting.metadata['help']} |"
        for setting in fields(Settings)
    ]
    return "\n".join(["| setting | default | meaning |", "| --- | --- | --- |", *rows])


def test_the_manual_lists_every_setting_as_it_is() -> None:
    assert settings_table() in PAGE.read_text(encoding="utf-8"), f"put this into {PAGE}:\n{settings_table()}"


CHINESE = {"empty": "空", "none": "无", "`instance` in the checkout": "检出目录中的 `instance`"}
DOCS = ROOT / "docs"
MANUAL = DOCS / "manual"
# The English of these stands elsewhere.
ELSEWHERE = {"operations.md": DOCS / "operations.md"}


def test_the_chinese_page_lists_every_setting_too() -> None:
    page = (MANUAL / "zh" / "settings.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(SKSTACK_\w+)` \| (.+) \| (.+) \|$", page, re.MULTILINE)
    defaults = {f"SKSTACK_{one.name.upper()}": _default(one) for one in fields(Settings)}
    assert {name: default for name, default, _ in rows} == {
        name: CHINESE.get(default, default) for name, default in defaults.items()
    }
    assert all(re.search(r"[\u4e00-\u9fff]", meaning) for *_, meaning in rows)


def shape(page: Path) -> tuple[int, int, int]:
    """Return how many sections, tables and blocks of code a page has."""
    text = page.read_text(encoding="utf-8")
    return (
        len(re.findall(r"^## ", text, re.MULTILINE)),
        len(re.findall(r"^\| --- \|", text, re.MULTILINE)),
        text.count("```") // 2,
    )


def test_every_page_is_there_in_both_languages() -> None:
    english, chinese = ({page.name for page in (MANUAL / name).glob("*.md")} for name in ("en", "zh"))
    assert chinese == english | ELSEWHERE.keys()
    assert len(english) > 15


@pytest.mark.parametrize("name", sorted(page.name for page in (MANUAL / "zh").glob("*.md")))
def test_both_have_the_same_parts_and_lead_to_each_other(name: str) -> None:
    chinese, english = MANUAL / "zh" / name, ELSEWHERE.get(name, MANUAL / "en" / name)
    assert shape(chinese) == shape(english)
    assert f"zh/{name})" in english.read_text(encoding="utf-8")
    assert f"{english.name})" in chinese.read_text(encoding="utf-8").split("##")[0]


def anchors(page: Path) -> set[str]:
    """Return what a page can be entered at, as GitHub names it."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_link_leads_somewhere() -> None:
    broken = []
    for page in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if re.match(r"https?:|mailto:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert broken == []


def test_the_index_has_every_page() -> None:
    index = (MANUAL / "README.md").read_text(encoding="utf-8")
    for page in MANUAL.glob("*/*.md"):
        assert f"({page.parent.name}/{page.name})" in index, page
    assert "(../operations.md)" in index


def test_every_picture_is_shown_and_taken_in_both_languages() -> None:
    taken = {path.relative_to(DOCS) for path in (DOCS / "images").rglob("*.png")}
    shown = {
        (page.parent / link).resolve().relative_to(DOCS)
        for page in [ROOT / "README.md", *DOCS.rglob("*.md")]
        for link in re.findall(r"!\[[^\]]+\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    }
    assert shown == taken
    english, chinese = ({path.name for path in taken if path.parent.name == name} for name in ("en", "zh"))
    assert english == chinese


# What the Chinese manual quotes or slants although no page says it so: file types, stressed words, an example, a word of ours,
# the parts of a schedule, and sentences of pages that have more to them.
NO_LABELS = {"JSON", "CSV", "再次", "所有", "有", "危险", "系统变量", "分", "时", "日", "星期"}
BEGINNINGS = {"与上次执行不同", "提交 hello 到 DEV", "……的主机密钥已改变", "磁盘已满"}


def labels(page: Path) -> set[str]:
    """Return the words that a Chinese page quotes or slants, code apart."""
    text = re.sub(
        r"(?s:```.*?```)|`[^`\n]*`|^ {4}.*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    named = re.findall(r"“([^”\n]+)”|(?<!\*)\*([^*\n|]+)\*(?!\*)", text)
    return {quoted or slanted for quoted, slanted in named}


def test_the_chinese_manual_names_what_pages_name() -> None:
    catalog = ROOT / "skstack" / "translations" / "zh_CN" / "LC_MESSAGES" / "messages.po"
    said = set(re.findall(r'^msgstr(?:\[0\])? "(.+)"$', catalog.read_text(encoding="utf-8"), re.MULTILINE))
    for page in sorted((MANUAL / "zh").glob("*.md")):
        unknown = labels(page) - said - NO_LABELS - BEGINNINGS
        assert unknown == set(), f"{page.name} names these, and no page does"
