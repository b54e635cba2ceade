"""Databases for tests: each test gets an instance of its own, already migrated.

`app` is an application on SQLite. A test with the marker `both_databases`, or one that asks for `any_app` or
`database_url`, runs twice: on SQLite and on PostgreSQL. To try other settings, override the fixture
`settings` with `dataclasses.replace(settings, …)`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient, FlaskCliRunner
from jinja2.bccache import Bucket, BytecodeCache
from werkzeug.routing import Rule

from skstack import create_app, migrating
from skstack.config import Settings
from skstack.extensions import db, queue
from tests.postgresql import once

BOTH = ("sqlite", "postgresql")

_url_builders: dict[object, Any] = {}
_compile_url_builder = Rule._compile_builder


def _url_builder(rule: Rule, append_unknown: bool = True) -> Any:
    """Compile each rule once per process: every test makes an application, and half of that time went here."""
    key = (rule.rule, tuple(rule._trace), repr(rule.defaults), append_unknown)
    if key not in _url_builders:
        _url_builders[key] = _compile_url_builder(rule, append_unknown)
    return _url_builders[key]


Rule._compile_builder = _url_builder


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    asks = {"any_app", "database_url"} & set(metafunc.fixturenames)
    marked = metafunc.definition.get_closest_marker("both_databases") is not None
    if "database" in metafunc.fixturenames and (asks or marked):
        metafunc.parametrize("database", BOTH, indirect=True, ids=BOTH)


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str:
    """Say which database this test runs on: "sqlite" or "postgresql"."""
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def settings(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Settings]:
    """Give the settings of a fresh instance in the test's folder, whose database is migrated and empty."""
    instance = tmp_path / "instance"
    shutil.copytree(request.getfixturevalue("migrated_instance"), instance)
    if database == "sqlite":
        yield Settings(instance=instance)
        return
    (instance / "skstack.db").unlink()
    url = request.getfixturevalue("postgresql_database")
    yield Settings(instance=instance, database_url=url)
    _empty(url)


class _CompiledTemplates(BytecodeCache):
    """What the tests of one process compiled, which takes most of their time otherwise."""

    def __init__(self) -> None:
        self._compiled: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._compiled:
            bucket.bytecode_from_string(self._compiled[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._compiled[bucket.key] = bucket.bytecode_to_string()


_COMPILED = _CompiledTemplates()


@pytest.fixture
def app(settings: Settings) -> Iterator[Flask]:
    """Give an application; push its context yourself, requests of `client` have their own."""
    app = create_app(settings)
    app.testing = True
    app.jinja_env.bytecode_cache = _COMPILED
    yield app
    _close(app)


@pytest.fixture
def any_app(app: Flask) -> Flask:
    """Give an application, once on SQLite and once on PostgreSQL."""
    return app


@pytest.fixture
def context(app: Flask) -> Iterator[Flask]:
    """Give the application within its context, for tests of services and queries that make no request."""
    with app.app_context():
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def command(app: Flask) -> FlaskCliRunner:
    """Give what runs `flask …` commands in this process."""
    return app.test_cli_runner()


@pytest.fixture
def database_url(settings: Settings) -> str:
    """Give the address of a migrated, empty database, once on SQLite and once on PostgreSQL."""
    return settings.url


@pytest.fixture(scope="session")
def migrated_instance(shared_folder: Path) -> Path:
    """Give an instance folder to copy: made once per test session by the real migrations."""
    instance = shared_folder / "instance"
    with once(shared_folder, "instance") as first:
        if first:
            _migrate(Settings(instance=instance))
    return instance


@pytest.fixture(scope="session")
def postgresql_database(postgresql_template: tuple[str, str], worker_id: str) -> str:
    """Give the address of this process's database: it is emptied after each test, which is quicker than a new one."""
    server, template = postgresql_template
    name = f"test_{worker_id}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"create database {name} template {template}")
    return f"{server}/{name}"


@pytest.fixture(scope="session")
def postgresql_template(
    shared_folder: Path, postgresql_server: str, migrated_instance: Path
) -> tuple[str, str]:
    """Give the server and the name of a migrated database to clone."""
    name = "migrated"
    with once(shared_folder, "postgresql-template") as first:
        if first:
            with psycopg.connect(f"{postgresql_server}/postgres", autocommit=True) as connection:
                connection.execute(f"create database {name}")
            _migrate(Settings(instance=migrated_instance, database_url=f"{postgresql_server}/{name}"))
    return postgresql_server, name


def _migrate(settings: Settings) -> None:
    app = create_app(settings)
    with app.app_context():
        migrating.upgrade(app)
    _close(app)


def _empty(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        tables = connection.execute(
            "select quote_ident(tablename) from pg_tables"
            " where schemaname = 'public' and tablename <> 'alembic_version'"
        ).fetchall()
        filled = " union all ".join(
            f"select '{name}' where exists (select from {name})" for (name,) in tables
        )
        names = ", ".join(name for (name,) in connection.execute(filled).fetchall())
        if names:
            connection.execute("set session_replication_role = replica")  # No trigger refuses this.
            connection.execute(f"truncate {names} restart identity cascade")
        # Those too whose rows a test removed itself.
        counted = "select quote_ident(sequencename) from pg_sequences where last_value is not null"
        for (name,) in connection.execute(counted).fetchall():
            connection.execute(f"alter sequence {name} restart")


def _close(app: Flask) -> None:
    with app.app_context():
        db.session.remove()
        db.engine.dispose()
    queue.storage.close()
