"""The pages of schedules: who may, what they do, and that a wrong expression is explained where it is typed."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from skstack.accounts.models import User
from skstack.catalog import services
from skstack.extensions import db
from skstack.schedules import recurring
from skstack.schedules.models import Schedule
from tests.factories import alice, make_group, make_user, mallory, root, sign_in
from tests.fake_runner import FakeRunner
from tests.orders import list_variable, make_variable, make_workorder, script_variable
from tests.schedules.making import make_schedule, next_of, pass_time, tickets

HTMX = {"HX-Request": "true"}
NIGHTLY = {
    recurring.NAME: "nightly",
    recurring.EXPRESSION: "30 2 * * mon-fri",
    recurring.TIMEZONE: "Europe/Berlin",
}


def text_of(response: TestResponse) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.text)))


def only() -> Schedule:
    db.session.expire_all()
    return db.session.scalars(sa.select(Schedule)).one()


def as_(app: Flask, person: Callable[[], User]) -> FlaskClient:
    """Return a client at which somebody is signed in; to be used outside of any context, which would remember them."""
    client = app.test_client()
    with app.app_context():
        sign_in(client, person())
    return client


@pytest.fixture
def alices(context: Flask, client: FlaskClient) -> FlaskClient:
    sign_in(client, alice())
    return client


def test_one_is_added_changed_paused_resumed_and_deleted(alices: FlaskClient) -> None:
    order = make_workorder(
        "backup", scheduling=True, variables=[list_variable("Mode", "full", "quick"), make_variable("Why")]
    )
    make_workorder("not-to-be-scheduled")
    chosen = alices.get("/schedules/new").text
    assert f"/schedules/new?workorder={order.id}" in chosen
    assert "not-to-be-scheduled" not in chosen
    assert alices.get(f"/schedules/new?workorder={order.id}").status_code == 200
    sent = {**NIGHTLY, "v-Mode": "full", "v-Why": "so", "note": "n"}
    answer = alices.post(f"/schedules/new?workorder={order.id}", data=sent)
    schedule = only()
    assert (answer.status_code, answer.location) == (303, f"/schedules/{schedule.id}")
    assert (schedule.name, schedule.expression, schedule.timezone) == (
        "nightly",
        "30 2 * * MON-FRI",
        "Europe/Berlin",
    )
    assert (schedule.values, schedule.note) == ({"Mode": "full", "Why": "so"}, "n")
    shown = text_of(alices.get(answer.location))
    for part in ("The schedule nightly was added.", "full", "02:30 +01:00", "01:30", "None has come yet"):
        assert part in shown
    form = alices.get(f"{answer.location}/edit").text
    assert 'value="30 2 * * MON-FRI"' in form
    assert re.search(r'value="full"\s+selected', form)
    changed = {**sent, recurring.EXPRESSION: "0 5 * * *", "version": "1"}
    assert alices.post(f"{answer.location}/edit", data=changed).status_code == 303
    assert (only().expression, only().version) == ("0 5 * * *", 2)
    assert alices.post(f"{answer.location}/edit", data=changed).status_code == 409
    assert alices.post(f"{answer.location}/pause").status_code == 303
    assert "It was paused by hand" in text_of(alices.get(answer.location))
    assert alices.post(f"{answer.location}/pause").status_code == 409
    assert alices.post(f"{answer.location}/resume").status_code == 303
    assert alices.post(f"{answer.location}/resume").status_code == 409
    assert alices.post(f"{answer.location}/delete").status_code == 303
    assert alices.get(answer.location).status_code == 404


def test_a_list_shows_when_how_it_goes_on_and_the_last_ticket(alices: FlaskClient) -> None:
    schedule = make_schedule()
    pass_time(next_of(schedule))
    paused = make_schedule(name="stopped")
    recurring.pause(paused, actor=alice())
    listed = text_of(alices.get("/schedules"))
    for part in ("hourly", "stopped", "paused", "active", "0 * * * *", "#1", "Running"):
        assert part in listed
    assert "submitted" in text_of(alices.get(f"/schedules/{schedule.id}"))


def test_without_any_it_says_what_to_do(alices: FlaskClient) -> None:
    assert "There is no schedule yet" in text_of(alices.get("/schedules"))
    assert "There is nothing that you may schedule" in text_of(alices.get("/schedules/new"))


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_what_is_wrong_stands_at_its_field_and_what_was_typed_stays(
    alices: FlaskClient, headers: dict[str, str]
) -> None:
    order = make_workorder(scheduling=True, variables=[make_variable("name", required=True)])
    sent = {recurring.NAME: "", recurring.EXPRESSION: "99 * * * *", recurring.TIMEZONE: "UTC", "note": "kept"}
    answer = alices.post(f"/schedules/new?workorder={order.id}", data=sent, headers=headers)
    assert answer.status_code == 422
    assert ("<html" in answer.text) == (not headers)
    for field in ("schedule-name", "schedule-expression", "v-name"):
        assert f'id="field-{field}-error"' in answer.text
    assert "The minute is a number from 0 to 59" in answer.text
    assert 'value="99 * * * *"' in answer.text
    assert "kept" in answer.text


def test_a_choice_whose_script_fails_cannot_be_saved_over(alices: FlaskClient, runner: FakeRunner) -> None:
    runner.scripts["versions"] = b"1.0\n2.0\n"
    order = make_workorder(scheduling=True, variables=[script_variable("Version", "versions")])
    path = f"/schedules/new?workorder={order.id}"
    assert alices.post(path, data={**NIGHTLY, "failed": "Version"}).status_code == 422
    answer = alices.post(path, data={**NIGHTLY, "v-Version": "3.0"})
    assert "not, or no longer, one of the choices" in text_of(answer)
    assert alices.post(path, data={**NIGHTLY, "v-Version": "2.0"}).status_code == 303


def test_the_next_times_are_a_fragment(alices: FlaskClient) -> None:
    def ask(expression: str, zone: str = "America/New_York") -> str:
        query = {recurring.EXPRESSION: expression, recurring.TIMEZONE: zone}
        return text_of(alices.get("/schedules/times", query_string=query))

    shown = ask("0 12 1 1 *")
    assert shown.count("12:00 -05:00") == 5
    assert shown.count("17:00") == 5
    assert "The hour is a number from 0 to 23" in ask("0 25 * * *")
    for nothing in (ask(""), ask("0 12 * * *", "Mars/Olympus")):
        assert "The next five times are shown here" in nothing


def test_a_chinese_reader_gets_chinese_week_days(alices: FlaskClient) -> None:
    query = {recurring.EXPRESSION: "0 12 * * MON", recurring.TIMEZONE: "Asia/Shanghai"}
    answer = alices.get("/schedules/times", query_string=query, headers={"Accept-Language": "zh-CN"})
    assert answer.text.count("周一") == 10


def test_a_secret_is_in_no_page(alices: FlaskClient) -> None:
    order = make_workorder(scheduling=True, variables=[make_variable("Password", secret=True)])
    schedule = make_schedule(workorder=order, values={"Password": "hunter2"})
    for path in ("", f"/{schedule.id}", f"/{schedule.id}/edit"):
        assert "hunter2" not in alices.get(f"/schedules{path}").text
    assert "Secret fields that you leave empty" in alices.get(f"/schedules/{schedule.id}/edit").text


@pytest.fixture
def alices_schedule(app: Flask) -> int:
    """Give the number of a schedule, outside of any context."""
    with app.app_context():
        return make_schedule().id


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/edit"),
        *(("POST", f"/{verb}") for verb in ("edit", "pause", "resume", "owner", "delete")),
    ],
)
def test_to_others_a_schedule_does_not_exist(
    app: Flask, alices_schedule: int, method: str, path: str
) -> None:
    address = f"/schedules/{alices_schedule}{path}"
    assert as_(app, mallory).open(address, method=method).status_code == 404
    assert app.test_client().open(address, method=method).status_code == (303 if method == "GET" else 401)
    with app.app_context():
        assert not only().is_paused


def test_a_superuser_sees_all_hands_them_over_and_edits_none_but_their_own(
    app: Flask, alices_schedule: int
) -> None:
    roots, alices = as_(app, root), as_(app, alice)
    with app.app_context():
        numbers = {person: person().id for person in (root, mallory)}
    page = f"/schedules/{alices_schedule}"
    assert "alice" in text_of(roots.get("/schedules"))
    assert roots.get(f"{page}/edit").status_code == 403
    assert alices.post(f"{page}/owner", data={"owner": numbers[root]}).status_code == 403
    assert roots.post(f"{page}/owner", data={"owner": numbers[mallory]}).status_code == 404
    assert f'<option value="{numbers[root]}">' in roots.get(page).text
    assert roots.post(f"{page}/owner", data={"owner": numbers[root]}).status_code == 303
    assert "It was handed over to root" in text_of(roots.get(page))
    assert alices.get(page).status_code == 404
    with app.app_context():
        assert (only().owner_id, only().is_paused) == (numbers[root], True)


def test_what_it_submitted_for_its_owner_before_is_not_there_for_the_next(
    app: Flask, alices_schedule: int
) -> None:
    with app.app_context():
        erin = make_user("erin", groups=[make_group("ops")], pages=["submit"]).id
        pass_time(next_of(only()))
        (ticket,) = tickets()
        link = f'href="/tickets/{ticket.id}"'
    page = f"/schedules/{alices_schedule}"
    assert all(link in as_(app, alice).get(path).text for path in (page, "/schedules"))
    assert as_(app, root).post(f"{page}/owner", data={"owner": erin}).status_code == 303
    erins = as_(app, lambda: db.session.get_one(User, erin))
    for path in (page, "/schedules"):
        assert "hourly" in erins.get(path).text
        assert link not in erins.get(path).text
        assert link in as_(app, root).get(path).text


def test_a_page_says_why_it_would_pause_and_that_it_fails(alices: FlaskClient) -> None:
    order = make_workorder(scheduling=True, variables=[list_variable("Mode", "full", "quick")])
    schedule = make_schedule(workorder=order, values={"Mode": "quick"})
    (variable,) = order.variables
    services.change(variable, {"choices": ["full"]}, actor=None, version=variable.version)
    pass_time(next_of(schedule))
    shown = text_of(alices.get(f"/schedules/{schedule.id}"))
    assert "Refused 1 times in a row" in shown
    assert "Mode: " in shown
    services.set_active(order, False, actor=None)
    shown = text_of(alices.get(f"/schedules/{schedule.id}"))
    assert "It will pause when its time comes" in shown
    assert alices.get(f"/schedules/{schedule.id}/edit").status_code == 404
