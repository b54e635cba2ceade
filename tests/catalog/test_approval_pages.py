"""The pages of approval flows and freeze windows, and the switches of a work order."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from skstack.accounts.models import User
from skstack.audit.models import AuditEvent
from skstack.catalog.models import ApprovalFlow, Category, FreezeWindow, WorkOrder
from skstack.db import transaction
from skstack.extensions import db
from tests.catalog.conftest import make_environment
from tests.catalog.test_pages import text_of
from tests.factories import APPROVER, bob, make_group, make_user
from tests.orders import make_flow, make_workorder

FLOWS, WINDOWS = "/config/approval-flows", "/config/freeze-windows"


def flow_values(**changed: Any) -> dict[str, Any]:
    first, second = make_group("ops"), make_group("leads")
    return {"name": "two", "level_1": str(first.id), "level_2": str(second.id), **changed}


def only(model: type[Any]) -> Any:
    db.session.expire_all()
    return db.session.scalars(sa.select(model)).unique().one()


def test_a_flow_is_added_changed_copied_and_deleted(app: Flask, pages: FlaskClient) -> None:
    values = flow_values(expires_hours="48", distinct_approvers="y")
    assert pages.post(f"{FLOWS}/new", data=values).status_code == 303
    flow = only(ApprovalFlow)
    assert [group.name for group in flow.levels] == ["ops", "leads"]
    assert (flow.expires_hours, flow.distinct_approvers, flow.allow_self_approval) == (48, True, False)

    values |= {"level_1": values["level_2"], "level_2": "", "version": "1"}
    assert pages.post(f"{FLOWS}/{flow.id}", data=values).status_code == 303
    assert [group.name for group in only(ApprovalFlow).levels] == ["leads"]

    assert 'value="two 2"' in pages.get(f"{FLOWS}/new?copy={flow.id}").text
    assert pages.post(f"{FLOWS}/{flow.id}/delete").status_code == 303
    assert db.session.scalars(sa.select(ApprovalFlow)).all() == []
    made = [
        row.action
        for row in db.session.scalars(sa.select(AuditEvent).where(AuditEvent.object_type == "approval_flow"))
    ]
    assert made == ["created", "changed", "deleted"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"level_1": "", "level_2": ""}, "1 to 3 levels"),
        ({"level_1": ""}, "Choose a group, or leave the levels after it empty"),
        ({"level_1": "999"}, "not there any more"),
        ({"name": ""}, "A name is needed"),
        ({"expires_hours": "0"}, "between 1 and"),
        ({"expires_hours": "soon"}, "must be a whole number"),
    ],
)
def test_a_flow_that_is_wrong_is_refused_at_its_field(
    pages: FlaskClient, changed: dict[str, str], told: str
) -> None:
    answer = pages.post(f"{FLOWS}/new", data=flow_values(**changed))
    assert answer.status_code == 422
    assert told in text_of(answer)
    assert db.session.scalars(sa.select(ApprovalFlow)).all() == []


def test_a_flow_that_is_used_is_not_deleted(pages: FlaskClient) -> None:
    flow = make_flow("ops")
    make_workorder(name="site", approval_flow=flow)
    answer = pages.post(f"{FLOWS}/{flow.id}/delete")
    assert answer.status_code == 409
    assert "work order site" in text_of(answer)


def test_a_flow_shows_who_can_decide_it(pages: FlaskClient) -> None:
    bob()
    silent = make_user("silent", groups=[make_group("directors")])
    flow = make_flow("leads", "directors")
    page = text_of(pages.get(f"{FLOWS}/{flow.id}"))
    assert "Level 1 · leads bob" in page
    assert "Level 2 · directors Nobody" in page
    with transaction():
        db.session.get_one(User, silent.id).roles = list(make_user(pages=APPROVER).roles)
    assert "Level 2 · directors silent" in text_of(pages.get(f"{FLOWS}/{flow.id}"))


def window_values(**changed: Any) -> dict[str, Any]:
    environment = make_environment("PROD")
    return {
        "name": "new year",
        "environment": str(environment.id),
        "starts_at": "2026-12-31T12:00",
        "ends_at": "2027-01-03T00:00",
        **changed,
    }


@pytest.fixture
def berlin(app: Flask, pages: FlaskClient) -> FlaskClient:
    """Give the pages of somebody whose clock is that of Berlin."""
    with transaction():
        db.session.execute(sa.update(User).values(timezone="Europe/Berlin"))
    return pages


def test_a_window_is_read_and_shown_by_the_readers_clock(berlin: FlaskClient) -> None:
    assert berlin.post(f"{WINDOWS}/new", data=window_values()).status_code == 303
    window = only(FreezeWindow)
    assert window.starts_at == dt.datetime(2026, 12, 31, 11, tzinfo=dt.UTC)
    page = berlin.get(f"{WINDOWS}/{window.id}").text
    assert 'value="2026-12-31T12:00"' in page
    assert "has not begun" in page
    assert "2026-12-31 12:00:00" in text_of(berlin.get(WINDOWS))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"ends_at": "2026-12-31T12:00"}, "after its beginning"),
        ({"ends_at": ""}, "A time is needed"),
        ({"starts_at": "tomorrow"}, "no date with a time"),
        ({"starts_at": "2026-03-29T02:30"}, "There is no such time"),
        ({"environment": "999"}, "not there any more"),
    ],
)
def test_a_window_that_is_wrong_is_refused_at_its_field(
    berlin: FlaskClient, changed: dict[str, str], told: str
) -> None:
    answer = berlin.post(f"{WINDOWS}/new", data=window_values(**changed))
    assert answer.status_code == 422
    assert told in text_of(answer)
    assert next(iter(changed.values())) in answer.text or "environment" in changed
    assert db.session.scalars(sa.select(FreezeWindow)).all() == []


def test_a_work_order_gets_a_flow_and_its_switches(pages: FlaskClient) -> None:
    flow = make_flow("ops", name="one")
    environment = make_environment("DEV")
    values = {
        "name": "site",
        "environment": str(environment.id),
        "main_task": "true",
        "time_limit": "60",
        "builtin_variables": "{}",
        "approval_flow": str(flow.id),
        "scheduling": "y",
        "task_lock": "y",
    }
    assert pages.post("/config/workorders/new", data=values).status_code == 303
    workorder = only(WorkOrder)
    assert workorder.approval_flow.name == "one"
    assert (workorder.scheduling, workorder.task_lock) == (True, True)
    assert (workorder.background_choice, workorder.auto_run_choice) == (False, False)
    page = pages.get(f"/config/workorders/{workorder.id}")
    assert "Level 1 · ops Nobody" in text_of(page)
    copy = pages.get(f"/config/workorders/new?copy={workorder.id}").text
    assert 'id="scheduling" name="scheduling" type="checkbox" value="y"' in copy


def test_a_category_gets_a_retention_rule(pages: FlaskClient) -> None:
    values = {"name": "Deploy", "retention_days": "30", "retention_megabytes": ""}
    assert pages.post("/config/categories/new", data=values).status_code == 303
    category = only(Category)
    assert (category.retention_days, category.retention_megabytes) == (30, None)
    answer = pages.post("/config/categories/new", data={"name": "x", "retention_days": "-1"})
    assert answer.status_code == 422
    assert "between 0 and" in text_of(answer)
