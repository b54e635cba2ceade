"""What pages with a form share: errors at their fields, and the way on after a change."""

from __future__ import annotations

from flask import Response, flash, make_response, redirect
from flask_wtf import FlaskForm

from skstack.errors import Invalid
from skstack.messages import Message
from skstack.web.errors import is_fragment
from skstack.web.text import translate


def place_errors(form: FlaskForm, error: Invalid) -> None:
    """Put what a service found wrong at the form's fields; what belongs to none of them stands above the form."""
    for name, found in error.errors.items():
        if name in form:
            form[name].errors = [*form[name].errors, *found]
        else:
            form.form_errors.extend(found)


def go_to(url: str) -> Response:
    """Lead on after a change: 303, or for htmx a header, since a followed redirect would use up the notices."""
    if is_fragment():
        response = make_response("", 204)
        response.headers["HX-Redirect"] = url
        return response
    return make_response(redirect(url, 303))


def tell(message: Message, category: str = "success") -> None:
    """Show a sentence on the next page, in the reader's language: the cookie that carries it takes only text."""
    flash(translate(message), category)
