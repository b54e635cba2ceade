"""Instances whose web and worker have a clock that a test sets, as somebody may set a host's: by libfaketime.

Only the clock of the day changes. The monotonic clock goes on, as it does on a host.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from tests.faults.instances import Instance, Prepared, csrf_token

LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
SHIM = Path(__file__).parent / "clock"


class Clocked(Instance):
    """An instance with a clock of its own."""

    def __init__(self, folder: Path, prepared: Prepared, **settings: Any) -> None:
        super().__init__(folder, prepared, **settings)
        self._offset = folder / "clock"
        self.set_forward(dt.timedelta())
        self.environment |= {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": str(SHIM),
        }

    def now(self) -> dt.datetime:
        """Return what the clock shows."""
        return dt.datetime.now(dt.UTC) + self.ahead

    def set_forward(self, by: dt.timedelta) -> None:
        """Set the clock so far ahead of the real one; behind it, if negative."""
        self.ahead = by
        new = self._offset.with_suffix(".new")
        new.write_text(f"{by.total_seconds():+.3f}\n")
        new.replace(self._offset)

    def set_to(self, moment: dt.datetime) -> None:
        """Set the clock to a moment."""
        self.set_forward(moment - dt.datetime.now(dt.UTC))

    def move(self, by: dt.timedelta) -> None:
        """Set the clock forward from what it shows, or back."""
        self.set_forward(self.ahead + by)


def add_schedule(instance: Instance, name: str, expression: str, zone: str = "UTC") -> int:
    """Let the administrator add a schedule of the work order `script` on its page, and return its number."""
    person, path = instance.person(), f"/schedules/new?workorder={instance.workorder('script')}"
    form = {
        "csrf_token": csrf_token(person.page(path)),
        "schedule-name": name,
        "schedule-expression": expression,
        "schedule-timezone": zone,
    }
    answer = person.post(path, form)
    assert answer.status == 303, answer.content
    return int(str(answer.headers["Location"]).rsplit("/", 1)[1])


def submitted(instance: Instance, schedule: int) -> list[dt.datetime]:
    """Return the times of a schedule that became a ticket, in order."""
    found = instance.rows(
        "select planned_at from schedule_occurrences where schedule_id = ? and outcome = 'started' order by id",
        schedule,
    )
    return [dt.datetime.fromisoformat(planned).replace(tzinfo=dt.UTC) for (planned,) in found]
