"""Who may ask which route for whose objects, as a table; the people who ask, and the objects that they ask for.

The table says what the design says, not what the code declares: pages are what a role grants, a ticket is there for its
submitter, for the groups that decide it, for those with the audit page and for superusers.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from flask import Flask, request
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from skstack.accounts.models import Page, User
from skstack.audit.models import AuditEvent
from skstack.catalog.models import WorkOrder
from skstack.db import utcnow
from skstack.extensions import db
from skstack.notifications.models import Notification
from skstack.notifications.services import save_target
from skstack.tickets.models import BreakGlass, Ticket
from skstack.web.permissions import Permission
from tests.factories import bearer, make_group, make_token, make_user, sign_in
from tests.fake_runner import begin, end, run_of, write
from tests.orders import (
    make_category,
    make_config_center,
    make_environment,
    make_flow,
    make_freeze,
    make_ticket,
    make_variable_group,
    make_workorder,
    script_variable,
)
from tests.schedules.making import make_schedule

S, A, X, T, C, U, Y = (
    Page.SUBMIT,
    Page.APPROVE,
    Page.EXECUTE,
    Page.AUDIT,
    Page.CONFIGURATION,
    Page.USERS,
    Page.SYSTEM,
)

ANYONE, SIGNED_IN = (Permission.ANYONE,), (Permission.SIGNED_IN,)
TICKETS = (S, X, A, T)

# Which pages open what: of several one is enough.
TABLE: dict[tuple[Permission | Page, ...], str] = {
    ANYONE: """
        accounts.code accounts.code_post accounts.oidc_begin accounts.oidc_callback accounts.set_up accounts.set_up_post
        accounts.sign_in accounts.sign_in_post api-docs.openapi_json health.alive health.ready static""",
    SIGNED_IN: """
        accounts.choose_columns
        accounts.begin_second_factor accounts.change_me accounts.change_my_password accounts.confirm_second_factor
        accounts.create_token accounts.end_other_sessions accounts.end_session accounts.me accounts.my_password
        accounts.my_second_factor accounts.my_sessions accounts.my_tokens accounts.renew_recovery_codes
        accounts.revoke_token accounts.set_language accounts.sign_out accounts.switch_second_factor_off
        dashboard.index notifications.delete_mine notifications.index notifications.mine notifications.open_one
        notifications.read_all notifications.save_mine notifications.test_mine""",
    (S,): """
        tickets.workorders tickets.submit_form tickets.submit tickets.field
        tickets-api.list_workorders tickets-api.show_workorder tickets-api.submit
        schedules.index schedules.new schedules.create schedules.times schedules.detail schedules.edit schedules.change
        schedules.pause schedules.resume schedules.hand_over schedules.delete""",
    (S, X): """
        tickets.index tickets.ask tickets.revoke tickets.stop tickets-api.revoke tickets-api.stop""",
    (X,): "tickets.waiting tickets.execute tickets-api.execute",
    (A,): """
        approvals.index approvals.decided approvals.ask approvals.approve approvals.reject approvals.decide_several
        approvals-api.approve approvals-api.reject""",
    TICKETS: """
        tickets.detail tickets.summary tickets-api.show_ticket tickets-api.list_tickets
        runs.log_files runs.log_file
        runs.detail runs.log runs.status runs.search runs.output runs-api.show_run runs-api.read_log""",
    (T,): """
        audit.tickets audit.export audit.break_glass audit.review audit-events.index audit-events.detail
        audit-events.state audit-events.verify audit-events.export audit-api.list_events""",
    (C,): """
        catalog.index catalog.templates catalog.preview_workorder catalog.activate_workorder catalog.deactivate_workorder
        catalog.turn_into_template catalog.turn_into_workorder catalog.verify_config_center catalog.accept_host_key
        catalog.check_variable
        notifications.of_flow notifications.save_of_flow notifications.delete_of_flow notifications.test_of_flow """
    + " ".join(
        f"catalog.{many} catalog.{one} catalog.new_{one} catalog.create_{one} catalog.change_{one} catalog.delete_{one}"
        for one, many in (
            ("environment", "environments"),
            ("category", "categories"),
            ("config_center", "config_centers"),
            ("variable", "variables"),
            ("variable_group", "variable_groups"),
            ("approval_flow", "approval_flows"),
            ("freeze_window", "freeze_windows"),
            ("workorder", "workorders"),
        )
    ),
    (U,): """
        accounts.users accounts.new_user accounts.create_user accounts.user accounts.change_user accounts.user_password
        accounts.set_user_password accounts.deactivate_user accounts.activate_user accounts.remove_second_factor
        accounts.unlink_identity accounts.groups accounts.new_group accounts.create_group accounts.group
        accounts.change_group accounts.delete_group accounts.roles accounts.new_role accounts.create_role accounts.role
        accounts.change_role accounts.delete_role accounts.matrix""",
    (Y,): "system.index system.state system.prometheus",
}
NEEDS = {endpoint: needs for needs, endpoints in TABLE.items() for endpoint in endpoints.split()}

# The object that the address of a route names, by its argument; any other argument names nothing of anybody's.
OBJECTS = {
    "ticket_id": "ticket",
    "run_id": "ticket",
    "workorder_id": "workorder",
    "schedule_id": "schedule",
    "session_id": "alice's own",
    "token_id": "alice's own",
}
OBJECTS_BY_ENDPOINT = {
    "notifications.open_one": "notification",
    "notifications.delete_mine": "alice's own",
    "notifications.test_mine": "alice's own",
}

# For whom an object is there; for anybody else it does not exist.
SEEN_BY = {
    "ticket": {"alice", "bob", "carol", "dave", "audrey", "only-audit", "root"},
    "workorder": {"alice", "erin", "root"},
    "schedule": {"alice", "root"},
    "notification": {"bob"},
    "alice's own": {"alice"},
}

# Who may do what only some of those may for whom the object is there. Level 1 of the ticket waits.
_SUBMITTER, _DECIDERS, _OWNER = {"alice", "root"}, {"bob"}, {"alice"}
DONE_BY = {
    **dict.fromkeys(("tickets.ask", "tickets.execute", "tickets.revoke", "tickets.stop"), _SUBMITTER),
    **dict.fromkeys(("tickets-api.execute", "tickets-api.revoke", "tickets-api.stop"), _SUBMITTER),
    **dict.fromkeys(("approvals.ask", "approvals.approve", "approvals.reject"), _DECIDERS),
    **dict.fromkeys(("approvals-api.approve", "approvals-api.reject"), _DECIDERS),
    **dict.fromkeys(("schedules.edit", "schedules.change"), _OWNER),
    "schedules.hand_over": {"root"},
}


@dataclass(frozen=True)
class Person:
    """Somebody who asks: their pages, their groups, and nothing else."""

    name: str
    pages: tuple[Page, ...] = ()
    groups: tuple[str, ...] = ()
    superuser: bool = False

    def holds(self, endpoint: str) -> bool:
        needs = NEEDS[endpoint]
        return self.superuser or needs in (ANYONE, SIGNED_IN) or any(page in needs for page in self.pages)


PEOPLE = {
    person.name: person
    for person in (
        Person("alice", (S, X, Page.DASHBOARD), ("ops",)),  # Submits: what is asked for is hers.
        Person("erin", (S, X, A), ("ops",)),  # May submit the same work order.
        Person("bob", (S, X, A), ("leads",)),  # Decides level 1, which waits.
        Person("carol", (S, X, A), ("directors",)),  # Decides level 2.
        Person("dave", (S, X), ("leads",)),  # In the group that decides, without the page to do it.
        Person("audrey", (S, X, A, T)),  # Sees everything, decides nothing.
        Person(
            "mallory", (S, X, A, C, U, Y, Page.DASHBOARD), ("outsiders",)
        ),  # Every page but the one that sees all.
        Person("root", superuser=True),
        Person("nobody"),
        *(Person(f"only-{page}", (page,)) for page in Page),
        *(
            Person(
                f"but-{'-'.join(needs)}", tuple(page for page in Page if page not in needs), ("ops", "leads")
            )
            for needs in TABLE
            if needs not in (ANYONE, SIGNED_IN)
        ),
    )
}


def without_page_for(endpoint: str) -> list[Person | None]:
    """Return those who must not get past the declaration: nobody at all, nobody known, and who has all other pages."""
    needs = NEEDS[endpoint]
    if needs == ANYONE:
        return []
    return [None] if needs == SIGNED_IN else [None, PEOPLE["nobody"], PEOPLE[f"but-{'-'.join(needs)}"]]


def with_page_for(endpoint: str) -> list[Person]:
    """Return those who have one of the pages that a route needs and nothing else."""
    needs = NEEDS[endpoint]
    return (
        [PEOPLE["nobody"]]
        if needs == SIGNED_IN
        else [PEOPLE[f"only-{page}"] for page in needs if page in list(Page)]
    )


@dataclass(frozen=True)
class Route:
    """One address with one method, about objects that exist."""

    endpoint: str
    method: str
    rule: str
    arguments: frozenset[str]

    @property
    def object(self) -> str | None:
        """Return what kind of somebody's object it is about, if it is about one."""
        named = (OBJECTS[one] for one in self.arguments if one in OBJECTS)
        return OBJECTS_BY_ENDPOINT.get(self.endpoint) or next(named, None)

    @property
    def is_api(self) -> bool:
        return self.rule.startswith(("/api/", "/metrics"))


def routes_of(app: Flask) -> list[Route]:
    """Return every route, what deletes something last: the other requests need it."""
    found = [
        Route(rule.endpoint, method, rule.rule, frozenset(rule.arguments))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    ]
    return sorted(found, key=lambda route: ("delete" in route.endpoint, route.endpoint, route.method))


def expected(person: Person | None, route: Route) -> str:
    """Return what must come of it: "sign in", "403", "404", or "reached", which is none of those."""
    if NEEDS[route.endpoint] == ANYONE:
        return "reached"
    if person is None:
        return "sign in"
    if not person.holds(route.endpoint):
        return "403"
    if route.object and person.name not in SEEN_BY[route.object]:
        return "404"
    return "reached" if person.name in DONE_BY.get(route.endpoint, {person.name}) else "403"


NOTE, PRINTED, REASON = "a-note-for-approvers", b"a-line-that-was-printed\n", "a-reason-to-break-it"
LOGGED = b"a-line-of-a-log-file\n"
TRACES = (NOTE, PRINTED.decode().strip(), LOGGED.decode().strip(), REASON, "a-name-of-a-schedule")
"""What tickets and schedules leave on pages, and nothing else does."""


class World:
    """An instance with something of every kind in it. `ids` are what the arguments of routes are filled with."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self._clients: dict[str, FlaskClient] = {}
        self._tokens: dict[str, dict[str, str]] = {}
        with app.app_context():
            for one in PEOPLE.values():
                groups = [make_group(name) for name in one.groups]
                make_user(one.name, groups=groups, pages=one.pages, superuser=one.superuser)
            self.ids = self._catalog()
            self.ids["ticket_id"], self.ids["run_id"] = self.waiting_ticket()
            self.ids["schedule_id"] = self.schedule()
            self.ids |= self._belongings() | self._audited()

    def ask(
        self, name: str | None, route: Route, body: dict[str, Any], *, fragment: bool = False, **query: Any
    ) -> TestResponse:
        """Let somebody ask: pages with their session, as htmx does for a `fragment`; the API with their token."""
        client = self._client(None if route.is_api else name)
        headers = self.headers(name) if route.is_api and name else {"HX-Request": "true"} if fragment else {}
        sent = {"json": body} if route.is_api else {"data": body}
        return client.open(
            self.address(route),
            method=route.method,
            headers=headers,
            query_string=query,
            **(sent if route.method == "POST" else {}),
        )

    def address(self, route: Route) -> str:
        """Return the address of a route about what there is."""
        values: dict[str, Any] = {}
        for argument in route.arguments:
            view = route.endpoint.rpartition(".")[2]
            names = (f"{route.endpoint}:{argument}", argument, view, view.partition("_")[2])
            values[argument] = next(self.ids[name] for name in names if name in self.ids)
        with self.app.test_request_context():
            adapter = self.app.create_url_adapter(request)
            assert adapter is not None
            return adapter.build(route.endpoint, values, method=route.method)

    def waiting_ticket(self) -> tuple[int, int]:
        """Return a new ticket of Alice's that waits for level 1, and its pre run, which is over."""
        order = db.session.get_one(WorkOrder, self.ids["workorder_id"])
        ticket = make_ticket(user("alice"), order, values={"Branch": "main"}, note=NOTE)
        run = begin(run_of(ticket, "pre"))
        write(run, PRINTED)
        end(run)
        return ticket.id, run.id

    def schedule(self) -> int:
        """Return a new schedule of Alice's."""
        order = db.session.get_one(WorkOrder, self.ids["workorder_id"])
        given = {"name": f"a-name-of-a-schedule-{utcnow().timestamp()}", "values": {"Branch": "main"}}
        return make_schedule(user("alice"), order, **given).id

    def _client(self, name: str | None) -> FlaskClient:
        if name is None:
            client = self.app.test_client()
            with (
                self.app.app_context()
            ):  # A CSRF token that holds for nobody: being refused is not for lack of one.
                sign_in(client, user("nobody"))
            with client.session_transaction() as cookie:
                cookie.pop("_user_id")
            return client
        if name not in self._clients:
            self._clients[name] = client = self.app.test_client()
            with self.app.app_context():
                sign_in(client, user(name))
        return self._clients[name]

    def headers(self, name: str) -> dict[str, str]:
        """Return the headers with which somebody calls the API."""
        if name not in self._tokens:
            with self.app.app_context():
                self._tokens[name] = bearer(user(name))
        return self._tokens[name]

    def cookie_of(self, name: str) -> str:
        """Return the token in the cookie of somebody's session."""
        with self._client(name).session_transaction() as cookie:
            return str(cookie["_user_id"])

    def _catalog(self) -> dict[str, Any]:
        center = make_config_center("far")
        category = make_category("Deploy", log_directory="/var/log/deploy")
        variable = script_variable("Branch", "branches")
        group = make_variable_group("all", [variable])
        flow = make_flow("leads", "directors", name="two-level")
        order = make_workorder(
            "site",
            category="Deploy",
            variable_group=group,
            approval_flow=flow,
            config_center=center,
            pre_task="echo before",
            main_task="echo {Branch}",
            scheduling=True,
        )
        day = dt.timedelta(days=1)
        window = make_freeze("LATER", starts_at=utcnow() + day, ends_at=utcnow() + 2 * day)
        save = {"actor": user("root"), "url": "jsons://192.0.2.1/x", "events": ["ended"], "active": True}
        target = save_target(None, owner=flow, name="of the flow", **save)
        return {
            "workorder_id": order.id,
            "environment": make_environment("DEV").id,
            "category": category.id,
            "config_center": center.id,
            "host_key": center.id,
            "variable": variable.id,
            "variable_group": group.id,
            "approval_flow": flow.id,
            "of_flow": flow.id,
            "freeze_window": window.id,
            "workorder": order.id,
            "catalog.deactivate_workorder:id": make_workorder("to-hide").id,
            "catalog.turn_into_template:id": make_workorder("to-turn").id,
            "catalog.turn_into_workorder:id": make_workorder("to-copy", template=True).id,
            "notifications.delete_of_flow:number": target.id,
            "notifications.test_of_flow:number": target.id,
            "tickets.field:name": "Branch",
            "accounts.choose_columns:name": "tickets",
            "filename": "css/app.css",
            "kind": "csv",
            "action": "revoke",
            "verb": "approve",
        }

    def _belongings(self) -> dict[str, Any]:
        """Return what belongs to one person: a session, a token and a target of Alice's, and what Bob was told."""
        alice, bob = user("alice"), user("bob")
        make_token(alice)
        save = {"actor": alice, "url": "jsons://192.0.2.1/x", "events": ["ended"], "active": True}
        target = save_target(None, owner=alice, name="hers", **save)
        told = sa.select(Notification.id).where(Notification.user_id == bob.id).order_by(Notification.id)
        return {
            "session_id": sign_in(self.app.test_client(), alice).id,
            "token_id": db.session.scalars(sa.text("select max(id) from api_tokens")).one(),
            "user_id": user("erin").id,
            "identity_id": 10_000,
            "group_id": make_group("unused").id,
            "role_id": user("erin").roles[0].id,
            "notifications.delete_mine:number": target.id,
            "notifications.test_mine:number": target.id,
            "notifications.open_one:number": db.session.scalars(told).first(),
        }

    def _audited(self) -> dict[str, Any]:
        now, hour = utcnow(), dt.timedelta(hours=1)
        make_freeze("FROZEN", starts_at=now - hour, ends_at=now + hour)
        order = make_workorder("frozen", environment="FROZEN", groups=())
        make_ticket(user("root"), order, break_glass=REASON)
        return {
            "audit.review:number": db.session.scalars(sa.select(BreakGlass.id)).one(),
            "audit-events.detail:number": db.session.scalars(sa.select(sa.func.max(AuditEvent.id))).one(),
        }


def user(name: str) -> User:
    """Return one of the people, within an application context."""
    return db.session.scalars(sa.select(User).where(User.username == name)).one()


def state_of(app: Flask) -> dict[str, list[Any]]:
    """Return all that is stored, but what every request leaves: when a session was seen, and refusals in the trail."""
    left_out = {"audit_events", "audit_head", "user_sessions", "api_tokens"}
    with app.app_context():
        return {
            table.name: sorted(map(repr, db.session.execute(sa.select(*table.columns))))
            for table in db.metadata.sorted_tables
            if table.name not in left_out
        }


__all__ = [
    "NEEDS",
    "PEOPLE",
    "TRACES",
    "Person",
    "Route",
    "Ticket",
    "World",
    "expected",
    "routes_of",
    "state_of",
    "user",
]
