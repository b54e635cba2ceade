"""Find where a value would be read again as code, in a line that has been read."""

from __future__ import annotations

import re

from skstack.messages import N_
from skstack.substitution.flow import NOTHING, Origins
from skstack.substitution.invocations import Invocations
from skstack.substitution.names import runs_code_by_name
from skstack.substitution.programs import named
from skstack.substitution.syntax import (
    Arithmetic,
    Assignment,
    Calculation,
    Command,
    Compound,
    Condition,
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
    plain,
    walk,
)
from skstack.substitution.values import PREFIX

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CALCULATING = frozenset({"-eq", "-ne", "-lt", "-le", "-gt", "-ge"})
_NAMING = frozenset({"-v", "-R"})

# Builtins: their arguments never leave the shell's process.
_INSIDE_THE_SHELL = frozenset({"echo", "printf", "test", "[", "set"})

SECRET = N_("A secret may not stand on a command line, because the list of processes shows it.")
SECRET_INSTEAD = N_("The command finds it in its environment as WO_%(name)s.")

_CALCULATED = N_("The shell would calculate with this value, and a calculation can run commands.")
_COMPARE = N_("Compare whole numbers with [ … ]: [ {%(name)s} -gt 1 ]; or mark the variable as strict.")


class Rules(Invocations):
    """Checks one line, or a program text within it; what it finds is in `problems` of the outermost."""

    def check(self) -> None:
        """Check all commands."""
        for node in walk(self.commands):
            if isinstance(node, Simple) and node.redirects and self.flow.could_name(node, {"exec"}):
                # What it redirects holds for the commands after it.
                self.stdin |= self.flow.all
        self._list(self.commands, self.stdin)

    # Commands.

    def _list(self, pipelines: list[Pipeline], stdin: Origins) -> None:
        for pipeline in pipelines:
            arriving = stdin
            for command in pipeline.commands:
                self._command(command, arriving)
                arriving |= self.flow.reaching(command)

    def _command(self, command: Command, stdin: Origins) -> None:
        stdin = self._stdin(command.redirects, stdin)
        for redirect in command.redirects:
            self._redirect(redirect, stdin)
        if isinstance(command, Simple):
            self._simple(command, stdin)
        elif isinstance(command, Compound):
            self._compound(command, stdin)
        elif isinstance(command, Calculation):
            self._calculation(command.expression, stdin)
        else:
            self._condition(command, stdin)

    def _stdin(self, redirects: list[Redirect], stdin: Origins) -> Origins:
        """Return what values a command reads on standard input, after its redirections."""
        for redirect in redirects:
            if redirect.operator == "<<<":
                stdin = self.flow.reaching(redirect.target)
            elif redirect.operator == "<":
                stdin = self.flow.reaching(redirect.target) | self.written(redirect.target)
            elif redirect.operator in ("<&", "<>"):
                stdin = self.flow.all
        return stdin

    def _redirect(self, redirect: Redirect, stdin: Origins) -> None:
        self._word(redirect.target, stdin)
        self._never_several(redirect.target)
        is_text = redirect.operator == "<<<"
        only_process = all(
            isinstance(part, Substitution) and part.direction for part in redirect.target.parts
        )
        if is_text or only_process:
            return
        self.refuse_if_reached(
            redirect.target,
            N_("The value would choose the file that is read or written."),
            N_("Write a fixed file name, or mark the variable {%(name)s} as strict."),
        )

    def _simple(self, command: Simple, stdin: Origins) -> None:
        for assignment in (*command.assignments, *command.declared):
            self._assignment(assignment, stdin)
        for word in command.words:
            self._word(word, stdin)
        if command.words:
            for word in command.words[1:]:
                self._secret(command.words[0], word)
            if command.declared:
                self.declared_by(command)
            self.invocation(command.words, stdin)
            self._arguments(command.words)

    def _arguments(self, words: list[Word]) -> None:
        """Note which values begin an argument, and refuse what bash would split into several."""
        for word in words[1:]:
            for part in word.parts:
                if isinstance(part, Parameter | Substitution) and not part.quoted and part_splits(part):
                    self.refuse_part(
                        part,
                        self.flow.reaching(part),
                        N_("Outside quotes the shell splits this at blanks and expands patterns in it."),
                        N_("Put it in double quotes."),
                    )
            self.whole_words |= self.beginning(word)

    def _secret(self, first: Word, word: Word) -> None:
        """Refuse a secret among the arguments of a program, which the list of processes shows."""
        if literal(first) in _INSIDE_THE_SHELL:
            return
        for part in word.parts:
            if isinstance(part, Parameter):
                names = {part.name.removeprefix(PREFIX)} if part.name.startswith(PREFIX) else set()
                for name in sorted(names | self.flow.reaching(part)):
                    if name in self.variables and self.variables[name].secret:
                        self.refuse(part.at, part.end - part.at, SECRET, named(SECRET_INSTEAD, name))

    def _compound(self, command: Compound, stdin: Origins) -> None:
        for word in command.words or []:
            self._word(word, stdin)
        if command.kind == "case":
            for word in command.words or []:
                self._never_several(word)
        elif command.kind in ("for", "select"):
            for word in command.words or []:
                self.whole_words |= self.beginning(word)
        if command.name.startswith(PREFIX):
            self._never_assigned(command.name, command.at)
        if command.name and runs_code_by_name(command.name) and self.flow.names.get(command.name):
            self._dangerous(command.name, command.at)
        if command.kind == "coproc":
            stdin = self.flow.all
        for body in command.bodies:
            self._list(body, stdin)

    def _condition(self, command: Condition, stdin: Origins) -> None:
        for index, word in enumerate(command.words):
            self._word(word, stdin)
            self._never_several(word)
            before = plain(command.words[index - 1]) if index else None
            after = plain(command.words[index + 1]) if index + 1 < len(command.words) else None
            if before in _CALCULATING or after in _CALCULATING:
                self._calculated_word(word)
            elif before in _NAMING:
                self.refuse_if_reached(
                    word,
                    N_("The value would be read as a variable's name, whose subscript can run commands."),
                    N_("Test whether it is empty instead: [[ -n {%(name)s} ]]."),
                )

    # Words and what is in them.

    def _word(self, word: Word, stdin: Origins) -> None:
        for part in word.parts:
            self._part(part, stdin)
        self._several_stands_alone(word)

    def _part(self, part: Part, stdin: Origins) -> None:
        if isinstance(part, Arithmetic):
            self._calculation(part, stdin)
        elif isinstance(part, Substitution):
            with self.elsewhere(part if part.foreign else None):
                self._list(part.body, self.flow.all if part.direction == ">" else stdin)
        elif isinstance(part, Parameter):
            self._parameter(part, stdin)

    def _parameter(self, part: Parameter, stdin: Origins) -> None:
        if part.subscript:
            self._calculation(part.subscript, stdin)
        for each in part.operand:
            self._part(each, stdin)
        reached = self.flow.names.get(part.name, NOTHING) | self.flow.reaching(
            Parameter(part.name, True, part.at, part.end)
        )
        if part.indirect and part.operator not in ("*", "@"):
            self.refuse_part(
                part,
                reached or self.flow.all,
                N_("The value would be read as a variable's name, whose subscript can run commands."),
                N_("Choose with case: case {%(name)s} in a) …;; b) …;; esac."),
            )
        if part.operator == "@P":
            self.refuse_part(
                part, reached, N_("@P expands the value as a prompt, which can run commands."), None
            )
        if part.operator == ":":
            self._calculation(Arithmetic(part.operand, True, part.at, part.end), stdin)
        if part.operator in ("=", ":="):
            self._assigned(part.name, self.flow.reaching(Word(part.operand, part.at, part.end)), part)

    def _calculation(self, expression: Arithmetic, stdin: Origins) -> None:
        for part in expression.parts:
            self._part(part, stdin)
        self.calculated(expression.parts, Text("", False, expression.at, expression.end))

    def _calculated_word(self, word: Word) -> None:
        self.calculated(word.parts, Text("", False, word.at, word.end))

    def calculated(self, parts: list[Part], whole: Part) -> None:
        """Refuse values in text that the shell calculates, directly or by a name in it."""
        for part in parts:
            if isinstance(part, Text):
                for name in _NAME.findall(part.text):
                    reached = self.flow.reaching(Parameter(name, True, whole.at, whole.end))
                    self.refuse_part(whole, reached, _CALCULATED, _COMPARE)
            else:
                self.refuse_part(part, self.flow.reaching(part), _CALCULATED, _COMPARE)

    # Assignments.

    def _assignment(self, assignment: Assignment, stdin: Origins) -> None:
        if assignment.subscript is not None:
            for part in assignment.subscript:
                self._part(part, stdin)
        self._word(assignment.value, stdin)
        self._never_several(assignment.value)
        for element in assignment.elements or []:
            self._word(element, stdin)
            self.whole_words |= self.beginning(element)
        reached = self.flow.reaching(assignment.value)
        for element in assignment.elements or []:
            reached |= self.flow.reaching(element)
        where = next(
            (part for part in assignment.value.parts if self.flow.reaching(part)),
            Text("", False, assignment.at, assignment.at + len(assignment.name)),
        )
        self._assigned(assignment.name, reached, where)
        if (
            assignment.elements is None
            and assignment.subscript is None
            and assignment.name in self.flow.arrays
        ):
            self._typed(reached, where)

    def _assigned(self, name: str, reached: Origins, where: Part) -> None:
        if name.startswith(PREFIX):
            self._never_assigned(name, where.at)
        if reached and runs_code_by_name(name):
            self.refuse_part(
                where,
                reached,
                N_(
                    "Programs take commands, or files that have commands, from the variable %(variable)s.",
                    variable=name,
                ),
                N_("Write its value out, or choose another name for the variable."),
            )
        elif self.flow.is_typed(name):
            self._typed(reached, where)

    def _typed(self, reached: Origins, where: Part) -> None:
        self.refuse_part(
            where,
            reached,
            N_("A variable declared as a number, an array or a reference reads what it is given as code."),
            N_("Assign the value to a plain variable: X={%(name)s}."),
        )

    def _never_assigned(self, name: str, at: int) -> None:
        variable = name.removeprefix(PREFIX)
        if variable in self.variables or re.sub(r"_[0-9]+\Z", "", variable) in self.variables:
            self.refuse(
                at,
                len(name),
                N_("%(variable)s carries a value and may not be changed.", variable=name),
                N_("Choose another name."),
            )

    def _dangerous(self, name: str, at: int) -> None:
        self.refuse(
            at,
            len(name),
            N_(
                "Programs take commands, or files that have commands, from the variable %(variable)s.",
                variable=name,
            ),
            N_("Choose another name for the variable."),
        )

    # One argument each.

    def _several_stands_alone(self, word: Word) -> None:
        for part in word.parts:
            if not isinstance(part, Slot) or part.quote or len(word.parts) == 1:
                continue
            if self.is_several(part):
                self.refuse(
                    part.at,
                    part.end - part.at,
                    N_("{%(name)s} gives one argument for each value and must stand alone.", name=part.name),
                    N_(
                        'Put blanks around it, or, to join the values, double quotes: "…{%(name)s}…".',
                        name=part.name,
                    ),
                )

    def _never_several(self, word: Word) -> None:
        for part in word.parts:
            if isinstance(part, Slot) and not part.quote and self.is_several(part):
                self.refuse(
                    part.at,
                    part.end - part.at,
                    N_(
                        "{%(name)s} gives one argument for each value, and only one can stand here.",
                        name=part.name,
                    ),
                    N_('To join the values, use double quotes: "{%(name)s}".', name=part.name),
                )


def part_splits(part: Parameter | Substitution) -> bool:
    """Tell whether bash splits what this expands to: all but `>(…)` and `<(…)`."""
    return isinstance(part, Parameter) or not part.direction
