"""The script that runs one line on another host, sent to its bash on standard input."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

# What the SSH connection is asked to run; the script goes to its standard input.
REMOTE_COMMAND = "exec bash --noprofile --norc -s"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def remote_script(line: str, environment: Mapping[str, str]) -> str:
    """Return what `REMOTE_COMMAND` reads: the environment's exports, then the line, run once.

    `line` is a rendered line of a compiled task. Raises ValueError for a name that is none and for a
    value with NUL.
    """
    exports = []
    for name, value in environment.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name an environment variable")
        if "\0" in value:
            raise ValueError(f"{name} contains NUL")
        exports.append(f"export {name}={shlex.quote(value)}\n")
    # The newline before the brace ends a comment at the line's end. The last line is one command in
    # braces, so that a script that was cut off anywhere is incomplete, and runs nothing.
    return (
        "".join(exports)
        + "set -o pipefail\n"
        + "main() {\n"
        + line
        + "\n}\n"
        + "{ main </dev/null; exit $?; }\n"
    )
