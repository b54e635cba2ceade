"""Runs over JSON, and their output as raw bytes."""

from __future__ import annotations

import time
from typing import Any

from flask import Response, current_app, jsonify
from flask_login import current_user
from marshmallow import Schema, fields, validate

from skstack.accounts.models import Page
from skstack.accounts.sessions import user_after_wait
from skstack.extensions import db
from skstack.runs import passes, queries, raw_log
from skstack.runs.documents import run_document
from skstack.runs.following import MOMENT, tails
from skstack.states import RunState
from skstack.web.permissions import permit
from skstack.web.rest import Blueprint

blueprint = Blueprint(
    "runs-api", __name__, url_prefix="/api/v1", description="See what runs, and read what it prints."
)


class LogQuery(Schema):
    """From where on the log is read, and how long to wait for more of it."""

    offset = fields.Integer(
        load_default=0,
        validate=validate.Range(0, 2**63 - 1),
        metadata={
            "description": "Bytes of the log that the caller has: the `X-Log-Next-Offset` of the answer before."
        },
    )
    wait = fields.Float(
        load_default=0.0,
        validate=validate.Range(0),
        metadata={
            "description": f"Seconds to wait for more, at most; no longer than {raw_log.LONGEST_WAIT:g}."
        },
    )


_LOG_HEADERS = {
    "X-Log-Next-Offset": {"schema": {"type": "integer"}, "description": "The `offset` to go on with."},
    "X-Run-State": {"schema": {"type": "string", "enum": [str(one) for one in RunState]}},
    "X-Run-Final": {
        "schema": {"type": "string", "enum": ["0", "1"]},
        "description": "1: the run is over, and nothing will ever come after these bytes.",
    },
    "Retry-After": {
        "schema": {"type": "integer"},
        "description": "Only if this was answered at once because too many wait already.",
    },
}


@blueprint.route("/runs/<int:run_id>")
@blueprint.alt_response(200, schema="Run", success=True)
@permit(Page.SUBMIT, Page.EXECUTE, Page.APPROVE, Page.AUDIT)
def show_run(run_id: int) -> Response:
    """Show a run and its steps"""
    return jsonify(run_document(queries.visible_run(run_id, current_user)))


@blueprint.route("/runs/<int:run_id>/log")
@blueprint.arguments(LogQuery(), location="query")
@blueprint.alt_response(
    200,
    schema={"type": "string", "format": "binary"},
    content_type="application/octet-stream",
    description="At most 1 MiB, byte for byte as it was printed.",
    headers=_LOG_HEADERS,
    success=True,
)
@permit(Page.SUBMIT, Page.EXECUTE, Page.APPROVE, Page.AUDIT)
def read_log(query: dict[str, Any], run_id: int) -> Response:
    """Read the log of a run from an offset, and wait for more

    Answers as soon as there is something behind `offset`, or the run is over, or `wait` seconds have passed. An offset
    behind the end is no error: nothing is answered, and the offset stays the next one.
    """
    state = queries.visible_state(run_id, current_user)
    directory = current_app.config["SKSTACK"].runs_directory / str(run_id)
    states = raw_log.states_of(db.engine, run_id)
    began = time.monotonic()
    db.session.remove()  # Whoever waits must not keep others from the database.
    piece = raw_log.follow(
        states,
        state,
        directory,
        offset=query["offset"],
        wait=passes.longest_wait(min(query["wait"], raw_log.LONGEST_WAIT)),
        tails=tails(),
    )
    if time.monotonic() - began > MOMENT:
        queries.visible_state(run_id, user_after_wait())
    if piece.state is RunState.RUNNING:
        passes.offer()
    if not piece.content and not piece.state.is_final:
        passes.nothing_yet()
    response = Response(piece.content, mimetype="application/octet-stream")
    response.headers.update(piece.headers())
    return response
