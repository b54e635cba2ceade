"""Compile a task's text into command lines whose shell text is constant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from skstack.messages import N_, Message
from skstack.substitution.grammar import Grammar
from skstack.substitution.lexer import PLACEHOLDER, Unreadable
from skstack.substitution.lines import LogicalLine, logical_lines
from skstack.substitution.problems import Problem, TemplateRefused
from skstack.substitution.programs import named
from skstack.substitution.rules import SECRET, SECRET_INSTEAD, Rules
from skstack.substitution.syntax import Pipeline, Simple, Slot, Substitution, literal, walk
from skstack.substitution.values import PREFIX, Variable, normalize

MAX_TEXT = 64 * 1024

# What stands alone in braces in these programs' own languages.
_ALONE_IN_BRACES = dict.fromkeys(
    ("awk", "gawk", "mawk", "nawk"), frozenset({"print", "next", "exit", "nextfile", "getline"})
) | dict.fromkeys(("sed", "gsed"), frozenset("dDgGhHnNpPqQxz"))


@dataclass(frozen=True, slots=True)
class Reference:
    """A placeholder in a line. `quote` is the kind of quotes it stands in: none, `"` or `'`."""

    name: str
    quote: str
    one_argument_each: bool

    def render(self, counts: Mapping[str, int]) -> str:
        """Return the shell text in its place."""
        if self.quote == '"':
            return f"${{{PREFIX}{self.name}}}"
        if self.quote == "'":
            return f"'\"${{{PREFIX}{self.name}}}\"'"
        if self.one_argument_each:
            return " ".join(f'"${{{PREFIX}{self.name}_{index}}}"' for index in range(counts[self.name]))
        return f'"${{{PREFIX}{self.name}}}"'


@dataclass(frozen=True, slots=True)
class Line:
    """One step: a logical line of a task.

    `number` is the line of the source where it starts, from 1; `source` the line as it was written,
    trimmed and with its continuations joined; `names` the variables it refers to.
    """

    number: int
    source: str
    names: frozenset[str]
    pieces: tuple[str | Reference, ...] = field(default=(), repr=False)

    def render(self, counts: Mapping[str, int] | None = None) -> str:
        """Return the constant shell text to run, with references in place of placeholders.

        `counts` gives the number of items of each one-argument-each variable that stands outside quotes;
        KeyError if one is missing.
        """
        return "".join(
            piece if isinstance(piece, str) else piece.render(counts or {}) for piece in self.pieces
        )


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
    given = variables.values() if isinstance(variables, Mapping) else variables
    known = {variable.name: variable for variable in given}
    text = normalize(text)
    if len(text) > MAX_TEXT:
        raise TemplateRefused(
            (
                Problem(
                    1,
                    1,
                    N_("The task is longer than %(limit)d characters.", limit=MAX_TEXT),
                    N_("Put it into a script file and call that."),
                    1,
                ),
            )
        )
    problems: list[Problem] = []
    lines: list[Line] = []
    whole_words: set[str] = set()
    for logical in logical_lines(text, problems):
        compiler = _Compiler(logical, known)
        lines.append(compiler.line())
        problems += compiler.problems
        whole_words |= compiler.whole_words
    if problems:
        raise TemplateRefused(tuple(sorted(problems, key=lambda found: (found.line, found.column))))
    names = frozenset[str]().union(*(line.names for line in lines))
    return Task(tuple(lines), names, frozenset(whole_words))


def placeholders(text: str, known: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Return which of `known` the text has placeholders for, and the unknown names that look like some.

    For a text that cannot be compiled too: there every `{Name}` counts.
    """
    variables = {name: Variable(name) for name in known}
    found: set[str] = set()
    unknown: set[str] = set()
    for logical in logical_lines(normalize(text), []):
        compiler = _Compiler(logical, variables)
        if compiler.commands is None:
            names = set(PLACEHOLDER.findall(logical.text))
            unknown |= names - variables.keys()
        else:
            names = {slot.name for slot in compiler.slots if slot.known}
            unknown |= {slot.name for slot in compiler.unknown()}
        found |= names & variables.keys()
    return frozenset(found), frozenset(unknown)


class _Compiler:
    """Reads one logical line and gathers everything that is wrong with it."""

    def __init__(self, logical: LogicalLine, variables: Mapping[str, Variable]) -> None:
        self.logical = logical
        self.variables = variables
        self.problems: list[Problem] = []
        self.spans: list[tuple[int, int]] = []
        self.whole_words: set[str] = set()
        self.commands: list[Pipeline] | None = None
        self.slots: list[Slot] = []
        grammar = Grammar(logical.text, variables)
        try:
            self.commands = grammar.line()
        except Unreadable as unreadable:
            self._refuse(unreadable.at, 1, unreadable.message, unreadable.instead)
        for at, length, message, instead in grammar.refused:
            self._refuse(at, length, message, instead)
        for at, end in grammar.verbatim:
            if any(at < join < end for join in logical.joins):
                self._refuse(
                    at,
                    1,
                    N_("A backslash does not join lines within single quotes or a comment."),
                    N_("Close the quote before the backslash, and remove comments from the lines it joins."),
                )
        if logical.text[:1] in ("-", "+"):
            self._refuse(
                0,
                1,
                N_(
                    "A line may not start with “%(sign)s”: bash would take it for options.",
                    sign=logical.text[0],
                ),
                N_("Start it with the name of the command."),
            )
        if self.commands is not None:
            nodes = list(walk(self.commands))
            inside = {
                id(slot)
                for node in nodes
                if isinstance(node, Substitution) and node.foreign
                for slot in walk(node.body)
            }
            self.slots = [node for node in nodes if isinstance(node, Slot) and id(node) not in inside]

    def line(self) -> Line:
        """Check the line and return it compiled, which only counts if it has no problem."""
        if self.commands is not None:
            self._check_names()
            rules = Rules(self.commands, self.variables)
            rules.check()
            for at, length, message, instead in rules.problems:
                self._refuse(at, length, message, instead)
            self.whole_words = rules.whole_words & self.variables.keys()
        known = sorted((slot for slot in self.slots if slot.known), key=lambda slot: slot.at)
        pieces: list[str | Reference] = []
        end = 0
        for slot in known:
            pieces.append(self.logical.text[end : slot.at])
            pieces.append(Reference(slot.name, slot.quote, self.variables[slot.name].one_argument_each))
            end = slot.end
        pieces.append(self.logical.text[end:])
        return Line(
            self.logical.place(0)[0],
            self.logical.text,
            frozenset(slot.name for slot in known),
            tuple(piece for piece in pieces if piece),
        )

    def unknown(self) -> list[Slot]:
        """Return what looks like a placeholder, but names no variable."""
        meant = {
            id(slot)
            for command in walk(self.commands)
            if isinstance(command, Simple)
            for word in command.words
            if (alone := _ALONE_IN_BRACES.get((literal(word) or "").rsplit("/", 1)[-1]))
            for slot in walk(command.words)
            if isinstance(slot, Slot) and slot.quote and slot.name in alone
        }
        return [slot for slot in self.slots if not slot.known and id(slot) not in meant]

    def _check_names(self) -> None:
        for slot in self.unknown():
            close = difflib.get_close_matches(slot.name, self.variables, 1, 0.6) or [
                name for name in self.variables if name.lower() == slot.name.lower()
            ]
            if close:
                instead = N_("Did you mean {%(name)s}?", name=close[0])
            else:
                instead = N_(
                    "For literal braces write '{'%(name)s'}', or a blank after the brace.", name=slot.name
                )
            self._refuse(
                slot.at, slot.end - slot.at, N_("There is no variable %(name)s.", name=slot.name), instead
            )
        for slot in self.slots:
            variable = self.variables.get(slot.name)
            if variable and variable.secret:
                self._refuse(slot.at, slot.end - slot.at, SECRET, named(SECRET_INSTEAD, slot.name))
            elif variable and variable.one_argument_each and (clash := self._clash(slot.name)):
                self._refuse(
                    slot.at,
                    slot.end - slot.at,
                    N_(
                        "The values of %(name)s go into %(name)s_0, %(name)s_1, …, but there is a variable %(clash)s.",
                        name=slot.name,
                        clash=clash,
                    ),
                    N_("Rename one of the two variables."),
                )

    def _clash(self, name: str) -> str | None:
        return next(
            (
                other
                for other in self.variables
                if other.startswith(name + "_") and other[len(name) + 1 :].isdecimal()
            ),
            None,
        )

    def _refuse(self, at: int, length: int, message: Message, instead: Message | None) -> None:
        line, column = self.logical.place(at)
        last_line, last_column = self.logical.place(at + max(0, length - 1))
        if last_line == line:
            length = last_column - column + 1
        # The first reason at a place is the plainest; what follows from it would only confuse.
        if not any(first < at + max(1, length) and at < end for first, end in self.spans):
            self.spans.append((at, at + max(1, length)))
            self.problems.append(Problem(line, column, message, instead, max(1, length)))
