"""Judge the words of one simple command by what its program does with them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from skstack.messages import N_, Message
from skstack.substitution.flow import NOTHING, Flow, Origins
from skstack.substitution.grammar import DECLARING, Grammar
from skstack.substitution.lexer import Unreadable
from skstack.substitution.names import runs_code_by_name
from skstack.substitution.programs import (
    INTERPRETERS,
    OPTIONS,
    RISKY_OPTIONS,
    SHELL_SAFE,
    SHELLS,
    WRAPPERS,
    Interpreter,
    Wrapper,
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
    walk,
)
from skstack.substitution.values import Variable

_VERSION = re.compile(r"-?[0-9][0-9.]*\Z")
_ASSIGNING = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\+?=")
_BRACES = re.compile(r"\{[^{}]*(?:,|\.\.)")
_PATTERN = re.compile(r"[*?\[]")
_CODE_OPTION = re.compile(r"-[a-zA-Z]*[ce]|--(?:command|eval|execute|exec)")
# Programs that only print or store what looks like a command.
_INDIFFERENT = frozenset(
    ["echo", "printf", "logger", "grep", "egrep", "fgrep", "cat", "git", "true", "false"]
)

_PROGRAM_TEXT = N_("%(program)s reads this as a program, and a value in it would be part of the program.")
_PROGRAM_NAME = N_("The value would be the name of what is run.")
_BEFORE = N_("Here the value could be taken for an option, and the next word for the command.")
_NAMED = N_("%(program)s reads this as a variable's name, whose subscript can run commands.")
_NAME_SAFE = N_("Write the name out.")
_STDIN = N_("%(program)s runs what it reads, and here it would read a value.")
_STDIN_SAFE = N_(
    "Run a fixed program, and give it the value as an argument: sh -c 'probe \"$1\"' x {%(name)s}."
)
_WRITTEN = N_("%(program)s would run a file that the line writes a value into.")


class Invocations(ABC):
    """The commands of one line, or of a program text in it, and what was found wrong with them."""

    def __init__(
        self,
        commands: list[Pipeline],
        variables: Mapping[str, Variable],
        *,
        outer: Invocations | None = None,
        place: tuple[int, int] | None = None,
        arguments: Origins = NOTHING,
        stdin: Origins = NOTHING,
    ) -> None:
        self.commands = commands
        self.variables = variables
        self.outer = outer
        self.place = place  # where problems are reported, if not where their words stand
        self.stdin = stdin
        self.flow = Flow(
            commands, variables, outer=outer.flow if outer else None, arguments=arguments, extra=stdin
        )
        self.problems: list[tuple[int, int, Message, Message | None]] = outer.problems if outer else []
        self.whole_words: set[str] = outer.whole_words if outer else set()
        self._files = self._written_files()

    @abstractmethod
    def check(self) -> None:
        """Check all commands."""

    @abstractmethod
    def calculated(self, parts: list[Part], whole: Part) -> None:
        """Refuse values in text that the shell calculates."""

    # Saying no.

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

    # Questions about words.

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
        name = self.flow.text(word)
        return self._files.get(name.rsplit("/", 1)[-1], NOTHING) if name else NOTHING

    def _reached(self, words: list[Word]) -> Origins:
        return NOTHING.union(*(self.flow.reaching(word) for word in words))

    def _may_vanish(self, word: Word) -> bool:
        """Tell whether this can become no word, or several: an expansion outside quotes."""
        return any(
            (isinstance(part, Parameter | Substitution) and not part.quoted and self.flow.text(word) is None)
            or self.is_several(part)
            for part in word.parts
        )

    def _may_be_option(self, word: Word) -> bool:
        """Tell whether a value can make this an option, in spite of the check of whole words."""
        return any(
            self.variables[name].allow_leading_dash for name in self.beginning(word) if name in self.variables
        ) or any(self.flow.is_split(part) for part in word.parts[:1])

    # The command.

    def invocation(self, words: list[Word], stdin: Origins) -> None:
        """Check a command's words. `stdin`: the values that its standard input may have."""
        words = self._constant_words(words)
        first, arguments = words[0], words[1:]
        if self.refuse_if_reached(
            first,
            _PROGRAM_NAME,
            N_("Write the name out, or choose with case: case {%(name)s} in a) …;; esac."),
        ):
            return
        name = self.flow.text(first)
        reached = self._reached(arguments)
        if name is None:
            self._unknown_name(first, arguments, stdin)
            return
        written = self.written(first)
        if written and "/" in name:
            self._refuse_word(first, written, Message(_WRITTEN.text, {"program": name}), None)
        if (
            any(
                isinstance(p, Text) and not p.quoted and (_BRACES.search(p.text) or _PATTERN.search(p.text))
                for p in first.parts
            )
            and name != "["
            and (reached or stdin)
        ):
            self._refuse_word(
                first, reached | stdin, N_("Which program this is cannot be told."), N_("Write its name out.")
            )
        base = name.rsplit("/", 1)[-1]
        self._named(base, first, arguments, stdin)

    def _named(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        builtin = _BUILTINS.get(base)
        stem = base if base in INTERPRETERS or base in WRAPPERS else _VERSION.sub("", base)
        if base in ("eval", "source", "."):
            self._evaluating(base, first, arguments)
        elif builtin:
            builtin(self, base, first, arguments, stdin)
        elif stem in WRAPPERS:
            self._wrapper(stem, first, WRAPPERS[stem], arguments, stdin)
        elif stem in INTERPRETERS:
            self._interpreter(stem, INTERPRETERS[stem], first, arguments, stdin)
        else:
            self._other(base, first, arguments, stdin)

    def _constant_words(self, words: list[Word]) -> list[Word]:
        """Split names that have a constant value and stand outside quotes, as the shell will."""
        made: list[Word] = []
        for word in words:
            part = word.parts[0] if len(word.parts) == 1 else None
            text = self.flow.text(word)
            if isinstance(part, Parameter) and not part.quoted and text is not None:
                made += [
                    Word([Text(each, False, word.at, word.end)], word.at, word.end) for each in text.split()
                ]
            else:
                made.append(word)
        return made or words

    def _unknown_name(self, first: Word, arguments: list[Word], stdin: Origins) -> None:
        reached = self._reached(arguments)
        if self._may_vanish(first):
            # Where the expansion gives nothing, the next word is the command.
            if arguments and self.refuse_if_reached(
                arguments[0], _PROGRAM_NAME, N_("Put the name before it in double quotes.")
            ):
                return
            if arguments:
                self.invocation(arguments, stdin)
        slots = [part for part in first.parts if isinstance(part, Slot)]
        directory = "".join(part.text for part in first.parts if isinstance(part, Text))
        ending = first.parts[-1].text if isinstance(first.parts[-1], Text) else ""
        if slots and reached and not ending and not re.search(r"/(?!s?bin/)[^/]*/?\Z|\A\./", directory):
            self._refuse_word(
                first,
                reached,
                N_("With some choices, such as “eval” or “env”, this would run the value of {%(name)s}."),
                N_("Write the name out, or where it is: ./{%(slot)s} …", slot=slots[0].name),
            )
        tail = "".join(part.text for part in first.parts[-1:] if isinstance(part, Text)).rsplit("/", 1)[-1]
        if tail in INTERPRETERS or tail in WRAPPERS:
            self._named(tail, first, arguments, stdin)
        elif (
            tail in ("", "SHELL")
            and isinstance(first.parts[-1], Parameter)
            and first.parts[-1].name in ("SHELL", "BASH")
        ):
            self._interpreter("sh", INTERPRETERS["sh"], first, arguments, stdin)
        else:
            self._option_code(first, arguments)
            self._other("", first, arguments, stdin)

    def _option_code(self, first: Word, arguments: list[Word]) -> None:
        """Refuse `-c VALUE` to a program that is not known."""
        for option, code in zip(arguments, arguments[1:], strict=False):
            if _CODE_OPTION.fullmatch(self.flow.text(option) or ""):
                self.refuse_if_reached(
                    code,
                    N_("Which program this is cannot be told, and it may read this as code."),
                    N_("Write its name out."),
                )

    def _refuse_word(self, word: Word, reached: Origins, message: Message, instead: Message | None) -> None:
        if reached:
            name = min(reached)
            self.refuse(word.at, word.end - word.at, named(message, name) or message, named(instead, name))

    # Builtins.

    def _evaluating(self, base: str, first: Word, arguments: list[Word]) -> None:
        reached = self.flow.all
        if self.outer and base != "eval" and not self._reached(arguments):
            # A fixed file, read in a program of its own: what it does with its surroundings is its own affair.
            return
        self._refuse_word(
            first,
            reached,
            N_("“%(builtin)s” reads text again as commands, and this line has a value in it.", builtin=base),
            N_("Move it to a program of its own: bash -c '. ./env.sh && probe \"$1\"' x {%(name)s}."),
        )

    def _refuse_names(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        for word in arguments:
            self.refuse_if_reached(word, Message(_NAMED.text, {"program": base}), _NAME_SAFE)

    def _let(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        for word in arguments:
            self.calculated(word.parts, Text("", False, word.at, word.end))

    def _printf(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        for option, name in zip(arguments, arguments[1:], strict=False):
            if (self.flow.text(option) or "-v") == "-v":
                if self.flow.text(option):
                    self.refuse_if_reached(name, Message(_NAMED.text, {"program": base}), _NAME_SAFE)
            break
        if arguments and (self.flow.text(arguments[0]) or "").startswith("-v"):
            self.refuse_if_reached(arguments[0], Message(_NAMED.text, {"program": base}), _NAME_SAFE)
        if len(arguments) > 1 and self._may_be_option(arguments[0]):
            self.refuse_if_reached(
                arguments[0], _BEFORE, N_("Write a format before it: printf %%s {%(name)s}.")
            )

    def _test(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        for index, word in enumerate(arguments):
            before = self.flow.text(arguments[index - 1]) if index else None
            if before in ("-v", "-R"):
                self.refuse_if_reached(
                    word,
                    Message(_NAMED.text, {"program": base}),
                    N_("Test whether it is empty instead: test -n {%(name)s}."),
                )
            elif index + 1 < len(arguments) and self._may_be_option(word):
                operator = self.flow.text(arguments[index + 1])
                if operator is None or operator in ("-a", "-o"):
                    self.refuse_if_reached(
                        word, _BEFORE, N_("Use [[ … ]], where a value is never an operator.")
                    )

    def declared_by(self, command: Simple) -> None:
        """Check the assignments among the arguments of `declare` and its like: attributes before them."""
        for word in command.words[1:]:
            self.refuse_if_reached(word, Message(_NAMED.text, {"program": "declare"}), _NAME_SAFE)

    def _declare(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        for word in arguments:
            part = word.parts[0] if word.parts else None
            found = _ASSIGNING.match(part.text) if isinstance(part, Text) else None
            if not found or self.flow.typed or found.group(1) in self.flow.arrays:
                self.refuse_if_reached(word, Message(_NAMED.text, {"program": base}), _NAME_SAFE)
            else:
                self._set_for(found.group(1), word)

    def _set_for(self, name: str, word: Word) -> None:
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

    def _trap(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        for word in arguments:
            if self.refuse_if_reached(
                word,
                Message(_PROGRAM_TEXT.text, {"program": base}),
                N_(
                    "Define a function before it, with the value in it: f() { probe {%(name)s}; }; trap f EXIT."
                ),
            ):
                return
        if arguments:
            self._program_text(arguments[0], base, self.flow.positional, stdin)

    def _no_values(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        for word in arguments:
            self.refuse_if_reached(word, Message(_PROGRAM_TEXT.text, {"program": base}), None)

    def _coded(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        for word in arguments:
            self.refuse_if_reached(
                word,
                Message(_PROGRAM_TEXT.text, {"program": base}),
                N_('Use a loop instead: for i in {%(name)s}; do probe "$i" & done; wait.'),
            )
        if stdin:
            self._refuse_stdin(base, first, stdin)

    # Programs that start others.

    def _wrapper(self, base: str, first: Word, wrapper: Wrapper, arguments: list[Word], stdin: Origins) -> None:
        if wrapper.joins and not {self.flow.text(word) for word in arguments} & wrapper.unless:
            for word in arguments:
                self.refuse_if_reached(word, Message(_PROGRAM_TEXT.text, {"program": base}), wrapper.safe)
        operands = wrapper.operands
        index = 0
        while index < len(arguments):
            word = arguments[index]
            text = self.flow.text(word)
            start = self._start_of(word)
            if text == "--":
                index += 1
                operands_left = operands if operands < 99 else 0
                for operand in arguments[index : index + operands_left]:
                    self._uncertain(operand, arguments[index + 1 :])
                index += operands_left
                break
            if start.startswith("-") and len(start) > 1:
                index += self._wrapper_option(base, wrapper, arguments, index, start, stdin)
                continue
            if wrapper.assignments and _ASSIGNING.match(start):
                self._set_for(start.split("=")[0].rstrip("+"), word)
                index += 1
                continue
            if not operands:
                break
            operands -= 1
            self._uncertain(word, arguments[index + 1 :])
            index += 1
        rest = arguments[index:]
        if rest:
            if wrapper.assignments and self.refuse_if_reached(
                rest[0], _PROGRAM_NAME, N_("To set a variable write its name out: X={%(name)s}.")
            ):
                return
            self.invocation(rest, stdin)
        elif wrapper.shell_if_none and stdin:
            self._refuse_stdin(base, first, stdin)

    def _uncertain(self, word: Word, rest: list[Word]) -> None:
        """Refuse a value that may be no word, several words, or an option, before a command."""
        if rest and (self._may_vanish(word) or self._may_be_option(word)):
            self.refuse_if_reached(
                word, _BEFORE, N_("Choose a variable with one value that no dash may start.")
            )

    def _wrapper_option(
        self, base: str, wrapper: Wrapper, arguments: list[Word], index: int, start: str, stdin: Origins
    ) -> int:
        """Check the option at `index`; return how many words it is."""
        word, rest = arguments[index], arguments[index + 1 :]
        self._uncertain(word, rest)
        message = Message(_PROGRAM_TEXT.text, {"program": base})
        safe = wrapper.safe or SHELL_SAFE
        if start.startswith("--"):
            option, equals, _ = start.partition("=")
            if option in wrapper.code_long:
                self._code(base, word if equals else (rest[0] if rest else word), message, safe, rest, stdin)
                return 1 if equals else 2
            if option in wrapper.takes_long and not equals:
                for value in rest[:1]:
                    self._uncertain(value, rest[1:])
                return 2
            return 1
        for position, letter in enumerate(start[1:], 1):
            attached = position + 1 < len(start) or len(word.parts) > 1
            if letter in wrapper.code:
                self._code(
                    base, word if attached else (rest[0] if rest else word), message, safe, rest, stdin
                )
                return 1 if attached else 2
            if letter in wrapper.takes:
                for value in [] if attached else rest[:1]:
                    self._uncertain(value, rest[1:])
                return 1 if attached else 2
        self.refuse_if_reached(word, _BEFORE, _NAME_SAFE)
        return 1

    def _code(
        self, base: str, word: Word, message: Message, safe: Message, rest: list[Word], stdin: Origins
    ) -> None:
        if not self.refuse_if_reached(word, message, safe):
            self._program_text(word, base, self._reached([each for each in rest if each is not word]), stdin)

    def _start_of(self, word: Word) -> str:
        """Return the certain text that the word begins with."""
        text = self.flow.text(word)
        if text is not None:
            return text
        start = ""
        for part in word.parts:
            if not isinstance(part, Text):
                break
            start += part.text
        return start

    # Programs that run text.

    def _interpreter(
        self, base: str, program: Interpreter, first: Word, arguments: list[Word], stdin: Origins
    ) -> None:
        code, operands, module = self._interpreter_options(base, program, arguments)
        for word in code:
            self._refuse_code(base, program, word)
        is_shell = base in SHELLS
        if is_shell and code:
            # sh -c takes its program from the first operand, after all options.
            code = []
        if is_shell and module == "c":
            if operands:
                self._refuse_code(base, program, operands[0])
                self._program_text(operands[0], base, self._reached(operands[1:]), stdin)
            return
        if module == "m":
            return
        if not code and program.first_operand_is == "code" and operands:
            code, operands = operands[:1], operands[1:]
            self._refuse_code(base, program, code[0])
        if code or program.first_operand_is in ("code", "data"):
            self._constant_code(base, program, code, operands, stdin, arguments)
            if program.first_operand_is == "data" and program.reads_stdin and not code and stdin:
                self._refuse_stdin(base, first, stdin)
            return
        if program.first_operand_is == "database":
            for word in operands[1:]:
                self._refuse_code(base, program, word)
            if len(operands) < 2 and stdin:
                self._refuse_stdin(base, first, stdin)
            return
        script = operands[0] if operands and module != "s" else None
        if script and self.flow.text(script) != "-":
            self._script(base, script, operands[1:])
        elif stdin and program.reads_stdin:
            self._refuse_stdin(base, first, stdin)

    def _script(self, base: str, script: Word, rest: list[Word]) -> None:
        if self.refuse_if_reached(script, _PROGRAM_NAME, N_("Write the name of the file out.")):
            return
        if self._may_vanish(script) and rest:
            self._refuse_word(
                script,
                self._reached(rest),
                N_("Where this is empty, the value would be run."),
                N_("Put it in double quotes."),
            )
        written = self.written(script)
        self._refuse_word(script, written, Message(_WRITTEN.text, {"program": base}), None)
        for part in script.parts:
            if isinstance(part, Substitution) and part.direction == "<":
                self.refuse_part(
                    part, self.flow.reaching(part), Message(_STDIN.text, {"program": base}), _STDIN_SAFE
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
            start = self._start_of(word)
            rest = arguments[index + 1 :]
            if start == "--":
                return code, rest, mode
            if not start.startswith(("-", "+") if is_shell else "-") or start == "-":
                if self._may_vanish(word) and self._reached(rest) and not code and mode != "c":
                    self._refuse_word(
                        word,
                        self._reached(rest),
                        N_("Where this is empty, the value would be run."),
                        N_("Put it in double quotes."),
                    )
                if base == "sqlite3" and not code:
                    return code, arguments[index:], mode
                return code, arguments[index:], mode
            taken = self._exact_option(base, program, word, start, rest, code)
            if taken is None:
                letters, mode_now, taken = self._letters(base, program, word, start, rest, code)
                mode = mode_now or mode
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
        if option in program.code_long:
            code.append(word if equals or not rest else rest[0])
            return 1 if equals else 2
        if option in program.takes_long:
            if option not in program.carries_long:
                self._refuse_code(base, program, word if equals or not rest else rest[0])
            return 1 if equals else 2
        if start.startswith("--"):
            self.refuse_if_reached(word, _BEFORE, _NAME_SAFE)
            return 1
        return None

    def _letters(
        self, base: str, program: Interpreter, word: Word, start: str, rest: list[Word], code: list[Word]
    ) -> tuple[str, str, int]:
        """Take a word of one-letter options: return them, what mode they set, and how many words they are."""
        is_shell, mode = base in SHELLS, ""
        for position, letter in enumerate(start[1:], 1):
            attached = position + 1 < len(start) or (len(word.parts) > 1 and position + 1 == len(start))
            if is_shell:
                if letter in "cs":
                    mode = letter
                elif letter in program.takes and not attached:
                    self._refuse_code(base, program, rest[0]) if rest else None
                    return start, mode, 2
                continue
            if base.startswith(("python", "pypy")) and letter == "m":
                self._module(base, word, attached, rest)
                return start, "m", 1
            if letter in program.code:
                code.append(word if attached or not rest else rest[0])
                # Python's program ends its options.
                return start, "C" if base.startswith(("python", "pypy")) else "", 1 if attached else 2
            if letter in program.takes:
                if letter not in program.carries:
                    self._refuse_code(base, program, word if attached or not rest else rest[0])
                return start, "", 1 if attached else 2
            if letter in program.attached and letter not in "0l":
                break
        self.refuse_if_reached(word, _BEFORE, _NAME_SAFE)
        return start, mode, 1

    def _module(self, base: str, word: Word, attached: bool, rest: list[Word]) -> None:
        module = word if attached or not rest else rest[0]
        if self.refuse_if_reached(module, _PROGRAM_NAME, _NAME_SAFE):
            return
        if (self.flow.text(module) or "").endswith(
            ("timeit", "pdb", "cProfile", "profile", "trace", "runpy")
        ):
            for each in rest:
                self.refuse_if_reached(each, Message(_PROGRAM_TEXT.text, {"program": base}), None)

    def _refuse_code(self, base: str, program: Interpreter, word: Word) -> None:
        message = Message(_PROGRAM_TEXT.text, {"program": base})
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
        text = " ".join(self._approximate(word) for word in code)
        others = [word for word in arguments if word not in code]
        reached = self._reached(others) | (stdin if base in _AWKS else NOTHING)
        if program.starts and code and reached and program.starts.search(text):
            self._refuse_word(
                code[0],
                reached,
                N_(
                    "This program hands text to a shell, or runs it, and it is given the value of {%(name)s}."
                ),
                N_("Put the program into a file, where it can be read and tested."),
            )
        letters = "".join(self._start_of(word)[1:] for word in arguments if self._start_of(word)[:1] == "-")
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

    def _approximate(self, word: Word) -> str:
        return "".join(
            part.text if isinstance(part, Text) else self.flow.constants.get(getattr(part, "name", ""), "_")
            for part in word.parts
        )

    def _program_text(self, word: Word, base: str, arguments: Origins, stdin: Origins) -> None:
        """Check a constant text that a shell will run."""
        text = self._approximate(word)
        depth, around = 0, self.outer
        while around:
            depth, around = depth + 1, around.outer
        try:
            if "\n" in text or depth > 8:
                raise Unreadable(0, N_("This is too deep, or has several lines."))
            commands = Grammar(text, self.variables).line()
        except Unreadable as unreadable:
            reached = arguments | stdin | self.flow.all
            self._refuse_word(
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

    def _refuse_stdin(self, base: str, word: Word, stdin: Origins) -> None:
        self._refuse_word(word, stdin, Message(_STDIN.text, {"program": base}), _STDIN_SAFE)

    # Everything else.

    def _other(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        """Check the options that run things, and interpreters further on in the words."""
        pattern = OPTIONS.get(base)
        if pattern:
            self._options(base, pattern, arguments)
        if base in RISKY_OPTIONS:
            ended = False
            for word in arguments:
                ended = ended or self.flow.text(word) == "--"
                if not ended and any(self.flow.is_split(part) for part in word.parts[:1]):
                    self.refuse_if_reached(
                        word,
                        N_(
                            "A part of a value could start with a dash, and %(program)s has options that run "
                            "programs.",
                            program=base,
                        ),
                        N_("Write -- before it, or use a variable with one argument each."),
                    )
        special = _SPECIAL.get(base)
        if special:
            special(self, base, first, arguments, stdin)
        elif base not in _INDIFFERENT:
            for index, word in enumerate(arguments):
                text = self.flow.text(word)
                if text and text.rsplit("/", 1)[-1] in SHELLS | {"python", "python3", "perl", "ruby", "node"}:
                    following = self.flow.text(arguments[index + 1]) if index + 1 < len(arguments) else ""
                    if following and following.startswith("-"):
                        self.invocation(arguments[index:], NOTHING)
                    break

    def _options(self, base: str, pattern: re.Pattern[str], arguments: list[Word]) -> None:
        message = N_("%(program)s runs what this option names, or reads it as code.", program=base)
        safe = _OPTION_SAFE_FOR.get(base, N_("Write it out, without a value in it."))
        for index, word in enumerate(arguments):
            start = self._start_of(word)
            if pattern.match(start):
                if not self.refuse_if_reached(word, message, safe):
                    self._strict_in_option(base, word, message)
                following = arguments[index + 1 : index + 2] if pattern.fullmatch(start) else []
                for each in following:
                    if base != "find":
                        self.refuse_if_reached(each, message, safe)
                        self._strict_in_option(base, each, message)

    def _strict_in_option(self, base: str, word: Word, message: Message) -> None:
        if base.startswith("ansible"):
            return
        for part in word.parts:
            if isinstance(part, Slot):
                self.refuse(part.at, part.end - part.at, message, None)

    def _find(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        reached = self._reached(arguments)
        for index, word in enumerate(arguments):
            if self.flow.text(word) in ("-exec", "-execdir", "-ok", "-okdir"):
                inner = []
                for each in arguments[index + 1 :]:
                    if self.flow.text(each) == ";" or (self.flow.text(each) == "+" and inner):
                        break
                    inner.append(each)
                if inner:
                    self.invocation(inner, stdin)
                    self._file_names_as_code(inner, reached)

    def _file_names_as_code(self, words: list[Word], reached: Origins) -> None:
        for word in words:
            text = self.flow.text(word) or ""
            if (
                "{}" in text
                and text != "{}"
                and any((self.flow.text(each) or "").rsplit("/", 1)[-1] in INTERPRETERS for each in words)
            ):
                self._refuse_word(
                    word,
                    reached,
                    N_("A file name would be part of this program."),
                    N_("Give it as an argument: find … -exec sh -c 'probe \"$1\"' x {} \\;"),
                )
        if words and (self.flow.text(words[0]) or "") == "{}":
            self._refuse_word(words[0], reached, _PROGRAM_NAME, None)

    def _xargs(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        index = 0
        while index < len(arguments):
            start = self._start_of(arguments[index])
            if not start.startswith("-"):
                break
            self._uncertain(arguments[index], arguments[index + 1 :])
            index += (
                2
                if re.fullmatch(
                    r"-[a-zA-Z0]*[adEILnPs]|--(?:arg-file|delimiter|max-\w+|process-slot-var)", start
                )
                else 1
            )
        rest = arguments[index:]
        if not rest:
            return
        self.invocation(rest, NOTHING)
        name = (self.flow.text(rest[0]) or "").rsplit("/", 1)[-1]
        stem = _VERSION.sub("", name)
        null = any(
            re.fullmatch(r"-[a-zA-Z]*0[a-zA-Z]*|--null", self._start_of(word)) for word in arguments[:index]
        )
        if stem in INTERPRETERS and null:
            texts = [self.flow.text(word) or "" for word in rest]
            if len(rest) > 2 and not any("{}" in text for text in texts):
                return
        if not name or stem in INTERPRETERS or stem in WRAPPERS or (name in RISKY_OPTIONS and not null):
            self._refuse_word(
                rest[0],
                stdin,
                N_(
                    "xargs would make options, or a program, for %(program)s of what it reads, and it reads a value.",
                    program=name or base,
                ),
                N_("Give the value as an argument, or separate with NUL: find … -print0 | xargs -0 …"),
            )

    def _ssh(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        index = 0
        while index < len(arguments):
            word = arguments[index]
            start = self._start_of(word)
            if not start.startswith("-"):
                break
            takes = re.fullmatch(r"-[a-zA-Z0-9]*?([BbcDEeFIiJLlmOoPpQRSWw])(.*)", start, re.DOTALL)
            value = (
                word
                if takes and (takes.group(2) or len(word.parts) > 1)
                else (arguments[index + 1] if takes and index + 1 < len(arguments) else word)
            )
            self._uncertain(word, arguments[index + 1 :])
            self._uncertain(value, arguments[index + 1 :])
            if takes and takes.group(1) in "oFSEIP":
                text = self._start_of(value)
                option = text[text.find("o") + 1 :] if value is word else text
                plain_option = re.match(r"\s*(\w+)\s*[= ]", option)
                if not plain_option or re.match(
                    r"(?i)proxy|local|knownhostsc|include|pkcs|security|match|identity", plain_option.group(1)
                ):
                    self.refuse_if_reached(
                        value,
                        N_("This option of ssh can run a command."),
                        N_("Write it out, without a value in it."),
                    )
            index += 2 if value is not word else 1
        rest = arguments[index:]
        if rest and len(rest) > 1:
            self._uncertain(rest[0], rest[1:])
        for word in rest[1:]:
            if self.refuse_if_reached(
                word,
                N_("ssh joins these words, and the shell on the other host reads them again."),
                N_(
                    "Send the value on standard input: printf %%s {%(name)s} | ssh host 'v=$(cat); probe \"$v\"'; "
                    "or choose a config center for the work order."
                ),
            ):
                return
        if len(rest) == 1 and stdin:
            self._refuse_stdin(base, first, stdin)
        elif len(rest) > 1:
            text = " ".join(self._approximate(word) for word in rest[1:])
            whole = Word([Text(text, True, rest[1].at, rest[-1].end)], rest[1].at, rest[-1].end)
            if stdin:
                self._program_text(whole, base, NOTHING, stdin)

    def _container(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        """Find the command that runs in a container: after `exec` and the container, or after `--`."""
        texts = [self.flow.text(word) for word in arguments]
        start = None
        if base == "kubectl" and "exec" in texts and "--" in texts:
            start = texts.index("--") + 1
        elif base != "kubectl" and "exec" in texts and texts.index("exec") < 6:
            start = texts.index("exec") + 1
            while start < len(arguments) and self._start_of(arguments[start]).startswith("-"):
                option = self._start_of(arguments[start])
                self._uncertain(arguments[start], arguments[start + 1 :])
                separate = re.fullmatch(
                    r"-[dit]*[euw]|--(?:env|user|workdir|env-file|detach-keys|index)", option
                )
                start += 2 if separate and len(arguments[start].parts) == 1 else 1
            for word in arguments[start : start + 1]:
                self._uncertain(word, arguments[start + 1 :])
            start += 1
        if start is not None:
            if start < len(arguments):
                self.invocation(arguments[start:], stdin)
            return
        for index, text in enumerate(texts):
            if text and text.rsplit("/", 1)[-1] in INTERPRETERS:
                self.invocation(arguments[index:], stdin)
                return

    def _make(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        for word in arguments:
            self.refuse_if_reached(
                word,
                N_("make expands $(…) in what it is given, and its recipes are shell text."),
                N_('In the makefile write "$$WO_%(name)s", or mark the variable as strict.'),
            )
        if {self.flow.text(word) for word in arguments} & {"-f-", "-"} and stdin:
            self._refuse_stdin(base, first, stdin)

    def _git(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        texts = [self.flow.text(word) for word in arguments]
        for command, part in (("bisect", "run"), ("submodule", "foreach"), ("filter-branch", None)):
            if command in texts and (part is None or part in texts):
                self._no_values(base, first, arguments, stdin)
        if "config" in texts:
            following = arguments[texts.index("config") + 1 :]
            keys = [text for text in map(self._start_of, following) if not text.startswith("-")]
            if not keys or not keys[0].startswith(("user.", "branch.", "remote.", "http.proxy")):
                self._no_values(base, first, following, stdin)

    def _ansible(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        for option, value in zip(arguments, [*arguments[1:], None], strict=True):
            start = self._start_of(option)
            if re.fullmatch(r"-[a-z]*a|--args", start) and value:
                word = value
            elif re.match(r"-a.|--args=", start):
                word = option
            else:
                continue
            self.refuse_if_reached(word, _TEMPLATE, _OPTION_SAFE_FOR["ansible-playbook"])

    def _socat(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        for word in arguments:
            if self.beginning(word) or re.match(r"(?i)exec|system|shell", self._start_of(word)):
                self.refuse_if_reached(word, N_("socat runs addresses such as “EXEC:…”."), _NAME_SAFE)

    # Files that the line itself writes.

    def _written_files(self) -> dict[str, Origins]:
        found: dict[str, Origins] = dict(self.outer._files) if self.outer else {}
        for node in walk(self.commands):
            if isinstance(node, Simple | Compound):
                reached = self.flow.reaching([node])
                for redirect in node.redirects:
                    self._note_file(found, redirect, reached)
            if isinstance(node, Simple) and node.words and self.flow.text(node.words[0]) == "tee":
                for word in node.words[1:]:
                    name = (self.flow.text(word) or "").rsplit("/", 1)[-1]
                    if name and self.flow.all:
                        found[name] = self.flow.all
        return found

    def _note_file(self, found: dict[str, Origins], redirect: Redirect, reached: Origins) -> None:
        name = self.flow.text(redirect.target)
        if name and reached and redirect.operator in (">", ">>", ">|", "&>", "&>>"):
            base = name.rsplit("/", 1)[-1]
            found[base] = found.get(base, NOTHING) | reached


_Check = Callable[[Invocations, str, Word, list[Word], Origins], None]

_AWKS = frozenset({"awk", "gawk", "mawk", "nawk"})
_TEMPLATE = N_("Ansible expands {{ … }} in this value, and that can run commands.")
_OPTION_SAFE_FOR = {
    "ansible-playbook": N_(
        "Let Ansible take it from the environment: -e \"x={{ lookup('env', 'WO_%(name)s') }}\"; "
        "or mark the variable as strict."
    ),
}

_BUILTINS: dict[str, _Check] = {
    **dict.fromkeys(("read", "mapfile", "readarray", "getopts", "unset", "wait"), Invocations._refuse_names),
    **dict.fromkeys(DECLARING, Invocations._declare),
    "let": Invocations._let,
    "printf": Invocations._printf,
    "test": Invocations._test,
    "[": Invocations._test,
    "trap": Invocations._trap,
    **dict.fromkeys(
        ("alias", "bind", "compgen", "complete", "compopt", "enable", "fc", "hash", "history"),
        Invocations._no_values,
    ),
    "parallel": Invocations._coded,
}

_SPECIAL: dict[str, _Check] = {
    "find": Invocations._find,
    "xargs": Invocations._xargs,
    "ssh": Invocations._ssh,
    "autossh": Invocations._ssh,
    **dict.fromkeys(
        ("docker", "podman", "nerdctl", "docker-compose", "kubectl", "lxc", "incus", "oc"),
        Invocations._container,
    ),
    **dict.fromkeys(("make", "gmake"), Invocations._make),
    "git": Invocations._git,
    "ansible": Invocations._ansible,
    "socat": Invocations._socat,
}
