"""A route of the JSON API to ask who is asking, and clients that are signed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask, jsonify
from flask.testing import FlaskClient
from flask_login import current_user

from skstack.accounts.models import User
from skstack.extensions import db
from skstack.web.permissions import Permission, permit
from tests import factories


@pytest.fixture
def app(app: Flask) -> Flask:
    @permit(Permission.SIGNED_IN)
    def who() -> Any:
        return jsonify(current_user.username)

    app.add_url_rule("/api/v1/who", "who_api", who, methods=["GET", "POST"])
    app.add_url_rule("/who", "who", who, methods=["GET", "POST"])
    return app


@dataclass
class Person:
    """Somebody with a browser."""

    user: User
    client: FlaskClient
    session_id: int


@pytest.fixture
def browser_of(app: Flask) -> Callable[[str], Person]:
    """Give what signs in one of the cast, by name, each time at a browser of its own."""

    def make(name: str) -> Person:
        client = app.test_client()
        with app.app_context():
            user = getattr(factories, name)() if hasattr(factories, name) else ADMINISTRATORS[name]()
            row = factories.sign_in(client, user)
            return Person(user, client, row.id)

    return make


def people_administrator() -> User:
    """Return Paula, who sees the pages about people and is no superuser."""
    found = db.session.query(User).filter_by(username="paula").one_or_none()
    return found or factories.make_user("paula", pages=["users"])


ADMINISTRATORS = {"paula": people_administrator}
