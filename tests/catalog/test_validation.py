"""What one object alone must be like. Needs no database."""

from __future__ import annotations

from typing import Any

import pytest

from skstack.catalog import services, validation
from skstack.catalog.models import ConfigCenter, Variable, WorkOrder
from skstack.errors import Invalid


def filled(model: type[Any], values: dict[str, Any]) -> Any:
    thing = model()
    services.set_defaults(thing)
    for name, value in values.items():
        setattr(thing, name, value)
    return thing


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": "1a"}, "name"),
        ({"name": "a-b"}, "name"),
        ({"name": "sk__x"}, "name"),
        ({"name": "a" * 65}, "name"),
        ({"name": "中"}, "name"),
        ({"source": "list", "choices": ["a"]}, "widget"),
        ({"source": "input", "widget": "select"}, "widget"),
        ({"source": "script", "widget": "radio"}, "script"),
        ({"source": "script", "widget": "radio", "script": "# nothing"}, "script"),
        ({"source": "script", "widget": "radio", "script": "echo 'a"}, "script"),
        ({"source": "script", "widget": "radio", "script": "echo {V}"}, "script"),
        ({"source": "script", "widget": "radio", "script": "echo $(date"}, "script"),
        ({"source": "list", "widget": "radio"}, "choices"),
        ({"source": "list", "widget": "radio", "choices": ["a", "a"]}, "choices"),
        ({"source": "list", "widget": "radio", "choices": ["a\x1b"]}, "choices"),
        ({"source": "list", "widget": "checkboxes", "choices": ["a,b"]}, "choices"),
        ({"source": "list", "widget": "checkboxes", "choices": ["a"], "delimiter": ""}, "delimiter"),
        ({"source": "list", "widget": "radio", "choices": ["a"], "default": "b"}, "default"),
        ({"source": "list", "widget": "checkboxes", "choices": ["a", "b"], "default": "a,c"}, "default"),
        ({"source": "list", "widget": "radio", "choices": ["a"], "secret": True}, "secret"),
        (
            {"source": "list", "widget": "radio", "choices": ["a"], "one_argument_each": True},
            "one_argument_each",
        ),
        ({"source": "list", "widget": "radio", "choices": ["a"], "pattern": "a"}, "pattern"),
        ({"widget": "textarea", "secret": True}, "secret"),
        ({"widget": "textarea", "strict": True}, "strict"),
        ({"secret": True, "default": "x"}, "default"),
        ({"pattern": "("}, "pattern"),
        ({"pattern": "a+", "default": "b"}, "default"),
        ({"strict": True, "default": "a b"}, "default"),
        ({"pattern_message": "say why"}, "pattern_message"),
        ({"min_length": 3, "max_length": 2}, "max_length"),
        ({"min_length": -1}, "min_length"),
        ({"max_length": 2, "default": "abc"}, "default"),
    ],
)
def test_variables_that_cannot_be(values: dict[str, Any], field: str) -> None:
    found = validation.own_problems(filled(Variable, {"name": "V", **values}))

    assert list(found) == [field]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"host": ""}, "host"),
        ({"host": "a b"}, "host"),
        ({"host": "-oProxyCommand=id"}, "host"),
        ({"port": 0}, "port"),
        ({"port": 65536}, "port"),
        ({"username": ""}, "username"),
        ({"username": "-l"}, "username"),
        ({"login": "magic"}, "login"),
        ({"login": "password"}, "password"),
        ({"login": "key"}, "private_key"),
        ({"login": "key", "private_key": "nonsense"}, "private_key"),
    ],
)
def test_config_centers_that_cannot_be(values: dict[str, Any], field: str) -> None:
    base = {"name": "c", "host": "h", "username": "u", "login": "agent"}

    assert list(validation.own_problems(filled(ConfigCenter, {**base, **values}))) == [field]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "line 1, column 2"),
        ("[]", "JSON object"),
        ('{"a": 1, "a": 2}', "twice"),
        ('{"a": NaN}', "must be text"),
        ('{"a": {"b": 1}}', "must be text"),
        ("[" * 100_000, "not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
    ],
    ids=range(7),
)
def test_what_is_no_flat_json_object_is_refused(text: str, told: str) -> None:
    with pytest.raises(Invalid, match=told):
        validation.parse_builtin(text)


def test_a_flat_json_object_keeps_its_types() -> None:
    assert validation.parse_builtin('{"a": "x", "b": 1, "c": 1.5, "d": true}') == {
        "a": "x",
        "b": 1,
        "c": 1.5,
        "d": True,
    }
    assert validation.parse_builtin("") == {}


def test_a_template_needs_no_task() -> None:
    assert "main_task" not in validation.own_problems(filled(WorkOrder, {"name": "t", "template": True}))
