"""The vectors of substitution, the whole way: through the API and the form, to a shell here and on a real host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.instances import Instance, Person, csrf_token
from tests.faults.templates import TEMPLATES
from tests.sshd import Sshd
from tests.substitution.hostile import DESIGN, MORE

PROBE = "#!/bin/sh\nprintf '%s\\0' \"$@\" END\n"
VALUES = [*DESIGN, *MORE]


def expected(value: str, workorder: str) -> list[bytes]:
    """Return what each step prints, in order."""
    return [
        b"".join(argument.encode() + b"\0" for argument in [*arguments(value, workorder), "END"])
        for _, arguments in TEMPLATES
    ]


def check(instance: Instance, ticket: dict[str, Any], value: str, workorder: str) -> None:
    run = instance.wait_for_end(ticket, within=50)
    assert (run["status"], run["exit_code"]) == ("succeeded", 0), (value, run)
    assert instance.output(run["id"]) == b"".join(expected(value, workorder)), value


@pytest.fixture
def probed(elsewhere: Instance, target_host: Sshd) -> Iterator[Instance]:
    """Give an instance whose commands find `probe` and `evil`, and look afterwards whether a value was executed."""
    elsewhere.reset()
    evil = elsewhere.box.parent / "evil-was-executed"
    for folder in (elsewhere.box.parent / "bin", target_host.directory / "bin"):
        folder.mkdir(exist_ok=True)
        for name, text in (("probe", PROBE), ("evil", f"#!/bin/sh\ntouch {evil}\n")):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
    yield elsewhere
    assert list(elsewhere.box.iterdir()) == []
    assert not evil.exists()


@pytest.mark.parametrize("workorder", ["values", "values-remote"])
def test_every_value_arrives_exactly_in_every_template(probed: Instance, workorder: str) -> None:
    number = probed.workorder(workorder)
    tickets = [(value, probed.submit(number, {"V": value})) for value in VALUES]
    for value, ticket in tickets:
        check(probed, ticket, value, workorder)


@pytest.mark.parametrize("workorder", ["values", "values-remote"])
def test_values_arrive_exactly_through_the_form(probed: Instance, workorder: str) -> None:
    person, path = Person(probed), f"/workorders/{probed.workorder(workorder)}/submit"
    for value in DESIGN:
        page = person.page(path)
        key = page.split('name="idempotency_key" value="', 1)[1].split('"', 1)[0]
        # A browser sends the lines of a text area like this.
        sent = value.replace("\n", "\r\n")
        answer = person.post(
            path, {"csrf_token": csrf_token(page), "idempotency_key": key, "note": "", "v-V": sent}
        )
        assert answer.status == 303, answer.content
        ticket = probed.ticket(int(answer.headers["Location"].rsplit("/", 1)[1]))
        check(probed, ticket, value, workorder)


@pytest.mark.parametrize("value", ["-rf", "a\0b", "\x1b[31m", "x" * 200_000])
def test_values_that_no_command_may_get_are_refused_at_their_field(elsewhere: Instance, value: str) -> None:
    number = elsewhere.workorder("values")
    answer = elsewhere.call("POST", f"/api/v1/workorders/{number}/tickets", {"values": {"V": value}})
    assert (answer.status, list(answer.json["errors"])) == (422, ["V"])
    answer = elsewhere.call("POST", f"/api/v1/workorders/{number}/tickets", {"values": {"W": "x"}})
    assert (answer.status, list(answer.json["errors"])) == (422, ["W"])


@pytest.mark.parametrize("workorder", ["script", "on-good"])
def test_what_is_executed_would_be_seen(elsewhere: Instance, target_host: Sshd, workorder: str) -> None:
    """The tests above prove nothing unless something that is executed leaves its trace where they look."""
    elsewhere.reset()
    elsewhere.write(main="touch C")
    values = {"Box": str(elsewhere.box)} if workorder == "on-good" else {}
    elsewhere.wait_for_end(elsewhere.submit(workorder, values))
    assert (elsewhere.box / "C").exists()
