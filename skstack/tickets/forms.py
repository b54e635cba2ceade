"""Reading the submit form and the filters of a list from a request, and laying the form out again."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flask import request
from flask_babel import get_timezone

from skstack.catalog import choices
from skstack.catalog.models import Source, Variable, WorkOrder
from skstack.messages import N_, Message
from skstack.states import TicketStatus
from skstack.tickets.models import BACKGROUND, FOREGROUND, Ticket
from skstack.tickets.queries import Filters
from skstack.tickets.values import offers
from skstack.web.local_time import WrongTime, read_local, written_local

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
    """What somebody fills in to submit a work order: as first shown, or as sent. `scheduled_at` is as it was typed."""

    workorder: WorkOrder
    values: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    key: str = ""
    scheduled_at: str = ""
    background: bool = False
    auto_run: bool = False
    break_glass: str = ""
    errors: Mapping[str, Sequence[Message]] = field(default_factory=dict)

    @classmethod
    def first(cls, workorder: WorkOrder, again: Ticket | None) -> SubmitForm:
        """Begin a form: with the values of an earlier ticket, those of the address (`?Var=value`), or the defaults.

        When the earlier one was planned for is not taken over: that time has passed, or is the other one's.
        """
        values: dict[str, Any] = {}
        for variable in workorder.variables:
            given = request.args.getlist(variable.name)
            if given and not variable.secret:
                values[variable.name] = given if variable.takes_several else given[0]
            elif again is not None and again.values.get(variable.name) is not None:
                values[variable.name] = again.values[variable.name]
            else:
                values[variable.name] = _default(variable)
        chose_background = (
            again is not None
            and again.kind == BACKGROUND
            and again.scheduled_at is None
            and not again.auto_run
        )
        return cls(
            workorder,
            values,
            request.args.get("note") or (again.note if again else ""),
            secrets.token_urlsafe(18),
            scheduled_at=_asked_time(request.args.get("scheduled_at", "")),
            background=_asked_tick("background", default=chose_background),
            auto_run=_asked_tick("auto_run", default=again is not None and again.auto_run),
        )

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
            scheduled_at=request.form.get("scheduled_at", "").strip(),
            background="background" in request.form,
            auto_run="auto_run" in request.form,
            break_glass=request.form.get("break_glass", ""),
        )
        form.errors = {
            v.name: [N_("The choices could not be loaded, so nothing can be chosen.")]
            for v in workorder.variables
            if v.name in failed
        }
        if form.scheduled_at:
            try:
                form.planned_time()
            except WrongTime as err:
                form.errors = {**form.errors, "scheduled_at": [err.message]}
        return form

    def planned_time(self) -> dt.datetime | None:
        """Return when it is to start; None for no planned time. Raises WrongTime for what is no time in the reader's zone."""
        return read_local(self.scheduled_at, get_timezone()) if self.scheduled_at else None

    def other_errors(self, shown: Collection[str]) -> list[Message]:
        """Return what is wrong with none of the fields: those of the work order, and the options `shown` on the page."""
        names = {variable.name for variable in self.workorder.variables} | {"note", *shown}
        return [message for name, found in self.errors.items() if name not in names for message in found]

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


def _asked_time(given: str) -> str:
    """Return the planned time of the address as the field takes it; nothing for what is no time."""
    try:
        return written_local(read_local(given, get_timezone()), get_timezone()) if given else ""
    except WrongTime:
        return ""


def _asked_tick(name: str, *, default: bool) -> bool:
    given = request.args.get(name)
    return default if given is None else given.lower() in ("1", "true", "on", "yes")


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
        kind=args.get("kind", "") if args.get("kind") in (FOREGROUND, BACKGROUND) else "",
        since=_day(args.get("from", ""), 0),
        until=_day(args.get("to", ""), 1),
        text=args.get("q", "").strip()[:200],
    )


def _day(given: str, later: int) -> dt.datetime | None:
    """Return the beginning of a day in the reader's zone, `later` days on."""
    try:
        day = dt.date.fromisoformat(given) + dt.timedelta(days=later)
        return dt.datetime.combine(day, dt.time(), get_timezone()).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None


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
