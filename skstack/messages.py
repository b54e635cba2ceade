"""Text for people that is made where no request is known, and translated where it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Message:
    """An English sentence with named parts, translated only when it reaches a page.

    `text` is the format string as it stands in the message catalogue, `values` its `%(name)s` parts.
    A part may itself be a `Message`. `str()` gives the English sentence.
    """

    __slots__ = ("text", "values")

    def __init__(self, text: str, values: Mapping[str, Any] | None = None) -> None:
        self.text = text
        self.values = dict(values or {})

    def __str__(self) -> str:
        return self.text % self.values if self.values else self.text

    def __repr__(self) -> str:
        return f"Message({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and (self.text, self.values) == (other.text, other.values)

    def __hash__(self) -> int:
        return hash(str(self))

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads back: for messages that are stored, or cross a process."""
        values = {k: v.to_json() if isinstance(v, Message) else v for k, v in self.values.items()}
        return {"text": self.text, "values": values}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Message:
        """Rebuild a message from `to_json`; a part that is itself a stored message is rebuilt too."""
        values = {
            k: cls.from_json(v) if isinstance(v, dict) and "text" in v else v
            for k, v in stored.get("values", {}).items()
        }
        return cls(stored["text"], values)


def N_(text: str, **values: Any) -> Message:  # noqa: N802 - the name gettext tools know for "mark, do not translate yet"
    """Mark an English sentence for translation and keep its parts beside it."""
    return Message(text, values)
