"""*Verify* on a config center, against a real sshd."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from skstack import hosting
from skstack.audit.models import AuditEvent
from skstack.catalog import services, verification
from skstack.catalog.models import ConfigCenter
from skstack.extensions import db
from skstack.runner.client import RunnerHost
from tests.catalog.test_pages import text_of
from tests.sshd import Sshd


@pytest.fixture(autouse=True)
def host(context: Flask) -> Iterator[RunnerHost]:
    made = RunnerHost()
    hosting.set_runner_host(made)
    yield made
    hosting.set_runner_host(None)
    made.close()


def config_center(sshd: Sshd, **values: Any) -> ConfigCenter:
    base = {
        "name": "ansible01",
        "host": "127.0.0.1",
        "port": sshd.port,
        "username": sshd.username,
        "login": "key",
        "private_key": sshd.private_key,
    }
    return services.create(ConfigCenter, {**base, **values}, actor=None)


def test_the_key_is_shown_accepted_once_then_the_time_is_shown(pages: FlaskClient, sshd: Sshd) -> None:
    center = config_center(sshd)
    path = f"/config/config-centers/{center.id}"

    first = pages.post(f"{path}/verify")
    assert sshd.fingerprint in first.text
    assert "not accepted yet" in text_of(first)
    assert center.verified_at is None
    key = re.search(r'name="key" value="([^"]+)"', first.text)
    assert key
    assert key[1].replace("&#43;", "+") == sshd.host_key

    accepted = pages.post(f"{path}/host-key", data={"key": sshd.host_key})
    assert "It works: the host says it is" in text_of(accepted)
    again = pages.post(f"{path}/verify", headers={"HX-Request": "true"})
    assert "It works" in text_of(again)
    assert sshd.fingerprint in pages.get(path).text

    db.session.expire_all()
    assert center.verified_at is not None
    assert center.host_key == sshd.host_key
    actions = db.session.scalars(sa.select(AuditEvent.action).order_by(AuditEvent.id)).all()
    assert actions.count("config_center.host_key_accepted") == 1
    assert actions.count("config_center.verified") == 2


def test_another_key_than_the_accepted_one_is_refused_and_shown(pages: FlaskClient, sshd: Sshd) -> None:
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILeINnmHsNoaFWzXIwYs0CmbCEQpBNMn0Wn+55+StLON"
    center = config_center(sshd, host_key=other)

    response = pages.post(f"/config/config-centers/{center.id}/verify")

    assert "another key than the accepted one" in text_of(response)
    db.session.expire_all()
    assert (center.host_key, center.verified_at) == (other, None)


def test_what_is_no_key_is_not_accepted(pages: FlaskClient, sshd: Sshd) -> None:
    center = config_center(sshd)

    assert pages.post(f"/config/config-centers/{center.id}/host-key", data={"key": "x"}).status_code == 422
    db.session.expire_all()
    assert center.host_key is None


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"port": 1}, "127.0.0.1"),
        ({"host": "does-not-exist.invalid"}, "does-not-exist.invalid"),
        ({"login": "password", "password": "wrong"}, ""),
        ({"username": "nobody-here"}, ""),
    ],
)
def test_what_does_not_work_is_told_exactly(sshd: Sshd, values: dict[str, Any], told: str) -> None:
    center = config_center(sshd, host_key=sshd.host_key, **values)

    verified = verification.verify(center, actor=None)

    assert not verified.time
    assert verified.error is not None
    assert told in str(verified.error)
    assert "wrong" not in str(verified.error) or "password" in str(verified.error).lower()
    assert center.verified_at is None


def test_a_key_with_a_passphrase_signs_in(sshd: Sshd) -> None:
    file = sshd.new_user_key("with_passphrase", "-t", "ed25519", "-N", "open sesame")
    center = config_center(
        sshd, host_key=sshd.host_key, private_key=file.read_text(), passphrase="open sesame"
    )

    assert verification.verify(center, actor=None).time
