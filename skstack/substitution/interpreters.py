"""Programs that run text: shells, languages, and what else has a program among its arguments."""

from __future__ import annotations

import re

from skstack.messages import N_, Message
from skstack.substitution.findings import (
    BEFORE,
    NAME_SAFE,
    PROGRAM_NAME,
    PROGRAM_TEXT,
    STDIN,
    STDIN_SAFE,
    WRITTEN,
    Findings,
    is_one_of,
)
from skstack.substitution.flow import NOTHING, Origins
from skstack.substitution.grammar import Grammar
from skstack.substitution.lexer import Unreadable
from skstack.substitution.programs import (
    SHELLS,
    Interpreter,
    named,
)
from skstack.substitution.syntax import (
    Slot,
    Substitution,
    Text,
    Word,
    literal,
)

_OPTION = re.compile(r"[-+].")
_AWKS = frozenset({"awk", "gawk", "mawk", "nawk"})


class Interpreters(Findings):
    """Rules for such programs, by the table of `programs.INTERPRETERS`."""

    def interpreter(
        self, base: str, program: Interpreter, first: Word, arguments: list[Word], stdin: Origins
    ) -> None:
        """Check the code, the script and the standard input of a program that runs text."""
        code, operands, mode = self._interpreter_options(base, program, arguments)
        self._certain_start(arguments, len(arguments) - len(operands) + 1)
        for word in code:
            self._refuse_code(base, program, word)
        if mode == "m":
            return
        if base in SHELLS:
            self._shell(base, program, first, operands, mode, stdin)
            return
        if program.first_operand_is == "script" and not code:
            self._script_or_stdin(base, program, first, operands, stdin)
            return
        if program.first_operand_is != "script":
            self._operands_are_no_options(operands)
        if not code and program.first_operand_is == "code" and operands and mode != "f":
            code, operands = operands[:1], operands[1:]
            self._refuse_code(base, program, code[0])
        if code:
            self._constant_code(base, program, code, operands, stdin, arguments)
        elif program.first_operand_is == "database" and len(operands) > 1:
            for word in operands[1:]:
                self._refuse_code(base, program, word)
        elif program.reads_stdin:
            self.refuse_stdin(base, first, stdin)

    def _certain_start(self, arguments: list[Word], length: int) -> None:
        """Refuse expansions that may be empty, before it is known which argument is code or a script."""
        for index, word in enumerate(arguments[:length]):
            if self.may_vanish(word) and not self.flow.reaching(word):
                self.refuse_word(
                    word,
                    # As an option it could make code of what does not look like it.
                    self.flow.all if self.could_be(word, _OPTION) else self.values_in(arguments[index + 1 :]),
                    N_("Where this is empty, the value after it would be run."),
                    N_("Put it in double quotes, or write it out."),
                )

    def _operands_are_no_options(self, operands: list[Word]) -> None:
        """Refuse values that may start with a dash, for programs whose options may follow operands."""
        for word in operands:
            if self.may_be_option(word):
                self.refuse_if_reached(word, BEFORE, N_("Choose a variable whose values no dash may start."))

    def _shell(
        self, base: str, program: Interpreter, first: Word, operands: list[Word], mode: str, stdin: Origins
    ) -> None:
        # sh -c takes its program from the first operand, after all options.
        if mode == "c" and operands:
            self._refuse_code(base, program, operands[0])
            self.program_text(operands[0], base, self.values_in(operands[1:]), stdin)
        elif mode != "c":
            self._script_or_stdin(base, program, first, [] if mode == "s" else operands, stdin)

    def _script_or_stdin(
        self, base: str, program: Interpreter, first: Word, operands: list[Word], stdin: Origins
    ) -> None:
        if operands and literal(operands[0]) != "-":
            self._script(base, operands[0])
        if program.reads_stdin and (
            not operands or literal(operands[0]) == "-" or self.may_vanish(operands[0])
        ):
            self.refuse_stdin(base, first, stdin)

    def _script(self, base: str, script: Word) -> None:
        if self.refuse_if_reached(script, PROGRAM_NAME, N_("Write the name of the file out.")):
            return
        written = self.written(script)
        self.refuse_word(script, written, Message(WRITTEN.text, {"program": base}), None)
        for part in script.parts:
            if isinstance(part, Substitution) and part.direction == "<":
                self.refuse_part(
                    part, self.flow.reaching(part), Message(STDIN.text, {"program": base}), STDIN_SAFE
                )

    def _interpreter_options(
        self, base: str, program: Interpreter, arguments: list[Word]
    ) -> tuple[list[Word], list[Word], str]:
        """Return the words that are code, the operands, and which of `c`, `m`, `s` was among the options."""
        code: list[Word] = []
        mode = ""
        index = 0
        is_shell = base in SHELLS
        while index < len(arguments):
            word = arguments[index]
            start = self.start_of(word)
            rest = arguments[index + 1 :]
            if start == "--" or (is_shell and literal(word) == "-"):
                return code, rest, mode
            if not start.startswith(("-", "+") if is_shell else "-") or start == "-":
                return code, arguments[index:], mode
            taken = self._exact_option(base, program, word, start, rest, code)
            if start.partition("=")[0] in ("--file", "--from-file"):
                mode = "f"
            if taken is None:
                mode_now, taken = self._letters(base, program, word, start, rest, code)
                mode = mode if mode == "c" else mode_now or mode
                if mode_now == "m":
                    return code, rest[1:], "m"
                if mode_now == "C":
                    return code, rest[taken - 1 :], ""
            index += taken
        return code, [], mode

    def _exact_option(
        self, base: str, program: Interpreter, word: Word, start: str, rest: list[Word], code: list[Word]
    ) -> int | None:
        """Take a long option: return how many words it is, None where it is none."""
        option, equals, _ = start.partition("=")
        if base == "jq" and option in ("--arg", "--argjson", "--slurpfile", "--rawfile"):
            return 3
        if is_one_of(option, program.code_long):
            code.append(word if equals or not rest else rest[0])
            return 1 if equals else 2
        if is_one_of(option, program.takes_long):
            if not is_one_of(option, program.carries_long):
                self._refuse_code(base, program, word if equals or not rest else rest[0])
            return 1 if equals else 2
        if start.startswith("--"):
            self.refuse_if_reached(word, BEFORE, NAME_SAFE)
            return 1
        return None

    def _letters(
        self, base: str, program: Interpreter, word: Word, start: str, rest: list[Word], code: list[Word]
    ) -> tuple[str, int]:
        """Take a word of one-letter options: return what mode they set, and how many words they are."""
        if base in SHELLS:
            return self._shell_letters(base, program, start, rest)
        for position, letter in enumerate(start[1:], 1):
            attached = position + 1 < len(start) or literal(word) is None
            if base.startswith(("python", "pypy")) and letter == "m":
                self._module(base, word, attached, rest)
                return "m", 1
            if letter in program.code:
                code.append(word if attached or not rest else rest[0])
                # Python's program ends its options.
                return "C" if base.startswith(("python", "pypy")) else "", 1 if attached else 2
            if letter in program.takes:
                if letter not in program.carries:
                    self._refuse_code(base, program, word if attached or not rest else rest[0])
                return "f" if letter == "f" else "", 1 if attached else 2
            if letter in program.attached and letter not in "0l":
                break
        self.refuse_if_reached(word, BEFORE, NAME_SAFE)
        return "", 1

    def _shell_letters(
        self, base: str, program: Interpreter, start: str, rest: list[Word]
    ) -> tuple[str, int]:
        """Take a word of a shell's options; each `o` in it takes one of the words after it."""
        taken = sum(letter in program.takes for letter in start[1:])
        for word in rest[:taken]:
            self._refuse_code(base, program, word)
        return "c" if "c" in start else "s" if "s" in start else "", 1 + taken

    def _module(self, base: str, word: Word, attached: bool, rest: list[Word]) -> None:
        module = word if attached or not rest else rest[0]
        if self.refuse_if_reached(module, PROGRAM_NAME, NAME_SAFE):
            return
        if (literal(module) or "").endswith(("timeit", "pdb", "cProfile", "profile", "trace", "runpy")):
            for each in rest:
                self.refuse_if_reached(each, Message(PROGRAM_TEXT.text, {"program": base}), None)

    def _refuse_code(self, base: str, program: Interpreter, word: Word) -> None:
        message = Message(PROGRAM_TEXT.text, {"program": base})
        if self.refuse_if_reached(word, message, program.safe) or not program.strict_too:
            return
        slot = next((part for part in word.parts if isinstance(part, Slot)), None)
        if slot and not (base.endswith("sed") and self._between_bars(word)):
            instead = named(program.safe, slot.name)
            if base.endswith("sed"):
                instead = N_(
                    "A strict value may stand between other signs than “/”: sed 's|old|{%(name)s}|'.",
                    name=slot.name,
                )
            self.refuse(slot.at, slot.end - slot.at, message, instead)

    def _between_bars(self, word: Word) -> bool:
        """Tell whether all placeholders of a sed program stand in one `s` command with `|`, `#`, `!` or `~`."""
        text = "".join(part.text if isinstance(part, Text) else "x" for part in word.parts)
        return re.fullmatch(r"s([|#!~])(?:(?!\1)[^\\\n])*\1(?:(?!\1)[^\\\n])*\1[gI0-9]*", text) is not None

    def _constant_code(
        self,
        base: str,
        program: Interpreter,
        code: list[Word],
        operands: list[Word],
        stdin: Origins,
        arguments: list[Word],
    ) -> None:
        """Check a constant program that itself starts commands, and files that some programs run."""
        text = " ".join(self.approximate(word) for word in code)
        others = [word for word in arguments if word not in code]
        reached = self.values_in(others) | (stdin if base in _AWKS else NOTHING)
        if program.starts and code and reached and program.starts.search(text):
            self.refuse_word(
                code[0],
                reached,
                N_(
                    "This program hands text to a shell, or runs it, and it is given the value of {%(name)s}."
                ),
                N_("Put the program into a file, where it can be read and tested."),
            )
        letters = "".join(self.start_of(word)[1:] for word in arguments if self.start_of(word)[:1] == "-")
        if program.opens_operands and any(letter in letters for letter in program.opens_operands):
            for word in operands:
                self.refuse_if_reached(
                    word,
                    N_(
                        "With -n or -p, %(program)s runs a file name such as “date|” as a command.",
                        program=base,
                    ),
                    N_("Give it the file on standard input, or use a strict variable."),
                )

    def program_text(self, word: Word, base: str, arguments: Origins, stdin: Origins) -> None:
        """Check a constant text that a shell will run."""
        text = self.approximate(word)
        depth, around = 0, self.outer
        while around:
            depth, around = depth + 1, around.outer
        try:
            if "\n" in text or depth > 8:
                raise Unreadable(0, N_("This is too deep, or has several lines."))
            commands = Grammar(text, self.variables).line()
        except Unreadable as unreadable:
            reached = arguments | stdin | self.flow.all
            self.refuse_word(
                word,
                reached,
                N_(
                    "This program for %(program)s cannot be read, and it is given a value: %(reason)s",
                    program=base,
                    reason=unreadable.message,
                ),
                N_("Put the program into a file."),
            )
            return
        place = self.place or (word.at, word.end - word.at)
        type(self)(
            commands, self.variables, outer=self, place=place, arguments=arguments, stdin=stdin
        ).check()
