"""What differs between a ticket and the last one of its work order that succeeded, and whether the work order was edited."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import sqlalchemy as sa

from skstack.accounts.models import User
from skstack.audit.models import AuditEvent
from skstack.audit.services import Action
from skstack.extensions import db
from skstack.states import TicketStatus
from skstack.tickets.models import Ticket
from skstack.tickets.plan import Plan
from skstack.tickets.queries import visible_among

SAME, REMOVED, ADDED = "same", "removed", "added"


@dataclass(frozen=True, slots=True)
class ChangedValue:
    """One field whose value differs; None where the other ticket had no such field. Secrets are never compared."""

    label: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Edit:
    """An edit of a work order: who, and when."""

    by: str
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class Comparison:
    """A ticket beside `last`, the success of its work order that ended last; None if there was none.

    `is_hidden` says that there was one which the reader may not see, and nothing of it is told.
    `lines` are all command lines, each with SAME, REMOVED or ADDED. `edit` is the last edit of the work order after
    the submission, which changes nothing of what runs; `edit_between` the last one between that success's submission
    and this one: it is why the same values may give other lines.
    """

    last: Ticket | None
    is_hidden: bool = False
    values: Sequence[ChangedValue] = ()
    lines: Sequence[tuple[str, str]] = ()
    targets: tuple[str, str] | None = None
    edit: Edit | None = None
    edit_between: Edit | None = None

    @property
    def changed_lines(self) -> int:
        return sum(kind != SAME for kind, _ in self.lines)

    @property
    def is_same(self) -> bool:
        """Say whether the same would run, with the same values, at the same place."""
        return self.last is not None and not (self.values or self.changed_lines or self.targets)


def comparisons(tickets: Iterable[Ticket], *, reader: User) -> dict[int, Comparison]:
    """Return the comparison of each ticket, by its id, as far as the reader may see what it is compared with.

    Needs three statements at most, however many tickets there are.
    """
    tickets = list(tickets)
    found = _last_successes(tickets)
    seen = visible_among(list(found.values()), reader)
    lasts = {order: last for order, last in found.items() if last.id in seen}
    edits = _edits(tickets, lasts)
    return {
        ticket.id: _compare(
            ticket,
            lasts.get(ticket.workorder_id),
            edits.get(ticket.workorder_id, ()),
            is_hidden=ticket.workorder_id in found.keys() - lasts.keys(),
        )
        for ticket in tickets
    }


def _last_successes(tickets: Sequence[Ticket]) -> dict[int, Ticket]:
    """Return the success of each work order that ended last, by work order: what ran last is what it is compared with.

    Needs one statement.
    """
    orders = {one.workorder_id for one in tickets}
    last = (
        sa.select(Ticket.workorder_id, sa.func.max(Ticket.finished_at).label("at"))
        .where(Ticket.workorder_id.in_(orders), Ticket.status == TicketStatus.SUCCEEDED)
        .group_by(Ticket.workorder_id)
        .subquery()
    )
    found = db.session.scalars(
        sa.select(Ticket)
        .join(last, sa.and_(Ticket.workorder_id == last.c.workorder_id, Ticket.finished_at == last.c.at))
        .where(Ticket.status == TicketStatus.SUCCEEDED)
        .order_by(Ticket.id)
    )
    return {one.workorder_id: one for one in found}


def _edits(tickets: Sequence[Ticket], lasts: Mapping[int, Ticket]) -> dict[int, list[Edit]]:
    """Return the edits, oldest first, of each work order that is or was in another version than what was submitted."""
    edited = {
        one.workorder_id
        for one in tickets
        if {one.workorder.version, lasts.get(one.workorder_id, one).workorder_version}
        != {one.workorder_version}
    }
    if not edited:
        return {}
    events = db.session.scalars(
        sa.select(AuditEvent)
        .where(
            AuditEvent.object_type == "workorder",
            AuditEvent.object_id.in_(edited),
            AuditEvent.action == Action.CHANGED,
        )
        .order_by(AuditEvent.id)
    )
    found: dict[int, list[Edit]] = {}
    for event in events:
        if event.object_id is not None:
            found.setdefault(event.object_id, []).append(Edit(event.actor, event.at))
    return found


def _compare(ticket: Ticket, last: Ticket | None, edits: Sequence[Edit], *, is_hidden: bool) -> Comparison:
    edit = None
    if ticket.workorder.version != ticket.workorder_version:
        edit = next((one for one in reversed(edits) if one.at >= ticket.created_at), None)
    if last is None:
        return Comparison(None, is_hidden=is_hidden, edit=edit)
    before, after = Plan.from_json(last.plan), Plan.from_json(ticket.plan)
    targets = (before.target_name, after.target_name)
    return Comparison(
        last,
        values=_values(last.values, before, ticket.values, after),
        lines=_lines([step.shown for step in before.steps], [step.shown for step in after.steps]),
        targets=targets if targets[0] != targets[1] else None,
        edit=edit,
        edit_between=_edit_between(last, ticket, edits),
    )


def _edit_between(last: Ticket, ticket: Ticket, edits: Sequence[Edit]) -> Edit | None:
    if last.workorder_version == ticket.workorder_version:
        return None
    first, second = sorted((last.created_at, ticket.created_at))
    return next((one for one in reversed(edits) if first <= one.at <= second), None)


def _values(
    old: Mapping[str, object], before: Plan, new: Mapping[str, object], after: Plan
) -> list[ChangedValue]:
    fields = {field["name"]: field for field in (*before.fields, *after.fields)}
    return [
        ChangedValue(str(field["label"]), _text(old, name), _text(new, name))
        for name, field in fields.items()
        if not field["secret"] and _text(old, name) != _text(new, name)
    ]


def _text(values: Mapping[str, object], name: str) -> str | None:
    value = values.get(name)
    if value is None:
        return None
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _lines(before: Sequence[str], after: Sequence[str]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for kind, start, end, new_start, new_end in SequenceMatcher(
        a=before, b=after, autojunk=False
    ).get_opcodes():
        if kind == "equal":
            found += [(SAME, line) for line in after[new_start:new_end]]
            continue
        found += [(REMOVED, line) for line in before[start:end]]
        found += [(ADDED, line) for line in after[new_start:new_end]]
    return found
