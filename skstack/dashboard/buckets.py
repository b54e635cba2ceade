"""Durations kept as counts: four buckets to each doubling, so that sums of days can be added and still tell a median.

A quantile read from them is within a tenth of the true one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

_STEPS = 4
_SHORTEST = 0.01


def bucket_of(seconds: float) -> int:
    """Return the bucket of a duration; everything under 10 ms is one."""
    return math.floor(_STEPS * math.log2(max(seconds, _SHORTEST)))


def begin_of(bucket: int) -> float:
    """Return the shortest duration of a bucket, in seconds."""
    return float(2 ** (bucket / _STEPS))


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """Return the duration, in seconds, that `share` of those counted did not exceed; None if there are none."""
    rank = share * sum(counts.values())
    passed = 0
    for bucket, count in sorted(counts.items()):
        if count and passed + count >= rank:
            return begin_of(bucket) * 2 ** ((rank - passed) / count / _STEPS)
        passed += count
    return None


def within(counts: Mapping[int, int], limits: tuple[float, ...]) -> list[int]:
    """Return how many lie below each limit, in seconds, and not below the one before; last, how many lie above all.

    A bucket that a limit divides counts where its middle lies.
    """
    found = [0] * (len(limits) + 1)
    for bucket, count in counts.items():
        middle = begin_of(bucket) * 2 ** (0.5 / _STEPS)
        found[sum(middle >= limit for limit in limits)] += count
    return found
