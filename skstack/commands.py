"""How every command fails: with one line on standard error, and exit status 1."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click
from sqlalchemy.exc import OperationalError, ProgrammingError, SQLAlchemyError

from skstack.config import ConfigError
from skstack.crypto import KeysUnusable
from skstack.errors import SkstackError

_NOT_THERE = ("no such table", "no such column", "UndefinedTable", "UndefinedColumn")


def fails_in_one_line(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn what goes wrong into one line on standard error and exit status 1."""

    @wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (SkstackError, SQLAlchemyError, OSError, ConfigError, KeysUnusable) as err:
            fail(said(err))

    return command


def fail(message: str) -> Any:
    """End the command as failed."""
    click.echo(f"skstack: {message}", err=True)
    sys.exit(1)


def said(err: Exception) -> str:
    """Return what an error says, as one line for people."""
    if isinstance(err, OSError) and err.strerror:
        return f"{err.filename}: {err.strerror}" if err.filename else err.strerror
    if isinstance(err, (OperationalError, ProgrammingError)) and any(word in str(err) for word in _NOT_THERE):
        return "The database is empty or of an older version. Run `flask --app app init` first."
    return next(iter(str(err).splitlines()), type(err).__name__)
