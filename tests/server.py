"""Real skstack processes on a free port, with an instance folder of their own.

`live_server` is one that is up; `make_server` makes more, or ones whose web and worker are started and killed apart.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from email.message import Message as Headers
from pathlib import Path
from typing import Any

import psutil
import pytest

from skstack import config, create_app
from tests.databases import _close

ROOT = Path(__file__).resolve().parent.parent
START_WITHIN = 30.0


class Server:
    """One instance. `settings` are further SKSTACK_… variables, by their name without the prefix."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.instance = folder / "instance"
        self.log = folder / "server.log"
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.admin_password = ""
        self.token = ""
        own = {
            "instance": self.instance,
            "bind": f"127.0.0.1:{self.port}",
            "workers": 4,
            "web_threads": 48,
            **settings,
        }
        # Measuring coverage makes a server half as quick; what it runs is measured within the tests' own processes.
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SKSTACK_", "COVERAGE_"))
        }
        self.environment = {**kept, **{f"SKSTACK_{name.upper()}": str(value) for name, value in own.items()}}

    def command(self, *arguments: str, input: str = "", check: bool = True) -> str:
        """Run one `flask --app app` command and return what it printed.

        Within this process: a new one takes seconds to import everything. `program` is the real thing.
        """
        app = create_app(config.load(self.environment))
        try:
            done = app.test_cli_runner().invoke(args=arguments, input=input, env=self.environment)
        finally:
            _close(app)
        if check and done.exit_code:
            raise AssertionError(f"{arguments}: exit {done.exit_code}\n{done.output}") from done.exception
        return done.stdout

    def program(self, *arguments: str, input: str = "", check: bool = True) -> str:
        """Run one `flask --app app` command as a process of its own, and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "app", *arguments],
            input=input,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=self.environment,
            timeout=60,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def prepare(self) -> Server:
        """Create the database and the first administrator, and a token for them."""
        said = self.command("init")
        self.admin_password = said.split("password ", 1)[1].split()[0]
        self.token = self.command("token", "create", "admin").strip()
        return self

    def catalog(self, text: str) -> None:
        """Apply a catalog file."""
        self.command("catalog", "apply", "-", input=text)

    def start(self, *parts: str, wait: bool = True) -> Server:
        """Start `serve`, or `web` and `worker` apart, and wait until the web answers."""
        compiled = self.instance / "templates"
        if self.instance.exists() and not compiled.exists():
            compiled.symlink_to(_compiled_templates())
        for part in parts or ("serve",):
            with self.log.open("ab") as log:
                self.processes[part] = subprocess.Popen(
                    [sys.executable, "-m", "flask", "--app", "app", part],
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    cwd=ROOT,
                    env=self.environment,
                    start_new_session=True,
                )
        if wait and {"serve", "web"} & set(self.processes):
            self.wait_until_up()
        return self

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + START_WITHIN
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=2):
                    return
            except OSError:
                time.sleep(0.05)
        raise AssertionError(f"the server does not answer:\n{self.log.read_text()[-4000:]}")

    def tree(self, part: str) -> list[psutil.Process]:
        """Return the processes of one part, the started one first."""
        top = psutil.Process(self.processes[part].pid)
        return [top, *top.children(recursive=True)]

    def kill(self, part: str) -> None:
        """End a part with SIGKILL, as a crash would: it and its forks, but no runner."""
        runners = set(_runner_pids(self.instance))
        for process in self.tree(part):
            if process.pid not in runners and not _is_below(process, runners):
                # One that its parent has ended meanwhile is as dead as it should be.
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.processes.pop(part).wait(timeout=10)

    def terminate(self, part: str, *, within: float = 20) -> int:
        """End a part with SIGTERM and return its exit status."""
        process = self.processes.pop(part)
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout=within)

    def stop(self) -> None:
        for part in list(self.processes):
            try:
                self.terminate(part)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"{part} did not end:\n{self.log.read_text()[-4000:]}") from None

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 40,
    ) -> Answer:
        """Make an API call with the administrator's token. An error status is an answer too."""
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, content, timeout=timeout) as response:
                return Answer(response.status, response.headers, response.read())
        except urllib.error.HTTPError as err:
            return Answer(err.code, err.headers, err.read())

    def workorder(self, name: str) -> int:
        found = self.call("GET", f"/api/v1/workorders?q={name}").json["items"]
        return int(next(item["id"] for item in found if item["name"] == name))

    def submit(
        self, workorder: int | str, values: Mapping[str, Any] | None = None, **body: Any
    ) -> dict[str, Any]:
        """Submit a work order and return its ticket."""
        number = workorder if isinstance(workorder, int) else self.workorder(workorder)
        answer = self.call(
            "POST", f"/api/v1/workorders/{number}/tickets", {"values": dict(values or {}), **body}
        )
        assert answer.status == 201, answer.content
        return dict(answer.json)

    def ticket(self, number: int) -> dict[str, Any]:
        return dict(self.call("GET", f"/api/v1/tickets/{number}").json)

    def wait_for(
        self, number: int, what: Callable[[dict[str, Any]], Any] | None = None, *, within: float = 20
    ) -> dict[str, Any]:
        """Return the ticket once `what` holds of it: by default, once it has ended."""
        holds = what or (lambda ticket: ticket["finished_at"])
        deadline = time.monotonic() + within
        while True:
            ticket = self.ticket(number)
            if holds(ticket):
                return ticket
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"after {within} s the ticket is {ticket}\n{self.log.read_text()[-4000:]}"
                )
            time.sleep(0.03)

    def output(self, run: int) -> bytes:
        """Return the whole output of a run, as its last byte has come."""
        found, offset = bytearray(), 0
        while True:
            answer = self.call("GET", f"/api/v1/runs/{run}/log?offset={offset}&wait=20")
            assert answer.status == 200, answer.content
            found += answer.content
            offset = int(answer.headers["X-Log-Next-Offset"])
            if answer.headers["X-Run-Final"] == "1":
                return bytes(found)


class Answer:
    """The answer to one call. Names of headers may be written in any case, as HTTP has it."""

    def __init__(self, status: int, headers: Headers, content: bytes) -> None:
        self.status, self.headers, self.content = status, headers, content

    @property
    def json(self) -> Any:
        return json.loads(self.content)


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Give what makes prepared servers, not started; all of their processes are ended afterwards."""
    made: list[Server] = []

    def make(**settings: Any) -> Server:
        folder = tmp_path / f"server{len(made)}"
        folder.mkdir()
        server = Server(folder, **settings).prepare()
        made.append(server)
        return server

    yield make
    for server in made:
        server.stop()
        for pid in _runner_pids(server.instance):
            _end(pid)


@pytest.fixture
def live_server(make_server: Callable[..., Server]) -> Server:
    """Give a server that is up, web and worker."""
    return make_server().start()


def _runner_pids(instance: Path) -> list[int]:
    """Return the runners of this instance that are alive, by what they left in their folders."""
    found = []
    for file in instance.glob("runs/*/runner.json"):
        written = json.loads(file.read_text())
        try:
            stat = Path(f"/proc/{written['pid']}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat[19]) == written["start_time"] and stat[0] != "Z":
            found.append(int(written["pid"]))
    return found


def _end(pid: int) -> None:
    try:
        process = psutil.Process(pid)
        process.terminate()
        process.wait(timeout=15)
    except psutil.NoSuchProcess:
        return
    except psutil.TimeoutExpired:
        process.kill()


def _is_below(process: psutil.Process, pids: set[int]) -> bool:
    try:
        return any(parent.pid in pids for parent in process.parents())
    except psutil.NoSuchProcess:
        return True


@functools.cache
def _compiled_templates() -> str:
    """Return a folder where the servers of this process find the templates that one of them has compiled."""
    folder = tempfile.mkdtemp(prefix="skstack-templates-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
