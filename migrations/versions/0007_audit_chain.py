"""Chain the audit events"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from flask import current_app
from sqlalchemy.dialects import postgresql

from skstack.audit import chain

revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None

BATCH = 5000


def upgrade() -> None:
    op.create_table(
        'audit_head',
        sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('sequence', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
        sa.Column('hash', sa.LargeBinary(), nullable=False),
        sa.CheckConstraint('id = 1', name=op.f('ck_audit_head_one')),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_audit_head')),
    )
    op.create_table(
        'audit_checks',
        sa.Column('id', sa.Integer(), nullable=False),
        sa.Column('by', sa.String(length=64), nullable=False),
        sa.Column('begun_at', sa.DateTime(timezone=True), nullable=False),
        sa.Column('seen_at', sa.DateTime(timezone=True), nullable=False),
        sa.Column('ended_at', sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            'progress', sa.JSON().with_variant(postgresql.JSONB(), 'postgresql'), nullable=False
        ),
        sa.Column('problem', sa.JSON().with_variant(postgresql.JSONB(), 'postgresql'), nullable=True),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_audit_checks')),
    )
    for name in ('digest', 'previous', 'hash'):
        op.add_column('audit_events', sa.Column(name, sa.LargeBinary(), nullable=True))
    is_postgresql = op.get_bind().dialect.name == 'postgresql'
    if is_postgresql:
        op.execute('ALTER TABLE audit_events ALTER COLUMN changes TYPE text USING changes::text')
        op.execute('ALTER TABLE audit_events ALTER COLUMN id DROP DEFAULT')
        op.execute('DROP SEQUENCE IF EXISTS audit_events_id_seq')
    _chain(op.get_bind(), is_postgresql=is_postgresql)
    with op.batch_alter_table('audit_events', schema=None) as batch_op:
        batch_op.alter_column('previous', existing_type=sa.LargeBinary(), nullable=False)
        batch_op.alter_column('hash', existing_type=sa.LargeBinary(), nullable=False)
        if not is_postgresql:
            batch_op.alter_column(
                'changes', existing_type=sa.JSON(), type_=sa.Text(), existing_nullable=False
            )


def downgrade() -> None:
    with op.batch_alter_table('audit_events', schema=None) as batch_op:
        for name in ('hash', 'previous', 'digest'):
            batch_op.drop_column(name)
    if op.get_bind().dialect.name == 'postgresql':
        op.execute('ALTER TABLE audit_events ALTER COLUMN changes TYPE jsonb USING changes::jsonb')
        op.execute('CREATE SEQUENCE audit_events_id_seq OWNED BY audit_events.id')
        op.execute("SELECT setval('audit_events_id_seq', coalesce(max(id), 0) + 1, false) FROM audit_events")
        op.execute("ALTER TABLE audit_events ALTER COLUMN id SET DEFAULT nextval('audit_events_id_seq')")
    else:
        with op.batch_alter_table('audit_events', schema=None) as batch_op:
            batch_op.alter_column(
                'changes', existing_type=sa.Text(), type_=sa.JSON(), existing_nullable=False
            )
    op.drop_table('audit_checks')
    op.drop_table('audit_head')


def _chain(connection: sa.Connection, *, is_postgresql: bool) -> None:
    """Number and seal the events that are there. What they say is trusted as it stands now."""
    key = current_app.extensions['skstack.audit'][0]
    # The very text that is stored, with the time in the form that is sealed.
    at = "to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')" if is_postgresql else 'at'
    rows = sa.text(
        f'SELECT id, {at}, actor_id, actor, address, action, object_type, object_id, object_name, changes'  # noqa: S608 - the two texts above
        ' FROM audit_events WHERE id > :last ORDER BY id LIMIT :batch'
    )
    last, sequence, previous = 0, 0, chain.START
    while found := connection.execute(rows, {'last': last, 'batch': BATCH}).all():
        written = []
        for row in found:
            sequence += 1
            sealed = chain.seal(key, [sequence, *row[1:], None, previous.hex()])
            written.append({'old': row[0], 'new': sequence, 'previous': previous, 'sealed': sealed})
            previous = sealed
        connection.execute(_SEALED, written)
        last = found[-1][0]
    if sequence:
        connection.execute(_HEAD, {'sequence': sequence, 'sealed': previous})


_events = sa.table(
    'audit_events', sa.column('id'), sa.column('previous', sa.LargeBinary), sa.column('hash', sa.LargeBinary)
)
# In ascending order, so that a lower number is always free.
_SEALED = (
    sa.update(_events)
    .where(_events.c.id == sa.bindparam('old'))
    .values(id=sa.bindparam('new'), previous=sa.bindparam('previous'), hash=sa.bindparam('sealed'))
)
_head = sa.table('audit_head', sa.column('id'), sa.column('sequence'), sa.column('hash', sa.LargeBinary))
_HEAD = sa.insert(_head).values(
    id=1, sequence=sa.bindparam('sequence'), hash=sa.bindparam('sealed')
)
