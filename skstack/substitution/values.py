"""The values that people submit: what they may contain, and how they reach a command's environment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from skstack.messages import N_, Message

PREFIX = "WO_"
MAX_VALUE_BYTES = 32 * 1024
MAX_TOTAL_BYTES = 256 * 1024
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
STRICT_PATTERN = r"[A-Za-z0-9](?:[A-Za-z0-9_.,:@%+/=-]*[A-Za-z0-9])?"

_STRICT = re.compile(STRICT_PATTERN, re.ASCII)
# C0 without tab and newline, DEL, and C1: terminals act upon them, people do not see them.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Variable:
    """What a template needs to know of a variable, whether a user's, a built-in or a system one.

    `strict`: every value it can have satisfies `is_strict`; the caller decides (see `choices_are_strict`) and
    checks each value again at submission. `one_argument_each`: its values are a sequence of items.
    """

    name: str
    strict: bool = False
    secret: bool = False
    one_argument_each: bool = False
    allow_leading_dash: bool = False


def is_strict(value: str) -> bool:
    """Tell whether a value cannot carry code: empty, or `STRICT_PATTERN` from end to end."""
    return not value or _STRICT.fullmatch(value) is not None


def choices_are_strict(choices: Iterable[str], delimiter: str | None = None) -> bool:
    """Tell whether a variable with these choices may be marked strict.

    `delimiter` is what several chosen values are joined with, None where one is chosen. An
    administrator's list is strict as long as it holds what the strict alphabet allows: a choice such as
    `$(reboot)` or `two words` would be code, or two arguments, inside `sh -c "probe {V}"`.
    """
    listed = list(choices)
    if delimiter is not None:
        # An empty choice at either end would leave the joined text with a delimiter there.
        return all(listed) and is_strict("a" + delimiter + "a") and all(map(is_strict, listed))
    return all(map(is_strict, listed))


def normalize(text: str) -> str:
    r"""Give every end of line the one form `\n`: `\r\n` and `\r` become it."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def check_value(value: str, *, multiline: bool = False) -> Message | None:
    """Return why this value may not be submitted, or None. `multiline` allows newlines; normalize first."""
    if _SURROGATE.search(value):
        return N_("This is not valid text: it has half of a character that takes two.")
    found = _CONTROL.search(value)
    if found:
        return N_(
            "Character %(position)d is a control character (%(code)s), which nobody can see. Remove it.",
            position=found.start() + 1,
            code=f"U+{ord(found.group()):04X}",
        )
    if not multiline and "\n" in value:
        return N_("This must be a single line.")
    size = len(value.encode())
    if size > MAX_VALUE_BYTES:
        return N_(
            "This is %(size)d bytes long; at most %(limit)d are allowed.", size=size, limit=MAX_VALUE_BYTES
        )
    return None


def check_total(values: Mapping[str, str | Sequence[str]]) -> Message | None:
    """Return why these values together are too much, or None. Counts UTF-8 bytes of the values."""
    size = sum(
        len(item.encode("utf-8", "surrogatepass"))
        for value in values.values()
        for item in ([value] if isinstance(value, str) else value)
    )
    if size > MAX_TOTAL_BYTES:
        return N_(
            "All values together are %(size)d bytes long; at most %(limit)d are allowed.",
            size=size,
            limit=MAX_TOTAL_BYTES,
        )
    return None


def check_whole_word(
    name: str, value: str | Sequence[str], *, whole_words: Iterable[str], variable: Variable
) -> Message | None:
    """Return why this value may not stand where the task puts it, or None.

    `whole_words` is `Task.whole_words` of the tasks it goes into. There a value that starts with `-` would
    be taken for an option. Of several values each one is checked.
    """
    if variable.allow_leading_dash or name not in whole_words:
        return None
    items = [value] if isinstance(value, str) else value
    if any(item.startswith("-") for item in items):
        return N_("A value may not start with “-” here: the command would take it for an option.")
    return None


def join_items(items: Sequence[str], delimiter: str) -> str | Message:
    """Join several values into one. Returns a message instead where an item contains the delimiter."""
    if delimiter:
        for item in items:
            if delimiter in item:
                return N_(
                    "“%(item)s” contains “%(delimiter)s”, which separates the values.",
                    item=item,
                    delimiter=delimiter,
                )
    return delimiter.join(items)


def environment(
    values: Mapping[str, str | Sequence[str]], delimiters: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment variables that carry these values: `WO_NAME` for each.

    A sequence (one argument each) gives `WO_NAME_0`, `WO_NAME_1`, … and, in `WO_NAME`, the items joined with
    its delimiter, `,` where none is given. Raises ValueError for a name that is none, for a value that
    no environment can carry, and where two names would claim the same environment variable.
    """
    made: dict[str, str] = {}
    for name, value in values.items():
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a variable's name")
        if isinstance(value, str):
            pairs = {PREFIX + name: value}
        else:
            pairs = {PREFIX + name: (delimiters or {}).get(name, ",").join(value)}
            pairs |= {f"{PREFIX}{name}_{index}": item for index, item in enumerate(value)}
        if clash := pairs.keys() & made.keys():
            raise ValueError(f"two variables claim {min(clash)}")
        made |= pairs
    for name, text in made.items():
        if "\0" in text or _SURROGATE.search(text):
            raise ValueError(f"{name} has a value that no environment can carry")
    return made
