"""The row of character cells that a line leaves behind when the cursor moves in it."""

from __future__ import annotations

import re
import unicodedata
from html import escape
from itertools import groupby

from skstack.runs.sgr import PLAIN, Style, number, span

MAX_COLUMNS = 10_000
_TAB = 8
_ZERO_WIDTH = frozenset({"Mn", "Me", "Cf"})


class Cells:
    """The row of character cells that a line leaves behind; a wide character holds two, the second empty.

    `hidden` counts the bytes that stand behind the last column shown.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.styles: list[Style] = []
        self.column = 0
        self.hidden = 0
        self._beyond = 0

    def write(self, text: str, style: Style) -> None:
        """Put text where the cursor is, over what is there."""
        if text.isascii() and "\t" not in text:
            self._put(list(text), style)
            return
        for character in text:
            if character == "\t":
                self.column = min(MAX_COLUMNS, (self.column // _TAB + 1) * _TAB)
                if self.column > len(self.texts):
                    self._put([], style)
            elif character.isascii():
                self._put([character], style)
            elif unicodedata.category(character) in _ZERO_WIDTH:
                if 0 < self.column <= len(self.texts) and len(self.texts[self.column - 1]) < 16:
                    self.texts[self.column - 1] += character
            elif unicodedata.east_asian_width(character) in "WF":
                self._put([character, ""], style)
            else:
                self._put([character], style)

    def _put(self, cells: list[str], style: Style) -> None:
        room = MAX_COLUMNS - self.column
        if len(cells) > room:
            self._beyond += size("".join(cells[max(0, room) :]))
            self.hidden = max(self.hidden, self._beyond)
            cells = cells[: max(0, room)]
        if self.column > len(self.texts):
            gap = self.column - len(self.texts)
            self.texts += " " * gap
            self.styles += [PLAIN] * gap
        end = self.column + len(cells)
        if cells and self.column < len(self.texts):
            self._split_wide(self.column)
            self._split_wide(end)
        self.texts[self.column : end] = cells
        self.styles[self.column : end] = [style] * len(cells)
        self.column = end

    def _split_wide(self, column: int) -> None:
        """Blank the wide character that a write at this column cuts in two."""
        if 0 < column < len(self.texts) and self.texts[column] == "":
            self.texts[column - 1] = self.texts[column] = " "

    def move(self, sequence: re.Match[str]) -> None:
        """Do what a control or an escape does to the cursor, or to what is left of the line."""
        code = sequence[0]
        if code == "\r":
            self.column = self._beyond = 0
        elif code == "\b":
            self.column = max(0, self.column - 1)
        elif code[1:2] == "[" and sequence[2] == "":
            final, parameter = sequence[3], sequence[1]
            if final == "C":
                self.column = min(MAX_COLUMNS, self.column + max(1, number(parameter)))
            elif final == "D":
                self.column = max(0, self.column - max(1, number(parameter)))
            elif final and final in "G`":
                self.column = min(MAX_COLUMNS, max(1, number(parameter)) - 1)
            elif final == "K":
                self._erase(number(parameter))

    def _erase(self, what: int) -> None:
        self._split_wide(self.column)
        if what == 0:
            del self.texts[self.column :], self.styles[self.column :]
        elif what == 1:
            end = min(self.column + 1, len(self.texts))
            self._split_wide(end)
            self.texts[:end] = " " * end
            self.styles[:end] = [PLAIN] * end
        elif what == 2:
            del self.texts[:], self.styles[:]
            self.hidden = self._beyond = 0

    def html(self) -> str:
        """Return the row as HTML, without the blanks at its end."""
        end = len(self.texts)
        while end and self.texts[end - 1] == " " and self.styles[end - 1] == PLAIN:
            end -= 1
        html = []
        position = 0
        for style, run in groupby(self.styles[:end]):
            length = len(list(run))
            html.append(span(escape("".join(self.texts[position : position + length]), quote=False), style))
            position += length
        return "".join(html)


def size(text: str) -> int:
    """Return the bytes of a text."""
    return len(text.encode("utf-8", "replace")) if text else 0
