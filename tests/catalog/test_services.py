"""What may happen to the catalog, and what is refused, on both databases."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from skstack.accounts.models import User
from skstack.audit.models import AuditEvent
from skstack.audit.services import MASK
from skstack.catalog import compiling, services
from skstack.catalog.models import Category, ConfigCenter, Environment, Variable, VariableGroup, WorkOrder
from skstack.errors import Conflict, Invalid
from skstack.extensions import db
from tests import factories
from tests.catalog.conftest import (
    listed,
    make_environment,
    make_group,
    make_variable,
    make_workorder,
    scripted,
)

pytestmark = [pytest.mark.both_databases, pytest.mark.usefixtures("context")]


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILeINnmHsNoaFWzXIwYs0CmbCEQpBNMn0Wn+55+StLON"


def events() -> list[AuditEvent]:
    return list(db.session.scalars(sa.select(AuditEvent).order_by(AuditEvent.id)))


def refused(call: Any, *args: Any, **values: Any) -> dict[str, str]:
    """Return the first message by field of what must be refused."""
    with pytest.raises(Invalid) as refusal:
        call(*args, **values)
    return {field: str(found[0]) for field, found in refusal.value.errors.items()}


def test_every_change_leaves_an_event_with_before_and_after() -> None:
    actor = factories.root()
    category = services.create(Category, {"name": "DeployGit"}, actor=actor)
    services.change(category, {"description": "from git"}, actor=actor, version=1)
    services.change(category, {"description": "from git"}, actor=actor, version=2)
    services.delete(category, actor=actor)

    found = [event for event in events() if event.object_type == "category"]
    assert [event.action for event in found] == ["created", "changed", "deleted"]
    assert found[1].changes == {"before": {"description": ""}, "after": {"description": "from git"}}
    assert {event.actor for event in found} == {"root"}


def test_credentials_are_masked_in_events() -> None:
    values = {"name": "c", "host": "h", "username": "u", "login": "password", "password": "hunter2"}
    center = services.create(ConfigCenter, values, actor=None)
    services.change(center, {"password": "hunter3"}, actor=None, version=1)

    changed = events()[-1].changes
    assert changed == {"before": {"password": MASK}, "after": {"password": MASK}}
    assert "hunter" not in "".join(str(event.changes) for event in events())


def test_a_change_of_an_old_version_is_refused_and_changes_nothing() -> None:
    environment = make_environment()
    services.change(environment, {"order": 5}, actor=None, version=1)

    with pytest.raises(Conflict, match="changed meanwhile"):
        services.change(environment, {"order": 7}, actor=None, version=1)

    db.session.expire_all()
    assert (environment.order, environment.version) == (5, 2)


def test_a_change_of_what_was_deleted_is_refused() -> None:
    environment = make_environment()
    db.session.execute(sa.delete(Environment).execution_options(synchronize_session=False))
    db.session.commit()

    with pytest.raises(Conflict, match="deleted meanwhile"):
        services.change(environment, {"order": 7}, actor=None, version=1)


def test_what_something_depends_on_cannot_be_deleted() -> None:
    mode = listed("Mode", "a")
    workorder = make_workorder(mode)

    for thing, told in (
        (workorder.environment, "work order site"),
        (workorder.variable_group, "work order site"),
        (mode, "variable group site form"),
    ):
        with pytest.raises(Conflict, match=told):
            services.delete(thing, actor=None)

    group = workorder.variable_group
    services.delete(workorder, actor=None)
    services.delete(group, actor=None)
    services.delete(mode, actor=None)
    assert db.session.scalar(sa.select(sa.func.count()).select_from(Variable)) == 0


def test_a_work_order_with_tickets_can_only_be_deactivated() -> None:
    from skstack.tickets.models import Ticket

    workorder = make_workorder(active=True)
    columns = {
        "workorder_id": workorder.id,
        "workorder_name": "site",
        "workorder_version": 1,
        "environment_id": workorder.environment_id,
        "environment_name": "PROD",
        "submitter_id": factories.alice().id,
        "submitter_name": "alice",
        "status": "submitted",
        "plan": {},
        "plan_digest": "",
    }
    db.session.add(Ticket(**columns))
    db.session.commit()

    with pytest.raises(Conflict, match=r"its tickets \(1\).*Deactivate it instead"):
        services.delete(workorder, actor=None)

    services.set_active(workorder, False, actor=None)
    assert not workorder.active


def test_names_that_cannot_be_used() -> None:
    for name in ("", " a", "a ", "a/b", "a\x00", "x" * 65):
        assert "name" in refused(services.create, Category, {"name": name}, actor=None), name


def test_names_are_unique() -> None:
    make_environment("PROD")

    assert "already is" in refused(services.create, Environment, {"name": "PROD"}, actor=None)["name"]


def test_a_variable_of_each_kind_can_be() -> None:
    for number, values in enumerate(
        (
            {"source": "list", "widget": "checkboxes", "choices": ["a", "b"], "default": "a,b"},
            {"source": "script", "widget": "multiselect", "script": "echo {Other} {sk__env}"},
            {"widget": "textarea", "default": "two\nlines"},
            {"secret": True, "required": True},
            {"strict": True, "pattern": "[0-9]+", "default": "5", "min_length": 1, "max_length": 3},
        )
    ):
        assert make_variable(f"V{number}", **values).id


def test_a_group_cannot_hold_a_variable_twice() -> None:
    mode = listed("Mode", "a")

    assert "variables" in refused(
        services.create, VariableGroup, {"name": "g", "variables": [mode, mode]}, actor=None
    )


def test_variables_of_a_group_keep_their_order() -> None:
    variables = [listed(name, "a") for name in ("C", "A", "B")]
    group = make_group("g", *variables)

    services.change(group, {"variables": [variables[2], variables[0]]}, actor=None, version=1)

    db.session.expire_all()
    assert [variable.name for variable in group.variables] == ["B", "C"]


def test_scripts_that_wait_for_each_other_are_refused() -> None:
    first, second = scripted("First", "echo {Second}"), scripted("Second", "echo {Third}")
    third = scripted("Third", "echo x")
    group = make_group("g", first, second, third)

    told = refused(services.change, third, {"script": "echo {First}"}, actor=None, version=1)
    assert "First → Second → Third → First" in told["script"]

    services.change(group, {"variables": [first, second]}, actor=None, version=1)
    services.change(third, {"script": "echo {First}"}, actor=None, version=1)
    assert "variables" in refused(
        services.change, group, {"variables": [first, second, third]}, actor=None, version=2
    )


REFUSED_WORKORDERS: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"main_task": ""}, "main_task", "at least one command line"),
    ({"main_task": "# only this"}, "main_task", "at least one command line"),
    ({"main_task": "true\necho {Nobody}"}, "main_task", "Line 2, column 6"),
    ({"main_task": "echo 'a"}, "main_task", "Line 1"),
    ({"pre_task": "true\n\neval {Free}"}, "pre_task", "Line 3, column 1"),
    ({"post_task": "{Free}"}, "post_task", "Line 1, column 1"),
    ({"builtin_variables": {"Free": "x"}}, "builtin_variables", "Free is also"),
    ({"builtin_variables": {"sk__name": "x"}}, "builtin_variables", "system variables"),
    ({"builtin_variables": {"a b": "x"}}, "builtin_variables", "not a variable's name"),
    ({"builtin_variables": {"a": ["x"]}}, "builtin_variables", "must be text"),
    ({"builtin_variables": {"a": None}}, "builtin_variables", "must be text"),
    ({"builtin_variables": {"a": "x\x00"}}, "builtin_variables", "control character"),
    ({"builtin_variables": ["a"]}, "builtin_variables", "JSON object"),
    ({"time_limit": 0}, "time_limit", "between"),
    ({"time_limit": 10**7}, "time_limit", "between"),
    ({"active": True, "template": True}, "active", "template"),
    ({"environment": None}, "environment", "environment"),
)


def test_work_orders_that_cannot_be() -> None:
    workorder = make_workorder(make_variable("Free"), main_task="echo {Free}")

    for values, field, told in REFUSED_WORKORDERS:
        found = refused(services.change, workorder, values, actor=None, version=1)

        assert list(found) == [field], values
        assert told in found[field], values
        assert workorder.version == 1


def test_names_that_are_items_of_another_are_refused() -> None:
    hosts = listed("Hosts", "a", "b", widget="checkboxes", one_argument_each=True)

    told = refused(make_workorder, hosts, builtin_variables={"Hosts_1": "x"})

    assert "Hosts_1 stands for an item of Hosts" in told["variable_group"]


def test_built_in_and_system_variables_are_strict_where_their_text_is() -> None:
    workorder = make_workorder(builtin_variables={"Plain": "app01", "Spaced": "a b", "Count": 3, "On": True})
    services.change(
        workorder,
        {"main_task": "sh -c 'echo {Plain} {Count} {On} {sk__env} {sk__name}'"},
        actor=None,
        version=1,
    )

    assert "main_task" in refused(
        services.change, workorder, {"main_task": "sh -c 'echo {Spaced}'"}, actor=None, version=2
    )
    assert "main_task" in refused(services.change, workorder, {"name": "the site"}, actor=None, version=2)
    told = refused(services.change, workorder.environment, {"name": "PROD 1"}, actor=None, version=1)
    assert "work order site would be refused" in told[""]
    assert compiling.builtin_texts(workorder)["On"] == "true"


def test_a_variable_that_a_work_order_needs_as_it_is_cannot_be_changed() -> None:
    mode = listed("Mode", "a", "b")
    workorder = make_workorder(mode, main_task="sh -c 'echo {Mode}'")
    other = listed("Other", "x")

    for values in (
        {"choices": ["a", "$(reboot)"]},
        {"source": "input", "widget": "text", "choices": []},
        {"name": "Modus"},
    ):
        told = refused(services.change, mode, values, actor=None, version=1)
        assert "work order site would be refused" in told[""], values
    told = refused(services.change, workorder.variable_group, {"variables": [other]}, actor=None, version=1)
    assert "work order site would be refused" in told[""]

    services.change(mode, {"choices": ["a", "b", "c"]}, actor=None, version=1)
    db.session.expire_all()
    assert mode.choices == ["a", "b", "c"]


def test_a_script_is_checked_with_the_variables_of_each_work_order() -> None:
    commit = scripted("Commit", "versions -p {Project}")

    assert "Project" in refused(make_workorder, commit)["variable_group"]
    assert make_workorder(commit, name="other", builtin_variables={"Project": "app"}).id


def test_a_secret_cannot_stand_in_a_task() -> None:
    assert "main_task" in refused(
        make_workorder, make_variable("Password", secret=True), main_task="login {Password}"
    )


def test_a_template_is_never_active() -> None:
    workorder = make_workorder(active=True)

    services.set_template(workorder, True, actor=None)
    assert (workorder.template, workorder.active) == (True, False)
    with pytest.raises(Conflict, match="template"):
        services.set_active(workorder, True, actor=None)

    services.set_template(workorder, False, actor=None)
    assert (workorder.template, workorder.active) == (False, False)


def test_a_template_without_a_task_does_not_become_a_work_order() -> None:
    workorder = make_workorder(template=True, main_task="")

    assert "main_task" in refused(services.set_template, workorder, False, actor=None)


def test_another_host_or_port_has_its_key_accepted_again_another_user_not() -> None:
    center = services.create(ConfigCenter, {"name": "c", "host": "h", "username": "u"}, actor=None)
    services.accept_host_key(center, KEY, actor=None)
    services.note_verified(center, actor=None, time="now")

    services.change(center, {"username": "v"}, actor=None, version=2)
    assert (center.host_key, center.verified_at) == (KEY, None)
    services.change(center, {"port": 2222}, actor=None, version=3)
    assert center.host_key is None
    assert [event.action for event in events()][-4:] == [
        "config_center.host_key_accepted",
        "config_center.verified",
        "changed",
        "changed",
    ]


@pytest.mark.parametrize(
    "key", ["ssh-ed25519", "ssh-ed25519 AAAA", KEY.replace("ed25519", "rsa"), "x y z", "", f"{KEY} comment"]
)
def test_what_is_no_host_key_is_not_accepted(key: str) -> None:
    center = services.create(ConfigCenter, {"name": "c", "host": "h", "username": "u"}, actor=None)

    assert "host_key" in refused(services.accept_host_key, center, key, actor=None)
    db.session.expire_all()
    assert center.host_key is None


def test_credentials_are_encrypted_in_the_database() -> None:
    values = {"name": "c", "host": "h", "username": "u", "login": "password", "password": "hunter2"}
    center = services.create(ConfigCenter, values, actor=None)

    stored = db.session.scalar(sa.text("SELECT password FROM config_centers"))
    assert b"hunter2" not in bytes(stored)
    db.session.expire_all()
    assert center.password == "hunter2"


def test_who_may_submit_is_kept(context: object) -> None:
    alice: User = factories.alice()
    workorder = make_workorder(active=True, submit_groups=list(alice.groups))

    db.session.expire_all()
    assert workorder.can_be_submitted_by(alice)
    assert not workorder.can_be_submitted_by(factories.mallory())
    assert isinstance(workorder, WorkOrder)
