"""What tests of the API share: calls by the cast, and the document that every answer is held against."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from werkzeug.test import TestResponse

from skstack.accounts.models import User
from tests.factories import bearer


class Caller:
    """Calls the API as one person, and checks each answer against the OpenAPI document."""

    def __init__(self, client: FlaskClient, headers: dict[str, str], document: dict[str, Any]) -> None:
        self._client = client
        self._headers = headers
        self._document = document

    def __call__(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **more: Any
    ) -> TestResponse:
        response = self._client.open(
            f"/api/v1{path}", method=method, headers={**self._headers, **(headers or {})}, **more
        )
        check_documented(self._document, method, path, response)
        return response

    def get(self, path: str, **more: Any) -> TestResponse:
        return self("GET", path, **more)

    def post(self, path: str, json: Any = None, **more: Any) -> TestResponse:
        return self("POST", path, json=json, **more)


def check_documented(document: dict[str, Any], method: str, path: str, response: TestResponse) -> None:
    """Fail unless the document describes this answer: its status, its kind of content, its content."""
    operation = _operation(document, method, path.partition("?")[0])
    if operation is None:
        assert response.status_code in (404, 405), f"{method} {path} is not documented"
        content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    else:
        described = operation["responses"].get(str(response.status_code)) or operation["responses"]["default"]
        content = _resolved(document, described)["content"]
        for name in _resolved(document, described).get("headers", {}):
            assert name == "Retry-After" or name in response.headers
    assert response.mimetype in content, f"{response.status_code} {response.text[:500]}"
    if response.is_json:
        schema = {**content[response.mimetype]["schema"], "components": document["components"]}
        Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(
            response.json
        )


def _operation(document: dict[str, Any], method: str, path: str) -> dict[str, Any] | None:
    parts = f"/api/v1{path}".split("/")
    for template, operations in document["paths"].items():
        described = template.split("/")
        if len(described) == len(parts) and all(
            one == other or (one.startswith("{") and other.isdigit())
            for one, other in zip(described, parts, strict=True)
        ):
            found: dict[str, Any] | None = operations.get(method.lower())
            return found
    return None


def _resolved(document: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in found:
        place: Any = document
        for part in found["$ref"].removeprefix("#/").split("/"):
            place = place[part]
        found = place
    return found


@pytest.fixture
def document(app: Flask) -> dict[str, Any]:
    """Give the OpenAPI document."""
    found: dict[str, Any] = app.test_client().get("/api/openapi.json").json
    return found


@pytest.fixture
def call(app: Flask, document: dict[str, Any]) -> Callable[..., Caller]:
    """Give a way to call the API as one of the cast: `call(alice).get("/tickets")`; `call()` is nobody.

    Not within an application context: a request would share it, and with it the one who asks.
    """

    @cache
    def caller(who: Callable[[], User] | None = None) -> Caller:
        with app.app_context():
            headers = bearer(who()) if who else {}
        return Caller(app.test_client(), headers, document)

    return caller
