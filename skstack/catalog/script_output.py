"""What a variable's script printed, read as choices. It is parsed, never evaluated.

Three forms, told apart by the first character: `[` begins a JSON array or a Python list literal; anything else is
one value per line. An item may be an object with `value` and `label`, to show people more than the value.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from skstack import substitution
from skstack.messages import N_, Message


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice: what is submitted, and what people read."""

    value: str
    label: str


class Unusable(Exception):
    """The output gives no choices. `message` says why."""

    def __init__(self, message: Message) -> None:
        super().__init__(str(message))
        self.message = message


def parse(output: bytes, *, limit: int) -> list[Choice]:
    """Return the choices in what a script printed, without doubles. Raises Unusable."""
    try:
        text = output.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise Unusable(
            N_("What the script printed is not UTF-8 text (byte %(position)s).", position=err.start + 1)
        ) from err
    found: dict[str, Choice] = {}
    for item in _items(text.strip()):
        if isinstance(item, str) and item in found:
            continue  # Checked already: a script may print the same many times.
        choice = _choice(item)
        if choice.value not in found:
            found[choice.value] = choice
        if len(found) > limit:
            raise Unusable(
                N_(
                    "The script offers more than %(limit)s values. "
                    "Make it print fewer, or raise script_choices_limit.",
                    limit=limit,
                )
            )
    if not found:
        raise Unusable(N_("The script printed no values."))
    return list(found.values())


def _items(text: str) -> Iterator[Any]:
    if not text.startswith("["):
        # Not splitlines(): a form feed or U+2028 is a character to be refused or kept, not an end of line.
        return (line.strip(" \t\r") for line in text.split("\n") if line.strip(" \t\r"))
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        return _python_list(text)
    return iter(listed)


def _choice(item: Any) -> Choice:
    if isinstance(item, Mapping):
        if not {"value"} <= set(item) <= {"value", "label"}:
            raise Unusable(
                N_("An item of the list is an object; it must have a “value”, and may have a “label”.")
            )
        value = _text(item["value"])
        label = _text(item.get("label", value))
    else:
        value = label = _text(item)
    for text in (value, label):
        problem = substitution.check_value(text)
        if problem is not None:
            raise Unusable(
                N_(
                    "The value %(value)s cannot be offered: %(reason)s",
                    value=_shortened(value),
                    reason=problem,
                )
            )
    if not value:
        raise Unusable(N_("One of the values is empty."))
    return Choice(value, label or value)


def _text(item: Any) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, _PythonScalar):
        return item.text
    if isinstance(item, bool) or (isinstance(item, (int, float)) and item == item):
        return json.dumps(item)
    if item is None:
        raise Unusable(N_("An item of the list is null; it must be text, a number, true or false."))
    raise Unusable(
        N_("An item of the list is a list or an object; it must be text, a number, true or false.")
    )


def _shortened(value: str) -> str:
    return repr(value if len(value) <= 40 else value[:40] + "…")


@dataclass(frozen=True, slots=True)
class _PythonScalar:
    """A number, True or False, as Python prints it."""

    text: str


# A flat list needs no parser that recurses: one that does could be made to exhaust the stack or the memory.
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<mark>[\[\]{},:])
      | (?P<string>[uUrR]?(?:'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"))
      | (?P<scalar>True|False|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])
      | (?P<none>None)\b
    )""",
    re.VERBOSE | re.ASCII,
)


def _python_list(text: str) -> Iterator[Any]:
    """Yield the items of a Python list literal. Raises Unusable at what cannot stand in one."""
    tokens = _tokens(text)
    next(tokens)  # The bracket that it begins with.
    found = next(tokens)
    while found != ("mark", "]"):
        yield _python_dict(tokens) if found == ("mark", "{") else _python_scalar(*found)
        found = _after_item(tokens, "]")
    if next(tokens) != _END:
        raise _unreadable()


_END = ("end", "")


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _unreadable(position)
        position = match.end()
        kind = match.lastgroup or ""
        yield kind, match[kind]
    while True:
        yield _END


def _after_item(tokens: Iterator[tuple[str, str]], closing: str) -> tuple[str, str]:
    """Return the beginning of the next item, or the closing bracket. A comma may stand before that too."""
    found = next(tokens)
    if found == ("mark", ","):
        return next(tokens)
    if found != ("mark", closing):
        raise _unreadable()
    return found


def _python_dict(tokens: Iterator[tuple[str, str]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    found = next(tokens)
    while found != ("mark", "}"):
        key = _python_scalar(*found)
        if not isinstance(key, str) or next(tokens) != ("mark", ":"):
            raise _unreadable()
        made[key] = _python_scalar(*next(tokens))
        found = _after_item(tokens, "}")
    return made


def _python_scalar(kind: str, written: str) -> Any:
    if kind == "string":
        if "\\" not in written and written[0] in "'\"":
            return written[1:-1]
        try:
            return ast.literal_eval(written)
        except (ValueError, SyntaxError) as err:
            raise _unreadable() from err
    if kind == "scalar":
        return _PythonScalar(written)
    if kind == "none":
        return None
    if (kind, written) in (("mark", "["), ("mark", "{")):
        return []  # Something nested, which the caller refuses.
    raise _unreadable()


def _unreadable(position: int | None = None) -> Unusable:
    if position is None:
        return Unusable(
            N_("What the script printed begins with [ but is neither a JSON array nor a Python list.")
        )
    return Unusable(
        N_(
            "What the script printed begins with [ but is neither a JSON array nor a Python list "
            "(character %(position)s).",
            position=position + 1,
        )
    )
