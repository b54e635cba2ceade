"""A real PostgreSQL server in a temporary folder: one per test session, shared by its processes."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

USER = "skstack"

# Nobody needs these rows after a power cut.
_FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "300",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}

# Ends with the test session even if that is killed: then nothing else would stop the server.
_SERVE = """
session=$1; folder=$2; shift 2
"$@" & server=$!
while test -d /proc/$session && test -d /proc/$server; do sleep 0.5; done
kill -QUIT $server 2>/dev/null
wait $server
rm -rf "$folder"
"""


def pytest_configure(config: pytest.Config) -> None:
    # Processes of pytest-xdist inherit it: the server lives as long as the one that started them all.
    os.environ.setdefault("SKSTACK_TEST_SESSION", str(os.getpid()))


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder that all processes of this test session share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@contextmanager
def once(folder: Path, name: str) -> Iterator[bool]:
    """Hold the lock `name`, and say whether this is the first to leave it without an error."""
    with (folder / f"{name}.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / f"{name}.done"
        yield not done.exists()
        done.touch()


@pytest.fixture(scope="session")
def postgresql_server(shared_folder: Path) -> str:
    """Give the address of a running PostgreSQL server, without a database's name."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL's server programs are not installed")
    address = shared_folder / "postgresql.address"
    with once(shared_folder, "postgresql") as first:
        if first:
            address.write_text(_start(programs))
    return address.read_text()


def _programs() -> Path | None:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    found = shutil.which("postgres")
    candidates = [*reversed(installed), *([Path(found).parent] if found else [])]
    return next((folder for folder in candidates if (folder / "initdb").exists()), None)


def _start(programs: Path) -> str:
    account = _account()
    folder = Path(tempfile.mkdtemp(prefix="skstack-postgresql-"))
    if account is not None:
        os.chown(folder, account.pw_uid, account.pw_gid)
    identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    subprocess.run(
        [
            *(programs / "initdb", "-D", folder / "data", "-U", USER, "--auth=trust", "--no-sync"),
            *("--encoding=UTF8", "--no-locale", "--no-instructions"),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd="/",
        **identity,
    )
    port = _free_port()
    settings = _FAST | {
        "port": str(port),
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": str(folder),
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    subprocess.Popen(
        [
            *("/bin/sh", "-c", _SERVE, "sh", os.environ["SKSTACK_TEST_SESSION"], folder),
            *(programs / "postgres", "-D", folder / "data", *options),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
        **identity,
    ).returncode = 0  # It is left running on purpose, so that nobody is warned about it.
    address = f"postgresql://{USER}@127.0.0.1:{port}"
    _wait(f"{address}/postgres")
    return address


def _account() -> pwd.struct_passwd | None:
    """Return whom the server runs as, since it refuses to run as root; None: as we do."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AssertionError("there is no account to run PostgreSQL with")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(url: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
