"""Fault 21, as far as pages go: what is secret stands in no answer, no log, no message, no event and not plainly in the database.

What runs do with secrets, and with those that commands print, is in tests/faults/test_secrets.py.
"""

from __future__ import annotations

import base64
import logging
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from flask import Flask

from skstack import hosting
from skstack.accounts import second_factor
from skstack.catalog import verification
from skstack.catalog.verification import Verified
from skstack.config import Settings
from skstack.db import transaction, utcnow
from skstack.messages import N_
from skstack.notifications.services import save_target
from skstack.runner.client import RunnerHost
from skstack.runs.execution import Watcher
from skstack.tickets.models import Ticket
from tests.fake_runner import FakeRunner, make_worker, run_of
from tests.orders import make_config_center, make_flow, make_ticket, make_variable, make_workorder
from tests.schedules.making import make_schedule
from tests.web.test_who_may import AnyScript
from tests.web.who_may import World, routes_of, user

SECRETS = {
    "the value of a ticket": "ticket-tr0ub4dor",
    "the value of a schedule": "schedule-tr0ub4dor",
    "the password of a config center": "center-tr0ub4dor",
    "the passphrase of a key": "passphrase-tr0ub4dor",
    "the address of somebody's notifications": "mine-tr0ub4dor",
    "the address of a flow's notifications": "flow-tr0ub4dor",
    "the password for the directory": "ldap-tr0ub4dor",
    "the secret for the provider": "oidc-tr0ub4dor",
}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(
        settings,
        ldap_url="ldaps://127.0.0.1:1",
        ldap_base="dc=example,dc=org",
        ldap_bind_dn="cn=skstack,dc=example,dc=org",
        ldap_bind_password=SECRETS["the password for the directory"],
        oidc_issuer="https://127.0.0.1:1",
        oidc_client_id="skstack",
        oidc_client_secret=SECRETS["the secret for the provider"],
    )


class Hidden:
    """An instance that keeps every kind of secret, and what must not be seen of each: `forms` by what it is."""

    def __init__(self, app: Flask) -> None:
        self.world = World(app)
        self.forms: dict[str, list[str]] = {name: _forms(secret) for name, secret in SECRETS.items()}
        with app.app_context():
            order, flow = self._order(), make_flow("leads")
            values = {"Password": SECRETS["the value of a ticket"]}
            ticket = make_ticket(user("alice"), order, values=values)
            self.world.ids |= {"ticket_id": ticket.id, "run_id": _printed(app, ticket)}
            values = {"Password": SECRETS["the value of a schedule"]}
            self.world.ids["schedule_id"] = make_schedule(user("root"), order, values=values).id
            self.world.ids |= {"workorder_id": order.id, "workorder": order.id, "approval_flow": flow.id}
            self._keep_credentials()
            given = {"actor": user("root"), "name": "told", "events": ["ended"], "active": True}
            for owner, whose in ((user("root"), "somebody"), (flow, "a flow")):
                secret = SECRETS[f"the address of {whose}'s notifications"]
                save_target(None, owner=owner, url=f"jsons://user:{secret}@192.0.2.1/{secret}", **given)
            self._sign_in_with_a_second_factor()
        self.forms |= {
            "the token of the API": _forms(self.world.headers("root")["Authorization"].split()[1]),
            "the cookie's token": _forms(self.world.cookie_of("root")),
        }

    def _order(self) -> Any:
        password = make_variable("Password", secret=True, required=True, pattern="[a-z0-9-]+")
        return make_workorder(
            "secretive", variables=[password], scheduling=True, main_task='echo "it is $WO_Password"'
        )

    def _keep_credentials(self) -> None:
        passphrase = SECRETS["the passphrase of a key"]
        key = Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase.encode())
        )
        password = SECRETS["the password of a config center"]
        self.world.ids["config_center"] = make_config_center("known", login="password", password=password).id
        make_config_center("keyed", login="key", private_key=key.decode(), passphrase=passphrase)
        self.forms["a private key"] = [key.decode().splitlines()[1]]

    def _sign_in_with_a_second_factor(self) -> None:
        root = user("root")
        with transaction():
            second_factor.prepare(root, now=utcnow())
        found = second_factor.of(root)
        assert found is not None
        assert root.password_hash is not None
        self.forms["the secret of a second factor"] = [found.secret]
        self.forms["the hash of a password"] = [root.password_hash]

    def seen_in(self, text: str, *, but: tuple[str, ...] = ()) -> list[str]:
        """Return what is seen in a text of what must not be."""
        return [
            name for name, forms in self.forms.items() if name not in but and any(f in text for f in forms)
        ]


def _printed(app: Flask, ticket: Ticket) -> int:
    """Let a real runner do the ticket's command, which prints the secret, and return the number of the run."""
    before, host = hosting.runner_host(), RunnerHost()
    hosting.set_runner_host(host)
    try:
        number = run_of(ticket).id
        Watcher(app, make_worker().id).execute(number)
    finally:
        host.close()
        hosting.set_runner_host(before)
    assert run_of(ticket).state == "succeeded"
    return number


def _forms(secret: str) -> list[str]:
    return [secret, base64.b64encode(secret.encode()).decode().rstrip("=")]


@pytest.fixture
def hidden(app: Flask, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hidden]:
    runner.scripts = AnyScript()  # type: ignore[assignment]
    monkeypatch.setattr(verification, "verify", lambda *_, **__: Verified(error=N_("Not asked.")))
    return Hidden(app)


def test_what_is_secret_is_on_no_page_and_in_no_export(
    hidden: Hidden, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong, read, masked = [], 0, set()
    # Where a second factor is set up, its secret is shown to its owner.
    shown = {"accounts.my_second_factor": ("the secret of a second factor",)}
    for route in routes_of(hidden.world.app):
        if route.method == "GET" and route.endpoint not in ("static", "runs.log_files", "runs.log_file"):
            for name in ("root", "alice"):
                answer = hidden.world.ask(name, route, {})
                read += answer.status_code == 200
                if "it is ********" in re.sub("<[^>]*>", "", answer.text):
                    masked.add(route.endpoint)
                seen = hidden.seen_in(answer.text + str(answer.headers), but=shown.get(route.endpoint, ()))
                wrong += [f"{one} is seen at {answer.request.url} by {name}" for one in seen]
    assert not wrong
    assert read > 100
    assert masked >= {"runs.detail", "runs.log", "runs.output", "runs-api.read_log"}
    assert not hidden.seen_in(caplog.text)


# What somebody typed, sent with something that is wrong: [endpoint, form], where SECRET stands for what is secret.
TYPED: tuple[tuple[str, dict[str, str]], ...] = (
    ("catalog.create_config_center", {"name": "", "login": "password", "password": "SECRET"}),
    ("catalog.change_config_center", {"name": "", "login": "password", "password": "SECRET", "version": "1"}),
    (
        "catalog.change_config_center",
        {"name": "x", "login": "password", "password": "SECRET", "version": "9"},
    ),
    (
        "catalog.create_config_center",
        {"name": "x", "login": "key", "private_key": "SECRET", "passphrase": "SECRET"},
    ),
    ("notifications.save_mine", {"name": "", "url": "jsons://user:SECRET@192.0.2.1/SECRET"}),
    ("notifications.save_mine", {"name": "x", "url": "nothing://SECRET", "events": "ended"}),
    ("notifications.save_mine", {"name": "x", "url": "jsons://user:SECRET@", "events": "ended"}),
    ("notifications.save_of_flow", {"name": "", "url": "jsons://user:SECRET@192.0.2.1/SECRET"}),
    ("tickets.submit", {"v-Password": "SECRET", "scheduled_at": "never"}),
    ("tickets.submit", {"v-Password": "SECRET!"}),
    ("schedules.change", {"v-Password": "SECRET", "schedule-name": ""}),
    ("schedules.change", {"v-Password": "SECRET!", "schedule-name": "x"}),
    ("accounts.create_user", {"username": "!", "password": "SECRET"}),
    ("accounts.set_user_password", {"new": "SECRET", "repeated": "another-SECRET"}),
    ("accounts.change_my_password", {"current": "SECRET", "new": "SECRET", "repeated": "another-SECRET"}),
    ("accounts.confirm_second_factor", {"password": "SECRET", "code": "1"}),
    ("accounts.sign_in_post", {"username": "root", "password": "SECRET"}),
)


def test_what_somebody_typed_in_secret_does_not_come_back_and_is_written_down_nowhere(
    hidden: Hidden, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    routes = {(route.endpoint, route.method): route for route in routes_of(hidden.world.app)}
    typed = "typed-tr0ub4dor"
    for endpoint, form in TYPED:
        sent = {name: value.replace("SECRET", typed) for name, value in form.items()}
        answer = hidden.world.ask("root", routes[endpoint, "POST"], sent)
        assert answer.status_code in (401, 409, 410, 422), (endpoint, answer.status_code)
        assert typed not in answer.text + str(answer.headers), endpoint
    for path, body in (
        (
            f"/api/v1/workorders/{hidden.world.ids['workorder_id']}/tickets",
            {"values": {"Password": typed + "!"}},
        ),
        (
            f"/api/v1/workorders/{hidden.world.ids['workorder_id']}/tickets",
            {"values": {"Password": typed, "X": ""}},
        ),
    ):
        answer = hidden.world.app.test_client().post(path, json=body, headers=hidden.world.headers("root"))
        assert answer.status_code == 422
        assert typed not in answer.text
    assert typed not in caplog.text
    assert typed not in stored_of(hidden.world.app)


def test_what_is_secret_stands_nowhere_in_the_database_but_encrypted(hidden: Hidden) -> None:
    stored = stored_of(hidden.world.app)
    assert "secretive" in stored, "nothing was looked at"
    found = hidden.world.app.test_client().get(
        "/api/v1/tickets?scope=all&q=tr0ub4dor", headers=hidden.world.headers("root")
    )
    assert found.json["items"] == []
    # Hashes of passwords are what is stored of them.
    assert not hidden.seen_in(stored, but=("the hash of a password",))


def stored_of(app: Flask) -> str:
    """Return everything in the database and in the queue, as it is stored."""
    found = []
    for file in app.config["SKSTACK"].instance.glob("*.db"):
        with sqlite3.connect(file) as connection:
            tables = "select name from sqlite_master where type = 'table' and sql not like 'create virtual%'"
            for (table,) in connection.execute(tables).fetchall():
                for row in connection.execute(f'select * from "{table}"'):
                    found += [
                        one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in row
                    ]
    return "\n".join(found)
