"""Rule 6 and 7: what a value may contain, and how it gets into an environment."""

from __future__ import annotations

import re

import pytest

from skstack.substitution import (
    MAX_TOTAL_BYTES,
    MAX_VALUE_BYTES,
    STRICT_PATTERN,
    Variable,
    check_total,
    check_value,
    check_whole_word,
    choices_are_strict,
    compile_task,
    environment,
    is_strict,
    join_items,
    normalize,
)
from tests.substitution.hostile import VALUES, VARIABLES


def test_every_end_of_line_becomes_a_newline() -> None:
    assert normalize("a\r\nb\rc\n\r\nd\r") == "a\nb\nc\n\nd\n"


@pytest.mark.parametrize(
    "value", ["", "a\tb", "中文 é 😀", "x" * MAX_VALUE_BYTES, "é" * (MAX_VALUE_BYTES // 2)]
)
def test_a_plain_value_is_allowed(value: str) -> None:
    assert check_value(value) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a\0b", "Character 2 is a control character (U+0000), which nobody can see. Remove it."),
        ("\x1b[31m", "Character 1 is a control character (U+001B), which nobody can see. Remove it."),
        ("a\r\n", "Character 2 is a control character (U+000D), which nobody can see. Remove it."),
        ("\x7f", "Character 1 is a control character (U+007F), which nobody can see. Remove it."),
        ("\x9b1m", "Character 1 is a control character (U+009B), which nobody can see. Remove it."),
        ("\ud800", "This is not valid text: it has half of a character that takes two."),
        ("a\nb", "This must be a single line."),
        ("x" * 200_000, "This is 200000 bytes long; at most 32768 are allowed."),
        ("é" * 16385, "This is 32770 bytes long; at most 32768 are allowed."),
    ],
)
def test_a_value_is_refused_with_its_reason(value: str, message: str) -> None:
    assert str(check_value(value)) == message


def test_newlines_are_for_inputs_of_several_lines() -> None:
    assert check_value("a\n\tb\n", multiline=True) is None
    assert check_value("a\0\n", multiline=True) is not None


def test_all_values_together_have_a_limit() -> None:
    most = {f"V{index}": "x" * MAX_VALUE_BYTES for index in range(8)}
    assert sum(map(len, most.values())) == MAX_TOTAL_BYTES
    assert check_total(most) is None
    assert check_total({**most, "more": ["", "é"]}) is not None


@pytest.mark.parametrize(
    "template",
    ["probe {V}", 'probe "{V}"', "probe '{V}'.txt", "probe {W}{V}", 'X={V}; probe "$X"', "for x in {V}; do a; done",
     'a=({V}); probe "${a[@]}"', 'probe "$(echo {V})"', "sh -c 'probe \"$1\"' x {V}", 'probe "$WO_V"'],
)  # fmt: skip
def test_a_leading_dash_is_refused_where_the_value_begins_a_word(template: str) -> None:
    words = compile_task(template, VARIABLES).whole_words
    assert check_whole_word("V", "-rf", whole_words=words, variable=VARIABLES["V"]) is not None
    assert check_whole_word("V", ["a", "-rf"], whole_words=words, variable=VARIABLES["V"]) is not None
    assert check_whole_word("V", "a-rf", whole_words=words, variable=VARIABLES["V"]) is None
    allowed = Variable("V", allow_leading_dash=True)
    assert check_whole_word("V", "-rf", whole_words=words, variable=allowed) is None


@pytest.mark.parametrize(
    "template", ["probe --x={V}", "probe 'a {V}'", "X={V}", "[[ {V} = x ]]", "probe <<< {V}"]
)
def test_a_leading_dash_is_allowed_elsewhere(template: str) -> None:
    words = compile_task(template, VARIABLES).whole_words
    assert check_whole_word("V", "-rf", whole_words=words, variable=VARIABLES["V"]) is None


def test_joined_items_may_not_contain_the_delimiter() -> None:
    assert join_items(["a", "b c"], ",") == "a,b c"
    assert join_items([], ",") == ""
    assert str(join_items(["a", "b;c"], ";")) == "“b;c” contains “;”, which separates the values."
    assert join_items(["a", "b"], "") == "ab"


@pytest.mark.parametrize("value", ["", "a", "7", "web-01.example.org:8080", "a/b@c%d+e=f,g_h", "v1.2.3-rc1"])
def test_the_strict_alphabet(value: str) -> None:
    assert is_strict(value)
    assert not value or re.fullmatch(STRICT_PATTERN, value)


@pytest.mark.parametrize(
    "value",
    ["-a", "a-", "_", ".", "a b", "a\n", "\na", "é", "中", "a;b", "$a", "a*", "~a", "a{b", "a'b", "!", "٣"],
)
def test_what_is_not_strict(value: str) -> None:
    assert not is_strict(value)


def test_no_hostile_value_that_could_be_code_is_strict() -> None:
    assert {value for value in VALUES if is_strict(value) and len(value) < 100} == {
        "",
        "A=1",
        "evil",
        "EOF",
        "1e9",
    }


def test_choices_are_strict_if_all_are_alone_and_joined() -> None:
    assert choices_are_strict(["update", "restart"])
    assert choices_are_strict(["h1", "h2"], ",")
    assert not choices_are_strict(["update", "$(reboot)"])
    assert not choices_are_strict(["two words"])
    assert not choices_are_strict(["h1", "h2"], ";")
    assert not choices_are_strict(["h1", "h2"], " ")
    assert not choices_are_strict(["h1", ""], ",")
    assert choices_are_strict([])


def test_the_environment_has_each_value_and_each_item() -> None:
    assert environment({"V": "a b", "Hosts": ["x", "y"], "None_": []}, {"Hosts": ";"}) == {
        "WO_V": "a b",
        "WO_Hosts": "x;y",
        "WO_Hosts_0": "x",
        "WO_Hosts_1": "y",
        "WO_None_": "",
    }


@pytest.mark.parametrize(
    "values", [{"a b": ""}, {"V=x": ""}, {"": ""}, {"V\n": ""}, {"é": ""}, {"V": "a\0"}, {"V": "\ud800"}, {"V": ["\0"]},
               {"H": ["a"], "H_0": "b"}]
)  # fmt: skip
def test_what_no_environment_can_carry_is_an_error(values: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"variable's name|cannot|no environment|two variables"):
        environment(values)
