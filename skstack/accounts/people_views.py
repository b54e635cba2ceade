"""Pages of the administrators: users, groups and roles."""

from __future__ import annotations

from typing import Any

from flask import Response, make_response, render_template, request, url_for
from flask_login import current_user

from skstack.accounts import external, queries, second_factor, services
from skstack.accounts.blueprint import blueprint
from skstack.accounts.forms import GroupForm, NewUserForm, RepeatedPassword, RoleForm, UserForm
from skstack.accounts.models import Group, Page, Role, User
from skstack.accounts.sessions import signed_in_user
from skstack.db import utcnow
from skstack.errors import Invalid
from skstack.messages import N_
from skstack.web.forms import go_to, place_errors, tell
from skstack.web.permissions import permit


@blueprint.get("/accounts/users")
@permit(Page.USERS)
def users() -> str:
    """List the users; `q`, `state` and `after` narrow the list."""
    text, state = request.args.get("q", "").strip(), request.args.get("state", "")
    state = state if state in ("active", "deactivated") else ""
    page = queries.users(text=text, state=state, after=request.args.get("after", ""))
    return render_template("accounts/users.html", page=page, q=text, state=state)


@blueprint.get("/accounts/users/new")
@permit(Page.USERS)
def new_user() -> str:
    """Show the form for a new user."""
    form = NewUserForm()
    form.offer(queries.groups(), queries.roles())
    return _user_page(None, form)


@blueprint.post("/accounts/users/new")
@permit(Page.USERS)
def create_user() -> Response:
    """Create a user; only a superuser can make one."""
    groups, roles = queries.groups(), queries.roles()
    form = NewUserForm()
    form.offer(groups, roles)
    if form.validate_on_submit():
        try:
            user = services.create_user(
                actor=signed_in_user(),
                username=form.username.data or "",
                password=form.password.data,
                display_name=form.display_name.data or "",
                email=form.email.data or "",
                superuser=form.superuser.data,
                groups=form.chosen(form.groups, groups),
                roles=form.chosen(form.roles, roles),
            )
        except Invalid as err:
            place_errors(form, err)
        else:
            tell(N_("The user %(name)s was created.", name=user.username))
            return go_to(url_for("accounts.users"))
    return make_response(_user_page(None, form), 422)


@blueprint.get("/accounts/users/<int:user_id>")
@permit(Page.USERS)
def user(user_id: int) -> str:
    """Show one user, to be changed."""
    found = queries.user(user_id)
    form = UserForm(
        username=found.username,
        display_name=found.display_name,
        email=found.email,
        superuser=found.superuser,
        groups=[group.id for group in found.groups],
        roles=[role.id for role in found.roles],
    )
    form.offer(queries.groups(), queries.roles())
    return _user_page(found, form)


@blueprint.post("/accounts/users/<int:user_id>")
@permit(Page.USERS)
def change_user(user_id: int) -> Response:
    """Change a user; a superuser's account only as a superuser."""
    found = queries.user(user_id)
    groups, roles = queries.groups(), queries.roles()
    form = UserForm()
    form.offer(groups, roles)
    if form.validate_on_submit():
        try:
            services.change_user(
                found,
                actor=signed_in_user(),
                display_name=form.display_name.data or "",
                email=form.email.data or "",
                superuser=form.superuser.data if _may_set_superuser(found) else found.superuser,
                groups=form.chosen(form.groups, groups),
                roles=form.chosen(form.roles, roles),
            )
        except Invalid as err:
            place_errors(form, err)
        else:
            tell(N_("%(name)s was saved.", name=found.username))
            return go_to(url_for("accounts.users"))
    return make_response(_user_page(found, form), 422)


@blueprint.get("/accounts/users/<int:user_id>/password")
@permit(Page.USERS)
def user_password(user_id: int) -> str:
    """Show the form for another's new password."""
    return render_template("accounts/user_password.html", user=queries.user(user_id), form=RepeatedPassword())


@blueprint.post("/accounts/users/<int:user_id>/password")
@permit(Page.USERS)
def set_user_password(user_id: int) -> Response:
    """Give another person a new password, and end their sessions."""
    found = queries.user(user_id)
    form = RepeatedPassword()
    if form.validate_on_submit():
        try:
            services.set_password(found, form.new.data, actor=signed_in_user(), now=utcnow())
        except Invalid as err:
            place_errors(form, Invalid({"new": err.errors["password"]}))
        else:
            tell(N_("%(name)s has a new password, and their sessions have ended.", name=found.username))
            return go_to(url_for("accounts.user", user_id=user_id))
    return make_response(render_template("accounts/user_password.html", user=found, form=form), 422)


@blueprint.post("/accounts/users/<int:user_id>/deactivate")
@permit(Page.USERS)
def deactivate_user(user_id: int) -> Response:
    """Keep a person out; 403 for oneself, 409 for the last superuser or if they are out already."""
    found = queries.user(user_id)
    services.deactivate(found, actor=signed_in_user(), now=utcnow())
    tell(N_("%(name)s was deactivated. Their sessions have ended.", name=found.username))
    return go_to(url_for("accounts.user", user_id=user_id))


@blueprint.post("/accounts/users/<int:user_id>/activate")
@permit(Page.USERS)
def activate_user(user_id: int) -> Response:
    """Let a deactivated person in again; 409 if they are active."""
    found = queries.user(user_id)
    services.activate(found, actor=signed_in_user())
    tell(N_("%(name)s may sign in again.", name=found.username))
    return go_to(url_for("accounts.user", user_id=user_id))


@blueprint.post("/accounts/users/<int:user_id>/identities/<int:identity_id>/unlink")
@permit(Page.USERS)
def unlink_identity(user_id: int, identity_id: int) -> Response:
    """Let an entry of the directory, or a subject of the provider, sign in as this user no more; 409 if it is not theirs."""
    found = queries.user(user_id)
    external.unlink(found, identity_id, actor=signed_in_user())
    tell(N_("%(name)s is no longer linked.", name=found.username))
    return go_to(url_for("accounts.user", user_id=user_id))


@blueprint.get("/accounts/groups")
@permit(Page.USERS)
def groups() -> str:
    """List the groups."""
    return render_template("accounts/groups.html", groups=queries.groups_with_counts())


@blueprint.get("/accounts/groups/new")
@permit(Page.USERS)
def new_group() -> str:
    """Show the form for a new group."""
    return _group_page(None, GroupForm())


@blueprint.post("/accounts/groups/new")
@permit(Page.USERS)
def create_group() -> Response:
    """Create a group."""
    return _save_group(None)


@blueprint.get("/accounts/groups/<int:group_id>")
@permit(Page.USERS)
def group(group_id: int) -> str:
    """Show one group, to be changed."""
    found = queries.group(group_id)
    return _group_page(found, GroupForm(obj=found))


@blueprint.post("/accounts/groups/<int:group_id>")
@permit(Page.USERS)
def change_group(group_id: int) -> Response:
    """Change a group."""
    return _save_group(queries.group(group_id))


@blueprint.post("/accounts/groups/<int:group_id>/delete")
@permit(Page.USERS)
def delete_group(group_id: int) -> Response:
    """Delete a group; 409 with the reason if something uses it."""
    found = queries.group(group_id)
    services.delete_group(found, actor=signed_in_user())
    tell(N_("The group %(name)s was deleted.", name=found.name))
    return go_to(url_for("accounts.groups"))


@blueprint.get("/accounts/roles")
@permit(Page.USERS)
def roles() -> str:
    """List the roles."""
    return render_template("accounts/roles.html", roles=queries.roles_with_counts(), all_pages=list(Page))


@blueprint.get("/accounts/roles/new")
@permit(Page.USERS)
def new_role() -> str:
    """Show the form for a new role."""
    return _role_page(None, RoleForm())


@blueprint.post("/accounts/roles/new")
@permit(Page.USERS)
def create_role() -> Response:
    """Create a role."""
    return _save_role(None)


@blueprint.get("/accounts/roles/<int:role_id>")
@permit(Page.USERS)
def role(role_id: int) -> str:
    """Show one role, to be changed."""
    found = queries.role(role_id)
    return _role_page(found, RoleForm(obj=found))


@blueprint.post("/accounts/roles/<int:role_id>")
@permit(Page.USERS)
def change_role(role_id: int) -> Response:
    """Change a role; its holders see its pages from their next request on."""
    return _save_role(queries.role(role_id))


@blueprint.post("/accounts/roles/<int:role_id>/delete")
@permit(Page.USERS)
def delete_role(role_id: int) -> Response:
    """Delete a role."""
    found = queries.role(role_id)
    services.delete_role(found, actor=signed_in_user())
    tell(N_("The role %(name)s was deleted.", name=found.name))
    return go_to(url_for("accounts.roles"))


def _may_set_superuser(user: User | None) -> bool:
    return bool(current_user.superuser) and (user is None or user.id != current_user.id)


def _user_page(user: User | None, form: Any) -> str:
    return render_template(
        "accounts/user_form.html",
        user=user,
        form=form,
        may_set_superuser=_may_set_superuser(user),
        second_factor=user is not None and second_factor.is_on(user),
        identities=queries.identities_of(user) if user is not None else (),
        may_change=user is None or current_user.superuser or not user.superuser,
    )


def _save_group(group: Group | None) -> Response:
    form = GroupForm()
    if form.validate_on_submit():
        try:
            saved = services.save_group(
                group, actor=signed_in_user(), name=form.name.data, description=form.description.data or ""
            )
        except Invalid as err:
            place_errors(form, err)
        else:
            tell(N_("The group %(name)s was saved.", name=saved.name))
            return go_to(url_for("accounts.groups"))
    return make_response(_group_page(group, form), 422)


def _group_page(group: Group | None, form: GroupForm) -> str:
    return render_template("accounts/group_form.html", group=group, form=form)


def _save_role(role: Role | None) -> Response:
    form = RoleForm()
    if form.validate_on_submit():
        try:
            saved = services.save_role(
                role,
                actor=signed_in_user(),
                name=form.name.data,
                description=form.description.data or "",
                pages=form.pages.data or [],
            )
        except Invalid as err:
            place_errors(form, err)
        else:
            tell(N_("The role %(name)s was saved.", name=saved.name))
            return go_to(url_for("accounts.roles"))
    return make_response(_role_page(role, form), 422)


def _role_page(role: Role | None, form: RoleForm) -> str:
    return render_template("accounts/role_form.html", role=role, form=form)
