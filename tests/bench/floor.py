"""The floor of rows 1, 2 and 4: the least program that starts a command over HTTP and streams what it prints.

    POST /runs           the body is a shell line; answers {"id": N} once the command is started
    GET /runs/N?offset=  the output from `offset`, waiting until there is some; `X-Final: 1` after the last byte

Nothing is stored, checked or remembered. Run as `python -m tests.bench.floor PORT`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass, field


@dataclass
class Run:
    output: bytearray = field(default_factory=bytearray)
    final: bool = False
    grown: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        self.grown.set()
        self.grown = asyncio.Event()


RUNS: list[Run] = []


async def start(line: str) -> int:
    process = await asyncio.create_subprocess_exec(
        "bash",
        "--noprofile",
        "--norc",
        "-c",
        line,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    run = Run()
    RUNS.append(run)
    number = len(RUNS) - 1
    run.task = asyncio.create_task(follow(process, run))  # type: ignore[attr-defined]
    return number


async def follow(process: asyncio.subprocess.Process, run: Run) -> None:
    assert process.stdout is not None
    while piece := await process.stdout.read(1 << 16):
        run.output += piece
        run.wake()
    await process.wait()
    run.final = True
    run.wake()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
            length = 0
            for line in head.decode("latin-1").split("\r\n")[1:]:
                name, _, value = line.partition(":")
                if name.lower() == "content-length":
                    length = int(value)
            body = await reader.readexactly(length) if length else b""
            extra = ""
            if method == "POST":
                content = json.dumps({"id": await start(body.decode())}).encode()
            else:
                path, _, query = target.partition("?offset=")
                run, offset = RUNS[int(path.rsplit("/", 1)[1])], int(query or 0)
                while len(run.output) <= offset and not run.final:
                    await run.grown.wait()
                content = bytes(run.output[offset : offset + (1 << 20)])
                final = run.final and offset + len(content) == len(run.output)
                extra = f"X-Final: {int(final)}\r\n"
            writer.write(
                f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n{extra}\r\n".encode() + content
            )
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main(port: int) -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", port, limit=1 << 20)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
