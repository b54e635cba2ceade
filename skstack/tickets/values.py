"""Checking what somebody filled in, field by field, against the work order's variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask import Flask, current_app

from skstack import substitution
from skstack.catalog import choices
from skstack.catalog import values as rules
from skstack.catalog.compiling import CompiledTasks
from skstack.catalog.models import Source, Variable, WorkOrder
from skstack.errors import Invalid
from skstack.extensions import db
from skstack.messages import N_, Message

Value = str | list[str]


def check(workorder: WorkOrder, compiled: CompiledTasks, given: Mapping[str, Any]) -> dict[str, Value]:
    """Return the checked values by variable, in the form's order. Variables left empty are "" or [].

    Runs the scripts whose choices were made from. Raises Invalid with every field that is wrong.
    """
    variables = workorder.variables
    known = {variable.name for variable in variables}
    errors: dict[str, list[Message]] = {
        name: [N_("The form has no field %(name)s.", name=name)] for name in given if name not in known
    }
    values: dict[str, Value] = {}
    for variable in variables:
        value = _shaped(variable, given.get(variable.name))
        if value is None:
            errors[variable.name] = [N_("This must be text.")]
            continue
        values[variable.name] = value
        if found := _wrong(variable, value, compiled):
            errors[variable.name] = found
    if not errors:
        errors.update(_not_offered(workorder, values))
    if not errors and (message := substitution.check_total(values)):
        errors[""] = [message]
    if errors:
        raise Invalid(errors)
    return values


def offers(workorder: WorkOrder, values: Mapping[str, Value]) -> dict[str, choices.Offered]:
    """Return what each field with choices offers now, by name, where `values` are filled in. Runs its scripts."""
    asked = [variable for variable in workorder.variables if variable.source != Source.INPUT]
    return dict(zip((variable.name for variable in asked), _offers(workorder, asked, values), strict=True))


def _shaped(variable: Variable, given: Any) -> Value | None:
    """Bring what was sent into the form that the variable has, one text or a list of texts; None if it has neither."""
    if variable.takes_several:
        if given is None or given == "":
            return []
        items = given if isinstance(given, list) else [given]
        return list(dict.fromkeys(items)) if all(isinstance(item, str) for item in items) else None
    if given is None:
        return ""
    if isinstance(given, bool) or not isinstance(given, (str, int, float)):
        return None
    return substitution.normalize(str(given))


def _wrong(variable: Variable, value: Value, compiled: CompiledTasks) -> list[Message]:
    if found := rules.problems(variable, value):
        return found[:3]
    dash = substitution.check_whole_word(
        variable.name, value, whole_words=compiled.whole_words, variable=compiled.variables[variable.name]
    )
    return [dash] if dash else []


def _not_offered(workorder: WorkOrder, values: Mapping[str, Value]) -> dict[str, list[Message]]:
    """Ask the scripts again what may be chosen: only what they offer now can be submitted."""
    chosen = [v for v in workorder.variables if v.source == Source.SCRIPT and any(_items(values[v.name]))]
    errors: dict[str, list[Message]] = {}
    for variable, offered in zip(chosen, _offers(workorder, chosen, values), strict=True):
        if offered.error is not None:
            errors[variable.name] = [offered.error]
            continue
        allowed = {choice.value for choice in offered.choices}
        missing = [item for item in _items(values[variable.name]) if item not in allowed]
        if missing:
            errors[variable.name] = [
                N_("“%(value)s” is not, or no longer, one of the choices. Choose again.", value=missing[0])
            ]
    return errors


def _offers(
    workorder: WorkOrder, variables: Sequence[Variable], values: Mapping[str, Value]
) -> list[choices.Offered]:
    """Run all scripts at the same time: they do not wait for each other once every value is known."""
    if not variables:
        return []
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # the proxy's own way to its object
    prepared = [choices.prepare(variable, workorder=workorder, values=values) for variable in variables]
    db.session.commit()  # No connection is held while they run.

    def ask(one: choices.Prepared) -> choices.Offered:
        with app.app_context():
            return choices.run(one)

    with ThreadPoolExecutor(max_workers=min(len(prepared), 8)) as pool:
        return list(pool.map(ask, prepared))


def _items(value: Value) -> list[str]:
    return value if isinstance(value, list) else [value]
