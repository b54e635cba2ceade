"""What the manual says of settings is what the code has."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path

from skstack.config import ROOT, Settings

PAGE = ROOT / "docs" / "manual" / "en" / "settings.md"


def _default(setting: object) -> str:
    default = setting.default  # type: ignore[attr-defined]
    if default is MISSING:
        return "none"
    if isinstance(default, Path):
        return "`instance` in the checkout"
    if default == "":
        return "empty"
    return f"`{str(default).lower() if isinstance(default, bool) else f'{default:g}' if isinstance(default, float) else default}`"


def settings_table() -> str:
    rows = [
        f"| `SKSTACK_{setting.name.upper()}` | {_default(setting)} | {setting.metadata['help']} |"
        for setting in fields(Settings)
    ]
    return "\n".join(["| setting | default | meaning |", "| --- | --- | --- |", *rows])


def test_the_manual_lists_every_setting_as_it_is() -> None:
    assert settings_table() in PAGE.read_text(encoding="utf-8"), f"put this into {PAGE}:\n{settings_table()}"
