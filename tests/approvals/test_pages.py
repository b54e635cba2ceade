"""The approver's pages: what waits, deciding one or several, and being told when somebody was quicker."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from skstack.accounts.models import User
from skstack.approvals.services import approve
from skstack.catalog import services as catalog
from skstack.catalog.models import WorkOrder
from skstack.extensions import db
from skstack.tickets.models import Decision, Ticket
from tests.factories import APPROVER, alice, bob, carol, make_group, make_user, mallory, root, sign_in
from tests.fake_runner import begin, end, run_of
from tests.orders import (
    list_variable,
    make_config_center,
    make_flow,
    make_ticket,
    make_variable,
    make_workorder,
)


@pytest.fixture(autouse=True)
def cast(app: Flask) -> None:
    with app.app_context():
        alice(), bob(), carol(), mallory(), root()


@pytest.fixture
def as_user(app: Flask) -> Callable[[Callable[[], User]], FlaskClient]:
    """Give what signs somebody in."""

    def signed_in(who: Callable[[], User]) -> FlaskClient:
        client = app.test_client()
        with app.app_context():
            sign_in(client, who())
        return client

    return signed_in


@pytest.fixture
def made(app: Flask) -> Callable[..., int]:
    """Give what submits a ticket that leads decide, and returns its id."""

    def make(*levels: str, order: int | None = None, **submission: Any) -> int:
        with app.app_context():
            workorder = db.session.get(WorkOrder, order) if order else None
            workorder = workorder or make_workorder(approval_flow=make_flow(*(levels or ("leads",))))
            return make_ticket(alice(), workorder, **submission).id

    return make


def text_of(response: TestResponse) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.text)))


def status_of(app: Flask, ticket_id: int) -> str:
    with app.app_context():
        return db.session.get_one(Ticket, ticket_id).status


PATHS = ("/approvals", "/approvals/decided", "/tickets/1/decide/approve")
POSTS = ("/tickets/1/approve", "/tickets/1/reject", "/approvals/decide")


@pytest.mark.parametrize("path", PATHS)
def test_only_those_with_the_page_see_the_inbox(
    client: FlaskClient, as_user: Any, made: Any, path: str
) -> None:
    made()
    assert client.get(path).location.startswith("/sign-in")
    assert as_user(alice).get(path).status_code == 403
    assert as_user(bob).get(path).status_code == 200


@pytest.mark.parametrize("path", POSTS)
def test_only_those_with_the_page_decide_and_never_by_get(
    client: FlaskClient, as_user: Any, made: Any, path: str
) -> None:
    made()
    assert client.post(path).status_code in (303, 400, 401)
    assert as_user(alice).post(path).status_code == 403
    assert as_user(bob).get(path).status_code in (404, 405)


def test_the_inbox_shows_what_will_run_with_what_and_where(app: Flask, as_user: Any) -> None:
    with app.app_context():
        center = make_config_center("ansible01")
        order = make_workorder(
            name="site",
            environment="PROD",
            main_task="deploy -v {Version} {Hosts}",
            post_task="notify",
            variables=[
                make_variable("Version"),
                list_variable("Hosts", "h1", "h2", widget="multiselect"),
                make_variable("Pin", secret=True),
            ],
            config_center=center,
            approval_flow=make_flow("leads", "directors", expires_hours=5),
        )
        make_ticket(
            alice(),
            order,
            values={"Version": "1; rm -rf /", "Hosts": ["h1", "h2"], "Pin": "4711"},
            note="it is due",
        )
    page = text_of(as_user(bob).get("/approvals"))
    for shown in (
        "site #1",
        "PROD",
        "alice",
        "Level 1 of 2: leads",
        "deploy -v '1; rm -rf /' h1,h2",
        "notify",
        "ansible01 (deploy@192.0.2.7:22)",
        "it is due",
        "in 5 hours",
        "secret",
        "has not succeeded before",
    ):
        assert shown in page, shown
    assert "4711" not in page


def test_the_inbox_holds_what_waits_for_me_and_nothing_else(app: Flask, as_user: Any, made: Any) -> None:
    made("leads")
    made("directors")
    approved = made("leads", "directors")
    with app.app_context():
        approve(db.session.get_one(Ticket, approved), actor=bob())
    assert set(re.findall(r"#(\d+)", text_of(as_user(bob).get("/approvals")))) == {"1"}
    assert set(re.findall(r"#(\d+)", text_of(as_user(carol).get("/approvals")))) == {"2", "3"}
    assert "Approvals 2 waiting" in text_of(as_user(carol).get("/approvals"))
    assert "Nothing waits for you" in text_of(as_user(lambda: make_user(pages=APPROVER)).get("/approvals"))


def test_the_inbox_has_tabs_with_counts(app: Flask, as_user: Any) -> None:
    with app.app_context():
        for environment in ("DEV", "PROD", "PROD"):
            make_ticket(alice(), make_workorder(environment=environment, approval_flow=make_flow("leads")))
    page = as_user(bob).get("/approvals?environment=PROD")
    assert "DEV 1 PROD 2" in text_of(page)
    assert page.text.count('class="panel approval approval-production"') == 2


def test_one_approves_from_the_inbox(app: Flask, as_user: Any, made: Any) -> None:
    ticket = made()
    answer = as_user(bob).post(f"/tickets/{ticket}/approve", data={"level": "1", "back": "inbox"})
    assert (answer.status_code, answer.location) == (303, "/approvals")
    assert status_of(app, ticket) == "l1_approved"


def test_one_approves_on_the_tickets_page(app: Flask, as_user: Any, made: Any) -> None:
    ticket = made()
    client = as_user(bob)
    page = text_of(client.get(f"/tickets/{ticket}"))
    assert "It waits for leads, and you are one of them" in page
    answer = client.post(f"/tickets/{ticket}/approve", data={"level": "1", "comment": "fine"})
    assert answer.location == f"/tickets/{ticket}"
    page = text_of(client.get(answer.location))
    assert "until then the approval can be turned into a rejection" in page
    assert "fine" in page
    assert "was approved" in page


def test_a_rejection_without_a_reason_comes_back_with_the_message_at_its_field(
    app: Flask, as_user: Any, made: Any
) -> None:
    ticket = made()
    answer = as_user(bob).post(f"/tickets/{ticket}/reject", data={"level": "1", "comment": " "})
    assert answer.status_code == 422
    assert "Say why you reject it." in text_of(answer)
    assert 'aria-invalid="true"' in answer.text
    assert status_of(app, ticket) == "submitted"
    too_long = "x" * 4001
    answer = as_user(bob).post(f"/tickets/{ticket}/reject", data={"comment": too_long})
    assert answer.status_code == 422
    assert too_long in answer.text


def test_who_is_slower_sees_the_ticket_as_it_is(app: Flask, as_user: Any, made: Any) -> None:
    ticket = made("leads", "directors")
    with app.app_context():
        approve(db.session.get_one(Ticket, ticket), actor=bob())
        make_user("ann", groups=[make_group("leads"), make_group("directors")], pages=APPROVER)
    ann = as_user(lambda: db.session.scalars(sa.select(User).where(User.username == "ann")).one())
    answer = ann.post(f"/tickets/{ticket}/approve", data={"level": "1"})
    assert answer.status_code == 409
    page = text_of(answer)
    assert "was already approved at level 1 by bob" in page
    assert "Level 1 approved" in page
    assert status_of(app, ticket) == "l1_approved"


@pytest.mark.parametrize("who", [carol, root])
def test_who_does_not_decide_it_is_refused(app: Flask, as_user: Any, made: Any, who: Any) -> None:
    ticket = made("leads", "directors")
    for verb in ("approve", "reject"):
        answer = as_user(who).post(f"/tickets/{ticket}/{verb}", data={"comment": "no"})
        assert answer.status_code == 403
    assert status_of(app, ticket) == "submitted"


def test_to_outsiders_the_ticket_does_not_exist(app: Flask, as_user: Any, made: Any) -> None:
    ticket = made()
    outsider = as_user(lambda: make_user(pages=APPROVER))
    assert outsider.post(f"/tickets/{ticket}/approve").status_code == 404
    assert outsider.get(f"/tickets/{ticket}/decide/approve").status_code == 404


def test_several_of_one_work_order_are_decided_at_once(app: Flask, as_user: Any, made: Any) -> None:
    first = made()
    with app.app_context():
        order = db.session.get_one(Ticket, first).workorder_id
    second, third = made(order=order), made(order=order)
    client = as_user(bob)
    assert "Decide several at once" in text_of(client.get("/approvals"))
    with app.app_context():
        approve(db.session.get_one(Ticket, second), actor=bob())
    levels = {f"level-{number}": "1" for number in (first, second)}
    values = {"ticket": [str(first), str(second), "999"], "verb": "approve", **levels}
    question = text_of(client.post("/approvals/decide", data=values))
    assert "Approve 2 tickets of" in question
    assert question.count("echo done") == 2
    assert status_of(app, first) == "submitted"
    answer = client.post("/approvals/decide", data={**values, "confirmed": "1"})
    assert answer.status_code == 303
    page = text_of(client.get("/approvals"))
    assert f"Ticket {first} was approved." in page
    assert f"Ticket {second} was already approved at level 1 by bob" in page
    assert [status_of(app, one) for one in (first, second, third)] == [
        "l1_approved",
        "l1_approved",
        "submitted",
    ]
    assert _decisions(app) == [(first, "approved"), (second, "approved")]


def _decisions(app: Flask) -> list[tuple[int, str]]:
    with app.app_context():
        rows = db.session.scalars(sa.select(Decision).order_by(Decision.ticket_id))
        return [(row.ticket_id, row.decision) for row in rows]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"ticket": []}, "Choose at least one ticket"),
        ({"ticket": ["1", "2"]}, "only if they are of the same work order"),
        ({"ticket": ["1"], "verb": "reject", "comment": " ", "confirmed": "1"}, "Say why you reject it"),
        ({"ticket": ["1"], "comment": "x" * 4001, "confirmed": "1"}, "At most 4000 characters"),
        ({"ticket": [str(number) for number in range(300)]}, "At most 200 tickets"),
    ],
)
def test_a_choice_that_cannot_be_decided_is_refused(
    app: Flask, as_user: Any, made: Any, values: dict[str, Any], told: str
) -> None:
    made(), made()
    answer = as_user(bob).post("/approvals/decide", data={"verb": "approve", **values})
    assert answer.status_code == 422
    assert told in text_of(answer)
    assert _decisions(app) == []


def test_what_i_decided_is_listed(app: Flask, as_user: Any, made: Any) -> None:
    ticket, other = made(), made()
    client = as_user(bob)
    client.post(f"/tickets/{ticket}/reject", data={"comment": "not on a Friday"})
    page = text_of(client.get("/approvals/decided"))
    assert "Level 1 rejected" in page
    assert "not on a Friday" in page
    assert f"#{other}" not in page


class TestComparing:
    """What changed since the last success of the same work order."""

    @pytest.fixture
    def order(self, app: Flask) -> int:
        with app.app_context():
            return make_workorder(
                variables=[make_variable("Version"), make_variable("Pin", secret=True)],
                main_task="fetch\ndeploy {Version}",
                approval_flow=make_flow("leads"),
            ).id

    def succeed(self, app: Flask, order: int, version: str) -> None:
        from skstack.tickets.services import execute

        with app.app_context():
            values = {"Version": version, "Pin": "1"}
            ticket = make_ticket(alice(), db.session.get_one(WorkOrder, order), values=values)
            approve(ticket, actor=bob())
            execute(ticket, actor=alice())
            end(begin(run_of(ticket)))

    def test_the_same_is_said_to_be_the_same(self, app: Flask, as_user: Any, made: Any, order: int) -> None:
        self.succeed(app, order, "1.0")
        made(order=order, values={"Version": "1.0", "Pin": "2"})
        assert "Exactly what ran last: #1" in text_of(as_user(bob).get("/approvals"))

    def test_other_values_and_lines_are_shown_before_and_after(
        self, app: Flask, as_user: Any, made: Any, order: int
    ) -> None:
        self.succeed(app, order, "1.0")
        self.succeed(app, order, "1.1")
        ticket = made(order=order, values={"Version": "2.0", "Pin": "2"})
        for path in ("/approvals", f"/tickets/{ticket}"):
            page = text_of(as_user(bob).get(path))
            assert "Not what ran last (values that differ: 1, lines: 2) (#2, alice" in page
            assert "1.1 → 2.0" in page
            assert "fetch - deploy 1.1 + deploy 2.0" in page

    def test_what_ran_last_is_what_ended_last_whenever_it_was_submitted(
        self, app: Flask, as_user: Any, made: Any, order: int
    ) -> None:
        self.succeed(app, order, "1.0")
        made(order=order, values={"Version": "1.0", "Pin": "2"})
        self.succeed(app, order, "2.0")
        assert "Not what ran last" in text_of(as_user(bob).get("/tickets/2"))
        assert "2.0 → 1.0" in text_of(as_user(bob).get("/tickets/2"))

    def test_an_edit_between_the_last_success_and_the_submission_is_said(
        self, app: Flask, as_user: Any, made: Any, order: int
    ) -> None:
        self.succeed(app, order, "1.0")
        with app.app_context():
            workorder = db.session.get_one(WorkOrder, order)
            catalog.change(
                workorder, {"main_task": "deploy anew {Version}"}, actor=root(), version=workorder.version
            )
        ticket = made(order=order, values={"Version": "1.0", "Pin": "2"})
        for path in ("/approvals", f"/tickets/{ticket}"):
            page = text_of(as_user(bob).get(path))
            assert "was edited between the two, by root." in page
            assert "was edited after" not in page
        self.succeed(app, order, "1.0")
        ticket = made(order=order, values={"Version": "1.1", "Pin": "2"})
        assert "was edited" not in text_of(as_user(bob).get(f"/tickets/{ticket}"))

    def test_an_edit_after_the_submission_is_said(
        self, app: Flask, as_user: Any, made: Any, order: int
    ) -> None:
        ticket = made(order=order, values={"Version": "2.0", "Pin": "2"})
        assert "was edited after" not in text_of(as_user(bob).get("/approvals"))
        with app.app_context():
            workorder = db.session.get_one(WorkOrder, order)
            catalog.change(
                workorder, {"main_task": "evil {Version}"}, actor=root(), version=workorder.version
            )
        for path in ("/approvals", f"/tickets/{ticket}"):
            page = text_of(as_user(bob).get(path))
            assert "was edited after this was submitted, by root" in page
            assert "evil" not in page

    def test_the_inbox_needs_as_many_statements_for_many_as_for_one(
        self, app: Flask, as_user: Any, made: Any, order: int
    ) -> None:
        def statements() -> int:
            seen: list[str] = []
            with app.app_context():
                engine = db.engine
            listen = lambda *args: seen.append(args[2])  # noqa: E731
            sa.event.listen(engine, "before_cursor_execute", listen)
            assert client.get("/approvals").status_code == 200
            sa.event.remove(engine, "before_cursor_execute", listen)
            return len([one for one in seen if "BEGIN" not in one])

        self.succeed(app, order, "1.0")
        client = as_user(bob)
        made(order=order, values={"Version": "2.0", "Pin": "2"})
        statements()
        one = statements()
        for _ in range(4):
            made(order=order, values={"Version": "2.0", "Pin": "2"})
        assert statements() == one

    def test_what_ran_last_is_told_only_to_those_who_may_see_it(
        self, app: Flask, as_user: Any, made: Any, order: int
    ) -> None:
        self.succeed(app, order, "not-for-carol")
        with app.app_context():
            workorder = db.session.get_one(WorkOrder, order)
            flow = make_flow("directors")
            catalog.change(workorder, {"approval_flow": flow}, actor=None, version=workorder.version)
            auditor = make_user("auditor", groups=[make_group("directors")], pages=["approve", "audit"]).id
        ticket = made(order=order, values={"Version": "2.0", "Pin": "2"})
        for path in ("/approvals", f"/tickets/{ticket}"):
            shown = as_user(carol).get(path)
            assert "What this work order ran last is not yours to see" in text_of(shown)
            assert "not-for-carol" not in shown.text
            assert "/tickets/1" not in shown.text
            sees = as_user(lambda: db.session.get_one(User, auditor)).get(path)
            assert "not-for-carol → 2.0" in text_of(sees)
