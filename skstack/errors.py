"""What can go wrong, in the domain's words. `skstack.web.errors` turns each into a page, a fragment or JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skstack.messages import N_, Message


class SkstackError(Exception):
    """A refusal or failure that people are told about.

    `message` says what happened, to what, and what to do. `status` is the HTTP status it becomes, and
    `details` goes beside the message in a problem document.
    """

    status = 500

    def __init__(self, message: Message, **details: Any) -> None:
        super().__init__(str(message))
        self.message = message
        self.details = details


class Unreadable(SkstackError):
    """A request is not even in the form in which its content could be checked."""

    status = 400


class NotSignedIn(SkstackError):
    """Nobody is signed in, or the session or token no longer holds."""

    status = 401


class NotAllowed(SkstackError):
    """The person may know about the object but not do this to it."""

    status = 403


class NotFound(SkstackError):
    """The object does not exist, or the person may not know that it does."""

    status = 404

    def __init__(self, message: Message | None = None, **details: Any) -> None:
        super().__init__(message or N_("There is nothing here that you may see."), **details)


class Conflict(SkstackError):
    """The object is not in the state that the action needs, or somebody else was quicker."""

    status = 409


class Gone(SkstackError):
    """What is asked for was there, and is not kept any more."""

    status = 410


class Invalid(SkstackError):
    """Input is wrong. `errors` maps a field's name to what is wrong with it; "" is the form as a whole."""

    status = 422

    def __init__(
        self, errors: Mapping[str, Sequence[Message]], message: Message | None = None, **details: Any
    ) -> None:
        self.errors: dict[str, list[Message]] = {field: list(found) for field, found in errors.items()}
        super().__init__(message or self._first(), **details)

    def _first(self) -> Message:
        for found in self.errors.values():
            for message in found:
                return message
        return N_("Some values are not valid.")


class TooManyRequests(SkstackError):
    """An attempt limit is reached. `retry_after` seconds until another attempt makes sense."""

    status = 429

    def __init__(self, message: Message, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(SkstackError):
    """Something that skstack needs does not answer now; the same request may work later."""

    status = 503
