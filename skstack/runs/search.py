"""Search a whole output: a plain text in its raw bytes, however large, in bounded memory.

What is found is what was printed, escapes left out: a word that changes its colour in the middle is found,
and so is one that a progress bar has overwritten since. The case of letters counts only on request.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from skstack.runs.output import Output, StepOutput
from skstack.runs.terminal import plain

MAX_MATCHES = 1000
_PIECE = 1 << 20
_AROUND = 100
_LONGEST_ESCAPES = 1024
_ESCAPE = re.compile(
    rb"\x1b\[[0-?]*[ -/]*[@-~]"
    rb"|\x1b[\]Pp][^\x07\x1b\n]*(?:\x07|\x1b\\)"
    rb"|\x1b[ -/]*[0-OQ-Z\\^-~]"
)
_CONTINUATION = bytes(range(0x80, 0xC0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A line that holds the text, with what stands `before` and `after` its first occurrence."""

    step: int
    line: int
    offset: int
    before: str
    text: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """The lines found, in order. `more` says that there are further ones, from the offset `next` on."""

    found: tuple[Match, ...]
    more: bool
    next: int


def search(
    output: Output, text: str, *, start: int = 0, limit: int = MAX_MATCHES, match_case: bool = False
) -> Matches:
    """Find the lines that hold `text`, from the offset `start` on. An empty text is in no line."""
    needle = text.split("\n", 1)[0].rstrip("\r")
    if not needle:
        return Matches(found=(), more=False, next=output.size)
    found: list[Match] = []
    for begin, end in _occurrences(output, needle, start, match_case):
        if len(found) == limit:
            return Matches(found=tuple(found), more=True, next=begin)
        located = output.line_at(begin)
        if located is not None:
            found.append(_match(output, *located, begin, end))
    return Matches(found=tuple(found), more=False, next=output.size)


def _occurrences(output: Output, needle: str, start: int, match_case: bool) -> Iterator[tuple[int, int]]:
    """Yield the first occurrence in each line, as offsets."""
    finder = _Finder(needle, match_case)
    boundaries = [step.start for step in output.steps[1:]] + [output.size]
    position, skip = start, False
    while position < output.size:
        boundary = next(offset for offset in boundaries if offset > position)
        piece = output.read(position, min(_PIECE, boundary - position))
        if not piece:
            return
        finder.take(piece)
        at = 0
        if skip:
            at, skip = _next_line(piece, 0)
        while at < len(piece) and (hit := finder.find(at)) is not None:
            yield position + hit[0], position + hit[1]
            at, skip = _next_line(piece, hit[1])
        if position + len(piece) >= boundary:
            position, skip = boundary, False  # A step always begins a new line.
        else:
            # A text may stand across two pieces, so the end of this one is looked at again.
            position += max(at, 1, len(piece) - finder.overlap)


def _next_line(piece: bytes, at: int) -> tuple[int, bool]:
    """Return where the next line starts, and whether this one goes on behind the piece."""
    newline = piece.find(b"\n", at)
    return (newline + 1, False) if newline >= 0 else (len(piece), True)


def _match(output: Output, step: StepOutput, line: int, begin: int, end: int) -> Match:
    wide = 4 * _AROUND
    from_, to = max(step.start, begin - wide), min(step.end, end + wide)
    around = output.read(from_, to - from_)
    head, hit, tail = around[: begin - from_], around[begin - from_ : end - from_], around[end - from_ :]
    return Match(
        step=step.position,
        line=line,
        offset=begin,
        before=plain(head.rpartition(b"\n")[2].lstrip(_CONTINUATION))[-_AROUND:],
        text=plain(hit),
        after=plain(tail.partition(b"\n")[0])[:_AROUND],
    )


class _Finder:
    """Finds a text in bytes, also where escapes stand between its characters."""

    def __init__(self, needle: str, match_case: bool) -> None:
        self._fold = not match_case
        forms = [_forms(character, match_case) for character in needle]
        characters = [b"(?:" + b"|".join(map(re.escape, form)) + b")" for form in forms]
        self._literal = b"".join(form[0] for form in forms) if max(map(len, forms)) == 1 else None
        self._pattern = re.compile(b"".join(characters))
        self._pattern_across = re.compile((b"(?:" + _ESCAPE.pattern + b")*").join(characters))
        self._longest = 4 * len(needle)
        self._piece = b""
        self._escaped = False

    def take(self, piece: bytes) -> None:
        """Search in this piece from now on."""
        self._piece = piece.lower() if self._fold else piece
        self._escaped = b"\x1b" in piece

    @property
    def overlap(self) -> int:
        """Return how many bytes at the end of the piece must be searched again with what follows."""
        return self._longest + (_LONGEST_ESCAPES if self._escaped else 0)

    def find(self, start: int) -> tuple[int, int] | None:
        """Return where the text begins and ends, at or behind `start`."""
        if self._literal is not None and not self._escaped:
            at = self._piece.find(self._literal, start)
            return (at, at + len(self._literal)) if at >= 0 else None
        if not self._escaped:
            match = self._pattern.search(self._piece, start)
            return match.span() if match else None
        while (match := self._pattern_across.search(self._piece, start)) is not None:
            escape = self._piece.rfind(b"\x1b", max(0, match.start() - _LONGEST_ESCAPES), match.start())
            around = _ESCAPE.match(self._piece, escape) if escape >= 0 else None
            if around is None or around.end() <= match.start():
                return match.span()
            start = around.end()  # What was found is a part of an escape.
        return None


def _forms(character: str, match_case: bool) -> list[bytes]:
    """Return how a character may stand in the bytes; ASCII ones there have been folded already."""
    if match_case:
        return [character.encode("utf-8", "replace")]
    if character.isascii():
        return [character.lower().encode()]
    forms = {form for form in (character, character.lower(), character.upper()) if len(form) == 1}
    return sorted(form.encode("utf-8", "replace").lower() for form in forms)
