"""Follow free values through one line: which of its names and texts they can reach.

The order of commands does not matter here: what is assigned anywhere counts everywhere, so loops and
functions need no special care. Where it cannot be told, a value is taken to arrive.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from skstack.substitution.syntax import (
    Arithmetic,
    Assignment,
    Compound,
    Parameter,
    Part,
    Pipeline,
    Simple,
    Slot,
    Substitution,
    Text,
    Word,
    literal,
    walk,
)
from skstack.substitution.values import PREFIX, Variable

Origins = frozenset[str]

NOTHING: Origins = frozenset()

_POSITIONAL = re.compile(r"[@*]|[1-9][0-9]*\Z")
_ASSIGNING = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\+?=")
_COUNTED = re.compile(r"(.+)_[0-9]+\Z")
# The shell itself fills these from what went through a command.
_AMBIENT = frozenset({"_", "REPLY", "MAPFILE", "BASH_REMATCH", "BASH_ARGV", "BASH_ARGV0", "OPTARG", "COPROC"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_MOST = 64  # texts that a word is followed with; beyond, it can be any
_SHELLS = frozenset({"0", "BASH", "SHELL"})
_READING = frozenset({"read", "mapfile", "readarray", "getopts"})
_DECLARING = frozenset({"declare", "typeset", "local", "export", "readonly"})


class Flow:
    """What free values reach in the commands of a line.

    `outer` is the flow around them, where the commands are those of a program text within a line:
    `arguments` are the values among its arguments, `extra` those that it can read.
    """

    def __init__(
        self,
        commands: list[Pipeline],
        variables: Mapping[str, Variable],
        *,
        outer: Flow | None = None,
        arguments: Origins = NOTHING,
        extra: Origins = NOTHING,
    ) -> None:
        self.variables = variables
        self.names: dict[str, Origins] = dict(outer.names) if outer else {}
        self.positional = arguments
        self.split: set[str] = set(outer.split) if outer else set()  # names that hold a part of a value
        self.arrays: set[str] = set()
        self.typed: set[str] = set()  # names declared as a number, an array or a reference; `*`: any
        self.possible: dict[str, set[str]] = {k: set(v) for k, v in outer.possible.items()} if outer else {}
        self.untold: set[str] = set(outer.untold) if outer else set()  # names that may have any text
        self._nodes = list(walk(commands))
        self.all: Origins = arguments.union(extra, *map(self._direct, self._nodes))
        if outer:
            self.all |= frozenset().union(
                *(self.names.get(node.name, NOTHING) for node in self._nodes if isinstance(node, Parameter))
            )
        self._find_possible()
        self._find_declared()
        before = None
        while before != (before := (dict(self.names), self.positional, len(self.split))):
            self._spread()

    # Questions.

    def reaching(self, node: object) -> Origins:
        """Return the free variables whose values are in this node, or can be."""
        if isinstance(node, Slot):
            return self._direct(node)
        if isinstance(node, Parameter):
            return self._parameter(node)
        if isinstance(node, Substitution):
            return NOTHING if _is_count(node) else self._union(list(walk(node.body)))
        if isinstance(node, Word):
            return self._union(node.parts)
        if isinstance(node, Arithmetic):
            return self._union(node.parts)
        return self._union(list(walk(node))) if isinstance(node, list) else self._union(list(walk(node))[1:])

    def is_split(self, part: object) -> bool:
        """Tell whether this is only a part of a value, which may start with a dash though the value does not."""
        return isinstance(part, Parameter) and part.name in self.split and bool(self._parameter(part))

    def possibilities(self, parts: Sequence[Part]) -> frozenset[str] | None:
        """Return the texts that these parts can give, apart from values and the surroundings: None if any.

        A name that the line assigns may still be empty, when that command has not run.
        """
        found = {""}
        for part in parts:
            more = self.possible_texts(part)
            if more is None or len(more) * len(found) > _MOST:
                return None
            found = {text + each for text in found for each in more}
        return frozenset(found)

    def possible_texts(self, part: Part) -> frozenset[str] | None:
        """Return the texts that one part can give, as `possibilities` does."""
        if isinstance(part, Text):
            return frozenset({part.text})
        if isinstance(part, Parameter):
            return self._possible_values(part)
        if isinstance(part, Substitution):
            words = [literal(node) for node in walk(part.body) if isinstance(node, Word)]
            return frozenset({"", *(text for text in words if text)})
        return frozenset({""})

    def _possible_values(self, part: Parameter) -> frozenset[str] | None:
        name = "@" if _POSITIONAL.match(part.name) else part.name
        if name in self.untold or part.indirect:
            return None if self.all else frozenset({""})
        own = frozenset({"", *self.possible.get(name, ()), *(["bash"] if name in _SHELLS else [])})
        if not part.operator or part.length:
            return own
        if part.operator.lstrip(":") in ("-", "=", "?", "+"):
            operand = self.possibilities(part.operand)
            return None if operand is None else own | operand
        return None if name in self.possible else own

    # How values spread.

    def _union(self, nodes: Sequence[object]) -> Origins:
        found: set[str] = set()
        for node in nodes:
            if isinstance(node, Slot | Parameter | Substitution | Word | Arithmetic):
                found |= self.reaching(node)
        return frozenset(found)

    def _direct(self, node: object) -> Origins:
        name = ""
        if isinstance(node, Slot):
            name = node.name
        elif isinstance(node, Parameter) and node.name.startswith(PREFIX):
            name = node.name.removeprefix(PREFIX)
            counted = _COUNTED.match(name)
            if name not in self.variables and counted:
                name = counted.group(1)
        variable = self.variables.get(name)
        return frozenset({name}) if variable and not variable.strict else NOTHING

    def _parameter(self, node: Parameter) -> Origins:
        found = self._direct(node) | self.names.get(node.name, NOTHING)
        if node.indirect or node.name in _AMBIENT:
            found |= self.all
        if _POSITIONAL.match(node.name):
            found |= self.positional
        if node.length:
            return NOTHING
        return found | self._union(node.operand)

    def _spread(self) -> None:
        for node in self._nodes:
            if isinstance(node, Assignment):
                self._assign(node.name, self.reaching(node.value) | self._union(list(node.elements or [])))
                if any(self._splits(element) for element in node.elements or []):
                    self.split.add(node.name)
            elif isinstance(node, Parameter) and node.operator in ("=", ":="):
                self._assign(node.name, self._union(node.operand))
            elif isinstance(node, Compound):
                self._spread_compound(node)
            elif isinstance(node, Simple) and node.words:
                self._spread_simple(node)

    def _spread_compound(self, node: Compound) -> None:
        if node.kind in ("for", "select"):
            words = node.words
            self._assign(node.name, self.positional if words is None else self._union(list(words)))
            if words and any(self._splits(word) for word in words):
                self.split.add(node.name)
        elif node.kind == "coproc":
            self._assign(node.name, self.all)
        elif node.kind == "function":
            # Who calls it with what is not followed.
            self.positional |= self.all

    def _spread_simple(self, node: Simple) -> None:
        if self.could_name(node, {"set"}):
            self.positional |= self._union(list(node.words))
        if self.could_name(node, _READING):
            for name in self._names_in(node):
                self._assign(name, self.all)
                self.split.add(name)
        if self.could_name(node, {"printf"}):
            written = self._union(list(node.words))
            for name in self._names_in(node):
                self._assign(name, written)
        for word in node.words:
            first = word.parts[0] if word.parts else None
            found = _ASSIGNING.match(first.text) if isinstance(first, Text) else None
            if found:
                self._assign(found.group(1), self.reaching(word))

    def could_name(self, node: Simple, names: Collection[str]) -> bool:
        """Tell whether one of these names is, or can be, among a command's words."""
        return any(
            not (self.possibilities(word.parts) or frozenset()).isdisjoint(names) for word in node.words
        )

    def _names_in(self, node: Simple) -> set[str]:
        """Return the names among a command's words, those at the end of an option's letters too: `-aX`."""
        found: set[str] = {"REPLY"}
        for word in node.words:
            for text in self.possibilities(word.parts) or ():
                found |= {text[start:] for start in range(2, len(text))} if text[:1] == "-" else set()
                found.add(text.split("[")[0])
        return {name for name in found if _NAME.match(name)}

    def _splits(self, word: Word) -> bool:
        return any(
            isinstance(part, Parameter | Substitution)
            and (not part.quoted or self.is_split(part))
            and bool(self.reaching(part))
            for part in word.parts
        )

    def _assign(self, name: str, origins: Origins) -> None:
        if name and origins:
            self.names[name] = self.names.get(name, NOTHING) | origins

    # What is known beforehand.

    def _find_declared(self) -> None:
        for node in self._nodes:
            if isinstance(node, Assignment) and (node.elements is not None or node.subscript is not None):
                self.arrays.add(node.name)
            if isinstance(node, Simple):
                texts = [literal(word) for word in node.words]
                if self.could_name(node, _DECLARING):
                    self._find_typed(node, texts)

    def _find_typed(self, node: Simple, texts: list[str | None]) -> None:
        names = {text for text in texts[1:] if text and not text.startswith(("-", "+"))}
        names |= {assigned.name for assigned in node.declared}
        if None in texts:
            self.typed.add("*")
        if any(text and re.match(r"[-+].*[in]", text) for text in texts):
            self.typed |= names
        if any(text and re.match(r"[-+].*n", text) for text in texts):
            # What a reference refers to may be of any type.
            self.typed.add("*")
        if any(text and re.match(r"[-+].*[aA]", text) for text in texts):
            self.arrays |= {name.split("=")[0] for name in names}
            self.typed |= {assigned.name for assigned in node.declared if assigned.elements is None}

    def is_typed(self, name: str) -> bool:
        """Tell whether what is assigned to this name is read as code."""
        return name in self.typed or "*" in self.typed

    def _find_possible(self) -> None:
        before = None
        while before != (before := (sum(map(len, self.possible.values())), len(self.untold))):
            for node in self._nodes:
                if isinstance(node, Assignment):
                    values = [node.value] if node.elements is None else node.elements
                    for value in values:
                        self._note_possible(node.name, value)
                    if node.appends and node.elements is None:
                        self.untold.add(node.name)
                elif isinstance(node, Parameter) and node.operator in ("=", ":="):
                    self._note_possible(node.name, Word(node.operand, node.at, node.end))
                elif isinstance(node, Compound) and node.name:
                    for word in node.words or []:
                        self._note_possible(node.name, word)
                    if node.words is None:
                        self.possible.setdefault(node.name, set()).update(self.possible.get("@", ()))
                elif isinstance(node, Simple):
                    self._find_set(node)

    def _find_set(self, node: Simple) -> None:
        """Note what builtins assign: the words of `set`, and any text for what `read` and others fill."""
        if self.could_name(node, {"set"}):
            for word in node.words:
                self._note_possible("@", word)
        filled = _READING | _DECLARING | {"printf", "let"}
        if self.could_name(node, filled):
            self.untold |= self._names_in(node) - filled

    def _note_possible(self, name: str, word: Word) -> None:
        texts = self.possibilities(word.parts)
        if texts is None or len(self.possible.get(name, ())) > _MOST:
            self.untold.add(name)
        else:
            self.possible.setdefault(name, set()).update(texts)


def _is_count(node: Substitution) -> bool:
    """Tell whether a substitution gives nothing but a number, whatever went into it: `… | wc -l`."""
    if len(node.body) != 1 or not node.body[0].commands:
        return False
    last = node.body[0].commands[-1]
    if not isinstance(last, Simple) or last.assignments or last.redirects:
        return False
    texts = [literal(word) for word in last.words]
    return len(texts) == 2 and texts[0] == "wc" and texts[1] in ("-l", "-c", "-m", "-w")
