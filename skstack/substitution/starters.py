"""Programs that start the command that stands among their arguments."""

from __future__ import annotations

import re

from skstack.messages import N_, Message
from skstack.substitution.findings import (
    BEFORE,
    NAME_SAFE,
    PROGRAM_NAME,
    PROGRAM_TEXT,
    VERSION,
    Findings,
    is_one_of,
)
from skstack.substitution.flow import NOTHING, Origins
from skstack.substitution.programs import (
    INTERPRETERS,
    RISKY_OPTIONS,
    SHELL_SAFE,
    WRAPPERS,
    Wrapper,
)
from skstack.substitution.syntax import (
    Slot,
    Text,
    Word,
    literal,
)

_OPTION = re.compile(r"[-+].")
_EXEC = re.compile(r"-(?:exec|ok)(?:dir)?\Z")
_ANY = 99  # operands of `su` and `script`, none of which is a command


class Starters(Findings):
    """Rules for such programs, local and remote."""

    def wrapper(
        self, base: str, first: Word, wrapper: Wrapper, arguments: list[Word], stdin: Origins
    ) -> None:
        if wrapper.joins and not {literal(word) for word in arguments} & wrapper.unless:
            for word in arguments:
                self.refuse_if_reached(word, Message(PROGRAM_TEXT.text, {"program": base}), wrapper.safe)
        rest = self._wrapped(base, wrapper, arguments, stdin)
        if rest:
            if base == "env" and self.refuse_if_reached(
                rest[0], PROGRAM_NAME, N_("To set a variable write its name out: X={%(name)s}.")
            ):
                return
            self.invocation(rest, stdin)
        if wrapper.shell_if_none and not [word for word in rest if not self.may_vanish(word)]:
            self.refuse_stdin(base, first, stdin)

    def _wrapped(self, base: str, wrapper: Wrapper, arguments: list[Word], stdin: Origins) -> list[Word]:
        """Check a wrapper's own options and operands; return the words of the command that it starts."""
        operands = wrapper.operands
        index = 0
        while index < len(arguments):
            word = arguments[index]
            start = self.start_of(word)
            if literal(word) == "--":
                operands = operands if operands < _ANY else 0
                for operand in arguments[index + 1 : index + 1 + operands]:
                    self.uncertain(operand, arguments[index + 2 :])
                return arguments[index + 1 + operands :]
            if literal(word) == "-":
                index += 1
            elif start.startswith("-"):
                index += self._wrapper_option(base, wrapper, arguments, index, start, stdin)
            elif wrapper.assignments and "=" in start:
                self.set_for(start.split("=")[0].rstrip("+"), word)
                index += 1
            elif (
                literal(word) is None and not isinstance(word.parts[0], Slot) and self.could_be(word, _OPTION)
            ):
                # As an option it could take the next word, and what follows that would be the command.
                self.refuse_word(
                    word, self.values_in(arguments[index + 1 :]), BEFORE, N_("Write this word out.")
                )
                index += 1
            elif operands:
                operands -= 1
                self.uncertain(word, arguments[index + 1 :])
                if operands < _ANY - 1 and wrapper.operands == _ANY:
                    # What follows the user goes to the shell as its arguments, the first as its program.
                    self.refuse_if_reached(word, PROGRAM_NAME, wrapper.safe)
                index += 1
            else:
                return arguments[index:]
        return []

    def _wrapper_option(
        self, base: str, wrapper: Wrapper, arguments: list[Word], index: int, start: str, stdin: Origins
    ) -> int:
        """Check the option at `index`; return how many words it is."""
        word, rest = arguments[index], arguments[index + 1 :]
        self.uncertain(word, rest)
        message = Message(PROGRAM_TEXT.text, {"program": base})
        safe = wrapper.safe or SHELL_SAFE
        if start.startswith("--"):
            option, equals, _ = start.partition("=")
            if is_one_of(option, wrapper.code_long):
                self._code(base, word if equals else (rest[0] if rest else word), message, safe, rest, stdin)
                return 1 if equals else 2
            if is_one_of(option, wrapper.takes_long) and not equals:
                for value in rest[:1]:
                    self.uncertain(value, rest[1:])
                return 2
            return 1
        for position, letter in enumerate(start[1:], 1):
            certain = literal(word) is not None
            attached = position + 1 < len(start) or not certain
            if position + 1 == len(start) and not certain and letter in wrapper.code + wrapper.takes:
                self.refuse_word(
                    word,
                    self.values_in(rest),
                    N_("Where this is empty after its letter, the next word belongs to the option."),
                    N_("Put a blank after the letter."),
                )
            if letter in wrapper.code:
                self._code(
                    base, word if attached else (rest[0] if rest else word), message, safe, rest, stdin
                )
                return 1 if attached else 2
            if letter in wrapper.takes:
                for value in [] if attached else rest[:1]:
                    self.uncertain(value, rest[1:])
                return 1 if attached else 2
        self.refuse_if_reached(word, BEFORE, NAME_SAFE)
        return 1

    def _code(
        self, base: str, word: Word, message: Message, safe: Message, rest: list[Word], stdin: Origins
    ) -> None:
        if not self.refuse_if_reached(word, message, safe):
            self.program_text(word, base, self.values_in([each for each in rest if each is not word]), stdin)

    def find(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        reached = self.values_in(arguments)
        for index, word in enumerate(arguments):
            if self.could_be(word, _EXEC):
                inner: list[Word] = []
                for each in arguments[index + 1 :]:
                    if literal(each) == ";" or (literal(each) == "+" and inner):
                        break
                    inner.append(each)
                if inner:
                    self.invocation(inner, stdin)
                    self._file_names_as_code(inner, reached)

    def _file_names_as_code(self, words: list[Word], reached: Origins) -> None:
        for word in words:
            text = literal(word) or ""
            if (
                "{}" in text
                and text != "{}"
                and any((literal(each) or "").rsplit("/", 1)[-1] in INTERPRETERS for each in words)
            ):
                self.refuse_word(
                    word,
                    reached,
                    N_("A file name would be part of this program."),
                    N_("Give it as an argument: find … -exec sh -c 'probe \"$1\"' x {} \\;"),
                )
        if words and (literal(words[0]) or "") == "{}":
            self.refuse_word(words[0], reached, PROGRAM_NAME, None)

    def xargs(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        index = 0
        while index < len(arguments):
            start = self.start_of(arguments[index])
            if not start.startswith("-"):
                break
            self.uncertain(arguments[index], arguments[index + 1 :])
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
        name = (literal(rest[0]) or "").rsplit("/", 1)[-1]
        stem = VERSION.sub("", name)
        null = any(
            re.fullmatch(r"-[a-zA-Z]*0[a-zA-Z]*|--null", self.start_of(word)) for word in arguments[:index]
        )
        if stem in INTERPRETERS and null:
            texts = [literal(word) or "" for word in rest]
            if len(rest) > 2 and not any("{}" in text for text in texts):
                return
        if not name or stem in INTERPRETERS or stem in WRAPPERS or (name in RISKY_OPTIONS and not null):
            self.refuse_word(
                rest[0],
                stdin,
                N_(
                    "xargs would make options, or a program, for %(program)s of what it reads, and it reads a value.",
                    program=name or base,
                ),
                N_("Give the value as an argument, or separate with NUL: find … -print0 | xargs -0 …"),
            )

    def ssh(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        index = 0
        while index < len(arguments):
            word = arguments[index]
            start = self.start_of(word)
            if not start.startswith("-"):
                break
            takes = re.fullmatch(r"-[a-zA-Z0-9]*?([BbcDEeFIiJLlmOoPpQRSWw])(.*)", start, re.DOTALL)
            value = (
                word
                if takes and (takes.group(2) or literal(word) is None)
                else (arguments[index + 1] if takes and index + 1 < len(arguments) else word)
            )
            self.uncertain(word, arguments[index + 1 :])
            self.uncertain(value, arguments[index + 1 :])
            if takes and takes.group(1) in "oFSEIP":
                text = self.start_of(value)
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
        for word in rest[:1]:
            self.uncertain(word, rest)
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
            self.refuse_stdin(base, first, stdin)
        elif len(rest) > 1:
            text = " ".join(self.approximate(word) for word in rest[1:])
            whole = Word([Text(text, True, rest[1].at, rest[-1].end)], rest[1].at, rest[-1].end)
            if stdin:
                self.program_text(whole, base, NOTHING, stdin)

    def container(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        """Find the command that runs in a container: after `exec` and the container, or after `--`."""
        texts = [literal(word) for word in arguments]
        start = None
        if base in ("kubectl", "oc") and {"exec", "run", "debug"} & set(texts) and "--" in texts:
            start = texts.index("--") + 1
        elif base not in ("kubectl", "oc") and "exec" in texts and texts.index("exec") < 6:
            start = texts.index("exec") + 1
            while start < len(arguments) and self.start_of(arguments[start]).startswith("-"):
                option = self.start_of(arguments[start])
                self.uncertain(arguments[start], arguments[start + 1 :])
                separate = re.fullmatch(
                    r"-[dit]*[euw]|--(?:env|user|workdir|env-file|detach-keys|index)", option
                )
                start += 2 if separate and literal(arguments[start]) is not None else 1
            for word in arguments[start : start + 1]:
                self.uncertain(word, arguments[start + 1 :])
            start += 1
            if texts[start : start + 1] == ["--"]:
                start += 1
        if start is not None:
            if start < len(arguments):
                self.invocation(arguments[start:], stdin)
            return
        for index, text in enumerate(texts):
            if text and text.rsplit("/", 1)[-1] in INTERPRETERS:
                self.invocation(arguments[index:], stdin)
                return

    def parallel(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        for word in arguments:
            self.refuse_if_reached(
                word,
                Message(PROGRAM_TEXT.text, {"program": base}),
                N_('Use a loop instead: for i in {%(name)s}; do probe "$i" & done; wait.'),
            )
        if stdin:
            self.refuse_stdin(base, first, stdin)
