"""Bringing the database to the newest form. Alembic is loaded only here: serving pages does not need its 14 MB."""

from __future__ import annotations

from flask import Flask

from skstack import config
from skstack.extensions import db


def upgrade(app: Flask, revision: str = "head") -> None:
    """Create the tables, or change them to what the code expects. Needs an application context. Safe to repeat."""
    import flask_migrate

    bind(app)
    flask_migrate.upgrade(revision=revision)


def revisions() -> set[str]:
    """Return every form that this version can bring to the newest."""
    from alembic.script import ScriptDirectory

    return {one.revision for one in ScriptDirectory(str(config.ROOT / "migrations")).walk_revisions()}


def bind(app: Flask) -> None:
    """Tell Flask-Migrate where the migrations are."""
    import flask_migrate

    flask_migrate.Migrate(app, db, directory=str(config.ROOT / "migrations"), render_as_batch=True)
