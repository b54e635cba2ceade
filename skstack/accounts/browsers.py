"""What a browser is called, by what it says of itself."""

from __future__ import annotations

import re

# The first that fits counts: browsers also name the ones that they are like.
_BROWSERS = (
    ("Edge", r"Edg(?:A|iOS|e)?/(\d+)"),
    ("Opera", r"OPR/(\d+)"),
    ("Firefox", r"(?:Firefox|FxiOS)/(\d+)"),
    ("Chrome", r"(?:HeadlessChrome|Chrome|CriOS)/(\d+)"),
    ("Safari", r"Version/(\d+).* Safari/"),
)
_SYSTEMS = (
    ("Android", "Android"),
    ("iOS", "iPhone|iPad"),
    ("Windows", "Windows"),
    ("macOS", "Macintosh"),
    ("Linux", "Linux|X11"),
)


def browser_name(user_agent: str) -> str:
    """Return a name such as “Firefox 140 · Linux”; what it says, if that is of none that is known."""
    for name, pattern in _BROWSERS:
        if found := re.search(pattern, user_agent):
            system = next((known for known, word in _SYSTEMS if re.search(word, user_agent)), "")
            return f"{name} {found[1]}" + (f" · {system}" if system else "")
    return user_agent
