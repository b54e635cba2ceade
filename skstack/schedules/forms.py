"""The form of a schedule: when, and the fields of the work order as its own submit form has them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from babel.dates import format_datetime
from flask import request
from flask_babel import get_locale

from skstack.accounts.profile import timezones
from skstack.catalog.models import WorkOrder
from skstack.db import utcnow
from skstack.messages import Message
from skstack.schedules import cron
from skstack.schedules.models import Schedule
from skstack.schedules.recurring import EXPRESSION, NAME, TIMEZONE
from skstack.tickets.forms import SubmitForm
from skstack.web.text import select_timezone


@dataclass(slots=True)
class ScheduleForm:
    """What somebody fills in: as first shown, or as sent. `fields` are those of the work order, with the note."""

    fields: SubmitForm
    name: str = ""
    expression: str = ""
    timezone: str = ""
    version: int = 1

    @classmethod
    def first(cls, workorder: WorkOrder) -> ScheduleForm:
        """Begin a new schedule, in the reader's zone."""
        return cls(SubmitForm.first(workorder, None), timezone=_readers_zone())

    @classmethod
    def of(cls, schedule: Schedule) -> ScheduleForm:
        """Begin with what a schedule has. Secret fields are empty."""
        fields = SubmitForm.first(schedule.workorder, None)
        fields.values.update({name: value for name, value in schedule.values.items() if value is not None})
        fields.note = schedule.note
        return cls(fields, schedule.name, schedule.expression, schedule.timezone, schedule.version)

    @classmethod
    def sent(cls, workorder: WorkOrder) -> ScheduleForm:
        """Read the form under way."""
        version = request.form.get("version", "")
        return cls(
            SubmitForm.sent(workorder),
            request.form.get(NAME, ""),
            request.form.get(EXPRESSION, ""),
            request.form.get(TIMEZONE, ""),
            int(version) if version.isascii() and version.isdigit() and len(version) < 10 else 0,
        )

    @property
    def errors(self) -> Mapping[str, Sequence[Message]]:
        return self.fields.errors

    @property
    def content(self) -> dict[str, Any]:
        """Return what the services take."""
        return {
            "name": self.name,
            "expression": self.expression,
            "timezone": self.timezone,
            "values": self.fields.values,
            "note": self.fields.note,
        }

    @property
    def preview(self) -> Preview:
        return Preview.of(self.expression, self.timezone)


@dataclass(frozen=True, slots=True)
class Preview:
    """The next times of an expression in its zone and in UTC, as text, or what is wrong with it."""

    zone: str
    times: Sequence[tuple[str, str]] = ()
    problem: Message | None = None

    @classmethod
    def of(cls, expression: str, zone: str) -> Preview:
        """Look ahead from now. Nothing is said of an expression that nobody has typed yet."""
        if not expression.strip() or zone not in timezones():
            return cls(zone)
        if problem := cron.problem(expression, zone):
            return cls(zone, problem=problem)
        found = cron.next_times(expression, zone, utcnow())
        return cls(zone, [(_written(moment, zone), _written(moment, "UTC")) for moment in found])


def _written(moment: dt.datetime, zone: str) -> str:
    pattern = "EEE yyyy-MM-dd HH:mm" if zone == "UTC" else "EEE yyyy-MM-dd HH:mm xxx"
    return format_datetime(moment, pattern, tzinfo=ZoneInfo(zone), locale=get_locale())


def _readers_zone() -> str:
    name = str(getattr(select_timezone(), "key", ""))
    return name if name in timezones() else "UTC"
