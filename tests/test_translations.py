"""Every sentence has its translation, with the same parts in it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po

from skstack.web.text import LANGUAGES

REPOSITORY = Path(__file__).parent.parent
TRANSLATIONS = REPOSITORY / "skstack" / "translations"
PART = re.compile(r"%\(\w+\)[sd]|%%")


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


def test_every_language_is_complete(sentences: Catalog) -> None:
    if not TRANSLATIONS.exists():
        return  # The first catalogue is made by `make translate`.
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
