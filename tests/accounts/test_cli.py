"""The commands `user` and `token`: 0 done, 1 refused with one line, 2 wrong usage."""

from __future__ import annotations

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskCliRunner

from skstack.accounts import passwords, queries
from skstack.accounts.models import SecondFactor
from skstack.db import transaction, utcnow
from skstack.extensions import db
from tests import factories

pytestmark = pytest.mark.both_databases


def run(command: FlaskCliRunner, line: str, typed: str | bytes = "") -> Result:
    return command.invoke(args=line.split(), input=typed)


def refused(result: Result) -> str:
    """Return the one line on standard error of a command that was refused."""
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("skstack: ")
    return line


def test_user_create(app: Flask, command: FlaskCliRunner) -> None:
    with app.app_context():
        factories.make_group("ops")
        factories.make_role("member")
    line = "user create dora --group ops --role member --email d@example.org --password-stdin"
    assert run(command, line, "long enough\n").exit_code == 0
    with app.app_context():
        dora = queries.user_named("dora")
        assert dora is not None
        assert (dora.email, dora.superuser) == ("d@example.org", False)
        assert ([group.name for group in dora.groups], [role.name for role in dora.roles]) == (
            ["ops"],
            ["member"],
        )
        assert passwords.is_right(dora.password_hash, "long enough")
    assert "already taken" in refused(run(command, "user create DORA --password-stdin", "long enough"))
    assert run(command, "user create sue --superuser --password-stdin", "long enough\r\n").exit_code == 0
    with app.app_context():
        sue = queries.user_named("sue")
        assert sue is not None
        assert sue.superuser
        assert passwords.is_right(sue.password_hash, "long enough")


def test_user_create_refuses_what_is_not_right(app: Flask, command: FlaskCliRunner) -> None:
    assert "no group called nothing" in refused(
        run(command, "user create dora --group nothing --password-stdin", "long enough")
    )
    assert "no role called nothing" in refused(
        run(command, "user create dora --role nothing --password-stdin", "long enough")
    )
    assert "at least 8" in refused(run(command, "user create dora --password-stdin", "short\n"))
    assert "not UTF-8" in refused(run(command, "user create dora --password-stdin", b"\xff\xfe long enough"))
    with app.app_context():
        assert queries.user_named("dora") is None


@pytest.mark.parametrize(
    "line",
    [
        "user create",
        "user create dora",
        "user set-password dora",
        "user nonsense",
        "user list x",
        "token create",
        "token create a --days 0",
    ],
)
def test_wrong_usage_is_2(command: FlaskCliRunner, line: str) -> None:
    result = run(command, line)
    assert (result.exit_code, result.stdout) == (2, "")


def test_user_set_password(app: Flask, command: FlaskCliRunner) -> None:
    with app.app_context():
        factories.alice()
    assert run(command, "user set-password alice --password-stdin", "a new long one").exit_code == 0
    with app.app_context():
        assert passwords.is_right(factories.alice().password_hash, "a new long one")
    assert "no user called nobody" in refused(
        run(command, "user set-password nobody --password-stdin", "long enough")
    )
    assert "at least 8" in refused(run(command, "user set-password alice --password-stdin", "x"))


def test_user_deactivate_activate_and_list(app: Flask, command: FlaskCliRunner) -> None:
    with app.app_context():
        factories.alice()
        factories.root()
    assert run(command, "user deactivate alice").exit_code == 0
    assert "already deactivated" in refused(run(command, "user deactivate alice"))
    assert "last active superuser" in refused(run(command, "user deactivate root"))
    lines = run(command, "user list").stdout.splitlines()
    assert lines == ["alice\tdeactivated\t-\tops\tmember", "root\tactive\tsuperuser\t-\t-"]
    assert run(command, "user activate alice").exit_code == 0
    assert "already active" in refused(run(command, "user activate alice"))


def test_user_remove_second_factor(app: Flask, command: FlaskCliRunner) -> None:
    with app.app_context():
        root = factories.root()
        with transaction():
            db.session.add(SecondFactor(user_id=root.id, secret="A" * 32, confirmed_at=utcnow()))
    done = run(command, "user remove-second-factor root")
    assert (done.exit_code, "second factor of root" in done.stdout) == (0, True)
    assert "has no second factor" in refused(run(command, "user remove-second-factor root"))


def test_token_create_prints_the_token_alone(app: Flask, command: FlaskCliRunner) -> None:
    with app.app_context():
        factories.alice()
    result = run(command, "token create alice --name deploy --days 3")
    assert (result.exit_code, result.stderr) == (0, "")
    (token,) = result.stdout.splitlines()
    answer = app.test_client().get("/api/v1/who", headers={"Authorization": f"Bearer {token}"})
    assert answer.json == "alice"
    assert "no user called nobody" in refused(run(command, "token create nobody"))
