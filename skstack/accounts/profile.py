"""What people change about themselves, besides their password and their tokens."""

from __future__ import annotations

from functools import cache
from zoneinfo import available_timezones

from skstack.accounts.models import User
from skstack.audit.services import Action, record
from skstack.db import transaction
from skstack.errors import Invalid
from skstack.messages import N_

LANGUAGES = ("en", "zh_CN")
LONGEST_DISPLAY_NAME = 128


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
