"""What every test gets: the plugins, the order of the tests, and how hard hypothesis tries."""

from __future__ import annotations

import gc
import os
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

HERE = Path(__file__).parent

# Looking for garbage among all that the libraries keep takes a fifth of the time if it is done as often as usual.
gc.set_threshold(100_000, 50, 100)

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
    "ci", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci" if os.environ.get("CI") or os.environ.get("SKSTACK_TEST_STRICT") else "default")

# The longest last would leave one process alone at the end; quick tests first show a plain mistake at once.
_LATER = ("slow", "faults", "browser")


# On PostgreSQL the same lines run as on SQLite, but for those that these look at: measuring them again takes minutes.
_POSTGRESQL_TOO = ("tests/test_queue.py", "tests/runs/", "tests/audit/", "tests/test_migrations.py")

# These go a hundred times over the same lines, which others measure.
_MANY_EXAMPLES = (
    "tests/api/test_strict.py",
    "tests/api/test_waiting.py",
    "tests/audit/test_every_change.py",
    "tests/audit/test_history.py",
    "tests/schedules/test_recurring.py",
    "tests/substitution/test_properties.py",
    "tests/test_bench.py",
    "tests/test_rotating.py",
    "tests/tickets/test_life.py",
    "tests/web/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        again = "[postgresql" in item.nodeid and not item.nodeid.startswith(_POSTGRESQL_TOO)
        # These look at servers, which are processes of their own.
        again = again or any(item.get_closest_marker(name) for name in ("faults", "browser"))
        if again or item.nodeid.startswith(_MANY_EXAMPLES):
            item.add_marker("no_cover")
    items.sort(key=lambda item: any(item.get_closest_marker(name) for name in _LATER))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return _Scheduling(config, log)


class _Scheduling(LoadScopeScheduling):
    """Hands out test by test, but keeps a module together whose tests share a server or the like.

    `--dist loadgroup` is there for that, but pytest-xdist 3.8 does it by changing test ids, which pytest 9.2
    does not let it.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if _shares_a_fixture(file) else nodeid


@cache
def _shares_a_fixture(file: str) -> bool:
    return 'scope="module"' in (HERE.parent / file).read_text(encoding="utf-8")
