"""The choices of a variable at this moment: the administrator's list, or what its script prints."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flask import current_app

from skstack import substitution
from skstack.catalog import compiling, targets
from skstack.catalog.models import SYSTEM_VARIABLES, Source, Variable, WorkOrder
from skstack.catalog.script_output import Choice, Unusable, parse
from skstack.catalog.values import problems
from skstack.db import utcnow
from skstack.extensions import db
from skstack.hosting import runner_host
from skstack.messages import N_, Message
from skstack.runner.client import RunnerUnavailable
from skstack.runner.protocol import Captured, CaptureRequest, Outcome
from skstack.substitution import TemplateRefused

Value = str | Sequence[str]


@dataclass(frozen=True, slots=True)
class Offered:
    """What a user may choose from, or why there is nothing. `waiting_for` names what must be filled in first."""

    choices: Sequence[Choice] = ()
    error: Message | None = None
    waiting_for: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A script that is ready to be run, in any thread; or what is known without running one."""

    request: CaptureRequest | None
    known: Offered | None = None


def offer(variable: Variable, *, workorder: WorkOrder, values: Mapping[str, Value]) -> Offered:
    """Return the choices of `variable` on the form of `workorder`, where `values` were filled in so far.

    Runs the script of a script variable on the work order's config center, for as long as `script_timeout`. Not
    to be called inside `transaction()`.
    """
    prepared = prepare(variable, workorder=workorder, values=values)
    if prepared.request is not None:
        # Nothing is read while the script runs: a connection held meanwhile would keep others from the database.
        db.session.commit()
    return run(prepared)


def prepare(variable: Variable, *, workorder: WorkOrder, values: Mapping[str, Value]) -> Prepared:
    """Read everything that `run` needs from the database, and check it."""
    if variable.source != Source.SCRIPT:
        return Prepared(None, Offered([Choice(choice, choice) for choice in variable.choices or []]))
    try:
        task = compiling.compile_script(variable, workorder)
    except TemplateRefused as err:
        told = compiling.told(err.problems[0])
        return Prepared(
            None, Offered(error=N_("The script of this field cannot be run. %(problem)s", problem=told))
        )
    by_name = {other.name: other for other in workorder.variables}
    asked = [by_name[name] for name in sorted(task.names) if name in by_name]
    waiting = [other for other in asked if other.required and not _items(values.get(other.name))]
    if waiting:
        message = N_("Fill in %(label)s first.", label=waiting[0].title)
        return Prepared(None, Offered(error=message, waiting_for=tuple(other.name for other in waiting)))
    for other in asked:
        if wrong := _wrong(other, values.get(other.name), task.whole_words):
            message = N_("%(label)s: %(message)s", label=other.title, message=wrong)
            return Prepared(None, Offered(error=message))
    return Prepared(_request(workorder, task, asked, values))


def run(prepared: Prepared) -> Offered:
    """Run a prepared script and read what it prints. Touches no database."""
    if prepared.request is None:
        assert prepared.known is not None
        return prepared.known
    try:
        captured = runner_host().capture(prepared.request)
    except RunnerUnavailable as err:
        current_app.logger.error("a variable's script was not run: %s", err)
        return Offered(error=N_("The script could not be started. Tell an administrator."))
    if message := failure(captured):
        return Offered(error=message)
    try:
        return Offered(parse(captured.stdout, limit=current_app.config["SKSTACK"].script_choices_limit))
    except Unusable as err:
        return Offered(error=err.message)


def depends_on(variable: Variable, *, workorder: WorkOrder | None = None) -> list[str]:
    """Return the names of the variables that the script refers to; with a work order, only those on its form."""
    names = compiling.script_names(variable) - set(SYSTEM_VARIABLES)
    if workorder is not None:
        names &= {other.name for other in workorder.variables}
    return sorted(names)


def failure(captured: Captured) -> Message | None:
    """Return why a captured script gives nothing to read, or None if it does."""
    limit = current_app.config["SKSTACK"].script_timeout
    too_much = N_("The script prints more than is read (script_output_limit). Make it print less.")
    if captured.outcome == Outcome.TIMED_OUT:
        if captured.truncated:  # More time would not help one that never stops printing.
            return too_much
        return N_("The script took longer than %(seconds)s s and was stopped.", seconds=f"{limit:g}")
    if captured.outcome != Outcome.FINISHED:
        reason = captured.reason or N_("The script could not be run.")
        return N_("The script was not run to its end: %(reason)s", reason=reason)
    if captured.exit_code != 0:
        said = last_lines(captured.stderr) or last_lines(captured.stdout)
        if said:
            return N_(
                "The script failed with exit code %(code)s: %(said)s", code=captured.exit_code, said=said
            )
        return N_("The script failed with exit code %(code)s and said nothing.", code=captured.exit_code)
    return too_much if captured.truncated else None


def last_lines(output: bytes, *, lines: int = 3, characters: int = 500) -> str:
    """Return the end of what a command printed, without control characters, on one line."""
    text = output[-8 * characters :].decode(errors="replace")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    kept = [line for raw in text.splitlines() if (line := "".join(filter(str.isprintable, raw)).strip())]
    said = " · ".join(kept[-lines:])
    return said if len(said) <= characters else "…" + said[-characters:]


def _items(value: Value | None) -> list[str]:
    if value is None:
        return []
    return [item for item in ([value] if isinstance(value, str) else value) if item]


def _wrong(variable: Variable, value: Value | None, whole_words: frozenset[str]) -> Message | None:
    items = _items(value)
    if not items:
        return None
    if found := problems(variable, items):
        return found[0]
    described = compiling.described(variable)
    return substitution.check_whole_word(variable.name, items, whole_words=whole_words, variable=described)


def _request(
    workorder: WorkOrder, task: substitution.Task, asked: Sequence[Variable], values: Mapping[str, Value]
) -> CaptureRequest:
    fixed = {
        **compiling.builtin_texts(workorder),
        **compiling.system_texts(workorder, utcnow(), compiling.zone()),
    }
    given: dict[str, Value] = {name: text for name, text in fixed.items() if name in task.names}
    delimiters: dict[str, str] = {}
    counts: dict[str, int] = {}
    for other in asked:
        items = _items(values.get(other.name))
        delimiters[other.name] = other.delimiter
        if other.one_argument_each:
            given[other.name], counts[other.name] = items, len(items)
        else:
            given[other.name] = other.delimiter.join(items)
    return targets.capture_request(
        targets.target_of(workorder.config_center),
        [(line.source, line.render(counts)) for line in task.lines],
        environment=substitution.environment(given, delimiters),
    )


__all__ = ["Choice", "Offered", "Prepared", "depends_on", "failure", "last_lines", "offer", "prepare", "run"]
