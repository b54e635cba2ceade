"""The migrations make what the models describe, on both databases."""

from __future__ import annotations

import warnings

import pytest
import sqlalchemy as sa
from flask import Flask

from skstack import migrating
from skstack.catalog.models import WorkOrder
from skstack.db import utcnow
from skstack.extensions import db
from skstack.tickets.models import Ticket
from skstack.tickets.search import found_by


@pytest.mark.both_databases
def test_the_migrations_make_what_the_models_describe(context: Flask) -> None:
    import flask_migrate

    migrating.bind(context)
    with warnings.catch_warnings():
        # SQLite cannot tell how the index over lower(username) is made, so Alembic leaves it out of the comparison.
        warnings.filterwarnings("ignore", message="autogenerate skipping|Skipped unsupported reflection")
        flask_migrate.check()


def test_migrating_twice_changes_nothing(context: Flask) -> None:
    migrating.upgrade(context)
    migrating.upgrade(context)


@pytest.mark.both_databases
def test_rows_of_the_first_release_survive_every_migration(context: Flask) -> None:
    import flask_migrate

    migrating.bind(context)
    flask_migrate.downgrade(revision="0001")
    with db.engine.begin() as connection:
        for statement in _FIRST_ROWS:
            connection.execute(sa.text(statement), {"now": utcnow()})

    flask_migrate.upgrade()

    workorder = db.session.scalars(sa.select(WorkOrder)).one()
    assert [group.name for group in workorder.submit_groups] == ["ops"]
    assert (workorder.task_lock, workorder.approval_flow) == (False, None)
    ticket = db.session.scalars(sa.select(Ticket)).one()
    assert (ticket.workorder, ticket.levels, ticket.task_lock) == (workorder, [], False)
    for typed, finds in (("site", [ticket]), ("alice", [ticket]), ("nothing", [])):
        assert db.session.scalars(sa.select(Ticket).where(found_by(typed))).all() == finds


_FIRST_ROWS = (
    "INSERT INTO groups (id, name, description) VALUES (1, 'ops', '')",
    (
        "INSERT INTO users (id, username, display_name, email, superuser, active, language, timezone, created_at)"
        " VALUES (1, 'alice', '', '', false, true, '', '', :now)"
    ),
    "INSERT INTO environments (id, name, sort_order, description, version) VALUES (1, 'DEV', 1, '', 1)",
    (
        "INSERT INTO workorders (id, name, description, environment_id, active, template, builtin_variables,"
        " variable_group_on, pre_task, main_task, post_task, time_limit, allow_several, created_at, updated_at, version)"
        " VALUES (1, 'site', '', 1, true, false, '{}', true, '', 'true', '', 60, true, :now, :now, 1)"
    ),
    "INSERT INTO workorder_submit_groups (workorder_id, group_id) VALUES (1, 1)",
    (
        "INSERT INTO tickets (id, workorder_id, workorder_name, workorder_version, environment_id, environment_name,"
        " category_name, submitter_id, submitter_name, kind, status, submitted_values, note, auto_run, plan, plan_digest,"
        " created_at) VALUES (1, 1, 'site', 1, 1, 'DEV', '', 1, 'alice', 'foreground', 'succeeded', '{}', '', false,"
        " '{}', '', :now)"
    ),
)
