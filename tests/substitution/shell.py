"""Real shells for the tests: a `probe` that records its arguments, and canaries that must not appear."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from skstack.substitution import remote_script

LOCAL = ["bash", "--noprofile", "--norc", "-o", "pipefail", "-c"]
REMOTE = ["bash", "--noprofile", "--norc", "-s"]

# Each call appends its argument count and its arguments, each ended by NUL.
_PROBE = '#!/bin/sh\nprintf "%s\\0" "$#" "$@" >> "$PROBED"\n'
_EVIL = '#!/bin/sh\n: > "$CANARY"\n'


class Shell:
    """Runs rendered lines in a directory of its own, and tells what happened."""

    def __init__(self, directory: Path) -> None:
        self.bin = directory / "bin"
        self.work = directory / "work"
        self.probed = directory / "probed"
        self.canary = directory / "canary"
        self.bin.mkdir()
        self.work.mkdir()
        for name, text in (("probe", _PROBE), ("evil", _EVIL)):
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)

    def local(self, line: str, environment: Mapping[str, str]) -> list[list[str]]:
        """Run the line as the runner does on its own host; return each probe's arguments."""
        return self.run([*LOCAL, line], {**self.around(), **environment}, b"")

    def remote(self, line: str, environment: Mapping[str, str]) -> list[list[str]]:
        """Run the script that is sent over SSH; return each probe's arguments."""
        return self.run(REMOTE, self.around(), remote_script(line, environment).encode())

    def happened(self) -> list[str]:
        """Return what was created although nothing should have been."""
        found = sorted(os.listdir(self.work))
        return [*found, "canary"] if self.canary.exists() else found

    def reset(self) -> None:
        """Remove what a run has left behind."""
        for name in os.listdir(self.work):
            (self.work / name).unlink()
        self.canary.unlink(missing_ok=True)

    def around(self) -> dict[str, str]:
        """Return the environment that a shell finds, without any value."""
        return {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "HOME": str(self.work),
            "LANG": "C.UTF-8",
            "PROBED": str(self.probed),
            "CANARY": str(self.canary),
        }

    def run(self, command: list[str], environment: dict[str, str], stdin: bytes) -> list[list[str]]:
        """Run a shell; return each probe's arguments."""
        self.probed.unlink(missing_ok=True)
        self.finished = subprocess.run(
            command, env=environment, input=stdin, capture_output=True, cwd=self.work, timeout=20, check=False
        )
        if not self.probed.exists():
            return []
        fields = self.probed.read_bytes().decode().split("\0")[:-1]
        calls = []
        while fields:
            count = int(fields[0])
            calls.append(fields[1 : count + 1])
            fields = fields[count + 1 :]
        return calls
