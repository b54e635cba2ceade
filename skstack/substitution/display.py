"""Show a line with its values in place, to those who approve it and those who read what ran."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence

from skstack.substitution.task import Line

MASK = "••••••"

_ESCAPES = {"\n": "\\n", "\t": "\\t", "'": "\\'", "\\": "\\\\"}


def display(line: Line, values: Mapping[str, str | Sequence[str]], *, masked: Iterable[str] = ()) -> str:
    """Return the line as people read it, with its values in place, quoted so that it reads one way only.

    Characters that cannot be seen, those that turn the direction of text among them, show as
    escapes. Only to be shown, never run. The values of `masked` names show as `••••••`; KeyError for a name without value.
    """
    hidden = frozenset(masked)
    shown: list[str] = []
    for piece in line.pieces:
        if isinstance(piece, str):
            shown.append(piece)
            continue
        if piece.name in hidden:
            shown.append(MASK)
            continue
        value = values[piece.name]
        if not isinstance(value, str) and piece.one_argument_each and not piece.quote:
            shown.append(" ".join(_alone(item) for item in value))
        else:
            text = value if isinstance(value, str) else ",".join(value)
            shown.append(_within(text, piece.quote) if piece.quote else _alone(text))
    return "".join(shown)


def _alone(value: str) -> str:
    return shlex.quote(value) if value.isprintable() else f"$'{_escaped(value)}'"


def _within(value: str, quote: str) -> str:
    if not value.isprintable():
        return f"{quote}$'{_escaped(value)}'{quote}"
    if quote == "'":
        return value.replace("'", "'\\''")
    return "".join("\\" + char if char in '\\"$`' else char for char in value)


def _escaped(value: str) -> str:
    return "".join(
        _ESCAPES.get(char)
        or (
            char
            if char.isprintable()
            else f"\\u{ord(char):04x}"
            if ord(char) < 0x10000
            else f"\\U{ord(char):08x}"
        )
        for char in value
    )
