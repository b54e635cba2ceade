"""What the log pane shows: steps with their state, and their lines in pieces with gaps between them.

Steps count from 1 in each run. Where a pane holds two runs, what belongs to the pre task has `pre-` before its
anchors: `#pre-step-1-L3`, and `#step-2-L120` for the main run.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from markupsafe import Markup

from skstack.db import utcnow
from skstack.runs.models import PRE, TASKS, Run
from skstack.runs.output import Lines, Output, StepOutput
from skstack.runs.queries import usual_duration
from skstack.runs.sgr import Style
from skstack.runs.terminal import Rendered, render
from skstack.states import RunState
from skstack.tickets.models import Ticket
from skstack.tickets.plan import Plan

FIRST_LINES = 1000
LATER_LINES = 500
SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its number, its HTML, and how many bytes of it are not shown."""

    number: int
    html: Markup
    omitted: int = 0


@dataclass(frozen=True, slots=True)
class Gap:
    """Lines of a step that are not in the page."""

    first: int
    last: int

    @property
    def count(self) -> int:
        return self.last - self.first + 1


@dataclass(slots=True)
class Part:
    """Lines of a step; `open_line` is the last one while more may be added to it."""

    lines: list[Line]
    open_line: Line | None
    style: Style


@dataclass(slots=True, kw_only=True)
class StepView:
    """One step of a run, as its group in the pane shows it. `body` holds gaps and parts in order."""

    anchor: str
    number: int
    task: str = ""
    command: str = ""
    state: RunState | str = RunState.RUNNING
    exit_code: int | None = None
    started_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None
    duration: float | None = None
    live: bool = False
    cut_at: int | None = None  # Bytes of the run's output that are kept, in the step that reached the limit.
    body: list[Gap | Part] = field(default_factory=list)

    @property
    def elapsed(self) -> float | None:
        """Return the seconds it took, or has taken so far."""
        if self.duration is not None or self.started_at is None or not self.live:
            return self.duration
        return max(0.0, (utcnow() - self.started_at).total_seconds())

    @property
    def is_shown(self) -> bool:
        return any(isinstance(part, Part) for part in self.body)


@dataclass(slots=True, kw_only=True)
class Cursor:
    """What a pane has: bytes rendered as finished lines, bytes seen, events seen, steps, and the colours."""

    offset: int = 0
    size: int = 0
    events: int = 0
    step: int = 0
    style: str = ""


@dataclass(slots=True, kw_only=True)
class RunView:
    """One run in a pane."""

    run: Run
    prefix: str
    steps: list[StepView]
    cursor: Cursor
    is_over: bool

    @property
    def state(self) -> RunState:
        """The run's state. A worker may have taken it after it was read, and its first step then tells of that."""
        return RunState.RUNNING if self._has_begun_since else self.run.run_state

    @property
    def elapsed(self) -> float | None:
        """Return the seconds the run took, or has taken so far."""
        started_at = self.steps[0].started_at if self._has_begun_since else self.run.started_at
        if self.run.duration is not None or started_at is None:
            return self.run.duration
        return max(0.0, ((self.run.finished_at or utcnow()) - started_at).total_seconds())

    @property
    def _has_begun_since(self) -> bool:
        return self.run.run_state is RunState.QUEUED and self.cursor.step > 0

    @property
    def usual(self) -> float | None:
        return usual_duration(self.run)


def view_of(run: Run, output: Output, *, prefix: str = "", room: int = FIRST_LINES) -> RunView:
    """Show a run with its last `room` lines; the others are gaps."""
    view = _without_lines(run, output, prefix)
    parts = {part.step: part for part in output.tail(room)}
    for step in output.steps:
        shown = _view_at(view, step.position)
        if shown is None:
            continue
        shown.body = body_of(output, step, parts.get(step.position))
        _note_style(view, shown.body)
    if parts:
        view.cursor.offset = parts[max(parts)].cursor
    return view


def view_around(run: Run, output: Output, number: int, line: int, *, prefix: str = "") -> RunView:
    """Show a run with the lines around one line of one step."""
    view = _without_lines(run, output, prefix)
    for step in output.steps:
        shown = _view_at(view, step.position)
        if shown is not None:
            part = (
                lines_around(output, step, 1, output.line_count(step), line)
                if shown.number == number
                else None
            )
            shown.body = body_of(output, step, part)
    view.cursor.offset = output.size
    return view


def changed_since(
    run: Run, output: Output, cursor: Cursor, *, prefix: str = ""
) -> tuple[RunView, list[Gap | Part]]:
    """Show what a pane has not got yet: the steps begun since, and what belongs behind the last step it knows."""
    view = _without_lines(run, output, prefix)
    added = _add_lines(view, output, cursor)
    return view, added


def more_lines(
    run: Run, output: Output, cursor: Cursor, *, prefix: str = ""
) -> tuple[RunView, list[Gap | Part]]:
    """Show only the lines behind the last step that a pane knows; the view then has no other step. No statement."""
    view = RunView(run=run, prefix=prefix, steps=[], cursor=_cursor_at(output), is_over=False)
    added = _add_lines(view, output, cursor)
    if cursor.step:
        view.steps = [StepView(anchor=f"{prefix}step-{cursor.step}", number=cursor.step, live=True)]
    return view, added


def _add_lines(view: RunView, output: Output, cursor: Cursor) -> list[Gap | Part]:
    """Put lines behind the cursor into the steps begun since; return those of the step that the pane knows."""
    parts = {part.step: part for part in output.tail(FIRST_LINES, start=cursor.offset)}
    added: list[Gap | Part] = []
    view.cursor.style = cursor.style
    view.cursor.offset = max(parts[max(parts)].cursor, cursor.offset) if parts else cursor.offset
    for step in output.steps:
        part = parts.get(step.position)
        if step.position == cursor.step and step.end > cursor.offset:
            expected = output.number_at(step, cursor.offset)
            goes_on = part is not None and part.first == expected
            style = Style.from_token(cursor.style) if goes_on else None
            added = body_of(output, step, part, first=expected, style=style)
            _note_style(view, added)
        elif step.position > cursor.step and (shown := _view_at(view, step.position)) is not None:
            shown.body = body_of(output, step, part)
            _note_style(view, shown.body)
    return added


def body_of(
    output: Output, step: StepOutput, part: Lines | None, *, first: int = 1, style: Style | None = None
) -> list[Gap | Part]:
    """Return a step's lines from `first` on: those of `part`, and gaps for the others."""
    total = output.line_count(step)
    if part is None:
        return [Gap(first, total)] if total >= first else []
    body: list[Gap | Part] = [Gap(first, part.first - 1)] if part.first > first else []
    body.append(rendered(output, step, part, style))
    if part.last < total:
        body.append(Gap(part.last + 1, total))
    return body


def lines_around(output: Output, step: StepOutput, first: int, last: int, at: int) -> Lines | None:
    """Return lines of the gap `first` to `last`: its beginning, its end, or what is around `at` in it."""
    last = min(last, output.line_count(step))
    at = min(max(at, first), max(last, first))
    start = max(first, min(at - LATER_LINES // 2, last - LATER_LINES + 1))
    if at == last:
        return output.lines(step, start, last, from_end=True)
    part = output.lines(step, start, min(last, start + LATER_LINES - 1))
    if part is not None and part.last < at:
        return output.lines(step, at, min(last, at + LATER_LINES - 1))
    return part


def rendered(output: Output, step: StepOutput, part: Lines, style: Style | None = None) -> Part:
    """Render lines, with the colours that hold where they begin."""
    if style is None:
        style = output.style_at(step, part.start)
    result = render(part.raw, style, complete=part.complete and not part.omitted)
    # A command that ended its last line leaves no further one behind it.
    lines = lines_of(result, first=part.first)[: part.count]
    if part.omitted and lines:
        lines[-1] = Line(lines[-1].number, lines[-1].html, lines[-1].omitted + part.omitted)
    if part.complete:
        return Part(lines, None, output.style_at(step, part.end) if part.omitted else result.style)
    open_line = lines.pop()
    start = part.start + (part.raw.rfind(b"\n") + 1 if not part.omitted else 0)
    kept = render(part.raw[: start - part.start], style).style if start > part.start else style
    return Part(lines, open_line, kept)


def lines_of(result: Rendered, *, first: int = 1) -> list[Line]:
    """Return rendered lines as they are shown, numbered from `first` on."""
    return [
        Line(number, Markup(html), result.omitted.get(number - first, 0))  # noqa: S704 - render() escapes
        for number, html in enumerate(result.lines, first)
    ]


def _without_lines(run: Run, output: Output, prefix: str) -> RunView:
    plan = Plan.from_json(run.ticket.plan)
    begun = {step.position: step for step in output.steps}
    steps = []
    for position, planned in enumerate(plan.steps_of(*TASKS[run.task]), start=1):
        step = begun.get(position)
        live = (
            step is not None and step is output.steps[-1] and not run.run_state.is_final and not output.final
        )
        steps.append(
            StepView(
                anchor=f"{prefix}step-{position}",
                number=position,
                task=planned.task,
                command=planned.shown,
                state=_state_of(step, run.run_state),
                exit_code=step.exit_code if step else None,
                started_at=_time(step.started_at) if step else None,
                finished_at=_time(step.finished_at) if step else None,
                duration=step.duration if step else None,
                live=live,
                cut_at=_cut_at(output, step),
            )
        )
    return RunView(
        run=run, prefix=prefix, steps=steps, cursor=_cursor_at(output), is_over=run.run_state.is_final
    )


def _cursor_at(output: Output) -> Cursor:
    last = output.steps[-1].position if output.steps else 0
    return Cursor(size=output.size, events=output.events_size, step=last)


def _note_style(view: RunView, body: list[Gap | Part]) -> None:
    """Go on with the colours of the last part, or plainly in a step that has printed nothing."""
    view.cursor.style = next((part.style.token() for part in reversed(body) if isinstance(part, Part)), "")


def _view_at(view: RunView, position: int) -> StepView | None:
    return view.steps[position - 1] if 0 < position <= len(view.steps) else None


def _state_of(step: StepOutput | None, run: RunState) -> RunState | str:
    if step is None:
        return SKIPPED if run.is_final else RunState.QUEUED
    if step.finished_at is None:
        return RunState.RUNNING if run is RunState.QUEUED else run
    if step.exit_code is None:
        return run if run.is_final else RunState.UNKNOWN
    return RunState.SUCCEEDED if step.exit_code == 0 else RunState.FAILED


def _cut_at(output: Output, step: StepOutput | None) -> int | None:
    if step is None or output.capped_at is None or not step.start < output.capped_at <= step.end:
        return None
    return output.capped_at


def _time(written: str | None) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(written) if written else None
    except ValueError:
        return None


def runs_of(ticket: Ticket) -> list[Run]:
    """Return a ticket's runs in the order in which they go."""
    return sorted(ticket.runs, key=lambda run: run.task != PRE)


__all__ = [
    "Cursor",
    "Gap",
    "Line",
    "Part",
    "RunView",
    "StepView",
    "changed_since",
    "lines_of",
    "runs_of",
    "view_of",
]
