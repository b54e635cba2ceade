"""What a runner is asked about log files of plugins, and what it answers, as plain values with a JSON form."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from skstack.runner.protocol import LocalTarget, Target, target_from_json


@dataclass(frozen=True, kw_only=True)
class LogFile:
    """A file that was found. `modified` is seconds since 1970 by its host's clock, `size` bytes."""

    name: str
    in_backup: bool
    size: int
    modified: float

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads back."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Rebuild a file from `to_json`."""
        return cls(**stored)


@dataclass(frozen=True, kw_only=True)
class LogRequest:
    """Which files are looked for: those in `directory` and its `bak` whose names end in `suffix`.

    `name` and `in_backup` choose one of them; without a name it is the newest. The last `tail` bytes of it are read.
    `timeout` is the seconds that connecting may take, and each answer after it.
    """

    directory: str
    suffix: str
    target: Target = field(default_factory=LocalTarget)
    name: str = ""
    in_backup: bool = False
    tail: int = 0
    timeout: float = 10.0

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads back. Holds the credentials: only ever sent to a runner."""
        return {**{f.name: getattr(self, f.name) for f in fields(self)}, "target": self.target.to_json()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Rebuild a request from `to_json`."""
        return cls(**{**stored, "target": target_from_json(stored["target"])})


@dataclass(frozen=True, kw_only=True)
class LogsFound:
    """The files, newest first, which of them is `shown`, and its bytes from `offset` on to its end as it was then."""

    files: tuple[LogFile, ...]
    shown: LogFile | None = None
    offset: int = 0
    content: bytes = field(default=b"", repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads back."""
        return {
            "files": [file.to_json() for file in self.files],
            "shown": self.shown.to_json() if self.shown else None,
            "offset": self.offset,
            "content": base64.b64encode(self.content).decode(),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Rebuild what was found from `to_json`."""
        return cls(
            files=tuple(LogFile.from_json(file) for file in stored["files"]),
            shown=LogFile.from_json(stored["shown"]) if stored["shown"] else None,
            offset=stored["offset"],
            content=base64.b64decode(stored["content"]),
        )
