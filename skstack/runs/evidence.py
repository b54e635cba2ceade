"""What the audit trail keeps of a run that ended: a digest of its row and steps, and those of the files it left."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from skstack.runner.protocol import EVENTS_FILE, OUTPUT_FILE, RESULT_FILE
from skstack.runs.models import Run, Step
from skstack.tickets.evidence import columns, digest

RUN = (
    "id",
    "ticket_id",
    "task",
    "state",
    "exit_code",
    "queued_at",
    "started_at",
    "finished_at",
    "duration",
    "reason",
    "output_bytes",
    "stored_bytes",
)
STEP = (
    "position",
    "task",
    "line",
    "exit_code",
    "started_at",
    "finished_at",
    "duration",
    "offset",
    "end",
)


def of_run(run: Run | Mapping[str, Any], steps: Iterable[Step | Mapping[str, Any]]) -> bytes:
    """Return the digest of a run that ended, with its steps in order."""
    return digest([columns(run, RUN), [columns(step, STEP) for step in steps]])


def of_output(directory: Path) -> dict[str, Any]:
    """Return what a run's event says of its files: digest and size of the output, the digest of its record, the host.

    The record is what tells the steps in the output apart. A file that is not there is an empty one. Reads everything,
    a tenth of a second for 100 MB.
    """
    output, size = _digest(directory / OUTPUT_FILE)
    record, _ = _digest(directory / EVENTS_FILE, directory / RESULT_FILE)
    return {
        "output_sha256": output,
        "output_bytes": size,
        "record_sha256": record,
        "host": socket.gethostname(),
    }


def _digest(*paths: Path) -> tuple[str, int]:
    found, size = hashlib.sha256(), 0
    for path in paths:
        try:
            with path.open("rb", buffering=0) as file:
                size += os.fstat(file.fileno()).st_size
                buffer = memoryview(bytearray(min(size, _PIECE) or 1))
                while count := file.readinto(buffer):
                    found.update(buffer[:count])
        except FileNotFoundError:
            pass
    return found.hexdigest(), size


_PIECE = 1 << 18
