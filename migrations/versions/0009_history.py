"""Index what history is sorted and narrowed by"""

from __future__ import annotations

from alembic import op

revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index('ix_tickets_workorder_name_id', 'tickets', ['workorder_name', 'id'])
    op.create_index('ix_tickets_submitter_name_id', 'tickets', ['submitter_name', 'id'])
    op.create_index('ix_tickets_environment_name_id', 'tickets', ['environment_name', 'id'])
    op.create_index('ix_tickets_created_at', 'tickets', ['created_at'])


def downgrade() -> None:
    op.drop_index('ix_tickets_created_at', 'tickets')
    op.drop_index('ix_tickets_environment_name_id', 'tickets')
    op.drop_index('ix_tickets_submitter_name_id', 'tickets')
    op.drop_index('ix_tickets_workorder_name_id', 'tickets')
