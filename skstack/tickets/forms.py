"""Reading the submit form and the filters of a list from a request, and laying the form out again."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flask import request
from flask_babel import get_timezone

from skstack.catalog import choices
from skstack.catalog.models import Source, Variable, WorkOrder
from skstack.messages import N_, Message
from skstack.states import TicketStatus
from skstack.tickets.models import Ticket
from skstack.tickets.queries import Filters
from skstack.tickets.values import offers

PREFIX = "v-"


@dataclass(slots=True)
class Field:
    """One field as the page shows it.

    `loads`: a fragment fetches the choices, and again when one of `depends_on` changes. `waits`: not before one of
    those is there itself, or is filled in.
    """

    variable: Variable
    value: str | list[str]
    choices: Sequence[choices.Choice] = ()
    errors: Sequence[Message] = ()
    loads: bool = False
    waits: bool = False
    failure: Message | None = None
    depends_on: Sequence[str] = ()

    @property
    def name(self) -> str:
        return PREFIX + self.variable.name


@dataclass(slots=True)
class SubmitForm:
    """What somebody fills in to submit a work order: as first shown, or as sent."""

    workorder: WorkOrder
    values: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    key: str = ""
    errors: Mapping[str, Sequence[Message]] = field(default_factory=dict)

    @classmethod
    def first(cls, workorder: WorkOrder, again: Ticket | None) -> SubmitForm:
        """Begin a form: with the values of an earlier ticket, those of the address (`?Var=value`), or the defaults."""
        values: dict[str, Any] = {}
        for variable in workorder.variables:
            given = request.args.getlist(variable.name)
            if given and not variable.secret:
                values[variable.name] = given if variable.takes_several else given[0]
            elif again is not None and again.values.get(variable.name) is not None:
                values[variable.name] = again.values[variable.name]
            else:
                values[variable.name] = _default(variable)
        note = request.args.get("note") or (again.note if again else "")
        return cls(workorder, values, note, secrets.token_urlsafe(18))

    @classmethod
    def sent(cls, workorder: WorkOrder) -> SubmitForm:
        """Read the form under way. A choice whose script failed counts as wrong, so that it cannot be left out unseen."""
        failed = set(request.form.getlist("failed"))
        form = cls(
            workorder,
            {
                name: value
                for v in workorder.variables
                if (value := _sent(v)) is not None
                for name in [v.name]
            },
            request.form.get("note", ""),
            request.form.get("idempotency_key") or secrets.token_urlsafe(18),
        )
        form.errors = {
            v.name: [N_("The choices could not be loaded, so nothing can be chosen.")]
            for v in workorder.variables
            if v.name in failed
        }
        return form

    def fields(self) -> list[Field]:
        """Lay out the fields. After an error the choices are asked for here, so that what was chosen stays chosen."""
        offered = offers(self.workorder, self.values) if self.errors else {}
        return [self._field(variable, offered.get(variable.name)) for variable in self.workorder.variables]

    def _field(self, variable: Variable, offered: choices.Offered | None) -> Field:
        value = self.values.get(variable.name, [] if variable.takes_several else "")
        shown = Field(variable, "" if variable.secret else value, errors=self.errors.get(variable.name, ()))
        if variable.source == Source.LIST:
            shown.choices = [choices.Choice(choice, choice) for choice in variable.choices]
        elif variable.source == Source.SCRIPT:
            names = choices.depends_on(variable, workorder=self.workorder)
            shown.depends_on = [PREFIX + name for name in names]
            if offered is not None:
                _put(shown, offered)
            else:
                shown.loads = True
                loading = {other.name for other in self.workorder.variables if other.source == Source.SCRIPT}
                shown.waits = not loading.isdisjoint(names)
        return shown


def load(shown: Field, workorder: WorkOrder, values: Mapping[str, Any]) -> Field:
    """Run the field's script and put in what it offers, or why it offers nothing."""
    _put(shown, choices.offer(shown.variable, workorder=workorder, values=values))
    return shown


def _put(shown: Field, offered: choices.Offered) -> None:
    shown.choices, shown.failure, shown.waits = offered.choices, offered.error, bool(offered.waiting_for)


def fragment_field(workorder: WorkOrder, variable: Variable) -> tuple[Field, dict[str, Any]]:
    """Return the field that a fragment asks for, with the values of those it depends on, from the address."""
    by_name = {other.name: other for other in workorder.variables}
    names = choices.depends_on(variable, workorder=workorder)
    values = {
        name: _value(by_name[name], request.args.getlist(PREFIX + name)) for name in names if name in by_name
    }
    value = _value(variable, request.args.getlist(PREFIX + variable.name) or request.args.getlist("value"))
    return Field(variable, value, depends_on=[PREFIX + name for name in names]), values


def asked_filters() -> Filters:
    """Read the filters of a list from the address; what is not understood narrows nothing."""
    args = request.args
    status = args.get("status", "")
    return Filters(
        environment=args.get("environment", ""),
        category=args.get("category", ""),
        status=status if status in list(TicketStatus) else "",
        workorder=args.get("workorder", ""),
        submitter=args.get("submitter", ""),
        kind=args.get("kind", "") if args.get("kind") in ("foreground", "background") else "",
        since=_day(args.get("from", ""), 0),
        until=_day(args.get("to", ""), 1),
        text=args.get("q", "").strip()[:200],
    )


def _day(given: str, later: int) -> dt.datetime | None:
    """Return the beginning of a day in the reader's zone, `later` days on."""
    try:
        day = dt.date.fromisoformat(given)
    except ValueError:
        return None
    return dt.datetime.combine(day + dt.timedelta(days=later), dt.time(), get_timezone()).astimezone(dt.UTC)


def _default(variable: Variable) -> str | list[str]:
    if not variable.takes_several:
        return variable.default
    return [item for item in variable.default.split(variable.delimiter) if item]


def _sent(variable: Variable) -> str | list[str] | None:
    given = request.form.getlist(PREFIX + variable.name)
    return _value(variable, given) if given else None


def _value(variable: Variable, given: list[str]) -> str | list[str]:
    if variable.takes_several:
        return [item for item in given if item]
    return given[0] if given else ""
