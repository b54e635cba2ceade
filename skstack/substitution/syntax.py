"""What a command line consists of, as bash reads it. `at` and `end` are offsets into its text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass


@dataclass(slots=True)
class Text:
    """Literal characters, with their quotes and backslashes removed."""

    text: str
    quoted: bool
    at: int
    end: int


@dataclass(slots=True)
class Slot:
    """A placeholder. `quote` is the kind of quotes it stands in: none, `"` or `'`."""

    name: str
    quote: str
    at: int
    end: int
    known: bool = True


@dataclass(slots=True)
class Arithmetic:
    """Text that the shell calculates: literal text, and what is expanded in it first."""

    parts: list[Part]
    quoted: bool
    at: int
    end: int


@dataclass(slots=True)
class Parameter:
    """`$name`, `${name}` and its forms. What `${name…}` has after the name is in the other fields."""

    name: str
    quoted: bool
    at: int
    end: int
    indirect: bool = False
    length: bool = False
    subscript: Arithmetic | None = None
    operator: str = ""
    operand: list[Part] = field(default_factory=list)


@dataclass(slots=True)
class Substitution:
    """`$(…)` and backticks (`direction` empty), `<(…)` and `>(…)`.

    `foreign`: the offsets in `body` are of another text than the line's.
    """

    body: list[Pipeline]
    direction: str
    quoted: bool
    at: int
    end: int
    foreign: bool = False


Part = Text | Slot | Arithmetic | Parameter | Substitution


@dataclass(slots=True)
class Word:
    """Parts that bash joins to one word, before it splits what was expanded outside quotes."""

    parts: list[Part]
    at: int
    end: int


@dataclass(slots=True)
class Assignment:
    """`name=value`, `name[subscript]=value`, `name=(elements)`."""

    name: str
    subscript: list[Part] | None
    value: Word
    elements: list[Word] | None
    at: int
    appends: bool = False  # `+=`


@dataclass(slots=True)
class Redirect:
    """`operator` followed by its target; `descriptor` is the number or `{name}` before it."""

    operator: str
    target: Word
    descriptor: str
    at: int


@dataclass(slots=True)
class Simple:
    """Assignments and words of a simple command."""

    assignments: list[Assignment]
    words: list[Word]
    redirects: list[Redirect]
    at: int
    declared: list[Assignment] = field(
        default_factory=list
    )  # those among the arguments of `export` and its like


@dataclass(slots=True)
class Compound:
    """Any compound command: `kind` is the word or sign that opens it.

    `name` is the variable of `for`, `select` and the name of a function or coprocess, `words` what a
    loop or `case` goes over, together with the patterns of `case`.
    """

    kind: str
    bodies: list[list[Pipeline]]
    at: int
    name: str = ""
    words: list[Word] | None = None
    redirects: list[Redirect] = field(default_factory=list)


@dataclass(slots=True)
class Calculation:
    """`((…))`, and the three expressions of `for ((…))`."""

    expression: Arithmetic
    at: int
    redirects: list[Redirect] = field(default_factory=list)


@dataclass(slots=True)
class Condition:
    """`[[ … ]]`: its words, operators among them."""

    words: list[Word]
    at: int
    redirects: list[Redirect] = field(default_factory=list)


Command = Simple | Compound | Calculation | Condition


@dataclass(slots=True)
class Pipeline:
    """Commands joined by `|`."""

    commands: list[Command]


def plain(word: Word) -> str | None:
    """Return the text of a word that has no quotes and no expansion, else None."""
    if len(word.parts) == 1 and isinstance(word.parts[0], Text) and not word.parts[0].quoted:
        return word.parts[0].text
    return None


def literal(word: Word) -> str | None:
    """Return the text of a word without any expansion, quotes removed, else None."""
    texts = [part.text for part in word.parts if isinstance(part, Text)]
    return "".join(texts) if len(texts) == len(word.parts) else None


def walk(node: object) -> Iterator[object]:
    """Go over a node and all that it contains, at any depth."""
    if isinstance(node, list):
        for item in node:
            yield from walk(item)
    elif isinstance(node, Text):
        yield node
    elif is_dataclass(node):
        yield node
        for each in fields(node):
            value = getattr(node, each.name)
            if isinstance(value, list) or is_dataclass(value):
                yield from walk(value)
