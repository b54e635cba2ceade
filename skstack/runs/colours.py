"""The 256 colours of a terminal, and how each stays legible (contrast ≥ 4.5:1) on the log pane.

The pane is dark in both themes, because that is what programs choose their colours for.
`python -m skstack.runs.colours` writes `static/css/log-colors.css`.
"""

from __future__ import annotations

import sys
from functools import lru_cache

Colour = tuple[int, int, int]

PANE: Colour = (0x10, 0x14, 0x1B)
TEXT: Colour = (0xE3, 0xE8, 0xEE)
DIM_TEXT: Colour = (0x9C, 0xA5, 0xB0)

_LEVELS = (0, 95, 135, 175, 215, 255)
_SIXTEEN = (
    (0x4A, 0x50, 0x58), (0xF4, 0x73, 0x6B), (0x4F, 0xC2, 0x6A), (0xD9, 0xA4, 0x41),
    (0x6A, 0xAE, 0xF5), (0xC0, 0x8C, 0xF0), (0x45, 0xC3, 0xCC), (0xB8, 0xC0, 0xCA),
    (0x7B, 0x84, 0x90), (0xFF, 0x9D, 0x94), (0x6F, 0xE0, 0x8A), (0xF0, 0xC2, 0x5C),
    (0x8E, 0xC7, 0xFF), (0xD7, 0xB0, 0xFF), (0x6F, 0xE0, 0xE6), (0xFF, 0xFF, 0xFF),
)  # fmt: skip


@lru_cache(maxsize=4096)
def nearest(red: int, green: int, blue: int) -> int:
    """Return the nearest of the colours 16–255; the first 16 every terminal shows its own way."""
    cube = [_nearest_level(part) for part in (red, green, blue)]
    grey = min(23, max(0, round(((red + green + blue) / 3 - 8) / 10)))
    candidates = (16 + 36 * cube[0] + 6 * cube[1] + cube[2], 232 + grey)
    return min(candidates, key=lambda index: _distance(palette(index), (red, green, blue)))


def _nearest_level(part: int) -> int:
    return min(range(6), key=lambda step: abs(_LEVELS[step] - part))


def palette(index: int) -> Colour:
    """Return one of the 256 colours as red, green, blue."""
    if index < 16:
        return _SIXTEEN[index]
    if index < 232:
        index -= 16
        return _LEVELS[index // 36], _LEVELS[index // 6 % 6], _LEVELS[index % 6]
    return (8 + 10 * (index - 232),) * 3


def stylesheet() -> str:
    """Return the CSS rules of the 256 colours; `static/css/log-colors.css` is this text."""
    rules = [
        "/* Written by `python -m skstack.runs.colours`. Text is lightened until it is legible. */",
        f".log .a-dim{{color:{_hex(DIM_TEXT)}}}",
        f".log .a-inverse{{color:{_hex(PANE)};background:{_hex(TEXT)}}}",
    ]
    rules += [
        f".log .a-bg{index}{{color:{_hex(_ink(index))};background:{_hex(palette(index))}}}"
        for index in range(256)
    ]
    rules += [f".log .a-fg{index}{{color:{_hex(_legible(index))}}}" for index in range(256)]
    return "\n".join(rules) + "\n"


def is_legible(foreground: int, behind: Colour) -> bool:
    """Tell whether this foreground, as the stylesheet shows it, can be read on that background."""
    return contrast(_legible(foreground), behind) >= 4.5


@lru_cache(maxsize=256)
def _legible(index: int) -> Colour:
    """Lighten a colour until it can be read on the pane."""
    colour = palette(index)
    while contrast(colour, PANE) < 4.5:
        colour = (_lighter(colour[0]), _lighter(colour[1]), _lighter(colour[2]))
    return colour


def _lighter(part: int) -> int:
    return min(255, part + max(1, (255 - part) // 16))


def _ink(index: int) -> Colour:
    """Return black or white, whichever reads better on this colour."""
    black, white = (0, 0, 0), (255, 255, 255)
    return max(black, white, key=lambda ink: contrast(ink, palette(index)))


def contrast(one: Colour, other: Colour) -> float:
    """Return the contrast ratio of WCAG 2.2 (1–21)."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: Colour) -> float:
    parts = [part / 255 for part in colour]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _distance(one: Colour, other: Colour) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def _hex(colour: Colour) -> str:
    return "#" + "".join(f"{part:02x}" for part in colour)


if __name__ == "__main__":
    sys.stdout.write(stylesheet())
