"""Text for people that is made where no request is known, and translated where it is shown."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any


class Message:
    """An English sentence with named parts, translated only when it reaches a page.

    `text` is the format string as it stands in the message catalogue, `values` its `%(name)s` parts.
    A part may itself be a `Message`, or an aware time, which a page shows in the reader's zone. `str()` gives the
    English sentence.
    """

    __slots__ = ("text", "values")

    def __init__(self, text: str, values: Mapping[str, Any] | None = None) -> None:
        self.text = text
        self.values = dict(values or {})

    def __str__(self) -> str:
        values = {k: _in_utc(v) if isinstance(v, dt.datetime) else v for k, v in self.values.items()}
        return self.text % values if values else self.text

    def __repr__(self) -> str:
        return f"Message({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and (self.text, self.values) == (other.text, other.values)

    def __hash__(self) -> int:
        return hash(str(self))

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads back: for messages that are stored, or cross a process."""
        values = {
            k: v.to_json()
            if isinstance(v, Message)
            else {"moment": v.isoformat()}
            if isinstance(v, dt.datetime)
            else v
            for k, v in self.values.items()
        }
        return {"text": self.text, "values": values}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Message:
        """Rebuild a message from `to_json`; a part that is itself a stored message is rebuilt too."""
        values = {k: cls._part(v) for k, v in stored.get("values", {}).items()}
        return cls(stored["text"], values)

    @classmethod
    def _part(cls, stored: Any) -> Any:
        if isinstance(stored, dict) and "text" in stored:
            return cls.from_json(stored)
        if isinstance(stored, dict) and "moment" in stored:
            return dt.datetime.fromisoformat(stored["moment"])
        return stored


def N_(text: str, **values: Any) -> Message:  # noqa: N802 - the name gettext tools know for "mark, do not translate yet"
    """Mark an English sentence for translation and keep its parts beside it."""
    return Message(text, values)


def _in_utc(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
