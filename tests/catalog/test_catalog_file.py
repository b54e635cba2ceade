"""The catalog file: applied all or nothing, written out again, refused with the line."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskCliRunner
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from skstack import substitution
from skstack.accounts.models import User
from skstack.audit.models import AuditEvent
from skstack.catalog import catalog_file, services
from skstack.catalog.catalog_file import Change, FileRefused
from skstack.catalog.models import ApprovalFlow, Category, ConfigCenter, FreezeWindow, Variable, WorkOrder
from skstack.extensions import db
from tests.catalog.conftest import make_environment, make_variable, make_workorder

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILeINnmHsNoaFWzXIwYs0CmbCEQpBNMn0Wn+55+StLON"
TEXT = f"""\
environments: [{{name: PROD, order: 10, description: production}}]
categories: [{{name: DeployGit}}]
groups: [{{name: ops}}, {{name: leads}}]
roles: [{{name: operator, pages: [submit, approve, execute, audit]}}]
users: [{{username: alice, email: a@example.org, groups: [ops], roles: [operator]}}]
config_centers:
  - {{name: ansible01, host: 127.0.0.1, port: 2222, username: deploy, password_env: ANSIBLE01, host_key: "{KEY} someone"}}
variables:
  - {{name: Commit, label: Git commit, source: script, script: "python var_git_commit_id.py -e prod -p {{GitProjName}}",
     widget: select, required: true}}
  - {{name: Mode, label: Mode, source: list, choices: [update, yes, 010, 1.10, 2026-01-01, 12:30:00],
     widget: radio, default: update}}
  - {{name: Hosts, source: list, choices: [h1, h2], widget: multiselect, delimiter: ";", default: [h1, h2]}}
  - {{name: Reason, source: input, widget: textarea, pattern: ".{{5,}}", pattern_message: "say why"}}
variable_groups: [{{name: git_public, variables: [Commit, Mode]}}]
work_orders:
  - name: site
    description: Deploy the site
    environment: PROD
    category: DeployGit
    submit_groups: [ops]
    active: true
    template: false
    builtin_variables: {{GitProjName: app01, Count: 3, Ratio: 0.5, On: true, Zip: 01234, Time: 12:30:00, No: no}}
    variable_group: git_public
    pre_task: "python pre_git_pull.py -e prod -p {{GitProjName}} -i '{{Commit}}'"
    main_task: |
      python main_git_deploy.py -e prod -p {{GitProjName}}
    post_task: ""
    config_center: ansible01
    approval_flow: two-level
    scheduling: true
    background_choice: true
    auto_run_choice: true
    task_lock: true
    time_limit: 3600
approval_flows:
  - {{name: two-level, levels: [ops, leads], allow_self_approval: false, expires_hours: 48, distinct_approvers: yes}}
freeze_windows:
  - {{name: new year, environment: PROD, starts_at: 2026-12-31T12:00:00+08:00, ends_at: 2027-01-03T00:00:00Z}}
"""
ENVIRONMENT = {"ANSIBLE01": "hunter2"}

both = pytest.mark.both_databases


def apply(text: str = TEXT, **options: Any) -> list[Change]:
    return catalog_file.apply(text, actor=None, source="x.yaml", **{"environment": ENVIRONMENT, **options})


def refused(text: str, **options: Any) -> str:
    with pytest.raises(FileRefused) as refusal:
        apply(text, **options)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def count(model: type[Any]) -> int:
    return db.session.scalar(sa.select(sa.func.count()).select_from(model)) or 0


@both
def test_the_file_becomes_the_configuration(context: Flask) -> None:
    changes = apply()

    assert {change.verb for change in changes} == {"added"}
    workorder = db.session.scalars(sa.select(WorkOrder)).one()
    assert workorder.active
    assert workorder.main_task == "python main_git_deploy.py -e prod -p {GitProjName}\n"
    assert workorder.builtin_variables == {
        "GitProjName": "app01",
        "Count": 3,
        "Ratio": 0.5,
        "On": True,
        "Zip": "01234",
        "Time": "12:30:00",
        "No": "no",
    }
    assert [group.name for group in workorder.submit_groups] == ["ops"]
    assert [variable.name for variable in workorder.variables] == ["Commit", "Mode"]
    assert workorder.variables[1].choices == ["update", "yes", "010", "1.10", "2026-01-01", "12:30:00"]
    hosts = db.session.scalars(sa.select(Variable).where(Variable.name == "Hosts")).one()
    assert hosts.default == "h1;h2"
    center = db.session.scalars(sa.select(ConfigCenter)).one()
    assert (center.login, center.password, center.host_key) == ("password", "hunter2", KEY)
    alice = db.session.scalars(sa.select(User)).one()
    assert (alice.password_hash, alice.superuser, alice.groups[0].name) == (None, False, "ops")


@both
def test_applying_twice_and_applying_what_was_exported_changes_nothing(context: Flask) -> None:
    apply()
    events = count(AuditEvent)

    assert apply() == []
    exported = catalog_file.export()
    assert apply(exported, environment={}) == []
    assert apply(exported, environment={}, prune=True) == []
    assert catalog_file.export() == exported
    assert "hunter2" not in exported
    assert count(AuditEvent) == events


@both
def test_a_dry_run_says_what_would_change_and_changes_nothing(context: Flask) -> None:
    assert apply(dry_run=True) == apply(dry_run=True)
    assert (count(WorkOrder), count(AuditEvent)) == (0, 0)


@both
def test_a_change_is_told_and_recorded_with_before_and_after(context: Flask) -> None:
    apply()

    [change] = apply(TEXT.replace("description: Deploy the site", "description: Another"))

    assert (change.verb, change.name) == ("changed", "site")
    assert (change.before, change.after) == ({"description": "Deploy the site"}, {"description": "Another"})
    last, applied = db.session.scalars(sa.select(AuditEvent).order_by(AuditEvent.id.desc()).limit(2)).all()[
        ::-1
    ]
    assert last.changes == {"before": change.before, "after": change.after}
    assert applied.changes == {"added": 0, "changed": 1, "deleted": 0}


def test_what_is_left_out_goes_back_to_its_default_but_credentials_and_keys_stay(context: Flask) -> None:
    apply()

    text = TEXT.replace(f', password_env: ANSIBLE01, host_key: "{KEY} someone"', "").replace(
        "    category: DeployGit\n", ""
    )
    [change] = apply(text.replace("    time_limit: 3600\n", "").replace("    config_center: ansible01\n", ""))

    assert change.after == {"category": None, "config_center": None}
    center = db.session.scalars(sa.select(ConfigCenter)).one()
    assert (center.login, center.password, center.host_key) == ("password", "hunter2", KEY)


def test_another_password_is_a_change_that_shows_nothing(context: Flask) -> None:
    apply()

    [change] = apply(environment={"ANSIBLE01": "hunter3"})

    assert "hunter" not in repr(change)
    assert db.session.scalars(sa.select(ConfigCenter)).one().password == "hunter3"


def test_a_private_key_is_read_beside_the_file(context: Flask, tmp_path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "open sesame", "-f", tmp_path / "id"], check=True
    )
    text = TEXT.replace("password_env: ANSIBLE01", "private_key_file: id, passphrase_env: PASS")

    assert "passphrase" in refused(text, folder=tmp_path, environment={"PASS": "wrong"})
    apply(text, folder=tmp_path, environment={"PASS": "open sesame"})

    center = db.session.scalars(sa.select(ConfigCenter)).one()
    assert center.login == "key"
    assert center.private_key == (tmp_path / "id").read_text()
    assert "PRIVATE" not in catalog_file.export()


@both
def test_pruning_deletes_what_sections_do_not_name_but_no_user(context: Flask) -> None:
    apply()
    services.create(Category, {"name": "Old"}, actor=None)

    assert apply() == []
    assert [(change.verb, change.name) for change in apply(prune=True)] == [("deleted", "Old")]
    gone = apply(
        "categories: []\nwork_orders: []\nvariables: []\nvariable_groups: []\nusers: []\napproval_flows: []\ngroups: []\n",
        prune=True,
    )

    assert {change.verb for change in gone} == {"deleted"}
    assert (count(WorkOrder), count(Variable), count(Category), count(User)) == (0, 0, 0, 1)
    assert count(ConfigCenter) == 1


def test_pruning_what_is_needed_is_refused_with_what_needs_it(context: Flask) -> None:
    apply()

    told = refused("variables: []\n", prune=True)

    assert "variable Commit, which the file does not name" in told
    assert "variable group git_public" in told
    assert count(Variable) == 4


# What is put in place of what, where the message points to, and what it says.
WRONG = (
    ("order: 10", "ordre: 10", "ordre", "no key ordre in environments"),
    ("order: 10", "order: ten", "order: ten", "must be a whole number"),
    ("active: true", "active: perhaps", "active: perhaps", "must be true or false"),
    ("environment: PROD\n", "environment: PRO\n", "environment: PRO", "There is no environment PRO"),
    ("variables: [Commit, Mode]", "variables: [Commit, Mood]", "Mood", "There is no variable Mood"),
    ("submit_groups: [ops]", "submit_groups: [oops]", "oops", "There is no group oops"),
    ("roles: [operator]", "roles: [tourist]", "tourist", "There is no role tourist"),
    ("pages: [submit,", "pages: [submitt,", "submitt", "There is no page submitt"),
    ("config_center: ansible01", "config_center: nowhere", "nowhere", "no config center nowhere"),
    ("port: 2222", "port: 70000", "70000", "A port is a number"),
    ("'{Commit}'", "'{Comit}'", "{Comit}", "There is no variable Comit"),
    ("python main_git", "eval {Commit}; python main_git", "eval", "eval"),
    (
        "      python main_git",
        "      true\n      true\n      echo {Nobody}\n      python main_git",
        "Nobody",
        "Nobody",
    ),
    ("GitProjName: app01,", "Mode: app01,", "builtin_variables", "Mode is also a variable"),
    ('pattern: ".{5,}"', 'pattern: "("', 'pattern: "("', "not a pattern"),
    ("choices: [h1, h2]", "choices: [h1, h1]", "choices: [h1, h1]", "stands there twice"),
    (
        "    time_limit: 3600",
        "    time_limit: 3600\n    time_limit: 1",
        "time_limit: 1\n",
        "stands there twice",
    ),
    ("{name: leads}", "{name: ops}", "{name: ops}, {name: ops}", "already stands in line 3"),
    ("categories:", "categories: []\ncategories:", "categories: [{", "stands there twice"),
    ("{name: DeployGit}", "{description: x}", "description: x", "has no name"),
    ("email: a@", "password: x, email: a@", "password", "Passwords do not stand"),
    ("password_env: ANSIBLE01", "password: x", "password: x", "password_env"),
    ("password_env: ANSIBLE01", "password_env: NOBODY", "NOBODY", "NOBODY is not set"),
    ("password_env: ANSIBLE01", "private_key_file: nowhere", "nowhere", "cannot be read"),
    ("levels: [ops, leads]", "levels: []", "name: two-level", "1 to 3 levels"),
    ("levels: [ops, leads]", "levels: [ops, ops, ops, ops]", "levels: [ops, ops", "1 to 3 levels"),
    ("levels: [ops, leads]", "levels: [ops, nobody]", "levels: [ops, nobody", "There is no group nobody"),
    ("levels: [ops, leads]", "levels: ops", "levels: ops", "must be a list"),
    ("expires_hours: 48", "expires_hours: 0", "expires_hours: 0", "between 1 and"),
    (
        "approval_flow: two-level",
        "approval_flow: three-level",
        "three-level",
        "There is no approval flow three-level",
    ),
    ("task_lock: true", "task_lock: maybe", "task_lock: maybe", "must be true or false"),
    (
        "ends_at: 2027-01-03T00:00:00Z",
        "ends_at: 2026-01-03T00:00:00Z",
        "ends_at: 2026",
        "after its beginning",
    ),
    (
        "ends_at: 2027-01-03T00:00:00Z",
        "ends_at: 2027-01-03T00:00:00",
        "ends_at: 2027",
        "a time with its zone",
    ),
    ("ends_at: 2027-01-03T00:00:00Z", "ends_at: [1]", "ends_at: [1]", "a time with its zone"),
    (", starts_at: 2026-12-31T12:00:00+08:00", "", "name: new year", "A time is needed"),
    ("environment: PROD, starts_at", "environment: NONE, starts_at", "NONE", "There is no environment NONE"),
    ("{name: DeployGit}", "{name: DeployGit, retention_days: -1}", "retention_days", "between 0 and"),
    (
        "freeze_windows:\n",
        "freeze_windows: []\nworkorders:\n",
        "workorders:",
        "There is no section workorders",
    ),
    ("description: production", "description: [production]", "[production]", "must be text"),
    ("builtin_variables: {", "builtin_variables: {X: [1], ", "builtin_variables", "must be a mapping"),
    ("name: site", "name: [site]", "name: [site]", "must be text"),
)


def test_what_is_wrong_is_told_with_its_line_and_nothing_changes(context: Flask) -> None:
    for find, replace, at, told in WRONG:
        assert find in TEXT
        text = TEXT.replace(find, replace, 1)

        message = refused(text)

        assert told in message, replace
        lines = [int(number) for number in re.findall(r"line (\d+): ", message.split(told)[0])]
        assert lines[-1] == line_of(text, at), replace
        assert (count(WorkOrder), count(AuditEvent), count(User)) == (0, 0, 0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: [",
        "[]",
        "just text",
        "[" * 5000,
        "a: \x07",
        "a: b: c",
        "? [a]\n: b",
        "- a\n---\n- b",
        "&a [*a]",
        "x: !!python/name:os.system",
    ],
)
def test_what_is_no_catalog_file_is_refused(context: Flask, text: str) -> None:
    assert refused(text).startswith("x.yaml: ")


@both
def test_flows_windows_and_switches_are_applied(context: Flask) -> None:
    apply()

    workorder = db.session.scalars(sa.select(WorkOrder)).one()
    assert workorder.approval_flow is not None
    flow = workorder.approval_flow
    assert [group.name for group in flow.levels] == ["ops", "leads"]
    assert (flow.allow_self_approval, flow.distinct_approvers, flow.expires_hours) == (False, True, 48)
    switches = ("scheduling", "background_choice", "auto_run_choice", "task_lock")
    assert all(getattr(workorder, name) for name in switches)
    window = db.session.scalars(sa.select(FreezeWindow)).one()
    assert window.starts_at == dt.datetime(2026, 12, 31, 4, tzinfo=dt.UTC)
    assert window.environment.name == "PROD"


@both
def test_levels_can_change_their_order_and_number(context: Flask) -> None:
    apply()
    for levels in ("[leads, ops]", "[leads]", "[leads, ops, leads]"):
        [change] = apply(TEXT.replace("[ops, leads]", levels))
        assert change.after == {"levels": levels.strip("[]").split(", ")}
        db.session.expire_all()
        flow = db.session.scalars(sa.select(ApprovalFlow)).one()
        assert [group.name for group in flow.levels] == levels.strip("[]").split(", ")


@both
def test_what_a_file_leaves_out_is_off(context: Flask) -> None:
    apply()
    shorter = TEXT.replace("    approval_flow: two-level\n", "").replace("    task_lock: true\n", "")

    [change] = apply(shorter)

    assert change.after == {"task_lock": False, "approval_flow": None}


def test_a_flow_and_its_groups_cannot_go_while_they_are_used(context: Flask) -> None:
    apply()

    told = refused("approval_flows: []\n", prune=True)
    assert "work order site" in told
    told = refused("groups: [{name: ops}]\n", prune=True)
    assert "approval flow two-level" in told


def test_a_work_order_that_the_file_does_not_name_is_not_broken_by_it(context: Flask) -> None:
    make_workorder(make_variable("Reason2", strict=True), name="other", main_task="sh -c 'echo {Reason2}'")

    told = refused("variables: [{name: Reason2, source: input, widget: text}]\n")

    assert "With this, work order other would be refused" in told


def test_a_user_is_the_same_in_capitals(context: Flask) -> None:
    apply("users: [{username: alice}]")

    assert "already is a user alice" in refused("users: [{username: Alice}]")


def test_users_keep_their_password_and_their_superuser(context: Flask) -> None:
    apply("users: [{username: alice}]")
    alice = db.session.scalars(sa.select(User)).one()
    alice.password_hash, alice.superuser = "x", True
    db.session.commit()

    apply("users: [{username: alice, email: a@example.org}]")

    assert (alice.password_hash, alice.superuser, alice.email) == ("x", True, "a@example.org")


texts = st.text(max_size=30).filter(lambda text: substitution.check_value(text, multiline=True) is None)
lines = st.text(min_size=1, max_size=20).filter(
    lambda text: substitution.check_value(text) is None and text == text.strip()
)
builtin = st.dictionaries(
    st.from_regex(r"\A[a-z]{1,8}\Z"),
    st.one_of(lines, st.integers(-(10**9), 10**9), st.booleans(), st.floats(-1e9, 1e9)),
)


@hypothesis_settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(texts, st.lists(lines, min_size=1, unique=True), builtin)
def test_whatever_is_configured_survives_export_and_apply(
    context: Flask, text: str, choices: list[str], builtin: dict[str, Any]
) -> None:
    apply("environments: []\nvariables: []\nwork_orders: []\n", prune=True)
    environment = make_environment(description=text)
    services.create(
        Variable,
        {"name": "V", "source": "list", "widget": "select", "choices": choices, "help": text},
        actor=None,
    )
    values = {
        "name": "w",
        "environment": environment,
        "template": True,
        "description": text,
        "builtin_variables": builtin,
    }
    services.create(WorkOrder, values, actor=None)

    exported = catalog_file.export()

    assert apply(exported, prune=True) == []
    apply("environments: []\nvariables: []\nwork_orders: []\n", prune=True)
    apply(exported)
    assert catalog_file.export() == exported
    stored = db.session.scalars(sa.select(WorkOrder)).one()
    assert (stored.description, stored.builtin_variables) == (text, builtin)
    assert db.session.scalars(sa.select(Variable)).one().choices == choices


class TestCommands:
    @pytest.fixture
    def file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("ANSIBLE01", "hunter2")
        path = tmp_path / "catalog.yaml"
        path.write_text(TEXT)
        return path

    def test_apply_prints_the_diff(self, command: FlaskCliRunner, file: Path) -> None:
        tried = command.invoke(args=["catalog", "apply", str(file), "--dry-run"])
        assert (tried.exit_code, "Nothing was changed" in tried.stdout) == (0, True)

        done = command.invoke(args=["catalog", "apply", str(file)])
        assert (done.exit_code, done.stderr) == (0, "")
        assert "+ work order site\n" in done.stdout
        assert "      + python main_git_deploy.py" in done.stdout
        assert "hunter2" not in done.stdout

        again = command.invoke(args=["catalog", "apply", str(file)])
        assert (again.exit_code, again.stdout) == (0, "Nothing to change.\n")

        file.write_text(TEXT.replace("order: 10", "order: 20"))
        changed = command.invoke(args=["catalog", "apply", str(file)])
        assert changed.stdout == "~ environment PROD\n    order: 10 → 20\n0 added, 1 changed, 0 deleted.\n"

    def test_what_is_exported_can_be_applied_from_standard_input(
        self, command: FlaskCliRunner, file: Path
    ) -> None:
        command.invoke(args=["catalog", "apply", str(file)])
        exported = command.invoke(args=["catalog", "export"])

        applied = command.invoke(args=["catalog", "apply", "-", "--prune"], input=exported.stdout)

        assert (exported.exit_code, applied.exit_code, applied.stdout) == (0, 0, "Nothing to change.\n")

    def test_a_refusal_is_one_line_and_exit_code_one(self, command: FlaskCliRunner, file: Path) -> None:
        file.write_text(
            TEXT.replace("environment: PROD\n", "environment: PRO\n").replace("order: 10", "order: x")
        )

        result = command.invoke(args=["catalog", "apply", str(file)])

        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(f"skstack: {file}: line 1: ")
        assert len(result.stderr.splitlines()) == 1

    def test_a_file_that_is_not_there_is_a_failure_and_a_wrong_option_wrong_usage(
        self, command: FlaskCliRunner
    ) -> None:
        assert command.invoke(args=["catalog", "apply", "/nowhere/x.yaml"]).exit_code == 1
        assert command.invoke(args=["catalog", "apply"]).exit_code == 2
        assert command.invoke(args=["catalog", "apply", "-", "--what"]).exit_code == 2

    def test_a_file_that_is_not_text_is_a_failure(self, command: FlaskCliRunner, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(b"\xff\xff")

        result = command.invoke(args=["catalog", "apply", str(tmp_path / "x")])

        assert (result.exit_code, "not UTF-8" in result.stderr) == (1, True)


def test_the_example_of_the_manual_can_be_applied(context: Flask, tmp_path: Path) -> None:
    manual = (Path(__file__).parents[2] / "docs/manual/en/catalog-file.md").read_text()
    example = manual.split("```yaml\n")[1].split("```")[0]
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "id_ed25519"], check=True)

    assert len(apply(example, folder=tmp_path)) == 9
