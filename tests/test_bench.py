"""Row 7 of the benchmark makes what it says, and asks for pages that are there. At its full size it is no test."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from skstack.audit.models import AuditEvent
from skstack.extensions import db
from skstack.tickets.models import Ticket
from skstack.tickets.search import found_by
from tests.bench import rows_pages, seeding
from tests.bench.table import Results
from tests.factories import root, sign_in

pytestmark = pytest.mark.both_databases


def test_row_7_asks_for_pages_over_what_was_made(app: Flask, client: FlaskClient) -> None:
    with app.app_context():
        sign_in(client, root())
        seeding.seed(400, 900, days=1)
        floor = rows_pages.rows_by_key(2)
        assert db.session.scalar(sa.select(sa.func.count()).select_from(Ticket)) == 400
        assert (db.session.scalar(sa.select(sa.func.max(AuditEvent.id))) or 0) > 900
        counted = sa.select(sa.func.count()).select_from(Ticket)
        assert db.session.scalar(counted.where(found_by("monthly"))) == 400
        assert 0 < (db.session.scalar(counted.where(found_by("支付回调"))) or 0) < 200

    def ask(path: str) -> tuple[int, bytes]:
        answer = client.get(path)
        return answer.status_code, answer.data

    results = Results()
    rows_pages.pages(results, "here", ask, 400, 1, floor)
    # A half and a nineteenth twentieth of each.
    assert len(results.rows) == 2 * len(rows_pages.addresses(400))
    assert all(row.ours > 0 for row in results.rows)
