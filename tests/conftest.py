"""What every test gets: the plugins, the order of the tests, and how hard hypothesis tries."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

HERE = Path(__file__).parent

# Fixtures live in modules named after what they give.
pytest_plugins = [
    f"tests.{name}"
    for name in (
        "strict",
        "postgresql",
        "databases",
        "chromium",
        "server",
        "sshd",
        "factories",
        "fake_runner",
    )
    if (HERE / f"{name}.py").exists()
]

# Deadlines measure the machine's load, not our code. CI tries the same examples every time.
settings.register_profile("default", deadline=None)
settings.register_profile(
    "ci", deadline=None, derandomize=True, max_examples=100, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci" if os.environ.get("CI") or os.environ.get("SKSTACK_TEST_STRICT") else "default")

# The longest last would leave one process alone at the end; quick tests first show a plain mistake at once.
_LATER = ("slow", "faults", "browser")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: any(item.get_closest_marker(name) for name in _LATER))
    for item in items:
        if _shares_with_its_module(item):
            # Tests around one server stay in one process, or each process would start that server.
            item.add_marker(pytest.mark.xdist_group(item.path.relative_to(HERE).as_posix()))


def _shares_with_its_module(item: pytest.Item) -> bool:
    fixtures = item._fixtureinfo.name2fixturedefs.values() if isinstance(item, pytest.Function) else ()
    return any(definition.scope == "module" for found in fixtures for definition in found)
