"""Starting and stopping processes: web, worker, or both under one parent."""

from __future__ import annotations

import ctypes
import errno
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from flask import Flask

from skstack import hosting, worker
from skstack.audit import verifying
from skstack.backups.restoring import check_finished
from skstack.config import ConfigError, Settings
from skstack.db import db

log = logging.getLogger("skstack")

# Seconds that a web server that is just ending gets to leave the address.
ADDRESS_WITHIN = 5.0

# Seconds that web and worker get to end after SIGTERM, and between two tries to start one that failed.
STOP_WITHIN = 15.0
RESTART_AFTER = 1.0

_PR_SET_PDEATHSIG = 1
_M_ARENA_MAX, _ARENAS = -8, 2


def configure_logging() -> None:
    """Write what happens to standard error, one line each. Libraries speak only of what needs attention."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for name in ("huey", "paramiko", "fabric", "alembic", "granian.access"):
        logging.getLogger(name).setLevel(logging.WARNING)


def serve(app: Flask, announce: Callable[[], None] = lambda: None) -> int:
    """Run web and worker until SIGTERM or SIGINT, and return the exit status. One that dies is started again.

    `announce` is called once nothing is in the way. This, `web` and `work` raise Conflict for an instance whose restore
    was not finished, KeysUnusable and ConfigError.
    """
    configure_logging()
    _check(app)
    address = _wait_for_address(app.config["SKSTACK"])
    announce()
    hosting.runner_host().start()  # Before the forks: both use the same one.
    gc.collect()
    gc.freeze()
    children = _Children({"worker": lambda: worker.run(app), "web": lambda: _web(app, address)})
    return children.run()


def web(app: Flask, announce: Callable[[], None] = lambda: None) -> int:
    """Run the web server alone until SIGTERM."""
    configure_logging()
    _check(app)
    address = _wait_for_address(app.config["SKSTACK"])
    announce()
    return _web(app, address)


def work(app: Flask) -> int:
    """Run the worker alone until SIGTERM."""
    configure_logging()
    _check(app)
    return worker.run(app)


def _check(app: Flask) -> None:
    """Raise what keeps an instance from being started, and leave no connection behind for processes that are forked."""
    _keep_memory_together()
    check_finished(app.config["SKSTACK"])
    with app.app_context():
        verifying.check_keys()
        db.engine.dispose()


def _keep_memory_together() -> None:
    """Let all threads get their memory from the same few places.

    Else glibc gives them up to eight a core, each of which keeps what its threads once needed: a web server with a hundred
    threads then holds half as much again. See mallopt(3); where there is no such function, this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)


def _wait_for_address(settings: Settings) -> str:
    """Return the IP address to listen on. Raises ConfigError if that is not possible.

    The web server itself would share it with another one: requests would then go to either, unpredictably.
    """
    deadline = time.monotonic() + ADDRESS_WITHIN
    while True:
        try:
            return _try_address(*settings.host_and_port)
        except OSError as err:
            if time.monotonic() > deadline or err.errno != errno.EADDRINUSE:
                raise ConfigError(
                    f"{settings.bind} cannot be listened on: {err.strerror}. SKSTACK_BIND chooses another address"
                ) from err
            time.sleep(0.1)


def _try_address(host: str, port: int) -> str:
    """Return the first address of a host that can be listened on; raise OSError if there is none, or one is taken."""
    reason = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as err:
                if err.errno == errno.EADDRINUSE:
                    raise
                reason = err
            else:
                return str(address[0])
    raise reason


def _web(app: Flask, address: str) -> int:
    from granian.constants import Interfaces
    from granian.log import LogLevels
    from granian.server import Server

    settings: Settings = app.config["SKSTACK"]
    os.register_at_fork(after_in_child=_end_with_parent)  # Granian's own children.
    server = Server(
        "app:app",
        address=address,
        port=settings.host_and_port[1],
        interface=Interfaces.WSGI,
        blocking_threads=settings.web_threads,
        backpressure=max(settings.web_threads * 4, 512),
        log_level=LogLevels.error,  # Its one warning is about the many threads, which are meant.
        process_name=None,
    )
    server.serve(target_loader=lambda *_: app, wrap_loader=False)
    return 0


def _end_with_parent() -> None:
    """Get a SIGTERM when the parent ends, however it does: else a killed one would leave a web and a worker behind.

    The next start would then run beside them, and after an upgrade the old code would go on answering. See prctl(2).
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


class _Children:
    """The processes of `serve`: forked, watched, started again, and ended together."""

    def __init__(self, mains: dict[str, Callable[[], int]]) -> None:
        self._mains = mains
        self._pids: dict[int, str] = {}
        self._stopping = False

    def run(self) -> int:
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        for name in self._mains:
            self._start(name)
        while self._pids and not self._stopping:
            self._reap_one()
        return self._end_all()

    def _start(self, name: str) -> None:
        pid = os.fork()
        if pid:
            self._pids[pid] = name
            return
        status = 1
        try:
            _end_with_parent()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            status = self._mains[name]()
        except BaseException:
            log.exception("%s failed", name)
        finally:
            logging.shutdown()
            sys.stdout.flush()
            os._exit(status)

    def _reap_one(self) -> None:
        try:
            pid, status = os.wait()
        except InterruptedError:
            return
        except ChildProcessError:
            return
        name = self._pids.pop(pid, None)
        if name is None or self._stopping:
            return
        log.error("%s ended with status %s and is started again", name, os.waitstatus_to_exitcode(status))
        time.sleep(RESTART_AFTER)
        if not self._stopping:
            self._start(name)

    def _stop(self, number: int, frame: Any) -> None:
        self._stopping = True
        for pid in self._pids:
            os.kill(pid, signal.SIGTERM)

    def _end_all(self) -> int:
        deadline = time.monotonic() + STOP_WITHIN
        while self._pids and time.monotonic() < deadline:
            pid, _status = os.waitpid(-1, os.WNOHANG)
            if pid:
                self._pids.pop(pid, None)
            else:
                time.sleep(0.02)
        for pid in self._pids:
            log.error("%s did not end in %s s and is killed", self._pids[pid], STOP_WITHIN)
            os.kill(pid, signal.SIGKILL)
        hosting.close()
        return 0
