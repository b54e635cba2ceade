"""What a script offers on a form: run for real on this host, and over SSH."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from skstack import hosting
from skstack.catalog import choices, services
from skstack.catalog.models import ConfigCenter, Variable, WorkOrder
from skstack.config import Settings
from skstack.runner.client import RunnerHost
from tests.catalog.conftest import listed, make_variable, make_workorder, scripted
from tests.sshd import Sshd


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(
        settings, script_timeout=5.0, script_choices_limit=5000, script_output_limit=1 << 17
    )


@pytest.fixture(autouse=True)
def host(context: Flask) -> Iterator[RunnerHost]:
    made = RunnerHost()
    hosting.set_runner_host(made)
    yield made
    hosting.set_runner_host(None)
    made.close()


def offered(variable: Variable, workorder: WorkOrder | None = None, **values: str | list[str]) -> list[str]:
    found = choices.offer(variable, workorder=workorder or make_workorder(variable), values=values)
    assert found.error is None
    return [choice.value for choice in found.choices]


def refusal(variable: Variable, workorder: WorkOrder | None = None, **values: str | list[str]) -> str:
    found = choices.offer(variable, workorder=workorder or make_workorder(variable), values=values)
    assert not found.choices
    return str(found.error)


def test_a_list_offers_what_the_administrator_typed() -> None:
    assert offered(listed("Mode", "b", "a")) == ["b", "a"]


def test_a_script_offers_what_it_prints() -> None:
    assert offered(scripted("Host", "printf '%s' \"['host1', 'host2']\"")) == ["host1", "host2"]


def test_several_lines_are_several_commands() -> None:
    assert offered(scripted("Host", "echo a\necho b")) == ["a", "b"]


def test_a_script_sees_built_in_system_and_other_variables_as_they_are() -> None:
    nasty = "x; touch /tmp/never $(id) 'q' \"d\""
    other = make_variable("Other")
    variable = scripted("V", "printf '%s\\n' {Project} {sk__env} {sk__name} {Other} '{Other}'")
    workorder = make_workorder(other, variable, builtin_variables={"Project": "app 01"})

    assert offered(variable, workorder, Other=nasty) == ["app 01", "prod", "site", nasty]


def test_several_values_reach_a_script_joined_or_one_by_one() -> None:
    joined = listed("Joined", "a", "b", "c", widget="checkboxes", delimiter=";")
    each = listed("Each", "a", "b", "c", widget="checkboxes", one_argument_each=True)
    variable = scripted("V", "printf '<%s>\\n' {Joined} {Each}")
    workorder = make_workorder(joined, each, variable)

    assert offered(variable, workorder, Joined=["a", "c"], Each=["c", "b"]) == ["<a;c>", "<c>", "<b>"]


def test_a_script_waits_for_what_it_needs() -> None:
    project = listed("Project", "a", "b", required=True, label="The project")
    variable = scripted("V", "echo {Project}-1")
    workorder = make_workorder(project, variable)

    found = choices.offer(variable, workorder=workorder, values={"Project": ""})

    assert found.waiting_for == ("Project",)
    assert str(found.error) == "Fill in The project first."
    assert offered(variable, workorder, Project="b") == ["b-1"]


def test_a_script_runs_without_what_may_be_left_out() -> None:
    project = listed("Project", "a", "b")
    variable = scripted("V", 'echo "all{Project}"')

    assert offered(variable, make_workorder(project, variable)) == ["all"]


@pytest.mark.parametrize(
    ("value", "told"),
    [("c", "not one of the choices"), ("a\x00", "control character"), ("a\x1b[m", "control character")],
)
def test_a_value_that_cannot_be_is_not_handed_to_a_script(value: str, told: str) -> None:
    project = listed("Project", "a", "b")
    variable = scripted("V", "echo {Project}")

    assert told in refusal(variable, make_workorder(project, variable), Project=value)


def test_a_value_that_a_command_would_take_for_an_option_is_not_handed_to_it() -> None:
    variable = scripted("V", "ls {Free}")

    assert "option" in refusal(variable, make_workorder(make_variable("Free"), variable), Free="-rf")


def test_which_fields_a_script_depends_on() -> None:
    other = make_variable("Other")
    variable = scripted("V", "echo {Other} {Project} {sk__env}")
    workorder = make_workorder(other, variable, builtin_variables={"Project": "x"})

    assert choices.depends_on(variable, workorder=workorder) == ["Other"]
    assert choices.depends_on(variable) == ["Other", "Project"]
    assert choices.depends_on(other, workorder=workorder) == []


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo one >&2; echo two >&2; echo; exit 3", "exit code 3: one · two"),
        ("echo out; exit 4", "exit code 4: out"),
        ("exit 5", "exit code 5 and said nothing"),
        ("printf '\\033[31mred\\033[0m\\a' >&2; exit 1", "exit code 1: red"),
        ("no-such-command-anywhere", "exit code 127"),
        ("true", "no values"),
        ("printf '\\377'", "not UTF-8"),
        ("head -c 100000 /dev/urandom", "not UTF-8"),
        ("printf 'a\\033[31m\\n'", "control character"),
        ("seq 10000", "more than 5000 values"),
        ("seq 100000", "prints more than is read"),
        ("false\necho never", "exit code 1"),
        ("kill -9 $$", "exit code 137"),
    ],
)
def test_a_script_that_fails_or_prints_rubbish_says_why(script: str, told: str) -> None:
    assert told in refusal(scripted("V", script))


class TestHanging:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return dataclasses.replace(settings, script_timeout=0.5)

    def test_a_script_that_hangs_is_stopped(self, tmp_path: Path) -> None:
        marker = tmp_path / "went-on"

        assert "longer than 0.5 s" in refusal(scripted("V", f"echo a; sleep 3; touch {marker}"))
        assert not marker.exists()

    def test_a_script_that_never_stops_printing_is_told_that_and_not_the_time(self) -> None:
        assert "prints more than is read" in refusal(scripted("V", "yes"))


def config_center(sshd: Sshd, **values: object) -> ConfigCenter:
    base = {
        "name": "ansible01",
        "host": "127.0.0.1",
        "port": sshd.port,
        "username": sshd.username,
        "login": "key",
        "private_key": sshd.private_key,
        "host_key": sshd.host_key,
    }
    return services.create(ConfigCenter, {**base, **values}, actor=None)


def test_a_script_runs_on_the_config_center(sshd: Sshd) -> None:
    other = make_variable("Other")
    variable = scripted(
        "V", "printf '%s\\n' \"${{SSH_CONNECTION##* }}\" {Other}".replace("{{", "{").replace("}}", "}")
    )
    workorder = make_workorder(other, variable, config_center=config_center(sshd))

    assert offered(variable, workorder, Other="it's $HOME") == [str(sshd.port), "it's $HOME"]


def test_a_vanished_config_center_says_why(sshd: Sshd) -> None:
    variable = scripted("V", "echo a")
    workorder = make_workorder(variable, config_center=config_center(sshd, port=1))

    assert "127.0.0.1" in refusal(variable, workorder)


def test_a_config_center_without_accepted_key_is_not_talked_to(sshd: Sshd) -> None:
    variable = scripted("V", "echo a")
    workorder = make_workorder(variable, config_center=config_center(sshd, host_key=None))

    assert "key" in refusal(variable, workorder)


def test_a_runner_that_is_not_there_is_said_so(host: RunnerHost, monkeypatch: pytest.MonkeyPatch) -> None:
    from skstack.runner.client import RunnerUnavailable

    def capture(request: object) -> None:
        raise RunnerUnavailable("no")

    monkeypatch.setattr(host, "capture", capture)

    assert "could not be started" in refusal(scripted("V", "echo a"))
