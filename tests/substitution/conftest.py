from __future__ import annotations

import pytest

from tests.substitution.shell import Shell


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A place to run lines in, shared by a module's tests, which leave nothing behind in it."""
    return Shell(tmp_path_factory.mktemp("shell"))
