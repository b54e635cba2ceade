"""`GET /workorders` and `GET /workorders/ID`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from skstack.runner.protocol import Outcome
from tests.api.conftest import Caller
from tests.factories import alice, bob, carol, mallory, root
from tests.fake_runner import FakeRunner, captured
from tests.orders import (
    list_variable,
    make_environment,
    make_variable,
    make_workorder,
    script_variable,
)


@pytest.fixture
def orders(app: Flask) -> dict[str, int]:
    with app.app_context():
        alice()
        make_environment("PROD", order=1)
        made = [
            make_workorder("b-site", description="Deploys 100% of the site"),
            make_workorder("a-site", environment="PROD", category="DeployGit"),
            make_workorder("theirs", groups=("directors",)),
            make_workorder("hidden", active=False),
            make_workorder("model", template=True),
        ]
        return {order.name: order.id for order in made}


@pytest.mark.both_databases
def test_the_list_has_what_the_caller_may_submit(call: Callable[..., Caller], orders: dict[str, int]) -> None:
    answer = call(alice).get("/workorders").json
    assert answer == {
        "items": [
            {
                "id": orders["b-site"],
                "name": "b-site",
                "description": "Deploys 100% of the site",
                "environment": "DEV",
                "category": None,
            },
            {
                "id": orders["a-site"],
                "name": "a-site",
                "description": "",
                "environment": "PROD",
                "category": "DeployGit",
            },
        ],
        "next": None,
    }
    assert [item["name"] for item in call(root).get("/workorders").json["items"]] == [
        "b-site",
        "a-site",
        "theirs",
    ]
    assert [item["name"] for item in call(carol).get("/workorders").json["items"]] == ["theirs"]
    assert call(mallory).get("/workorders").json["items"] == []


NARROWED = [
    ("environment=PROD", ["a-site"]),
    ("environment=NONE", []),
    ("q=SITE", ["b-site", "a-site"]),
    ("q=100%25", ["b-site"]),
    ("q=b_site", []),
    ("q=+&environment=", ["b-site", "a-site"]),
]


@pytest.mark.both_databases
def test_the_list_can_be_narrowed(
    call: Callable[..., Caller], orders: dict[str, int], subtests: pytest.Subtests
) -> None:
    for query, names in NARROWED:
        with subtests.test(query):
            assert [item["name"] for item in call(alice).get(f"/workorders?{query}").json["items"]] == names


@pytest.mark.both_databases
def test_the_list_comes_in_pages(app: Flask, call: Callable[..., Caller]) -> None:
    with app.app_context():
        alice()
        made = [make_workorder(f"order-{number}").id for number in range(5)]
    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        page = call(alice).get(f"/workorders?limit=2&after={cursor}").json
        seen += [item["id"] for item in page["items"]]
        assert len(page["items"]) <= 2
        cursor = page["next"]
    assert seen == made


SENSELESS = [
    ("limit=0", "limit"),
    ("limit=201", "limit"),
    ("limit=x", "limit"),
    ("limit=1e2", "limit"),
    ("after=x", "after"),
    ("after=-1", "after"),
    ("after=99999999999999999999", "after"),
    ("q=a%00b", "q"),
    ("environment=%00", "environment"),
    ("q=" + "x" * 201, "q"),
    ("enviroment=PROD", "enviroment"),
]


@pytest.mark.both_databases
def test_a_query_that_makes_no_sense_is_refused(
    call: Callable[..., Caller], subtests: pytest.Subtests
) -> None:
    for query, field in SENSELESS:
        with subtests.test(query):
            response = call(alice).get(f"/workorders?{query}")
            assert response.status_code == 422
            assert list(response.json["errors"]) == [field]


@pytest.mark.both_databases
def test_the_largest_cursor_gives_an_empty_page(call: Callable[..., Caller], orders: dict[str, int]) -> None:
    assert call(alice).get("/workorders?after=9999999999").json == {"items": [], "next": None}


def test_a_work_order_says_how_each_field_is_filled_in(
    app: Flask, call: Callable[..., Caller], runner: FakeRunner
) -> None:
    runner.scripts["versions {Mode}"] = b'["v2", {"value": "v1", "label": "the old one"}]'
    with app.app_context():
        alice()
        order = make_workorder(
            "site",
            variables=[
                list_variable("Mode", "update", "restart", widget="radio", default="restart"),
                script_variable("Version", "versions {Mode}", required=True, help="which"),
                list_variable("Hosts", "h1", "h2", widget="checkboxes", default="h1,h2"),
                make_variable(
                    "Reason",
                    label="Why",
                    widget="textarea",
                    pattern=".{5,}",
                    pattern_message="say why",
                    min_length=1,
                    max_length=90,
                ),
                make_variable("Password", secret=True),
            ],
        ).id
    answer = call(alice).get(f"/workorders/{order}").json
    assert {key: answer[key] for key in ("id", "name", "environment")} == {
        "id": order,
        "name": "site",
        "environment": "DEV",
    }
    fields = {field["name"]: field for field in answer["fields"]}
    assert list(fields) == ["Mode", "Version", "Hosts", "Reason", "Password"]
    assert fields["Version"] == {
        "name": "Version",
        "label": "Version",
        "help": "which",
        "source": "script",
        "widget": "select",
        "required": True,
        "secret": False,
        "several": False,
        "default": "",
        "min_length": None,
        "max_length": None,
        "pattern": None,
        "pattern_message": None,
        "depends_on": ["Mode"],
        "choices": [{"value": "v2", "label": "v2"}, {"value": "v1", "label": "the old one"}],
        "error": None,
    }
    assert fields["Mode"]["choices"] == [
        {"value": "update", "label": "update"},
        {"value": "restart", "label": "restart"},
    ]
    assert fields["Mode"]["default"] == "restart"
    assert (fields["Hosts"]["default"], fields["Hosts"]["several"]) == (["h1", "h2"], True)
    assert (fields["Reason"]["label"], fields["Reason"]["choices"]) == ("Why", None)
    assert (fields["Reason"]["pattern"], fields["Reason"]["pattern_message"]) == (".{5,}", "say why")
    assert (fields["Reason"]["min_length"], fields["Reason"]["max_length"]) == (1, 90)
    assert fields["Password"]["secret"] is True
    assert runner.asked[0].environment["WO_Mode"] == "restart"


def test_choices_can_be_asked_for_with_other_values(
    app: Flask, call: Callable[..., Caller], runner: FakeRunner
) -> None:
    runner.scripts["versions {Branch}"] = lambda request: f"{request.environment['WO_Branch']}-1".encode()
    with app.app_context():
        alice()
        order = make_workorder(
            variables=[
                make_variable("Branch", required=True),
                script_variable("Version", "versions {Branch}"),
            ]
        ).id
    _, version = call(alice).get(f"/workorders/{order}").json["fields"]
    assert (version["choices"], version["error"]) == ([], "Fill in Branch first.")
    _, version = call(alice).get(f"/workorders/{order}?Branch=main").json["fields"]
    assert (version["choices"], version["error"]) == ([{"value": "main-1", "label": "main-1"}], None)


FAILURES: dict[str, tuple[Any, str]] = {
    "fails": (captured(b"", exit_code=3, stderr=b"no repository"), "exit code 3: no repository"),
    "hangs": (captured(b"", exit_code=None, outcome=Outcome.TIMED_OUT), "longer than"),
    "prints nothing": (captured(b""), "printed no values"),
    "prints rubbish": (captured(b"[1, 2"), "neither a JSON array nor a Python list"),
    "prints bytes": (captured(b"\xff\xfe"), "not UTF-8"),
    "prints too many values": (
        captured("\n".join(map(str, range(10_000))).encode()),
        "more than 5000 values",
    ),
}


def test_a_script_that_fails_gives_its_field_an_error_and_the_others_their_choices(
    app: Flask, call: Callable[..., Caller], runner: FakeRunner, subtests: pytest.Subtests
) -> None:
    with app.app_context():
        alice()
        order = make_workorder(variables=[script_variable("Bad", "bad"), script_variable("Good", "good")]).id
    for name, (left, told) in FAILURES.items():
        runner.scripts.update({"bad": left, "good": b"yes"})
        with subtests.test(name):
            response = call(alice).get(f"/workorders/{order}")
            assert response.status_code == 200
            bad, good = response.json["fields"]
            assert (bad["choices"], good["choices"]) == ([], [{"value": "yes", "label": "yes"}])
            assert told in bad["error"]
            assert good["error"] is None


def test_what_is_not_the_callers_to_submit_is_not_there(
    call: Callable[..., Caller], orders: dict[str, int]
) -> None:
    assert call().get(f"/workorders/{orders['b-site']}").status_code == 401
    assert call().get("/workorders").status_code == 401
    assert call(alice).get(f"/workorders/{orders['b-site']}").status_code == 200
    for who, name in (
        (mallory, "b-site"),
        (bob, "b-site"),
        (alice, "theirs"),
        (alice, "hidden"),
        (root, "model"),
    ):
        assert call(who).get(f"/workorders/{orders[name]}").status_code == 404


def test_a_work_order_takes_no_post(call: Callable[..., Caller], orders: dict[str, int]) -> None:
    response = call(alice).post(f"/workorders/{orders['b-site']}", {})
    assert response.status_code == 405
    assert "GET" in response.headers["Allow"]
