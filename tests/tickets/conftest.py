"""What tests of the tickets' pages share: visits by the cast."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from skstack.accounts.models import User
from tests.factories import sign_in

HTMX = {"HX-Request": "true"}


class Visitor:
    """Opens pages and presses buttons as one person. `htmx` asks for a fragment, as htmx would."""

    def __init__(self, client: FlaskClient) -> None:
        self._client = client

    def get(self, path: str, *, htmx: bool = False, **query: Any) -> TestResponse:
        return self._client.get(path, query_string=query or None, headers=HTMX if htmx else {})

    def post(self, path: str, *, htmx: bool = False, **form: Any) -> TestResponse:
        return self._client.post(path, data=form, headers=HTMX if htmx else {})

    def put(self, path: str) -> TestResponse:
        return self._client.put(path)


@pytest.fixture
def visit(app: Flask) -> Callable[..., Visitor]:
    """Give a way to be one of the cast: `visit(alice).get("/tickets")`; `visit()` is nobody.

    Not within an application context: a request would share it, and with it the one who asks.
    """

    @cache
    def visitor(who: Callable[[], User] | None = None) -> Visitor:
        client = app.test_client()
        if who is not None:
            with app.app_context():
                sign_in(client, who())
        return Visitor(client)

    return visitor


def said(response: TestResponse) -> str:
    """Return the text of a page, without its tags."""
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.text)))
