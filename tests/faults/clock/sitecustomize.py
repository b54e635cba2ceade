"""Read by Python processes whose clock a test sets, before anything else: see tests/faults/clocks.py.

libfaketime 0.9.10 refuses the sleep until a moment of the monotonic clock that `time.sleep` asks for, if it is to leave
that clock alone. `select` waits as long.
"""

from __future__ import annotations

import select
import time


def _sleep(seconds: float) -> None:
    select.select([], [], [], seconds)


time.sleep = _sleep
