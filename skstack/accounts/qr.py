"""QR codes, drawn here so that no secret goes to a service that draws them."""

from __future__ import annotations

import segno
from markupsafe import Markup


def drawn(text: str) -> Markup:
    """Return a QR code as an SVG element, black on white in any theme and without style attributes."""
    code = segno.make(text, error="m", micro=False)
    return Markup(code.svg_inline(scale=4, border=4, dark="#000", light="#fff"))  # noqa: S704 - drawn by segno, text is no part of it
