"""The demo: a git repository of a small site, and a catalog of work orders that really do something with it."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from flask import current_app

from skstack.accounts import services as accounts
from skstack.accounts.models import User
from skstack.catalog import catalog_file
from skstack.catalog.models import WorkOrder
from skstack.extensions import db

_CATALOG = Path(__file__).with_name("demo_catalog.yaml")
_SITE = (
    ("Begin the site", "<h1>Hello</h1>"),
    ("Say who we are", "<h1>Hello</h1><p>We keep things running.</p>"),
    ("Add the opening hours", "<h1>Hello</h1><p>We keep things running, from nine to five.</p>"),
    ("Be there at night too", "<h1>Hello</h1><p>We keep things running, day and night.</p>"),
)


def seed(*, if_empty: bool = False) -> Iterator[str]:
    """Make the demo, and yield what to tell the person at the terminal. With `if_empty`, only where nothing is configured."""
    if if_empty and db.session.scalar(sa.select(WorkOrder.id).limit(1)) is not None:
        return
    folder = Path(current_app.config["SKSTACK"].instance) / "demo"
    make_repository(folder / "site.git")
    (folder / "sites").mkdir(exist_ok=True)
    text = _CATALOG.read_text(encoding="utf-8").replace("{folder}", str(folder))
    catalog_file.apply(text, actor=None, source="demo")
    yield f"Seeded the demo: work orders for DEV, STAGE and PROD, and a git repository in {folder}"
    for name, what in (("alice", "may only submit"), ("bob", "decides what she submits for approval")):
        user = db.session.scalars(sa.select(User).where(User.username == name)).one()
        if user.password_hash is None:
            password = secrets.token_urlsafe(9)
            accounts.set_password(user, password, actor=None)
            yield f"Created somebody who {what}: user {name}, password {password}"


def make_repository(path: Path) -> None:
    """Create a bare repository with a few commits on `main`; nothing if it is there. Needs git."""
    if path.exists():
        return
    making = path.with_name(path.name + ".new")
    making.mkdir(parents=True)
    _git(making, "init", "--quiet", "--bare", "--initial-branch=main")
    parent = ""
    for number, (subject, body) in enumerate(_SITE, start=1):
        files = {
            "index.html": f"<!doctype html><title>Site</title>{body}\n",
            "VERSION": f"1.{number} ({subject})\n",
        }
        entries = "".join(
            f"100644 blob {_git(making, 'hash-object', '-w', '--stdin', text=text)}\t{name}\n"
            for name, text in files.items()
        )
        tree = _git(making, "mktree", text=entries)
        parent = _git(making, "commit-tree", tree, *(("-p", parent) if parent else ()), "-m", subject)
    _git(making, "update-ref", "refs/heads/main", parent)
    making.rename(path)


def _git(repository: Path, *arguments: str, text: str = "") -> str:
    identity = {"NAME": "skstack demo", "EMAIL": "demo@localhost"}
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(repository),
        "GIT_DIR": str(repository),
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in identity.items()},
    }
    done = subprocess.run(
        ["git", *arguments], input=text, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
