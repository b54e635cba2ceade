"""Add the retention rule"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('categories', schema=None) as batch_op:
        batch_op.add_column(sa.Column('retention_days', sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column('retention_megabytes', sa.Integer(), nullable=True))
        batch_op.create_check_constraint(batch_op.f('ck_categories_retention_days'), 'retention_days >= 0')
        batch_op.create_check_constraint(
            batch_op.f('ck_categories_retention_megabytes'), 'retention_megabytes >= 0'
        )
    op.add_column('runs', sa.Column('output_cleared_at', sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column('runs', 'output_cleared_at')
    with op.batch_alter_table('categories', schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f('ck_categories_retention_megabytes'), type_='check')
        batch_op.drop_constraint(batch_op.f('ck_categories_retention_days'), type_='check')
        batch_op.drop_column('retention_megabytes')
        batch_op.drop_column('retention_days')
