"""Read words as bash does: quotes, expansions, and the placeholders among them.

The order of the rules is that of `read_token_word` and `parse_matched_pair` in bash's parser. Where
bash itself guesses, this refuses.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Container, Iterator
from contextlib import contextmanager

from skstack.messages import N_, Message
from skstack.substitution.syntax import Arithmetic, Parameter, Part, Pipeline, Slot, Substitution, Text, Word

PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]{0,63})\}")

_BLANK = " \t"
_META = " \t|&;()<>"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_DEEPEST = 40
_SPECIAL = "@*#?-$!0123456789"
_ANSI_C = re.compile(
    r"\\(?:x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{1,4})|U([0-9A-Fa-f]{1,8})|([0-7]{1,3})|c(.)|(.))", re.DOTALL
)
_BRACED = re.compile(
    r"\$\{(?P<length>\#(?=[A-Za-z_0-9@*]))?(?P<indirect>!(?=[A-Za-z_0-9@*#?]))?"
    r"(?P<name>[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*\#?$!-])"
)
_OPERATOR = re.compile(r":?[-=?+]|\#\#?|%%?|/[/\#%]?|\^\^?|,,?|@[A-Za-z]?|\*|:")
_ANSI_C_LETTERS = {"a": "\a", "b": "\b", "e": "\x1b", "E": "\x1b", "f": "\f"}
_ANSI_C_LETTERS |= {"n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class Unreadable(Exception):
    """The line ends or goes on where it cannot; nothing after this place is understood."""

    def __init__(self, at: int, message: Message, instead: Message | None = None) -> None:
        super().__init__(str(message))
        self.at = at
        self.message = message
        self.instead = instead


class Lexer(ABC):
    """Reads words from one logical line. The grammar reads commands with it, and it, commands in words."""

    def __init__(self, text: str, known: Container[str], depth: int = 0) -> None:
        self.text = text
        self.known = known
        self.i = 0
        self.depth = depth
        # (offset, length, message, instead) of what is refused wherever it stands
        self.refused: list[tuple[int, int, Message, Message | None]] = []
        self.verbatim: list[tuple[int, int]] = []  # where bash would not join lines at a backslash
        self._no_place: list[tuple[Message, Message | None]] = []  # why no placeholder may stand here

    # What the grammar adds.

    @abstractmethod
    def commands_until(self, closing: str, opened: int) -> list[Pipeline]:
        """Read commands up to and including `closing`."""

    @abstractmethod
    def nested(self, text: str, at: int, end: int) -> list[Pipeline]:
        """Read the commands of a text that is not part of this one: what stands in backticks."""

    @contextmanager
    def deeper(self, at: int) -> Iterator[None]:
        """Read something that stands within something. Raises Unreadable where that goes on for too long."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise Unreadable(at, N_("This is nested too deeply to be read."))
        yield
        self.depth -= 1

    # Characters.

    def peek(self, length: int = 1) -> str:
        """Return the next characters, fewer at the end."""
        return self.text[self.i : self.i + length]

    def skip_blanks(self) -> None:
        """Skip blanks, and the comment that may follow."""
        while self.i < len(self.text) and self.text[self.i] in _BLANK:
            self.i += 1
        if self.peek() == "#":
            comment, self.i = self.i, len(self.text)
            self.verbatim.append((comment, self.i + 1))
            for found in PLACEHOLDER.finditer(self.text, comment):
                if found.group(1) in self.known:
                    self._refuse(
                        found.start(),
                        found.end(),
                        N_("A placeholder has no meaning in a comment."),
                        N_("Remove it, or write the name without braces."),
                    )

    def _refuse(self, at: int, end: int, message: Message, instead: Message | None) -> None:
        self.refused.append((at, end - at, message, instead))

    # Words.

    def word(self, *, assignment: bool = False, stop: str = _META) -> Word:
        """Read a word; its parts are none where no word starts. `assignment`: `name[…]=` may stand here."""
        at = self.i
        parts: list[Part] = []
        while self.i < len(self.text):
            char = self.text[self.i]
            if char in "<>" and self.peek(2) in ("<(", ">(") and stop == _META:
                parts.append(self._process_substitution())
            elif char in stop:
                break
            elif assignment and char == "[" and _ASSIGNED.fullmatch(self.text, at, self.i):
                parts += self._bracketed()
            else:
                parts += self._piece()
        return Word(_joined(parts), at, self.i)

    def _piece(self) -> list[Part]:
        """Read one quoted string, expansion, placeholder or character outside quotes."""
        char = self.text[self.i]
        if char == "'":
            return self._single_quoted()
        if char == '"':
            return self._double_quoted()
        if char == "\\":
            return [self._escaped()]
        if char == "$":
            return self._dollar(quoted=False)
        if char == "`":
            return [self._backticks(quoted=False)]
        return [self._slot_or_character("")]

    def _escaped(self) -> Text:
        at = self.i
        if at + 1 >= len(self.text):
            raise Unreadable(at, N_("A backslash at the end of the task joins nothing to this line."))
        found = PLACEHOLDER.match(self.text, at + 1)
        if found:
            self._is_placeholder(found)
        self.i += 2
        return Text(self.text[at + 1], True, at, self.i)

    def _slot_or_character(self, quote: str) -> Text | Slot:
        at = self.i
        found = PLACEHOLDER.match(self.text, at)
        if found and (self._is_placeholder(found) or self._looks_like_one(found, quote)):
            self.i = found.end()
            return Slot(found.group(1), quote, at, self.i, known=found.group(1) in self.known)
        self.i += 1
        return Text(self.text[at], bool(quote), at, self.i)

    def _is_placeholder(self, found: re.Match[str]) -> bool:
        """Tell whether this is a known placeholder, and refuse it where it may not stand."""
        if found.group(1) not in self.known:
            return False
        name, at, before = found.group(1), found.start(), self.text[found.start() - 1 : found.start()]
        if self._no_place:
            message, instead = self._no_place[0]
            self._refuse(at, found.end(), message, instead and Message(instead.text, {"name": name}))
        elif before in ("\\", "$") and before:
            # Where quotes end is plain, but whether the sign belongs to the value or to the name is not.
            self._refuse(
                at - 1,
                found.end(),
                N_("A placeholder may not follow “%(sign)s” directly.", sign=before),
                N_(
                    "Write {%(name)s} alone; for a literal “%(sign)s” before it, '%(sign)s'{%(name)s}.",
                    name=name,
                    sign=before,
                ),
            )
        return True

    def _looks_like_one(self, found: re.Match[str], quote: str) -> bool:
        """Tell whether an unknown `{Name}` is to be reported, rather than being some program's syntax."""
        at, end = found.span()
        before, after = self.text[max(0, at - 80) : at], self.text[end : end + 1]
        if self._no_place or before.endswith("$"):  # the shell's own, as are those after a sign
            return False
        if before.endswith("\\") and quote != "'":
            return False
        if before.endswith("{") and after == "}":  # Jinja, Go templates: {{name}}
            return False
        if not quote and after and after in "<>" and before[-1:] in ("", *_META):  # {name}>file: a descriptor
            return False
        if before.endswith("@") and found.group(1) in ("u", "upstream", "push"):  # git's HEAD@{upstream}
            return False
        # $hash{key} of Perl, awk and the like, where the shell does not read it
        return not (quote == "'" and re.search(r"[$%@][A-Za-z_]\w*\Z", before))

    def _single_quoted(self) -> list[Part]:
        at = self.i
        end = self.text.find("'", at + 1)
        if end < 0:
            raise _unclosed(at, "'")
        self.i = at + 1
        parts: list[Part] = [Text("", True, at, at + 1)]
        while self.i < end:
            parts.append(self._slot_or_character("'"))
        self.i = end + 1
        self.verbatim.append((at, self.i))
        return parts

    def _double_quoted(self) -> list[Part]:
        at = self.i
        self.i += 1
        parts: list[Part] = [Text("", True, at, self.i)]
        while self.i < len(self.text):
            char = self.text[self.i]
            if char == '"':
                self.i += 1
                return parts
            if char == "\\":
                parts.append(self._escaped_in_double_quotes())
            elif char == "$":
                parts += self._dollar(quoted=True)
            elif char == "`":
                parts.append(self._backticks(quoted=True))
            else:
                parts.append(self._slot_or_character('"'))
        raise _unclosed(at, '"')

    def _escaped_in_double_quotes(self) -> Text:
        at = self.i
        char = self.text[at + 1 : at + 2]
        if char and char in '$`"\\':
            self.i += 2
            return Text(char, True, at, self.i)
        self.i += 1
        return Text("\\", True, at, self.i)

    # Expansions.

    def _dollar(self, *, quoted: bool) -> list[Part]:
        with self.deeper(self.i):
            return self._expansion(quoted=quoted)

    def _expansion(self, *, quoted: bool) -> list[Part]:
        at = self.i
        after = self.text[at + 1 : at + 2]
        if after == "(":
            if self.text.startswith("((", at + 1):
                return [self.arithmetic(at + 3, "))", quoted=quoted)]
            self.i += 2
            return [Substitution(self.commands_until(")", at), "", quoted, at, self.i)]
        if after == "[":
            return [self.arithmetic(at + 2, "]", quoted=quoted)]
        if after == "{":
            return self._braced(quoted=quoted)
        if after == "'" and not quoted:
            return [self._ansi_c()]
        if after == '"' and not quoted:
            self.i += 1
            with self._refusing(N_('A placeholder may not stand in $"…".'), N_('Leave the $ out: "…".')):
                return self._double_quoted()
        name = _NAME.match(self.text, at + 1)
        if name:
            self.i = name.end()
            return [Parameter(name.group(), quoted, at, self.i)]
        if after and after in _SPECIAL:
            self.i += 2
            return [Parameter(after, quoted, at, self.i)]
        self.i += 1
        return [Text("$", quoted, at, self.i)]

    def _ansi_c(self) -> Text:
        at = self.i
        closed = re.compile(r"(?:[^'\\]|\\.)*'", re.DOTALL).match(self.text, at + 2)
        if not closed:
            raise _unclosed(at, "$'")
        self.i = closed.end()
        with self._refusing(N_("A placeholder may not stand in $'…'."), N_("Leave the $ out: '…'.")):
            for found in PLACEHOLDER.finditer(self.text, at, self.i):
                self._is_placeholder(found)
        self.verbatim.append((at, self.i))
        return Text(_ANSI_C.sub(_ansi_c_character, self.text[at + 2 : self.i - 1]), True, at, self.i)

    def _backticks(self, *, quoted: bool) -> Substitution:
        at = self.i
        closed = re.compile(r"(?:[^`\\]|\\.)*`", re.DOTALL).match(self.text, at + 1)
        if not closed:
            raise _unclosed(at, "`")
        self.i = closed.end()
        with self._refusing(N_("A placeholder may not stand in backticks."), N_("Write $(…) instead.")):
            for found in PLACEHOLDER.finditer(self.text, at, self.i):
                self._is_placeholder(found)
        escaped = r'\\([$`\\"])' if quoted else r"\\([$`\\])"
        inner = re.sub(escaped, r"\1", self.text[at + 1 : self.i - 1])
        return Substitution(self.nested(inner, at, self.i), "", quoted, at, self.i, foreign=True)

    def _process_substitution(self) -> Substitution:
        at, direction = self.i, self.text[self.i]
        self.i += 2
        return Substitution(self.commands_until(")", at), direction, False, at, self.i)

    def _bracketed(self) -> list[Part]:
        """Read the subscript of `name[…]=`, blanks and all, as bash does where an assignment may stand."""
        at = self.i
        inner = self.arithmetic(at + 1, "]", quoted=False)
        opening: list[Part] = [Text("[", False, at, at + 1)]
        return [*opening, inner, Text("]", False, self.i - 1, self.i)]

    def arithmetic(self, start: int, closing: str, *, quoted: bool) -> Arithmetic:
        """Read text that will be calculated, from `start` up to and past `closing`: `))` or `]`."""
        self.i = start
        depth, parts = 0, list[Part]()
        opening, close = ("(", ")") if closing == "))" else ("[", "]")
        instead = N_(
            "Make the variable strict, and calculate with a variable of the shell: "
            "N={%(name)s}; … $(( N + 1 ))."
        )
        with self._refusing(N_("A placeholder may not stand where the shell calculates."), instead):
            while self.i < len(self.text):
                char = self.text[self.i]
                if depth == 0 and self.text.startswith(closing, self.i):
                    end, self.i = self.i, self.i + len(closing)
                    return Arithmetic(_joined(parts), quoted, start, end)
                if char == close and depth == 0:
                    raise Unreadable(
                        start - 2,
                        N_("This could be a calculation or a subshell within parentheses."),
                        N_("Close a calculation with “))”; for a subshell leave a blank: “( (”."),
                    )
                depth += (char == opening) - (char == close)
                parts += self._calculated(quoted or closing == "))")
        raise _unclosed(start - len(closing), "((" if closing == "))" else "[")

    def _calculated(self, quoted: bool) -> list[Part]:
        char = self.text[self.i]
        if char == "'" and quoted:
            raise Unreadable(self.i, N_("A single quote may not stand here."), None)
        if char == "$":
            return self._dollar(quoted=True)
        return self._piece()

    def _braced(self, *, quoted: bool) -> list[Part]:
        """Read `${…}`."""
        at = self.i
        found = PLACEHOLDER.match(self.text, at + 1)
        if found and self._is_placeholder(found):
            self.i = found.end()
            return [Text("", True, at, self.i)]
        shape = _BRACED.match(self.text, at)
        if not shape:
            raise Unreadable(at, N_("What follows “${” is no parameter."), None)
        parameter = Parameter(
            shape["name"], quoted, at, at, indirect=bool(shape["indirect"]), length=bool(shape["length"])
        )
        self.i = shape.end()
        with self._refusing(
            N_("A placeholder may not stand in ${…}."),
            N_("Give it to a variable of the shell first: X={%(name)s}; … ${X…}."),
        ):
            if self.peek() == "[":
                parameter.subscript = self.arithmetic(self.i + 1, "]", quoted=quoted)
            operator = _OPERATOR.match(self.text, self.i)
            parameter.operator = operator.group() if operator else ""
            self.i += len(parameter.operator)
            parameter.operand = self._operand(at, quoted)
        parameter.end = self.i
        return [parameter]

    def _operand(self, opened: int, quoted: bool) -> list[Part]:
        parts: list[Part] = []
        while self.i < len(self.text):
            char = self.text[self.i]
            if char == "}":
                self.i += 1
                return _joined(parts)
            if (char == "'" and quoted) or self.peek(2) in ("<(", ">("):
                # Whether such a quote is one depends on the operator, and differs between versions of bash.
                raise Unreadable(
                    self.i,
                    N_("This may not stand in ${…}."),
                    N_("Give it to a variable first, and write that here."),
                )
            parts += self._dollar(quoted=quoted) if char == "$" else self._piece()
        raise _unclosed(opened, "${")

    @contextmanager
    def _refusing(self, message: Message, instead: Message) -> Iterator[None]:
        """Refuse every placeholder that is read meanwhile, at any depth; the outermost reason is given."""
        self._no_place.append((message, instead))
        try:
            yield
        finally:
            self._no_place.pop()


def _joined(parts: list[Part]) -> list[Part]:
    """Join neighbouring texts that are both quoted, or both not."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, Text) and isinstance(last, Text) and part.quoted == last.quoted:
            joined[-1] = Text(last.text + part.text, last.quoted, last.at, part.end)
        else:
            joined.append(part)
    return joined


def _unclosed(at: int, sign: str) -> Unreadable:
    return Unreadable(
        at,
        N_("“%(sign)s” is not closed on its line.", sign=sign),
        N_("Each line is a command of its own; end a line with a backslash to go on in the next."),
    )


def _ansi_c_character(found: re.Match[str]) -> str:
    hexadecimal = found.group(1) or found.group(2) or found.group(3)
    if hexadecimal:
        number = int(hexadecimal, 16)
        return chr(number) if number < 0x110000 else "?"
    if found.group(4):
        return chr(int(found.group(4), 8) & 0xFF)
    if found.group(5):
        return chr(ord(found.group(5)) & 0x1F)
    return _ANSI_C_LETTERS.get(found.group(6), found.group(6))
