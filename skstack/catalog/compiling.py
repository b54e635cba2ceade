"""A work order's tasks and scripts, compiled: which variables they may name, and what is refused where."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from flask import current_app

from skstack import substitution
from skstack.catalog.models import SYSTEM_VARIABLES, Environment, Source, Variable, WorkOrder
from skstack.catalog.values import items_of
from skstack.errors import Invalid
from skstack.messages import N_, Message
from skstack.substitution import Problem, Task, TemplateRefused

TASKS = ("pre_task", "main_task", "post_task")


@dataclass(frozen=True, slots=True)
class CompiledTasks:
    """The three tasks of a work order, and the variables they were compiled with."""

    pre: Task
    main: Task
    post: Task
    variables: Mapping[str, substitution.Variable]

    @property
    def whole_words(self) -> frozenset[str]:
        """Return the variables whose value stands somewhere as the beginning of a word."""
        return self.pre.whole_words | self.main.whole_words | self.post.whole_words


class TasksRefused(Invalid):
    """Tasks that cannot be compiled. `problems` has every reason, by the field of the task."""

    def __init__(
        self, errors: Mapping[str, Sequence[Message]], problems: Mapping[str, Sequence[Problem]] | None = None
    ) -> None:
        super().__init__(errors)
        self.problems = {field: tuple(found) for field, found in (problems or {}).items()}


def compile_workorder(workorder: WorkOrder) -> CompiledTasks:
    """Compile the three tasks. Raises TasksRefused with the messages at the fields they belong to."""
    errors, problems, compiled = _compile(workorder)
    if errors:
        raise TasksRefused(errors, problems)
    return CompiledTasks(
        compiled["pre_task"], compiled["main_task"], compiled["post_task"], variables_of(workorder)
    )


def compile_script(variable: Variable, workorder: WorkOrder) -> Task:
    """Compile a variable's script as the work order would run it. Raises TemplateRefused."""
    return substitution.compile_task(variable.script, variables_of(workorder))


def problems_of(workorder: WorkOrder) -> dict[str, list[Message]]:
    """Return what is wrong with the tasks, the scripts and the names of a work order, by field."""
    errors, _, _ = _compile(workorder)
    for variable in workorder.variables:
        if variable.source == Source.SCRIPT:
            try:
                compile_script(variable, workorder)
            except TemplateRefused as err:
                errors.setdefault("variable_group", []).extend(
                    N_("The script of %(name)s: %(problem)s", name=variable.name, problem=told(problem))
                    for problem in err.problems
                )
    return errors


def told(problem: Problem) -> Message:
    """Return one refusal as a sentence: where, what, and what to write instead."""
    parts: dict[str, Any] = {"line": problem.line, "column": problem.column, "message": problem.message}
    if problem.instead is None:
        return N_("Line %(line)s, column %(column)s: %(message)s", **parts)
    return N_("Line %(line)s, column %(column)s: %(message)s %(instead)s", **parts, instead=problem.instead)


def variables_of(workorder: WorkOrder) -> dict[str, substitution.Variable]:
    """Return every variable that the work order's tasks may name. System beats built-in beats user."""
    found = {variable.name: described(variable) for variable in workorder.variables}
    fixed = {
        **builtin_texts(workorder),
        **system_texts(workorder, dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.UTC),
    }
    for name, text in fixed.items():
        # Its only value is known now: it can carry no more than that does.
        found[name] = substitution.Variable(
            name=name, strict=substitution.is_strict(text), allow_leading_dash=text.startswith("-")
        )
    return found


def described(variable: Variable) -> substitution.Variable:
    """Return what templates need to know of a user's variable. Strict is what its values cannot break."""
    return substitution.Variable(
        name=variable.name,
        strict=_is_strict(variable),
        secret=variable.secret,
        one_argument_each=variable.one_argument_each,
        allow_leading_dash=variable.allow_leading_dash,
    )


def _is_strict(variable: Variable) -> bool:
    if variable.source == Source.LIST:
        return substitution.choices_are_strict(
            variable.choices, variable.delimiter if variable.takes_several else None
        )
    return variable.source == Source.INPUT and variable.strict


def builtin_texts(workorder: WorkOrder) -> dict[str, str]:
    """Return the built-in variables as text: true and false in lower case, numbers as JSON writes them."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in (workorder.builtin_variables or {}).items()
    }


def system_texts(workorder: WorkOrder, now: dt.datetime, zone: Any) -> dict[str, str]:
    """Return the system variables for a submission at `now`, whose time is written in `zone`."""
    name = workorder.name or ""
    environment: Environment | None = workorder.environment  # None while it is being written.
    return {
        "sk__name": name,
        "sk__env": environment.name.lower() if environment else "",
        "sk__task_name_created": f"{name}.{now.astimezone(zone):%Y%m%d.%H%M%S}",
    }


def zone() -> Any:
    """Return the zone of the time in `sk__task_name_created`: the setting's, else the host's."""
    name = current_app.config["SKSTACK"].timezone
    return ZoneInfo(name) if name else None


def _compile(
    workorder: WorkOrder,
) -> tuple[dict[str, list[Message]], dict[str, tuple[Problem, ...]], dict[str, Task]]:
    errors = _collisions(workorder)
    problems: dict[str, tuple[Problem, ...]] = {}
    compiled: dict[str, Task] = {}
    variables = variables_of(workorder)
    for field in TASKS:
        try:
            compiled[field] = _compiled(getattr(workorder, field) or "", tuple(variables.values()))
        except TemplateRefused as err:
            problems[field] = err.problems
            errors.setdefault(field, []).extend(told(problem) for problem in err.problems)
    return errors, problems, compiled


@lru_cache(maxsize=512)
def _compiled(text: str, variables: tuple[substitution.Variable, ...]) -> Task:
    """Compile a text once: every submission asks for the same ones again, and a compiled task never changes."""
    return substitution.compile_task(text, variables)


def _collisions(workorder: WorkOrder) -> dict[str, list[Message]]:
    builtin = workorder.builtin_variables or {}
    errors: dict[str, list[Message]] = {}
    for variable in workorder.variables:
        if variable.name in builtin:
            message = N_(
                "%(name)s is also a variable of the variable group; call one of them something else.",
                name=variable.name,
            )
            errors.setdefault("builtin_variables", []).append(message)
    # An item travels as WO_NAME_0, WO_NAME_1, …: nobody else may be called that.
    everyone = [*SYSTEM_VARIABLES, *builtin, *(variable.name for variable in workorder.variables)]
    for variable in workorder.variables:
        if variable.one_argument_each:
            taken = [name for name in everyone if _is_item_of(name, variable.name)]
            errors.setdefault("variable_group", []).extend(
                N_(
                    "%(other)s stands for an item of %(name)s, which gives one argument each; call it something else.",
                    other=name,
                    name=variable.name,
                )
                for name in taken
            )
    return {field: found for field, found in errors.items() if found}


def _is_item_of(name: str, owner: str) -> bool:
    beginning, _, number = name.rpartition("_")
    return beginning == owner and number.isdigit()


@dataclass(frozen=True, slots=True)
class PreviewLine:
    """One command line with sample values; never run."""

    task: str
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Preview:
    """What a work order that is being written would run, and what is refused, by the field of the task."""

    lines: Mapping[str, Sequence[PreviewLine]]
    problems: Mapping[str, Sequence[Problem]]
    errors: Mapping[str, Sequence[Message]]
    samples: Mapping[str, str]


def preview(workorder: WorkOrder, *, now: dt.datetime) -> Preview:
    """Render the tasks with sample values: defaults, first choices, the name in brackets where there is neither."""
    errors, problems, compiled = _compile(workorder)
    samples = {variable.name: sample(variable) for variable in workorder.variables}
    values: dict[str, str | Sequence[str]] = dict(samples)
    values.update(
        (variable.name, items_of(variable, samples[variable.name]) or [samples[variable.name]])
        for variable in workorder.variables
        if variable.one_argument_each
    )
    fixed = {**builtin_texts(workorder), **system_texts(workorder, now, zone())}
    secret = [variable.name for variable in workorder.variables if variable.secret]
    lines = {
        field: [
            PreviewLine(field, line.number, substitution.display(line, {**values, **fixed}, masked=secret))
            for line in task.lines
        ]
        for field, task in compiled.items()
    }
    others = {field: found for field, found in errors.items() if field not in TASKS}
    return Preview(lines, problems, others, {**samples, **fixed})


def sample(variable: Variable) -> str:
    """Return a value to show in a preview."""
    if variable.secret:
        return "••••••"
    if variable.default:
        return variable.default
    chosen = variable.choices[: 2 if variable.takes_several else 1]
    return variable.delimiter.join(chosen) if chosen else f"‹{variable.name}›"


def script_names(variable: Variable) -> frozenset[str]:
    """Return every name that stands in the script as a placeholder, whether such a variable exists or not."""
    if variable.source != Source.SCRIPT:
        return frozenset()
    known, unknown = substitution.placeholders(variable.script or "", SYSTEM_VARIABLES)
    return known | unknown


def cycle(variables: Iterable[Variable]) -> list[str]:
    """Return the names of variables whose scripts wait for each other in a circle; empty if none do."""
    members = list(variables)
    known = {variable.name for variable in members}
    waits = {variable.name: sorted(script_names(variable) & known) for variable in members}
    done: set[str] = set()

    def follow(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in waits[name]:
            if found := follow(other, [*path, name]):
                return found
        done.add(name)
        return []

    for name in waits:
        if found := follow(name, []):
            return found
    return []
