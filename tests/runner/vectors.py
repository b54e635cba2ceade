"""The hostile values, and the lines they go into as rendering leaves them: constant text, values by reference."""

from __future__ import annotations

PROBE = """#!/bin/bash
printf '%s\\0' "$@" END
"""

VALUES = [
    "a  b",
    "x; touch C #",
    "$(touch C)",
    "`touch C`",
    "'; touch C; '",
    '"; touch C; "',
    "x && touch C",
    "x | touch C",
    "/etc/pass*",
    "~root",
    "$HOME",
    "a\\",
    "\\\\n",
    "",
    "a[$(touch C)]",
    "{V}{Other}",
    "!!",
    "#x",
    "%s%n",
    "中文 é",
    "\\'; touch C #",
    "{a,b}",
    "A=1",
    "x\ntouch C\n#",
    "a\n",
    "a\nEOF\ntouch C\ncat <<EOF\n",
    "\t tab",
    "x" * 32768,
]

TEMPLATES = [
    ('probe "${V}"', ["{}"]),
    ('probe --x="${V}".txt', ["--x={}.txt"]),
    ('probe "a ${V} b"', ["a {} b"]),
    ("probe 'a '\"${V}\"' b'", ["a {} b"]),
    ("probe -e prod -g \"${V}\" -i ''\"${V}\"''", ["-e", "prod", "-g", "{}", "-i", "{}"]),
    ('probe "${V}" | cat && true', ["{}"]),
    ('X="${V}"; probe "$X"', ["{}"]),
    ('sh -c \'probe "$1"\' x "${V}"', ["{}"]),
]


def lines() -> tuple[list[str], dict[str, str], bytes]:
    """Return every template with every value: the lines, their environment, what `probe` prints in all."""
    scripts, printed = [], bytearray()
    for number, value in enumerate(VALUES):
        # All templates of a value in one step: a shell for each of them would be most of the time.
        scripts.append("\n".join(line.replace("${V}", f"${{WO_V{number}}}") for line, _ in TEMPLATES))
        for _, arguments in TEMPLATES:
            for argument in [*arguments, "END"]:
                printed += argument.replace("{}", value).encode() + b"\0"
    return scripts, {f"WO_V{i}": value for i, value in enumerate(VALUES)}, bytes(printed)
