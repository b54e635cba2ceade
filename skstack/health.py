"""For load balancers and service managers: whether this process lives, and whether skstack can do its work."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, jsonify
from sqlalchemy.exc import SQLAlchemyError

from skstack.config import Settings
from skstack.extensions import db
from skstack.system import checks
from skstack.web.permissions import Permission, permit

blueprint = Blueprint("health", __name__)

OK, FAILED = "ok", "failed"


@blueprint.get("/healthz")
@permit(Permission.ANYONE)
def alive() -> Response:
    """Say that this process answers. Asks nothing of anything else."""
    return jsonify({"status": OK})


@blueprint.get("/readyz")
@permit(Permission.ANYONE)
def ready() -> Response:
    """Say whether the database answers, is migrated, a worker lives, and there is room: 200, or 503 with what does not hold."""
    settings: Settings = current_app.config["SKSTACK"]
    found = dict.fromkeys(("database", "migrations", "worker"), False)
    try:
        found["migrations"] = checks.revisions() == checks.heads()
        found["database"] = True
        found["worker"] = found["migrations"] and checks.a_worker_lives(settings)
    except SQLAlchemyError as err:
        db.session.rollback()
        current_app.logger.error("not ready: %s", err)
    found["disk"] = checks.can_write(settings)
    is_ready = all(found.values())
    response = jsonify(
        {
            "status": OK if is_ready else FAILED,
            "checks": {name: OK if holds else FAILED for name, holds in found.items()},
        }
    )
    response.status_code = 200 if is_ready else 503
    return response
