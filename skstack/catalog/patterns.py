"""Patterns that administrators write, matched against what users type, without letting one stall the other.

Python's `re` backtracks, cannot be given a time limit and holds the interpreter's lock: `(a+)+b` against forty
letters would stop the whole web process. So the ways in which a pattern can take a text are counted first; where
that is a small number the match runs here, where it is not, in a process of its own with a time limit.
"""

from __future__ import annotations

import re
import subprocess
import sys
from functools import lru_cache
from typing import Any

from skstack.messages import N_, Message

MOST_CHARACTERS = 1000
TIME_LIMIT = 1.0
_AFFORDABLE = 2_000_000
_ENOUGH = 10**12

# The parser that `re` itself uses. It is private, but nothing else says how a pattern is built.
_parser: Any = re._parser  # type: ignore[attr-defined]  # typeshed leaves it out
_constants: Any = re._constants  # type: ignore[attr-defined]  # typeshed leaves it out

# Reads "FLAGS LENGTH" and then the pattern and the text; exit code 0 says that it matches, 1 that it does not.
_PROGRAM = (
    "import re,sys; h,_,b=sys.stdin.buffer.read().partition(b'\\n'); f,n=map(int,h.split()); "
    "sys.exit(0 if re.compile(b[:n].decode(),f).fullmatch(b[n:].decode()) else 1)"
)


class TooSlow(Exception):
    """The match was given up after `TIME_LIMIT` seconds."""


def problem(pattern: str) -> Message | None:
    """Return why this cannot be used as a pattern, or None."""
    if len(pattern) > MOST_CHARACTERS:
        return N_("A pattern can have %(most)s characters at most.", most=MOST_CHARACTERS)
    try:
        re.compile(pattern)
    except re.error as err:
        if err.pos is None:
            return N_("This is not a pattern that Python understands: %(reason)s.", reason=err.msg)
        return N_(
            "This is not a pattern that Python understands: %(reason)s, at character %(position)s.",
            reason=err.msg,
            position=err.pos + 1,
        )
    except (RecursionError, OverflowError):
        return N_("This pattern is nested too deeply, or repeats too often.")
    return None


def matches(pattern: str, text: str, *, several_lines: bool = False) -> bool:
    """Say whether the pattern takes the whole text. With `several_lines` a dot takes the end of a line too.

    Raises TooSlow.
    """
    flags = re.DOTALL if several_lines else 0
    if ways(pattern, len(text)) * (len(text) + 1) <= _AFFORDABLE:
        return re.compile(pattern, flags).fullmatch(text) is not None
    return _apart(pattern, text, flags)


@lru_cache(maxsize=256)
def ways(pattern: str, length: int) -> int:
    """Return an upper bound of the ways in which `pattern` can be laid over a text; at most 10^12."""
    return _sequence(_parser.parse(pattern), length)


def _sequence(parsed: Any, length: int) -> int:
    total = 1
    for operation, argument in parsed:
        total = min(total * _ways(operation, argument, length), _ENOUGH)
    return total


def _ways(operation: Any, argument: Any, length: int) -> int:
    if operation in (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT):
        least, most, item = argument
        most = max(min(int(most), length), int(least))
        each = _sequence(item, length)
        if each == 1:
            return most - int(least) + 1
        return _ENOUGH if most > 40 else min((most - int(least) + 1) * each**most, _ENOUGH)
    if operation is _constants.BRANCH:
        return sum(_sequence(branch, length) for branch in argument[1])
    if operation is _constants.SUBPATTERN:
        return _sequence(argument[3], length)
    if operation is _constants.ATOMIC_GROUP:
        return _sequence(argument, length)
    if operation in (_constants.ASSERT, _constants.ASSERT_NOT):
        return _sequence(argument[1], length)
    if operation is _constants.GROUPREF_EXISTS:
        return _ENOUGH
    return 1


def _apart(pattern: str, text: str, flags: int) -> bool:
    encoded = pattern.encode()
    given = f"{flags} {len(encoded)}\n".encode() + encoded + text.encode()
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _PROGRAM],
            input=given,
            capture_output=True,
            timeout=TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired as err:
        raise TooSlow from err
    if done.returncode not in (0, 1) or done.stderr:
        raise RuntimeError(f"the pattern process failed: {done.stderr[-500:]!r}")
    return done.returncode == 0
