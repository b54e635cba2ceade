"""`flask backup` and `flask restore`."""

from __future__ import annotations

from pathlib import Path

import click
from flask import Flask, current_app
from flask.cli import with_appcontext

from skstack.backups import restoring, services
from skstack.commands import fails_in_one_line
from skstack.web.text import size


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@with_appcontext
@fails_in_one_line
def backup(file: Path) -> None:
    """Write everything of this instance into FILE, which must not be there yet. Everybody may go on working."""
    written = services.backup(file, settings=current_app.config["SKSTACK"])
    click.echo(f"{file}: {size(written)}. It holds the keys: who has it can read every credential.")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@with_appcontext
@fails_in_one_line
def restore(file: Path) -> None:
    """Make this instance, which must be empty, what FILE holds. What ran when it was made is not started again."""
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # the proxy's own way to its object
    manifest, settled = restoring.restore(app, file)
    click.echo(f"Restored what was backed up at {manifest['at']}.")
    for count, what in (
        (settled.runs, "runs had not ended then: their result is unknown here"),
        (settled.tickets, "tickets came due since: they are not started, their result is unknown here"),
        (settled.times, "schedules and times of schedules came due since: they are passed over"),
        (
            settled.waiting,
            "tickets wait for people or for their time: look whether they ran where the backup was made",
        ),
    ):
        if count:
            click.echo(f"{count} {what}.")
