"""Parts of lists: what one has hundreds of, since a macro for each takes most of the time of the page; its columns."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from flask import current_app
from flask_login import current_user
from markupsafe import Markup

SPRITE = "vendor/bootstrap-icons-1.13.2/sprite.svg"
_CELL = "_cell"


def icon(name: str, class_: str = "") -> Markup:
    """Return an icon of the sprite. `_macros.html` says how to use it."""
    address: Any = current_app.jinja_env.globals["static"]
    return _icon(address(SPRITE), name, class_)


@lru_cache(maxsize=1000)
def _icon(sprite: str, name: str, class_: str) -> Markup:
    return Markup(
        '<svg class="icon {}" aria-hidden="true" focusable="false"><use href="{}#{}"/></svg>'
    ).format(class_, sprite, name)


def cell(columns: Mapping[str, dict[str, Any]], key: str, role: str = "") -> Markup:
    """Return the attributes of a cell in the column `key`: the same for each row. `_lists.html` says how to use it."""
    column = columns[key]
    if role or _CELL not in column:
        label = "" if column.get("quiet") else Markup(' data-label="{}"').format(column["label"])
        off = " col-off" if column.get("hidden") else ""
        kind = role or ("rowheader" if column.get("fixed") else "cell")
        made = Markup(' role="{}" data-col="{}"{} class="{}{}"').format(
            kind, key, label, column.get("class") or "", off
        )
        if role:
            return made
        column[_CELL] = made
    found: Markup = column[_CELL]
    return found


def chosen_columns(name: str, columns: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Hide and show the columns of a list as the reader chose; `first` says which it shows by itself."""
    chosen = (current_user.columns or {}).get(name, {})
    for key, column in columns.items():
        column["first"] = not column.get("hidden")
        if key in chosen and not column.get("fixed") and not column.get("quiet"):
            column["hidden"] = not chosen[key]
    return columns
