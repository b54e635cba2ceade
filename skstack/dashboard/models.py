"""Sums of days that are over, so that nobody counts a year of tickets to draw a page. See `summing`."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from skstack.db import JsonColumn
from skstack.extensions import Model


class SummedDay(Model):
    """One day, in UTC, by when its tickets were submitted. Unless `fresh`, its sums do not count.

    `changes` goes up with each ticket of the day that changes after it: who sums it up sees that one came in between.
    """

    __tablename__ = "summed_days"

    day: Mapped[dt.date] = mapped_column(primary_key=True)
    fresh: Mapped[bool] = mapped_column(default=False)
    changes: Mapped[int] = mapped_column(default=0)
    statuses: Mapped[dict[str, int]] = mapped_column(JsonColumn, default=dict)  # Tickets by their status.
    runs: Mapped[dict[str, int]] = mapped_column(JsonColumn, default=dict)  # Ended runs by their state.


class DayCount(Model):
    """How many tickets of a day, work order, environment and category are at a status. Names as on the tickets."""

    __tablename__ = "day_counts"
    __table_args__ = ({"sqlite_with_rowid": False},)

    day: Mapped[dt.date] = mapped_column(primary_key=True)
    workorder_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    environment_name: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    category_name: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    status: Mapped[str] = mapped_column(sa.String(16), primary_key=True)
    tickets: Mapped[int]


class DayTime(Model):
    """How often something took about as long on a day: `bucket` is one of `skstack.dashboard.buckets`.

    `workorder_id` is 0 where what is measured is not told apart by work order.
    """

    __tablename__ = "day_times"
    __table_args__ = (sa.Index("ix_day_times_day", "day"), {"sqlite_with_rowid": False})

    measure: Mapped[str] = mapped_column(sa.String(16), primary_key=True)
    workorder_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    day: Mapped[dt.date] = mapped_column(primary_key=True)
    bucket: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    times: Mapped[int]
