"""The script that a remote bash reads on standard input."""

from __future__ import annotations

import subprocess

import pytest

from skstack.substitution import environment, remote_script
from tests.substitution.hostile import VALUES
from tests.substitution.shell import REMOTE, Shell


def test_the_line_gets_its_exit_code_out(shell: Shell) -> None:
    for line, code in (("exit 7", 7), ("false | true", 1), ("(exit 9)", 9), ("return 5", 5), ("exec false", 1),
                       ("kill -TERM $$", -15), ("true", 0), ("no-such-command", 127)):  # fmt: skip
        shell.remote(line, {})
        assert shell.finished.returncode == code, line
        if not line.startswith("return"):
            shell.local(line, {})
            assert shell.finished.returncode == code, line


def test_a_command_that_reads_standard_input_reads_nothing_of_the_script(shell: Shell) -> None:
    assert shell.remote('X=$(cat); probe "$X"', {}) == [[""]]


def test_a_comment_at_the_end_of_the_line_swallows_nothing(shell: Shell) -> None:
    assert shell.remote("probe a # b", {}) == [["a"]]
    assert shell.finished.returncode == 0


def test_a_script_that_was_cut_off_anywhere_runs_nothing(shell: Shell) -> None:
    script = remote_script('evil; probe "$WO_V"', environment({"V": "x; evil\n'evil'"}))
    for end in range(len(script) - 1):
        done = subprocess.run(
            REMOTE, input=script[:end].encode(), env=shell.around(), capture_output=True, check=False
        )
        assert not shell.canary.exists(), (script[:end], done)
    shell.remote("true", {})
    assert shell.happened() == []


def test_names_and_values_that_cannot_be_exported_are_errors() -> None:
    for given in ({"a b": ""}, {"a;b": ""}, {"1a": ""}, {"a\n": ""}, {"é": ""}, {"": ""}):
        with pytest.raises(ValueError, match="cannot name an environment variable"):
            remote_script("true", given)
    with pytest.raises(ValueError, match="contains NUL"):
        remote_script("true", {"WO_V": "\0"})


def test_all_values_at_once_arrive(shell: Shell) -> None:
    line = "probe " + " ".join(f'"${{WO_V{index}}}"' for index in range(len(VALUES)))
    assert shell.remote(line, environment({f"V{i}": value for i, value in enumerate(VALUES)})) == [VALUES]
    assert shell.happened() == []


def test_the_largest_values_arrive(shell: Shell) -> None:
    values = {f"V{index}": "'é\n" * 8192 for index in range(8)}
    assert shell.remote('probe "${#WO_V7}" "${WO_V0: -2}"', environment(values)) == [["24576", "é\n"]]


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8"])
def test_the_other_hosts_locale_changes_nothing(locale: str, shell: Shell) -> None:
    script = (
        "LC_ALL=" + locale + "\n" + remote_script('probe "${WO_V}"', environment({"V": "中文 é \\' $(evil)"}))
    )
    assert shell.run(REMOTE, shell.around(), script.encode()) == [["中文 é \\' $(evil)"]]
