"""Lines as approvers read them."""

from __future__ import annotations

import pytest

from skstack.substitution import compile_task, display, environment
from tests.substitution.hostile import VALUES, VARIABLES
from tests.substitution.shell import Shell


@pytest.mark.parametrize(
    ("template", "value", "shown"),
    [
        ("probe {V}", "abc", "probe abc"),
        ("probe {V}", "a b", "probe 'a b'"),
        ("probe {V}", "", "probe ''"),
        ("probe {V}", "x'; touch C", "probe 'x'\"'\"'; touch C'"),
        ('probe "a {V}"', 'b"$(c)', 'probe "a b\\"\\$(c)"'),
        ("probe 'a {V}'", "b'c", "probe 'a b'\\''c'"),
        ("probe {V}", "a\nb", "probe $'a\\nb'"),
        ('probe "{V}"', "\u202eabc", 'probe ""$\'\\u202eabc\'""'),
    ],
)
def test_the_value_is_shown_quoted(template: str, value: str, shown: str) -> None:
    assert display(compile_task(template, VARIABLES).lines[0], {"V": value}) == shown


def test_masked_values_and_items() -> None:
    line = compile_task('probe {V} {Hosts} "{Hosts}"', VARIABLES).lines[0]
    values = {"V": "hidden", "Hosts": ["a", "b c"]}
    assert display(line, values, masked=["V"]) == "probe •••••• a 'b c' \"a,b c\""


@pytest.mark.parametrize("template", ["probe {V}", 'probe "x{V}"', "probe 'x{V}'"])
def test_what_is_shown_reads_as_what_is_run(template: str, shell: Shell) -> None:
    """It is never run; but were it, it would do the same, so nobody approves something else."""
    line = compile_task(template, VARIABLES).lines[0]
    for value in VALUES[::3]:
        assert shell.local(display(line, {"V": value}), {}) == shell.local(
            line.render(), environment({"V": value})
        )
    assert shell.happened() == []
