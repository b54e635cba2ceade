"""What scripts print becomes choices, or a sentence that says why not."""

from __future__ import annotations

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skstack import substitution
from skstack.catalog.script_output import Unusable, parse


def values(output: bytes | str, limit: int = 100) -> list[str]:
    output = output if isinstance(output, bytes) else output.encode()
    return [choice.value for choice in parse(output, limit=limit)]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("a\nb\n", ["a", "b"]),
        ("  a b \r\n\n\nb\r\n", ["a b", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ("['host1', 'host2']\n", ["host1", "host2"]),
        ("[u'host1', r'a\\b', \"it's\", 'x\\'y', '\\u4e2d',]", ["host1", "a\\b", "it's", "x'y", "中"]),
        ("[1, 2.5, True, 'x']", ["1", "2.5", "True", "x"]),
        ("[1, 2.50, true]", ["1", "2.5", "true"]),
        ("a\nb\na\n", ["a", "b"]),
        ("\ufeffa\n", ["a"]),
        ("中文\n", ["中文"]),
        ("x [y]\n", ["x [y]"]),
        ('{"a": 1}', ['{"a": 1}']),
        ("a, b", ["a, b"]),
    ],
)
def test_lists_and_lines_are_read(output: str, expected: list[str]) -> None:
    assert values(output) == expected


HOSTILE = (
    "[" * 500_000,
    "[" + "{" * 500_000,
    "[" + "'a'," * 250_000,
    "[" + "-" * 500_000,
    '[{"a":' * 170_000,
)


@pytest.mark.no_cover  # Measuring coverage takes as long as what is measured here.
@pytest.mark.parametrize("output", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_output_costs_little(output: str) -> None:
    before = time.process_time()

    with pytest.raises(Unusable):
        values(output)

    assert time.process_time() - before < 3


names = st.text(min_size=1, max_size=20).filter(lambda text: substitution.check_value(text) is None)


@given(st.lists(names, min_size=1, unique=True))
def test_whatever_python_and_json_print_of_a_list_reads_back(texts: list[str]) -> None:
    assert values(repr(texts)) == texts
    assert values(json.dumps(texts)) == texts


@given(st.text(max_size=60), st.sampled_from(["", "[", "['a'", "[{'value': "]))
def test_no_text_makes_it_fail_otherwise(text: str, beginning: str) -> None:
    with contextlib.suppress(Unusable):
        assert values((beginning + text).encode("utf-8", "surrogatepass"))
