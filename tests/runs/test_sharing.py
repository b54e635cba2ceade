"""Who asks for the same at the same time gets the same text, made once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from skstack.runs.sharing import Shared


def test_a_hundred_who_ask_at_once_get_one_text_made_once() -> None:
    shared, made, gate = Shared(), [], threading.Barrier(100)

    def make() -> str:
        made.append(1)
        time.sleep(0.05)
        return "text"

    def ask(_: int) -> str:
        gate.wait(20)
        return shared.get("key", make)

    with ThreadPoolExecutor(100) as pool:
        assert set(pool.map(ask, range(100))) == {"text"}
    assert len(made) == 1


def test_another_key_is_another_text() -> None:
    shared = Shared()
    assert [shared.get(key, lambda key=key: f"of {key}") for key in ("a", "b", "a")] == [
        "of a",
        "of b",
        "of a",
    ]  # type: ignore[misc]


def test_one_that_fails_is_made_again() -> None:
    shared = Shared()
    with pytest.raises(ZeroDivisionError):
        shared.get("key", lambda: str(1 / 0))
    assert shared.get("key", lambda: "text") == "text"


def test_who_waits_for_one_that_fails_does_not_wait_for_another_try() -> None:
    shared: Shared[str] = Shared()
    gate, tried = threading.Barrier(10), []

    def fail() -> str:
        tried.append(1)
        time.sleep(0.3)
        raise ZeroDivisionError

    def ask(_: int) -> str:
        gate.wait(20)
        with pytest.raises(ZeroDivisionError):
            shared.get("key", fail)
        return "failed"

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(ask, range(10))) == ["failed"] * 10
    assert len(tried) < 8


def test_few_are_kept_and_no_long_one() -> None:
    shared, made = Shared(most=2, longest=10), []

    def ask(key: str) -> str:
        return shared.get(key, lambda: made.append(key) or key)

    for key in ("a", "b", "c", "a", "x" * 11, "x" * 11):
        assert ask(key) == key
    assert made == ["a", "b", "c", "a", "x" * 11, "x" * 11]
