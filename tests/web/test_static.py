"""What the browser is given: vendored files as they came, every icon there, nothing the policy would refuse."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

ROOT = Path(__file__).resolve().parents[2]
VENDOR = ROOT / "static" / "vendor"
ICONS = VENDOR / "bootstrap-icons-1.13.2"
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))


def test_vendored_files_are_the_ones_whose_sums_were_noted() -> None:
    noted = {}
    for line in (VENDOR / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ", 1)
        noted[(VENDOR / name).resolve()] = digest
    present = {
        path for path in VENDOR.rglob("*") if path.is_file() and path.name not in ("README.md", "SHA256SUMS")
    }

    assert present == set(noted)
    assert {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in noted} == noted


def test_every_vendored_package_has_its_licence_and_a_row_in_the_readme() -> None:
    readme = (VENDOR / "README.md").read_text()
    for folder in (path for path in VENDOR.iterdir() if path.is_dir()):
        name, version = folder.name.rsplit("-", 1)
        assert (folder / "LICENSE").is_file(), folder.name
        assert f"| `{name}` | {version} |" in readme


def test_the_sprite_holds_exactly_the_icons_of_the_list() -> None:
    listed = (ICONS / "icons.txt").read_text().split()
    drawn = re.findall(r'<symbol id="([^"]+)"', (ICONS / "sprite.svg").read_text())

    assert listed == sorted(set(listed))
    assert drawn == listed


def test_every_icon_that_templates_and_code_name_is_in_the_sprite() -> None:
    drawn = set((ICONS / "icons.txt").read_text().split())
    named: dict[str, str] = {}
    for path in TEMPLATES:
        text = path.read_text()
        # `icon("a" if x else "b", "class")`: every string of the first argument that looks like an icon.
        for argument in re.findall(r"\bicon\(((?:[^(),]|\([^()]*\))+)", text):
            compared = re.sub(r'[=!]=\s*"[^"]*"', "", argument)
            named |= dict.fromkeys(re.findall(r'"([a-z0-9-]+)"', compared), str(path))
        named |= dict.fromkeys(re.findall(r'icon_name="([a-z0-9-]+)"', text), str(path))
        named |= dict.fromkeys(re.findall(r'"icon": "([a-z0-9-]+)"', text), str(path))
    macros = (ROOT / "templates" / "_macros.html").read_text()
    named |= dict.fromkeys(
        re.findall(r'\("(?:good|bad|busy|wait|odd|idle)", "([a-z0-9-]+)"\)', macros), "status_badge"
    )
    for path in (ROOT / "skstack").rglob("*.py"):
        named |= dict.fromkeys(re.findall(r'"icon": "([a-z0-9-]+)"', path.read_text()), str(path))

    assert len(named) > 30
    assert {name: where for name, where in named.items() if name not in drawn} == {}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT / "templates")))
def test_no_template_needs_what_the_content_security_policy_refuses(template: Path) -> None:
    text = re.sub(r"\{#.*?#\}", "", template.read_text(), flags=re.DOTALL)

    markup = re.sub(r"\{[{%].*?[%}]\}", "", text, flags=re.DOTALL)

    assert not re.search(r"<style\b", markup)
    assert not re.search(r"<[a-z][^>]*\sstyle\s*=", markup)
    assert not re.search(r"<script\b(?![^>]*\ssrc=)", markup)
    assert not re.search(r"<[a-z][^>]*\son[a-z]+\s*=", markup)
    assert not re.search(r"\bhx-on\b|[\"']js:|javascript:", text)
    assert not re.search(r'hx-trigger="[a-z:]+\[', text)
    assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", text)


def test_first_visit_stays_within_its_weight() -> None:
    """Everything that a page with a searchable select fetches, compressed as the server does it."""
    fetched = [
        VENDOR / "bootstrap-5.3.9" / "bootstrap.min.css",
        VENDOR / "htmx.org-4.0.1" / "htmx.min.js",
        VENDOR / "tom-select-2.6.2" / "tom-select.popular.min.js",
        VENDOR / "tom-select-2.6.2" / "tom-select.bootstrap5.min.css",
        ICONS / "sprite.svg",
        ROOT / "static" / "favicon.svg",
        *(ROOT / "static" / "css").glob("*.css"),
        *(ROOT / "static" / "js").glob("*.js"),
    ]
    weight = sum(len(gzip.compress(path.read_bytes(), 6)) for path in fetched)

    # 15 KB of the 120 are left for the page itself.
    assert weight <= (120 - 15) * 1024


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_static_files_are_compressed_for_whoever_knows_only_one_way(
    client: FlaskClient, encoding: str
) -> None:
    path = "/static/vendor/bootstrap-5.3.9/bootstrap.min.css"
    plain = client.get(path, headers={"Accept-Encoding": "identity"})
    answer = client.get(path, headers={"Accept-Encoding": encoding})

    assert answer.headers["Content-Encoding"] == encoding
    assert len(answer.data) < len(plain.data) / 5
    if encoding == "gzip":
        assert gzip.decompress(answer.data) == plain.data
    again = client.get(path, headers={"Accept-Encoding": encoding, "If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304
