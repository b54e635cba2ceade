"""Builtins of the shell that read their arguments as code, or as names that can hold code."""

from __future__ import annotations

import re

from skstack.messages import N_, Message
from skstack.substitution.findings import (
    ASSIGNING,
    BEFORE,
    NAME_SAFE,
    NAMED,
    PROGRAM_TEXT,
    Findings,
)
from skstack.substitution.flow import Origins
from skstack.substitution.names import runs_code_by_name
from skstack.substitution.syntax import (
    Simple,
    Text,
    Word,
    literal,
)
from skstack.substitution.values import PREFIX

NAME_UNTOLD = N_("Which variable is assigned here cannot be told, and this line has a value in it.")


class Builtins(Findings):
    """Rules for builtins."""

    def evaluating(self, base: str, first: Word, arguments: list[Word]) -> None:
        reached = self.flow.all
        if base == "eval":
            # $WO_Name in quotes is not expanded here, but is by eval.
            names = re.findall(PREFIX + r"(\w+)", " ".join(self.approximate(word) for word in arguments))
            reached |= {name for name in names if name in self.variables and not self.variables[name].strict}
        if self.outer and base != "eval" and not self.values_in(arguments):
            # A fixed file, read in a program of its own: what it does with its surroundings is its own affair.
            return
        self.refuse_word(
            first,
            reached,
            N_("“%(builtin)s” reads text again as commands, and this line has a value in it.", builtin=base),
            N_("Move it to a program of its own: bash -c '. ./env.sh && probe \"$1\"' x {%(name)s}."),
        )

    def refuse_names(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        for word in arguments:
            self.refuse_if_reached(word, Message(NAMED.text, {"program": base}), NAME_SAFE)
            if literal(word) is None and base != "unset":
                self.refuse_word(word, self.flow.all, NAME_UNTOLD, NAME_SAFE)
            name = literal(word) or ""
            if base != "unset" and runs_code_by_name(name) and self.flow.names.get(name):
                self.refuse_word(
                    word,
                    self.flow.names[name],
                    N_("Programs take commands from the variable %(variable)s.", variable=name),
                    N_("Choose another name for the variable."),
                )

        if base in ("mapfile", "readarray") and any(
            self.start_of(word).startswith("-C") for word in arguments
        ):
            self.refuse_stdin(base, first, stdin)

    def let(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        for word in arguments:
            self.calculated(word.parts, Text("", False, word.at, word.end))

    def printf(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        if [literal(word) for word in arguments[:1]] == ["-v"]:
            for word in arguments[1:2]:
                self.refuse_if_reached(word, Message(NAMED.text, {"program": base}), NAME_SAFE)
                if literal(word) is None:
                    self.refuse_word(word, self.flow.all, NAME_UNTOLD, NAME_SAFE)
        if arguments and self.start_of(arguments[0]).startswith("-"):
            self.refuse_if_reached(arguments[0], Message(NAMED.text, {"program": base}), NAME_SAFE)
            if literal(arguments[0]) is None:
                self.refuse_word(arguments[0], self.flow.all, NAME_UNTOLD, NAME_SAFE)
        if arguments and self.may_vanish(arguments[0]):
            self.refuse_word(
                arguments[0],
                self.values_in(arguments[1:2]),
                N_("This could be the option -v, and what follows it a variable's name."),
                N_("Put it in double quotes, or write it out."),
            )
        if len(arguments) > 1 and self.may_be_option(arguments[0]):
            self.refuse_if_reached(
                arguments[0], BEFORE, N_("Write a format before it: printf %%s {%(name)s}.")
            )

    def test(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        for index, word in enumerate(arguments):
            before = literal(arguments[index - 1]) if index else None
            if before in ("-v", "-R") or (before is None and index == 1):
                self.refuse_if_reached(
                    word,
                    Message(NAMED.text, {"program": base}),
                    N_("Test whether it is empty instead: test -n {%(name)s}."),
                )
            elif index + 1 < len(arguments) and self.may_be_option(word):
                operator = literal(arguments[index + 1])
                if operator is None or operator in ("-a", "-o"):
                    self.refuse_if_reached(
                        word, BEFORE, N_("Use [[ … ]], where a value is never an operator.")
                    )

    def declared_by(self, command: Simple) -> None:
        """Check the assignments among the arguments of `declare` and its like: attributes before them."""
        for word in command.words[1:]:
            self.refuse_if_reached(word, Message(NAMED.text, {"program": "declare"}), NAME_SAFE)

    def declare(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        for word in arguments:
            part = word.parts[0] if word.parts else None
            found = ASSIGNING.match(part.text) if isinstance(part, Text) else None
            if not found or self.flow.is_typed(found.group(1)) or found.group(1) in self.flow.arrays:
                self.refuse_if_reached(word, Message(NAMED.text, {"program": base}), NAME_SAFE)
            else:
                self.set_for(found.group(1), word)

    def set_for(self, name: str, word: Word) -> None:
        """Check `name=value` among the arguments of a program that puts it into an environment."""
        if runs_code_by_name(name):
            self.refuse_if_reached(
                word,
                N_(
                    "Programs take commands, or files that have commands, from the variable %(variable)s.",
                    variable=name,
                ),
                N_("Write its value out, or choose another name for the variable."),
            )

    def trap(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        for word in arguments:
            if self.refuse_if_reached(
                word,
                Message(PROGRAM_TEXT.text, {"program": base}),
                N_(
                    "Define a function before it, with the value in it: f() { probe {%(name)s}; }; trap f EXIT."
                ),
            ):
                return
        if arguments:
            self.program_text(arguments[0], base, self.flow.positional, stdin)
