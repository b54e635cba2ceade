"""The blueprint of the pages about people; `views` and `people_views` put their routes on it."""

from __future__ import annotations

from flask import Blueprint

blueprint = Blueprint("accounts", __name__)
