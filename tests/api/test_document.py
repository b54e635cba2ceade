"""The OpenAPI document says what there is."""

from __future__ import annotations

import re
from typing import Any

from flask import Flask
from jsonschema import Draft202012Validator

from skstack.web.permissions import declared


def test_the_document_is_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["title"] == "skstack"
    assert document["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    assert document["security"] == [{"token": []}]


def test_every_route_of_the_api_is_described(app: Flask, document: dict[str, Any]) -> None:
    described = {
        (method.upper(), path)
        for path, found in document["paths"].items()
        for method in found.keys() - {"parameters"}
    }
    served = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/v1/")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert described == served
    assert len(served) >= 8


def test_every_route_of_the_api_declares_who_may_use_it(app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/api/"):
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                assert declared(app, rule.endpoint, method), rule


def test_every_call_says_what_it_does_takes_and_answers(document: dict[str, Any]) -> None:
    for path, found in document["paths"].items():
        parameters = found.get("parameters", [])
        assert [one["name"] for one in parameters if one["in"] == "path"] == re.findall(r"\{(\w+)\}", path)
        for operation in (found[method] for method in found.keys() - {"parameters"}):
            assert operation["summary"], path
            assert operation["responses"]["default"] == {"$ref": "#/components/responses/DEFAULT_ERROR"}
            assert len([code for code in operation["responses"] if code.startswith("2")]) == 1, path


def test_every_schema_is_one_and_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for place in re.findall(r'"\$ref": ?"#/([^"]+)"', str(document).replace("'", '"')):
        found: Any = document
        for part in place.split("/"):
            found = found[part]
        assert found


def test_the_document_is_for_anyone_and_names_no_host(app: Flask) -> None:
    response = app.test_client().get("/api/openapi.json")
    assert response.status_code == 200
    assert response.mimetype == "application/json"
    assert "127.0.0.1" not in response.text
