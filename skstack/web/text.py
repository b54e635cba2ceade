"""Language, time zone and how things are written on pages."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from babel.dates import get_timezone
from flask import current_app, has_request_context, request
from flask_babel import format_timedelta, gettext
from flask_login import current_user

from skstack.db import utcnow
from skstack.languages import LANGUAGES, translate, when


def select_locale() -> str:
    """Choose the language: the profile's, then the browser's, then the setting's."""
    if has_request_context():
        if current_user and current_user.is_authenticated and current_user.language in LANGUAGES:
            return str(current_user.language)
        for code, _quality in request.accept_languages:
            primary = code.replace("_", "-").split("-")[0].lower()
            if primary == "zh":
                return "zh_CN"
            if primary == "en":
                return "en"
    return current_app.config["SKSTACK"].language or "en"


def select_timezone() -> Any:
    """Choose the zone times are shown in: the profile's, then the setting's, then the host's."""
    name = ""
    if has_request_context() and current_user and current_user.is_authenticated:
        name = current_user.timezone
    name = name or current_app.config["SKSTACK"].timezone
    if name:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            current_app.logger.warning("time zone %r does not exist on this host", name)
    return get_timezone()


def ago(moment: dt.datetime | None) -> str:
    """Write a time relative to now: "3 minutes ago", "in 2 hours"."""
    if moment is None:
        return ""
    relative: str = format_timedelta(moment - utcnow(), granularity="second", add_direction=True)
    return relative


def duration(seconds: float | None) -> str:
    """Write a duration shortly: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 04 min`."""
    if seconds is None:
        return ""
    if seconds < 10:
        return str(gettext("%(n)s s", n=f"{seconds:.1f}"))
    whole = round(seconds)
    if whole < 60:
        return str(gettext("%(n)s s", n=whole))
    if whole < 3600:
        return str(gettext("%(minutes)s min %(seconds)s s", minutes=whole // 60, seconds=f"{whole % 60:02d}"))
    return str(
        gettext("%(hours)s h %(minutes)s min", hours=whole // 3600, minutes=f"{whole % 3600 // 60:02d}")
    )


def size(count: int | None) -> str:
    """Write a number of bytes: `512 B`, `1.2 MiB`."""
    if count is None:
        return ""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError("unreachable")


__all__ = ["LANGUAGES", "ago", "duration", "select_locale", "select_timezone", "size", "translate", "when"]
