"""A real OpenSSH server on 127.0.0.1, with keys, configuration and port of its own.

Load it with `pytest_plugins = ["tests.sshd"]` and ask for the fixture `sshd`.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from skstack.runner import processes
from skstack.runner.protocol import SshTarget

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class Sshd:
    """A server in a directory of its own that lets the user of this process in with `user_key`."""

    def __init__(self, directory: Path, *, options: str = "", password: str | None = None) -> None:
        """Prepare the server. With `password` (only as root) its user may log in by it too."""
        self.directory = directory
        self._password = password
        self.username = getpass.getuser()
        self.port = _free_port()
        self.host_key_file = self._new_key("host_ed25519")
        self.user_key_file = self._new_key("user_ed25519")
        self.log = directory / "sshd.log"
        self._authorized = directory / "authorized_keys"
        self.authorize(self.user_key_file)
        self._config = directory / "sshd_config"
        self._config.write_text(
            # OpenSSH takes the first value that it finds, so that options win.
            f"{options}\nListenAddress 127.0.0.1\nPort {self.port}\nHostKey {self.host_key_file}\nPidFile none\n"
            f"AuthorizedKeysFile {self._authorized}\nStrictModes no\nUsePAM no\nPasswordAuthentication yes\n"
            f"PermitRootLogin yes\nLogLevel VERBOSE\nUseDNS no\nMaxStartups 100\nMaxSessions 50\n"
            "Subsystem sftp internal-sftp\n"
            # Keeps bash from reading the account's .bashrc, which may take longer than the test.
            "SetEnv SHLVL=5\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host_key(self) -> str:
        """The host key as an administrator accepts it."""
        return " ".join(Path(f"{self.host_key_file}.pub").read_text().split()[:2])

    @property
    def fingerprint(self) -> str:
        """The host key's fingerprint as OpenSSH prints it."""
        digest = hashlib.sha256(base64.b64decode(self.host_key.split()[1])).digest()
        return "SHA256:" + base64.b64encode(digest).rstrip(b"=").decode()

    @property
    def private_key(self) -> str:
        """The text of a key that may log in."""
        return self.user_key_file.read_text()

    def target(self, **changes: object) -> SshTarget:
        """Return the way to this server, with the key that it accepts."""
        values: dict[str, object] = {
            "host": "127.0.0.1",
            "port": self.port,
            "username": self.username,
            "host_key": self.host_key,
            "private_key": self.private_key,
        }
        return SshTarget(**{**values, **changes})  # type: ignore[arg-type]

    def authorize(self, key_file: Path) -> None:
        """Let the owner of this key log in."""
        with self._authorized.open("a") as f:
            f.write(Path(f"{key_file}.pub").read_text())

    def new_user_key(self, name: str, *options: str) -> Path:
        """Make another key that may log in; `options` are ssh-keygen's."""
        file = self._new_key(name, *options)
        self.authorize(file)
        return file

    def start(self) -> None:
        """Start the server and wait until it listens."""
        assert SSHD is not None
        # sshd wants this directory to separate privileges; a container may come without it.
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._process = subprocess.Popen(
            [*self._own_shadow(), SSHD, "-D", "-f", str(self._config), "-E", str(self.log)],
            start_new_session=True,
        )
        until = time.monotonic() + 10
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert self._process.poll() is None, self.log.read_text()
                time.sleep(0.01)
            else:
                return
        raise AssertionError(self.log.read_text())

    def change_host_key(self) -> None:
        """Give the server another host key, as a host that was set up again has."""
        self.stop()
        self.host_key_file.unlink()
        Path(f"{self.host_key_file}.pub").unlink()
        self._new_key("host_ed25519")
        self.start()

    def cut_connections(self) -> None:
        """Kill the processes that serve connections; the server itself goes on."""
        assert self._process is not None
        for pid in processes.children(self._process.pid):
            for below in [*processes.children(pid), pid]:
                if _is_sshd(below):
                    processes.send([below], signal.SIGKILL)

    def stop(self) -> None:
        """Stop the server and what serves its connections."""
        if self._process is not None:
            self.cut_connections()
            self._process.kill()
            self._process.wait()
            self._process = None

    def _own_shadow(self) -> list[str]:
        """Return what gives the server, and nobody else, a shadow file with the password."""
        if self._password is None:
            return []
        hashed = subprocess.run(
            ["openssl", "passwd", "-6", "-stdin"],
            input=self._password,
            text=True,
            capture_output=True,
            check=True,
        ).stdout.strip()
        shadow = self.directory / "shadow"
        shadow.write_text(f"{self.username}:{hashed}:19000:0:99999:7:::\n")
        return ["unshare", "-m", "sh", "-c", f'mount --bind {shadow} /etc/shadow && exec "$@"', "sh"]

    def _new_key(self, name: str, *options: str) -> Path:
        file = self.directory / name
        kind = options or ("-t", "ed25519")
        passphrase = () if "-N" in kind else ("-N", "")
        subprocess.run(["ssh-keygen", "-q", *kind, *passphrase, "-C", "test", "-f", str(file)], check=True)
        return file


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A running server, the same for all tests of a process."""
    if SSHD is None:
        pytest.skip("OpenSSH's server is not installed")
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    server.start()
    yield server
    server.stop()


def _is_sshd(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip().startswith("sshd")
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port
