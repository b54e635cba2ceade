"""Add schedules"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('schedules',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('name', sa.String(length=64), nullable=False),
    sa.Column('owner_id', sa.Integer(), nullable=False),
    sa.Column('workorder_id', sa.Integer(), nullable=False),
    sa.Column('submitted_values', sa.JSON().with_variant(postgresql.JSONB(), 'postgresql'), nullable=False),
    sa.Column('secrets', sa.LargeBinary(), nullable=True),
    sa.Column('note', sa.Text(), nullable=False),
    sa.Column('expression', sa.String(length=100), nullable=False),
    sa.Column('timezone', sa.String(length=64), nullable=False),
    sa.Column('next_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('paused_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('pause_reason', sa.JSON().with_variant(postgresql.JSONB(), 'postgresql'), nullable=True),
    sa.Column('failures', sa.Integer(), nullable=False),
    sa.Column('last_ticket_id', sa.Integer(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.CheckConstraint('paused_at IS NULL OR next_at IS NULL', name=op.f('ck_schedules_paused')),
    sa.ForeignKeyConstraint(['last_ticket_id'], ['tickets.id'], name=op.f('fk_schedules_last_ticket_id_tickets')),
    sa.ForeignKeyConstraint(['owner_id'], ['users.id'], name=op.f('fk_schedules_owner_id_users')),
    sa.ForeignKeyConstraint(['workorder_id'], ['workorders.id'], name=op.f('fk_schedules_workorder_id_workorders')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_schedules')),
    sa.UniqueConstraint('owner_id', 'name', name=op.f('uq_schedules_owner_id_name'))
    )
    op.create_index(op.f('ix_schedules_next_at'), 'schedules', ['next_at'], unique=False)
    op.create_index(op.f('ix_schedules_workorder_id'), 'schedules', ['workorder_id'], unique=False)

    op.create_table('schedule_occurrences',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('schedule_id', sa.Integer(), nullable=False),
    sa.Column('actor_id', sa.Integer(), nullable=False),
    sa.Column('planned_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('count', sa.Integer(), nullable=False),
    sa.Column('taken_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('tried_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('outcome', sa.String(length=16), nullable=False),
    sa.Column('reason', sa.JSON().with_variant(postgresql.JSONB(), 'postgresql'), nullable=True),
    sa.Column('ticket_id', sa.Integer(), nullable=True),
    sa.CheckConstraint("outcome IN ('due', 'started', 'skipped', 'refused', 'missed')", name=op.f('ck_schedule_occurrences_outcome')),
    sa.ForeignKeyConstraint(['actor_id'], ['users.id'], name=op.f('fk_schedule_occurrences_actor_id_users')),
    sa.ForeignKeyConstraint(['schedule_id'], ['schedules.id'], name=op.f('fk_schedule_occurrences_schedule_id_schedules'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['ticket_id'], ['tickets.id'], name=op.f('fk_schedule_occurrences_ticket_id_tickets')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_schedule_occurrences')),
    sa.UniqueConstraint('schedule_id', 'planned_at', name=op.f('uq_schedule_occurrences_schedule_id_planned_at'))
    )
    op.create_index('ix_schedule_occurrences_outcome_id', 'schedule_occurrences', ['outcome', 'id'], unique=False)
    op.create_index('ix_schedule_occurrences_schedule_id_id', 'schedule_occurrences', ['schedule_id', 'id'], unique=False)



def downgrade() -> None:
    op.drop_index('ix_schedule_occurrences_schedule_id_id', table_name='schedule_occurrences')
    op.drop_index('ix_schedule_occurrences_outcome_id', table_name='schedule_occurrences')

    op.drop_table('schedule_occurrences')
    op.drop_index(op.f('ix_schedules_workorder_id'), table_name='schedules')
    op.drop_index(op.f('ix_schedules_next_at'), table_name='schedules')

    op.drop_table('schedules')
