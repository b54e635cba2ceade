"""What the benchmark has found so far: printed as a table, kept as JSON."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Row:
    """One measurement. `target` is on `ratio` where it begins with ×, else on `ours`."""

    number: str
    what: str
    ours: float
    unit: str
    floor: float | None = None
    target: float | None = None
    at_least: bool = False
    on_ratio: bool = False

    @property
    def ratio(self) -> float | None:
        return self.ours / self.floor if self.floor else None

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        value = self.ratio if self.on_ratio else self.ours
        if value is None:
            return None
        return value >= self.target if self.at_least else value <= self.target


@dataclass
class Results:
    rows: list[Row] = field(default_factory=list)

    def add(self, number: str, what: str, ours: float, unit: str, **more: Any) -> None:
        row = Row(number, what, ours, unit, **more)
        self.rows.append(row)
        print(_line(row), flush=True)

    def write(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip()
        rows = [{**asdict(row), "ratio": row.ratio, "met": row.met} for row in self.rows]
        made = {
            "commit": commit,
            "machine": platform.platform(),
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        path.write_text(json.dumps({**made, "rows": rows}, indent=1) + "\n", encoding="utf-8")


HEAD = f"{'row':4} {'what':58} {'ours':>10} {'floor':>10} {'ratio':>7} {'target':>9}"


def _line(row: Row) -> str:
    floor = f"{row.floor:10.2f}" if row.floor is not None else f"{'':10}"
    ratio = f"{row.ratio:6.1f}×" if row.ratio is not None else f"{'':7}"
    target = ""
    if row.target is not None:
        target = f"{'≥' if row.at_least else '≤'}{row.target:g}{'×' if row.on_ratio else ''}"
    verdict = {True: "met", False: "MISSED", None: ""}[row.met]
    return f"{row.number:4} {row.what + ' ' + row.unit:58} {row.ours:10.2f} {floor} {ratio} {target:>9} {verdict}"
