"""Programs that take their arguments as they are, except for some options."""

from __future__ import annotations

import re

from skstack.messages import N_, Message
from skstack.substitution.findings import (
    NAME_SAFE,
    Findings,
    is_one_of,
)
from skstack.substitution.flow import Origins
from skstack.substitution.syntax import (
    Slot,
    Word,
    literal,
)

_TEMPLATE = N_("Ansible expands {{ … }} in this value, and that can run commands.")
_OPTION_SAFE_FOR = {
    "ansible-playbook": N_(
        "Let Ansible take it from the environment: -e \"x={{ lookup('env', 'WO_%(name)s') }}\"; "
        "or mark the variable as strict."
    ),
}


class Options(Findings):
    """Rules for such programs."""

    def options(self, base: str, pattern: re.Pattern[str], arguments: list[Word]) -> None:
        message = N_("%(program)s runs what this option names, or reads it as code.", program=base)
        safe = _OPTION_SAFE_FOR.get(base, N_("Write it out, without a value in it."))
        longs = frozenset(re.findall(r"--[a-z-]+", pattern.pattern))
        for index, word in enumerate(arguments):
            start = self.start_of(word)
            cut_short = is_one_of(start.partition("=")[0], longs)
            if cut_short or pattern.match(start):
                if not self.refuse_if_reached(word, message, safe):
                    self._strict_in_option(base, word, message)
                following = arguments[index + 1 : index + 2] if cut_short or pattern.fullmatch(start) else []
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

    def make(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        for word in arguments:
            self.refuse_if_reached(
                word,
                N_("make expands $(…) in what it is given, and its recipes are shell text."),
                N_('In the makefile write "$$WO_%(name)s", or mark the variable as strict.'),
            )
        if {literal(word) for word in arguments} & {"-f-", "-"} and stdin:
            self.refuse_stdin(base, first, stdin)

    def git(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        texts = [literal(word) for word in arguments]
        for command, part in (("bisect", "run"), ("submodule", "foreach"), ("filter-branch", None)):
            if command in texts and (part is None or part in texts):
                self.refuse_all(base, first, arguments, stdin)
        if "config" in texts:
            following = arguments[texts.index("config") + 1 :]
            keys = [text for text in map(self.start_of, following) if not text.startswith("-")]
            if not keys or not keys[0].startswith(("user.", "branch.", "remote.", "http.proxy")):
                self.refuse_all(base, first, following, stdin)

    def ansible(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        for option, value in zip(arguments, [*arguments[1:], None], strict=True):
            start = self.start_of(option)
            if re.fullmatch(r"-[a-z]*a|--args", start) and value:
                word = value
            elif re.match(r"-a.|--args=", start):
                word = option
            else:
                continue
            self.refuse_if_reached(word, _TEMPLATE, _OPTION_SAFE_FOR["ansible-playbook"])

    def socat(self, base: str, first: Word, arguments: list[Word], stdin: Origins) -> None:
        for word in arguments:
            if self.beginning(word) or re.match(r"(?i)exec|system|shell", self.start_of(word)):
                self.refuse_if_reached(word, N_("socat runs addresses such as “EXEC:…”."), NAME_SAFE)
