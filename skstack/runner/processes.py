"""Processes as Linux shows them: who they are, who started them, and how to end all of them."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import time
from collections.abc import Iterable, Iterator

from skstack.runner.protocol import TOKEN_VARIABLE

_PR_SET_NAME = 15
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


@functools.cache
def boot_id() -> str:
    """Return the id of this boot of the host: a pid and its start time mean nothing after the next."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as f:
        return f.read().strip()


def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None if there is none of that pid."""
    stat = _stat(pid)
    return int(stat[19]) if stat else None


def is_running(pid: int, started: int) -> bool:
    """Tell whether the process that started then still runs. One that waits to be reaped does not."""
    stat = _stat(pid)
    return stat is not None and int(stat[19]) == started and stat[0] not in ("Z", "X")


def become_subreaper() -> None:
    """Inherit every process below this one whose own parent ends, however it tried to get away."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_name(name: str) -> None:
    """Show `name` (at most 15 bytes) in `ps -e` and `top`."""
    _prctl(_PR_SET_NAME, ctypes.create_string_buffer(name.encode()))


def hide_memory() -> None:
    """Keep other processes of the same user, and core files, away from what this one holds in memory."""
    _prctl(_PR_SET_DUMPABLE, 0)


def descendants(of: int) -> set[int]:
    """Return the pids below a process that still run."""
    children: dict[int, list[int]] = {}
    for pid in _pids():
        stat = _stat(pid)
        if stat and stat[0] not in ("Z", "X"):
            children.setdefault(int(stat[1]), []).append(pid)
    found: set[int] = set()
    waiting = [of]
    while waiting:
        below = children.get(waiting.pop(), ())
        found.update(below)
        waiting.extend(below)
    return found


def children(of: int) -> set[int]:
    """Return the pids whose parent is this process, those that wait to be reaped left out."""
    return {
        pid for pid in _pids() if (stat := _stat(pid)) and int(stat[1]) == of and stat[0] not in ("Z", "X")
    }


def marked(token: str) -> set[int]:
    """Return the pids of this host's processes that carry a run's token, wherever they stand now.

    Finds what no runner and no host is there to find any more. Sees processes of the same user; all for root.
    """
    mark = f"{TOKEN_VARIABLE}={token}".encode()
    found = set()
    for pid in _pids():
        try:
            with open(f"/proc/{pid}/environ", "rb") as f:
                if mark in f.read().split(b"\0"):
                    found.add(pid)
        except OSError:
            continue
    return found - {os.getpid()}


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to each; those that are gone or belong to another user are passed over."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def reap() -> Iterator[tuple[int, int]]:
    """Give the pid and wait status of children that ended. Raises ChildProcessError if there are none."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        yield pid, status


def freeze_and_kill(find: Iterable[int]) -> None:
    """Stop them all before killing them, so that none can start another in between."""
    pids = list(find)
    send(pids, signal.SIGSTOP)
    send(pids, signal.SIGKILL)


def end_marked(token: str, *, within: float = 2.0) -> int:
    """Kill what still runs here of a run whose runner is gone. Returns how many could not be ended."""
    until = time.monotonic() + within
    while pids := marked(token):
        freeze_and_kill(pids)
        if time.monotonic() > until:
            return len(pids)
        time.sleep(0.005)
    return 0


def _prctl(option: int, argument: object) -> None:
    if _libc.prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the state on: the name before them may hold anything."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            return f.read().rpartition(b")")[2].decode().split()
    except OSError:
        return None
