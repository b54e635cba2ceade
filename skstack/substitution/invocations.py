"""Judge the words of one simple command by what its program does with them."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

from skstack.messages import N_, Message
from skstack.substitution.builtins import Builtins
from skstack.substitution.findings import (
    PROGRAM_NAME,
    VERSION,
    WRITTEN,
    is_braced,
    is_pattern,
    outside_quotes,
)
from skstack.substitution.flow import NOTHING, Origins
from skstack.substitution.grammar import DECLARING
from skstack.substitution.interpreters import Interpreters
from skstack.substitution.options import Options
from skstack.substitution.programs import (
    INTERPRETERS,
    OPTIONS,
    RISKY_OPTIONS,
    SHELLS,
    WRAPPERS,
)
from skstack.substitution.starters import Starters
from skstack.substitution.syntax import (
    Parameter,
    Slot,
    Text,
    Word,
    literal,
)

_CHOOSE = N_("Write the name out, or choose with case: case {%(name)s} in a) …;; esac.")
_QUOTE_BEFORE = N_("Put the name before it in double quotes.")
_OPTION_IN_BRACES = re.compile(r"(?:\A|[{,])-")
_MOST = 64  # ways to read one command
_CODE_OPTION = re.compile(r"-[a-zA-Z]*[ce]|--(?:command|eval|execute|exec)")
# Programs that only print or store what looks like a command.
_INDIFFERENT = frozenset(
    {"echo", "printf", "logger", "grep", "egrep", "fgrep", "cat", "git", "true", "false"}
)


class Invocations(Builtins, Starters, Interpreters, Options):
    """Finds the rule for a command, by the name of its program."""

    def invocation(self, words: list[Word], stdin: Origins) -> None:
        """Check a command's words. `stdin`: the values that its standard input may have."""
        variants = self._variants(words) if self.flow.all else [words]
        if variants is None:
            self.refuse_word(
                words[0],
                self.values_in(words[1:]) | stdin,
                N_("Which program this is, or with which options, cannot be told."),
                N_("Write its name and its options out."),
            )
            variants = [words]
        for variant in variants:
            moved = variant[0].at != words[0].at
            self._variant(variant, stdin, _QUOTE_BEFORE if moved else _CHOOSE)

    def _variant(self, words: list[Word], stdin: Origins, instead: Message) -> None:
        first, arguments = words[0], words[1:]
        if self.refuse_if_reached(first, PROGRAM_NAME, instead):
            return
        reached = self.values_in(arguments)
        name = literal(first)
        if is_pattern(first) and name not in ("[", "[["):
            self.refuse_word(
                first, reached | stdin, N_("Which program this is cannot be told."), N_("Write its name out.")
            )
        if name is None:
            self._unknown_name(first, arguments, stdin)
            return
        written = self.written(first)
        if written and "/" in name:
            self.refuse_word(first, written, Message(WRITTEN.text, {"program": name}), None)
        base = name.rsplit("/", 1)[-1]
        self._named(base, first, arguments, stdin)

    def _named(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        if self._is_judged(base):
            for word in arguments:
                if is_braced(word) and (
                    base not in OPTIONS or _OPTION_IN_BRACES.search(outside_quotes(word))
                ):
                    self.refuse_word(
                        word,
                        self.values_in(arguments),
                        N_("Braces make several words of this, and one could be an option."),
                        N_("Write the words out."),
                    )
        builtin = _BUILTINS.get(base)
        stem = base if base in INTERPRETERS or base in WRAPPERS else VERSION.sub("", base)
        if base in ("eval", "source", "."):
            self.evaluating(base, first, arguments)
        elif builtin:
            builtin(self, base, first, arguments, stdin)
        elif stem in WRAPPERS:
            self.wrapper(stem, first, WRAPPERS[stem], arguments, stdin)
        elif stem in INTERPRETERS:
            self.interpreter(stem, INTERPRETERS[stem], first, arguments, stdin)
        else:
            self._other(base, first, arguments, stdin)

    def _variants(self, words: list[Word]) -> list[list[Word]] | None:
        """Return the words that these can be, as the line's own assignments have it; None if too many."""
        variants: list[list[Word]] = [[]]
        for word in words:
            ways = self._ways(word)
            if len(ways) * len(variants) > _MOST:
                return None
            variants = [[*variant, *way] for variant in variants for way in ways]
        return [variant for variant in variants if variant]

    def _ways(self, word: Word) -> list[list[Word]]:
        """Return the words that one word can be: itself, where it can have any text."""
        ways = [[Word([], word.at, word.end)]]
        for part in word.parts:
            texts = self.flow.possible_texts(part)
            if texts is None:
                return [[word]]
            if isinstance(part, Parameter) and texts != {""} and not self.flow.reaching(part):
                ways = [
                    _with_text(way, part, text)
                    for way in ways
                    for text in sorted(texts, key=lambda text: (not text, text))
                ]
            else:
                ways = [[*way[:-1], Word([*way[-1].parts, part], word.at, word.end)] for way in ways]
            if len(ways) > _MOST:
                return [[word]]
        # A word of nothing but empty expansions outside quotes is none.
        return [[each for each in way if each.parts] for way in ways]

    def _unknown_name(self, first: Word, arguments: list[Word], stdin: Origins) -> None:
        reached = self.values_in(arguments)
        if self.may_vanish(first):
            # Where the expansion gives nothing, the next word is the command.
            if arguments and self.refuse_if_reached(arguments[0], PROGRAM_NAME, _QUOTE_BEFORE):
                return
            if arguments:
                self.invocation(arguments, stdin)
        if self.flow.possibilities(first.parts) is None:
            self.refuse_word(
                first, reached | stdin, N_("Which program this is cannot be told."), N_("Write its name out.")
            )
            return
        slots = [part for part in first.parts if isinstance(part, Slot)]
        directory = "".join(part.text for part in first.parts if isinstance(part, Text))
        ending = first.parts[-1].text if isinstance(first.parts[-1], Text) else ""
        if slots and reached and not ending and not re.search(r"/(?!s?bin/)[^/]*/?\Z|\A\./", directory):
            self.refuse_word(
                first,
                reached,
                N_("With some choices, such as “eval” or “env”, this would run the value of {%(name)s}."),
                N_("Write the name out, or where it is: ./{%(slot)s} …", slot=slots[0].name),
            )
        last = first.parts[-1]
        tail = last.text.rsplit("/", 1)[-1] if isinstance(last, Text) else ""
        texts = self.flow.possibilities(first.parts) or ()
        bases = {tail, *(text.rsplit("/", 1)[-1] for text in texts)}
        judged = [base for base in sorted(bases) if self._is_judged(base)]
        for base in judged:
            self._named(base, first, arguments, stdin)
        if not judged:
            self._option_code(first, arguments)
            self._other("", first, arguments, stdin)

    def _is_judged(self, base: str) -> bool:
        stem = VERSION.sub("", base)
        tables = (_BUILTINS, _SPECIAL, WRAPPERS, INTERPRETERS, OPTIONS, ("eval", "source", "."))
        return any(base in table or stem in table for table in tables)

    def _option_code(self, first: Word, arguments: list[Word]) -> None:
        """Refuse `-c VALUE` to a program that is not known."""
        for option, code in pairwise(arguments):
            if _CODE_OPTION.fullmatch(literal(option) or ""):
                self.refuse_if_reached(
                    code,
                    N_("Which program this is cannot be told, and it may read this as code."),
                    N_("Write its name out."),
                )

    def _other(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        """Check the options that run things, and interpreters further on in the words."""
        pattern = OPTIONS.get(base)
        if pattern:
            self.options(base, pattern, arguments)
        if base in RISKY_OPTIONS:
            ended = False
            for word in arguments:
                ended = ended or literal(word) == "--"
                if not ended and self.may_be_option(word):
                    self.refuse_if_reached(
                        word,
                        N_(
                            "The value could start with a dash, and %(program)s has options that run "
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
                text = literal(word)
                if text and text.rsplit("/", 1)[-1] in SHELLS | {"python", "python3", "perl", "ruby", "node"}:
                    following = literal(arguments[index + 1]) if index + 1 < len(arguments) else ""
                    if following and following.startswith("-"):
                        self.invocation(arguments[index:], NOTHING)
                    break


_Check = Callable[[Invocations, str, Word, list[Word], Origins], None]


_BUILTINS: dict[str, _Check] = {
    **dict.fromkeys(("read", "mapfile", "readarray", "getopts", "unset", "wait"), Invocations.refuse_names),
    **dict.fromkeys(DECLARING, Invocations.declare),
    "let": Invocations.let,
    "printf": Invocations.printf,
    "test": Invocations.test,
    "[": Invocations.test,
    "trap": Invocations.trap,
    **dict.fromkeys(
        ("alias", "bind", "compgen", "complete", "compopt", "enable", "fc", "hash", "history"),
        Invocations.refuse_all,
    ),
    **dict.fromkeys(
        ("parallel", "tmux", "screen", "salt", "pssh", "pdsh", "clush", "dsh"), Invocations.parallel
    ),
}

_SPECIAL: dict[str, _Check] = {
    "find": Invocations.find,
    "xargs": Invocations.xargs,
    "ssh": Invocations.ssh,
    **dict.fromkeys(("autossh", "rsh", "mosh"), Invocations.ssh),
    **dict.fromkeys(
        ("docker", "podman", "nerdctl", "docker-compose", "kubectl", "lxc", "incus", "oc"),
        Invocations.container,
    ),
    **dict.fromkeys(("make", "gmake"), Invocations.make),
    "git": Invocations.git,
    "ansible": Invocations.ansible,
    "socat": Invocations.socat,
}


def _with_text(way: list[Word], part: Parameter, text: str) -> list[Word]:
    """Return the words with this text in the place of a parameter, split where it stands outside quotes."""
    at, end = part.at, part.end
    if part.quoted:
        return [*way[:-1], Word([*way[-1].parts, Text(text, True, at, end)], way[-1].at, way[-1].end)]
    made = [Word(list(word.parts), word.at, word.end) for word in way]
    for index, piece in enumerate(re.split(r"\s+", text)):
        if index:
            made.append(Word([], way[-1].at, way[-1].end))
        if piece:
            made[-1].parts.append(Text(piece, True, at, end))
    return made
