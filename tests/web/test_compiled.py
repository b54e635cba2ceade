"""Compiled templates are kept in the instance, and a page needs neither them nor a place for them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from flask import Flask
from jinja2 import Environment

from skstack import create_app
from skstack.config import Settings


@pytest.fixture
def folder(settings: Settings) -> Path:
    return settings.instance / "templates"


def compilations(app: Flask, monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Return the names of the templates that are compiled from now on."""
    made: list[str | None] = []
    compile_ = Environment.compile

    def noted(self: Environment, source: str, name: str | None = None, *args: object) -> object:
        made.append(name)
        return compile_(self, source, name, *args)

    monkeypatch.setattr(Environment, "compile", noted)
    return made


def test_a_second_process_compiles_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    first = create_app(settings)
    made = compilations(first, monkeypatch)
    page = first.test_client().get("/sign-in")
    assert page.status_code == 200
    assert "base.html" in made
    made.clear()
    assert create_app(settings).test_client().get("/sign-in").status_code == 200
    assert made == []


def test_only_skstack_reads_and_writes_them(settings: Settings, folder: Path) -> None:
    create_app(settings)
    assert folder.stat().st_mode & 0o077 == 0


def test_a_page_is_shown_without_a_place_for_them(settings: Settings, folder: Path) -> None:
    app = create_app(settings)
    shutil.rmtree(folder)
    folder.write_text("in the way")
    assert app.test_client().get("/sign-in").status_code == 200
