"""Row 6: SSH through the runner, beside the OpenSSH client, both to the same server on this host."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from skstack.runner.client import RunnerHost, new_token
from skstack.runner.protocol import CaptureRequest, Outcome, Plan, PlanStep, SshTarget, Task
from tests.bench.client import Clock, percentile
from tests.bench.table import Results
from tests.sshd import Sshd

STEPS = 21
MUCH = "head -c 100000000 /dev/zero"


def measure(results: Results, folder: Path) -> None:
    """Connect and run, run on an open connection, and 100 MB of output."""
    directory = folder / "sshd"
    directory.mkdir()
    server = Sshd(directory)
    server.start()
    host = RunnerHost()
    try:
        host.start(ssh=True)
        target = server.target()
        options = _options(server)
        one = _median(lambda: _capture(host, target, 1))
        results.add(
            "6",
            "SSH: connect and run",
            one * 1000,
            "ms",
            floor=_median(lambda: _ssh(options, "true")) * 1000,
            target=80,
        )
        several = _median(lambda: _capture(host, target, STEPS))
        master = [
            *options,
            "-o",
            f"ControlPath={folder}/control",
            "-o",
            "ControlMaster=auto",
            "-o",
            "ControlPersist=60",
        ]
        _ssh(master, "true")
        floor = _median(lambda: _ssh(master, "true"))
        subprocess.run(["ssh", *master, "-O", "exit"], capture_output=True, check=False)
        results.add(
            "6",
            "SSH: run on an open connection",
            (several - one) / (STEPS - 1) * 1000,
            "ms",
            floor=floor * 1000,
            target=6,
        )
        rate = 100 / _median(lambda: _run(host, target, folder), 3)
        least = 100 / _median(lambda: _ssh(options, MUCH), 3)
        results.add(
            "6", "SSH: 100 MB of output", rate, "MB/s", floor=least, target=1, at_least=True, on_ratio=True
        )
    finally:
        host.close()
        server.stop()


def _median(do: object, count: int = 9) -> float:
    taken = []
    for _ in range(count):
        clock = Clock()
        do()  # type: ignore[operator]
        taken.append(clock())
    return percentile(taken, 0.5)


def _capture(host: RunnerHost, target: SshTarget, steps: int) -> None:
    planned = tuple(
        PlanStep(position=n, task=Task.MAIN, line="true", script="true") for n in range(1, steps + 1)
    )
    captured = host.capture(CaptureRequest(steps=planned, target=target, token=new_token(), time_limit=60))
    assert captured.outcome is Outcome.FINISHED, captured


def _run(host: RunnerHost, target: SshTarget, folder: Path) -> None:
    directory = folder / f"run-{new_token()}"
    directory.mkdir()
    step = PlanStep(position=1, task=Task.MAIN, line=MUCH, script=MUCH)
    plan = Plan(steps=(step,), target=target, token=new_token(), directory=str(directory), time_limit=120)
    process = host.launch(plan)
    assert process.wait(120)
    assert (directory / "output.log").stat().st_size == 100_000_000
    shutil.rmtree(directory)


def _options(server: Sshd) -> list[str]:
    known = server.directory / "known_hosts"
    known.write_text(f"[127.0.0.1]:{server.port} {server.host_key}\n")
    return [
        *("-F", "/dev/null", "-p", str(server.port), "-i", str(server.user_key_file), "-o", "BatchMode=yes"),
        *("-o", f"UserKnownHostsFile={known}", "-l", server.username, "127.0.0.1"),
    ]


def _ssh(options: list[str], command: str) -> None:
    with open("/dev/null", "wb") as nothing:
        subprocess.run(["ssh", *options, command], stdout=nothing, stdin=subprocess.DEVNULL, check=True)
