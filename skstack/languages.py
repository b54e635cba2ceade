"""Messages in a reader's language, for pages and for what is sent to people outside."""

from __future__ import annotations

import datetime as dt

from flask_babel import format_datetime, gettext

from skstack.messages import Message

LANGUAGES = {"en": "English", "zh_CN": "简体中文"}


def translate(message: Message | str | None) -> str:
    """Return a message in the reader's language. Plain text passes unchanged."""
    if message is None:
        return ""
    if isinstance(message, str):
        return message
    values = {
        k: translate(v) if isinstance(v, Message) else when(v) if isinstance(v, dt.datetime) else v
        for k, v in message.values.items()
    }
    text: str = gettext(message.text)
    return text % values if values else text


def when(moment: dt.datetime | None) -> str:
    """Write a time exactly, in the reader's zone: 2026-11-23 23:10:06."""
    return "" if moment is None else str(format_datetime(moment, "yyyy-MM-dd HH:mm:ss"))
