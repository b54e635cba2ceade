"""Rows 1 to 5: from a submission to its output, over HTTP, beside the floor program."""

from __future__ import annotations

import asyncio
import hashlib
import html
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.bench.client import AsyncClient, Client, Clock, percentile
from tests.bench.table import Results
from tests.server import ROOT, Server, _free_port

CATALOG = """
environments: [{name: BENCH}]
categories: [{name: Bench}]
groups: [{name: bench}]
work_orders:
  - {name: trivial, environment: BENCH, category: Bench, submit_groups: [bench], active: true, main_task: "echo started"}
  - name: lines
    environment: BENCH
    category: Bench
    submit_groups: [bench]
    active: true
    main_task: "sleep 4; for i in $(seq 12); do printf '%s\\\\n' \\"$EPOCHREALTIME\\"; sleep 1; done"
  - name: many-lines
    environment: BENCH
    category: Bench
    submit_groups: [bench]
    active: true
    main_task: "sleep 4; for i in $(seq 30); do printf '%s\\\\n' \\"$EPOCHREALTIME\\"; sleep 0.1; done"
  - {name: much, environment: BENCH, category: Bench, submit_groups: [bench], active: true, main_task: "MUCH"}
"""
MUCH = "yes 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456 | head -n 1000000"


@contextmanager
def floor_server() -> Iterator[int]:
    """Run the floor program and give its port."""
    port = _free_port()
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.floor", str(port)], cwd=ROOT)
    try:
        for _ in range(200):
            try:
                Client(port, {}).ask("POST", "/runs", b"true")
                break
            except OSError:
                time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait()


def _begin(client: Client, line: str) -> dict[str, int]:
    """Let the floor program start a command."""
    _, _, content = client.ask("POST", "/runs", line.encode())
    made: dict[str, int] = json.loads(content)
    return made


def memory(server: Server) -> float:
    """Return the proportional set size of everything the server started, in MB."""
    return sum(process.memory_full_info().pss for process in server.tree("serve")) / 1e6


def cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def first_line(server: Server, results: Results, count: int = 60) -> None:
    """Row 1: submit over HTTP, first output line at a client."""
    workorder = server.workorder("trivial")
    client = Client(server.port, {"Authorization": f"Bearer {server.token}"})
    ours, floor = [], []
    with floor_server() as port:
        least = Client(port, {})
        for _ in range(count):
            clock = Clock()
            ticket = client.json("POST", f"/api/v1/workorders/{workorder}/tickets", {"values": {}})
            run = ticket["runs"][0]["id"]
            _, _, content = client.ask("GET", f"/api/v1/runs/{run}/log?offset=0&wait=20")
            ours.append(clock() * 1000)
            assert content == b"started\n", content
            clock = Clock()
            made = _begin(least, "echo started")
            least.ask("GET", f"/runs/{made['id']}?offset=0")
            floor.append(clock() * 1000)
            time.sleep(0.1)
    results.add(
        "1", "submit → first line, p50", percentile(ours, 0.5), "ms", floor=percentile(floor, 0.5), target=25
    )
    results.add(
        "1",
        "submit → first line, p95",
        percentile(ours, 0.95),
        "ms",
        floor=percentile(floor, 0.95),
        target=45,
    )


# The first line comes when all watchers are there: that a hundred arrive at once is not what is measured.
# Work order, pause between two lines and their number. A command that says something every second is the ordinary case, and
# what the targets are for; ten lines a second show what happens when a hundred people watch one that talks a lot.
_RATES = (("lines", 1.0, 12, True), ("many-lines", 0.1, 30, False))


def watchers(server: Server, results: Results, cookie: str) -> None:
    """Row 2: a line printed, at 1, 20 and 100 watchers: by the log API, and by the page's fragment."""
    for order, pause, lines, has_target in _RATES:
        rate = f"{1 / pause:g} lines/s"
        for count, target in ((1, 20), (20, 25), (100, 30)):
            with floor_server() as port:
                floor = asyncio.run(_watch_floor(port, count, pause, lines))
            for kind in ("API", "fragment"):
                watched = _watch(server, order, count, cookie, fragment=kind == "fragment")
                seen, pages, load = asyncio.run(watched)
                results.add(
                    "2",
                    f"{rate} → {count} watchers by {kind}, p95",
                    percentile(seen, 0.95),
                    "ms",
                    floor=percentile(floor, 0.95),
                    target=target if has_target else None,
                )
                if count == 100:
                    cpu, page = (6, 30) if has_target else (None, None)
                    results.add(
                        "2", f"{rate}: CPU of the web, 100 by {kind}", load, "% of a core", target=cpu
                    )
                    results.add(
                        "2",
                        f"{rate}: page meanwhile, {kind}, p95",
                        percentile(pages, 0.95),
                        "ms",
                        target=page,
                    )


async def _watch(
    server: Server, order: str, count: int, cookie: str, *, fragment: bool
) -> tuple[list[float], list[float], float]:
    bearer = {"Authorization": f"Bearer {server.token}"}
    headers = {"Cookie": cookie, "HX-Request": "true"} if fragment else bearer
    ticket = await asyncio.to_thread(server.submit, order)
    run = ticket["runs"][0]["id"]
    late: list[float] = []
    pages: list[float] = []
    web = [process for process in server.tree("serve") if _is_web(server, process)]
    stop = asyncio.Event()

    async def page() -> None:
        client = AsyncClient(server.port, {"Cookie": cookie})
        while not stop.is_set():
            clock = Clock()
            status, _, _ = await client.get("/tickets")
            assert status == 200
            pages.append(clock() * 1000)
            await asyncio.sleep(0.25)
        client.close()

    follow = _follow_fragments if fragment else _follow_api
    turning = asyncio.create_task(page()) if count == 100 else None
    before, clock = cpu_seconds(web), Clock()
    await asyncio.gather(*(follow(AsyncClient(server.port, headers), run, late) for _ in range(count)))
    load = 100 * (cpu_seconds(web) - before) / clock()
    stop.set()
    if turning:
        await turning
    return late, pages, load


async def _follow_api(client: AsyncClient, run: int, late: list[float]) -> None:
    offset, final, rest = 0, False, b""
    while not final:
        _, headers, content = await client.get(f"/api/v1/runs/{run}/log?offset={offset}&wait=20")
        rest = _lateness(rest + content, late)
        offset, final = int(headers["x-log-next-offset"]), headers["x-run-final"] == "1"
    client.close()


async def _follow_fragments(client: AsyncClient, run: int, late: list[float]) -> None:
    _, _, content = await client.get(f"/runs/{run}")
    while found := re.search(rb'id="log-poller"[^>]*hx-get="([^"]+)"', content):
        _, _, content = await client.get(html.unescape(found[1].decode()))
        now = time.time()
        late.extend((now - float(stamp)) * 1000 for stamp in re.findall(rb">(\d{10}\.\d{6})<", content))
    client.close()


async def _watch_floor(port: int, count: int, pause: float, lines: int) -> list[float]:
    made = _begin(
        Client(port, {}), f"sleep 2; for i in $(seq {lines}); do echo $EPOCHREALTIME; sleep {pause}; done"
    )
    late: list[float] = []

    async def follow() -> None:
        client, offset, final, rest = AsyncClient(port, {}), 0, False, b""
        while not final:
            _, headers, content = await client.get(f"/runs/{made['id']}?offset={offset}")
            rest = _lateness(rest + content, late)
            offset, final = offset + len(content), headers["x-final"] == "1"
        client.close()

    await asyncio.gather(*(follow() for _ in range(count)))
    return late


def _lateness(content: bytes, late: list[float]) -> bytes:
    now = time.time()
    *lines, rest = content.split(b"\n")
    late.extend((now - float(line)) * 1000 for line in lines)
    return rest


def _is_web(server: Server, process: psutil.Process) -> bool:
    """Say whether a process listens on the server's port; the web's parent does nothing but wait for it."""
    return any(
        c.laddr.port == server.port for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN
    )


def much_output(server: Server, results: Results) -> None:
    """Row 3: 100 MB in 1,000,000 lines."""
    client = Client(server.port, {"Authorization": f"Bearer {server.token}"})
    workorder = server.workorder("much")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "out"
        floors = []
        for _ in range(3):
            clock = Clock()
            subprocess.run(["bash", "-c", f"{MUCH} > {file}"], check=True)
            floors.append(clock())
        wanted = hashlib.sha256(file.read_bytes()).hexdigest()
    floor = percentile(floors, 0.5)
    before = memory(server)
    peak = _Peak(server)
    ended, live = [], []
    for _ in range(3):
        clock = Clock()
        ticket = client.json("POST", f"/api/v1/workorders/{workorder}/tickets", {"values": {}})
        run = ticket["runs"][0]["id"]
        ended.append(_ended(client, ticket["id"], clock))
    for _ in range(3):
        clock = Clock()
        ticket = client.json("POST", f"/api/v1/workorders/{workorder}/tickets", {"values": {}})
        run = ticket["runs"][0]["id"]
        digest, offset, final = hashlib.sha256(), 0, False
        while not final:
            _, headers, content = client.ask("GET", f"/api/v1/runs/{run}/log?offset={offset}&wait=20")
            digest.update(content)
            offset, final = int(headers["x-log-next-offset"]), headers["x-run-final"] == "1"
        live.append(clock())
        assert digest.hexdigest() == wanted, "the output is not what was printed"
    results.add("3", "100 MB to its end", percentile(ended, 0.5), "s", floor=floor, target=2, on_ratio=True)
    results.add(
        "3",
        "100 MB until a live client has it",
        percentile(live, 0.5),
        "s",
        floor=floor,
        target=4,
        on_ratio=True,
    )
    results.add("3", "growth of all processes meanwhile", peak.end() - before, "MB", target=20)


def _ended(client: Client, ticket: int, clock: Clock) -> float:
    while client.json("GET", f"/api/v1/tickets/{ticket}")["finished_at"] is None:
        time.sleep(0.005)
    return clock()


class _Peak:
    """Looks at the memory of all processes while something goes on."""

    def __init__(self, server: Server) -> None:
        self._server, self._most, self._stop = server, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(0.2):
            try:
                self._most = max(self._most, memory(self._server))
            except psutil.Error:
                continue

    def end(self) -> float:
        self._stop.set()
        self._thread.join()
        return self._most


def many_jobs(server: Server, results: Results, jobs: int = 500, submitters: int = 8) -> None:
    """Row 4: trivial jobs through the API, to their end."""
    workorder = server.workorder("trivial")
    with floor_server() as port:
        clock = Clock()
        _share(jobs, submitters, lambda: _floor_job(port))
        floor = jobs / clock()
    clock = Clock()
    last = _share(jobs, submitters, lambda: _submitter(server, workorder))
    client = Client(server.port, {"Authorization": f"Bearer {server.token}"})
    while client.json("GET", "/api/v1/tickets?scope=mine&status=running&limit=1")["items"]:
        time.sleep(0.005)
    rate = jobs / clock()
    assert all(client.json("GET", f"/api/v1/tickets/{ticket}")["status"] == "succeeded" for ticket in last)
    results.add(
        "4",
        f"{jobs} jobs, {submitters} submitters, to their end",
        rate,
        "jobs/s",
        floor=floor,
        target=100,
        at_least=True,
    )


def _submitter(server: Server, workorder: int) -> Any:
    client = Client(server.port, {"Authorization": f"Bearer {server.token}"})
    return lambda: client.json("POST", f"/api/v1/workorders/{workorder}/tickets", {"values": {}})["id"]


def _floor_job(port: int) -> Any:
    client = Client(port, {})

    def run() -> int:
        made = _begin(client, "echo started")
        final = False
        offset = 0
        while not final:
            _, headers, content = client.ask("GET", f"/runs/{made['id']}?offset={offset}")
            offset, final = offset + len(content), headers["x-final"] == "1"
        return int(made["id"])

    return run


def _share(jobs: int, submitters: int, make: Any) -> list[int]:
    """Let `submitters` threads do `jobs` jobs, and return the last result of each."""
    last: list[int] = [0] * submitters

    def work(index: int) -> None:
        do = make()
        for _ in range(jobs // submitters + (index < jobs % submitters)):
            last[index] = do()

    threads = [threading.Thread(target=work, args=(index,)) for index in range(submitters)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return last


def idle(
    server: Server, results: Results, when: str, before: float | None = None, seconds: float = 10
) -> float:
    """Row 5: memory and CPU when nothing happens. Returns the memory."""
    time.sleep(3)
    processes = server.tree("serve")
    used, clock = cpu_seconds(processes), Clock()
    time.sleep(seconds)
    load = 100 * (cpu_seconds(processes) - used) / clock()
    now = memory(server)
    if before is None:
        results.add("5", f"{when}: PSS of all processes", now, "MB", target=120)
    else:
        results.add("5", f"{when}: PSS of all processes", now, "MB", floor=before, target=1.2, on_ratio=True)
    results.add("5", f"{when}: CPU", load, "% of a core", target=0.3)
    return now
