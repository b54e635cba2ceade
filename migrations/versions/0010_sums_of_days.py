"""Add sums of days, when regular things were last done, and what workers say of themselves"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
revision = '0010'
down_revision = '0009'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('summed_days',
    sa.Column('day', sa.Date(), nullable=False),
    sa.Column('fresh', sa.Boolean(), nullable=False),
    sa.Column('changes', sa.Integer(), nullable=False),
    sa.Column('statuses', sa.JSON().with_variant(postgresql.JSONB(), 'postgresql'), nullable=False),
    sa.Column('runs', sa.JSON().with_variant(postgresql.JSONB(), 'postgresql'), nullable=False),
    sa.PrimaryKeyConstraint('day', name=op.f('pk_summed_days'))
    )
    op.create_table('day_counts',
    sa.Column('day', sa.Date(), nullable=False),
    sa.Column('workorder_id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('environment_name', sa.String(length=64), nullable=False),
    sa.Column('category_name', sa.String(length=64), nullable=False),
    sa.Column('status', sa.String(length=16), nullable=False),
    sa.Column('tickets', sa.Integer(), nullable=False),
    sa.PrimaryKeyConstraint('day', 'workorder_id', 'environment_name', 'category_name', 'status', name=op.f('pk_day_counts')),
    sqlite_with_rowid=False
    )
    op.create_table('day_times',
    sa.Column('measure', sa.String(length=16), nullable=False),
    sa.Column('workorder_id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('day', sa.Date(), nullable=False),
    sa.Column('bucket', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('times', sa.Integer(), nullable=False),
    sa.PrimaryKeyConstraint('measure', 'workorder_id', 'day', 'bucket', name=op.f('pk_day_times')),
    sqlite_with_rowid=False
    )
    op.create_index('ix_day_times_day', 'day_times', ['day'], unique=False)
    op.create_table('looks',
    sa.Column('name', sa.String(length=32), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('found', sa.JSON().with_variant(postgresql.JSONB(), 'postgresql'), nullable=False),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_looks'))
    )
    op.create_index('ix_tickets_submitter_id_created_at', 'tickets', ['submitter_id', 'created_at'], unique=False)
    op.add_column('workers', sa.Column('capacity', sa.Integer(), nullable=True))
    op.add_column('workers', sa.Column('version', sa.String(length=32), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table('workers', schema=None) as batch_op:
        batch_op.drop_column('version')
        batch_op.drop_column('capacity')
    op.drop_index('ix_tickets_submitter_id_created_at', table_name='tickets')
    op.drop_table('looks')
    op.drop_index('ix_day_times_day', table_name='day_times')
    op.drop_table('day_times')
    op.drop_table('day_counts')
    op.drop_table('summed_days')
