"""`backup` and `restore` with real processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.server import Server


def test_while_a_command_runs_and_on_another_host(make_server: Callable[..., Server], tmp_path: Path) -> None:
    """The commands themselves, with real processes: the run goes on, and elsewhere nobody starts it again."""
    server = make_server()
    mark = tmp_path / "mark"
    server.catalog(
        f"environments: [{{name: DEV}}]\nwork_orders: [{{name: slow, environment: DEV, active: true, "
        f'main_task: "echo begun >> {mark}\\nuntil test -e {mark}.go; do sleep 0.1; done"}}]'
    )
    server.start()
    ticket = server.submit("slow")
    server.wait_for(ticket["id"], lambda found: found["runs"] and found["runs"][0]["state"] == "running")
    said = server.program("backup", str(tmp_path / "taken.tar.gz"))
    assert "It holds the keys" in said
    mark.with_name("mark.go").touch()
    assert server.wait_for(ticket["id"])["status"] == "succeeded"
    server.stop()
    other = Server(tmp_path / "other")
    (tmp_path / "other").mkdir()
    assert "1 runs had not ended" in other.program("restore", str(tmp_path / "taken.tar.gz"))
    other.token = server.token
    other.start()
    try:
        assert other.ticket(ticket["id"])["status"] == "unknown"
    finally:
        other.stop()
    assert mark.read_text() == "begun\n"
    assert "holds" in other.program("audit", "verify")
