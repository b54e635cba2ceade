"""What only approval flows and freeze windows show: who could decide, and what is frozen now."""

from __future__ import annotations

from skstack.accounts.models import Group, User
from skstack.catalog.models import ApprovalFlow, FreezeWindow
from skstack.catalog.views.blueprint import blueprint
from skstack.db import utcnow
from skstack.tickets import levels


@blueprint.app_template_global("deciders_of")
def deciders_of(flow: ApprovalFlow) -> list[tuple[Group, list[User]]]:
    """Return the group of each level with those of its members who can decide: active, and with the approve page."""
    return levels.deciders(flow)


@blueprint.app_template_test("frozen_now")
def is_frozen_now(window: FreezeWindow) -> bool:
    """Say whether a window holds starts at this moment."""
    return window.starts_at <= utcnow() < window.ends_at


@blueprint.app_template_test("over")
def is_over(window: FreezeWindow) -> bool:
    return window.ends_at <= utcnow()
