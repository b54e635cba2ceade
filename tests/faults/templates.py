"""The templates of the design, each with what `probe` is to see of a value."""

from __future__ import annotations

from collections.abc import Callable

NAME = "values"

TEMPLATES: list[tuple[str, Callable[[str, str], list[str]]]] = [
    ("probe {V}", lambda v, name: [v]),
    ("probe --x={V}.txt", lambda v, name: [f"--x={v}.txt"]),
    ('probe "a {V} b"', lambda v, name: [f"a {v} b"]),
    ("probe 'a {V} b'", lambda v, name: [f"a {v} b"]),
    ("""probe -e prod -g "{V}" -i '{V}'""", lambda v, name: ["-e", "prod", "-g", v, "-i", v]),
    ("probe {V} | cat && true", lambda v, name: [v]),
    ('X={V}; probe "$X"', lambda v, name: [v]),
    ('probe "$(printf %s "{V}")"', lambda v, name: [v.rstrip("\n")]),
    ("""sh -c 'probe "$1"' x {V}""", lambda v, name: [v]),
    ('probe "{sk__name}" {V}', lambda v, name: [name, v]),
]
