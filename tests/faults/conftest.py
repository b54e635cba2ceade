"""Instances for the tests of this folder: prepared once per test process, then copied, which takes no time."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from skstack import create_app
from skstack.config import Settings
from tests.databases import _close
from tests.faults.instances import Instance, Prepared, until
from tests.faults.templates import TEMPLATES
from tests.sshd import SSHD, Sshd

PASSWORD = "s3cret-password-of-the-host"
# A value may not name what is run, so the box is entered first.
IN_BOX = "cd {Box} && BOX=$PWD bash ./main"
TASKS = ("pre", "main", "post")
TELLING = 'printf "it is %s.\\n" "$WO_Password" {Box}'


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker("faults")


@pytest.fixture(scope="session")
def target_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A real OpenSSH server whose connections the tests of this folder cut."""
    if SSHD is None:
        pytest.skip("OpenSSH's server is not installed")
    directory = tmp_path_factory.mktemp("target")
    programs = directory / "bin"
    programs.mkdir()
    server = Sshd(directory, options=f"SetEnv SHLVL=5 PATH={programs}:{os.environ['PATH']}")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def dead_ends() -> Iterator[dict[str, int]]:
    """Give the ports of hosts that cannot be worked on: one closed, one that says nothing, one that drops."""
    with socket.socket() as closed, socket.socket() as silent, socket.socket() as full:
        for each in (closed, silent, full):
            each.bind(("127.0.0.1", 0))
        silent.listen(64)
        full.listen(0)
        # Nobody accepts: once the queue is full, the kernel drops whoever comes.
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
        ports = {"closed": closed, "silent": silent, "dropping": full}
        yield {name: each.getsockname()[1] for name, each in ports.items()}
        for filler in fillers:
            filler.close()


@pytest.fixture(scope="session")
def prepared(
    tmp_path_factory: pytest.TempPathFactory,
    migrated_instance: Path,
    target_host: Sshd,
    dead_ends: dict[str, int],
) -> Prepared:
    """An instance folder with all work orders of this folder."""
    return _prepare(tmp_path_factory.mktemp("prepared"), migrated_instance, _catalog(target_host, dead_ends))


@pytest.fixture(scope="session")
def prepared_postgresql(
    tmp_path_factory: pytest.TempPathFactory,
    migrated_instance: Path,
    postgresql_template: tuple[str, str],
    worker_id: str,
    target_host: Sshd,
    dead_ends: dict[str, int],
) -> Prepared:
    """The same, with its rows and its queue in a PostgreSQL database of this process."""
    server, template = postgresql_template
    name = f"faults_{worker_id}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"create database {name} template {template}")
    folder = tmp_path_factory.mktemp("prepared_postgresql")
    return _prepare(folder, migrated_instance, _catalog(target_host, dead_ends), f"{server}/{name}")


def _prepare(
    folder: Path, migrated_instance: Path, catalog: dict[str, Any], database_url: str = ""
) -> Prepared:
    """Fill an instance by the real commands within this process."""
    instance, file = folder / "instance", folder / "catalog.yaml"
    shutil.copytree(migrated_instance, instance)
    if database_url:
        (instance / "skstack.db").unlink()
    file.write_text(json.dumps(catalog, ensure_ascii=False))
    app = create_app(Settings(instance=instance, database_url=database_url))

    def command(*arguments: str) -> str:
        done = app.test_cli_runner().invoke(args=arguments, env={"HOST_PASSWORD": PASSWORD})
        assert done.exit_code == 0, done.output
        return done.output

    password = command("init").split("password ", 1)[1].split()[0]
    token = command("token", "create", "admin").strip()
    command("catalog", "apply", str(file))
    _close(app)
    return Prepared(instance, password, token, database_url)


@pytest.fixture
def make_instance(prepared: Prepared, tmp_path: Path) -> Iterator[Callable[..., Instance]]:
    """Give what makes instances; all processes of them and of their runs are ended afterwards."""
    made: list[Instance] = []

    def make(**settings: Any) -> Instance:
        folder = tmp_path / f"instance{len(made)}"
        folder.mkdir()
        made.append(Instance(folder, prepared, **settings))
        return made[-1]

    yield make
    for instance in made:
        _end(instance)


@pytest.fixture(scope="session")
def elsewhere(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An instance whose commands work in its box, here and on the target."""
    folder = tmp_path_factory.mktemp("elsewhere")
    settings = {"working_directory": folder / "box", "workers": 8}
    instance = Instance(folder, prepared, **settings).start("serve")
    yield instance
    _end(instance)


@pytest.fixture(scope="session")
def common(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An instance whose web and worker are up under one parent, the same for all tests of a process."""
    instance = Instance(tmp_path_factory.mktemp("common"), prepared, connect_timeout=1.5).start("serve")
    yield instance
    _end(instance)


@pytest.fixture(scope="session")
def common_postgresql(
    prepared_postgresql: Prepared, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Instance]:
    """The same on PostgreSQL."""
    folder = tmp_path_factory.mktemp("common_postgresql")
    instance = Instance(folder, prepared_postgresql, connect_timeout=1.5).start("serve")
    yield instance
    _end(instance)


@pytest.fixture
def instance(request: pytest.FixtureRequest, database: str) -> Iterator[Instance]:
    """Give the common instance, with an empty box and a worker that is up, whatever the test before did to it.

    A test with the marker `both_databases` gets one on SQLite and one on PostgreSQL.
    """
    common: Instance = request.getfixturevalue("common" if database == "sqlite" else "common_postgresql")
    if "serve" not in common.processes:
        common.start("serve")
    common.worker()
    yield common
    common.reset()
    for part in set(common.processes) - {"serve"}:
        common.terminate(part)


def _end(instance: Instance) -> None:
    instance.reset()
    instance.stop()
    until(lambda: not instance.runners(), "a runner does not end", instance)


def _catalog(target_host: Sshd, dead_ends: dict[str, int]) -> dict[str, Any]:
    key, host_key = str(target_host.user_key_file), target_host.host_key
    stranger = target_host.directory / "stranger"
    if not stranger.exists():
        target_host._new_key("stranger")
    other_key = Path(f"{stranger}.pub").read_text().rsplit(" ", 1)[0]

    def center(name: str, **changes: Any) -> dict[str, Any]:
        way = {"host": "127.0.0.1", "port": target_host.port, "username": target_host.username}
        found = {"name": name, **way, "private_key_file": key, "host_key": host_key, **changes}
        return {name: value for name, value in found.items() if value is not None}

    def order(name: str, **changes: Any) -> dict[str, Any]:
        return {"name": name, "environment": "PROD", "category": "Faults", "active": True, **changes}

    remote = {"variable_group": "box", "main_task": IN_BOX}
    password = {"private_key_file": None, "password_env": "HOST_PASSWORD"}
    lines = "\n".join(template for template, _ in TEMPLATES)
    return {
        "environments": [{"name": "PROD"}],
        "categories": [{"name": "Faults"}],
        "config_centers": [
            center("good"),
            center("unknown", host_key=None),
            center("changed", host_key=other_key),
            center("refused", private_key_file=str(stranger)),
            center("password", **password),
            *(center(name, port=port) for name, port in dead_ends.items()),
        ],
        "variables": [
            {"name": "Box", "source": "input", "widget": "text"},
            {"name": "Mark", "source": "input", "widget": "text"},
            {"name": "V", "source": "input", "widget": "textarea"},
            {"name": "Password", "source": "input", "widget": "text", "secret": True},
        ],
        "variable_groups": [
            {"name": "box", "variables": ["Box"]},
            {"name": "mark", "variables": ["Mark"]},
            {"name": "value", "variables": ["V"]},
            {"name": "password", "variables": ["Password", "Box"]},
        ],
        "work_orders": [
            order("script", main_task='bash "$BOX/main"', scheduling=True),
            order(
                "tasks",
                pre_task='bash "$BOX/pre"',
                main_task='bash "$BOX/main"',
                post_task='bash "$BOX/post"',
            ),
            order("steps", main_task='bash "$BOX/one"\nbash "$BOX/two"\nbash "$BOX/three"'),
            order("short", main_task='bash "$BOX/main"', time_limit=1),
            order("marked", variable_group="mark", main_task='echo {Mark} >> "$BOX/starts"\necho done'),
            order("values", variable_group="value", main_task=lines),
            order("values-remote", variable_group="value", main_task=lines, config_center="good"),
            *(
                order(f"on-{name}", config_center=name, **remote)
                for name in ("good", "unknown", "changed", "refused", "password", *dead_ends)
            ),
            order("secret", variable_group="password", main_task=IN_BOX),
            order("secret-tasks", variable_group="password", **{f"{task}_task": TELLING for task in TASKS}),
            order("secret-remote", variable_group="password", main_task=IN_BOX, config_center="good"),
            order(
                "secret-refused",
                variable_group="password",
                main_task=IN_BOX,
                config_center="password",
            ),
        ],
    }
