"""Ask axe-core what on a page is hard to use with a keyboard, a screen reader or weak eyes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parent / "vendor" / "axe-4.14.1.min.js"

# WCAG 2.0 to 2.2, levels A and AA, and axe's own list of what nobody should do.
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"]

# The rules that look at colours: all that can change between light and dark.
COLOUR_RULES = ["color-contrast", "link-in-text-block"]


def violations(page: Any, within: str | None = None, *, colours_only: bool = False) -> list[str]:
    """Return one line per violation on a Playwright page, or within a CSS selector: rule, what it asks, where.

    Runs through the debugger, which the page's Content-Security-Policy does not bind.
    """
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(SCRIPT.read_text(encoding="utf-8"))
    # From the top: what has scrolled under the top bar would count as too small to hit.
    found = page.evaluate(
        "async ([within, only]) => {"
        "  scrollTo({top: 0, behavior: 'instant'});"
        "  const wanted = {runOnly: only, resultTypes: ['violations'], preload: false};"
        "  return (await axe.run(within || document, wanted)).violations;"
        "}",
        [
            within,
            {"type": "rule", "values": COLOUR_RULES} if colours_only else {"type": "tag", "values": TAGS},
        ],
    )
    return [
        f"{violation['id']} ({violation['impact']}): {violation['help']} at {' '.join(map(str, node['target']))}"
        f" {node['html'][:160]}"
        for violation in found
        for node in violation["nodes"]
    ]
