"""The commands `user` and `token`. Exit status: 0 done, 1 refused with one line on stderr, 2 wrong usage."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TypeVar

import click
from flask import current_app
from flask.cli import AppGroup

from skstack.accounts import external, queries, services, tokens
from skstack.accounts.models import Group, Role, User
from skstack.commands import fails_in_one_line
from skstack.db import utcnow
from skstack.errors import Invalid, NotFound
from skstack.messages import N_

Named = TypeVar("Named", Group, Role)

user = AppGroup("user", help="People: create, deactivate, give a password, list.")
token = AppGroup("token", help="API tokens.")


_password_stdin = click.option(
    "--password-stdin",
    is_flag=True,
    help="Read the password from standard input; arguments can be seen in `ps`.",
)


@user.command("create")
@click.argument("name")
@click.option("--superuser", is_flag=True, help="May do everything.")
@click.option("--group", "groups", multiple=True, help="A group they are in; can be repeated.")
@click.option("--role", "roles", multiple=True, help="A role they have; can be repeated.")
@click.option("--email", default="", help="Their mail address.")
@_password_stdin
@fails_in_one_line
def create(
    name: str,
    superuser: bool,
    groups: tuple[str, ...],
    roles: tuple[str, ...],
    email: str,
    password_stdin: bool,
) -> None:
    """Create the user NAME."""
    services.create_user(
        actor=None,
        username=name,
        password=_read_password(password_stdin),
        email=email,
        superuser=superuser,
        groups=_named(queries.groups(), groups, "group"),
        roles=_named(queries.roles(), roles, "role"),
    )
    click.echo(f"Created {name}.")


@user.command("set-password")
@click.argument("name")
@_password_stdin
@fails_in_one_line
def set_password(name: str, password_stdin: bool) -> None:
    """Give the user NAME a password, and end their sessions."""
    password = _read_password(password_stdin)
    services.set_password(_user(name), password, actor=None, now=utcnow())
    click.echo(f"{name} has a new password. Their sessions have ended.")


@user.command("deactivate")
@click.argument("name")
@fails_in_one_line
def deactivate(name: str) -> None:
    """Keep the user NAME out: sessions end, tokens are revoked, history stays."""
    services.deactivate(_user(name), actor=None, now=utcnow())
    click.echo(f"Deactivated {name}.")


@user.command("activate")
@click.argument("name")
@fails_in_one_line
def activate(name: str) -> None:
    """Let the user NAME in again."""
    services.activate(_user(name), actor=None)
    click.echo(f"Activated {name}.")


@user.command("remove-second-factor")
@click.argument("name")
@fails_in_one_line
def remove_second_factor(name: str) -> None:
    """Remove the second factor of the user NAME, whose phone is gone, and end their sessions."""
    services.remove_second_factor(_user(name), actor=None, now=utcnow())
    click.echo(f"Removed the second factor of {name}. Their sessions have ended.")


@user.command("link")
@click.argument("name")
@click.argument("subject")
@fails_in_one_line
def link(name: str, subject: str) -> None:
    """Let SUBJECT of the OIDC provider (the claim `sub`) sign in as the user NAME."""
    issuer = current_app.config["SKSTACK"].oidc_issuer
    if not issuer:
        raise NotFound(N_("There is no OIDC provider. Set SKSTACK_OIDC_ISSUER."))
    external.link(_user(name), issuer=issuer, subject=subject, actor=None, now=utcnow())
    click.echo(f"{subject} signs in as {name}.")


@user.command("list")
@fails_in_one_line
def list_users() -> None:
    """List all users, one a line: name, state, superuser, groups, roles, separated by tabs."""
    after = ""
    while True:
        page = queries.users(after=after)
        for one in page.items:
            columns = (
                one.username,
                "active" if one.active else "deactivated",
                "superuser" if one.superuser else "-",
                ",".join(group.name for group in one.groups) or "-",
                ",".join(role.name for role in one.roles) or "-",
            )
            click.echo("\t".join(columns))
        if page.next is None:
            return
        after = page.next


@token.command("create")
@click.argument("user_name", metavar="USER")
@click.option("--name", default="command line", show_default=True, help="What it is for.")
@click.option(
    "--days",
    type=click.IntRange(1, tokens.LONGEST_LIFE),
    help="How long it is valid; left out: until it is revoked.",
)
@fails_in_one_line
def create_token(user_name: str, name: str, days: int | None) -> None:
    """Create an API token for USER and print it, this once."""
    click.echo(tokens.create(_user(user_name), actor=None, name=name, days=days, now=utcnow()))


def _read_password(from_stdin: bool) -> str:
    if not from_stdin:
        raise click.UsageError("Give --password-stdin and the password on standard input.")
    try:
        return sys.stdin.buffer.read().decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as err:
        raise Invalid({"password": [N_("The password on standard input is not UTF-8 text.")]}) from err


def _user(name: str) -> User:
    found = queries.user_named(name)
    if found is None:
        raise NotFound(N_("There is no user called %(name)s.", name=name))
    return found


def _named(rows: Sequence[Named], names: Sequence[str], kind: str) -> list[Named]:
    by_name = {row.name: row for row in rows}
    for name in names:
        if name not in by_name:
            raise NotFound(N_("There is no %(kind)s called %(name)s.", kind=kind, name=name))
    return [by_name[name] for name in dict.fromkeys(names)]
