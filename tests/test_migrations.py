"""The migrations make what the models describe, on both databases."""

from __future__ import annotations

import warnings

import pytest
from flask import Flask

from skstack import migrating


@pytest.mark.both_databases
def test_the_migrations_make_what_the_models_describe(context: Flask) -> None:
    import flask_migrate

    migrating.bind(context)
    with warnings.catch_warnings():
        # SQLite cannot tell how the index over lower(username) is made, so Alembic leaves it out of the comparison.
        warnings.filterwarnings("ignore", message="autogenerate skipping|Skipped unsupported reflection")
        flask_migrate.check()


def test_migrating_twice_changes_nothing(context: Flask) -> None:
    migrating.upgrade(context)
    migrating.upgrade(context)
