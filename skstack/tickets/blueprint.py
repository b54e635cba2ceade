"""The blueprint of the pages about tickets, with what their templates use; `views` and `ticket_views` put their routes on it."""

from __future__ import annotations

from flask import Blueprint

from skstack.states import JobStatus, TicketStatus
from skstack.web.links import url_with

blueprint = Blueprint("tickets", __name__)
blueprint.add_app_template_filter(TicketStatus, "ticket_status")
blueprint.add_app_template_filter(JobStatus, "job_status")
blueprint.add_app_template_filter(lambda name: f"[name='{name}']", "field_selector")
blueprint.add_app_template_filter(lambda name: f"change from:#slot-{name} delay:150ms", "changes_of")
blueprint.add_app_template_filter(
    lambda choices: [(choice.value, choice.label) for choice in choices], "choice_pairs"
)
blueprint.add_app_template_global(lambda: [(state, state.label) for state in TicketStatus], "ticket_statuses")
blueprint.add_app_template_global(lambda name: url_with(environment=name), "tab_url")
