"""The commands `catalog apply` and `catalog export`."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from flask.cli import AppGroup

from skstack.catalog import catalog_file
from skstack.catalog.catalog_file import Change
from skstack.commands import fail, fails_in_one_line

_SIGNS = {"added": "+", "changed": "~", "deleted": "-"}


catalog = AppGroup("catalog", help="Keep the configuration in a file.")


@catalog.command("apply")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--dry-run", is_flag=True, help="Print what would change, and change nothing.")
@click.option("--prune", is_flag=True, help="Delete what the sections of the file do not name; never users.")
@fails_in_one_line
def apply(file: str, dry_run: bool, prune: bool) -> None:
    """Make the configuration match FILE, all or nothing, and print what changed. `-` reads standard input."""
    source = "standard input" if file == "-" else file
    try:
        text = sys.stdin.buffer.read().decode() if file == "-" else Path(file).read_text("utf-8")
    except UnicodeDecodeError:
        fail(f"{source} is not UTF-8 text")
    changes = catalog_file.apply(
        text,
        actor=None,
        source=source,
        folder=Path.cwd() if file == "-" else Path(file).resolve().parent,
        dry_run=dry_run,
        prune=prune,
    )
    for line in described(changes, dry_run=dry_run):
        click.echo(line)


@catalog.command("export")
@fails_in_one_line
def export() -> None:
    """Print the configuration as a catalog file. Secrets are left out."""
    click.echo(catalog_file.export(), nl=False)


def described(changes: Iterable[Change], *, dry_run: bool = False) -> Iterator[str]:
    """Return the lines of a diff that people read."""
    counts = dict.fromkeys(_SIGNS, 0)
    for change in changes:
        counts[change.verb] += 1
        yield f"{_SIGNS[change.verb]} {change.kind.type.replace('_', ' ').replace('workorder', 'work order')} {change.name}"
        for field in [*change.before, *(field for field in change.after if field not in change.before)]:
            if field != change.kind.key:
                yield from _field(field, change.before.get(field), change.after.get(field), change.verb)
    if not any(counts.values()):
        yield "Nothing to change."
        return
    told = ", ".join(f"{count} {verb}" for verb, count in counts.items())
    yield f"{told}. Nothing was changed: this was a dry run." if dry_run else f"{told}."


def _field(name: str, before: Any, after: Any, verb: str) -> Iterator[str]:
    texts = [value for value in (before, after) if isinstance(value, str)]
    if any("\n" in text for text in texts):
        yield f"    {name}:"
        old, new = (str(value or "").splitlines() for value in (before, after))
        yield from (f"      {line}" for line in difflib.ndiff(old, new) if not line.startswith("?"))
    elif verb == "added":
        yield f"    {name}: {_short(after)}"
    elif before == after:
        yield f"    {name}: replaced"  # A secret: what it was and is stays hidden.
    else:
        yield f"    {name}: {_short(before)} → {_short(after)}"


def _short(value: Any) -> str:
    if value is None or value == "":
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "nothing"
    if isinstance(value, dict):
        return ", ".join(f"{name}={one}" for name, one in value.items()) or "nothing"
    return str(value)
