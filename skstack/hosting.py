"""The one runner host of this process: the way to everything that runs commands."""

from __future__ import annotations

import atexit
import threading

from skstack.runner.client import RunnerHost

_lock = threading.Lock()
_host: RunnerHost | None = None
_ours = False


def runner_host() -> RunnerHost:
    """Return the runner host. Made at the first call; its process is started at the first request to it.

    A fork keeps it: `RunnerHost` looks after that itself.
    """
    global _host, _ours
    with _lock:
        if _host is None:
            _host, _ours = RunnerHost(), True
            atexit.register(close)
        return _host


def set_runner_host(host: RunnerHost | None) -> None:
    """Use this host from now on, made and closed by the caller; None goes back to one of our own."""
    global _host, _ours
    close()
    with _lock:
        _host, _ours = host, False


def close() -> None:
    """Let go of the host if it is one of our own. Runs that it started go on."""
    global _host, _ours
    with _lock:
        if _host is not None and _ours:
            _host.close()
            _host, _ours = None, False
