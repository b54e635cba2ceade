"""The blueprint of the pages about runs; `views` and `log_views` put their routes on it."""

from __future__ import annotations

from flask import Blueprint

blueprint = Blueprint("runs", __name__)
