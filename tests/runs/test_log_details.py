"""*Log details*: what a plugin wrote for a ticket, where it ran, and nothing else."""

from __future__ import annotations

import html
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from skstack import hosting
from skstack.accounts.models import User
from skstack.catalog.models import Category, ConfigCenter
from skstack.config import ROOT
from skstack.db import transaction
from skstack.extensions import db
from skstack.runner.client import RunnerHost
from skstack.runs import log_details
from skstack.runs.cells import MAX_COLUMNS
from skstack.tickets.models import Ticket
from tests.factories import alice, bob, sign_in
from tests.fake_runner import begin, end, run_of
from tests.orders import make_category, make_config_center, make_ticket, make_workorder
from tests.sshd import Sshd


@pytest.fixture(scope="module")
def host() -> Iterator[RunnerHost]:
    """Let the application use a runner host of its own."""
    made = RunnerHost()
    hosting.set_runner_host(made)
    yield made
    hosting.set_runner_host(None)
    made.close()


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    return folder


@pytest.fixture
def reader(client: FlaskClient) -> FlaskClient:
    sign_in(client, alice())
    return client


def ticket_of(logs: Path, center: ConfigCenter | None = None, *, ended: bool = True) -> Ticket:
    """Return Alice's ticket of a work order whose category has this directory."""
    make_category("Docker", log_directory=str(logs))
    ticket = make_ticket(alice(), make_workorder(category="Docker", config_center=center))
    run = begin(run_of(ticket))
    if ended:
        end(run)
    db.session.expire_all()
    return ticket


def write(folder: Path, ticket: Ticket, content: bytes, *, prefix: str = "deploy.") -> Path:
    file = folder / f"{prefix}{ticket.task_name_created}"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    return file


@pytest.mark.usefixtures("host", "context")
def test_the_newest_is_shown_and_any_can_be_downloaded_byte_for_byte(reader: FlaskClient, logs: Path) -> None:
    ticket = ticket_of(logs)
    os.utime(write(logs / "bak", ticket, b"older\n", prefix="a."), (1, 1))
    content = b"\x1b[31mred\x1b[0m <script>alert(1)</script>\r\nraw \xff\n"
    write(logs, ticket, content)
    write(logs, ticket, b"of another ticket", prefix="x.").rename(logs / "x.other.20260101.000000")
    page = reader.get(f"/tickets/{ticket.id}/log-details").text
    assert "&lt;script&gt;" in page
    assert "<script>alert" not in page
    assert ">red</span>" in page
    assert "a.order" in page
    assert "of another ticket" not in page
    older = reader.get(f"/tickets/{ticket.id}/log-details?file=a.{ticket.task_name_created}&bak=1").text
    assert "older" in older
    assert "raw" not in older
    answer = reader.get(f"/tickets/{ticket.id}/log-details/file?file=deploy.{ticket.task_name_created}")
    assert answer.data == content
    assert answer.headers["Content-Length"] == str(len(content))
    assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert "attachment" in answer.headers["Content-Disposition"]


@pytest.mark.usefixtures("host", "context")
def test_of_a_large_file_the_end_is_shown_and_all_is_downloaded(reader: FlaskClient, logs: Path) -> None:
    ticket = ticket_of(logs)
    content = b"".join(b"line %08d\n" % number for number in range(200_000))
    write(logs, ticket, content)
    page = reader.get(f"/tickets/{ticket.id}/log-details").text
    assert "Only the end of the file is shown here" in page
    assert "line 00199999" in page
    assert "line 00000001" not in page
    assert page.count("line 00") == log_details.SHOWN // 14
    assert reader.get(f"/tickets/{ticket.id}/log-details/file").data == content


@pytest.mark.usefixtures("host", "context")
def test_of_a_long_line_it_is_said_how_much_is_not_shown_and_where_it_is(
    reader: FlaskClient, logs: Path
) -> None:
    ticket = ticket_of(logs)
    write(logs / "bak", ticket, b"short\n<" + b"x" * (MAX_COLUMNS + 2047) + b"\nlast\n")
    page = reader.get(f"/tickets/{ticket.id}/log-details").text
    assert page.count("the line goes on") == 1
    assert f"&lt;{'x' * (MAX_COLUMNS - 1)}<a" in page
    note = re.search(r'<a class="omitted" href="([^"]+)" download>([^<]+)</a>', page)
    assert note is not None
    assert note[2] == "… the line goes on, 2.0 KiB more: download the file"
    assert b"x" * (MAX_COLUMNS + 2047) in reader.get(html.unescape(note[1])).data


@pytest.mark.usefixtures("host", "context")
def test_of_one_line_that_is_longer_than_what_is_shown_something_is_shown(
    reader: FlaskClient, logs: Path
) -> None:
    ticket = ticket_of(logs)
    write(logs, ticket, b"x" * (log_details.SHOWN + 1) + b"\n")
    page = reader.get(f"/tickets/{ticket.id}/log-details").text
    assert "The file is empty" not in page
    assert "x" * MAX_COLUMNS + "<a" in page


@pytest.mark.usefixtures("context")
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_who_reads_nothing_of_a_download_leaves_no_runner_behind(
    reader: FlaskClient, logs: Path, host: RunnerHost, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = ticket_of(logs)
    write(logs, ticket, b"x" * (3 << 20))
    # As long as they are held here, nothing else than closing them closes them.
    opened: list[socket.socket] = []
    really_open = host._open

    def keep(*arguments: Any) -> socket.socket:
        opened.append(really_open(*arguments))
        return opened[-1]

    monkeypatch.setattr(host, "_open", keep)
    answer = reader.open(f"/tickets/{ticket.id}/log-details/file", method=method, buffered=False)
    assert answer.headers["Content-Length"] == str(3 << 20)
    answer.close()
    assert [one.fileno() for one in opened] == [-1]


@pytest.mark.usefixtures("host", "context")
def test_while_it_runs_it_is_read_again_and_afterwards_not(reader: FlaskClient, logs: Path) -> None:
    ticket = ticket_of(logs, ended=False)
    page = reader.get(f"/tickets/{ticket.id}/log-details").text
    assert "None was found there" in page
    assert str(logs) in page
    assert ticket.task_name_created in page
    assert "every 5s" in page
    file = write(logs, ticket, b"one\n")
    fragment = {"HX-Request": "true"}
    assert "one" in reader.get(f"/tickets/{ticket.id}/log-details", headers=fragment).text
    file.write_bytes(b"one\ntwo\n")
    answer = reader.get(f"/tickets/{ticket.id}/log-details", headers=fragment).text
    assert "two" in answer
    assert "<html" not in answer
    end(run_of(ticket))
    assert "every 5s" not in reader.get(f"/tickets/{ticket.id}/log-details", headers=fragment).text


@pytest.mark.usefixtures("host", "context")
def test_what_is_asked_for_by_name_must_have_been_found(
    reader: FlaskClient, logs: Path, tmp_path: Path
) -> None:
    ticket = ticket_of(logs)
    (tmp_path / "secret").write_bytes(b"the secret")
    (tmp_path / f"up.{ticket.task_name_created}").write_bytes(b"the secret")
    (logs / f"link.{ticket.task_name_created}").symlink_to(tmp_path / "secret")
    for name in (
        "../secret",
        f"../up.{ticket.task_name_created}",
        f"link.{ticket.task_name_created}",
        str(tmp_path / "secret"),
        "secret",
        "..",
        "\0",
    ):
        for bak in ("", "1"):
            asked = {"file": name, "bak": bak}
            page = reader.get(f"/tickets/{ticket.id}/log-details", query_string=asked)
            assert page.status_code == 200
            assert "the secret" not in page.text
            answer = reader.get(f"/tickets/{ticket.id}/log-details/file", query_string=asked)
            assert answer.status_code == 503
            assert b"the secret" not in answer.data


@pytest.mark.parametrize(("reads", "status"), [(None, 303), (bob, 404), (alice, 200)])
def test_only_who_may_see_the_ticket_may_see_its_files(
    app: Flask,
    client: FlaskClient,
    logs: Path,
    host: RunnerHost,
    reads: Callable[[], User] | None,
    status: int,
) -> None:
    with app.app_context():
        ticket = ticket_of(logs)
        write(logs, ticket, b"zebra")
        if reads is not None:
            sign_in(client, reads())
    for path in ("log-details", "log-details/file"):
        answer = client.get(f"/tickets/{ticket.id}/{path}")
        assert answer.status_code == status
        assert (b"zebra" in answer.data) is (status == 200)


@pytest.mark.usefixtures("context")
def test_a_ticket_leads_there_only_if_its_category_says_where(reader: FlaskClient, logs: Path) -> None:
    ticket = ticket_of(logs)
    link = f"/tickets/{ticket.id}/log-details"
    assert link in reader.get(f"/tickets/{ticket.id}").text
    with transaction():
        db.session.query(Category).update({"log_directory": ""})
    assert link not in reader.get(f"/tickets/{ticket.id}").text
    assert reader.get(link).status_code == 404
    assert reader.get(f"{link}/file").status_code == 404


@pytest.mark.usefixtures("host", "context")
def test_over_ssh_they_are_looked_for_where_the_ticket_ran(
    reader: FlaskClient, logs: Path, sshd: Sshd
) -> None:
    target = sshd.target()
    center = make_config_center(
        "far",
        host=target.host,
        port=target.port,
        username=target.username,
        host_key=target.host_key,
        login="key",
        private_key=target.private_key,
    )
    ticket = ticket_of(logs, center)
    (logs / os.fsdecode("旧日志.".encode("gbk") + ticket.task_name_created.encode())).write_bytes(b"x")
    write(logs, ticket, b"over there\n", prefix="日志.")
    page = reader.get(f"/tickets/{ticket.id}/log-details").text
    assert "over there" in page
    assert f"日志.{ticket.task_name_created}" in page
    assert reader.get(f"/tickets/{ticket.id}/log-details/file").data == b"over there\n"
    with transaction():
        db.session.get_one(ConfigCenter, center.id).port = 1
    page = reader.get(f"/tickets/{ticket.id}/log-details").text
    assert "was changed since the submission (Port)" in page
    assert "over there" not in page
    assert reader.get(f"/tickets/{ticket.id}/log-details/file").status_code == 503


def test_what_an_administrator_may_say(client: FlaskClient, context: Flask) -> None:
    from tests.factories import root

    sign_in(client, root())
    for wrong in ("logs", "~/logs", "a/b"):
        answer = client.post("/config/categories/new", data={"name": "Docker", "log_directory": wrong})
        assert answer.status_code == 422
        assert "absolute path" in answer.text
    answer = client.post(
        "/config/categories/new", data={"name": "Docker", "log_directory": "/var/log/deploy"}
    )
    assert answer.status_code == 303
    assert db.session.query(Category).one().log_directory == "/var/log/deploy"


def test_the_web_does_not_load_paramiko_for_it() -> None:
    program = "import sys, app; print('paramiko' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
