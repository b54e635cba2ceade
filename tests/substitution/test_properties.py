"""Templates and values that nobody thought of.

Two kinds: lines built from safe pieces, of which the arguments are known, must be accepted and exact;
and lines shuffled from dangerous pieces must be refused or run nothing.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from skstack.substitution import (
    TemplateRefused,
    check_whole_word,
    compile_task,
    environment,
    placeholders,
    remote_script,
)
from tests.substitution.hostile import MORE, VALUES, VARIABLES
from tests.substitution.shell import Shell


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,  # the same cases in each run: chance belongs to longer runs than this suite's
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


values = st.one_of(
    st.sampled_from(VALUES),
    st.text(alphabet=st.sampled_from("ab \t\n'\"\\$`(){}[];&|<>*?!#~=%,-+@^:/.évil"), max_size=20),
    st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
)


@dataclass(frozen=True)
class Piece:
    """Text of a template, and what it becomes, for values V and W."""

    text: str
    becomes: str

    def value(self, given: dict[str, str]) -> str:
        """Return the argument, or the part of it, that this gives."""
        return self.becomes.replace("\ue000", given["V"]).replace("\ue001", given["W"])


_LETTERS = st.text(alphabet="abcXYZ019_./:@%+,=é中", min_size=1, max_size=6)
_SLOTS = st.sampled_from([Piece("{V}", "\ue000"), Piece("{W}", "\ue001")])


def _joined(pieces: list[Piece]) -> Piece:
    return Piece("".join(piece.text for piece in pieces), "".join(piece.becomes for piece in pieces))


_INSIDE_DOUBLE = st.one_of(
    _LETTERS.map(lambda text: Piece(text, text)),
    _SLOTS,
    st.sampled_from(
        [Piece("'", "'"), Piece('\\"', '"'), Piece("\\$", "$"), Piece("\\`", "`"), Piece(" ", " "), Piece(";", ";"),
         Piece("{", "{"), Piece("}", "}"), Piece("$(printf %s. '{V}')", "\ue000."), Piece("$((1+1))", "2"), Piece("|", "|"),
         Piece('$(printf %s. "{W}")', "\ue001."), Piece("${NONE:-x}", "x"), Piece("#", "#"),
         Piece("$(X={V}; printf %s. \"$X\")", "\ue000.")]
    ),
)  # fmt: skip
_INSIDE_SINGLE = st.one_of(
    _LETTERS.map(lambda text: Piece(text, text)),
    _SLOTS,
    st.sampled_from([Piece('"', '"'), Piece(" ", " "), Piece("`", "`"), Piece("$(", "$("), Piece("a\\", "a\\"), Piece("{", "{"),
                     Piece("}", "}"), Piece("# ", "# "), Piece("&& ", "&& ")]),
)  # fmt: skip


def _quoted(quote: str, inside: st.SearchStrategy[Piece]) -> st.SearchStrategy[Piece]:
    return (
        st.lists(inside, max_size=4)
        .map(_joined)
        .filter(
            lambda piece: not any(sign + "{" in piece.text for sign in ("\\", "$")) and "{{" not in piece.text
        )
        .map(lambda piece: Piece(quote + piece.text + quote, piece.becomes))
    )


_PARTS = st.one_of(
    _SLOTS,
    _LETTERS.map(lambda text: Piece("x" + text, "x" + text)),
    _quoted('"', _INSIDE_DOUBLE),
    _quoted("'", _INSIDE_SINGLE),
    st.sampled_from(
        [Piece("\\ ''", " "), Piece("\\'", "'"), Piece("\\;", ";"), Piece("''", ""), Piece("\\\\''", "\\")]
    ),
)
_WORDS = st.lists(_PARTS, min_size=1, max_size=4).map(_joined)

# What an ordinary line has around its command; %s is the command.
_AROUND = st.sampled_from(
    ["%s", "( %s )", "{ %s; }", "if true; then %s; fi", "if false; then :; else %s; fi", "for i in 1; do %s; done",
     "case x in (x|y) %s ;; esac", "true && %s", "false || %s", "%s | cat", "true | %s", "%s 2>&1", "! %s", "X={W} %s",
     "cd / && %s", "%s; true", ": {V}; %s", "f() { %s; }; f", "echo \"$(%s)\"", "cat <(%s)", "%s <<< {V}", "%s # end",
     "while %s; do break; done", "time %s", "[[ {V} == {V} ]] && %s", "[ -n x{W} ] && %s", "echo {V} | grep -c . ; %s",
     "echo '{\"a\": \"{V}\"}' > /dev/null; %s", "set -e; %s", "%s & wait", "env A={V} %s", "nice -n 1 %s", "exec %s"]
)  # fmt: skip


@_settings(300)
@given(
    words=st.lists(_WORDS, max_size=4),
    around=st.lists(_AROUND, max_size=2),
    v=values,
    w=values,
    remote=st.booleans(),
)
@example(
    words=[Piece("\"$(printf %s. '{V}')\"", "\ue000.")],
    around=["case x in (x|y) %s ;; esac"],
    v="'",
    w="",
    remote=True,
)
def test_what_is_accepted_gives_each_argument_exactly(
    words: list[Piece], around: list[str], v: str, w: str, remote: bool, shell: Shell
) -> None:
    text = " ".join(["probe", *(word.text for word in words)])
    for each in around:
        inner = (
            text
            if each not in ("env A={V} %s", "nice -n 1 %s", "exec %s") or text.startswith("probe")
            else None
        )
        text = each.replace("%s", inner) if inner else text
    given_values = {"V": v, "W": w}
    task = compile_task(text, VARIABLES)
    run = shell.remote if remote else shell.local
    expected = [word.value(given_values) for word in words]
    calls = [call for line in task.lines for call in run(line.render(), environment(given_values))]
    assert calls == [expected], (text, task.lines)
    assert shell.happened() == [], text


_DANGEROUS = st.sampled_from(
    r"""
    {V} {V} {W} "{V}" '{V}' $WO_V "$WO_V" $X "$X" "${X}" x{V} <({V}) "$1" "$@" "$_" X={V} X a 1 probe probe
    echo printf %s -v X= a[ ] [[ ]] [ (( )) $(( $( ( ) { } ; ; && || | |& & if then else fi for in do done while
    case esac ;; function f() f read mapfile declare -i -n -a -A local export unset set -- shift test -eq == =~ =
    -z let eval sh -c bash -s command builtin exec env timeout 5 xargs awk sed perl -e python3 source . trap EXIT
    <<< 2>&1 " ' \ $ ` ${X:-a} ${!X} ${X@P} ${X:1:2} ${a[X]} $((X)) a=( true #x ! -exec \; {} + -I{} tee cat
    hash alias -p -u $'a' {a,b} cd "$0" -ge - env$X
    """.split()  # noqa: SIM905 - a word list
) | st.sampled_from(
    ["printf -v X %s", "read -r X <<<", "f() { probe \"$1\"; }; f", "sh -c 'probe \"$1\"' x", "X={V};",
     "for X in", "f() { $1; }; f", '"$(echo {V})"', "$(echo {V})", "while read -r X; do", "case {V} in", "[[ {V} ==",
     "mapfile -t a <<<", "X={V} bash -c",
     "find . -maxdepth 0 -exec", "| while"]
)  # fmt: skip

# Aimed at what each of those does with a text that it reads again.
_AIMED = st.sampled_from(
    ["evil", "$(evil)", "a[$(evil)]", "X[$(evil)]", "x; evil", "`evil`", "'; evil; '", "([0]=$(evil))", "a[$(evil)]=1",
     "\nevil\n",     "evil #", "1+a[$(evil)]", "evil|", "|evil", "X=$(evil)", "{evil,}", "WO_V[$(evil)]", *MORE]
)  # fmt: skip


# Dangerous lines, which are refused; an edit may make them something that is not seen to be dangerous.
_BASES = st.sampled_from(
    ["X={V}; (( X ))", "X={V}; eval $X", "read X <<< {V}; echo $(( X ))", 'sh -c "$(echo {V})"', "env A=1 {V}",
     "X={V}; sh -c 'eval \"$1\"' x \"$X\"", "for x in {V}; do (( x )); done", "set -- {V}; sh -c $1", "echo {V} | sh",
     "printf -v X %s {V}; [[ $X -eq 1 ]]", "f() { $1; }; f {V}", "timeout 5 nice -n 1 {V}", "bash <<< {V}",
     "declare -i X; X={V}", "a=({V}); [[ ${a[0]} -gt 0 ]]", "find . -maxdepth 0 -exec {V} \\;", "trap {V} EXIT",
     "C=sh; $C -c {V}", "{ echo {V}; } | bash -s", "echo {V} | xargs -I{} sh -c {}", "perl -e {V}", "let X={V}",
     "X={V}; Y=$X; echo ${a[Y]}", "X={V}; echo ${X@P}", "awk -v x={V} 'BEGIN { system(x) }'", ". <(echo {V})",
     "echo {V} > f; sh f", "X={V} bash -c '$X'", "mapfile -t a <<< {V}; (( a[0] ))", "test -v {V}", "unset {V}"]
)  # fmt: skip


@st.composite
def _edited(draw: st.DrawFn) -> str:
    words = draw(_BASES).split(" ")
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(words) - 1))
        edit = draw(st.sampled_from(["before", "join", "replace", "remove"]))
        if edit == "before":
            words.insert(at, draw(_DANGEROUS))
        elif edit == "join":
            words[at] += draw(_DANGEROUS)
        elif edit == "replace":
            words[at] = draw(_DANGEROUS)
        elif len(words) > 1:
            del words[at]
    return " ".join(words)


_SHUFFLED = st.lists(
    st.tuples(_DANGEROUS, st.sampled_from(["", " ", " ", " "])).map("".join), min_size=1, max_size=9
).map("".join)


# One shell after another: on a busy machine that takes its time.
@pytest.mark.timeout(240)
@_settings(800)
@given(text=_edited() | _SHUFFLED, v=_AIMED, w=_AIMED)
def test_what_is_shuffled_is_refused_or_runs_nothing(text: str, v: str, w: str, shell: Shell) -> None:
    given_values = {"V": v, "W": w}
    try:
        task = compile_task(text, VARIABLES)
    except TemplateRefused as refused:
        _all_have_a_place(refused, text)
        return
    if not task.lines or (not task.names and "WO_" not in text):
        return
    if any(
        check_whole_word(name, given_values[name], whole_words=task.whole_words, variable=VARIABLES[name])
        for name in task.names
    ):
        return
    for line in task.lines:
        rendered = line.render()
        assert not subprocess.run(["bash", "-n", "-c", rendered], capture_output=True, check=False).stderr, (
            text
        )
        try:
            shell.local(rendered, environment(given_values))
        except subprocess.TimeoutExpired:
            continue
        assert not shell.canary.exists(), (text, given_values)
        for left in shell.work.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()


@_settings(300)
@given(text=st.text(alphabet=st.sampled_from("ab{}VW$()'\"\\`#;&|<>[]!=* \n\t"), max_size=60))
def test_any_text_compiles_or_is_refused(text: str) -> None:
    placeholders(text, VARIABLES)
    try:
        task = compile_task(text, VARIABLES)
    except TemplateRefused as refused:
        _all_have_a_place(refused, text)
        return
    for line in task.lines:
        assert "{V}" not in line.render().replace("\\{V}", "")
        assert remote_script(line.render(), {})


def _all_have_a_place(refused: TemplateRefused, text: str) -> None:
    lines = text.split("\n")
    assert refused.problems
    for problem in refused.problems:
        assert 1 <= problem.line <= len(lines)
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
        assert problem.length >= 1
        assert "%(" not in str(problem)
