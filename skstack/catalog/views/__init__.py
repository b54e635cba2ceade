"""The configuration's pages. Each module puts its routes on the one blueprint."""

from __future__ import annotations

from skstack.catalog.views import approval_flows, config_centers, pages, variables, workorders
from skstack.catalog.views.blueprint import blueprint

__all__ = ["approval_flows", "blueprint", "config_centers", "pages", "variables", "workorders"]
