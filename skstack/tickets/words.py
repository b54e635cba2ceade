"""What a text is found by: its words, and the same for what somebody types to find it. Nothing here knows a database.

Letters, digits and marks make words, everything else stands between them. Scripts that have no spaces between words
give each two characters that follow one another instead, and the last one alone: any part of a sentence is then a
row of such pairs. Emoji and the like are taken as such characters too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

# A longer word is cut, in texts and in what is typed alike: it is then found by its beginning.
LONGEST = 64
# How many words of one text can be found. A ticket's values may have a megabyte; people type what stands at its beginning.
MOST = 8000
# Long words with many numbers in them are keys and checksums, whose parts nobody looks for.
_LONGEST_WITH_PARTS, _MOST_PARTS = 32, 4

# Thai to Khmer; radicals, kana, Chinese; Hangul; symbols and emoji; rarer Chinese.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
    "\u2190-\u2bff\U0001f000-\U0001faff\U00020000-\U0003ffff"
)
_ASCII_WORD = re.compile("[0-9A-Za-z]+")
_RUN = re.compile(f"[{UNSPACED}]+|[^{UNSPACED} ]+")
_IS_UNSPACED = re.compile(f"[{UNSPACED}]")
_PART = re.compile(r"(?<=[^\W\d])(?=\d)|(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Phrase:
    """What is typed without a space in between: words that follow one another, the last one perhaps only begun."""

    words: tuple[str, ...]
    begun: bool


def words(text: str) -> list[str]:
    """Return the words of a text in their order."""
    found: list[str] = []
    for run in _runs(text):
        found.extend(_pairs(run) if _is_unspaced(run) else [_folded(run)])
        if len(found) >= MOST:
            return found[:MOST]
    return found


def parts(text: str) -> set[str]:
    """Return what else the words of a text are found by: `app01` by `01`, and `DeployGit` by `git`."""
    found: set[str] = set()
    for run in _runs(text[: MOST * LONGEST]):
        if len(run) <= _LONGEST_WITH_PARTS and not _is_unspaced(run):
            places = [place.start() for place in _PART.finditer(run)]
            found.update(_folded(run[place:]) for place in places[:_MOST_PARTS])
    return found


def phrases(typed: str) -> list[Phrase]:
    """Return what a text must have to be found by what somebody typed: all of these; it is found by nothing if there are none.

    A last word is taken as one that may go on, so that it is found while it is typed. One letter alone is not: that
    would find half of everything.
    """
    found: dict[Phrase, None] = {}
    for chunk in _normal(typed).split():
        wanted: list[str] = []
        *before, last = _runs(chunk) or [""]
        for run in before:
            wanted.extend(_pairs(run) if _is_unspaced(run) else [_folded(run)])
        if not last:
            continue
        if _is_unspaced(last):
            # The sentence may go on after what was typed.
            wanted.extend(_pairs(last)[:-1] or [last])
            begun = len(last) == 1
        else:
            wanted.append(_folded(last))
            begun = len(wanted[-1]) > 1
        found[Phrase(tuple(wanted), begun)] = None
    return list(found)


def _normal(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def _runs(text: str) -> list[str]:
    """Split a text into words, and rows of characters that have no spaces between them."""
    if text.isascii():
        return _ASCII_WORD.findall(text)
    return _RUN.findall("".join(_kept(_normal(text))))


def _kept(text: str) -> Iterator[str]:
    for character in text:
        category = unicodedata.category(character)
        yield character if category[0] in "LMN" or category == "So" else " "


def _is_unspaced(run: str) -> bool:
    return _IS_UNSPACED.match(run) is not None


def _pairs(run: str) -> list[str]:
    return [run[place : place + 2] for place in range(len(run))]


def _folded(word: str) -> str:
    return word[:LONGEST].casefold()
