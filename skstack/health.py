"""For load balancers and service managers: whether this process lives, and whether skstack can do its work."""

from __future__ import annotations

import datetime as dt
import re
from functools import cache

import sqlalchemy as sa
from flask import Blueprint, Response, current_app, jsonify
from sqlalchemy.exc import SQLAlchemyError

from skstack.config import ROOT, Settings
from skstack.db import utcnow
from skstack.extensions import db
from skstack.runs.models import Worker
from skstack.web.permissions import Permission, permit

blueprint = Blueprint("health", __name__)

OK, FAILED = "ok", "failed"

_REVISION = re.compile(r"""^revision(?:: \w+)? = ["'](\w+)["']""", re.MULTILINE)
_DOWN_REVISION = re.compile(r"""^down_revision.* = ["'](\w+)["']""", re.MULTILINE)


@blueprint.get("/healthz")
@permit(Permission.ANYONE)
def alive() -> Response:
    """Say that this process answers. Asks nothing of anything else."""
    return jsonify({"status": OK})


@blueprint.get("/readyz")
@permit(Permission.ANYONE)
def ready() -> Response:
    """Say whether the database answers, is migrated, and a worker lives: 200, or 503 with what does not hold."""
    checks = {"database": FAILED, "migrations": FAILED, "worker": FAILED}
    try:
        db.session.execute(sa.select(1))
        checks["database"] = OK
        if _is_migrated():
            checks["migrations"] = OK
            checks["worker"] = OK if _a_worker_lives(current_app.config["SKSTACK"]) else FAILED
    except SQLAlchemyError as err:
        db.session.rollback()
        current_app.logger.error("not ready: %s", err)
    is_ready = all(result == OK for result in checks.values())
    response = jsonify({"status": OK if is_ready else FAILED, "checks": checks})
    response.status_code = 200 if is_ready else 503
    return response


def _is_migrated() -> bool:
    if not sa.inspect(db.session.connection()).has_table("alembic_version"):
        return False
    stored = db.session.scalars(sa.text("SELECT version_num FROM alembic_version")).all()
    return set(stored) == heads()


@cache
def heads() -> set[str]:
    """Return the newest migrations: those that none comes after. Read without Alembic, which is 14 MB to load."""
    found = [file.read_text(encoding="utf-8") for file in (ROOT / "migrations" / "versions").glob("*.py")]
    revisions = {match[1] for text in found for match in _REVISION.finditer(text)}
    return revisions - {match[1] for text in found for match in _DOWN_REVISION.finditer(text)}


def _a_worker_lives(settings: Settings) -> bool:
    """Say whether a worker gave a sign of life within its lease. Hosts' clocks may differ by as much again."""
    since = utcnow() - dt.timedelta(seconds=2 * settings.lease)
    living = sa.select(Worker.id).where(Worker.stopped_at.is_(None), Worker.seen_at > since)
    return db.session.scalars(living.limit(1)).first() is not None
