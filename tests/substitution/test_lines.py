"""Rule 2: which lines a task has, and where their characters come from."""

from __future__ import annotations

import pytest

from skstack.substitution import TemplateRefused, Variable, compile_task, placeholders
from tests.substitution.hostile import VARIABLES


def test_each_line_is_a_step_and_blank_lines_and_comments_are_none() -> None:
    task = compile_task("\n  # first\nprobe 1  \n\t\n#x {V}\n\tprobe {V}\r\nprobe {W}\rprobe 4", VARIABLES)
    assert [(line.number, line.source) for line in task.lines] == [
        (3, "probe 1"), (6, "probe {V}"), (7, "probe {W}"), (8, "probe 4"),
    ]  # fmt: skip
    assert [line.names for line in task.lines] == [set(), {"V"}, {"W"}, set()]
    assert task.names == {"V", "W"}


def test_a_backslash_at_the_end_joins() -> None:
    task = compile_task("probe a\\\n b \\\n\\\n  {V} \\\\\nprobe x", VARIABLES)
    assert [(line.number, line.source) for line in task.lines] == [
        (1, "probe a b   {V} \\\\"),
        (5, "probe x"),
    ]


def test_a_problem_in_a_joined_line_is_where_it_was_written() -> None:
    with pytest.raises(TemplateRefused) as refused:
        compile_task("probe \\\n  a \\\n   > {V}", VARIABLES)
    assert [(problem.line, problem.column) for problem in refused.value.problems] == [(3, 6)]


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("probe 'a\\\nb'", (1, 7), "A backslash does not join lines within single quotes or a comment."),
        ("probe # a\\\nb", (1, 7), "A backslash does not join lines within single quotes or a comment."),
        ("probe $'a\\\nb'", (1, 7), "A backslash does not join lines within single quotes or a comment."),
        ("# a\\\nprobe", (1, 4), "A comment does not go on in the next line, although a backslash ends it."),
        ("probe a\\", (1, 8), "The backslash at the end of the task joins nothing."),
        ("probe a \\  \nb", (1, 9), "Blanks follow the backslash, so it does not join the next line."),
        ("probe 'a\nb'", (1, 7), "“'” is not closed on its line."),
        ("probe a\0b", (1, 8), "This is a control character (U+0000), which nobody can see."),
        ("probe \x1b", (1, 7), "This is a control character (U+001B), which nobody can see."),
    ],
)
def test_lines_that_are_not_what_they_seem_are_refused(
    text: str, place: tuple[int, int], message: str
) -> None:
    with pytest.raises(TemplateRefused) as refused:
        compile_task(text, VARIABLES)
    problem = refused.value.problems[0]
    assert ((problem.line, problem.column), str(problem.message)) == (place, message)


def test_a_long_or_deep_text_is_refused_and_not_a_crash() -> None:
    for text in ("x" * 70_000, "echo " + "$(" * 2000, "(" * 2000, "{ " * 2000, "echo " + "${x:-" * 2000,
                 "echo " + '"$(' * 500, "if " * 3000, "echo $((" + "(" * 5000, "! " * 20000, "a[" * 5000,
                 "x=( " * 3000, "[[ " + "( " * 5000, "`" * 999, "sh -c 'sh -c \"sh -c x\"' {V}; " + "a|" * 9000):  # fmt: skip
        with pytest.raises(TemplateRefused):
            compile_task(text, VARIABLES)
    compile_task("echo " + "{V} " * 3000, VARIABLES)


def test_two_names_may_not_meet_in_one_environment_variable() -> None:
    variables = [Variable("Host", one_argument_each=True), Variable("Host_0")]
    with pytest.raises(TemplateRefused) as refused:
        compile_task("probe {Host}", variables)
    assert "Host_0" in str(refused.value)
    compile_task("probe {Host}", [variables[0], Variable("Host_x")])


def test_a_count_that_is_missing_is_an_error() -> None:
    with pytest.raises(KeyError):
        compile_task("probe {Hosts}", VARIABLES).lines[0].render()


def test_placeholders_are_found_without_compiling() -> None:
    text = "python list.py -p {Project} '{Typo}' '{\"a\": 1}' {{x}} ${HOME}\nawk '{print}'\necho 'open {Project2} {x}"
    assert placeholders(text, ["Project", "Project2", "HOME2"]) == ({"Project", "Project2"}, {"Typo", "x"})
