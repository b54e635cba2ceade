"""What the rules have found in one line, and the questions that they all ask about its words."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from skstack.messages import N_, Message
from skstack.substitution.flow import NOTHING, Flow, Origins
from skstack.substitution.programs import (
    named,
)
from skstack.substitution.syntax import (
    Compound,
    Parameter,
    Part,
    Pipeline,
    Redirect,
    Simple,
    Slot,
    Substitution,
    Text,
    Word,
    literal,
    walk,
)
from skstack.substitution.values import Variable

VERSION = re.compile(r"-?[0-9][0-9.]*\Z")
_OPTION = re.compile(r"[-+].")
ASSIGNING = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\+?=")

# What several rules say.
PROGRAM_TEXT = N_("%(program)s reads this as a program, and a value in it would be part of the program.")
PROGRAM_NAME = N_("The value would be the name of what is run.")
BEFORE = N_("Here the value could be taken for an option, and the next word for the command.")
NAMED = N_("%(program)s reads this as a variable's name, whose subscript can run commands.")
NAME_SAFE = N_("Write the name out.")
STDIN = N_("%(program)s runs what it reads, and here it would read a value.")
STDIN_SAFE = N_(
    "Run a fixed program, and give it the value as an argument: sh -c 'probe \"$1\"' x {%(name)s}."
)
WRITTEN = N_("%(program)s would run a file that the line writes a value into.")


class Findings(ABC):
    """The commands of one line, or of a program text in it, and what was found wrong with them."""

    def __init__(
        self,
        commands: list[Pipeline],
        variables: Mapping[str, Variable],
        *,
        outer: Findings | None = None,
        place: tuple[int, int] | None = None,
        arguments: Origins = NOTHING,
        stdin: Origins = NOTHING,
    ) -> None:
        self.commands = commands
        self.variables = variables
        self.outer = outer
        self.place = place  # where problems are reported, if not where their words stand
        self.stdin = stdin
        self.flow: Flow = Flow(
            commands, variables, outer=outer.flow if outer else None, arguments=arguments, extra=stdin
        )
        self.problems: list[tuple[int, int, Message, Message | None]] = outer.problems if outer else []
        self.whole_words: set[str] = outer.whole_words if outer else set()
        self.files = self._written_files()

    @abstractmethod
    def check(self) -> None:
        """Check all commands."""

    @abstractmethod
    def calculated(self, parts: list[Part], whole: Part) -> None:
        """Refuse values in text that the shell calculates."""

    @abstractmethod
    def invocation(self, words: list[Word], stdin: Origins) -> None:
        """Check a command's words. `stdin`: the values that its standard input may have."""

    @abstractmethod
    def set_for(self, name: str, word: Word) -> None:
        """Check `name=value` among the arguments of a program that puts it into an environment."""

    @abstractmethod
    def program_text(self, word: Word, base: str, arguments: Origins, stdin: Origins) -> None:
        """Check a constant text that a shell will run."""

    def refuse(self, at: int, length: int, message: Message, instead: Message | None) -> None:
        """Note a problem, where it stands in the line."""
        if self.place:
            at, length = self.place
        if not any(found[0] == at and found[2] == message for found in self.problems):
            self.problems.append((at, max(1, length), message, instead))

    def refuse_part(self, part: Part, reached: Origins, message: Message, instead: Message | None) -> None:
        """Note a problem with a part of a word, if values reach it."""
        if reached:
            self.refuse(part.at, part.end - part.at, message, named(instead, min(reached)))

    def refuse_if_reached(self, word: Word, message: Message, instead: Message | None) -> bool:
        """Note a problem with a word, at the first part that values reach; tell whether there is one."""
        for part in word.parts:
            reached = self.flow.reaching(part)
            if reached:
                self.refuse_part(part, reached, message, instead)
                return True
        return False

    def refuse_word(self, word: Word, reached: Origins, message: Message, instead: Message | None) -> None:
        if reached:
            name = min(reached)
            self.refuse(word.at, word.end - word.at, named(message, name) or message, named(instead, name))

    def refuse_stdin(self, base: str, word: Word, stdin: Origins) -> None:
        self.refuse_word(word, stdin, Message(STDIN.text, {"program": base}), STDIN_SAFE)

    def refuse_all(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        for word in arguments:
            self.refuse_if_reached(word, Message(PROGRAM_TEXT.text, {"program": base}), None)

    @contextmanager
    def elsewhere(self, part: Substitution | None) -> Iterator[None]:
        """Report problems meanwhile at this part, whose inside has no place in the line."""
        before = self.place
        if part and not self.place:
            self.place = (part.at, part.end - part.at)
        try:
            yield
        finally:
            self.place = before

    def is_several(self, part: Part) -> bool:
        """Tell whether this placeholder becomes one word for each value."""
        variable = self.variables.get(part.name) if isinstance(part, Slot) else None
        return variable is not None and variable.one_argument_each

    def beginning(self, word: Word) -> set[str]:
        """Return the variables whose value can be the first characters of this word."""
        found: set[str] = set()
        for part in word.parts:
            if isinstance(part, Text):
                if part.text:
                    break
            elif isinstance(part, Slot):
                found.add(part.name)
            elif isinstance(part, Parameter | Substitution):
                found |= self.flow.reaching(part)
            else:
                break
        return found

    def written(self, word: Word) -> Origins:
        """Return what values the line writes into the file that this word names."""
        if self.files and is_pattern(word):
            return NOTHING.union(*self.files.values())
        return NOTHING.union(*(self.files.get(name, NOTHING) for name in self._file_names(word)))

    def values_in(self, words: list[Word]) -> Origins:
        return NOTHING.union(*(self.flow.reaching(word) for word in words))

    def may_vanish(self, word: Word) -> bool:
        """Tell whether this can become no word, or several, or all but its literal end, which is an option."""
        if is_braced(word) or any(self.is_several(part) for part in word.parts):
            return True
        if literal(word) is not None:
            return False
        expansions = [part for part in word.parts if isinstance(part, Parameter | Substitution)]
        if any(not part.quoted or _is_list(part) for part in expansions):
            return True
        return bool(expansions) and not isinstance(word.parts[0], Slot) and self.could_be(word, _OPTION)

    def could_be(self, word: Word, pattern: re.Pattern[str]) -> bool:
        """Tell whether one of the word's possible texts matches; also where it can be any text."""
        texts = self.flow.possibilities(word.parts)
        return texts is None or any(pattern.match(text) for text in texts)

    def may_be_option(self, word: Word) -> bool:
        """Tell whether a value can make this an option, in spite of the check of whole words."""
        return any(
            self.variables[name].allow_leading_dash for name in self.beginning(word) if name in self.variables
        ) or any(self.flow.is_split(part) for part in word.parts[:1])

    def start_of(self, word: Word) -> str:
        """Return the certain text that the word begins with."""
        text = literal(word)
        if text is not None:
            return text
        start = ""
        for part in word.parts:
            if not isinstance(part, Text):
                break
            start += part.text
        return start

    def approximate(self, word: Word) -> str:
        """Return the word's text with a letter for all that is expanded in it."""
        return "".join(part.text if isinstance(part, Text) else "_" for part in word.parts)

    def uncertain(self, word: Word, rest: list[Word]) -> None:
        """Refuse a value that may be no word, several words, or an option, before a command."""
        several = any(self.is_several(part) for part in word.parts)
        if several or (rest and (self.may_vanish(word) or self.may_be_option(word))):
            self.refuse_if_reached(
                word, BEFORE, N_("Choose a variable with one value that no dash may start.")
            )

    def _written_files(self) -> dict[str, Origins]:
        found: dict[str, Origins] = dict(self.outer.files) if self.outer else {}
        for node in walk(self.commands):
            if isinstance(node, Simple | Compound):
                reached = self.flow.reaching([node])
                for redirect in node.redirects:
                    self._note_file(found, redirect, reached)
            if isinstance(node, Simple) and node.words and literal(node.words[0]) == "tee":
                for word in node.words[1:]:
                    found |= dict.fromkeys(self._file_names(word) if self.flow.all else (), self.flow.all)
        return found

    def _note_file(self, found: dict[str, Origins], redirect: Redirect, reached: Origins) -> None:
        if reached and redirect.operator in (">", ">>", ">|", "&>", "&>>", "<>", ">&"):
            for name in self._file_names(redirect.target):
                found[name] = found.get(name, NOTHING) | reached

    def _file_names(self, word: Word) -> set[str]:
        """Return what a file may be called, without its directory, and the variables that have its name."""
        shown = "".join(
            part.text if isinstance(part, Text) else f"${getattr(part, 'name', '')}" for part in word.parts
        )
        texts = {shown, *(self.flow.possibilities(word.parts) or ())}
        return {text.rsplit("/", 1)[-1] for text in texts} - {""}


def _is_list(part: Parameter | Substitution) -> bool:
    """Tell whether this gives several words in double quotes too: `$@`, `${array[@]}`, `${!prefix@}`."""
    if not isinstance(part, Parameter):
        return False
    subscript = part.subscript.parts if part.subscript else []
    at = any(isinstance(each, Text) and each.text == "@" for each in subscript)
    return part.name == "@" or at or (part.indirect and part.operator == "@")


def outside_quotes(word: Word) -> str:
    """Return the word's text outside quotes, with a letter for each thing that is quoted or expanded."""
    return "".join(part.text if isinstance(part, Text) and not part.quoted else "x" for part in word.parts)


def is_braced(word: Word) -> bool:
    """Tell whether the shell makes several words of this, by braces: `{a,b}`, `{1..3}`."""
    return re.search(r"\{.*(?:,|\.\.)", outside_quotes(word)) is not None


def is_pattern(word: Word) -> bool:
    """Tell whether the shell expands this to file names, or by braces."""
    return is_braced(word) or re.search(r"[*?\[]", outside_quotes(word)) is not None


def is_one_of(option: str, options: frozenset[str]) -> bool:
    """Tell whether this is one of the options, or a long one cut short, as GNU programs allow."""
    return option in options or (
        len(option) > len("--x")
        and option.startswith("--")
        and any(each.startswith(option) for each in options)
    )
