"""A pattern cannot stall the process that matches it."""

from __future__ import annotations

import time

import pytest

from skstack.catalog import patterns, values
from skstack.catalog.models import Variable


@pytest.mark.parametrize(
    ("pattern", "text", "several_lines", "expected"),
    [
        (".{5,}", "short", False, True),
        (".{5,}", "tiny", False, False),
        (".{5,}", "two\nlines", False, False),
        (".{5,}", "two\nlines", True, True),
        ("[a-z]+", "abc1", False, False),
        (r"(\d{1,3}\.){3}\d{1,3}", "192.168.0.1", False, True),
        (r"([a-z]+,)*[a-z]+", "a,b,c", False, True),
        (r"(?P<x>a)(?P=x)", "aa", False, True),
        (r"(?!root)[a-z]+", "root", False, False),
        ("(a+)+b", "aaab", False, True),
        ("中+", "中中", False, True),
    ],
)
def test_patterns_match_the_whole_text(pattern: str, text: str, several_lines: bool, expected: bool) -> None:
    assert patterns.matches(pattern, text, several_lines=several_lines) is expected


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b", "(a|aa)+b", "([a-zA-Z]+)*b", "(.*)*b"])
def test_a_pattern_that_would_take_for_ever_is_given_up(pattern: str) -> None:
    before = time.monotonic()

    with pytest.raises(patterns.TooSlow):
        patterns.matches(pattern, "a" * 200)

    assert time.monotonic() - before < patterns.TIME_LIMIT + 2


def test_a_value_whose_check_was_given_up_is_refused() -> None:
    variable = Variable(
        name="X",
        source="input",
        widget="text",
        pattern="(a+)+b",
        pattern_message="no",
        min_length=None,
        max_length=None,
    )

    [message] = values.problems(variable, "a" * 200)

    assert "could not be checked in time" in str(message)


def test_the_usual_patterns_need_no_process_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "_apart", lambda *args: pytest.fail("a process was started"))

    for pattern in (
        ".{5,}",
        "[1-9][0-9]{0,2}",
        r"\d{4}-\d{2}-\d{2}",
        r"(\d{1,3}\.){3}\d{1,3}",
        r"v?\d+\.\d+\.\d+",
        "[A-Z]+-[0-9]+",
    ):
        patterns.matches(pattern, "1" * 30)


@pytest.mark.parametrize("pattern", ["(", "[", "a{2,1}", "*", "(?P<1>a)", "a" * 1001])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    assert str(patterns.problem(pattern))
