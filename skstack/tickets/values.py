"""Checking what somebody filled in, field by field, against the work order's variables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask import Flask, current_app

from skstack import substitution
from skstack.catalog import choices
from skstack.catalog.models import Source, Variable, Widget, WorkOrder
from skstack.catalog.services import CompiledTasks
from skstack.errors import Invalid
from skstack.messages import Message, N_

Value = str | list[str]

# A pattern is matched against this much at most: a badly made one takes time that grows with the text.
PATTERN_TEXT = 4096


def check(workorder: WorkOrder, compiled: CompiledTasks, given: Mapping[str, Any]) -> dict[str, Value]:
    """Return the checked values by variable, in the form's order. Variables left empty are "" or [].

    Runs the scripts whose choices were made from. Raises Invalid with every field that is wrong.
    """
    variables = workorder.variables
    errors: dict[str, list[Message]] = {
        name: [N_("The form has no field %(name)s.", name=name)]
        for name in given
        if name not in {variable.name for variable in variables}
    }
    values: dict[str, Value] = {}
    for variable in variables:
        try:
            values[variable.name] = _shaped(variable, given.get(variable.name))
        except Invalid as err:
            errors[variable.name] = err.errors[variable.name]
    for variable in variables:
        if variable.name in values and (found := _wrong(variable, values[variable.name], compiled)):
            errors.setdefault(variable.name, []).extend(found)
    if not errors:
        errors.update(_not_offered(workorder, values))
    if not errors and (message := substitution.check_total(_texts(variables, values))):
        errors[""] = [message]
    if errors:
        raise Invalid(errors)
    return values


def _shaped(variable: Variable, given: Any) -> Value:
    """Bring what was sent into the form that the variable has: one text, or a list of texts."""
    wrong = Invalid({variable.name: [N_("This must be text.")]})
    if variable.takes_several:
        if given is None or given == "":
            return []
        items = given if isinstance(given, list) else [given]
        if not all(isinstance(item, str) for item in items):
            raise wrong
        return list(dict.fromkeys(items))
    if given is None:
        return ""
    if isinstance(given, bool) or not isinstance(given, (str, int, float)):
        raise wrong
    return substitution.normalize(str(given))


def _wrong(variable: Variable, value: Value, compiled: CompiledTasks) -> list[Message]:
    items = value if isinstance(value, list) else [value]
    if not any(items):
        return [N_("This is needed.")] if variable.required else []
    multiline = variable.widget == Widget.TEXTAREA
    found = [message for item in items if (message := substitution.check_value(item, multiline=multiline))]
    if not found and variable.takes_several and not variable.one_argument_each:
        found = [
            N_("%(item)s contains %(delimiter)s, which separates the values.", item=item, delimiter=variable.delimiter)
            for item in items
            if variable.delimiter in item
        ]
    if not found and variable.source == Source.INPUT:
        found = _wrong_input(variable, items[0])
    if not found and not variable.allow_leading_dash and variable.name in compiled.whole_words:
        found = [
            N_("A value that begins with - would be read as an option of the command; this field does not allow it.")
            for item in items
            if item.startswith("-")
        ][:1]
    return found[:3]


def _wrong_input(variable: Variable, text: str) -> list[Message]:
    if variable.min_length is not None and len(text) < variable.min_length:
        return [N_("At least %(count)s characters are needed.", count=variable.min_length)]
    if variable.max_length is not None and len(text) > variable.max_length:
        return [N_("At most %(count)s characters are allowed.", count=variable.max_length)]
    if variable.pattern:
        if len(text) > PATTERN_TEXT:
            return [N_("At most %(count)s characters are allowed.", count=PATTERN_TEXT)]
        if not re.fullmatch(variable.pattern, text, re.DOTALL if variable.widget == Widget.TEXTAREA else 0):
            if variable.pattern_message:
                return [Message("%(message)s", {"message": variable.pattern_message})]
            return [N_("This does not have the form that is expected: %(pattern)s", pattern=variable.pattern)]
    if variable.strict and not substitution.is_strict(text):
        return [
            N_("Only letters, digits and _ . , : @ % + / = - are allowed here, with a letter or digit first and last.".replace("%", "%%"))
        ]
    return []


def _not_offered(workorder: WorkOrder, values: Mapping[str, Value]) -> dict[str, list[Message]]:
    chosen = [
        variable
        for variable in workorder.variables
        if Widget(variable.widget).is_choice and any(_items(values[variable.name]))
    ]
    scripted = [variable for variable in chosen if variable.source == Source.SCRIPT]
    offered = dict(zip((v.name for v in scripted), _offers(workorder, scripted, values), strict=True))
    errors: dict[str, list[Message]] = {}
    for variable in chosen:
        if variable.source == Source.LIST:
            choices_now = set(variable.choices)
        else:
            offer = offered[variable.name]
            if offer.error is not None:
                errors[variable.name] = [offer.error]
                continue
            choices_now = {choice.value for choice in offer.choices}
        missing = [item for item in _items(values[variable.name]) if item not in choices_now]
        if missing:
            errors[variable.name] = [
                N_("%(value)s is not, or no longer, among the choices. Choose again.", value=missing[0])
            ]
    return errors


def _offers(
    workorder: WorkOrder, variables: Sequence[Variable], values: Mapping[str, Value]
) -> list[choices.Offered]:
    """Ask all scripts at the same time: they are independent of each other once every value is known."""
    if len(variables) < 2:
        return [choices.offer(variable, workorder=workorder, values=values) for variable in variables]
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # the proxy's own way to its object

    def ask(prepared: choices.Prepared) -> choices.Offered:
        with app.app_context():
            return choices.run(prepared)

    prepared = [choices.prepare(variable, workorder=workorder, values=values) for variable in variables]
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(ask, prepared))


def _texts(variables: Sequence[Variable], values: Mapping[str, Value]) -> dict[str, str]:
    return {v.name: substitution.join_items(_items(values[v.name]), v.delimiter) for v in variables}


def _items(value: Value) -> list[str]:
    return value if isinstance(value, list) else [value]
