"""Browsers are called by their names."""

from __future__ import annotations

import pytest

from skstack.accounts.browsers import browser_name

LIKE = "AppleWebKit/537.36 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("said", "name"),
    [
        (
            f"Mozilla/5.0 (X11; Linux x86_64) {LIKE} HeadlessChrome/156.0.0.0 Safari/537.36",
            "Chrome 156 · Linux",
        ),
        (
            f"Mozilla/5.0 (Windows NT 10.0; Win64) {LIKE} Chrome/140.0 Safari/537.36 Edg/140.0",
            "Edge 140 · Windows",
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:140.0) Gecko/20100101 Firefox/140.0",
            "Firefox 140 · macOS",
        ),
        (
            f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) {LIKE} Version/18.0 Safari/604.1",
            "Safari 18 · iOS",
        ),
        (
            f"Mozilla/5.0 (Linux; Android 14; Pixel) {LIKE} Chrome/139.0 Mobile Safari/537.36",
            "Chrome 139 · Android",
        ),
        ("Mozilla/5.0 Firefox/99.0", "Firefox 99"),
        ("curl/8.5.0", "curl/8.5.0"),
        ("", ""),
    ],
)
def test_a_browser_is_called_by_its_name(said: str, name: str) -> None:
    assert browser_name(said) == name
