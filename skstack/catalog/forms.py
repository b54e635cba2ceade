"""Forms of the configuration's pages. They parse; what is allowed is said by `validation`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from flask import request
from flask_babel import get_timezone
from flask_wtf import FlaskForm
from wtforms import (
    BooleanField,
    Field,
    HiddenField,
    IntegerField,
    PasswordField,
    RadioField,
    SelectField,
    SelectMultipleField,
    StringField,
    TextAreaField,
)
from wtforms.fields.choices import SelectChoice
from wtforms.validators import Optional

from skstack.accounts.models import Group
from skstack.catalog import queries, validation
from skstack.catalog.models import (
    ApprovalFlow,
    Category,
    ConfigCenter,
    Environment,
    Login,
    Source,
    Variable,
    VariableGroup,
    Widget,
)
from skstack.errors import Invalid
from skstack.messages import N_, Message
from skstack.substitution import normalize
from skstack.web.forms import place_errors
from skstack.web.local_time import WrongTime, read_local, written_local
from skstack.web.text import translate


def _lines(text: str | None) -> str:
    """Return text with the one end of line that tasks and scripts have; browsers send two characters."""
    return normalize(text or "")


class Text(TextAreaField):
    """Several lines of text, kept as typed but for the kind of line end."""

    data: str | None

    def process_formdata(self, valuelist: list[str]) -> None:
        self.data = _lines(valuelist[0] if valuelist else self.data)


class SecretText(Text):
    """Several lines that come with the form and are never put into a page, not even into one that says what was wrong."""

    def _value(self) -> str:
        return ""


class Word(StringField):
    """One line of text, without blanks around it."""

    data: str | None

    def process_formdata(self, valuelist: list[str]) -> None:
        self.data = (valuelist[0] if valuelist else self.data or "").strip()


class Number(IntegerField):
    """A whole number; empty is None."""

    def process_formdata(self, valuelist: list[str]) -> None:
        if not valuelist:
            return
        given = valuelist[0].strip()
        if given and not (given.lstrip("-").isascii() and given.lstrip("-").isdigit() and len(given) < 10):
            self.data = None
            self.written = given
            raise ValueError(N_("This must be a whole number."))
        self.data = int(given) if given else None

    def _value(self) -> str:
        return getattr(self, "written", None) or ("" if self.data is None else str(self.data))


class Reference(SelectField):
    """Another object, by its id; empty is none. Whether it is still there is asked by `values`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.type = "SelectField"  # What the macros of forms go by.

    def pre_validate(self, form: FlaskForm) -> None:
        """Leave it to `CatalogForm.values`."""


class LocalTime(StringField):
    """A moment, shown and read by the clock of the reader's zone."""

    data: Any

    def process_formdata(self, valuelist: list[str]) -> None:
        self.written = valuelist[0].strip() if valuelist else ""
        self.data = None
        if self.written:
            try:
                self.data = read_local(self.written, get_timezone())
            except WrongTime as err:
                raise ValueError(err.message) from err

    def _value(self) -> str:
        if self.data is not None:
            return written_local(self.data, get_timezone())
        return getattr(self, "written", "")


class CatalogForm(FlaskForm):
    """A form whose fields are called as the attributes of the object that it is for.

    Selects of other objects hold their ids. `version` is that of the object when the form was opened.
    """

    references: ClassVar[Mapping[str, type[Any]]] = {}
    version = HiddenField()

    @classmethod
    def showing(cls, thing: Any | None, *, name: str | None = None) -> CatalogForm:
        """Return the form with what an object holds, or with a new object's defaults. `name` replaces its name."""
        form = cls(formdata=None)
        form.offer()
        if thing is not None:
            form.show(thing)
            form.version.data = str(thing.version)
        if name is not None:
            form["name"].data = name
        return form

    @classmethod
    def sent(cls) -> CatalogForm:
        """Return the form with what was sent; a field that was not sent is empty, even if none was."""
        form = cls(formdata=request.form)
        form.offer()
        return form

    def offer(self) -> None:
        """Fill in what may be chosen."""
        for field, model in self.references.items():
            needed = field == "environment" and isinstance(self, (WorkOrderForm, FreezeWindowForm))
            empty = [] if needed else [SelectChoice("", "–")]
            rows = queries.environments() if model is Environment else queries.all_named(model)
            self[field].choices = [*empty, *(SelectChoice(str(row.id), row.name) for row in rows)]
            self[field].data = self[field].data or ""

    def show(self, thing: Any) -> None:
        """Put what an object holds into the fields."""
        for field in self:
            if field.short_name in self.references:
                other = getattr(thing, field.short_name)
                field.data = "" if other is None else str(other.id)
            elif field.short_name not in ("csrf_token", "version") and hasattr(thing, field.short_name):
                self.put(field, getattr(thing, field.short_name))

    def put(self, field: Field, value: Any) -> None:
        """Put one attribute's value into its field."""
        field.data = value

    def values(self) -> dict[str, Any]:
        """Return the attributes as they were sent, with the objects in place of ids.

        Raises Invalid for an object that is not there any more.
        """
        found: dict[str, Any] = {}
        for field in self:
            if field.short_name in self.references:
                found[field.short_name] = self._referred(field)
            elif field.short_name not in ("csrf_token", "version"):
                found[field.short_name] = field.data
        return found

    def _referred(self, field: Field) -> Any:
        if not field.data:
            return None
        if field.data not in {choice.value for choice in field.choices}:
            raise Invalid({field.short_name: [N_("This is not there any more. Choose again.")]})
        return queries.get(self.references[field.short_name], int(field.data))

    @property
    def opened_at(self) -> int:
        """Return the version that the form was opened at; -1 if it says none."""
        data = self.version.data or ""
        return int(data) if data.isascii() and data.isdigit() and len(data) < 10 else -1


class EnvironmentForm(CatalogForm):
    name = Word(
        N_("Name"), description=N_("Short, such as PROD. Commands get it in lower case as {sk__env}.")
    )
    order = Number(N_("Order"), default=100, description=N_("Tabs stand in this order."))
    description = Text(N_("Description"))

    def values(self) -> dict[str, Any]:
        found = super().values()
        found["order"] = 100 if found["order"] is None else found["order"]
        return found


class CategoryForm(CatalogForm):
    name = Word(N_("Name"), description=N_("What kind of work, such as DeployGit."))
    description = Text(N_("Description"))
    retention_days = Number(
        N_("Days that output is kept"), description=N_("Empty: as the settings say. 0: for good.")
    )
    retention_megabytes = Number(
        N_("Megabytes of output kept"),
        description=N_("The oldest is cleared beyond that. Empty: as the settings say. 0: no limit."),
    )
    log_directory = Word(
        N_("Directory of log files"),
        description=N_(
            "Where plugins write their own log files, on the host that they run on. Tickets then lead to the files whose names "
            "end in {sk__task_name_created}, there or in its subdirectory bak. Empty: they write none."
        ),
    )


class ApprovalFlowForm(CatalogForm):
    """The levels stand in three selects of groups; the first that is empty is the end."""

    references: ClassVar[Mapping[str, type[Any]]] = {"level_1": Group, "level_2": Group, "level_3": Group}
    name = Word(N_("Name"))
    description = Text(N_("Description"))
    level_1 = Reference(N_("Level 1"), description=N_("One member of this group decides first."))
    level_2 = Reference(N_("Level 2"), description=N_("Decides after level 1. None: one level is enough."))
    level_3 = Reference(N_("Level 3"), description=N_("Decides after level 2."))
    allow_self_approval = BooleanField(
        N_("Submitters may decide their own tickets"),
        description=N_("If they are in the group of the level."),
    )
    distinct_approvers = BooleanField(
        N_("A different person for each level"),
        description=N_("Who is in the groups of two levels can then agree to only one of them."),
    )
    expires_hours = Number(
        N_("Hours to decide in"),
        description=N_(
            "A ticket that is not decided by then is revoked. Empty: it waits as long as it takes."
        ),
    )

    def show(self, thing: Any) -> None:
        for field in self:
            if field.short_name not in (*self.references, "csrf_token", "version"):
                self.put(field, getattr(thing, field.short_name))
        for name, group in zip(self.references, thing.levels, strict=False):
            self[name].data = str(group.id)

    def values(self) -> dict[str, Any]:
        """Return the attributes. Raises Invalid for a level that is left out between two others."""
        found = super().values()
        groups = [found.pop(name) for name in self.references]
        levels = [group for group in groups if group is not None]
        for name, group in zip(self.references, groups[: len(levels)], strict=False):
            if group is None:
                raise Invalid({name: [N_("Choose a group, or leave the levels after it empty.")]})
        return {**found, "levels": levels}


class FreezeWindowForm(CatalogForm):
    references: ClassVar[Mapping[str, type[Any]]] = {"environment": Environment}
    name = Word(N_("Name"), description=N_("Such as New year. People who are refused read it."))
    description = Text(N_("Description"))
    environment = Reference(N_("Environment"))
    starts_at = LocalTime(N_("From"))
    ends_at = LocalTime(N_("Until"))


class ConfigCenterForm(CatalogForm):
    name = Word(N_("Name"))
    host = Word(N_("Host"), description=N_("A name or an address."))
    port = Number(N_("Port"), default=22)
    username = Word(N_("User"))
    login = RadioField(
        N_("Sign in with"),
        choices=[SelectChoice(one.value, one.label) for one in Login],
        default=Login.KEY.value,
    )
    password = PasswordField(N_("Password"))
    private_key = SecretText(N_("Private key"))
    passphrase = PasswordField(N_("Passphrase of the private key"))
    description = Text(N_("Description"))

    def show(self, thing: Any) -> None:
        super().show(thing)
        for name in ("password", "private_key", "passphrase"):
            self[name].data = ""  # What is stored is never shown again.

    def values(self) -> dict[str, Any]:
        found = super().values()
        found["port"] = found["port"] or 0
        for name in ("password", "private_key", "passphrase"):
            if not found[name]:
                del found[name]  # Empty keeps what is stored.
        if "private_key" in found:
            found["private_key"] = found["private_key"].strip() + "\n"
            # A new key comes with its passphrase, or has none.
            found.setdefault("passphrase", None)
        return found


class _Filed(CatalogForm):
    """What belongs to an environment and a category, if anyone wants it to."""

    references: ClassVar[Mapping[str, type[Any]]] = {"environment": Environment, "category": Category}
    name = Word(N_("Name"))
    description = Text(N_("Description"))
    environment = Reference(
        N_("Environment"), description=N_("Only for finding it again: it can be used everywhere.")
    )
    category = Reference(N_("Category"))


class VariableForm(_Filed):
    name = Word(N_("Name"), description=N_("Tasks use it as {Name}: letters, digits and underscores."))
    label = Word(N_("Label"), description=N_("What users read beside the field; empty: the name."))
    source = RadioField(
        N_("Where its values come from"),
        choices=[SelectChoice(one.value, one.label) for one in Source],
        default=Source.INPUT.value,
    )
    widget = SelectField(N_("Shown as"), default=Widget.TEXT.value)
    script = Text(
        N_("Script"),
        description=N_(
            "Runs on the work order's config center when the form opens. It prints a JSON array, a Python list or one "
            "value per line. With {Other} it uses another variable, and runs again when that changes."
        ),
    )
    choices = Text(N_("Choices"), description=N_("One per line."))
    required = BooleanField(N_("Required"))
    default = Text(N_("Default"))
    help = Text(N_("Help text"))
    pattern = StringField(
        N_("Pattern"), description=N_("A regular expression that the whole text must match.")
    )
    pattern_message = Word(N_("Message where the pattern does not match"))
    min_length = Number(N_("Minimum length"), [Optional()])
    max_length = Number(N_("Maximum length"), [Optional()])
    strict = BooleanField(
        N_("Strict"),
        description=N_(
            "Takes only letters, digits and %(others)s, beginning and ending with a letter or digit. "
            "Such a value may also stand where a command reads text as code.",
            others="_ . , : @ % + / = -",
        ),
    )
    secret = BooleanField(
        N_("Secret"),
        description=N_(
            "Typed in a password field, encrypted, masked everywhere. It cannot stand in a command line: "
            "commands read it from the environment variable WO_NAME."
        ),
    )
    delimiter = StringField(
        N_("Delimiter"), default=",", description=N_("Several values are joined with it.")
    )
    one_argument_each = BooleanField(
        N_("One argument each"),
        description=N_("Several values become several arguments rather than one text."),
    )
    allow_leading_dash = BooleanField(
        N_("May begin with a dash"),
        description=N_(
            "Otherwise a value such as -rf is refused where a command would take it for an option."
        ),
    )

    def offer(self) -> None:
        super().offer()
        self.widget.choices = [SelectChoice(one.value, translate(one.label)) for one in Widget]

    def put(self, field: Field, value: Any) -> None:
        super().put(field, "\n".join(value) if field.short_name == "choices" else value)

    def values(self) -> dict[str, Any]:
        found = super().values()
        found["choices"] = [line.strip() for line in found["choices"].split("\n") if line.strip()]
        found["pattern"] = found["pattern"] or ""
        found["delimiter"] = found["delimiter"] or ""
        if found["widget"] != Widget.TEXTAREA:
            found["default"] = found["default"].strip("\n")
        return _without_others(found)


def _without_others(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out what belongs to another source or widget: a form without script hides nothing of it."""
    kept = {
        Source.SCRIPT: ("script",),
        Source.LIST: ("choices",),
        Source.INPUT: ("pattern", "pattern_message", "min_length", "max_length", "strict", "secret"),
    }
    empty: dict[str, Any] = {
        "script": "",
        "choices": [],
        "pattern": "",
        "pattern_message": "",
        "min_length": None,
        "max_length": None,
        "strict": False,
        "secret": False,
    }
    mine = kept.get(Source(values["source"]), ()) if values["source"] in list(Source) else ()
    values = {
        name: empty[name] if name in empty and name not in mine else value for name, value in values.items()
    }
    if values["widget"] in list(Widget) and not Widget(values["widget"]).takes_several:
        values.update(delimiter=",", one_argument_each=False)
    return values


class VariableGroupForm(_Filed):
    """The variables stand in hidden fields, one for each row, in their order."""

    add = SelectField(N_("Add a variable"), validate_choice=False)

    def offer(self) -> None:
        super().offer()
        self.by_id = {str(variable.id): variable for variable in queries.all_named(Variable)}
        sent = request.form.getlist("variables") if self.is_submitted() else []
        self.member_ids = [one for one in dict.fromkeys(sent) if one in self.by_id]
        if self.add.data and self.add.data in self.by_id and self.add.data not in self.member_ids:
            self.member_ids.append(self.add.data)
        self._offer_rest()

    def show(self, thing: Any) -> None:
        super().show(thing)
        self.member_ids = [str(variable.id) for variable in thing.variables]
        self._offer_rest()

    @property
    def members(self) -> Sequence[Variable]:
        return [self.by_id[one] for one in self.member_ids]

    def arrange(self, action: str) -> None:
        """Move or remove a row: `up-3`, `down-3` or `remove-3`, with the variable's id."""
        verb, _, member = action.partition("-")
        if member in self.member_ids:
            place = self.member_ids.index(member)
            self.member_ids.remove(member)
            if verb in ("up", "down"):
                self.member_ids.insert(max(0, place + (-1 if verb == "up" else 1)), member)
        self._offer_rest()

    def _offer_rest(self) -> None:
        rest = [SelectChoice(one, row.name) for one, row in self.by_id.items() if one not in self.member_ids]
        self.add.choices, self.add.data = [SelectChoice("", "–"), *rest], ""

    def values(self) -> dict[str, Any]:
        found = super().values()
        del found["add"]
        found["variables"] = list(self.members)
        return found


class WorkOrderForm(CatalogForm):
    references: ClassVar[Mapping[str, type[Any]]] = {
        "environment": Environment,
        "category": Category,
        "variable_group": VariableGroup,
        "config_center": ConfigCenter,
        "approval_flow": ApprovalFlow,
    }
    name = Word(N_("Name"), description=N_("Commands get it as {sk__name}."))
    description = Text(N_("Description"), description=N_("What the help button shows to users."))
    environment = Reference(N_("Environment"))
    category = Reference(N_("Category"))
    submit_groups = SelectMultipleField(
        N_("Groups that may submit it"), description=N_("Superusers always may.")
    )
    active = BooleanField(N_("Active"), description=N_("Users see only active work orders."))
    template = BooleanField(
        N_("Template"),
        description=N_("Nobody can submit a template; administrators copy work orders from it."),
    )
    builtin_variables = Text(
        N_("Built-in variables"),
        default="{}",
        description=N_('A JSON object, invisible to users, such as {"GitProjName": "app01"}.'),
    )
    variable_group = Reference(N_("Variable group"), description=N_("What the submit form asks for."))
    variable_group_on = BooleanField(N_("Ask for the variables of the group"), default=True)
    pre_task = Text(
        N_("Pre task"), description=N_("Runs at once when somebody submits; if it fails, nothing else runs.")
    )
    main_task = Text(
        N_("Main task"),
        description=N_(
            "Command lines, run from top to bottom until one fails. {Name} stands for a variable."
        ),
    )
    post_task = Text(N_("Post task"), description=N_("Runs after the main task, if that succeeded."))
    config_center = Reference(
        N_("Config center"), description=N_("Where the commands run. None: the worker's own host.")
    )
    time_limit = Number(N_("Time limit in seconds"), default=3600)
    allow_several = BooleanField(
        N_("Allow several at once"),
        default=True,
        description=N_("Whether somebody may have several tickets of it running at the same time."),
    )

    approval_flow = Reference(
        N_("Approval flow"), description=N_("Who has to agree before the main task runs. None: nobody.")
    )
    scheduling = BooleanField(
        N_("Planned time"),
        description=N_(
            "Submitters may choose when it starts; the system starts it then, once it is approved."
        ),
    )
    background_choice = BooleanField(
        N_("Run in the background"),
        description=N_("Submitters may let the system run it without watching."),
    )
    auto_run_choice = BooleanField(
        N_("Run by itself once approved"),
        description=N_("Submitters may let the last approval start it, instead of starting it by hand."),
    )
    task_lock = BooleanField(
        N_("Task lock"),
        description=N_("While one ticket of it has not ended, nobody can submit another."),
    )

    def offer(self) -> None:
        super().offer()
        self.submit_groups.choices = [SelectChoice(str(group.id), group.name) for group in queries.groups()]

    def put(self, field: Field, value: Any) -> None:
        if field.short_name == "builtin_variables":
            value = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) if value else "{}"
        elif field.short_name == "submit_groups":
            value = [str(group.id) for group in value]
        super().put(field, value)

    def values(self) -> dict[str, Any]:
        """Return the attributes. Raises Invalid for built-in variables that cannot be read."""
        found = super().values()
        found["builtin_variables"] = validation.parse_builtin(found["builtin_variables"])
        chosen = set(found["submit_groups"] or ())
        found["submit_groups"] = [group for group in queries.groups() if str(group.id) in chosen]
        found["time_limit"] = found["time_limit"] or 0
        if found["template"]:
            found["active"] = False
        return found


def place_all(form: FlaskForm, error: Invalid) -> None:
    """Put errors at the fields they belong to; those of no field stand above the form."""
    renamed: dict[str, list[Message]] = {}
    for name, found in error.errors.items():
        renamed.setdefault({"variables": "add", "levels": "level_1"}.get(name, name), []).extend(found)
    place_errors(form, Invalid(renamed))


def differences(form: CatalogForm, stored: CatalogForm) -> list[tuple[Any, Message | str]]:
    """Return the fields in which two forms of the same object differ, with what is stored now."""
    found = []
    for field in form:
        name = field.short_name
        if name in ("csrf_token", "version", "add", "password", "private_key", "passphrase"):
            continue
        if _shown(field) != _shown(stored[name]):
            found.append((field.label.text, _shown(stored[name])))
    if (
        isinstance(form, VariableGroupForm)
        and isinstance(stored, VariableGroupForm)
        and form.member_ids != stored.member_ids
    ):
        found.append((N_("Variables"), ", ".join(variable.name for variable in stored.members)))
    return found


def _shown(field: Field) -> Any:
    if isinstance(field, BooleanField):
        return N_("on") if field.data else N_("off")
    if isinstance(field, SelectMultipleField):
        return ", ".join(choice.label for choice in field.choices if choice.value in (field.data or ()))
    if isinstance(field, (SelectField, RadioField)):
        return next((choice.label for choice in field.choices if choice.value == (field.data or "")), "")
    return "" if field.data is None else str(field.data)
