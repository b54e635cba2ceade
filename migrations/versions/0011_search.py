"""Add the search of tickets, their order by end, and which columns of a list a user wants to see"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

# Not a copy, as a migration has otherwise: what is searched has to be split as what is searched for is, whenever that was.
from skstack.tickets import search

revision = '0011'
down_revision = '0010'
branch_labels = None
depends_on = None

_AT_ONCE = 1000
_OLD = sa.text(
    "SELECT id, workorder_name, submitter_name, note, submitted_values, plan FROM tickets"
    " WHERE id > :after ORDER BY id LIMIT :most"
)


def upgrade() -> None:
    op.add_column(
        'users', sa.Column('columns', sa.JSON().with_variant(postgresql.JSONB(), 'postgresql'), nullable=True)
    )
    connection = op.get_bind()
    not_ended = '0001-01-01 00:00:00' + ('.000000' if connection.dialect.name == 'sqlite' else '+00')
    op.create_index('ix_tickets_ended_id', 'tickets', [sa.text(f"coalesce(finished_at, '{not_ended}')"), 'id'])
    if connection.dialect.name == 'sqlite':
        # Only what is looked up is kept: the texts stand in the tickets, and their length is not asked for.
        op.execute(
            "CREATE VIRTUAL TABLE ticket_search USING fts5"
            "(words, parts, content='', columnsize=0, prefix='2 3', tokenize='ascii')"
        )
        _fill(connection)
    else:
        op.create_table(
            'ticket_search',
            sa.Column('ticket_id', sa.Integer(), autoincrement=False, nullable=False),
            sa.Column('words', postgresql.TSVECTOR(), nullable=False),
            sa.ForeignKeyConstraint(
                ['ticket_id'],
                ['tickets.id'],
                name=op.f('fk_ticket_search_ticket_id_tickets'),
                ondelete='CASCADE',
            ),
            sa.PrimaryKeyConstraint('ticket_id', name=op.f('pk_ticket_search')),
        )
        _fill(connection)
        # Each ticket is put into its place at once: else every now and then one would wait for those of hundreds.
        op.create_index(
            'ix_ticket_search_words',
            'ticket_search',
            ['words'],
            postgresql_using='gin',
            postgresql_with={'fastupdate': 'off'},
        )
        op.execute('ANALYZE ticket_search')


def _fill(connection: sa.Connection) -> None:
    """Make the tickets that are there already ones that can be found. A million of them take some minutes."""
    after, dialect = 0, connection.dialect.name
    while old := connection.execute(_OLD, {'after': after, 'most': _AT_ONCE}).all():
        rows = []
        for number, workorder, submitter, note, values, plan in old:
            texts = search.texts_of(workorder, submitter, note, _read(values), _read(plan))
            rows.append(search.row(dialect, number, texts))
        connection.execute(search.WRITE[dialect], rows)
        after = old[-1].id


def _read(stored: Any) -> Any:
    """SQLite keeps JSON as text; PostgreSQL's driver reads it."""
    return json.loads(stored) if isinstance(stored, str) else stored


def downgrade() -> None:
    op.drop_table('ticket_search')
    op.drop_index('ix_tickets_ended_id', 'tickets')
    op.drop_column('users', 'columns')
