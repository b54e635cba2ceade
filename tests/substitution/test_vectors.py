"""The vectors of the design: each template with each value, through a real bash, in both forms."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from skstack.substitution import TemplateRefused, compile_task, environment
from tests.substitution.hostile import DESIGN, MORE, VALUES, VARIABLES
from tests.substitution.shell import Shell

TEMPLATES: list[tuple[str, Callable[[str], list[str]]]] = [
    ("probe {V}", lambda v: [v]),
    ("probe --x={V}.txt", lambda v: [f"--x={v}.txt"]),
    ('probe "a {V} b"', lambda v: [f"a {v} b"]),
    ("probe 'a {V} b'", lambda v: [f"a {v} b"]),
    ("""probe -e prod -g "{V}" -i '{V}'""", lambda v: ["-e", "prod", "-g", v, "-i", v]),
    ("probe {V} | cat && true", lambda v: [v]),
    ('X={V}; probe "$X"', lambda v: [v]),
    ('probe "$(printf %s "{V}")"', lambda v: [v.rstrip("\n")]),
    ("""sh -c 'probe "$1"' x {V}""", lambda v: [v]),
    ('probe "{sk__name}" {V}', lambda v: ["site.20260101", v]),
    # Beyond the design: what else ordinary lines do.
    ("probe {V}{W}'{V}'\"{V}\"", lambda v: [v + "w  w" + v + v]),
    ("probe {a,b}{V}", lambda v: ["a" + v, "b" + v]),
    ("probe '{V}'\\''{V}'", lambda v: [f"{v}'{v}"]),
    ('a=({V} "x y" {W}); probe "${a[@]}"', lambda v: [v, "x y", "w  w"]),
    ('for x in {V} b; do probe "$x" && break; done', lambda v: [v]),
    ('if [[ {V} == {W} ]]; then echo same; else probe {V}; fi', lambda v: [v]),
    ("if [[ {V} =~ {V} ]]; then probe {V}; fi", lambda v: [v]),
    ("case {V} in {W}) exit 1 ;; {V}) probe {V} ;; esac", lambda v: [v]),
    ('X=x{V}; probe "${X#x}"', lambda v: [v]),
    ('f() { probe "$@"; }; f {V} {W}', lambda v: [v, "w  w"]),
    ('read -r -d "" X <<< {V} || true; probe x', lambda v: ["x"]),
    ("( cd / && { probe {V}; } ) 2>&1 | cat", lambda v: [v]),
    ('export X={V}; bash -c \'probe "$X"\'', lambda v: [v]),
    ("X={V} probe {V} # not {in} here", lambda v: [v]),
    ("env X={V} timeout 5 nice -n 1 probe {V}", lambda v: [v]),
    ("probe \"$(case x in x) printf '%s.' {V};; esac)\"", lambda v: [v + "."]),
    ("probe '{\"k\": \"{V}\"}' \"{\\\"k\\\": \\\"{V}\\\"}\"", lambda v: [f'{{"k": "{v}"}}'] * 2),
    ("set -- {V} b; probe \"$1\" \"$#\"", lambda v: [v, "2"]),
    ("trap 'probe bye' EXIT; true {V}", lambda v: ["bye"]),
    ("probe $((1+2)) {V} \\\n  {W}", lambda v: ["3", v, "w  w"]),
    ("printf '%s\\0' {V} | xargs -0 sh -c 'probe \"$@\"' x", lambda v: [v]),
    ("find . -maxdepth 0 -exec probe x{V} \\;", lambda v: [f"x{v}"]),
    ("python3 -c 'import sys, subprocess; sys.exit(0)' {V}; probe {V}", lambda v: [v]),
    ("printf -v X '%s' {V}; probe \"$X\"", lambda v: [v]),
    ("diff <(printf %s {V}) <(printf %s {V}) && probe {V}", lambda v: [v]),
    ("ls | while read -r l; do :; done; probe {V}", lambda v: [v]),
    ("probe ~{V} *{V}\"\"", lambda v: [f"~{v}", f"*{v}"]),
]  # fmt: skip

_FIXED = {"W": "w  w", "sk__name": "site.20260101"}


@pytest.mark.parametrize("form", ["local", "remote"])
@pytest.mark.parametrize(("template", "expected"), TEMPLATES, ids=[template for template, _ in TEMPLATES])
def test_each_argument_arrives_exactly_and_nothing_else_happens(
    template: str, expected: Callable[[str], list[str]], form: str, shell: Shell
) -> None:
    line = compile_task(template, VARIABLES).lines[0].render()
    run = getattr(shell, form)
    position = [each for each, _ in TEMPLATES].index(template)
    # The design's own templates meet all of its values; the others, in turn, a third of them.
    values = (DESIGN if position < 10 else DESIGN[position % 3 :: 3]) + MORE[position % 5 :: 5]
    if "python3" in template:
        values = values[::6]  # Python takes long to start
    for value in values:
        found = run(line, environment(_FIXED | {"V": value}))
        assert found == [expected(value)], (value, line, shell.finished)
        assert shell.happened() == [], (value, line)


@pytest.mark.parametrize("form", ["local", "remote"])
def test_one_argument_each(form: str, shell: Shell) -> None:
    line = compile_task(
        'probe x {Hosts} "{Hosts}" \'{Hosts}\'; for h in {Hosts}; do probe "$h"; done', VARIABLES
    )
    for items in ([], ["a"], ["a b", "$(evil)", "", "c,d\n"], VALUES):
        found = getattr(shell, form)(
            line.lines[0].render({"Hosts": len(items)}), environment({"Hosts": items})
        )
        joined = ",".join(items)
        assert found == [["x", *items, joined, joined], *([item] for item in items)]
        assert shell.happened() == []


@pytest.mark.parametrize(
    "template",
    [
        'sh -c "probe {V}"', "eval probe {V}", "probe $(( {V} + 1 ))", "cat <<EOF {V}", "cat <<EOF\n{V}\nEOF",
        "probe \\{V}", "probe ${V}", "[[ {V} -eq 1 ]]", "{V} x", "exec {V}", "test -v {V}", "probe > {V}",
        "probe `echo {V}`", 'X={V}; eval "$X"', "echo {V} | sh",
    ],
)  # fmt: skip
def test_what_the_design_refuses_is_refused(template: str) -> None:
    with pytest.raises(TemplateRefused):
        compile_task(template, VARIABLES)


def test_the_harness_sees_what_is_executed(shell: Shell) -> None:
    """The tests above prove nothing unless a line that does paste a value is caught by them."""
    shell.local('eval "probe ${WO_V}"; touch C', environment({"V": "x; evil"}))
    assert shell.happened() == ["C", "canary"]
    shell.reset()
    assert shell.happened() == []
