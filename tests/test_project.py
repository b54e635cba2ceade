"""The repository itself: its lock files, what may not stand in it, and the test suite's own rules."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parent.parent
LOCKS = {
    "requirements.lock": ["requirements.txt"],
    "requirements-dev.lock": ["requirements.txt", "requirements-dev.txt"],
}
PIN = re.compile(
    r"^(?P<pin>[a-z0-9][^\\]*==[^\\]+?) \\(?P<hashes>(?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?)+)$",
    re.MULTILINE,
)


def pins(lock: str) -> dict[str, str]:
    """Return the version of each package that this lock file gives this machine."""
    found = [Requirement(match["pin"]) for match in PIN.finditer((REPOSITORY / lock).read_text())]
    return {
        canonicalize_name(pin.name): next(iter(pin.specifier)).version
        for pin in found
        if pin.marker is None or pin.marker.evaluate()
    }


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return [file for name in listed.stdout.split("\0") if name and (file := REPOSITORY / name).is_file()]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_pins_everything_with_hashes(lock: str) -> None:
    text = (REPOSITORY / lock).read_text()
    left = [
        line for line in PIN.sub("", text).splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    assert left == [], "lines that are no pinned and hashed package"
    assert len(pins(lock)) > 30


@pytest.mark.parametrize(
    ("lock", "source"), [(lock, source) for lock, all_ in LOCKS.items() for source in all_]
)
def test_a_lock_file_is_as_fresh_as_what_it_pins(lock: str, source: str) -> None:
    pinned = pins(lock)
    lines = (REPOSITORY / source).read_text().splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith(("#", "-r"))]
    stale = [
        str(wish)
        for wish in wanted
        if not wish.specifier.contains(pinned.get(canonicalize_name(wish.name), "0.0.dev0"), prereleases=True)
    ]
    assert stale == [], "run `make lock`"


def test_both_lock_files_agree() -> None:
    running, testing = pins("requirements.lock"), pins("requirements-dev.lock")
    assert {name: testing.get(name) for name in running} == running


def test_what_is_installed_is_what_is_pinned() -> None:
    pinned = pins("requirements-dev.lock")
    assert {name: version(name) for name in pinned} == pinned


def test_no_address_of_a_registry_is_committed() -> None:
    """Each host has its own: here those of this one, and any at all in what installs."""
    hosts = configured_hosts()
    found = []
    for file in tracked_files():
        name = file.relative_to(REPOSITORY).as_posix()
        text = file.read_bytes().decode(errors="replace")
        if re.search(
            r"\.lock$|requirements[^/]*\.txt$|package(-lock)?\.json$|\.(cfg|ini|npmrc)$|^\.ci/", name
        ):
            found += [f"{name}: {url}" for url in re.findall(r"https?://\S+", text)]
        found += [f"{name}: {host}" for host in hosts if host in text]
    assert found == []


def configured_hosts() -> set[str]:
    asked = [[sys.executable, "-m", "pip", "config", "list"], ["npm", "config", "get", "registry"]]
    said = "\n".join(
        f"{name}={value}" for name, value in os.environ.items() if "INDEX" in name or "REGISTRY" in name
    )
    for command in asked:
        try:
            said += subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout
        except FileNotFoundError:
            continue
    hosts = set(re.findall(r"https?://(?:[^/@\s]*@)?([\w.-]+\.[a-z]{2,})", said))
    return hosts - {"localhost"}


def test_no_secret_and_nothing_written_at_run_time_is_committed() -> None:
    names = [file.relative_to(REPOSITORY).as_posix() for file in tracked_files()]
    wrong = [
        name
        for name in names
        if re.search(
            r"(^|/)(instance|node_modules|\.venv)/|\.(db|sqlite3?|pyc|log)$|(^|/)\.env$|id_(rsa|ed25519)$",
            name,
        )
    ]
    assert wrong == []


def test_every_skip_and_every_ignore_gives_its_reason() -> None:
    bare = re.compile(
        r"#\s*(?:noqa(?!:)|type:\s*ignore(?!\[)|pragma: no cover$)|mark\.skip\b(?!\()|mark\.skip(?:if)?\([^\"']*\)$"
    )
    found = [
        f"{file.relative_to(REPOSITORY)}:{number}"
        for file in tracked_files()
        if file.suffix == ".py" and file != Path(__file__)
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if bare.search(line)
    ]
    assert found == []


def test_make_has_every_command_that_people_rely_on() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in ("run", "test", "bench", "lint", "format", "lock", "translate", "clean"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


# --- the programs that the tests need

# As the real one: it installs all or, if it does not know one of them, nothing.
APT = """#!/usr/bin/env bash
case "${0##*/} $1" in
"apt-get update") : >"$FOLDER/updated" ;;
"apt-get install")
    for package in "${@:4}"; do
        grep -qx "$package" "$FOLDER/known" || { echo "E: Unable to locate package $package"; exit 100; }
    done
    echo "${@:4}" >"$FOLDER/installed" ;;
"apt-cache show")
    test -e "$FOLDER/updated" && grep -qx "$2" "$FOLDER/known" && echo "Package: $2" || echo "N: None found" >&2 ;;
"sudo -n") shift; exec "$@" ;;
esac
"""


@pytest.mark.parametrize(
    ("known", "chosen"),
    [
        (("chromium-headless-shell", "chromium"), "chromium-headless-shell"),
        (("chromium",), "chromium"),
        ((), None),
    ],
)
def test_one_package_that_is_not_known_keeps_no_other_from_being_installed(
    tmp_path: Path, known: tuple[str, ...], chosen: str | None
) -> None:
    others = ["git", "openssh-client", "openssh-server", "postgresql", "slapd", "libfaketime"]
    (tmp_path / "known").write_text("\n".join([*others, *known, ""]))
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("apt-get", "apt-cache", "sudo"):
        (programs / name).write_text(APT)
        (programs / name).chmod(0o755)
    for name in ("bash", "env", "grep", "mktemp", "rm", "tail"):
        (programs / name).symlink_to(shutil.which(name) or name)
    done = subprocess.run(
        [REPOSITORY / "tests" / "install-programs"],
        env={"PATH": str(programs), "FOLDER": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    installed = (tmp_path / "installed").read_text().split()
    # Where the others are is not a matter of PATH: they may be here already.
    assert {"git", "openssh-client"} <= set(installed) <= {*others, chosen}
    assert [name for name in installed if name.startswith("chromium")] == [chosen] * bool(chosen)
    assert ("does not know it: chromium" in done.stderr) is (chosen is None)


# --- strict mode

SKIPPING = """
import pytest

@pytest.mark.skip(reason="needs a thing that is not here")
def test_marked(): pass

def test_in_the_middle():
    pytest.skip("needs another thing")

@pytest.mark.xfail(reason="known", strict=True)
def test_known(): assert False

def test_works(): pass
"""


def run_pytest(folder: Path, source: str, *, strict: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(source)
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.strict",
            "-p",
            "no:cacheprovider",
            "-rs",
            "-q",
            "--rootdir",
            folder,
            folder,
        ],
        cwd=folder,
        env=os.environ | {"SKSTACK_TEST_STRICT": strict, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_skip_fails_in_strict_mode_and_says_why(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, SKIPPING, strict="1")
    assert result.returncode == 1
    assert "needs a thing that is not here" in result.stdout
    assert "needs another thing" in result.stdout
    assert result.stdout.rstrip().splitlines()[-1].startswith("1 failed, 1 passed, 1 xfailed, 1 error")


def test_a_module_that_skips_fails_in_strict_mode(tmp_path: Path) -> None:
    source = "import pytest\npytest.skip('not for this system', allow_module_level=True)"
    assert "not for this system" in (result := run_pytest(tmp_path, source, strict="1")).stdout
    assert result.returncode not in (0, 5)


def test_a_skip_is_told_and_passes_otherwise(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, SKIPPING, strict="")
    assert result.returncode == 0
    assert "needs a thing that is not here" in result.stdout
    assert "2 skipped" in result.stdout
