"""The grammar of what stands between `[[` and `]]`."""

from __future__ import annotations

import re

from skstack.messages import N_
from skstack.substitution.lexer import Unreadable
from skstack.substitution.syntax import Word, plain

_SIGNS = frozenset({"&&", "||", "(", ")", "<", ">"})
_BINARY = frozenset({"=", "==", "!=", "=~", "<", ">", "-ef", "-nt", "-ot"})
_BINARY |= {"-eq", "-ne", "-lt", "-le", "-gt", "-ge"}
_UNARY = re.compile(r"-[a-hknoprstuvwxzGLNORS]")


class ConditionGrammar:
    """Reads the words of one condition: `ConditionGrammar(words, at).check()`."""

    def __init__(self, words: list[Word], at: int) -> None:
        self._left = [(plain(word) or "", word.at) for word in words]
        self._at = at
        self._depth = 0  # parentheses opened so far

    def check(self) -> None:
        """Raise Unreadable where bash would not read the condition."""
        self._any()
        if self._left:
            raise self._wrong()

    def _any(self) -> None:
        self._depth += 1
        if self._depth > 40:
            raise self._wrong()
        self._all()
        while self._next() == "||":
            self._left.pop(0)
            self._all()

    def _all(self) -> None:
        self._term()
        while self._next() == "&&":
            self._left.pop(0)
            self._term()

    def _term(self) -> None:
        while self._next() == "!":
            self._left.pop(0)
        if not self._left:
            raise self._wrong()
        if self._next() == "(":
            self._left.pop(0)
            self._any()
            if self._next() != ")":
                raise self._wrong()
            self._left.pop(0)
            return
        first = self._word()
        if _UNARY.fullmatch(first) and self._left and self._next() not in _SIGNS:
            self._word()
        elif self._next() in _BINARY:
            self._left.pop(0)
            self._word()

    def _word(self) -> str:
        if not self._left or self._next() in _SIGNS:
            raise self._wrong()
        return self._left.pop(0)[0]

    def _next(self) -> str:
        return self._left[0][0] if self._left else "]]"

    def _wrong(self) -> Unreadable:
        at = self._left[0][1] if self._left else self._at
        return Unreadable(at, N_("This condition is not complete, or has something too much."))
