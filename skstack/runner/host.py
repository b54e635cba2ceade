"""The runner host: a small prepared process that forks a runner for each request.

Started as a program by `client.RunnerHost`. It ends when the last client has gone; the runners it forked
go on. As subreaper it inherits, and ends, what a runner that was killed left behind.
"""

from __future__ import annotations

import sys
from types import ModuleType

if __name__ == "__main__":
    # Importing `skstack` itself would load Flask and all that hangs on it: make do with its directory.
    _package = ModuleType("skstack")
    _package.__path__ = [__file__.rsplit("/", 2)[0]]
    sys.modules["skstack"] = _package

import contextlib
import ctypes
import gc
import os
import select
import signal
import socket
import time

# The transport of most runs is loaded before the first fork, so that no runner has to.
from skstack.runner import local, processes, runner, wire  # noqa: F401

_PACKET = 16


class Host:
    """Receives sockets and forks a runner for each; the SSH half is forked off when it is first needed."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._runners: set[int] = set()
        self._ssh: socket.socket | None = None
        self._ssh_pid = 0
        self._wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        processes.become_subreaper()
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        # Ends with its clients, not with the terminal or the service that they were started from.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def serve(self) -> None:
        """Serve until every client has closed its end."""
        processes.boot_id()
        gc.collect()
        gc.freeze()
        _trim()
        poll = select.poll()
        poll.register(self._requests, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self._wake:
                    os.read(fd, 4096)
                    self._reap()
                elif not self._receive():
                    return

    def _receive(self) -> bool:
        kind, fds, _, _ = socket.recv_fds(self._requests, _PACKET, 1)
        if kind == wire.LOCAL and fds:
            self._fork(fds)
        elif kind == wire.SSH and fds:
            with contextlib.suppress(OSError):
                socket.send_fds(self._ssh_half(), [wire.LOCAL], fds)
        elif kind == wire.WARM:
            self._ssh_half()
        for fd in fds:
            os.close(fd)
        return bool(kind)

    def _fork(self, fds: list[int]) -> None:
        pid = os.fork()
        if pid:
            self._runners.add(pid)
            return
        try:
            self._become_child()
            runner.main(socket.socket(fileno=os.dup(fds[0])))
        except Exception:  # noqa: BLE001 - the last resort: say it and end, never fall back into the host's loop
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(0)

    def _ssh_half(self) -> socket.socket:
        """Return the socket of the process that has Fabric loaded: much memory, and many never need it."""
        if self._ssh is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            pid = os.fork()
            if pid == 0:
                try:
                    ours.close()
                    self._become_child()
                    gc.unfreeze()
                    import skstack.runner.ssh

                    skstack.runner.ssh.prepare()
                    Host(theirs).serve()
                finally:
                    os._exit(0)
            theirs.close()
            self._ssh, self._ssh_pid = ours, pid
        return self._ssh

    def _become_child(self) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        self._requests.close()
        os.close(self._wake)
        if self._ssh is not None:
            self._ssh.close()

    def _reap(self) -> None:
        killed = False
        with contextlib.suppress(ChildProcessError):
            for pid, status in processes.reap():
                killed |= pid in self._runners and os.WIFSIGNALED(status)
                self._runners.discard(pid)
                if pid == self._ssh_pid and self._ssh is not None:
                    self._ssh.close()
                    self._ssh = None
                    # Its runners go on, as children of this process now.
                    self._runners |= processes.children(os.getpid())
        if killed:
            self._end_orphans()

    def _end_orphans(self) -> None:
        """End what a killed runner left: children of this process that it did not fork itself."""
        until = time.monotonic() + 1
        while time.monotonic() < until:
            own = {*self._runners, self._ssh_pid}
            orphans = processes.children(os.getpid()) - own
            if not orphans:
                return
            for pid in orphans:
                processes.freeze_and_kill({pid, *processes.descendants(pid)})
            time.sleep(0.002)
            with contextlib.suppress(ChildProcessError):
                for pid, _ in processes.reap():
                    self._runners.discard(pid)


def _trim() -> None:
    """Give back to the system what the imports needed for a moment."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def main() -> None:
    """Serve the socket that is standard input."""
    requests = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    processes.set_name("skstack-host")
    os.chdir("/")
    Host(requests).serve()


if __name__ == "__main__":
    main()
