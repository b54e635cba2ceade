"""One's own second factor: set it up, renew the recovery codes, switch it off; and removing another's."""

from __future__ import annotations

from typing import Any

from flask import Response, current_app, make_response, render_template, url_for

from skstack.accounts import new_password, qr, queries, second_factor, services, sessions
from skstack.accounts.blueprint import blueprint
from skstack.accounts.forms import CodeForm, PasswordAgainForm, PasswordAndCodeForm
from skstack.accounts.models import Page, SecondFactor
from skstack.accounts.sessions import signed_in_user
from skstack.db import utcnow
from skstack.errors import Invalid, TooManyRequests
from skstack.messages import N_
from skstack.web.forms import go_to, place_errors, tell
from skstack.web.permissions import Permission, permit


@blueprint.get("/me/second-factor")
@permit(Permission.SIGNED_IN)
def my_second_factor() -> Response:
    """Show whether one's second factor is on, and how to change that."""
    return _page(PasswordAndCodeForm() if second_factor.is_on(signed_in_user()) else PasswordAgainForm())


@blueprint.post("/me/second-factor/begin")
@permit(Permission.SIGNED_IN)
def begin_second_factor() -> Response:
    """Show the secret in the answer, the one time that it can be seen; 409 if the second factor is on."""
    form = PasswordAgainForm()
    status = 422
    if form.validate_on_submit():
        try:
            found = second_factor.begin(
                actor=signed_in_user(), password=form.password.data, settings=_settings(), now=utcnow()
            )
            return _secret_page(found, CodeForm(formdata=None))
        except Invalid as err:
            place_errors(form, err)
        except TooManyRequests as err:
            form.form_errors.append(err.message)
            status = 429
    return _page(form, status)


@blueprint.post("/me/second-factor/confirm")
@permit(Permission.SIGNED_IN)
def confirm_second_factor() -> Response:
    """Switch it on with its first code and show the recovery codes; 410 if nothing waits to be confirmed."""
    form, actor = CodeForm(), signed_in_user()
    found = second_factor.being_set_up(actor, now=utcnow())
    if form.validate_on_submit():
        try:
            codes = second_factor.confirm(
                actor=actor, code=form.code.data, now=utcnow(), keep_session=sessions.current_session_id()
            )
            return _codes_page(codes)
        except Invalid as err:
            place_errors(form, err)
    return _secret_page(found, form, 422)


@blueprint.post("/me/second-factor/codes")
@permit(Permission.SIGNED_IN)
def renew_recovery_codes() -> Response:
    """Replace the recovery codes and show the new ones, this once."""
    return _with_password_and_code(
        lambda **given: _codes_page(second_factor.renew_codes(actor=signed_in_user(), **given))
    )


@blueprint.post("/me/second-factor/off")
@permit(Permission.SIGNED_IN)
def switch_second_factor_off() -> Response:
    """Switch it off; 403 if one is required."""

    def switch_off(**given: Any) -> Response:
        second_factor.switch_off(actor=signed_in_user(), **given)
        tell(N_("Your second factor is off."))
        return go_to(url_for("accounts.my_second_factor"))

    return _with_password_and_code(switch_off)


@blueprint.post("/accounts/users/<int:user_id>/second-factor/remove")
@permit(Page.USERS)
def remove_second_factor(user_id: int) -> Response:
    """Remove another's second factor; 409 if there is none, 403 for one's own."""
    found = queries.user(user_id)
    services.remove_second_factor(found, actor=signed_in_user(), now=utcnow())
    tell(N_("The second factor of %(name)s was removed, and their sessions have ended.", name=found.username))
    return go_to(url_for("accounts.user", user_id=user_id))


def _with_password_and_code(act: Any) -> Response:
    form = PasswordAndCodeForm()
    status = 422
    if form.validate_on_submit():
        try:
            response: Response = act(
                password=form.password.data, code=form.code.data, settings=_settings(), now=utcnow()
            )
            return response
        except Invalid as err:
            place_errors(form, err)
        except TooManyRequests as err:
            form.form_errors.append(err.message)
            status = 429
    return _page(form, status)


def _page(form: Any, status: int = 200) -> Response:
    actor = signed_in_user()
    page = render_template(
        "accounts/me_second_factor.html",
        section="second factor",
        form=form,
        found=second_factor.of(actor) if second_factor.is_on(actor) else None,
        codes_left=second_factor.codes_left(actor),
        required=second_factor.is_required(actor, _settings()),
        has_password=new_password.can_be_confirmed(actor, _settings()),
    )
    return make_response(page, status)


def _secret_page(found: SecondFactor, form: CodeForm, status: int = 200) -> Response:
    address = second_factor.address(signed_in_user(), found.secret)
    page = render_template(
        "accounts/me_second_factor_confirm.html",
        section="second factor",
        form=form,
        secret=found.secret,
        address=address,
        qr=qr.drawn(address),
    )
    return make_response(page, status)


def _codes_page(codes: list[str]) -> Response:
    target = url_for("accounts.my_second_factor")
    return make_response(render_template("accounts/recovery_codes.html", codes=codes, target=target))


def _settings() -> Any:
    return current_app.config["SKSTACK"]
