"""What people change about themselves, besides their password and their tokens."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from zoneinfo import available_timezones

from skstack.accounts.models import User
from skstack.audit.services import Action, record
from skstack.db import transaction
from skstack.errors import Invalid, NotFound
from skstack.messages import N_

LANGUAGES = ("en", "zh_CN")
LONGEST_DISPLAY_NAME = 128

# The lists whose columns can be chosen.
LISTS = ("tickets", "audit-events")
MOST_COLUMNS, LONGEST_COLUMN = 200, 100


def change(*, actor: User, display_name: str, language: str, timezone: str) -> None:
    """Change the actor's own profile; "" for language or time zone leaves it to browser or settings. Raises Invalid."""
    display_name = display_name.strip()
    if len(display_name) > LONGEST_DISPLAY_NAME or not display_name.isprintable():
        raise Invalid(
            {
                "display_name": [
                    N_(
                        "A name has at most %(count)s characters, all on one line.",
                        count=LONGEST_DISPLAY_NAME,
                    )
                ]
            }
        )
    if language and language not in LANGUAGES:
        raise Invalid({"language": [N_("There is no translation into this language.")]})
    if timezone and timezone not in timezones():
        raise Invalid({"timezone": [N_("There is no time zone of this name.")]})
    _set(actor, {"display_name": display_name, "language": language, "timezone": timezone})


def set_language(*, actor: User, language: str) -> None:
    """Choose the language of the actor's pages. Raises Invalid for one that we do not have."""
    if language not in LANGUAGES:
        raise Invalid({"language": [N_("There is no translation into this language.")]})
    _set(actor, {"language": language})


def choose_columns(*, actor: User, name: str, shown: Mapping[str, bool], at_first: Collection[str]) -> None:
    """Remember which columns of a list the actor wants to see, until they choose otherwise. Raises NotFound, Invalid.

    `at_first` are those that this list shows by itself, which depends on what it is narrowed to. So only what differs from
    what the actor saw is remembered.
    """
    if name not in LISTS:
        raise NotFound
    if len(shown) > MOST_COLUMNS or any(not 0 < len(key) <= LONGEST_COLUMN for key in shown):
        raise Invalid({"listed": [N_("There is no such column.")]})
    chosen = dict((actor.columns or {}).get(name, {}))
    for key, is_shown in shown.items():
        if is_shown != chosen.get(key, key in at_first):
            chosen.pop(key, None)
            chosen[key] = is_shown
    # Work orders come and go, and their variables with them: what was chosen last is kept.
    _set_columns(actor, name, dict(list(chosen.items())[-MOST_COLUMNS:]))


def forget_columns(*, actor: User, name: str) -> None:
    """Show the columns of a list as it shows them by itself. Raises NotFound."""
    if name not in LISTS:
        raise NotFound
    _set_columns(actor, name, {})


def _set_columns(actor: User, name: str, chosen: dict[str, bool]) -> None:
    others = {other: columns for other, columns in (actor.columns or {}).items() if other != name}
    with transaction():
        actor.columns = {**others, name: chosen} if chosen else others or None


@cache
def timezones() -> tuple[str, ...]:
    """Return the names of all time zones of places, and UTC."""
    return (
        "UTC",
        *sorted(
            name
            for name in available_timezones()
            if "/" in name and not name.startswith(("Etc/", "posix", "right"))
        ),
    )


def _set(actor: User, values: dict[str, str]) -> None:
    with transaction():
        before = {key: getattr(actor, key) for key in values}
        if before == values:
            return
        for key, value in values.items():
            setattr(actor, key, value)
        record(
            Action.CHANGED,
            actor=actor,
            object_type="user",
            object_id=actor.id,
            object_name=actor.username,
            before={key: old for key, old in before.items() if old != values[key]},
            after={key: new for key, new in values.items() if before[key] != new},
        )
