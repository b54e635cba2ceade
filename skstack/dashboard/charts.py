"""Where the parts of a chart lie. The templates draw them as SVG whose widths are percentages, so that they fit anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from skstack.dashboard.queries import Outcomes

PLOT = 120
"""Pixels that the highest column has."""


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a bar or column: its tone names its colour; `begin` and `size` are percent, or pixels upwards."""

    tone: str
    begin: float
    size: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a bar chart."""

    label: Any
    count: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """One column, with the middle, the left edge and the width in percent of the chart's."""

    label: Any
    count: int
    left: float
    middle: float
    width: float
    parts: tuple[Part, ...]


def bars(counts: Mapping[Any, int], tones: Mapping[Any, str] | None = None) -> list[Bar]:
    """Return a bar for each count, the longest filling the width; without `tones` all look alike."""
    most = max(counts.values(), default=0)
    return [
        Bar(label, count, tuple(_parts([((tones or {}).get(label, "plain"), count)], most, 100)))
        for label, count in counts.items()
    ]


def stacked_bars(outcomes: Mapping[Any, Outcomes]) -> list[Bar]:
    """Return a bar for each key, of successes, failures and the rest; those with the most tickets first."""
    most = max((one.total for one in outcomes.values()), default=0)
    ordered = sorted(outcomes.items(), key=lambda item: (-item[1].total, str(item[0])))
    return [Bar(label, one.total, tuple(_parts(_tones(one), most, 100))) for label, one in ordered]


def columns(outcomes: Mapping[Any, Outcomes]) -> list[Column]:
    """Return a column for each key, in their order, of successes, failures and the rest."""
    most = max((one.total for one in outcomes.values()), default=0)
    each = 100 / max(len(outcomes), 1)
    return [
        Column(
            label,
            one.total,
            left=round((number + 0.18) * each, 2),
            middle=round((number + 0.5) * each, 2),
            width=round(0.64 * each, 2),
            parts=tuple(_parts(_tones(one), most, PLOT)),
        )
        for number, (label, one) in enumerate(outcomes.items())
    ]


def _tones(one: Outcomes) -> list[tuple[str, int]]:
    return [("good", one.succeeded), ("bad", one.failed), ("other", one.other)]


def _parts(tones: Iterable[tuple[str, int]], most: int, whole: float) -> Iterable[Part]:
    begin = 0.0
    for tone, count in tones:
        if count:
            # Seen even where it is one of thousands.
            size = max(round(count / most * whole, 2), whole / 200)
            yield Part(tone, round(begin, 2), size)
            begin += size
