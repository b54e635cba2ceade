"""Secrets that a step prints do not reach its stored output, wherever it runs and however it prints them."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skstack.runner.masking import MASK, Masked, forms, start_of
from skstack.runner.protocol import LocalTarget, Outcome, Plan, Target
from tests.runner.conftest import Finished, Runs, wait_until
from tests.sshd import Sshd

SECRET = "tr0ub4dor-&-\"3'<x>-中"
PLAIN = "hunter2-hunter"

# Few letters, so that beginnings, ends and wholes of secrets meet everywhere.
words = st.text("ab'\\中", min_size=1, max_size=9)


def replaced(output: bytes, secrets: Sequence[bytes]) -> bytes:
    """Replace as a plain reading of the rule has it: from the left, the longest of those that begin there."""
    result, at = b"", 0
    while at < len(output):
        found = max((s for s in secrets if output.startswith(s, at)), key=len, default=b"")
        result += MASK if found else output[at : at + 1]
        at += len(found) or 1
    return result


def through(pieces: Sequence[bytes], secrets: tuple[bytes, ...]) -> Iterator[bytes]:
    """Give what has been passed on after each piece, and at the end."""
    passed = bytearray()
    masked = Masked(secrets, passed.extend)
    for piece in pieces:
        masked(memoryview(piece))
        yield bytes(passed)
    masked.finish()
    yield bytes(passed)


@given(st.lists(words, min_size=1, max_size=4), st.lists(st.binary(max_size=3) | words.map(str.encode)))
def test_the_result_is_that_of_one_replacement_however_the_output_is_cut(
    secrets: list[str], pieces: list[bytes]
) -> None:
    hidden = tuple(sorted({secret.encode() for secret in secrets}, key=len, reverse=True))
    output = b"".join(pieces)
    *steps, whole = through(pieces, hidden)
    assert whole == replaced(output, hidden)
    for step in steps:
        assert whole.startswith(step)


@given(st.lists(words, min_size=1, max_size=3), st.lists(words.map(str.encode), max_size=8))
def test_no_more_is_held_back_than_what_may_become_a_secret(secrets: list[str], pieces: list[bytes]) -> None:
    hidden = tuple(sorted({secret.encode() for secret in secrets}, key=len, reverse=True))
    for count, passed in enumerate(list(through(pieces, hidden))[:-1], start=1):
        output = b"".join(pieces[:count])
        ends = [n for s in hidden for n in range(1, len(s)) if output.endswith(s[:n])]
        held = [n for n in (0, *ends) if passed == replaced(output[: len(output) - n], hidden)]
        assert held, (output, passed)


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=12), max_size=3))
def test_of_every_secret_that_is_long_enough_nothing_is_left(secrets: list[str]) -> None:
    hidden = forms(secrets)
    output = "|".join(secrets).encode()
    whole = list(through([output], hidden))[-1] if hidden else output
    for secret in secrets:
        if len(secret.strip()) >= 4:
            assert secret.strip().encode() not in whole.replace(MASK, b"\0")


def test_short_texts_and_blanks_are_no_secrets_and_lines_count_each() -> None:
    assert forms(["abc", "中文字", "    ", "\n\n", " ab ", ""]) == ()
    assert "中文字典".encode() in forms(["中文字典"])
    found = forms(["first line\n    \nab\n  second line \n"])
    for text in (b"first line", b"second line", b"first line\r\n    \r\nab\r\n  second line"):
        assert text in found
    assert not {b"ab", b"    ", b"\\a\\b"} & set(found)


def test_a_long_and_a_repeating_secret_are_masked_quickly() -> None:
    long, tail = "a" * 16_000 + "b" + "a" * 16_000, b"a" * 20_000
    began = time.process_time()
    *_, whole = through([b"a" * 500_000, long.encode()[10:], tail], forms([long]))
    assert time.process_time() - began < 5
    assert whole == replaced_once(b"a" * 500_000 + long.encode()[10:] + tail, long.encode())


def replaced_once(output: bytes, secret: bytes) -> bytes:
    assert output.count(secret) == 1
    return output.replace(secret, MASK)


def test_a_cut_beginning_of_an_output_does_not_end_in_half_a_secret() -> None:
    hidden = forms([PLAIN])
    output = f"no: {PLAIN} and {PLAIN}".encode()
    assert start_of(output, hidden, is_whole=True) == b"no: ******** and ********"
    assert start_of(output[:-3], hidden, is_whole=False) == b"no: ******** and "
    assert start_of(output[:-3], hidden, is_whole=True) == b"no: ******** and hunter2-hun"
    assert start_of(output, (), is_whole=False) == output


@pytest.fixture(params=["local", "ssh", "terminal"])
def where(request: pytest.FixtureRequest, sshd: Sshd) -> dict[str, object]:
    """Give what makes a plan run here, on another host, and on a terminal there."""
    target: Target = LocalTarget() if request.param == "local" else sshd.target()
    return {"target": target, "pty": request.param == "terminal"}


def run(
    runs: Runs, where: dict[str, object], *scripts: str, secret: str = SECRET, **changes: object
) -> Finished:
    """Run these steps with the secret in `$WO_P`, and look for it in all that the run leaves."""
    given_ = {"environment": {"WO_P": secret, "WO_V": "plain"}, "secrets": ("WO_P",), **where, **changes}
    done = runs(*scripts, **given_)
    assert_nowhere(done.plan, secret)
    return done


def assert_nowhere(plan: Plan, secret: str) -> None:
    """Look for a secret, or a telling part of it, in every file of a run."""
    for file in Path(plan.directory).iterdir():
        content = file.read_bytes()
        for form in (secret.encode(), json.dumps(secret)[1:-1].encode(), secret[:9].encode()):
            assert form not in content, (file, content[-2000:])


PRINTS = {
    "whole": ('echo "is $WO_P."', b"is ********.\n"),
    "on stderr": ('echo "is $WO_P." >&2', b"is ********.\n"),
    "in colour": ("""printf '\\033[31m%s\\033[0m\\n' "$WO_P\"""", b"\x1b[31m********\x1b[0m\n"),
    "without a newline at the end": ('printf %s "$WO_P"', b"********"),
    "twice, without anything between": ('printf %s%s "$WO_P" "$WO_P"', b"****************"),
    "in the middle of much": (
        """head -c 65530 /dev/zero | tr '\\0' x; printf %s "$WO_P"; head -c 200000 /dev/zero | tr '\\0' y""",
        b"x" * 65530 + MASK + b"y" * 200_000,
    ),
    "by the shell's own message": ('"$WO_P" 2>&1 | sed "s/.*: \\(.*: command\\)/\\1/"', b"********: command not found\n"),
    "character by character": (
        'for ((i = 0; i < ${#WO_P}; i++)); do printf %s "${WO_P:i:1}"; done; echo',
        b"********\n",
    ),
    "beside what is no secret": ('echo "$WO_V $WO_P"', b"plain ********\n"),
}  # fmt: skip


@pytest.mark.parametrize("way", PRINTS)
def test_a_printed_secret_is_masked(runs: Runs, where: dict[str, object], way: str) -> None:
    script, expected = PRINTS[way]
    done = run(runs, where, f"export LC_ALL=C.UTF-8\n{script}")
    if where["pty"]:
        expected = expected.replace(b"\n", b"\r\n")
    assert done.output == expected
    assert done.result.stored_bytes == done.result.output_bytes == len(expected)
    assert [(s.offset, s.end) for s in done.result.steps] == [(0, len(expected))]


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@pytest.mark.parametrize("secret", [SECRET, PLAIN, "with blank $x `y` \\z", "tab\tand*star"])
def test_what_a_shell_tells_of_its_work_is_masked(
    runs: Runs, where: dict[str, object], locale: str, secret: str
) -> None:
    done = run(
        runs,
        where,
        f'LC_ALL={locale}; set -x; echo "$WO_P" >/dev/null; Q=$WO_P; [[ x == "$WO_P" ]]; set +x; export -p; set',
        secret=secret,
    )
    assert done.output.count(MASK) >= 5
    assert secret[-6:].encode() not in done.output


def test_a_secret_is_masked_though_its_halves_come_apart(
    runs: Runs, where: dict[str, object], tmp_path: Path
) -> None:
    half = 'printf "begun\\n%s" "${WO_P:0:10}"; until [ -e go ]; do sleep 0.01; done; echo "${WO_P:10}"; echo over'
    environment = {"environment": {"WO_P": SECRET}, "secrets": ("WO_P",), "working_directory": str(tmp_path)}
    plan, process = runs.started(half, **environment, **where)
    output = Path(plan.directory) / "output.log"
    assert output.read_bytes().rstrip() == b"begun"
    (tmp_path / "go").touch()
    done = runs.finish(plan, process)
    assert done.output.split() == [b"begun", MASK, b"over"]
    assert_nowhere(plan, SECRET)


def test_what_comes_on_the_other_stream_of_a_host_does_not_part_a_secret(
    runs: Runs, sshd: Sshd, tmp_path: Path
) -> None:
    plan, process = runs.started(
        """printf 'begun\\n%s' "${WO_P:0:10}"
        until [ -e go ]; do sleep 0.01; done; printf 'error %s' "${WO_P:0:4}" >&2
        until [ -e further ]; do sleep 0.01; done; printf %s "${WO_P:4}" >&2; printf %s "${WO_P:10}\"""",
        environment={"WO_P": SECRET},
        secrets=("WO_P",),
        target=sshd.target(),
        working_directory=str(tmp_path),
    )
    output = Path(plan.directory) / "output.log"
    (tmp_path / "go").touch()
    wait_until(lambda: output.read_bytes() == b"begun\nerror ")
    (tmp_path / "further").touch()
    assert runs.finish(plan, process).output == b"begun\nerror ****************"
    assert_nowhere(plan, SECRET)


@pytest.mark.parametrize("ends", ["asked", "killed", "in time"])
def test_what_is_held_back_of_a_step_that_is_ended_is_kept_like_the_rest(
    runs: Runs, where: dict[str, object], ends: str
) -> None:
    trap = "trap '' TERM; " if ends == "killed" else ""
    script = f'{trap}echo "$WO_P"; printf "%s" "$WO_P ${{WO_P:0:6}}"; exec sleep 60'
    values = {"environment": {"WO_P": SECRET}, "secrets": ("WO_P",)}
    if ends == "in time":
        done = runs(script, time_limit=1.0, **values, **where)
    else:
        plan = runs.plan(script, **values, **where)
        process = runs.host.launch(plan)
        output = Path(plan.directory) / "output.log"
        wait_until(lambda: output.read_bytes().endswith(b"\n******** "))
        process.stop()
        done = runs.finish(plan, process)
    assert done.result.outcome is (Outcome.TIMED_OUT if ends == "in time" else Outcome.STOPPED)
    assert re.sub(rb"\r|\^C", b"", done.output) == b"********\n******** tr0ub4"
    assert done.result.steps[0].end == done.result.stored_bytes == len(done.output)
    assert_nowhere(done.plan, SECRET)


def test_every_step_and_each_of_several_secrets_is_masked(runs: Runs, where: dict[str, object]) -> None:
    values = {"WO_P": SECRET, "WO_P2": f"{PLAIN}-longer", "WO_P3": PLAIN, "WO_PIN": "123"}
    done = run(
        runs,
        where,
        'printf %s "$WO_P ${WO_P:0:5}"',
        'echo "$WO_P2 $WO_P3"',
        'echo "$WO_PIN$WO_P3"; exit 3',
        environment=values,
        secrets=tuple(values),
    )
    assert done.output.replace(b"\r", b"") == b"******** tr0ub******** ********\n123********\n"
    assert [s.offset for s in done.result.steps] == [0, *[s.end for s in done.result.steps[:-1]]]
    assert done.result.exit_code == 3
    for secret in (PLAIN, f"{PLAIN}-longer"):
        assert_nowhere(done.plan, secret)


def test_the_limit_counts_what_is_stored(runs: Runs, where: dict[str, object]) -> None:
    done = run(runs, {**where, "pty": False}, 'for i in {1..1000}; do echo "$WO_P"; done', output_limit=1000)
    assert done.output == (b"********\n" * 112)[:1000]
    assert (done.result.capped, done.result.output_bytes) == (True, 9000)


@pytest.mark.faults
def test_a_full_disk_ends_the_run_though_the_end_was_held_back(runs: Runs) -> None:
    plan = runs.plan('printf %s "${WO_P:0:6}"', environment={"WO_P": SECRET}, secrets=("WO_P",))
    os.symlink("/dev/full", Path(plan.directory) / "output.log")
    process = runs.host.launch(plan)
    assert process.wait(30)
    result = json.loads((Path(plan.directory) / "result.json").read_text())
    assert (result["outcome"], result["stored_bytes"]) == ("log_full", 0)


def test_captured_streams_are_masked_each_for_itself(runs: Runs, where: dict[str, object]) -> None:
    script = 'printf %s "${WO_P:0:5}"; printf %s "$WO_P" >&2; printf %s "${WO_P:5}"'
    request = runs.capture(script, environment={"WO_P": SECRET}, secrets=("WO_P",), **{**where, "pty": False})
    captured = runs.host.capture(request)
    assert (captured.stdout, captured.stderr) == (MASK, MASK)


def test_a_host_that_answers_with_what_it_was_sent_tells_no_secret(runs: Runs, tmp_path: Path) -> None:
    server = Sshd(tmp_path, options="ForceCommand cat")
    server.start()
    try:
        for secret in (SECRET, "it's " + "long-" * 50 + "x"):
            done = run(runs, {"target": server.target()}, "true", secret=secret)
            assert done.result.outcome is Outcome.REFUSED
            assert "did not start bash: export SKSTACK_RUN" in done.why
            assert secret[-6:].encode() not in done.output
    finally:
        server.stop()


def test_without_secrets_a_value_is_printed_as_it_is(runs: Runs, where: dict[str, object]) -> None:
    done = runs('echo "$WO_P"', environment={"WO_P": SECRET}, **where)
    assert done.output.strip() == SECRET.encode()


def test_a_plan_does_not_tell_its_secrets(runs: Runs) -> None:
    plan = runs.plan("true", environment={"WO_P": SECRET}, secrets=("WO_P",))
    assert SECRET[:9] not in repr(plan)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
