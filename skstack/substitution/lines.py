"""Cut a task's text into logical lines, and know where each character came from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from skstack.messages import N_
from skstack.substitution.problems import Problem

_BACKSLASHES = re.compile(r"(\\+)\Z")
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(slots=True)
class LogicalLine:
    """A line with its continuations joined. `joins` are the offsets at which a backslash was taken out."""

    text: str
    places: list[tuple[int, int]]  # line and column, from 1, of each character of `text`, and of its end
    joins: list[int] = field(default_factory=list)

    def place(self, offset: int) -> tuple[int, int]:
        """Return the line and column, from 1, of an offset into the text."""
        return self.places[min(offset, len(self.places) - 1)]


def logical_lines(text: str, problems: list[Problem]) -> list[LogicalLine]:
    r"""Return the lines that are commands: those neither blank nor starting with `#`.

    The text's ends of line must be `\n`. What is wrong with the lines themselves is added to `problems`.
    """
    lines: list[LogicalLine] = []
    current: LogicalLine | None = None
    physical = text.split("\n")
    for number, source in enumerate(physical, 1):
        _check_characters(number, source, problems)
        if current is None and source.lstrip(" \t").startswith("#"):
            if _continued(source):
                problems.append(_comment_goes_on(number, len(source)))
            continue
        body = source
        if current is None:
            body = source.lstrip(" \t")
            current = LogicalLine("", [])
        skipped = len(source) - len(body)
        goes_on = _continued(source)
        body = body[:-1] if goes_on else body
        current.text += body
        current.places += [(number, skipped + column) for column in range(1, len(body) + 1)]
        if goes_on and number < len(physical):
            current.joins.append(len(current.text))
            continue
        if goes_on:
            problems.append(
                Problem(
                    number,
                    len(source),
                    N_("The backslash at the end of the task joins nothing."),
                    N_("Remove it."),
                    1,
                )
            )
        elif _continued(source.rstrip(" \t")):
            problems.append(
                Problem(
                    number,
                    len(source.rstrip(" \t")),
                    N_("Blanks follow the backslash, so it does not join the next line."),
                    N_("Remove the blanks after it."),
                    1,
                )
            )
        _finish(current, number, len(source))
        if current.text:
            lines.append(current)
        current = None
    return lines


def _finish(line: LogicalLine, number: int, length: int) -> None:
    line.text = line.text.rstrip(" \t")
    line.places = [*line.places[: len(line.text)], (number, length + 1)]
    line.joins = [min(join, len(line.text)) for join in line.joins]


def _continued(source: str) -> bool:
    found = _BACKSLASHES.search(source)
    return found is not None and len(found.group()) % 2 == 1


def _check_characters(number: int, source: str, problems: list[Problem]) -> None:
    problems += [
        Problem(
            number,
            found.start() + 1,
            N_(
                "This is a control character (%(code)s), which nobody can see.",
                code=f"U+{ord(found.group()):04X}",
            ),
            N_("Remove it."),
            1,
        )
        for found in _UNSEEN.finditer(source)
    ]


def _comment_goes_on(number: int, column: int) -> Problem:
    return Problem(
        number,
        column,
        N_("A comment does not go on in the next line, although a backslash ends it."),
        N_("Remove the backslash."),
        1,
    )
