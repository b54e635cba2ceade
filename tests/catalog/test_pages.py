"""The configuration's pages: who may, what they do, and that nothing typed is lost."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from skstack.accounts.models import Page
from skstack.audit.models import AuditEvent
from skstack.catalog import services
from skstack.catalog.models import (
    ApprovalFlow,
    Category,
    ConfigCenter,
    Environment,
    FreezeWindow,
    Variable,
    VariableGroup,
    WorkOrder,
)
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

SECTIONS = {
    "environments": {"name": "DEV", "order": "5"},
    "categories": {"name": "DeployGit"},
    "config-centers": {"name": "ansible01", "host": "h", "port": "22", "username": "u", "login": "agent"},
    "variables": {"name": "Reason", "source": "input", "widget": "text"},
    "variable-groups": {"name": "group"},
}
MODELS: dict[str, type[Any]] = {
    "environments": Environment,
    "categories": Category,
    "config-centers": ConfigCenter,
    "variables": Variable,
    "variable-groups": VariableGroup,
    "approval-flows": ApprovalFlow,
    "freeze-windows": FreezeWindow,
    "workorders": WorkOrder,
}
HTMX = {"HX-Request": "true"}


def text_of(response: TestResponse) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.text)))


def one(model: type[Any]) -> Any:
    db.session.expire_all()
    return db.session.scalars(sa.select(model)).unique().one()


@pytest.mark.parametrize("section", [*MODELS, "templates"])
def test_only_those_with_the_page_see_a_list(app: Flask, client: FlaskClient, section: str) -> None:
    path = f"/config/{section}"
    assert client.get(path).location.startswith("/sign-in")

    with app.app_context():
        factories.sign_in(client, factories.alice())
    assert client.get(path).status_code == 403
    assert client.post(f"/config/{section}/new", data={}).status_code in (403, 404)

    with app.app_context():
        factories.sign_in(client, factories.make_user(pages=[Page.CONFIGURATION]))
    assert client.get(path).status_code == 200


def test_the_first_page_is_the_list_of_work_orders(pages: FlaskClient) -> None:
    assert pages.get("/config").location == "/config/workorders"


@pytest.mark.parametrize("section", [*MODELS, "templates"])
def test_an_empty_list_says_what_to_do_next(pages: FlaskClient, section: str) -> None:
    response = pages.get(f"/config/{section}")

    assert 'class="empty"' in response.text
    assert "/new" in response.text


@pytest.mark.parametrize("section", SECTIONS)
def test_an_object_is_added_changed_and_deleted(pages: FlaskClient, section: str) -> None:
    values, model = SECTIONS[section], MODELS[section]
    assert pages.get(f"/config/{section}/new").status_code == 200

    added = pages.post(f"/config/{section}/new", data=values)
    thing = one(model)
    path = f"/config/{section}/{thing.id}"
    assert (added.status_code, added.location) == (303, path)
    assert values["name"] in pages.get(f"/config/{section}").text
    assert values["name"] in pages.get(path).text

    data = {**values, "description": "another\r\nline", "version": "1"}
    assert pages.post(path, data=data).status_code == 303
    assert (one(model).description, one(model).version) == ("another\nline", 2)

    assert pages.post(f"{path}/delete").status_code == 303
    assert pages.get(path).status_code == 404
    events = db.session.scalars(
        sa.select(AuditEvent).where(AuditEvent.object_id == thing.id).order_by(AuditEvent.id)
    )
    assert [event.action for event in events if event.object_type == event.object_type][-3:] == [
        "created",
        "changed",
        "deleted",
    ]


@pytest.mark.parametrize("section", SECTIONS)
def test_a_form_with_errors_comes_back_with_what_was_typed(pages: FlaskClient, section: str) -> None:
    data = {**SECTIONS[section], "name": "", "description": "typed <b>with care</b>"}

    response = pages.post(f"/config/{section}/new", data=data)

    assert response.status_code == 422
    assert "typed &lt;b&gt;with care&lt;/b&gt;" in response.text
    assert 'aria-invalid="true"' in response.text
    assert db.session.scalar(sa.select(sa.func.count()).select_from(MODELS[section])) == 0


@pytest.mark.parametrize("section", SECTIONS)
def test_who_is_slower_gets_the_fresh_state_and_loses_nothing(pages: FlaskClient, section: str) -> None:
    pages.post(f"/config/{section}/new", data=SECTIONS[section])
    path = f"/config/{section}/{one(MODELS[section]).id}"
    pages.post(path, data={**SECTIONS[section], "description": "theirs", "version": "1"})

    response = pages.post(path, data={**SECTIONS[section], "description": "mine", "version": "1"})

    assert response.status_code == 409
    assert "changed meanwhile" in response.text
    assert "mine" in response.text
    assert "theirs" in response.text
    assert one(MODELS[section]).description == "theirs"

    version = re.search(r'name="version" value="(\d+)"', response.text)
    assert version
    assert (
        pages.post(path, data={**SECTIONS[section], "description": "mine", "version": version[1]}).status_code
        == 303
    )
    assert one(MODELS[section]).description == "mine"


def test_a_form_without_its_version_is_taken_for_an_old_one(pages: FlaskClient) -> None:
    environment = make_environment()

    assert pages.post(f"/config/environments/{environment.id}", data={"name": "X"}).status_code == 409


def test_what_is_needed_is_not_deleted_and_the_page_says_by_what(pages: FlaskClient) -> None:
    workorder = make_workorder()

    response = pages.post(f"/config/environments/{workorder.environment_id}/delete")

    assert response.status_code == 409
    assert "work order site" in response.text


def test_nothing_changes_by_get(pages: FlaskClient) -> None:
    workorder = make_workorder()
    for verb in ("delete", "activate", "deactivate", "template"):
        assert pages.get(f"/config/workorders/{workorder.id}/{verb}").status_code == 405


def test_lists_are_searched_and_narrowed_by_the_address(pages: FlaskClient) -> None:
    dev = make_environment("DEV")
    category = services.create(Category, {"name": "Git"}, actor=None)
    make_workorder(name="alpha", environment=dev, category=category, active=True)
    make_workorder(name="beta", environment=make_environment("PROD"), main_task="echo needle")

    def names(query: str) -> list[str]:
        return re.findall(r"/config/workorders/\d+\">(\w+)</a>", pages.get(f"/config/workorders{query}").text)

    assert names("") == ["alpha", "beta"]
    assert names("?q=ALP") == ["alpha"]
    assert names("?q=needle") == ["beta"]
    assert names("?q=%25") == []
    assert names("?environment=DEV") == ["alpha"]
    assert names("?environment=NOWHERE") == []
    assert names("?category=Git") == ["alpha"]
    assert names("?state=inactive") == ["beta"]
    assert names("?after=alpha") == ["beta"]
    assert "Nothing matches" in pages.get("/config/workorders?q=zzz").text


def test_long_lists_have_pages(pages: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skstack.catalog.queries.MOST", 2)
    for name in "abcde":
        services.create(Category, {"name": name}, actor=None)

    first = pages.get("/config/categories")
    assert 'href="/config/categories?after=b"' in first.text
    second = pages.get("/config/categories?after=b")
    assert re.findall(r'/config/categories/\d+">(\w)</a>', second.text) == ["c", "d"]


def workorder_values(made: Environment, **values: Any) -> dict[str, Any]:
    base = {
        "name": "site",
        "environment": str(made.id),
        "main_task": "echo {Project}\r\n",
        "builtin_variables": '{"Project": "app"}',
        "time_limit": "60",
        "variable_group_on": "y",
        "allow_several": "y",
    }
    return {**base, **values}


def test_a_work_order_is_configured_from_nothing(pages: FlaskClient) -> None:
    pages.post("/config/environments/new", data={"name": "PROD"})
    mode = {
        "name": "Mode",
        "source": "list",
        "widget": "radio",
        "choices": "update\r\n\r\n restart ",
        "default": "update",
    }
    pages.post("/config/variables/new", data=mode)
    pages.post("/config/variable-groups/new", data={"name": "g", "add": str(one(Variable).id)})
    group = factories.make_group("ops")
    data = workorder_values(
        one(Environment),
        main_task="echo {Mode}\r\necho {Project}\r\n",
        variable_group=str(one(VariableGroup).id),
        submit_groups=[str(group.id)],
        active="y",
    )

    assert pages.post("/config/workorders/new", data=data).status_code == 303

    workorder = one(WorkOrder)
    assert workorder.main_task == "echo {Mode}\necho {Project}\n"
    assert (workorder.active, workorder.time_limit, workorder.builtin_variables) == (
        True,
        60,
        {"Project": "app"},
    )
    assert workorder.variables[0].choices == ["update", "restart"]
    assert workorder.submit_groups == [group]
    shown = pages.get(f"/config/workorders/{workorder.id}").text
    assert "echo update" in shown
    assert "&#34;Project&#34;: &#34;app&#34;" in shown


def test_a_refused_task_is_told_at_its_field_with_line_and_column(pages: FlaskClient) -> None:
    data = workorder_values(make_environment(), main_task="true\necho {Nobody}")

    response = pages.post("/config/workorders/new", data=data)

    assert response.status_code == 422
    assert "Line 2, column 6: There is no variable Nobody" in text_of(response)
    assert re.search(r'id="main_task-error"', response.text)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"builtin_variables": '{"a": '}, "This is not JSON"),
        ({"builtin_variables": "[1]"}, "must be a JSON object"),
        ({"time_limit": "soon"}, "must be a whole number"),
        ({"time_limit": ""}, "must be between"),
        ({"environment": "999"}, "not there any more"),
        ({"environment": ""}, "Choose an environment"),
        ({"name": ""}, "A name is needed"),
    ],
)
def test_work_order_forms_that_are_refused(pages: FlaskClient, values: dict[str, str], told: str) -> None:
    environment = make_environment()

    response = pages.post("/config/workorders/new", data=workorder_values(environment, **values))

    assert response.status_code == 422
    assert told in text_of(response)
    assert "echo {Project}" in response.text


def test_the_preview_shows_lines_with_sample_values(pages: FlaskClient) -> None:
    group = make_group(
        "g", listed("Mode", "update", "restart"), make_variable("Reason"), make_variable("Pin", secret=True)
    )
    data = workorder_values(
        make_environment(),
        main_task="echo {Mode} '{Reason}' {Project} {sk__env}",
        variable_group=str(group.id),
    )

    response = pages.post("/config/workorders/preview", data=data, headers=HTMX)

    assert response.status_code == 200
    assert "<html" not in response.text
    assert "echo update '‹Reason›' app prod" in html.unescape(response.text)
    assert db.session.scalar(sa.select(sa.func.count()).select_from(WorkOrder)) == 0


def test_the_preview_marks_what_is_refused_and_says_what_to_write(pages: FlaskClient) -> None:
    group = make_group("g", make_variable("Reason"))
    data = workorder_values(
        make_environment(), main_task='true\nsh -c "probe {Reason}"', variable_group=str(group.id)
    )

    response = pages.post("/config/workorders/preview", data=data, headers=HTMX)

    assert "Line 2, column 14" in response.text
    assert "<mark>{Reason}</mark>" in response.text
    assert "sh -c 'probe \"$1\"' x {Reason}" in html.unescape(response.text)


HALF_TYPED = (
    {"builtin_variables": "{"},
    {"environment": ""},
    {"name": "", "main_task": "{"},
    {"main_task": "'"},
)


@pytest.mark.parametrize("values", HALF_TYPED, ids=range(len(HALF_TYPED)))
def test_the_preview_lives_through_what_is_half_typed(pages: FlaskClient, values: dict[str, str]) -> None:
    data = workorder_values(make_environment(), **values)

    assert pages.post("/config/workorders/preview", data=data, headers=HTMX).status_code == 200
    assert pages.post("/config/workorders/preview", data={}, headers=HTMX).status_code == 200


def test_a_copy_starts_inactive_and_under_a_new_name(pages: FlaskClient) -> None:
    workorder = make_workorder(active=True, description="Deploys")

    form = pages.get(f"/config/workorders/new?copy={workorder.id}").text

    assert re.search(r'name="name"[^>]*value="site 2"', form) or 'value="site 2"' in form
    assert "Deploys" in form
    assert not re.search(r'<input[^>]*\bchecked\b[^>]*name="active"', form)
    assert pages.get("/config/workorders/new?copy=999").status_code == 404


def test_a_copied_variable_has_a_name_that_a_variable_can_have(pages: FlaskClient) -> None:
    variable = listed("Mode", "a", "b")
    make_group("g", variable)

    assert 'value="Mode_2"' in pages.get(f"/config/variables/new?copy={variable.id}").text
    assert "Mode" in pages.get(f"/config/variable-groups/new?copy={one(VariableGroup).id}").text


def test_a_work_order_is_activated_deactivated_and_made_a_template(pages: FlaskClient) -> None:
    workorder = make_workorder()
    path = f"/config/workorders/{workorder.id}"

    assert pages.post(f"{path}/activate").status_code == 303
    assert one(WorkOrder).active
    assert pages.post(f"{path}/activate").status_code == 303
    assert pages.post(f"{path}/deactivate").status_code == 303
    assert not one(WorkOrder).active
    assert pages.post(f"{path}/template").status_code == 303
    assert one(WorkOrder).template
    assert ">site</a>" in pages.get("/config/templates").text
    assert ">site</a>" not in pages.get("/config/workorders").text
    assert pages.post(f"{path}/activate").status_code == 409
    copy = pages.get(f"/config/workorders/new?copy={workorder.id}&template=0").text
    assert not re.search(r'<input[^>]*\bchecked\b[^>]*name="template"', copy)
    assert pages.post(f"/config/templates/{workorder.id}/workorder").status_code == 303
    assert not one(WorkOrder).template


def test_the_rows_of_a_group_are_moved_without_saving(pages: FlaskClient) -> None:
    first, second, third = (listed(name, "a") for name in ("A", "B", "C"))
    group = make_group("g", first, second)
    path = f"/config/variable-groups/{group.id}"
    data = {"name": "renamed", "version": "1", "variables": [first.id, second.id]}

    def rows(**more: Any) -> list[int]:
        response = pages.post(path, data={**data, **more})
        assert response.status_code == 200
        assert "renamed" in response.text
        return [int(found) for found in re.findall(r'name="variables" value="(\d+)"', response.text)]

    assert rows(arrange=f"up-{second.id}") == [second.id, first.id]
    assert rows(arrange=f"down-{first.id}") == [second.id, first.id]
    assert rows(arrange=f"remove-{first.id}") == [second.id]
    assert rows(arrange="add", add=third.id) == [first.id, second.id, third.id]
    assert rows(arrange="nonsense") == [first.id, second.id]
    assert one(VariableGroup).name == "g"

    assert pages.post(path, data={**data, "variables": [second.id, first.id]}).status_code == 303
    assert [variable.name for variable in one(VariableGroup).variables] == ["B", "A"]


def test_credentials_are_never_shown_and_empty_keeps_them(pages: FlaskClient) -> None:
    values = {
        "name": "c",
        "host": "h",
        "port": "22",
        "username": "u",
        "login": "password",
        "password": "hunter2",
    }
    pages.post("/config/config-centers/new", data=values)
    path = f"/config/config-centers/{one(ConfigCenter).id}"

    assert "hunter2" not in pages.get(path).text
    assert (
        pages.post(path, data={**values, "password": "", "description": "x", "version": "1"}).status_code
        == 303
    )
    assert one(ConfigCenter).password == "hunter2"
    wrong = pages.post(path, data={**values, "password": "hunter3", "host": "", "version": "2"})
    assert wrong.status_code == 422
    assert "hunter3" not in wrong.text


def test_a_change_that_would_break_a_work_order_is_refused_by_name(pages: FlaskClient) -> None:
    mode = listed("Mode", "a", "b")
    make_workorder(mode, main_task="sh -c 'echo {Mode}'")
    data = {"name": "Mode", "source": "list", "widget": "select", "choices": "a\n$(reboot)", "version": "1"}

    response = pages.post(f"/config/variables/{mode.id}", data=data)

    assert response.status_code == 422
    assert "With this, work order site would be refused" in text_of(response)
    assert "$(reboot)" in response.text


def test_check_shows_what_users_would_see(pages: FlaskClient) -> None:
    other = listed("Other", "x", "y")
    variable = scripted("V", "printf '%s\\n' '<b>' {Other} {Project}")
    workorder = make_workorder(other, variable, builtin_variables={"Project": "app"})
    path = f"/config/variables/{variable.id}/check"

    response = pages.post(path, data={"workorder": str(workorder.id), "v-Other": "y"})

    assert response.status_code == 200
    assert "Users are offered 3 values" in text_of(response)
    assert "&lt;b&gt;" in response.text
    assert re.search(r'<option value="app"', response.text)
    assert "There is no variable" in text_of(pages.post(path, data={}))


def test_check_shows_why_a_script_offers_nothing(pages: FlaskClient) -> None:
    variable = scripted("V", "echo broken >&2; exit 3")

    response = pages.post(f"/config/variables/{variable.id}/check", data={})

    assert "exit code 3: broken" in text_of(response)


def test_htmx_is_led_on_after_a_change(pages: FlaskClient) -> None:
    response = pages.post("/config/categories/new", data={"name": "X"}, headers=HTMX)

    assert response.status_code == 204
    assert response.headers["HX-Redirect"] == f"/config/categories/{one(Category).id}"


def test_pages_are_whole_in_chinese(pages: FlaskClient) -> None:
    make_workorder(listed("Mode", "a"))

    for section, model in MODELS.items():
        for path in (f"/config/{section}", f"/config/{section}/new"):
            assert pages.get(path, headers={"Accept-Language": "zh-CN"}).status_code == 200
        for thing in db.session.scalars(sa.select(model)).unique():
            assert (
                pages.get(f"/config/{section}/{thing.id}", headers={"Accept-Language": "zh-CN"}).status_code
                == 200
            )
