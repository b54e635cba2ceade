"""Colours and attributes of printed text: what `CSI … m` sets, and the class names that show it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from skstack.runs import colours

BOLD, DIM, ITALIC, UNDERLINE, INVERSE, STRIKE = 1, 2, 4, 8, 16, 32
_FLAG_CLASSES = {
    BOLD: "a-bold",
    DIM: "a-dim",
    ITALIC: "a-italic",
    UNDERLINE: "a-underline",
    STRIKE: "a-strike",
}

_TOKEN = re.compile(r"(?:f(\d{1,3}))?(?:b(\d{1,3}))?(?:s(\d{1,2}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Style:
    """Colours (0–255, None: the pane's own) and attributes that the next character is printed with."""

    foreground: int | None = None
    background: int | None = None
    flags: int = 0

    def token(self) -> str:
        """Return the style as a short ASCII word for a URL, empty for the plain style."""
        colours = f"f{self.foreground}" if self.foreground is not None else ""
        colours += f"b{self.background}" if self.background is not None else ""
        return colours + (f"s{self.flags}" if self.flags else "")

    @classmethod
    def from_token(cls, token: str) -> Style:
        """Read what `token()` wrote; anything else is a ValueError."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise ValueError("not a style token")
        foreground, background, flags = (None if part is None else int(part) for part in match.groups())
        style = cls(foreground, background, flags or 0)
        if max(foreground or 0, background or 0) > 255 or style.flags > 63 or style.token() != token:
            raise ValueError("not a style token")
        return style


PLAIN = Style()


def span(html: str, style: Style) -> str:
    """Wrap HTML in the classes of a style."""
    classes = _classes(style)
    return f'<span class="{classes}">{html}</span>' if classes and html else html


@lru_cache(maxsize=4096)
def apply(style: Style, parameters: str) -> Style:
    """Return the style after `CSI … m`; private forms (`CSI > … m`) and unknown codes change nothing."""
    if parameters and (parameters[0] in "<=>?" or len(parameters) > 256):
        return style
    codes = parameters.split(";")
    position = 0
    while position < len(codes):
        main, *details = codes[position].split(":")
        code = number(main)
        position += 1
        if code in (38, 48, 58):
            if not details:
                details = codes[position : position + (4 if codes[position : position + 1] == ["2"] else 2)]
                position += len(details)
            colour = _colour(details)
            if colour is not None and code != 58:
                style = replace(style, **{"foreground" if code == 38 else "background": colour})
        elif code == 4 and details == ["0"]:
            style = replace(style, flags=style.flags & ~UNDERLINE)
        else:
            style = _apply_code(style, code)
    return style


def _apply_code(style: Style, code: int) -> Style:
    if code == 0:
        return PLAIN
    if 30 <= code <= 37 or 90 <= code <= 97:
        return replace(style, foreground=code - 30 if code < 90 else code - 82)
    if 40 <= code <= 47 or 100 <= code <= 107:
        return replace(style, background=code - 40 if code < 100 else code - 92)
    if code == 39:
        return replace(style, foreground=None)
    if code == 49:
        return replace(style, background=None)
    if code in _SETS:
        return replace(style, flags=style.flags | _SETS[code])
    if code in _CLEARS:
        return replace(style, flags=style.flags & ~_CLEARS[code])
    return style


_SETS = {1: BOLD, 2: DIM, 3: ITALIC, 4: UNDERLINE, 7: INVERSE, 9: STRIKE, 21: UNDERLINE}
_CLEARS = {22: BOLD | DIM, 23: ITALIC, 24: UNDERLINE, 27: INVERSE, 29: STRIKE}


def _colour(details: list[str]) -> int | None:
    """Read `5;N` or `2;R;G;B`, with colons also `2::R:G:B`; None if it makes no sense."""
    if details[:1] == ["5"] and len(details) >= 2:
        index = number(details[1])
        return index if index <= 255 else None
    if details[:1] == ["2"] and len(details) >= 4:
        red, green, blue = (min(255, number(part)) for part in details[-3:])
        return colours.nearest(red, green, blue)
    return None


def number(parameter: str) -> int:
    """Return an escape's number, 0 if it has none; huge ones are as good as a large one."""
    if not parameter.isdigit():
        return 0
    return int(parameter) if len(parameter) <= 6 else 999_999


@lru_cache(maxsize=4096)
def _classes(style: Style) -> str:
    """Return the class names of a style.

    A background brings its own ink (black or white); a foreground is only named where it can be read.
    """
    if style == PLAIN:
        return ""
    foreground, background, names = style.foreground, style.background, []
    if style.flags & INVERSE:
        foreground, background = background, foreground
        if background is None:
            names.append("a-inverse")
    behind = (
        colours.palette(background)
        if background is not None
        else colours.TEXT
        if style.flags & INVERSE
        else colours.PANE
    )
    if background is not None:
        names.append(f"a-bg{background}")
    if foreground is not None and colours.is_legible(foreground, behind):
        names.append(f"a-fg{foreground}")
    return " ".join(names + [name for flag, name in _FLAG_CLASSES.items() if style.flags & flag])
