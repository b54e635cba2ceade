"""Starting and stopping for real: one server per address, nothing left of one that was killed, failures in one line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.server import ROOT, Server

pytestmark = pytest.mark.slow


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a program of ours with these settings and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SKSTACK_")}
    given = {f"SKSTACK_{name.upper()}": value for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**kept, **given},
        timeout=40,
        check=False,
    )


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line in which a command was refused."""
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    return line


def flask(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return run("-m", "flask", "--app", "app", *arguments, **settings)


@pytest.mark.parametrize("program", [("-m", "flask", "--app", "app", "web"), ("app.py",)])
def test_a_second_server_does_not_share_the_address_of_the_first(
    live_server: Server, tmp_path: Path, program: tuple[str, ...]
) -> None:
    bind = f"127.0.0.1:{live_server.port}"
    line = refused(run(*program, instance=str(tmp_path / "other"), bind=bind))
    assert line.startswith(f"skstack: {bind} cannot be listened on: Address already in use.")


@pytest.mark.parametrize(
    "program", [("app.py",), *(("-m", "flask", "--app", "app", part) for part in ("serve", "web", "worker"))]
)
def test_what_keeps_an_instance_from_starting_keeps_every_way_to_start_it(
    make_server: Callable[..., Server], program: tuple[str, ...]
) -> None:
    server = make_server()
    settings = {"instance": str(server.instance), "bind": f"127.0.0.1:{server.port}"}
    mark = server.instance / "restore.unfinished"
    mark.touch()
    done = run(*program, **settings)
    assert refused(done).startswith(f"skstack: A restore into {server.instance} was not finished.")
    assert done.stdout == ""
    mark.unlink()
    (server.instance / "keys" / "audit.keys").write_text("0" * 64 + "\n")
    done = run(*program, **settings)
    assert refused(done).startswith("skstack: keys/audit.keys in the instance folder is not the one")
    assert done.stdout == ""


def test_a_server_waits_for_a_predecessor_that_is_just_ending(make_server: Callable[..., Server]) -> None:
    server = make_server()
    with socket.socket() as predecessor:
        predecessor.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        predecessor.bind(("127.0.0.1", server.port))
        predecessor.listen()
        server.start("web", wait=False)
        time.sleep(2)
    server.wait_until_up()


def test_the_address_may_be_a_name(make_server: Callable[..., Server]) -> None:
    server = make_server()
    server.environment["SKSTACK_BIND"] = f"localhost:{server.port}"
    server.url = f"http://localhost:{server.port}"
    server.start()


@pytest.mark.parametrize("bind", ["256.1.1.1:99", "no-such-host.invalid:8000", "192.0.2.1:8000"])
def test_an_address_of_another_host_is_refused(tmp_path: Path, bind: str) -> None:
    line = refused(flask("web", instance=str(tmp_path / "new"), bind=bind))
    assert line.startswith(f"skstack: {bind} cannot be listened on: ")


@pytest.mark.parametrize("part", ["serve", "web"])
def test_nothing_is_left_of_a_server_whose_parent_is_killed(
    make_server: Callable[..., Server], part: str
) -> None:
    server = make_server().start(part)
    processes = [process for process in server.tree(part) if process.name() != "skstack-host"]
    assert len(processes) >= {"serve": 4, "web": 2}[part]
    processes[0].kill()
    server.processes.pop(part).wait(timeout=10)
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []
    server.start(part)


def test_an_instance_that_cannot_be_made_is_said_in_one_line() -> None:
    assert refused(flask("init", instance="/proc/none")).endswith("/proc/none: No such file or directory")


@pytest.mark.parametrize("command", [("user", "list"), ("token", "create", "admin"), ("catalog", "export")])
def test_a_command_before_init_says_what_to_run(tmp_path: Path, command: tuple[str, ...]) -> None:
    line = refused(flask(*command, instance=str(tmp_path / "new")))
    assert line.endswith("Run `flask --app app init` first.")


def test_a_catalog_file_that_is_not_there_is_named(make_server: Callable[..., Server]) -> None:
    instance = str(make_server().instance)
    line = refused(flask("catalog", "apply", "none.yaml", instance=instance))
    assert line == "skstack: none.yaml: No such file or directory"
