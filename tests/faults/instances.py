"""An instance whose processes are started, stopped in the middle and killed, with work orders that do what a test writes.

Each instance has a `box`: a folder that its commands know as `$BOX`. They run the scripts that a test puts there, note
every start in `starts`, and wait for files to appear. What a run started is found by the box in its environment.
"""

from __future__ import annotations

import contextlib
import http.cookiejar
import json
import os
import re
import shutil
import signal
import sqlite3
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import psutil
import psycopg

from tests.server import Answer, Server

# Long enough for a busy machine to start a runner in: a run whose worker got no further in time is not begun.
LEASE = 4.0
SWEEP = 0.3
GRACE = 0.5
# What a busy machine may need beyond what is promised.
SLACK = 8.0

FAST = {"lease": LEASE, "sweep": SWEEP, "stop_grace": GRACE}

START = 'echo start >> "$BOX/starts"\n'
WAIT = 'until [ -e "$BOX/go" ]; do sleep 0.03; done\n'


@dataclass(frozen=True)
class Prepared:
    """An instance folder with all work orders, an administrator's password and a token.

    `database_url` is empty if the database lies in the folder.
    """

    instance: Path
    password: str
    token: str
    database_url: str = ""


class Instance(Server):
    """A server made from a prepared folder, with a box."""

    def __init__(self, folder: Path, prepared: Prepared, **settings: Any) -> None:
        self.box = folder / "box"
        environment = f"BOX={self.box}\nPATH={folder}/bin:{os.environ['PATH']}"
        self.database_url = prepared.database_url
        if self.database_url:
            settings["database_url"] = self.database_url
        super().__init__(folder, **{**FAST, "run_environment": environment, **settings})
        shutil.copytree(prepared.instance, self.instance, ignore=shutil.ignore_patterns("*.bell"))
        self.box.mkdir()
        self.admin_password, self.token = prepared.password, prepared.token

    def reset(self) -> None:
        """End all that runs, and empty the box for the next test."""
        for part in self.processes:
            for process in self.tree(part):
                # One that ends in this moment needs no resuming.
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()
        for process in self.runners():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        kill(*self.commands())
        shutil.rmtree(self.box)
        self.box.mkdir()

    @contextlib.contextmanager
    def without_worker(self) -> Iterator[None]:
        """Kill the worker with -9, and keep its parent from starting another."""
        with suspended(psutil.Process(self.processes["serve"].pid)):
            kill(self.worker())
            yield

    @contextlib.contextmanager
    def still(self, *workers: psutil.Process) -> Iterator[None]:
        """Keep workers from doing anything, at a moment at which they hold no lock of a database."""
        with contextlib.ExitStack() as stopped:
            for worker in workers or (self.worker(),):
                stopped.enter_context(suspended(worker))
                pause = 0.01
                while not self._is_free():
                    # Longer each time: on a busy machine it may need long to get anywhere.
                    worker.resume()
                    time.sleep(pause)
                    worker.suspend()
                    pause = min(2 * pause, 1.0)
            yield

    def _is_free(self) -> bool:
        """Say whether nobody is in the middle of a transaction."""
        if self.database_url:
            busy = "select 1 from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            return not self.rows(f"{busy} and xact_start is not null")
        return _is_unlocked(self.instance / "skstack.db") and _is_unlocked(self.instance / "huey.db")

    def write(self, **scripts: str) -> None:
        """Put scripts into the box: `main` is what the work order `script` runs."""
        for name, text in scripts.items():
            (self.box / name).write_text(text)

    def go(self, name: str = "go") -> None:
        """Let the commands that wait for this file go on."""
        (self.box / name).touch()

    def starts(self) -> list[str]:
        """Return what was noted at each start."""
        return self.noted("starts")

    def noted(self, name: str) -> list[str]:
        """Return the lines of a file that commands write."""
        try:
            return (self.box / name).read_text().splitlines()
        except FileNotFoundError:
            return []

    def commands(self) -> list[psutil.Process]:
        """Return the processes that carry this box in their environment: those that runs have started."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                environment = process.environ()
                mine = str(self.box) in (environment.get("BOX"), environment.get("WO_Box"))
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def rows(self, statement: str, *values: Any) -> list[Any]:
        """Read from the instance's database."""
        with self.database() as connection:
            return connection.execute(self._dialect(statement), values).fetchall()

    def write_rows(self, statement: str, *values: Any) -> None:
        """Write to the instance's database, as if somebody else had."""
        with self.database() as connection:
            connection.execute(self._dialect(statement), values)

    def messages(self) -> int:
        """Return how many messages wait in the queue."""
        with self.queue() as connection:
            return int(connection.execute(self._dialect("select count(*) from task")).fetchone()[0])

    def double_messages(self, times: int = 1) -> None:
        """Put each message that waits in the queue there once more, or several times."""
        copy = "insert into task (queue, data, priority) select distinct queue, data, priority from task"
        with self.queue() as connection:
            for _ in range(times):
                connection.execute(self._dialect(copy))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep everybody else from writing runs."""
        with self.database() as connection:
            if self.database_url:
                connection.execute("begin")
                connection.execute("lock table runs in exclusive mode")
            else:
                connection.execute("begin immediate")
            yield

    def database(self) -> contextlib.AbstractContextManager[Any]:
        """Open the instance's database; what is begun there is undone at the end."""
        if self.database_url:
            return contextlib.closing(psycopg.connect(self.database_url, autocommit=True))
        file = self.instance / "skstack.db"
        return contextlib.closing(sqlite3.connect(file, isolation_level=None, timeout=10))

    def queue(self) -> contextlib.AbstractContextManager[Any]:
        """Open the database of the queue."""
        if self.database_url:
            return self.database()
        return contextlib.closing(
            sqlite3.connect(self.instance / "huey.db", isolation_level=None, timeout=10)
        )

    def _dialect(self, statement: str) -> str:
        if not self.database_url:
            return statement
        return re.sub(
            r"\b(into|from) task\b", r"\1 huey_task", statement.replace("%", "%%").replace("?", "%s")
        )

    def worker(self, *, but: int = 0) -> psutil.Process:
        """Return the newest worker process that is alive, other than `but`."""
        return until(lambda: self._worker(but), "no worker is up", self, within=30)

    def _worker(self, but: int) -> psutil.Process | None:
        statement = "select pid from workers where stopped_at is null order by id desc"
        for (pid,) in self.rows(statement):
            if pid != but and psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                return psutil.Process(pid)
        return None

    def host(self) -> psutil.Process:
        """Return the process that forks runners."""
        return until(lambda: next(iter(self.hosts()), None), "no runner host is up", self)

    def hosts(self) -> list[psutil.Process]:
        found = []
        for part in self.processes:
            for process in self.tree(part):
                # One that was forked and ended in this moment is none.
                with contextlib.suppress(psutil.NoSuchProcess):
                    if process.name() == "skstack-host":
                        found.append(process)
        return found

    def runners(self) -> list[psutil.Process]:
        """Return the processes of runs, those that were told so far."""
        found = []
        for file in self.instance.glob("runs/*/runner.json"):
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(json.loads(file.read_text())["pid"])
                if process.name() == "skstack-run":
                    found.append(process)
        return found

    def run(self, number: int) -> dict[str, Any]:
        """Return a run, as the API shows it."""
        return dict(self.call("GET", f"/api/v1/runs/{number}").json)

    def log_from(self, run: int, offset: int = 0, wait: float = 0) -> Answer:
        return self.call("GET", f"/api/v1/runs/{run}/log?offset={offset}&wait={wait}")

    def wait_for_output(self, run: int, text: bytes, *, within: float = 30) -> bytes:
        """Return a run's output once this stands in it."""
        return until(
            lambda: text in (out := self.log_from(run).content) and out, f"no {text!r}", self, within
        )

    def wait_for_end(self, ticket: Mapping[str, Any], *, within: float = 40) -> dict[str, Any]:
        """Return the ticket's last run once the ticket has ended."""
        ended = self.wait_for(ticket["id"], within=within)
        return {**self.run(ended["runs"][-1]["id"]), "status": ended["status"], "runs": ended["runs"]}

    def person(self) -> Person:
        """Return the administrator, signed in with a browser's cookies."""
        return Person(self)


class Person:
    """Somebody who uses the pages."""

    def __init__(self, server: Server) -> None:
        self._url = server.url
        self._cookies = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._cookies), _Stay())
        page = self.get("/sign-in").content.decode()
        form = {"username": "admin", "password": server.admin_password, "csrf_token": csrf_token(page)}
        answer = self.post("/sign-in", form)
        assert answer.status == 303, answer.content

    def get(self, path: str, *, fragment: bool = False, timeout: float = 40) -> Answer:
        return self._ask(urllib.request.Request(self._url + path), fragment, timeout)

    def post(self, path: str, form: Mapping[str, str]) -> Answer:
        content = urllib.parse.urlencode(form).encode()
        return self._ask(urllib.request.Request(self._url + path, content), False, 40)

    def page(self, path: str) -> str:
        """Return a page that must be there."""
        answer = self.get(path)
        assert answer.status == 200, (path, answer.status)
        return answer.content.decode()

    def fragments(self, run: int) -> Iterator[str]:
        """Give the page of a run's log, then the fragments that keep it going, until the run is over."""
        content = self.page(f"/runs/{run}")
        yield content
        while found := re.search(r'id="log-poller"[^>]*hx-get="([^"]+)"', content):
            answer = self.get(unescape(found[1]), fragment=True)
            assert answer.status == 200, answer.content
            content = answer.content.decode()
            yield content

    def _ask(self, request: urllib.request.Request, fragment: bool, timeout: float) -> Answer:
        if fragment:
            request.add_header("HX-Request", "true")
        try:
            with self._opener.open(request, timeout=timeout) as response:
                return Answer(response.status, response.headers, response.read())
        except urllib.error.HTTPError as err:
            return Answer(err.code, err.headers, err.read())


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: where a form leads to is part of the answer."""

    def redirect_request(self, *args: Any) -> None:
        return None


def _is_unlocked(file: Path) -> bool:
    connection = sqlite3.connect(file, isolation_level=None, timeout=0.1)
    try:
        connection.execute("begin immediate")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


def csrf_token(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found, page[:2000]
    return unescape(found[1])


def visible_text(page: str) -> str:
    """Return what a page says, without its markup."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", "", page)))


def until(look: Callable[[], Any], otherwise: str, server: Server | None = None, within: float = 30) -> Any:
    """Return what `look` gives as soon as it is true."""
    deadline = time.monotonic() + within
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            log = server.log.read_text()[-3000:] if server and server.log.exists() else ""
            raise AssertionError(f"after {within} s: {otherwise}\n{log}")
        time.sleep(0.02)


@contextlib.contextmanager
def suspended(process: psutil.Process) -> Iterator[None]:
    """Keep a process from doing anything."""
    process.suspend()
    until(lambda: process.status() == psutil.STATUS_STOPPED, "the process does not stop")
    try:
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)


def kill(*processes: psutil.Process) -> None:
    """End processes with SIGKILL, and wait until they are gone."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    until(lambda: not any(_lives(process) for process in processes), "a killed process lives")


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
