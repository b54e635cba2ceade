"""The commands of `flask --app app`. Each ends with 0 done, 1 refused or failed with one line, 2 wrong usage."""

from __future__ import annotations

import sys

import click
from flask import Flask, current_app
from flask.cli import with_appcontext

from skstack import demo as demos
from skstack import migrating, rotating, server
from skstack.accounts import cli as accounts
from skstack.accounts.services import create_first_admin
from skstack.audit import cli as audit
from skstack.backups import cli as backups
from skstack.backups.restoring import check_finished
from skstack.catalog import cli as catalog
from skstack.commands import fails_in_one_line
from skstack.config import Settings


def init_app(app: Flask) -> None:
    """Register all commands."""
    for command in (
        init,
        serve,
        web,
        worker,
        demo,
        accounts.user,
        accounts.token,
        catalog.catalog,
        audit.audit,
        backups.backup,
        backups.restore,
        keys,
    ):
        app.cli.add_command(command)


@click.command()
@with_appcontext
@fails_in_one_line
def init() -> None:
    """Create or migrate the database, create keys and the first administrator. Safe to repeat."""
    check_finished(current_app.config["SKSTACK"])
    migrating.upgrade(_app())
    password = create_first_admin()
    if password is not None:
        click.echo(f"Created the administrator: user admin, password {password}")
        click.echo(
            "It is shown this once. Change it on your profile, in the menu at the top right, after signing in."
        )


@click.command()
@with_appcontext
@fails_in_one_line
def serve() -> None:
    """Run web and worker together, in the foreground. SIGTERM stops them; commands that run go on."""
    sys.exit(server.serve(_app(), _say_where))


@click.command()
@with_appcontext
@fails_in_one_line
def web() -> None:
    """Run the web server alone."""
    sys.exit(server.web(_app(), _say_where))


@click.command()
@with_appcontext
@fails_in_one_line
def worker() -> None:
    """Run a worker alone."""
    sys.exit(server.work(_app()))


@click.command()
@click.option(
    "--if-empty", is_flag=True, help="Do nothing, and say nothing, if anything is configured already."
)
@with_appcontext
@fails_in_one_line
def demo(if_empty: bool) -> None:
    """Seed the demo: environments, people, and work orders that really do something on this host."""
    for line in demos.seed(if_empty=if_empty):
        click.echo(line)


@click.group()
def keys() -> None:
    """Change the keys that credentials and secret values are encrypted with."""


@keys.command()
@with_appcontext
@fails_in_one_line
def rotate() -> None:
    """Make a new key, and encrypt everything with it. Everybody may go on working. Older keys stay, for backups."""
    count = rotating.rotate(current_app.config["SKSTACK"])
    click.echo(f"There is a new key, and {count} values are encrypted with it.")
    click.echo(
        "The older ones are still in keys/encryption.keys: `flask --app app keys retire` removes them once they are of no use."
    )


@keys.command()
@with_appcontext
@fails_in_one_line
def retire() -> None:
    """Remove the older keys, once nothing is encrypted with them any more."""
    count = rotating.retire(current_app.config["SKSTACK"])
    click.echo(f"{count} older keys are removed. Backups made before the rotation hold their own.")


def _say_where() -> None:
    settings: Settings = current_app.config["SKSTACK"]
    click.echo(f"skstack answers on http://{settings.bind}  (stop it with Ctrl-C)")
    click.echo(
        "A forgotten password is replaced by `.venv/bin/flask --app app user set-password NAME --password-stdin`."
    )


def _app() -> Flask:
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # the proxy's own way to its object
    return app
