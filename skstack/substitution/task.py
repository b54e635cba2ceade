"""Compile a task's text into command lines whose shell text is constant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from skstack.substitution.values import Variable

Piece = str | tuple[str, str]


@dataclass(frozen=True, slots=True)
class Line:
    """One step: a logical line of a task.

    `number` is the line of the source where it starts, from 1; `source` the line as it was written,
    trimmed and with its continuations joined; `names` the variables it refers to.
    """

    number: int
    source: str
    names: frozenset[str]
    pieces: tuple[Piece, ...] = field(default=(), repr=False)

    def render(self, counts: Mapping[str, int] | None = None) -> str:
        """Return the constant shell text to run, with references in place of placeholders.

        `counts` gives the number of items of each one-argument-each variable that stands outside quotes;
        KeyError if one is missing.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Task:
    """A task's compiled text: its lines, and the variables that it refers to.

    `whole_words`: those whose value begins a word of a command somewhere (see `check_whole_word`).
    """

    lines: tuple[Line, ...]
    names: frozenset[str]
    whole_words: frozenset[str]


def compile_task(text: str, variables: Mapping[str, Variable] | Iterable[Variable]) -> Task:
    """Compile a task's text. Raises TemplateRefused with all the problems found."""
    raise NotImplementedError


def placeholders(text: str, known: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of `known` that the text has placeholders for, and the unknown ones that look like some."""
    raise NotImplementedError


def display(line: Line, values: Mapping[str, str | Sequence[str]], *, masked: Iterable[str] = ()) -> str:
    """Return the line as people read it, with its values in place, quoted so that it reads one way only.

    Only to be shown, never run. The values of `masked` names show as `••••••`.
    """
    raise NotImplementedError
