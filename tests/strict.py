"""Strict mode: with `SKSTACK_TEST_STRICT=1` a test that skips has failed, and says what it needed."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest


def is_strict() -> bool:
    return os.environ.get("SKSTACK_TEST_STRICT", "") not in ("", "0")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _refuse_skip((yield))


def _refuse_skip(report: Any) -> Any:
    expected_failure = hasattr(report, "wasxfail")
    if is_strict() and report.skipped and not expected_failure:
        _, _, reason = report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason}\nSKSTACK_TEST_STRICT is set, so that a skip is a failure."
    return report
