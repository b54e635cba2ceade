"""Every route that changes something leaves an event, or it is said here why not. A new route belongs into one of the two."""

from __future__ import annotations

import datetime as dt
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pyotp
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from skstack.accounts import second_factor, tokens
from skstack.accounts.models import ApiToken, User
from skstack.audit.models import AuditEvent
from skstack.db import transaction, utcnow
from skstack.extensions import db
from skstack.notifications.models import Target
from skstack.schedules import recurring
from skstack.schedules.models import Schedule
from skstack.tickets.models import BreakGlass
from skstack.tickets.services import submit
from tests.factories import (
    PASSWORD,
    alice,
    bearer,
    bob,
    make_group,
    make_role,
    make_user,
    root,
    sign_in,
)
from tests.orders import make_environment, make_flow, make_freeze, make_ticket, make_workorder
from tests.schedules.making import make_schedule

NO_EVENT = {
    "accounts.choose_columns": "only what its reader sees of a list changes",
    "accounts.begin_second_factor": "nothing holds until the second factor is confirmed, which is an event",
    "accounts.code_post": "needs a sign-in under way; tests/accounts/test_second_factor.py has its events",
    "accounts.set_up_post": "needs a sign-in under way; tests/accounts/test_second_factor.py has its events",
    "accounts.unlink_identity": "needs a directory; tests/accounts has its events",
    "catalog.accept_host_key": "needs a real host; tests/catalog/test_verify.py has its events",
    "catalog.verify_config_center": "needs a real host; tests/catalog/test_verify.py has its events",
    "catalog.check_variable": "changes nothing: it shows what a script prints",
    "catalog.preview_workorder": "changes nothing: it shows what would be run",
    "notifications.open_one": "only what its reader has read changes",
    "notifications.read_all": "only what its reader has read changes",
    "notifications.test_of_flow": "changes nothing: it sends a test message",
    "notifications.test_mine": "changes nothing: it sends a test message",
}


class World:
    """What the changes are made to, and who makes them."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self._clients: dict[str, FlaskClient] = {}
        self.before = 0  # The last event before the last request.

    def by(self, who: Callable[[], User]) -> FlaskClient:
        if who.__name__ not in self._clients:
            client = self.app.test_client()
            with self.app.app_context():
                sign_in(client, who())
            self._clients[who.__name__] = client
        return self._clients[who.__name__]

    def make(self, function: Callable[[], Any]) -> int:
        """Return the id of what is made."""
        with self.app.app_context():
            made = function()
            return made if isinstance(made, int) else int(made.id)

    def post(self, path: str, who: Callable[[], User] = root, **form: Any) -> TestResponse:
        client = self.by(who)
        self.before = self.last_event()
        return client.post(path, data=form)

    def api(self, path: str, who: Callable[[], User] = root, **body: Any) -> TestResponse:
        with self.app.app_context():
            headers = bearer(who())
        self.before = self.last_event()
        return self.app.test_client().post(f"/api/v1{path}", json=body, headers=headers)

    def last_event(self) -> int:
        with self.app.app_context():
            return db.session.scalar(sa.select(sa.func.max(AuditEvent.id))) or 0

    def version(self, path: str) -> str:
        page = self.by(root).get(path).text
        return page.split('name="version"')[1].split('value="')[1].split('"')[0]


_numbers = itertools.count(1)

Step = Callable[[World], TestResponse]
"""Makes what a route needs, and asks for it."""


def waiting(submitter: Callable[[], User] = alice) -> int:
    """Return a ticket that waits for Bob."""
    flow = make_flow("leads")
    bob()
    return make_ticket(submitter(), make_workorder(approval_flow=flow)).id


def planned() -> int:
    """Return a ticket that waits for its time."""
    soon = utcnow() + dt.timedelta(hours=3)
    return make_ticket(alice(), make_workorder(scheduling=True), scheduled_at=soon).id


def running() -> int:
    return make_ticket(alice()).id


def reviewable() -> int:
    now = utcnow()
    order = make_workorder(environment="FROZEN", groups=("ops",))
    make_freeze("FROZEN", starts_at=now - dt.timedelta(hours=1), ends_at=now + dt.timedelta(hours=1))
    user = root()
    submit(actor=user, workorder=order, values={}, break_glass="it burns")
    return db.session.scalars(sa.select(BreakGlass.id)).one()


CATALOG: dict[str, tuple[str, dict[str, str]]] = {
    "environment": ("environments", {"name": "NEXT", "order": "5"}),
    "category": ("categories", {"name": "Clean"}),
    "config_center": (
        "config-centers",
        {"name": "near", "host": "192.0.2.1", "port": "22", "username": "deploy", "login": "agent"},
    ),
    "freeze_window": (
        "freeze-windows",
        {
            "name": "holidays",
            "environment": "ENV",
            "starts_at": "2099-01-01T00:00",
            "ends_at": "2099-01-02T00:00",
        },
    ),
    "approval_flow": ("approval-flows", {"name": "one-level", "level_1": "GROUP"}),
    "variable": ("variables", {"name": "Colour", "source": "input", "widget": "text"}),
    "variable_group": ("variable-groups", {"name": "all"}),
    "workorder": (
        "workorders",
        {"name": "made", "environment": "ENV", "main_task": "true", "time_limit": "60"},
    ),
}


def catalog_steps() -> Iterator[tuple[str, Step]]:
    """Yield each of the catalog's routes: add one, change it, delete it."""

    def step(kind: str, verb: str) -> Step:
        section, values = CATALOG[kind]

        def take(world: World) -> TestResponse:
            given = dict(values)
            given["name"] = f"{verb}-{given['name']}" if kind != "variable" else f"{verb}_{given['name']}"
            for name, value in given.items():
                if value == "ENV":
                    given[name] = str(world.make(lambda: make_environment("HERE")))
                elif value == "GROUP":
                    given[name] = str(world.make(lambda: make_group("leads")))
            added = world.post(f"/config/{section}/new", **given)
            if verb == "create":
                return added
            path = added.location
            if verb == "delete":
                return world.post(f"{path}/delete")
            return world.post(path, **given, description="another", version=world.version(path))

        return take

    for kind in CATALOG:
        for verb in ("create", "change", "delete"):
            yield f"catalog.{verb}_{kind}", step(kind, verb)


def workorder_state(verb: str, **columns: Any) -> Step:
    def take(world: World) -> TestResponse:
        section = "templates" if verb == "workorder" else "workorders"
        number = world.make(lambda: make_workorder(**columns))
        return world.post(f"/config/{section}/{number}/{verb}")

    return take


def target_steps(prefix: str, name: str) -> Iterator[tuple[str, Step]]:
    form = {"name": "mail", "url": "jsons://example.org/x", "events": "ended", "active": "y"}

    def place(world: World) -> str:
        return prefix.format(flow=world.make(lambda: make_flow("leads"))) if "{" in prefix else prefix

    def delete(world: World) -> TestResponse:
        path = place(world)
        world.post(path, **form)
        number = world.make(lambda: db.session.scalars(sa.select(sa.func.max(Target.id))).one())
        return world.post(f"{path}/{number}/delete")

    yield f"notifications.save_{name}", lambda world: world.post(place(world), **form)
    yield f"notifications.delete_{name}", delete


def on_new(what: Callable[[], Any], path: str, who: Callable[[], User] = root, **form: Any) -> Step:
    return lambda world: world.post(path.format(world.make(what)), who, **form)


def on_new_by_api(what: Callable[[], Any], path: str, who: Callable[[], User] = root, **body: Any) -> Step:
    return lambda world: world.api(path.format(world.make(what)), who, **body)


def schedule() -> int:
    return make_schedule(alice(), make_workorder(scheduling=True), name=f"nightly{next(_numbers)}").id


def paused() -> int:
    number = schedule()
    recurring.pause(db.session.get_one(Schedule, number), actor=alice())
    return number


def change_schedule(world: World) -> TestResponse:
    path = f"/schedules/{world.make(schedule)}/edit"
    version = world.by(alice).get(path).text.split('name="version"')[1].split('value="')[1].split('"')[0]
    form = {"schedule-name": "later", "schedule-expression": "5 4 * * *", "schedule-timezone": "UTC"}
    return world.post(path, alice, **form, version=version)


def create_schedule(world: World) -> TestResponse:
    number = world.make(lambda: make_workorder(scheduling=True))
    form = {"schedule-name": "mine", "schedule-expression": "5 4 * * *", "schedule-timezone": "UTC"}
    return world.post(f"/schedules/new?workorder={number}", alice, **form)


def with_factor(verb: str) -> Step:
    def take(world: World) -> TestResponse:
        def begun() -> User:
            user = make_user(f"factor-{verb}", pages=["submit"])
            at = utcnow() - dt.timedelta(seconds=60)
            with transaction():
                second_factor.prepare(user, now=at)
            if verb != "confirm":
                second_factor.confirm(actor=user, code=code_of(user, at), now=at)
            return user

        def code_of(user: User, at: dt.datetime) -> str:
            found = second_factor.of(user)
            assert found is not None
            return pyotp.TOTP(found.secret).at(at)

        number = world.make(begun)
        if verb == "remove":
            return world.post(f"/accounts/users/{number}/second-factor/remove")

        def user() -> User:
            return db.session.get_one(User, number)

        user.__name__ = f"factor-{verb}"
        with world.app.app_context():
            code = code_of(user(), utcnow())
        return world.post(f"/me/second-factor/{verb}", user, password=PASSWORD, code=code)

    return take


def named(name: str, **columns: Any) -> Callable[[], User]:
    def user() -> User:
        found = db.session.scalars(sa.select(User).where(User.username == name)).one_or_none()
        return found or make_user(name, **columns)

    user.__name__ = name
    return user


def sign_in_by_form(world: World) -> TestResponse:
    client = world.app.test_client()
    world.make(named("visitor"))
    token = client.get("/sign-in").text.split('name="csrf_token"')[1].split('value="')[1].split('"')[0]
    form = {"username": "visitor", "password": PASSWORD, "csrf_token": token}
    world.before = world.last_event()
    return client.post("/sign-in", data=form)


def end_a_session(world: World) -> TestResponse:
    world.by(alice)
    number = world.make(lambda: sign_in(world.app.test_client(), alice()))
    return world.post(f"/me/sessions/{number}/end", alice)


def revoke_a_token(world: World) -> TestResponse:
    def made() -> int:
        tokens.create(alice(), actor=alice(), name="x", days=None, now=utcnow())
        return db.session.scalars(sa.select(sa.func.max(ApiToken.id))).one()

    return world.post(f"/me/tokens/{world.make(made)}/revoke", alice)


def decide_several(world: World) -> TestResponse:
    number = str(world.make(waiting))
    form = {"verb": "approve", "ticket": number, f"level-{number}": "1", "confirmed": "1"}
    return world.post("/approvals/decide", bob, **form)


def submit_by_form(world: World) -> TestResponse:
    return world.post(f"/workorders/{world.make(make_workorder)}/submit", alice, idempotency_key="k")


STEPS: dict[str, Step] = {
    **dict(catalog_steps()),
    **dict(target_steps("/me/notifications", "mine")),
    **dict(target_steps("/config/approval-flows/{flow}/notifications", "of_flow")),
    "catalog.activate_workorder": workorder_state("activate", active=False),
    "catalog.deactivate_workorder": workorder_state("deactivate"),
    "catalog.turn_into_template": workorder_state("template"),
    "catalog.turn_into_workorder": workorder_state("workorder", template=True),
    "accounts.create_group": lambda world: world.post("/accounts/groups/new", name="new"),
    "accounts.change_group": on_new(make_group, "/accounts/groups/{}", name="renamed"),
    "accounts.delete_group": on_new(make_group, "/accounts/groups/{}/delete"),
    "accounts.create_role": lambda world: world.post("/accounts/roles/new", name="new", pages="submit"),
    "accounts.change_role": on_new(make_role, "/accounts/roles/{}", name="renamed", pages="audit"),
    "accounts.delete_role": on_new(make_role, "/accounts/roles/{}/delete"),
    "accounts.create_user": lambda world: world.post(
        "/accounts/users/new", username="newcomer", password="a quite long phrase"
    ),
    "accounts.change_user": on_new(make_user, "/accounts/users/{}", display_name="Another"),
    "accounts.deactivate_user": on_new(make_user, "/accounts/users/{}/deactivate"),
    "accounts.activate_user": on_new(lambda: make_user(active=False), "/accounts/users/{}/activate"),
    "accounts.set_user_password": on_new(
        make_user, "/accounts/users/{}/password", new="a quite long phrase", repeated="a quite long phrase"
    ),
    "accounts.remove_second_factor": with_factor("remove"),
    "accounts.confirm_second_factor": with_factor("confirm"),
    "accounts.renew_recovery_codes": with_factor("codes"),
    "accounts.switch_second_factor_off": with_factor("off"),
    "accounts.change_me": lambda world: world.post(
        "/me", alice, display_name="Alice A.", language="", timezone="", theme="auto"
    ),
    "accounts.set_language": lambda world: world.post("/me/language", alice, language="zh_CN", next="/me"),
    "accounts.change_my_password": lambda world: world.post(
        "/me/password",
        named("changer"),
        current=PASSWORD,
        new="a quite long phrase",
        repeated="a quite long phrase",
    ),
    "accounts.end_session": end_a_session,
    "accounts.end_other_sessions": lambda world: (
        world.by(alice),
        world.make(lambda: sign_in(world.app.test_client(), alice())),
        world.post("/me/sessions/end-others", alice),
    )[-1],
    "accounts.create_token": lambda world: world.post("/me/tokens", alice, name="ci", days="7"),
    "accounts.revoke_token": revoke_a_token,
    "accounts.sign_in_post": sign_in_by_form,
    "accounts.sign_out": lambda world: world.post("/sign-out", named("leaver")),
    "tickets.submit": submit_by_form,
    "tickets.execute": on_new(planned, "/tickets/{}/execute", alice),
    "tickets.revoke": on_new(planned, "/tickets/{}/revoke", alice),
    "tickets.stop": on_new(running, "/tickets/{}/stop", alice),
    "tickets-api.submit": on_new_by_api(make_workorder, "/workorders/{}/tickets", alice, values={}),
    "tickets-api.execute": on_new_by_api(planned, "/tickets/{}/execute", alice),
    "tickets-api.revoke": on_new_by_api(planned, "/tickets/{}/revoke", alice),
    "tickets-api.stop": on_new_by_api(running, "/tickets/{}/stop", alice),
    "approvals.approve": on_new(waiting, "/tickets/{}/approve", bob, level="1"),
    "approvals.reject": on_new(waiting, "/tickets/{}/reject", bob, comment="no", level="1"),
    "approvals.decide_several": decide_several,
    "approvals-api.approve": on_new_by_api(waiting, "/tickets/{}/approve", bob),
    "approvals-api.reject": on_new_by_api(waiting, "/tickets/{}/reject", bob, comment="no"),
    "audit.review": on_new(
        reviewable, "/audit/break-glass/{}/review", named("audrey", pages=["audit"]), comment="x"
    ),
    "audit-events.verify": lambda world: world.post("/audit/events/verify"),
    "schedules.create": create_schedule,
    "schedules.change": change_schedule,
    "schedules.pause": on_new(schedule, "/schedules/{}/pause", alice),
    "schedules.resume": on_new(paused, "/schedules/{}/resume", alice),
    "schedules.delete": on_new(schedule, "/schedules/{}/delete", alice),
    "schedules.hand_over": lambda world: world.post(
        f"/schedules/{world.make(schedule)}/owner", owner=str(world.make(root))
    ),
}


def test_every_route_that_changes_something_stands_here(app: Flask) -> None:
    routes = {
        rule.endpoint
        for rule in app.url_map.iter_rules()
        if (rule.methods or set()) - {"GET", "HEAD", "OPTIONS"}
    }
    assert routes == STEPS.keys() | NO_EVENT.keys()
    assert not STEPS.keys() & NO_EVENT.keys()


def _errors(given: TestResponse) -> str:
    return " ".join(re.findall(r'class="[^"]*error[^"]*"[^>]*>([^<]+)', given.text))


def test_every_change_leaves_an_event(app: Flask) -> None:
    world = World(app)
    wrong = []
    for endpoint, step in STEPS.items():
        given = step(world)
        called = f"{given.request.method} {given.request.path}"
        if given.status_code not in (200, 201, 204, 303):
            wrong.append(f"{endpoint}: {called} was answered with {given.status_code}: {_errors(given)}")
            continue
        if world.last_event() == world.before:
            wrong.append(f"{endpoint}: {called} left no event")
    assert not wrong, "\n".join(wrong)
