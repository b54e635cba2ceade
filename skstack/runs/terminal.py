"""Turn what a command printed into safe HTML, line by line, as a terminal would have left each line.

Only colours and attributes outlive a line, so a `Style` is the whole state between two fragments. Nothing
is ever cut inside a line: a caller renders from the start of a line, and an unfinished last line is rendered
anew when it has grown. What the end of the bytes cuts off (half a character, half an escape) is held back.

Colours become class names, because the Content-Security-Policy allows no inline style; true colour becomes
the nearest of the 256 (`colours.py`).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape

from skstack.runs.cells import MAX_COLUMNS, Cells, size
from skstack.runs.sgr import PLAIN, Style, apply, span


@dataclass(slots=True)
class Rendered:
    """Rendered lines, the bytes left out of each (only where some were), and the style after them."""

    lines: list[str]
    style: Style
    omitted: dict[int, int] = field(default_factory=dict)


def render(raw: bytes, style: Style = PLAIN, *, complete: bool = True) -> Rendered:
    """Render lines as HTML without a line break.

    `raw` begins at the start of a line. `complete` says that nothing will be added to its last line, so
    that what is cut off at its end is shown as broken (U+FFFD) rather than held back.
    Each line shows at most `MAX_COLUMNS` columns.
    """
    if b"\r\n" in raw:
        raw = raw.replace(b"\r\n", b"\n")
    if complete and raw.endswith(b"\n"):
        raw = raw[:-1]
    text = codecs.utf_8_decode(raw, "replace", complete)[0]
    rows = text.split("\n")
    if _is_plain(raw, text) and max(map(len, rows)) <= MAX_COLUMNS:
        rows = escape(text, quote=False).split("\n")
        if style != PLAIN:
            rows = [span(row, style) for row in rows]
        return Rendered(rows, style)

    rendered = Rendered([], style)
    for number, row in enumerate(rows):
        html, rendered.style, hidden = _render_row(row, rendered.style)
        rendered.lines.append(html)
        if hidden:
            rendered.omitted[number] = hidden
    return rendered


def style_after(raw: bytes, style: Style = PLAIN) -> Style:
    """Return the style that holds after these bytes: used to find the colour in the middle of an output."""
    start = max(raw.rfind(b"\x1b[0m"), raw.rfind(b"\x1b[m"))
    if start >= 0:
        raw, style = raw[start:], PLAIN
    if b"\x1b[" not in raw:
        return style
    for match in _SGR_BYTES.finditer(raw):
        style = apply(style, match[1].decode("ascii"))
    return style


def plain(raw: bytes) -> str:
    """Return the text without escapes and controls, as written (nothing erased or overwritten)."""
    text = codecs.utf_8_decode(raw, "replace", True)[0]
    return _SPECIAL.sub("", text).replace("\t", " ")


# The order matters: the longest form first. A string (OSC, DCS, …) without an end is taken to the end of its
# line, and an escape cut off by the end of the line is dropped.
_ESCAPE = (
    r"\x1b\[([0-?]*)([ -/]*)([@-~]?)"
    r"|[\x1b][\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?"
    r"|\x1b[ -/]*[0-~]?"
)
_SPECIAL = re.compile(_ESCAPE + r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_CONTROL_BYTES = bytes([*range(0x09), *range(0x0B, 0x20), 0x7F])
_MOVES = re.compile(r"[\r\x08]|\x1b\[(?:[0-?]*[CDG`]|[12]K)")  # `CSI K` at the end of a line does nothing.
_SGR = re.compile(r"\x1b\[([0-9;:]*)m")
_SGR_BYTES = re.compile(rb"\x1b\[([0-9;:]*)m")
_LONG_ROW = 32 * 1024


def _is_plain(raw: bytes, text: str) -> bool:
    """Tell whether there is no control character; C1 controls come as a byte 0xC2 and another."""
    if len(raw.translate(None, _CONTROL_BYTES)) != len(raw):
        return False
    return b"\xc2" not in raw or _CONTROL.search(text) is None


def _render_row(row: str, style: Style) -> tuple[str, Style, int]:
    """Render one line; return its HTML, the style after it and the bytes that were left out."""
    row = row.rstrip("\r")
    if _CONTROL.search(row) is None:
        shown = row[:MAX_COLUMNS]
        return span(escape(shown, quote=False), style), style, size(row[MAX_COLUMNS:])
    if _MOVES.search(row) is not None:
        return _render_moves(row, style)
    html: list[str] = []
    room, hidden = MAX_COLUMNS, 0
    for text, sequence in _pieces(row):
        if text:
            shown = text[:room]
            hidden += size(text[room:])
            room -= len(shown)
            if shown:
                html.append(span(escape(shown, quote=False), style))
        if sequence is not None:
            style = _style_after(style, sequence)
    return "".join(html), style, hidden


def _render_moves(row: str, style: Style) -> tuple[str, Style, int]:
    """Render a line in which the cursor moves: keep a row of cells, as a terminal does."""
    row, style = _skip_overwritten(row, style)
    cells = Cells()
    for text, sequence in _pieces(row):
        if text:
            cells.write(text, style)
        if sequence is not None:
            cells.move(sequence)
            style = _style_after(style, sequence)
    return cells.html(), style, cells.hidden


def _skip_overwritten(row: str, style: Style) -> tuple[str, Style]:
    """Leave out what a very long line began with when the cursor went back to its start later on."""
    start = row.find("\r", len(row) - _LONG_ROW) if len(row) > _LONG_ROW else -1
    if start < 0:
        return row, style
    for match in _SGR.finditer(row, 0, start):
        style = apply(style, match[1])
    return row[start:], style


def _pieces(row: str) -> Iterator[tuple[str, re.Match[str] | None]]:
    """Split a line into texts, each with the escape or control that follows it.

    Controls that have a picture stay text.
    """
    position = 0
    pending = ""
    for match in _SPECIAL.finditer(row):
        pending += row[position : match.start()]
        position = match.end()
        picture = _picture(match[0])
        if picture is None:
            yield pending, match
            pending = ""
        else:
            pending += picture
    yield pending + row[position:], None


def _picture(control: str) -> str | None:
    """Return the visible sign of a control character; None for one that acts, or is silently dropped."""
    code = ord(control[0])
    if control[0] in "\x1b\r\b\x07\x0e\x0f":
        return None
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else "\ufffd"


def _style_after(style: Style, sequence: re.Match[str]) -> Style:
    return apply(style, sequence[1]) if sequence[3] == "m" and sequence[2] == "" else style
