"""The inbox of what one was told, and the targets outside: one's own, and those of an approval flow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, make_response, render_template, request, url_for
from flask_login import current_user
from werkzeug.wrappers import Response

from skstack.accounts.models import Page, User
from skstack.accounts.sessions import signed_in_user
from skstack.catalog import queries as catalog
from skstack.catalog.models import ApprovalFlow
from skstack.db import utcnow
from skstack.errors import Invalid
from skstack.messages import N_
from skstack.notifications import queries, services
from skstack.notifications.models import DeliveryState, Event, Target
from skstack.web.forms import go_to, tell
from skstack.web.links import row_id
from skstack.web.pagination import asked
from skstack.web.permissions import Permission, permit

blueprint = Blueprint("notifications", __name__)
blueprint.add_app_template_filter(lambda name: Event(name).label, "event_label")
blueprint.add_app_template_filter(lambda name: DeliveryState(name).label, "delivery_label")
blueprint.add_app_template_global(lambda: queries.unread_count(current_user), "unread_notifications")


@blueprint.get("/notifications")
@permit(Permission.SIGNED_IN)
def index() -> str:
    """Show what the reader was told, newest first."""
    return render_template("notifications/index.html", page=queries.told(signed_in_user(), **asked()))


@blueprint.post("/notifications/<int:number>/open")
@permit(Permission.SIGNED_IN)
def open_one(number: int) -> Response:
    """Mark one as read and lead to its ticket. 404: another's."""
    found = queries.notification(number, signed_in_user())
    services.read([found], now=utcnow())
    return go_to(url_for("tickets.detail", ticket_id=found.ticket_id))


@blueprint.post("/notifications/read")
@permit(Permission.SIGNED_IN)
def read_all() -> Response:
    """Mark everything as read."""
    services.read_all(signed_in_user(), now=utcnow())
    return go_to(url_for("notifications.index"))


@dataclass(frozen=True, slots=True)
class Place:
    """Where the targets of one owner are looked after: the addresses of its pages, and how the owner is found."""

    list: str
    save: str
    delete: str
    test: str
    path: str
    permission: Permission | Page
    owner: Callable[..., User | ApprovalFlow]


def _flow(id: int) -> ApprovalFlow:
    return catalog.get(ApprovalFlow, id)


MINE = Place(
    "notifications.mine",
    "notifications.save_mine",
    "notifications.delete_mine",
    "notifications.test_mine",
    "/me/notifications",
    Permission.SIGNED_IN,
    signed_in_user,
)
OF_FLOW = Place(
    "notifications.of_flow",
    "notifications.save_of_flow",
    "notifications.delete_of_flow",
    "notifications.test_of_flow",
    "/config/approval-flows/<int:id>/notifications",
    Page.CONFIGURATION,
    _flow,
)


def _page(place: Place, owner: User | ApprovalFlow, values: dict[str, Any], **more: Any) -> str:
    edited = request.args.get("target", type=row_id)
    chosen = queries.target(edited, owner) if edited and "target" not in more else more.pop("target", None)
    return render_template(
        "notifications/targets.html",
        place=place,
        values=values,
        flow=owner if isinstance(owner, ApprovalFlow) else None,
        targets=queries.targets(owner),
        deliveries=queries.last_deliveries(owner),
        events=[(str(event), event.label) for event in Event],
        target=chosen,
        **{"errors": {}, "form": {}, **more},
    )


def _register(place: Place) -> None:
    """Put the routes of one kind of owner on the blueprint."""

    def index(**values: Any) -> str:
        """List the targets, with the form for a new one or, with `?target=ID`, for one of them. 404."""
        return _page(place, place.owner(**values), values)

    def save(**values: Any) -> Response:
        """Add a target, or change the one named in the form. 422 with the form. 404."""
        owner = place.owner(**values)
        number = request.form.get("target", type=row_id)
        target = queries.target(number, owner) if number else None
        name, events = request.form.get("name", ""), request.form.getlist("events")
        active = bool(request.form.get("active"))
        try:
            saved = services.save_target(
                target,
                actor=signed_in_user(),
                owner=owner,
                name=name,
                url=request.form.get("url", ""),
                events=events,
                active=active,
            )
        except Invalid as err:
            form = {"name": name, "events": events, "active": active}
            return make_response(
                _page(place, owner, values, target=target, errors=err.errors, form=form), 422
            )
        tell(N_("The target %(name)s was saved.", name=saved.name))
        return go_to(url_for(place.list, **values))

    def delete(number: int, **values: Any) -> Response:
        """Delete a target. 404."""
        owner = place.owner(**values)
        target = queries.target(number, owner)
        services.delete_target(target, actor=signed_in_user(), owner=owner)
        tell(N_("The target %(name)s was deleted.", name=target.name))
        return go_to(url_for(place.list, **values))

    def test(number: int, **values: Any) -> Response:
        """Send a test message now, and say whether that worked. 404."""
        target: Target = queries.target(number, place.owner(**values))
        error = services.try_target(target)
        if error:
            tell(N_("%(name)s does not work: %(error)s", name=target.name, error=error), "warning")
        else:
            tell(N_("A test message was sent to %(name)s.", name=target.name))
        return go_to(url_for(place.list, **values))

    routes: tuple[tuple[str, str, Callable[..., Any], str], ...] = (
        (place.path, place.list, index, "GET"),
        (place.path, place.save, save, "POST"),
        (f"{place.path}/<int:number>/delete", place.delete, delete, "POST"),
        (f"{place.path}/<int:number>/test", place.test, test, "POST"),
    )
    for path, endpoint, view, method in routes:
        name = endpoint.rpartition(".")[2]
        blueprint.add_url_rule(path, name, permit(place.permission)(view), methods=[method])


for _place in (MINE, OF_FLOW):
    _register(_place)
