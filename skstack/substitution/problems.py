"""What is wrong with a template, said so that an administrator can put it right."""

from __future__ import annotations

from dataclasses import dataclass

from skstack.messages import Message


@dataclass(frozen=True, slots=True, order=False)
class Problem:
    """One reason why a task's text is refused, and where.

    `line` and `column` count from 1, `column` and `length` in characters of the source text as the
    administrator wrote it. `instead` says the safe way, where there is one.
    """

    line: int
    column: int
    message: Message
    instead: Message | None
    length: int

    def __str__(self) -> str:
        said = f"line {self.line}, column {self.column}: {self.message}"
        return f"{said} {self.instead}" if self.instead else said


class TemplateRefused(Exception):
    """A task's text cannot be made into safe command lines; `problems` has every reason found."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems
