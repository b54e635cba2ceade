"""The JSON API as a whole: its routes, and the OpenAPI document that describes them."""

from __future__ import annotations

import http
import json
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import flask_smorest
from flask import Flask, Response

from skstack import health
from skstack.approvals import api as approvals
from skstack.audit import api as audit
from skstack.audit import documents as audit_documents
from skstack.runs import api as runs
from skstack.runs import documents as run_documents
from skstack.tickets import api as tickets
from skstack.tickets import schemas as ticket_schemas
from skstack.web.permissions import Permission, permit
from skstack.web.rest import Blueprint, JsonSchema

PROBLEM = "application/problem+json"
_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "What is wrong, as RFC 9457 says.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What happened, to what, and what to do."},
        "errors": {
            "type": "object",
            "description": "What is wrong with each field; the key is empty for the whole.",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        },
        "ticket": {"type": "integer", "description": "The ticket that is in the way."},
        "frozen_until": {
            "type": "string",
            "format": "date-time",
            "description": "When the freeze window ends.",
        },
    },
}
_DESCRIPTION = """Submit work orders, follow them and read what they print.

Every call needs the header `Authorization: Bearer TOKEN`. Errors are problem documents. Times are RFC 3339 in UTC.
Lists give `next`: as `after` it leads to the next page."""


class Api(flask_smorest.Api):
    """flask-smorest without its error pages: `skstack.web.errors` has them, for pages and API alike.

    What it serves is described when somebody first asks for the description: most processes never are, and making it
    took a third of the time in which an application is built.
    """

    def __init__(self, app: Flask, *, schemas: Iterable[Mapping[str, JsonSchema]], **options: Any) -> None:
        self._schemas = schemas
        self._features: list[Blueprint] = []
        self._lock = threading.Lock()
        self._document = b""
        super().__init__(app, spec_kwargs=options)

    def register_blueprint(self, blp: Blueprint, **_: Any) -> None:
        """Register the routes of a feature."""
        self._app.extensions["flask-smorest"]["blp_name_to_api"][blp.name] = self
        self._app.register_blueprint(blp)
        self._features.append(blp)

    def _init_spec(self, **options: Any) -> None:
        self._options = options

    def _describe(self) -> None:
        super()._init_spec(**self._options)
        for schemas in self._schemas:
            for name, schema in schemas.items():
                self.spec.components.schema(name, schema)
        for feature in self._features:
            feature.register_views_in_doc(self, self._app, self.spec, name=feature.name, parameters=None)
            self.spec.tag({"name": feature.name, "description": feature.description})

    def _register_error_handlers(self) -> None:
        pass

    def _register_responses(self) -> None:
        self.spec.components.schema("Problem", _PROBLEM_SCHEMA)
        schema = {"$ref": "#/components/schemas/Problem"}
        names = [(status.name, status.phrase) for status in http.HTTPStatus]
        for name, description in [*names, ("DEFAULT_ERROR", "What is wrong.")]:
            response = {"description": description, "content": {PROBLEM: {"schema": schema}}}
            self.spec.components.response(name, response, lazy=True)

    def _register_etag_headers(self) -> None:
        pass

    def _register_pagination_header(self) -> None:
        pass

    @property
    def document(self) -> bytes:
        """The OpenAPI document as JSON. It is made once, when it is first asked for."""
        with self._lock:
            if not self._document:
                self._describe()
                self._document = json.dumps(
                    self.spec.to_dict(), ensure_ascii=False, separators=(",", ":")
                ).encode()
            return self._document

    @permit(Permission.ANYONE)
    def _openapi_json(self) -> Response:
        return Response(self.document, mimetype="application/json")


def init_app(app: Flask) -> None:
    """Register the routes of the API with their description, and those that ask for skstack's health."""
    app.config.setdefault("OPENAPI_URL_PREFIX", "/api")
    app.config.setdefault("OPENAPI_JSON_PATH", "openapi.json")
    bearer = {"type": "http", "scheme": "bearer"}
    api = Api(
        app,
        schemas=(ticket_schemas.SCHEMAS, run_documents.SCHEMAS, audit_documents.SCHEMAS),
        info={"description": _DESCRIPTION},
        security=[{"token": []}],
        components={"securitySchemes": {"token": bearer}},
    )
    for feature in (tickets, approvals, runs, audit):
        api.register_blueprint(feature.blueprint)
    app.register_blueprint(health.blueprint)
