"""Pages to sign in and out: name and password, then the second factor where there is one."""

from __future__ import annotations

from flask import Response, current_app, make_response, redirect, render_template, request, url_for
from flask_login import current_user

from skstack.accounts import ending, qr, second_factor, sessions, signing_in
from skstack.accounts.blueprint import blueprint
from skstack.accounts.directory import DirectoryDown
from skstack.accounts.forms import CodeForm, SignInForm
from skstack.accounts.sessions import signed_in_user
from skstack.accounts.signing_in import Browser, SignIn, Step, Waiting
from skstack.db import utcnow
from skstack.errors import Gone, Invalid, TooManyRequests
from skstack.messages import N_, Message
from skstack.web.forms import go_to, place_errors, tell
from skstack.web.permissions import Permission, permit


@blueprint.get("/sign-in")
@permit(Permission.ANYONE)
def sign_in() -> Response:
    """Ask for name and password, or go on if somebody is signed in."""
    target = sessions.local_path(request.args.get("next"), "")
    if current_user.is_authenticated:
        return make_response(redirect(target or url_for("dashboard.index"), 303))
    return sign_in_page(SignInForm(next=target), message=N_("Sign in to go on.") if target else "")


@blueprint.post("/sign-in")
@permit(Permission.ANYONE)
def sign_in_post() -> Response:
    """Begin a session or its second step; 422 if name or password is wrong, 429 beyond the limit of attempts."""
    form = SignInForm()
    if not form.validate_on_submit():
        return sign_in_page(form, 422)
    here = browser()
    try:
        found = signing_in.sign_in(
            username=form.username.data,
            password=form.password.data,
            address=here.address,
            user_agent=here.user_agent,
            settings=current_app.config["SKSTACK"],
            now=utcnow(),
            former_token=here.former_token,
        )
    except Invalid as err:
        place_errors(form, err)
        return sign_in_page(form, 422)
    except DirectoryDown as err:
        form.form_errors.append(err.message)
        return sign_in_page(form, 503)
    except TooManyRequests as err:
        form.form_errors.append(err.message)
        return _later(sign_in_page(form, 429), err)
    return go_on(found, form.next.data)


@blueprint.get("/sign-in/code")
@permit(Permission.ANYONE)
def code() -> Response:
    """Ask for the code of the second factor; without a sign-in that waits for it, lead to the sign-in page."""
    try:
        found = _waiting()
    except Gone as err:
        return _begin_again(err)
    target = sessions.local_path(request.args.get("next"), "")
    if found.step is not Step.CODE:
        return go_to(url_for("accounts.set_up", next=target or None))
    return _code_page(CodeForm(next=target))


@blueprint.post("/sign-in/code")
@permit(Permission.ANYONE)
def code_post() -> Response:
    """Begin the session; 422 if the code is wrong, 429 beyond the limit of attempts."""
    form = CodeForm()
    try:
        if not form.validate_on_submit():
            _waiting()
            return _code_page(form, 422)
        found = signing_in.finish(
            token=sessions.second_step(),
            code=form.code.data,
            browser=browser(),
            settings=current_app.config["SKSTACK"],
            now=utcnow(),
        )
    except Gone as err:
        return _begin_again(err)
    except Invalid as err:
        place_errors(form, err)
        return _code_page(form, 422)
    except TooManyRequests as err:
        form.form_errors.append(err.message)
        return _later(_code_page(form, 429), err)
    return go_on(found, form.next.data)


@blueprint.get("/sign-in/set-up")
@permit(Permission.ANYONE)
def set_up() -> Response:
    """Show the secret of the second factor that must be set up before one gets in."""
    try:
        found = _waiting()
        target = sessions.local_path(request.args.get("next"), "")
        if found.step is not Step.SET_UP:
            return go_to(url_for("accounts.code", next=target or None))
        return _set_up_page(found, CodeForm(next=target))
    except Gone as err:
        return _begin_again(err)


@blueprint.post("/sign-in/set-up")
@permit(Permission.ANYONE)
def set_up_post() -> Response:
    """Confirm the second factor, begin the session and show the recovery codes; 422 if the code is wrong."""
    form = CodeForm()
    try:
        waiting = _waiting()
        if not form.validate_on_submit():
            return _set_up_page(waiting, form, 422)
        try:
            found, codes = signing_in.finish_setting_up(
                token=sessions.second_step(),
                code=form.code.data,
                browser=browser(),
                settings=current_app.config["SKSTACK"],
                now=utcnow(),
            )
        except Invalid as err:
            place_errors(form, err)
            return _set_up_page(waiting, form, 422)
        except TooManyRequests as err:
            form.form_errors.append(err.message)
            return _later(_set_up_page(waiting, form, 429), err)
    except Gone as err:
        return _begin_again(err)
    sessions.begin(found.user, found.token, keep_forms=found.renews)
    target = sessions.local_path(form.next.data, url_for("dashboard.index"))
    return make_response(render_template("accounts/recovery_codes.html", codes=codes, target=target))


@blueprint.post("/sign-out")
@permit(Permission.SIGNED_IN)
def sign_out() -> Response:
    """End this session, here and wherever else its cookie is."""
    ending.sign_out(token=sessions.token() or "", actor=signed_in_user(), now=utcnow())
    sessions.forget()
    response = go_to(url_for("accounts.sign_in"))
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


def browser() -> Browser:
    """Return where the request comes from."""
    return Browser(request.remote_addr or "", request.user_agent.string, sessions.token())


def _waiting() -> Waiting:
    return signing_in.waiting(sessions.second_step(), settings=current_app.config["SKSTACK"], now=utcnow())


def go_on(found: SignIn, target: str | None) -> Response:
    """Put what was begun into the cookie and lead on: to the second step, or where one wanted to go."""
    target = sessions.local_path(target, "")
    if found.step is not None:
        sessions.wait_for_second_step(found.token)
        page = "accounts.code" if found.step is Step.CODE else "accounts.set_up"
        return make_response(redirect(url_for(page, next=target or None), 303))
    sessions.begin(found.user, found.token, keep_forms=found.renews)
    return make_response(redirect(target or url_for("dashboard.index"), 303))


def _begin_again(err: Gone) -> Response:
    tell(err.message, "warning")
    target = sessions.local_path(request.values.get("next"), "")
    return make_response(redirect(url_for("accounts.sign_in", next=target or None), 303))


def _later(response: Response, err: TooManyRequests) -> Response:
    response.headers["Retry-After"] = str(err.retry_after)
    return response


def sign_in_page(form: SignInForm, status: int = 200, message: Message | str = "") -> Response:
    """Show the sign-in page, with what is wrong."""
    settings = current_app.config["SKSTACK"]
    provider = settings.oidc_label if settings.oidc_issuer else ""
    return make_response(
        render_template("accounts/sign_in.html", form=form, message=message, provider=provider), status
    )


def _code_page(form: CodeForm, status: int = 200) -> Response:
    recovery = "recovery" in request.args
    return make_response(render_template("accounts/sign_in_code.html", form=form, recovery=recovery), status)


def _set_up_page(found: Waiting, form: CodeForm, status: int = 200) -> Response:
    secret = second_factor.being_set_up(found.user, now=utcnow()).secret
    address = second_factor.address(found.user, secret)
    page = render_template(
        "accounts/sign_in_set_up.html", form=form, secret=secret, address=address, qr=qr.drawn(address)
    )
    return make_response(page, status)
