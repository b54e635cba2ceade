"""Every sentence has its translation, with the same parts in it, and pages show it."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from zoneinfo import available_timezones

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from flask import Flask
from flask.testing import FlaskClient
from flask_babel import ngettext
from flask_wtf import FlaskForm
from wtforms import IntegerField

from skstack.db import utcnow
from skstack.messages import N_
from skstack.messages import Message as Sentence
from skstack.web.text import LANGUAGES, ago, translate
from tests.factories import root, sign_in

REPOSITORY = Path(__file__).parent.parent
TRANSLATIONS = REPOSITORY / "skstack" / "translations"
PART = re.compile(r"%\(\w+\)[sd]|%%")
CHINESE = {"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.5"}


@pytest.fixture(scope="session")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Give what pages and Python say in English, collected as `make translate` does."""
    collected = tmp_path_factory.mktemp("translations") / "messages.pot"
    subprocess.run(
        [
            *(sys.executable, "-m", "babel.messages.frontend", "-q", "extract", "-F", "pyproject.toml"),
            *("-k", "N_", "-o", collected, "."),
        ],
        cwd=REPOSITORY,
        check=True,
    )
    with collected.open("rb") as file:
        return read_po(file)


def catalog(language: str) -> Catalog:
    with (TRANSLATIONS / language / "LC_MESSAGES" / "messages.po").open("rb") as file:
        return read_po(file, locale=language)


def parts(texts: str | tuple[str, ...] | list[str]) -> list[set[str]]:
    return [set(PART.findall(text)) for text in ([texts] if isinstance(texts, str) else texts)]


def is_translated(message: Message | None) -> bool:
    if message is None or message.fuzzy:
        return False
    return bool(message.string) and all(
        [message.string] if isinstance(message.string, str) else message.string
    )


def test_sentences_are_found_in_python_and_in_pages(sentences: Catalog) -> None:
    assert sentences["There is nothing here that you may see."] is not None
    assert len(sentences) > 300


def test_a_sentence_with_parts_takes_them_in_every_language() -> None:
    """A bare % in such a sentence ends the page that says it."""
    for language in set(LANGUAGES) - {"en"}:
        for message in catalog(language):
            texts = [message.id, message.string]
            for text in (one for each in texts for one in ([each] if isinstance(each, str) else each)):
                if "%(" in text:
                    assert "%(" not in text % dict.fromkeys(re.findall(r"%\((\w+)\)", text), 1)


def test_every_language_is_complete(sentences: Catalog) -> None:
    for language in set(LANGUAGES) - {"en"}:
        translated = catalog(language)
        missing = [
            str(m.id) for m in sentences if m.id and not is_translated(translated.get(m.id, m.context))
        ]
        assert missing == [], f"{language}: run `make translate` and translate these"


def test_a_translation_has_the_parts_of_its_sentence() -> None:
    wrong = [
        f"{file.parent.parent.name}: {message.id}"
        for file in TRANSLATIONS.glob("*/LC_MESSAGES/messages.po")
        for message in catalog(file.parent.parent.name)
        if message.id and is_translated(message)
        # A plural form may say its number in words; a language without plurals has one form for all.
        if not all(said <= set().union(*parts(message.id)) for said in parts(message.string))
        or (isinstance(message.id, str) and parts(message.id) != parts(message.string))
    ]
    assert wrong == []


def test_what_is_compiled_is_what_is_written() -> None:
    """The compiled catalogues are committed, and only `make translate` makes them."""
    for language in set(LANGUAGES) - {"en"}:
        with (TRANSLATIONS / language / "LC_MESSAGES" / "messages.mo").open("rb") as file:
            compiled = read_mo(file)
        assert _texts(compiled) == _texts(catalog(language)), f"{language}: run `make translate`"


def _texts(found: Catalog) -> dict[str, str]:
    return {_first(message.id): _first(message.string) for message in found if message.id}


def _first(texts: str | tuple[str, ...] | list[str]) -> str:
    return texts if isinstance(texts, str) else texts[0]


def test_chinese_has_no_half_width_signs_between_its_characters() -> None:
    wrong = [
        message.string
        for message in catalog("zh_CN")
        if message.id
        and (
            re.search(r"[\u4e00-\u9fff] ?[,;:?!](?:\s|$)|[\u4e00-\u9fff]\.(?:\s|$)", _first(message.string))
            or re.search(
                r"[\u4e00-\u9fff](?:[A-Za-z0-9]|%\()|(?:[A-Za-z0-9]|\)s)[\u4e00-\u9fff]",
                _first(message.string),
            )
        )
        and not re.match(r"l[123]审核", _first(message.string))
    ]
    assert wrong == []


def test_messages_are_translated_where_they_are_shown_also_when_they_were_stored(app: Flask) -> None:
    stored = N_("Ticket %(id)s is %(status)s now.", id=7, status=N_("Running")).to_json()
    with app.test_request_context(headers=CHINESE):
        assert translate(Sentence.from_json(stored)) == "提单 7 当前状态为“执行中”。"
        assert ago(utcnow() - dt.timedelta(minutes=3)) == "3分钟前"
    with app.test_request_context(headers={"Accept-Language": "en"}):
        assert translate(Sentence.from_json(stored)) == "Ticket 7 is Running now."


def test_plurals_need_no_second_form(app: Flask) -> None:
    with app.test_request_context(headers=CHINESE):
        assert [ngettext("%(num)s line", "%(num)s lines", count) for count in (1, 2)] == ["1 行", "2 行"]


def test_what_wtforms_says_is_chinese_too(app: Flask) -> None:
    class Form(FlaskForm):
        number = IntegerField()

    with app.test_request_context(method="POST", data={"number": "x"}, headers=CHINESE):
        form = Form(meta={"csrf": False})
        assert not form.validate()
        assert form.number.errors == ["不是有效的整数。"]


FRAGMENTS = {"/schedules/times", "/audit/events/state", "/system/state"}


def test_no_page_keeps_english_in_chinese(app: Flask, client: FlaskClient) -> None:
    """Text without a Chinese character must be a name; what is inside of a translated sentence is not looked at."""
    with app.app_context():
        sign_in(client, root())
    names = {"skstack", "English", "root", "root ·", "CSV", "JSON", "Python", *available_timezones()}
    names |= {"{sk__name}", "{sk__env}", "{sk__task_name_created}"}
    left = {}
    pages = [
        rule.rule
        for rule in app.url_map.iter_rules()
        if "GET" in (rule.methods or ())
        and not rule.arguments
        and not rule.rule.startswith(("/api", "/healthz", "/readyz", "/metrics"))
    ]
    assert len(pages) > 20
    for page in [*pages, "/nothing/here", "/tickets?q=nothing"]:
        answer = client.get(page, headers=CHINESE, follow_redirects=True)
        assert 'lang="zh-CN"' in answer.text or page in FRAGMENTS, page
        texts = Texts(answer.text).found - names
        if english := {
            text
            for text in texts
            if re.search(r"[A-Za-z]{2}", text)
            and not re.search(r"[\u4e00-\u9fff]", text)
            and not re.fullmatch(r"SQLite [\d.]+ · [\d.]+ [KM]iB", text)
        }:
            left[page] = english
    assert left == {}


class Texts(HTMLParser):
    """Collects what people see or hear of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self._hidden = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in ("script", "style")
        for name, value in attrs:
            if name in ("aria-label", "title", "placeholder", "alt") and value:
                self.found.add(value.strip())

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if data.strip() and not self._hidden:
            self.found.add(" ".join(data.split()))
