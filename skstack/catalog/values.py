"""What a value of a variable must be like. One place for defaults, for dependent scripts and for submission."""

from __future__ import annotations

from collections.abc import Sequence

from skstack import substitution
from skstack.catalog import patterns
from skstack.catalog.models import Source, Variable, Widget
from skstack.messages import N_, Message


def items_of(variable: Variable, text: str) -> list[str]:
    """Split the stored text of a variable, such as its default, into its items."""
    if not variable.takes_several:
        return [text] if text else []
    return [item for item in text.split(variable.delimiter or ",") if item]


def problems(variable: Variable, value: str | Sequence[str]) -> list[Message]:
    """Return what is wrong with a value, or with several; nothing for one that is good.

    Everything but whether a script offered it. Several-line text must be normalized first.
    """
    items = [value] if isinstance(value, str) else list(value)
    items = [item for item in items if item]
    if not items:
        return [N_("This is required.")] if variable.required else []
    if len(items) > 1 and not variable.takes_several:
        return [N_("Only one value can be given.")]
    found = [problem for item in items if (problem := _problem(variable, item))]
    if not found and variable.takes_several:
        joined = substitution.join_items(items, variable.delimiter)
        if isinstance(joined, Message) and not variable.one_argument_each:
            found.append(joined)
    return found


def _problem(variable: Variable, item: str) -> Message | None:
    problem = substitution.check_value(item, multiline=variable.widget == Widget.TEXTAREA)
    if problem is not None:
        return problem
    if variable.source == Source.LIST:
        return None if item in variable.choices else N_("“%(value)s” is not one of the choices.", value=item)
    if variable.source == Source.INPUT:
        return _typed(variable, item)
    return None


def _typed(variable: Variable, text: str) -> Message | None:
    if variable.min_length is not None and len(text) < variable.min_length:
        return N_("Give at least %(least)s characters.", least=variable.min_length)
    if variable.max_length is not None and len(text) > variable.max_length:
        return N_(
            "Give at most %(most)s characters; these are %(count)s.",
            most=variable.max_length,
            count=len(text),
        )
    if variable.strict and not substitution.is_strict(text):
        return N_(
            "Only letters, digits and %(others)s are taken, beginning and ending with a letter or digit.",
            others="_ . , : @ % + / = -",
        )
    if variable.pattern:
        return _unlike_pattern(variable, text)
    return None


def _unlike_pattern(variable: Variable, text: str) -> Message | None:
    try:
        if patterns.matches(variable.pattern, text, several_lines=variable.widget == Widget.TEXTAREA):
            return None
    except patterns.TooSlow:
        return N_(
            "This could not be checked in time. Shorten it, or ask an administrator to simplify the pattern."
        )
    if variable.pattern_message:
        return N_("%(message)s", message=variable.pattern_message)
    return N_("This must match the pattern %(pattern)s", pattern=variable.pattern)
