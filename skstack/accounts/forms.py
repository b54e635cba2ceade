"""Forms of the pages about people. They parse; what is allowed is said by the services."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from flask_wtf import FlaskForm
from wtforms import (
    BooleanField,
    Field,
    HiddenField,
    IntegerField,
    PasswordField,
    SelectField,
    SelectMultipleField,
    StringField,
    TextAreaField,
)
from wtforms.fields.choices import SelectChoice
from wtforms.validators import DataRequired, Length, Optional, ValidationError

from skstack.accounts import passwords, tokens
from skstack.accounts.models import Group, Page, Role
from skstack.messages import N_

_MISSING = N_("This is needed.")
_REPEAT = N_("The two passwords differ. Type the same twice.")


class SignInForm(FlaskForm):
    """Name and password, and the page to go on to."""

    username = StringField(N_("User name"), [DataRequired(_MISSING)])
    password = PasswordField(N_("Password"), [DataRequired(_MISSING)])
    next = HiddenField()


class CodeForm(FlaskForm):
    """A code of the second factor, and the page to go on to."""

    code = StringField(N_("Code"), [DataRequired(_MISSING), Length(max=64)])
    next = HiddenField()


class PasswordAgainForm(FlaskForm):
    """One's own password once more."""

    password = PasswordField(N_("Present password"), [DataRequired(_MISSING)])


class PasswordAndCodeForm(PasswordAgainForm):
    """One's own password once more, and a code."""

    code = StringField(
        N_("Code"),
        [DataRequired(_MISSING), Length(max=64)],
        description=N_("Of your app, or a recovery code."),
    )


class ProfileForm(FlaskForm):
    """What people say about themselves."""

    display_name = StringField(N_("Name"), description=N_("What others read instead of your user name."))
    language = SelectField(N_("Language"))
    timezone = SelectField(N_("Time zone"))
    theme = SelectField(N_("Appearance"), description=N_("Holds in this browser."))


class RepeatedPassword(FlaskForm):
    """A new password, twice."""

    new = PasswordField(
        N_("New password"),
        [DataRequired(_MISSING), Length(max=4 * passwords.LONGEST)],
        description=N_(
            "At least %(count)s characters, and none of those that everybody tries first. Several words are easy to keep.",
            count=passwords.SHORTEST,
        ),
    )
    repeated = PasswordField(N_("New password, again"), [DataRequired(_MISSING)])

    def validate_repeated(self, field: Field) -> None:
        """Raise ValidationError unless both are the same."""
        if field.data != self.new.data:
            raise ValidationError(_REPEAT)


class OwnPasswordForm(RepeatedPassword):
    """One's own new password, for which the present one is needed."""

    current = PasswordField(N_("Present password"), [DataRequired(_MISSING)])


class TokenForm(FlaskForm):
    """A new token."""

    name = StringField(
        N_("Name"),
        [DataRequired(_MISSING)],
        description=N_("What it is for, such as the program that uses it."),
    )
    days = IntegerField(
        N_("Days it is valid"),
        [Optional()],
        default=90,
        description=N_("1 to %(most)s; empty: until it is revoked.", most=tokens.LONGEST_LIFE),
    )


class UserForm(FlaskForm):
    """A user, without the password."""

    username = StringField(
        N_("User name"), description=N_("Used to sign in, and in history. It cannot be changed later.")
    )
    display_name = StringField(N_("Name"), description=N_("What others read instead of the user name."))
    email = StringField(N_("Mail address"))
    groups = SelectMultipleField(
        N_("Groups"), coerce=int, description=N_("Groups say what someone may submit and approve.")
    )
    roles = SelectMultipleField(
        N_("Roles"), coerce=int, description=N_("Roles say which pages someone sees.")
    )
    superuser = BooleanField(
        N_("Superuser"),
        description=N_("Sees every page and may do everything, except approve for a group they are not in."),
    )

    def offer(self, groups: Iterable[Group], roles: Iterable[Role]) -> None:
        """Fill in what may be chosen."""
        self.groups.choices = [SelectChoice(group.id, group.name) for group in groups]
        self.roles.choices = [SelectChoice(role.id, role.name) for role in roles]

    def chosen(self, field: Field, rows: Iterable[Any]) -> list[Any]:
        """Return those of `rows` that are chosen in `field`."""
        ids: Collection[int] = set(field.data or ())
        return [row for row in rows if row.id in ids]


class NewUserForm(UserForm):
    """A new user, with a first password."""

    password = PasswordField(
        N_("First password"),
        [DataRequired(_MISSING)],
        description=N_(
            "At least %(count)s characters. Ask them to change it on their profile.", count=passwords.SHORTEST
        ),
    )


class GroupForm(FlaskForm):
    """A group."""

    name = StringField(N_("Name"), [DataRequired(_MISSING)])
    description = TextAreaField(N_("Description"))


class RoleForm(GroupForm):
    """A role, with its pages."""

    pages = SelectMultipleField(N_("Pages"), choices=[SelectChoice(page.value, page.label) for page in Page])
