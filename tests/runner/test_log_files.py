"""Log files of plugins, here and over a real SFTP server: found by suffix, never outside of the directory."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skstack.runner import connection
from skstack.runner.log_files import (
    MOST_FILES,
    MOST_READ,
    LocalLogDirectory,
    LogDirectory,
)
from skstack.runner.log_protocol import LogFile
from skstack.runner.remote_logs import SftpLogDirectory
from skstack.runner.watch import RefusedError
from tests.sshd import Sshd

SUFFIX = "site.20260102.030405"

Open = Callable[[Path], LogDirectory]


@pytest.fixture(params=["local", "sftp"])
def open_directory(request: pytest.FixtureRequest) -> Iterator[Open]:
    """The same directory, read directly and over SFTP."""
    if request.param == "local":
        yield lambda path: LocalLogDirectory(str(path))
        return
    sshd: Sshd = request.getfixturevalue("sshd")
    with connection.connect(sshd.target(), timeout=10) as opened, opened.sftp() as sftp:
        yield lambda path: SftpLogDirectory(sftp, str(path))


def _write(file: Path, content: bytes = b"x", *, at: int = 1_000) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    os.utime(file, (at, at))


def _entry(name: str, *, in_backup: bool = False) -> LogFile:
    return LogFile(name=name, in_backup=in_backup, size=0, modified=0)


def test_all_that_end_in_the_suffix_are_found_newest_first(open_directory: Open, tmp_path: Path) -> None:
    _write(tmp_path / f"a.{SUFFIX}", b"old", at=1_000)
    _write(tmp_path / "bak" / f"b.{SUFFIX}", b"middle", at=2_000)
    _write(tmp_path / f"c.{SUFFIX}", b"newest", at=3_000)
    _write(tmp_path / f"d.{SUFFIX}.gz")
    _write(tmp_path / "other" / f"e.{SUFFIX}")
    logs = open_directory(tmp_path)
    found = logs.find(SUFFIX)
    assert [(f.name[0], f.in_backup, f.size) for f in found] == [
        ("c", False, 6),
        ("b", True, 6),
        ("a", False, 3),
    ]
    assert [logs.read(f, offset=1, size=3) for f in found] == [b"ewe", b"idd", b"ld"]


def test_nothing_there_is_no_error(open_directory: Open, tmp_path: Path) -> None:
    assert open_directory(tmp_path).find(SUFFIX) == []
    assert open_directory(tmp_path / "none").find(SUFFIX) == []


def test_links_and_what_is_no_file_are_passed_over_and_never_read(
    open_directory: Open, tmp_path: Path
) -> None:
    secret = tmp_path / "outside" / f"secret.{SUFFIX}"
    _write(secret, b"secret")
    directory = tmp_path / "logs"
    directory.mkdir()
    (directory / f"link.{SUFFIX}").symlink_to(secret)
    (directory / f"folder.{SUFFIX}").mkdir()
    os.mkfifo(directory / f"fifo.{SUFFIX}")
    (directory / "bak").symlink_to(secret.parent)
    logs = open_directory(directory)
    assert logs.find(SUFFIX) == []
    for entry in (
        *(_entry(f"{kind}.{SUFFIX}") for kind in ("link", "folder", "fifo", "missing")),
        _entry(secret.name, in_backup=True),
    ):
        with pytest.raises(RefusedError):
            logs.read(entry, offset=0, size=10)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", f"/etc/{SUFFIX}", f"bak/{SUFFIX}", "a\0b"])
def test_a_name_never_leaves_the_directory(open_directory: Open, tmp_path: Path, name: str) -> None:
    directory = tmp_path / "logs"
    for file in (tmp_path / "x", directory / "a", directory / "bak" / SUFFIX):
        file.parent.mkdir(exist_ok=True)
        _write(file)
    logs = open_directory(directory)
    with pytest.raises(RefusedError):
        logs.find(name)
    with pytest.raises(RefusedError):
        logs.read(_entry(name), offset=0, size=10)


@pytest.mark.parametrize("suffix", ["*", "a\nb", "[x]?", "$(id); '\""])
def test_odd_characters_stand_for_themselves(open_directory: Open, tmp_path: Path, suffix: str) -> None:
    _write(tmp_path / f"log.{suffix}", b"mine")
    _write(tmp_path / "log.x")
    logs = open_directory(tmp_path)
    (found,) = logs.find(suffix)
    assert (found.name, logs.read(found, offset=0, size=10)) == (f"log.{suffix}", b"mine")


def test_a_growing_file_is_read_on_from_an_offset(open_directory: Open, tmp_path: Path) -> None:
    file = tmp_path / SUFFIX
    _write(file, b"\xff\x00one\n")
    logs = open_directory(tmp_path)
    (found,) = logs.find(SUFFIX)
    assert logs.read(found, offset=0, size=100) == b"\xff\x00one\n"
    assert logs.read(found, offset=6, size=100) == b""
    with file.open("ab") as opened:
        opened.write(b"two\n")
    assert logs.read(found, offset=6, size=100) == b"two\n"


def test_a_large_file_takes_no_more_memory_than_one_reading(open_directory: Open, tmp_path: Path) -> None:
    file = tmp_path / SUFFIX
    _write(file)
    os.truncate(file, 5 << 30)
    logs = open_directory(tmp_path)
    (found,) = logs.find(SUFFIX)
    tracemalloc.start()
    try:
        piece = logs.read(found, offset=4 << 30, size=5 << 30)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (found.size, len(piece)) == (5 << 30, MOST_READ)
    assert peak < 8 * MOST_READ


def test_only_the_newest_of_many_are_offered(open_directory: Open, tmp_path: Path) -> None:
    for number in range(MOST_FILES + 5):
        _write(tmp_path / f"{number}.{SUFFIX}", at=1_000 + number)
    found = open_directory(tmp_path).find(SUFFIX)
    assert [f.modified for f in found] == [1_000 + n for n in range(MOST_FILES + 4, 4, -1)]


def test_a_relative_directory_is_refused() -> None:
    with pytest.raises(RefusedError, match="not an absolute path"):
        LocalLogDirectory("logs")
