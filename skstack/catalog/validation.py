"""What a catalog object must be like before it is saved. One place for the pages and for the catalog file.

`own_problems` looks at one object alone. `shared_problems` looks at what it is used with: it is asked once
everything that belongs to the same change has been put in place.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa

from skstack import substitution
from skstack.accounts.models import Group, Page, Role, User
from skstack.catalog import compiling, credentials, patterns, values
from skstack.catalog.compiling import script_names
from skstack.catalog.kinds import kind_of
from skstack.catalog.models import (
    VARIABLE_NAME,
    ApprovalFlow,
    Category,
    ConfigCenter,
    Environment,
    FreezeWindow,
    Login,
    Source,
    Variable,
    VariableGroup,
    Widget,
    WorkOrder,
)
from skstack.errors import Invalid
from skstack.extensions import db
from skstack.messages import N_, Message
from skstack.states import MOST_LEVELS
from skstack.substitution import TemplateRefused

Problems = dict[str, list[Message]]

_HOST = re.compile(r"[A-Za-z0-9_:\[][A-Za-z0-9_.:%\[\]-]*", re.ASCII)
_LOGIN_NAME = re.compile(r"[^\s@:/\x00-\x1f-][^\s@:/\x00-\x1f]*")
_USERNAME = re.compile(r"[A-Za-z0-9._@-]{1,64}", re.ASCII)
_LONGEST_TIME = 7 * 86400
_LONGEST_WAIT = 366 * 24
_LONGEST_TEXT = 64 * 1024
_MOST_CHOICES = 5000


def check(thing: Any) -> None:
    """Raise Invalid with everything that is wrong with an object about to be saved, by field."""
    problems = own_problems(thing)
    if not problems:
        problems = shared_problems(thing)
    if problems:
        raise Invalid(problems)


def own_problems(thing: Any) -> Problems:
    """Return what is wrong with one object, by field, whatever else there is."""
    found = Collected()
    _CHECKS[type(thing)](thing, found)
    return found.problems


def shared_problems(thing: Any) -> Problems:
    """Return what is wrong with an object beside the others: its name, and the work orders that use it."""
    found = Collected()
    _check_unique(thing, found)
    if isinstance(thing, WorkOrder):
        for field, messages in compiling.problems_of(thing).items():
            found.extend(field, messages)
    if isinstance(thing, VariableGroup):
        _check_circle(thing, "variables", found)
    if isinstance(thing, Variable):
        for group in _groups_of(thing):
            _check_circle(group, "script", found)
    if found.problems:
        return found.problems
    for workorder in users_of(thing):
        for message in _refusal(workorder):
            found.add("", message)
    return found.problems


def users_of(thing: Any) -> list[WorkOrder]:
    """Return the work orders whose tasks may compile differently after a change of `thing`."""
    if isinstance(thing, Environment):
        condition = WorkOrder.environment_id == thing.id
    elif isinstance(thing, VariableGroup):
        condition = WorkOrder.variable_group_id == thing.id
    elif isinstance(thing, Variable):
        condition = WorkOrder.variable_group_id.in_([group.id for group in _groups_of(thing)])
    else:
        return []
    if thing.id is None:
        return []
    return list(db.session.scalars(sa.select(WorkOrder).where(condition).order_by(WorkOrder.name)))


class Collected:
    """Problems by field, in the order in which they were found."""

    def __init__(self) -> None:
        self.problems: Problems = {}

    def add(self, field: str, message: Message | None) -> None:
        if message is not None:
            self.problems.setdefault(field, []).append(message)

    def extend(self, field: str, messages: Iterable[Message]) -> None:
        for message in messages:
            self.add(field, message)


def _refusal(workorder: WorkOrder) -> list[Message]:
    told = N_("work order %(name)s", name=workorder.name)
    return [
        N_("With this, %(workorder)s would be refused. %(message)s", workorder=told, message=message)
        for messages in compiling.problems_of(workorder).values()
        for message in messages[:1]
    ][:1]


def _groups_of(variable: Variable) -> list[VariableGroup]:
    if not variable.id:
        return []
    statement = sa.select(VariableGroup).where(VariableGroup.members.any(variable_id=variable.id))
    return list(db.session.scalars(statement.order_by(VariableGroup.name)))


def _check_circle(group: VariableGroup, field: str, found: Collected) -> None:
    circle = compiling.cycle(group.variables)
    if circle:
        found.add(
            field,
            N_(
                "In the variable group %(group)s these would wait for each other: %(names)s.",
                group=group.name,
                names=" → ".join(circle),
            ),
        )


def _check_unique(thing: Any, found: Collected) -> None:
    kind = kind_of(thing)
    column = getattr(kind.model, kind.key)
    statement = sa.select(kind.model.id).where(sa.func.lower(column) == kind.name_of(thing).lower())
    if not isinstance(thing, User):
        statement = sa.select(kind.model.id).where(column == kind.name_of(thing))
    if thing.id is not None:
        statement = statement.where(kind.model.id != thing.id)
    if db.session.scalar(statement.limit(1)) is not None:
        found.add(kind.key, N_("There already is a %(thing)s.", thing=kind.message(thing)))


def _check_name(thing: Any, found: Collected, *, most: int = 64) -> None:
    name = thing.name or ""
    if not name:
        found.add("name", N_("A name is needed."))
    elif len(name) > most:
        found.add("name", N_("A name can have %(most)s characters at most.", most=most))
    elif name != name.strip():
        found.add("name", N_("A name cannot begin or end with a space."))
    else:
        found.add("name", substitution.check_value(name))
        if "/" in name:
            found.add(
                "name", N_("A name cannot contain /, since names become parts of addresses and file names.")
            )


def _check_text(
    thing: Any, found: Collected, *fields: str, multiline: bool = True, most: int = _LONGEST_TEXT
) -> None:
    for field in fields:
        text = getattr(thing, field) or ""
        if len(text) > most:
            found.add(field, N_("This can have %(most)s characters at most.", most=most))
        else:
            found.add(
                field, substitution.check_value(text, multiline=multiline) if len(text) < 30_000 else None
            )


def _check_environment(environment: Environment, found: Collected) -> None:
    _check_name(environment, found)
    _check_text(environment, found, "description")
    if not -1_000_000 <= environment.order <= 1_000_000:
        found.add(
            "order", N_("This must be between %(least)s and %(most)s.", least=-1_000_000, most=1_000_000)
        )


def _check_named(thing: Any, found: Collected) -> None:
    _check_name(thing, found)
    _check_text(thing, found, "description")


def _check_category(category: Category, found: Collected) -> None:
    _check_named(category, found)
    _check_text(category, found, "log_directory", multiline=False, most=1024)
    if category.log_directory and not category.log_directory.startswith("/"):
        found.add("log_directory", N_("This must be an absolute path, such as /var/log/deploy."))
    for field in ("retention_days", "retention_megabytes"):
        limit = getattr(category, field)
        if limit is not None and not 0 <= limit <= 10_000_000:
            found.add(field, N_("This must be between %(least)s and %(most)s.", least=0, most=10_000_000))


def _check_approval_flow(flow: ApprovalFlow, found: Collected) -> None:
    _check_named(flow, found)
    if not 1 <= len(flow.levels) <= MOST_LEVELS:
        found.add("levels", N_("An approval flow has 1 to %(most)s levels, each a group.", most=MOST_LEVELS))
    if flow.expires_hours is not None and not 1 <= flow.expires_hours <= _LONGEST_WAIT:
        found.add(
            "expires_hours", N_("This must be between %(least)s and %(most)s.", least=1, most=_LONGEST_WAIT)
        )


def _check_freeze_window(window: FreezeWindow, found: Collected) -> None:
    _check_named(window, found)
    environment: Environment | None = window.environment
    if environment is None:
        found.add("environment", N_("Choose an environment."))
    starts_at: dt.datetime | None = window.starts_at
    ends_at: dt.datetime | None = window.ends_at
    for field, moment in (("starts_at", starts_at), ("ends_at", ends_at)):
        if moment is None:
            found.add(field, N_("A time is needed."))
    if starts_at is not None and ends_at is not None and ends_at <= starts_at:
        found.add("ends_at", N_("This must be after its beginning."))


def _check_role(role: Role, found: Collected) -> None:
    _check_named(role, found)
    for page in role.pages:
        if page not in list(Page):
            found.add(
                "pages",
                N_("There is no page %(page)s; the pages are %(pages)s.", page=page, pages=", ".join(Page)),
            )


def _check_user(user: User, found: Collected) -> None:
    if not _USERNAME.fullmatch(user.username or ""):
        found.add("username", N_("A user name has up to 64 letters, digits, and . _ - @ characters."))
    _check_text(user, found, "display_name", multiline=False, most=128)
    _check_text(user, found, "email", multiline=False, most=254)


def _check_config_center(center: ConfigCenter, found: Collected) -> None:
    _check_name(center, found)
    _check_text(center, found, "description")
    if not center.host:
        found.add("host", N_("The host's name or address is needed."))
    elif len(center.host) > 255 or not _HOST.fullmatch(center.host):
        found.add("host", N_("This is not a host's name or address."))
    if not 1 <= (center.port or 0) <= 65535:
        found.add("port", N_("A port is a number from 1 to 65535."))
    if not center.username:
        found.add("username", N_("The user to sign in as is needed."))
    elif len(center.username) > 64 or not _LOGIN_NAME.fullmatch(center.username):
        found.add("username", N_("This is not a user's name."))
    if center.login not in list(Login):
        found.add("login", N_("Choose how to sign in."))
    elif center.login == Login.PASSWORD and not center.password:
        found.add("password", N_("The password is needed."))
    elif center.login == Login.KEY:
        if not center.private_key:
            found.add("private_key", N_("The private key is needed."))
        else:
            for field, message in credentials.key_problems(center.private_key, center.passphrase):
                found.add(field, message)
    if center.host_key:
        found.add("host_key", host_key_problem(center.host_key))


def host_key_problem(text: str) -> Message | None:
    """Return why this is no host key of the form `ssh-ed25519 AAAA…`, or None."""
    parts = text.split(" ")
    wrong = N_("This is not a host key; it looks like “ssh-ed25519 AAAA…”.")
    if len(parts) != 2:
        return wrong
    try:
        decoded = base64.b64decode(parts[1], validate=True)
    except (binascii.Error, ValueError):
        return wrong
    named = parts[0].encode()
    return (
        None
        if decoded[:4] == len(named).to_bytes(4, "big") and decoded[4 : 4 + len(named)] == named
        else wrong
    )


def _check_variable(variable: Variable, found: Collected) -> None:
    _check_variable_name(variable, found)
    _check_text(variable, found, "label", multiline=False, most=128)
    _check_text(variable, found, "description", "help", "script")
    _check_text(variable, found, "pattern_message", multiline=False, most=500)
    if variable.source not in list(Source) or variable.widget not in list(Widget):
        found.add("source", N_("Choose where the values come from and how the variable is shown."))
        return
    if Widget(variable.widget).is_choice == (variable.source == Source.INPUT):
        found.add(
            "widget",
            N_("What users type is shown as one or several lines of text.")
            if variable.source == Source.INPUT
            else N_(
                "A script's or a list's values are shown as a select, radio buttons, a multi-select or checkboxes."
            ),
        )
        return
    {Source.SCRIPT: _check_script, Source.LIST: _check_list, Source.INPUT: _check_input}[
        Source(variable.source)
    ](variable, found)
    _check_several(variable, found)
    if variable.secret and (variable.source != Source.INPUT or variable.widget != Widget.TEXT):
        found.add("secret", N_("Only one line of text that users type can be secret."))
    if variable.secret and variable.default:
        found.add("default", N_("A secret has no default: it would be stored where people can read it."))
    if not found.problems and variable.default:
        found.extend("default", values.problems(variable, _default_items(variable)))


def _default_items(variable: Variable) -> str | list[str]:
    return values.items_of(variable, variable.default) if variable.takes_several else variable.default


def _check_variable_name(variable: Variable, found: Collected) -> None:
    name = variable.name or ""
    if not re.fullmatch(VARIABLE_NAME, name, re.ASCII):
        found.add(
            "name",
            N_(
                "A variable's name has up to 64 letters, digits and underscores, and does not begin with a digit."
            ),
        )
    elif name.startswith("sk__"):
        found.add("name", N_("Names that begin with sk__ are those of system variables."))


def _check_script(variable: Variable, found: Collected) -> None:
    for field in ("pattern", "pattern_message"):
        if getattr(variable, field):
            found.add(field, N_("A pattern is for what users type."))
    if not variable.script.strip():
        found.add("script", N_("The script is needed."))
        return
    names = script_names(variable)
    if variable.name in names:
        found.add("script", N_("The script cannot use the variable whose choices it makes."))
    # Which of these are free is known with a work order only; here everything else about the script is checked.
    known = [substitution.Variable(name=name, strict=True) for name in names]
    try:
        task = substitution.compile_task(variable.script, known)
    except TemplateRefused as err:
        found.extend("script", (compiling.told(problem) for problem in err.problems))
    else:
        if not task.lines:
            found.add("script", N_("The script has no command line."))


def _check_list(variable: Variable, found: Collected) -> None:
    choices = variable.choices
    if not choices:
        found.add("choices", N_("Give at least one choice."))
    elif len(choices) > _MOST_CHOICES:
        found.add("choices", N_("There can be %(most)s choices at most.", most=_MOST_CHOICES))
    seen: set[str] = set()
    for choice in choices[:_MOST_CHOICES]:
        if not choice or choice != choice.strip():
            found.add(
                "choices",
                N_("A choice cannot be empty, or begin or end with a space: “%(choice)s”.", choice=choice),
            )
        if choice in seen:
            found.add("choices", N_("The choice %(choice)s stands there twice.", choice=choice))
        seen.add(choice)
        found.add("choices", substitution.check_value(choice))
        if variable.takes_several and variable.delimiter and variable.delimiter in choice:
            found.add(
                "choices",
                N_(
                    "The choice %(choice)s contains %(delimiter)s, which several values are joined with.",
                    choice=choice,
                    delimiter=variable.delimiter,
                ),
            )
    for field in ("pattern", "pattern_message"):
        if getattr(variable, field):
            found.add(field, N_("A pattern is for what users type."))


def _check_input(variable: Variable, found: Collected) -> None:
    if variable.pattern:
        found.add("pattern", patterns.problem(variable.pattern))
    elif variable.pattern_message:
        found.add("pattern_message", N_("There is no pattern that this message could be for."))
    least, most = variable.min_length, variable.max_length
    for field, length in (("min_length", least), ("max_length", most)):
        if length is not None and not 0 <= length <= substitution.MAX_VALUE_BYTES:
            found.add(field, N_("This must be between 0 and %(most)s.", most=substitution.MAX_VALUE_BYTES))
    if least is not None and most is not None and least > most:
        found.add("max_length", N_("This is less than the minimum."))
    if variable.strict and variable.widget == Widget.TEXTAREA:
        found.add(
            "strict",
            N_("Several lines of text cannot be strict: an end of line is not among its characters."),
        )


def _check_several(variable: Variable, found: Collected) -> None:
    if not variable.takes_several:
        if variable.one_argument_each:
            found.add("one_argument_each", N_("One argument each is for variables that take several values."))
        return
    if not variable.delimiter:
        found.add("delimiter", N_("Several values are joined with a delimiter; it cannot be empty."))
    elif len(variable.delimiter) > 16:
        found.add("delimiter", N_("A delimiter can have 16 characters at most."))
    else:
        found.add("delimiter", substitution.check_value(variable.delimiter, multiline=True))


def _check_variable_group(group: VariableGroup, found: Collected) -> None:
    _check_name(group, found)
    _check_text(group, found, "description")
    names = [variable.name for variable in group.variables]
    for name in sorted({name for name in names if names.count(name) > 1}):
        found.add("variables", N_("The variable %(name)s stands there twice.", name=name))


def _check_workorder(workorder: WorkOrder, found: Collected) -> None:
    _check_name(workorder, found, most=128)
    _check_text(workorder, found, "description")
    environment: Environment | None = workorder.environment
    if environment is None:
        found.add("environment", N_("Choose an environment."))
    if workorder.active and workorder.template:
        found.add("active", N_("A template cannot be active: nobody can submit it."))
    for field in compiling.TASKS:
        if len(getattr(workorder, field)) > _LONGEST_TEXT:
            found.add(field, N_("This can have %(most)s characters at most.", most=_LONGEST_TEXT))
    if not workorder.template and not _has_line(workorder.main_task):
        found.add("main_task", N_("The main task needs at least one command line."))
    if not 1 <= (workorder.time_limit or 0) <= _LONGEST_TIME:
        found.add(
            "time_limit", N_("This must be between %(least)s and %(most)s.", least=1, most=_LONGEST_TIME)
        )
    _check_builtin(workorder.builtin_variables, found)


def _has_line(text: str) -> bool:
    return any(line.strip() and not line.strip().startswith("#") for line in text.splitlines())


def _check_builtin(builtin: Any, found: Collected) -> None:
    if not isinstance(builtin, dict):
        found.add("builtin_variables", N_('This must be a JSON object, such as {"GitProjName": "app01"}.'))
        return
    for name, value in builtin.items():
        if not re.fullmatch(VARIABLE_NAME, name, re.ASCII):
            found.add("builtin_variables", N_("%(name)s is not a variable's name.", name=name))
        elif name.startswith("sk__"):
            found.add(
                "builtin_variables",
                N_("%(name)s: names that begin with sk__ are those of system variables.", name=name),
            )
        elif isinstance(value, str):
            if (problem := substitution.check_value(value)) is not None:
                found.add("builtin_variables", N_("%(name)s: %(problem)s", name=name, problem=problem))
        elif not isinstance(value, (bool, int, float)) or (
            isinstance(value, float) and not math.isfinite(value)
        ):
            found.add("builtin_variables", N_("%(name)s must be text, a number, true or false.", name=name))


def parse_builtin(text: str) -> dict[str, Any]:
    """Read the JSON object of the built-in variables. Raises Invalid at the field `builtin_variables`."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for name, _ in pairs:
            if sum(name == other for other, _ in pairs) > 1:
                raise Invalid({"builtin_variables": [N_("%(name)s stands there twice.", name=name)]})
        return dict(pairs)

    try:
        found = json.loads(text or "{}", object_pairs_hook=unique)
    except json.JSONDecodeError as err:
        message = N_(
            "This is not JSON: %(reason)s at line %(line)s, column %(column)s.",
            reason=err.msg,
            line=err.lineno,
            column=err.colno,
        )
        raise Invalid({"builtin_variables": [message]}) from err
    except (RecursionError, ValueError) as err:
        raise Invalid({"builtin_variables": [N_("This is not JSON that can be read.")]}) from err
    problems = Collected()
    _check_builtin(found, problems)
    if problems.problems:
        raise Invalid(problems.problems)
    assert isinstance(found, dict), "checked above"
    return found


_CHECKS: dict[type[Any], Callable[[Any, Collected], None]] = {
    Environment: _check_environment,
    Category: _check_category,
    Group: _check_named,
    Role: _check_role,
    User: _check_user,
    ConfigCenter: _check_config_center,
    Variable: _check_variable,
    VariableGroup: _check_variable_group,
    ApprovalFlow: _check_approval_flow,
    FreezeWindow: _check_freeze_window,
    WorkOrder: _check_workorder,
}
