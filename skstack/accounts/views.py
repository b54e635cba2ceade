"""One's own profile, password, tokens and sessions."""

from __future__ import annotations

from typing import Any

from flask import Response, current_app, make_response, render_template, request, url_for
from flask_babel import gettext
from flask_login import current_user
from wtforms.fields.choices import SelectChoice

from skstack.accounts import (
    ending,
    matrix_views,
    new_password,
    oidc_views,
    people_views,
    profile,
    queries,
    second_factor_views,
    sessions,
    sign_in_views,
    tokens,
)
from skstack.accounts.blueprint import blueprint
from skstack.accounts.browsers import browser_name
from skstack.accounts.forms import OwnPasswordForm, ProfileForm, TokenForm
from skstack.accounts.sessions import signed_in_user
from skstack.db import utcnow
from skstack.errors import Invalid, TooManyRequests
from skstack.messages import N_
from skstack.web.errors import is_fragment
from skstack.web.forms import go_to, place_errors, tell
from skstack.web.permissions import Permission, permit
from skstack.web.text import LANGUAGES, translate

_THEMES = (("auto", N_("As the system")), ("light", N_("Light")), ("dark", N_("Dark")))


@blueprint.get("/me")
@permit(Permission.SIGNED_IN)
def me() -> str:
    """Show one's own profile."""
    return _profile_page(_profile_form(obj=current_user))


@blueprint.post("/me")
@permit(Permission.SIGNED_IN)
def change_me() -> Response:
    """Change one's own profile, and the appearance in this browser."""
    form = _profile_form()
    if form.validate_on_submit():
        try:
            profile.change(
                actor=signed_in_user(),
                display_name=form.display_name.data or "",
                language=form.language.data,
                timezone=form.timezone.data,
            )
        except Invalid as err:
            place_errors(form, err)
        else:
            tell(N_("Your profile was saved."))
            response = go_to(url_for("accounts.me"))
            response.set_cookie(
                "theme", form.theme.data, max_age=31536000, samesite="Lax", secure=_settings().secure_cookies
            )
            return response
    return make_response(_profile_page(form), 422)


@blueprint.post("/me/language")
@permit(Permission.SIGNED_IN)
def set_language() -> Response:
    """Choose the language, from the menu of any page, and go back to it."""
    profile.set_language(actor=signed_in_user(), language=request.form.get("language", ""))
    return go_to(sessions.local_path(request.form.get("next"), url_for("accounts.me")))


@blueprint.post("/me/columns/<name>")
@permit(Permission.SIGNED_IN)
def choose_columns(name: str) -> Response:
    """Remember which columns of a list to show, and go back to it; `reset` forgets. A page with a script shows it itself: 204."""
    actor = signed_in_user()
    if "reset" in request.form:
        profile.forget_columns(actor=actor, name=name)
    else:
        ticked = set(request.form.getlist("shown"))
        shown = {key: key in ticked for key in request.form.getlist("listed")}
        profile.choose_columns(actor=actor, name=name, shown=shown, at_first=request.form.getlist("first"))
    if is_fragment():
        return Response(status=204)
    return go_to(sessions.local_path(request.form.get("next"), url_for("dashboard.index")))


@blueprint.get("/me/password")
@permit(Permission.SIGNED_IN)
def my_password() -> str:
    """Show the form for a new password."""
    return _my_page("password", form=OwnPasswordForm())


@blueprint.post("/me/password")
@permit(Permission.SIGNED_IN)
def change_my_password() -> Response:
    """Change one's own password, and end one's sessions on other devices."""
    form = OwnPasswordForm()
    status = 422
    if form.validate_on_submit():
        try:
            new_password.change(
                actor=signed_in_user(),
                current=form.current.data,
                new=form.new.data,
                session_id=sessions.current_session_id(),
                settings=_settings(),
                now=utcnow(),
            )
        except Invalid as err:
            place_errors(form, err)
        except TooManyRequests as err:
            form.form_errors.append(err.message)
            status = 429
        else:
            tell(N_("Your password was changed, and your sessions on other devices have ended."))
            return go_to(url_for("accounts.my_password"))
    return make_response(_my_page("password", form=form), status)


@blueprint.get("/me/tokens")
@permit(Permission.SIGNED_IN)
def my_tokens() -> str:
    """Show one's own tokens, and the form for a new one."""
    return _tokens_page(TokenForm())


@blueprint.post("/me/tokens")
@permit(Permission.SIGNED_IN)
def create_token() -> Response:
    """Create a token and show it in the answer: the one time that it can be read."""
    form = TokenForm()
    if form.validate_on_submit():
        try:
            actor = signed_in_user()
            created = tokens.create(
                actor, actor=actor, name=form.name.data, days=form.days.data, now=utcnow()
            )
            return make_response(
                _tokens_page(TokenForm(formdata=None), created=created, created_name=form.name.data)
            )
        except Invalid as err:
            place_errors(form, err)
    return make_response(_tokens_page(form), 422)


@blueprint.post("/me/tokens/<int:token_id>/revoke")
@permit(Permission.SIGNED_IN)
def revoke_token(token_id: int) -> Response:
    """Revoke one's own token; 404 for another's, 409 if it is revoked."""
    tokens.revoke(token_id, actor=signed_in_user(), now=utcnow())
    tell(N_("The token was revoked."))
    return go_to(url_for("accounts.my_tokens"))


@blueprint.get("/me/sessions")
@permit(Permission.SIGNED_IN)
def my_sessions() -> str:
    """Show where one is signed in."""
    found = queries.sessions_of(signed_in_user(), _settings(), utcnow())
    return _my_page(
        "sessions",
        sessions=found,
        browser_name=browser_name,
        current_session_id=sessions.current_session_id(),
    )


@blueprint.post("/me/sessions/<int:session_id>/end")
@permit(Permission.SIGNED_IN)
def end_session(session_id: int) -> Response:
    """End one of one's own sessions; 404 for another's, 409 if it has ended."""
    ending.end_session(session_id, actor=signed_in_user(), now=utcnow())
    tell(N_("The session has ended."))
    return go_to(url_for("accounts.my_sessions"))


@blueprint.post("/me/sessions/end-others")
@permit(Permission.SIGNED_IN)
def end_other_sessions() -> Response:
    """End all of one's own sessions but this one."""
    actor = signed_in_user()
    ending.end_sessions(actor, actor=actor, now=utcnow(), but=sessions.current_session_id())
    tell(N_("Your other sessions have ended."))
    return go_to(url_for("accounts.my_sessions"))


def _profile_form(**values: Any) -> ProfileForm:
    theme = request.cookies.get("theme")
    form = ProfileForm(**values, theme=theme if theme in ("light", "dark") else "auto")
    form.language.choices = _choices(("", gettext("As the browser asks")), *LANGUAGES.items())
    form.timezone.choices = _choices(
        ("", gettext("As set for skstack")), *((name, name) for name in profile.timezones())
    )
    form.theme.choices = _choices(*((value, translate(label)) for value, label in _THEMES))
    return form


def _choices(*choices: tuple[str, str]) -> list[SelectChoice]:
    return [SelectChoice(value, label) for value, label in choices]


def _profile_page(form: ProfileForm) -> str:
    return _my_page("profile", form=form)


def _tokens_page(form: TokenForm, created: str = "", created_name: str = "") -> str:
    return _my_page(
        "tokens",
        form=form,
        tokens=queries.tokens_of(signed_in_user()),
        created=created,
        created_name=created_name,
        now=utcnow(),
    )


def _my_page(name: str, **values: Any) -> str:
    return render_template(f"accounts/me_{name}.html", section=name, **values)


def _settings() -> Any:
    return current_app.config["SKSTACK"]


__all__ = ["blueprint", "matrix_views", "oidc_views", "people_views", "second_factor_views", "sign_in_views"]
