"""What the routes of the JSON API share: strict reading of bodies and query parameters, times, lists, documents.

Responses are written by hand, not by marshmallow: a submission has to be answered within a few milliseconds. The
schemas beside the routes describe them, and a test holds real responses against the document.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection, Iterable
from typing import Any, NoReturn

import flask_smorest
from flask import Response, abort, jsonify, request
from marshmallow import RAISE, Schema, ValidationError, fields, validate
from webargs.flaskparser import FlaskParser

from skstack.errors import Invalid, Unreadable
from skstack.messages import N_, Message
from skstack.web.pagination import DEFAULT, MOST

JsonSchema = dict[str, Any]

LARGEST_ID = 2**31 - 1
_SHOWN_NAME = 64


class Number(str):
    """A number of a JSON body as it was written: `1.10` stays `1.10`, and its digits are not counted."""

    __slots__ = ()


class _QueryParser(FlaskParser):
    """Reads query parameters by a marshmallow schema, and says what is wrong in our own kind of error.

    An unknown one is refused: a filter that was mistyped must not give everything.
    """

    DEFAULT_UNKNOWN_BY_LOCATION = {**FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION, "query": RAISE}

    def handle_error(self, error: ValidationError, *args: Any, **kwargs: Any) -> NoReturn:
        found = error.normalized_messages().get("query", {})  # type: ignore[no-untyped-call]  # webargs wraps them by location
        raise Invalid(
            {
                name[:_SHOWN_NAME]: [N_("%(message)s", message=one) for one in told]
                for name, told in found.items()
            }
        )


class Blueprint(flask_smorest.Blueprint):
    """Routes that stand in the OpenAPI document."""

    ARGUMENTS_PARSER = _QueryParser()


class Text(fields.String):
    """Text of a query parameter: short, and such as a database can look for."""

    def __init__(self, *, most: int = 200, **more: Any) -> None:
        super().__init__(validate=[validate.Length(max=most), _no_nul], **more)


class ListQuery(Schema):
    """The parameters that every list has."""

    limit = fields.Integer(
        load_default=DEFAULT,
        validate=validate.Range(1, MOST),
        metadata={"description": "How many items at most."},
    )
    after = fields.String(
        load_default="",
        validate=validate.Regexp(r"\d{0,10}\Z", error="This is not a cursor of this list."),
        metadata={"description": "The `next` of the page before. Opaque: do not make one."},
    )


def _no_nul(text: str) -> None:
    if "\0" in text:
        raise ValidationError("This must not contain NUL.")


def cursor(given: str) -> int | None:
    """Return the id that a list goes on after. None: it begins at its beginning."""
    return min(int(given), LARGEST_ID) if given else None


def listed(items: Iterable[Any], following: int | None) -> Response:
    """Answer with one page of a list and the cursor of the next."""
    return jsonify({"items": list(items), "next": None if following is None else str(following)})


def list_of(name: str) -> JsonSchema:
    """Return the schema of a list whose items are the component `name`."""
    return record(
        items={"type": "array", "items": reference(name)},
        next={
            "type": ["string", "null"],
            "description": "Give it as `after` to get the next page. null: the last one.",
        },
    )


def rfc3339(moment: dt.datetime | None) -> str | None:
    """Write a time in UTC with a Z; `moment` is aware and in UTC, as all stored times are."""
    return None if moment is None else f"{moment.replace(tzinfo=None).isoformat()}Z"


def moment(name: str, given: str, *, day_after: bool = False) -> dt.datetime | None:
    """Read a time, or the beginning of a day in UTC; with `day_after` its end. A space is a + that was not quoted.

    None for "". Raises Invalid for anything else, with `name`.
    """
    if not given:
        return None
    try:
        if len(given) == len("2026-01-31"):
            day = dt.date.fromisoformat(given) + dt.timedelta(days=int(day_after))
            return dt.datetime.combine(day, dt.time(), dt.UTC)
        found = dt.datetime.fromisoformat(given.replace(" ", "+"))
        return (found if found.tzinfo else found.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
    except (ValueError, OverflowError) as err:
        raise Invalid(
            {name: [N_("This must be a day, or a time as in RFC 3339, such as 2026-01-31T08:00:00Z.")]}
        ) from err


def json_object(allowed: Collection[str], *, optional: bool = False) -> dict[str, Any]:
    """Return the request's body, a JSON object. Numbers in it are of the type `Number`. An `optional` one may be missing.

    Raises Unreadable for anything but JSON, Invalid for anything but an object with `allowed` keys; 415 for a body that
    does not say that it is JSON.
    """
    if optional and not request.get_data():
        return {}
    if request.mimetype != "application/json":
        abort(415, description="Send the body as JSON, with the header Content-Type: application/json.")
    try:
        body = _decoder.decode(request.get_data().decode())
    except (ValueError, RecursionError) as err:
        raise Unreadable(
            N_("The body is not JSON that can be read: %(reason)s.", reason=_reason(err))
        ) from err
    if not isinstance(body, dict):
        raise Invalid({"": [N_("The body must be a JSON object.")]})
    refuse_unknown(body, allowed)
    return body


def text_in(body: dict[str, Any], name: str) -> str:
    """Return a text of a body, "" if it is not there. Raises Invalid for anything but text."""
    given = body.get(name, "")
    if type(given) is not str:
        raise Invalid({name: [N_("This must be text.")]})
    return given


def refuse_unknown(given: Iterable[str], allowed: Collection[str]) -> None:
    """Raise Invalid if something is given that is not known here, with every such name."""
    unknown = [name for name in given if name not in allowed]
    if unknown:
        message = N_("This is not known here. Known are: %(names)s.", names=", ".join(allowed))
        raise Invalid({name[:_SHOWN_NAME]: [message] for name in unknown[:10]})


def _reason(err: Exception) -> str:
    if isinstance(err, json.JSONDecodeError):
        return f"{err.msg} at line {err.lineno}, column {err.colno}"
    if isinstance(err, UnicodeDecodeError):
        return f"byte {err.start + 1} is not UTF-8"
    return "it is nested too deeply" if isinstance(err, RecursionError) else str(err)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(
    parse_int=Number, parse_float=Number, parse_constant=_refuse_constant, object_pairs_hook=_object
)


def reference(name: str) -> JsonSchema:
    """Return the schema that stands for the component `name`."""
    return {"$ref": f"#/components/schemas/{name}"}


def body_of(name: str, *, required: bool = True) -> JsonSchema:
    """Return the description of a request's body that is the component `name`."""
    return {"required": required, "content": {"application/json": {"schema": reference(name)}}}


def record(**properties: JsonSchema) -> JsonSchema:
    """Return the schema of an object that always has exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def text(description: str = "", **more: Any) -> JsonSchema:
    """Return the schema of text."""
    return {"type": "string", **({"description": description} if description else {}), **more}


def time_or_null(description: str) -> JsonSchema:
    """Return the schema of a time, or null."""
    return {"type": ["string", "null"], "format": "date-time", "description": description}


def message_text(message: Message | None) -> str | None:
    """Return a message as the API says it: in English, whatever the caller's language."""
    return None if message is None else str(message)
