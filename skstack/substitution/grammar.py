"""Read the commands of a logical line, after the grammar in bash's manual."""

from __future__ import annotations

import re

from skstack.messages import N_
from skstack.substitution.conditions import ConditionGrammar
from skstack.substitution.lexer import PLACEHOLDER, Lexer, Unreadable
from skstack.substitution.syntax import (
    Arithmetic,
    Assignment,
    Calculation,
    Command,
    Compound,
    Condition,
    Part,
    Pipeline,
    Redirect,
    Simple,
    Slot,
    Text,
    Word,
    literal,
    plain,
)

# Builtins whose arguments may be `name=(…)`.
DECLARING = frozenset({"declare", "typeset", "local", "export", "readonly"})

_CLOSING = frozenset({"then", "elif", "else", "fi", "do", "done", "esac", "}"})
_REDIRECTION = re.compile(r"&>>|&>|<<<|<<-|<<|<>|<&|>>|>&|>\||<|>")
_DESCRIPTOR = re.compile(r"(?:[0-9]+|\{[A-Za-z_][A-Za-z0-9_]*\})(?=[<>])")
_SEPARATOR = re.compile(r"&&|\|\||;(?![;&])|&(?![>&])")
_ASSIGNED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\+?=)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_CONDITION_SIGN = re.compile(r"&&|\|\||\(|\)|!(?=[ \t])|<|>")


class Grammar(Lexer):
    """Reads one logical line: `Grammar(text, known).line()`."""

    def line(self) -> list[Pipeline]:
        """Read the whole text. Raises Unreadable where bash would not read it, or only this cannot."""
        commands = self._list()
        if self.i < len(self.text):
            raise self._unexpected()
        return commands

    # What the lexer needs.

    def commands_until(self, closing: str, opened: int) -> list[Pipeline]:
        """Read commands up to and including `closing`, which ends a substitution or a subshell."""
        with self.deeper(opened):
            commands = self._list()
        if self.peek() != closing:
            if self.i < len(self.text):
                raise self._unexpected()
            raise Unreadable(opened, N_("This parenthesis is not closed on its line."))
        self.i += 1
        return commands

    def nested(self, text: str, at: int, end: int) -> list[Pipeline]:
        """Read what stands in backticks."""
        try:
            with self.deeper(at):
                return Grammar(text, self.known, self.depth).line()
        except Unreadable as unreadable:
            raise Unreadable(at, unreadable.message, unreadable.instead) from unreadable

    # Lists and pipelines.

    def _list(self) -> list[Pipeline]:
        """Read pipelines up to what ends the list around them: a closing word or sign, or the end."""
        pipelines: list[Pipeline] = []
        while True:
            self.skip_blanks()
            if self._at_end_of_list():
                return pipelines
            pipelines.append(self._pipeline())
            self.skip_blanks()
            separator = _SEPARATOR.match(self.text, self.i)
            if not separator:
                return pipelines
            self.i = separator.end()
            self.skip_blanks()
            if separator.group() in ("&&", "||") and self._at_end_of_list():
                raise self._unexpected()

    def _at_end_of_list(self) -> bool:
        return (
            self.i >= len(self.text) or self.peek() == ")" or self._keyword() in _CLOSING or self._case_end()
        )

    def _case_end(self) -> bool:
        return self.peek(2) in (";;", ";&")

    def _required_list(self) -> list[Pipeline]:
        commands = self._list()
        if not commands:
            raise self._unexpected()
        return commands

    def _pipeline(self) -> Pipeline:
        while self._keyword() in ("time", "!"):
            self._take_keyword()
            while self._keyword() in ("-p", "--"):
                self._take_keyword()
        commands = [self._command()]
        while True:
            self.skip_blanks()
            if self.peek() != "|" or self.peek(2) == "||":
                return Pipeline(commands)
            self.i += 2 if self.peek(2) == "|&" else 1
            self.skip_blanks()
            if self._keyword() == "!":
                raise self._unexpected()
            commands.append(self._command())

    # Commands.

    def _command(self) -> Command:
        with self.deeper(self.i):
            return self._any_command()

    def _any_command(self) -> Command:
        self.skip_blanks()
        at, keyword = self.i, self._keyword()
        command: Command
        if self.peek(2) == "((":
            command = Calculation(self.arithmetic(self.i + 2, "))", quoted=True), at)
        elif self.peek() == "(":
            self.i += 1
            command = Compound("(", [self.commands_until(")", at)], at)
            if not command.bodies[0]:
                raise Unreadable(at, N_("Nothing stands in these parentheses."))
        elif keyword == "[[":
            command = self._condition()
        elif keyword in ("{", "if", "while", "until", "for", "select", "case", "function", "coproc"):
            self._take_keyword()
            command = self._compound(keyword, at)
        else:
            command = self._simple()
        if not isinstance(command, Simple):
            command.redirects += self._redirects()
        return command

    def _compound(self, keyword: str, at: int) -> Compound:
        if keyword == "{":
            return self._braces(at)
        if keyword == "if":
            return self._if(at)
        if keyword in ("while", "until"):
            condition = self._required_list()
            return Compound(keyword, [condition, self._do_group(at)], at)
        if keyword == "case":
            return self._case(at)
        if keyword == "function":
            name = self._name_word()
            self.skip_blanks()
            if self.peek() == "(":
                self._empty_parentheses()
            return Compound("function", [self._body()], at, name=name)
        if keyword == "coproc":
            return self._coprocess(at)
        return self._loop(keyword, at)

    def _braces(self, at: int) -> Compound:
        body = self._required_list()
        if self._keyword() != "}":
            raise Unreadable(at, N_("This “{” is not closed on its line: “}” must follow a “;”."))
        self._take_keyword()
        return Compound("{", [body], at)

    def _if(self, at: int) -> Compound:
        bodies = [self._required_list()]
        while True:
            self._expect("then", at)
            bodies.append(self._required_list())
            keyword = self._keyword()
            if keyword == "elif":
                self._take_keyword()
                bodies.append(self._required_list())
                continue
            if keyword == "else":
                self._take_keyword()
                bodies.append(self._required_list())
            self._expect("fi", at)
            return Compound("if", bodies, at)

    def _do_group(self, at: int) -> list[Pipeline]:
        self._expect("do", at)
        body = self._required_list()
        self._expect("done", at)
        return body

    def _loop(self, keyword: str, at: int) -> Compound:
        self.skip_blanks()
        if keyword == "for" and self.peek(2) == "((":
            header = Calculation(self.arithmetic(self.i + 2, "))", quoted=True), self.i)
            if sum(part.text.count(";") for part in header.expression.parts if isinstance(part, Text)) != 2:
                raise Unreadable(header.at, N_("Three parts are expected here: ((start; condition; step))."))
            self._skip_one_separator()
            body = self._braced_or_do(at)
            return Compound("for((", [[Pipeline([header])], body], at)
        self.skip_blanks()
        start = self.i
        name = self._name_word()
        if not _NAME.match(name):
            raise Unreadable(start, N_("A name is expected here."))
        self.skip_blanks()
        words: list[Word] | None = None
        if self._keyword() == "in":
            self._take_keyword()
            words = self._words()
        self._skip_one_separator()
        return Compound(keyword, [self._braced_or_do(at)], at, name=name, words=words)

    def _braced_or_do(self, at: int) -> list[Pipeline]:
        self.skip_blanks()
        if self._keyword() == "{":
            self._take_keyword()
            return self._braces(at).bodies[0]
        return self._do_group(at)

    def _case(self, at: int) -> Compound:
        self.skip_blanks()
        words = [self._required_word()]
        self._expect("in", at)
        bodies: list[list[Pipeline]] = []
        self.skip_blanks()
        while self._keyword() != "esac":
            if self.peek() == "(":
                self.i += 1
            while True:
                self.skip_blanks()
                words.append(self._required_word())
                self.skip_blanks()
                if self.peek() != "|":
                    break
                self.i += 1
            if self.peek() != ")":
                raise self._unexpected()
            self.i += 1
            bodies.append(self._list())
            self.skip_blanks()
            if not self._case_end():
                break
            self.i += 3 if self.peek(3) == ";;&" else 2
            self.skip_blanks()
        self._expect("esac", at)
        return Compound("case", bodies, at, words=words)

    def _coprocess(self, at: int) -> Compound:
        self.skip_blanks()
        start = self.i
        name = "COPROC"
        first = self.word()
        self.skip_blanks()
        if first.at < first.end and (self.peek() == "(" or self._keyword() in _OPENING):
            # Only a compound command may be named.
            name = plain(first) or ""
            if not _NAME.match(name):
                raise self._unexpected()
        elif first.at < first.end and self._keyword() in _CLOSING | {
            "function",
            "coproc",
            "time",
            "in",
            "!",
            "]]",
        }:
            raise self._unexpected()
        else:
            self.i = start
        return Compound("coproc", [[Pipeline([self._command()])]], at, name=name)

    def _body(self) -> list[Pipeline]:
        """Read a function's body: one compound command."""
        self.skip_blanks()
        at = self.i
        body = self._command()
        if isinstance(body, Simple) or (isinstance(body, Compound) and body.kind in ("function", "coproc")):
            raise Unreadable(at, N_("A function's body must stand in braces: “name() { …; }”."))
        return [Pipeline([body])]

    def _condition(self) -> Condition:
        at = self.i
        self.i += 2
        words: list[Word] = []
        while True:
            self.skip_blanks()
            if self.i >= len(self.text):
                raise Unreadable(at, N_("This “[[” is not closed by “]]” on its line."))
            if re.compile(r"\]\](?=[\s;|&()<>]|\Z)").match(self.text, self.i):
                self.i += 2
                ConditionGrammar(words, at).check()
                return Condition(words, at)
            sign = _CONDITION_SIGN.match(self.text, self.i)
            if sign and not (words and plain(words[-1]) == "=~"):
                self.i = sign.end()
                words.append(
                    Word([Text(sign.group(), False, sign.start(), sign.end())], sign.start(), self.i)
                )
                continue
            previous = plain(words[-1]) if words else None
            word = (
                self._pattern(regular=previous == "=~")
                if previous in ("==", "=", "!=", "=~")
                else self.word()
            )
            if word.at == word.end:
                raise self._unexpected()
            words.append(word)

    def _pattern(self, *, regular: bool) -> Word:
        """Read a pattern or a regular expression in `[[`, in which parentheses may stand."""
        at = self.i
        parts: list[Part] = []
        depth = 0
        while self.i < len(self.text):
            char = self.peek()
            if depth == 0 and char in " \t;&)":
                break
            if char in "<>" or (char == "|" and depth == 0 and self.peek(2) == "||"):
                break
            if char in "(|" and not (regular or depth or self.text[self.i - 1 : self.i + 1] in _EXTENDED):
                break
            if char in "()|" or (depth and char in " \t;&"):
                depth += (char == "(") - (char == ")")
                self.i += 1
                parts.append(Text(char, False, self.i - 1, self.i))
            else:
                parts += self.word(stop=" \t;&()|<>").parts
        return Word(parts, at, self.i)

    def _simple(self) -> Command:
        if self._keyword() in _CLOSING or self._keyword() in ("in", "]]"):
            raise self._unexpected()
        command = Simple([], [], [], self.i)
        while True:
            self.skip_blanks()
            if self._redirection_starts():
                command.redirects.append(self._redirect())
                continue
            if self.peek() == "(" and command.words:
                return self._function(command)
            declaring = bool(command.words) and literal(command.words[0]) in DECLARING
            word = self.word(assignment=declaring or not command.words)
            if word.at == word.end:
                break
            assigned = self._assignment(word) if declaring or not command.words else None
            if assigned and not command.words:
                command.assignments.append(assigned)
            elif assigned:
                command.declared.append(assigned)
            else:
                command.words.append(word)
        if not (command.words or command.assignments or command.redirects):
            raise self._unexpected()
        return command

    def _function(self, command: Simple) -> Compound:
        name = plain(command.words[0]) if len(command.words) == 1 else None
        if name is None or command.assignments or command.redirects:
            raise self._unexpected()
        self._empty_parentheses()
        return Compound("function", [self._body()], command.at, name=name)

    def _empty_parentheses(self) -> None:
        found = re.compile(r"\([ \t]*\)").match(self.text, self.i)
        if not found:
            raise self._unexpected()
        self.i = found.end()

    def _assignment(self, word: Word) -> Assignment | None:
        """Return the assignment that this word is, reading the elements that may follow it, or None."""
        found = _ASSIGNED.match(self.text, word.at)
        if found and isinstance(word.parts[0], Text) and found.end() <= word.end:
            elements = None
            if found.end() == word.end and self.peek() == "(":
                elements = self._elements()
            return Assignment(
                found.group(1), None, _rest(word, found.end()), elements, word.at, found.group(2) == "+="
            )
        bracket = next((part for part in word.parts if isinstance(part, Arithmetic)), None)
        name = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\[").match(self.text, word.at)
        if not bracket or not name or name.end() != bracket.at:
            return None
        sign = re.compile(r"\]\+?=").match(self.text, bracket.end)
        if not sign:
            return None
        return Assignment(
            name.group(1), [bracket], _rest(word, sign.end()), None, word.at, sign.group() == "]+="
        )

    def _elements(self) -> list[Word]:
        opened = self.i
        self.i += 1
        elements: list[Word] = []
        while True:
            self.skip_blanks()
            if self.peek() == ")":
                self.i += 1
                return elements
            element = self._element()
            if element.at == element.end:
                if self.i >= len(self.text):
                    raise Unreadable(opened, N_("This parenthesis is not closed on its line."))
                raise self._unexpected()
            elements.append(element)

    def _element(self) -> Word:
        """Read an element of an array; a subscript before it is calculated by the shell."""
        if self.peek() != "[":
            return self.word()
        at = self.i
        subscript = self._bracketed()
        if not re.compile(r"\+?=").match(self.text, self.i):
            # A pattern such as [ab]*: read it again as one.
            self.i = at
            return self.word()
        rest = self.word()
        return Word([*subscript, *rest.parts], at, self.i)

    # Words and redirections.

    def _words(self) -> list[Word]:
        words: list[Word] = []
        while True:
            self.skip_blanks()
            word = self.word()
            if word.at == word.end:
                return words
            words.append(word)

    def _required_word(self) -> Word:
        word = self.word()
        if word.at == word.end:
            raise self._unexpected()
        return word

    def _name_word(self) -> str:
        """Read the name of a loop's variable or of a function, which must stand there literally."""
        self.skip_blanks()
        word = self._required_word()
        name = plain(word)
        if name is None:
            slot = next((part for part in word.parts if isinstance(part, Slot)), None)
            if slot:
                raise Unreadable(word.at, N_("The name that is defined here must be written out."))
            raise Unreadable(word.at, N_("A name is expected here."))
        return name

    def _redirection_starts(self) -> bool:
        descriptor = _DESCRIPTOR.match(self.text, self.i)
        if descriptor and descriptor.group()[1:-1] in self.known:
            return False
        start = descriptor.end() if descriptor else self.i
        return bool(_REDIRECTION.match(self.text, start)) and self.text[start : start + 2] not in ("<(", ">(")

    def _redirects(self) -> list[Redirect]:
        redirects: list[Redirect] = []
        while True:
            self.skip_blanks()
            if not self._redirection_starts():
                return redirects
            redirects.append(self._redirect())

    def _redirect(self) -> Redirect:
        at = self.i
        descriptor = _DESCRIPTOR.match(self.text, at)
        operator = _REDIRECTION.match(self.text, descriptor.end() if descriptor else at)
        if not operator:
            raise self._unexpected()
        if operator.group() in ("<<", "<<-"):
            raise Unreadable(
                at,
                N_("A here-document has no place here: every line is a command of its own."),
                N_("For a short text write <<< with it; for a longer one give the command a file."),
            )
        self.i = operator.end()
        self.skip_blanks()
        if _DESCRIPTOR.match(self.text, self.i) and not PLACEHOLDER.match(self.text, self.i):
            raise self._unexpected()
        return Redirect(operator.group(), self._required_word(), descriptor.group() if descriptor else "", at)

    # Words that only mean something where a command may start.

    def _keyword(self) -> str:
        """Return the unquoted word that starts here, without reading it."""
        found = re.compile(r"[^ \t|&;()<>'\"\\$`]+(?=[ \t|&;()<>]|\Z)").match(self.text, self.i)
        return found.group() if found else ""

    def _take_keyword(self) -> None:
        self.i += len(self._keyword())
        self.skip_blanks()

    def _expect(self, keyword: str, opened: int) -> None:
        self.skip_blanks()
        if self._keyword() != keyword:
            if self.i < len(self.text):
                raise self._unexpected()
            raise Unreadable(
                opened,
                N_("“%(keyword)s” is missing on this line.", keyword=keyword),
                N_("Each line is a command of its own; end a line with a backslash to go on in the next."),
            )
        self._take_keyword()

    def _skip_one_separator(self) -> None:
        self.skip_blanks()
        if self.peek() == ";" and not self._case_end():
            self.i += 1
        self.skip_blanks()

    def _unexpected(self) -> Unreadable:
        found = re.compile(r"[^ \t|&;()<>]+|;;&?|;&|&&|\|\||.").match(self.text, self.i)
        if not found:
            return Unreadable(max(0, len(self.text) - 1), N_("The line ends where more is expected."))
        return Unreadable(self.i, N_("“%(found)s” is not expected here.", found=found.group()[:40]))


_EXTENDED = ("?(", "*(", "+(", "@(", "!(")
_OPENING = ("{", "if", "while", "until", "for", "select", "case", "[[")


def _rest(word: Word, start: int) -> Word:
    """Return what the word has from an offset on, which lies outside quotes."""
    parts: list[Part] = []
    for part in word.parts:
        if part.at >= start:
            parts.append(part)
        elif part.end > start and isinstance(part, Text):
            parts.append(Text(part.text[start - part.end :], part.quoted, start, part.end))
    return Word(parts, start, word.end)
