"""Faults 15, 16 and 17: very much output, output that is not text, output without a newline."""

from __future__ import annotations

import contextlib
import hashlib
import html
import re
import threading
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from tests.faults.instances import START, WAIT, Instance, Person, until, visible_text

MB = 1_000_000
ALLOWED_GROWTH = 20 * MB
SOON = 1.0

ONE_LINE = "head -c 100000000 /dev/zero | tr '\\0' x"
MANY_LINES = f"yes {'0123456789' * 10} | head -c 100000000"  # 990,099 lines
CAP = 1 << 20
COMMANDS = {"bash", "head", "tr", "yes", "sleep"}

HOSTILE = (
    b"<script>alert(1)</script><img src=x onerror=alert(1)>&amp;</div></pre>\n"
    b"\x1b[31mred\x1b[0m \x1b[1;44mbold on blue\x1b[m \x1b[2Jcleared \x1b]0;title\x07 \x1b]8;;javascript:alert(1)\x1b\\link\n"
    b"10%\r50%\r100%\r\n"
    b"moved\r<script>alert(2)</script>\x08\n"
    b"invalid \xff\xfe\x80 utf-8 \xc3( \xed\xa0\x80\n"
    b"nul \x00 bell \x07 backspace x\x08y c1 \xc2\x9b31m\n"
    b"\xe4\xb8\xad\xe6\x96\x87 \xf0\x9f\x98\x80 e\xcc\x81 \xe2\x80\xaereversed\n"
) + bytes(range(256)) * 64


@contextlib.contextmanager
def watched_memory(instance: Instance) -> Iterator[Callable[[], dict[str, float]]]:
    """Look at the memory of all processes meanwhile; what is given returns the growth of each kind, in bytes."""
    first, most, stop = _memory(instance), dict[str, int](), threading.Event()

    def look() -> None:
        while not stop.wait(0.1):
            for name, size in _memory(instance).items():
                most[name] = max(most.get(name, 0), size)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        # A runner begins with the run: what it has more than the small one that it is forked from counts.
        yield lambda: {name: size - first.get(name, first["skstack-host"]) for name, size in most.items()}
    finally:
        stop.set()
        thread.join()


def _memory(instance: Instance) -> dict[str, int]:
    """Return what belongs to each of skstack's processes alone, by name, and to all together in proportion."""
    found: dict[str, int] = {"all": 0}
    for process in {*instance.tree("serve"), *instance.runners()}:
        with contextlib.suppress(psutil.Error, OSError):
            name = process.name()
            if name not in COMMANDS:
                memory = process.memory_full_info()
                found["all"] += memory.pss
                found[name] = found.get(name, 0) + memory.uss
    return found


@pytest.mark.parametrize("command", [ONE_LINE, MANY_LINES], ids=["one line", "a million lines"])
def test_a_hundred_megabytes_leave_the_memory_flat_and_the_pages_quick(
    instance: Instance, command: str
) -> None:
    person = Person(instance)
    instance.write(main=f"{START}echo small")
    warm = instance.wait_for_end(instance.submit("script"))
    for path in ("/tickets", f"/runs/{warm['id']}", f"/runs/{warm['id']}/output.txt"):
        person.page(path)
    instance.write(main=f"{START}echo begun\n{WAIT}{command}")
    ticket = instance.submit("script")
    number = ticket["runs"][0]["id"]
    instance.wait_for_output(number, b"begun\n")
    pages: list[float] = []
    with watched_memory(instance) as growth:
        instance.go()
        watcher = threading.Thread(target=lambda: sum(len(page) for page in person.fragments(number)))
        watcher.start()
        digest, offset, final = hashlib.sha256(), 0, False
        while not final:
            piece = instance.log_from(number, offset, wait=10)
            digest.update(piece.content)
            offset, final = int(piece.headers["X-Log-Next-Offset"]), piece.headers["X-Run-Final"] == "1"
            if len(pages) < 40:
                began = time.monotonic()
                person_page = person.get("/tickets")
                pages.append(time.monotonic() - began)
                assert person_page.status == 200
        watcher.join(timeout=20)
        assert not watcher.is_alive()
        began = time.monotonic()
        page = person.page(f"/runs/{number}")
        opened_in = time.monotonic() - began
        grown = growth()
    run = instance.run(number)
    printed = len(b"begun\n") + 100_000_000
    assert (run["output_bytes"], run["stored_bytes"], offset) == (printed, printed, printed)
    expected = hashlib.sha256(b"begun\n")
    piece_ = b"x" * MB if command == ONE_LINE else b"0123456789" * 10 + b"\n"
    whole, rest = divmod(100_000_000, len(piece_))
    for _ in range(whole // 100):
        expected.update(piece_ * 100)
    expected.update(piece_ * (whole % 100) + piece_[:rest])
    assert digest.hexdigest() == expected.hexdigest()
    assert all(size <= ALLOWED_GROWTH for size in grown.values()), grown
    assert sorted(pages)[len(pages) // 2] < SOON
    assert opened_in < 2 * SOON
    assert len(page) < 2 * MB, "the page must hold the end of the output, not all of it"


def test_what_is_over_the_output_limit_is_drained_and_marked(make_instance: Callable[..., Instance]) -> None:
    instance = make_instance(output_limit=CAP).start("serve")
    instance.write(main=f"{START}echo begun\n{MANY_LINES}\nsleep 0.1; echo end >> $BOX/ended; exit 7")
    run = instance.wait_for_end(instance.submit("script"))
    assert (run["status"], run["exit_code"]) == ("failed", 7), "the command must reach its own end"
    assert instance.noted("ended") == ["end"]
    assert (run["stored_bytes"], run["output_bytes"]) == (CAP, 100_000_006)
    stored = instance.output(run["id"])
    assert len(stored) == CAP
    assert stored == (b"begun\n" + (b"0123456789" * 10 + b"\n") * (CAP // 101 + 1))[:CAP]
    for path in (f"/runs/{run['id']}", f"/tickets/{run['ticket']}"):
        assert "cut off after 1.0 MiB" in visible_text(Person(instance).page(path)), path


def test_output_that_is_not_text_is_shown_safely_and_downloaded_byte_for_byte(instance: Instance) -> None:
    (instance.box / "bytes").write_bytes(HOSTILE)
    instance.write(main=f'echo begun\n{WAIT}cat "$BOX/bytes"')
    ticket = instance.submit("script")
    number = ticket["runs"][0]["id"]
    instance.wait_for_output(number, b"begun\n")
    person = Person(instance)
    pages: list[str] = []
    watcher = threading.Thread(target=lambda: pages.extend(person.fragments(number)))
    watcher.start()
    until(lambda: pages, "the page does not come", instance)
    instance.go()
    instance.wait_for_end(ticket)
    watcher.join(timeout=10)
    assert not watcher.is_alive()
    pages.append(person.page(f"/tickets/{ticket['id']}"))
    for page in pages:
        for dangerous in (
            "<script>alert",
            "<img src=x",
            "\x1b",
            "\x00",
            "\x07",
            "\x08",
            'javascript:alert(1)"',
        ):
            assert dangerous not in page, repr(dangerous)
        assert not re.search(r"<a [^>]*javascript:", page)
    shown = pages[-1]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert re.search(r'<[^>]*class="[^"]*a-fg1[^0-9][^>]*>red<', shown), "colours are shown as colours"
    lines = [
        html.unescape(re.sub(r"<[^>]*>", "", line))
        for line in re.findall(r'<div class="l"[^>]*>(.*?)</div>', shown)
    ]
    assert any(line.endswith("100%") and "50%" not in line for line in lines), (
        "a progress bar shows its last state"
    )
    assert any("中文 😀" in line for line in lines)
    whole = b"begun\n" + HOSTILE
    assert person.get(f"/runs/{number}/output.txt").content == whole
    assert instance.output(number) == whole
    download = person.get(f"/runs/{number}/output.txt")
    assert download.headers["X-Content-Type-Options"] == "nosniff"
    assert download.headers["Content-Disposition"].startswith("attachment")


def test_a_character_that_comes_in_two_pieces_is_shown_whole(instance: Instance) -> None:
    instance.write(main=f"printf '\\xe4\\xb8'\n{WAIT}printf '\\xad\\n'")
    ticket = instance.submit("script")
    number = ticket["runs"][0]["id"]
    instance.wait_for_output(number, b"\xe4\xb8")
    person = Person(instance)
    pages: list[str] = []
    watcher = threading.Thread(target=lambda: pages.extend(person.fragments(number)))
    watcher.start()
    until(lambda: pages, "the page does not come", instance)
    instance.go()
    instance.wait_for_end(ticket)
    watcher.join(timeout=10)
    assert not watcher.is_alive()
    shown = [re.findall(r'<div class="l"[^>]*>.*?<span>(.*?)</span></div>', page) for page in pages]
    assert not any("中" in line for line in shown[0])
    assert ["中"] in shown[1:], shown
    assert instance.log_from(number).content == "中\n".encode()
    assert instance.output(number) == "中\n".encode()


@pytest.mark.parametrize("by", ["API", "page"])
def test_what_is_printed_without_a_newline_is_seen_within_a_second(instance: Instance, by: str) -> None:
    instance.write(main="for i in 1 2 3 4 5; do printf '<%s>' \"$EPOCHREALTIME\"; sleep 0.5; done")
    ticket = instance.submit("script")
    number = ticket["runs"][0]["id"]
    seen: dict[str, float] = {}

    def note(text: str) -> None:
        for stamp in re.findall(r"<(\d{10}\.\d{6})>", html.unescape(text)):
            seen.setdefault(stamp, time.time())

    if by == "API":
        whole, offset, final = "", 0, False
        while not final:
            piece = instance.log_from(number, offset, wait=10)
            whole += piece.content.decode()
            note(whole)
            offset, final = int(piece.headers["X-Log-Next-Offset"]), piece.headers["X-Run-Final"] == "1"
    else:
        for page in Person(instance).fragments(number):
            note(page)
    assert len(seen) == 5
    late = sorted(at - float(stamp) for stamp, at in seen.items())
    # The first may have come before the page was asked for.
    assert late[:-1][-1] < SOON if by == "page" else late[-1] < SOON, late
