"""Imports go the way that docs/architecture.md draws, those inside functions too."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent

# Each may use those before it.
FEATURES = [
    "audit",
    "accounts",
    "catalog",
    "tickets",
    "approvals",
    "runs",
    "schedules",
    "notifications",
    "dashboard",
    "system",
    "backups",
]

# What speaks HTTP or the command line in a feature. It may show and use every feature, and nothing imports it.
OUTER = {
    "views",
    "api",
    "cli",
    "blueprint",
    "schemas",
    "documents",
    "forms",
    "sessions",
    "middleware",
    "passes",
}

# Puts it all together: may import everything, and is imported by nothing but its like.
TOP = {f"skstack.{name}" for name in ("api", "cli", "demo", "health", "rotating", "server", "worker")} | {
    "app"
}

# Stands below the features.
BASE = {
    f"skstack.{name}"
    for name in (
        "commands",
        "config",
        "crypto",
        "db",
        "doorbell",
        "errors",
        "extensions",
        "hosting",
        "languages",
        "messages",
        "migrating",
        "queue",
        "states",
    )
}

# What a request knows: who asks comes into a service as its actor, everything else as an argument.
REQUEST = {
    f"flask.{name}" for name in ("request", "session", "g", "flash", "render_template", "url_for", "redirect")
}
REQUEST |= {"flask_login.current_user", "flask_wtf.FlaskForm"}

WEB_AND_DATABASE = {
    "flask",
    "werkzeug",
    "jinja2",
    "sqlalchemy",
    "huey",
    "alembic",
    "wtforms",
    "marshmallow",
    "psycopg",
}

# `web` guards and draws every page, so it must know these words. Nothing else of a feature.
WEB_KNOWS = {"skstack.accounts.models", "skstack.audit.refusals", "skstack.audit.services"}

# Queries answer a page's worth of rows at a time. Nothing else of the page machinery is known inside a feature.
INSIDE_KNOWS = {"skstack.web.pagination"}

# How a script is sent to a remote shell is a matter of substitution, and done by the runner.
RUNNER_KNOWS = {"skstack.messages", "skstack.runner", "skstack.substitution"}


@cache
def modules() -> dict[str, Path]:
    files = [REPOSITORY / "app.py", *sorted((REPOSITORY / "skstack").rglob("*.py"))]
    named = {".".join(file.relative_to(REPOSITORY).with_suffix("").parts): file for file in files}
    return {name.removesuffix(".__init__"): file for name, file in named.items()}


@cache
def imports(module: str) -> frozenset[str]:
    """Return the full names of what a module imports: modules of ours, else `package.name`.

    Models that belong to each other may name each other's types: such an import is never carried out.
    """
    tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
    types_only = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found = {(name, node in types_only) for node in ast.walk(tree) for name in _imported(node)}
    return frozenset(name for name, types in found if not (types and name.endswith(".models")))


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "a relative import hides where it goes"
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            ours = name.startswith("skstack")
            yield (node.module or "") if ours and name not in modules() else name


def arrows(*prefixes: str) -> list[tuple[str, str]]:
    return [(module, name) for module in modules() if _within(module, prefixes) for name in imports(module)]


def _within(module: str, prefixes: tuple[str, ...] | set[str]) -> bool:
    return any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes)


def feature(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "skstack" and parts[1] in FEATURES else None


def is_outer(module: str) -> bool:
    layer = module.split(".")[2:3]
    return feature(module) is not None and any(part in OUTER or part.endswith("_views") for part in layer)


def shown(wrong: list[tuple[str, str]]) -> str:
    return "\n".join(f"{module} imports {name}" for module, name in sorted(wrong))


def test_every_module_has_its_place() -> None:
    packages = {f"skstack.{name}" for name in ("web", "runner", "substitution")}
    placed = BASE | TOP | {"skstack"}
    lost = [
        module
        for module in modules()
        if not (feature(module) or module in placed or _within(module, packages))
    ]
    assert lost == [], "say in this file where they belong"


@pytest.mark.parametrize("name", ["messages", "errors", "states"])
def test_words_and_states_need_the_standard_library_only(name: str) -> None:
    allowed = sys.stdlib_module_names | {"skstack"}
    wrong = [
        (module, used) for module, used in arrows(f"skstack.{name}") if used.split(".")[0] not in allowed
    ]
    wrong += [
        (module, used)
        for module, used in arrows(f"skstack.{name}")
        if used.startswith("skstack") and used != "skstack.messages"
    ]
    assert not wrong, shown(wrong)


def test_substitution_needs_the_standard_library_and_messages_only() -> None:
    allowed = {"skstack.messages", "skstack.substitution"}
    wrong = [
        (module, name)
        for module, name in arrows("skstack.substitution")
        if not (_within(name, allowed) or name.split(".")[0] in sys.stdlib_module_names)
    ]
    assert not wrong, shown(wrong)


def test_the_runner_knows_nothing_of_the_web_the_database_or_a_feature() -> None:
    wrong = [
        (module, name)
        for module, name in arrows("skstack.runner")
        if name.split(".")[0].partition("_")[0] in WEB_AND_DATABASE
        or (name.startswith("skstack") and not _within(name, RUNNER_KNOWS))
    ]
    assert not wrong, shown(wrong)


def test_the_foundation_knows_no_feature() -> None:
    wrong = [
        (module, name)
        for module, name in arrows(*BASE)
        if feature(name) or _within(name, TOP | {"skstack.web"})
    ]
    assert not wrong, shown(wrong)


def test_the_shared_page_machinery_knows_no_feature() -> None:
    wrong = [
        (module, name) for module, name in arrows("skstack.web") if feature(name) and name not in WEB_KNOWS
    ]
    assert not wrong, shown(wrong)


def test_features_use_only_those_before_them() -> None:
    wrong = []
    for module, name in arrows("skstack"):
        ours, theirs = feature(module), feature(name)
        if ours and theirs and not is_outer(module) and FEATURES.index(theirs) > FEATURES.index(ours):
            wrong.append((module, name))
    assert not wrong, shown(wrong)


def test_what_is_inside_a_feature_does_not_see_its_pages() -> None:
    wrong = [
        (module, name)
        for module, name in arrows("skstack")
        if feature(module)
        and not is_outer(module)
        and (is_outer(name) or (_within(name, {"skstack.web"}) and name not in INSIDE_KNOWS))
    ]
    assert not wrong, shown(wrong)


def test_what_is_inside_a_feature_knows_no_request() -> None:
    wrong = [
        (module, name)
        for module, name in arrows("skstack")
        if feature(module) and not is_outer(module) and name in REQUEST
    ]
    assert not wrong, shown(wrong)


def test_pages_of_a_feature_import_no_pages_of_another() -> None:
    pages = {"views", "api", "cli"}
    wrong = [
        (module, name)
        for module, name in arrows("skstack")
        if feature(module)
        and feature(name) not in (None, feature(module))
        and name.split(".")[2:3]
        and name.split(".")[2] in pages
    ]
    assert not wrong, shown(wrong)


def test_models_only_answer() -> None:
    wrong = [
        (module, name)
        for module, name in arrows("skstack")
        if feature(module)
        and module.endswith(".models")
        and name.startswith("skstack.")
        and name.rpartition(".")[2] in ("services", "queries", "forms", "tasks")
    ]
    assert not wrong, shown(wrong)


def test_nothing_imports_what_puts_it_together() -> None:
    wrong = [
        (module, name)
        for module, name in arrows("skstack")
        if name in TOP and module not in TOP | {"skstack"}
    ]
    assert not wrong, shown(wrong)


def test_the_command_line_and_the_web_reach_the_runner_by_its_doors_only() -> None:
    doors = {"skstack.runner.client", "skstack.runner.protocol", "skstack.runner.log_protocol"}
    wrong = [
        (module, name)
        for module, name in arrows("skstack")
        if _within(name, {"skstack.runner"}) and not _within(module, {"skstack.runner"}) and name not in doors
    ]
    assert not wrong, shown(wrong)


def test_an_arrow_that_runs_the_wrong_way_would_be_seen() -> None:
    source = "def late():\n    from skstack.runs import services\n    import flask.globals\n    from flask import request"
    found = {name for node in ast.walk(ast.parse(source)) for name in _imported(node)}
    assert found == {"skstack.runs.services", "flask.globals", "flask.request"}
