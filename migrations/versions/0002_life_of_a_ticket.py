"""Add approvals, locks, planned starts and freeze windows"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('approval_flows',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('name', sa.String(length=64), nullable=False),
    sa.Column('description', sa.Text(), nullable=False),
    sa.Column('allow_self_approval', sa.Boolean(), nullable=False),
    sa.Column('distinct_approvers', sa.Boolean(), nullable=False),
    sa.Column('expires_hours', sa.Integer(), nullable=True),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.CheckConstraint('expires_hours > 0', name=op.f('ck_approval_flows_expires_hours')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_approval_flows')),
    sa.UniqueConstraint('name', name=op.f('uq_approval_flows_name'))
    )
    op.create_table('approval_levels',
    sa.Column('flow_id', sa.Integer(), nullable=False),
    sa.Column('level', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('group_id', sa.Integer(), nullable=False),
    sa.CheckConstraint('level BETWEEN 1 AND 3', name=op.f('ck_approval_levels_level')),
    sa.ForeignKeyConstraint(['flow_id'], ['approval_flows.id'], name=op.f('fk_approval_levels_flow_id_approval_flows'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['group_id'], ['groups.id'], name=op.f('fk_approval_levels_group_id_groups')),
    sa.PrimaryKeyConstraint('flow_id', 'level', name=op.f('pk_approval_levels'))
    )
    with op.batch_alter_table('approval_levels', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_approval_levels_group_id'), ['group_id'], unique=False)

    op.create_table('freeze_windows',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('name', sa.String(length=64), nullable=False),
    sa.Column('description', sa.Text(), nullable=False),
    sa.Column('environment_id', sa.Integer(), nullable=False),
    sa.Column('starts_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('ends_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.CheckConstraint('ends_at > starts_at', name=op.f('ck_freeze_windows_order')),
    sa.ForeignKeyConstraint(['environment_id'], ['environments.id'], name=op.f('fk_freeze_windows_environment_id_environments')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_freeze_windows')),
    sa.UniqueConstraint('name', name=op.f('uq_freeze_windows_name'))
    )
    with op.batch_alter_table('freeze_windows', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_freeze_windows_environment_id'), ['environment_id'], unique=False)

    op.create_table('break_glass',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('ticket_id', sa.Integer(), nullable=False),
    sa.Column('window_name', sa.String(length=64), nullable=False),
    sa.Column('by_id', sa.Integer(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('reviewed_by_id', sa.Integer(), nullable=True),
    sa.Column('reviewed_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('review', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['by_id'], ['users.id'], name=op.f('fk_break_glass_by_id_users')),
    sa.ForeignKeyConstraint(['reviewed_by_id'], ['users.id'], name=op.f('fk_break_glass_reviewed_by_id_users')),
    sa.ForeignKeyConstraint(['ticket_id'], ['tickets.id'], name=op.f('fk_break_glass_ticket_id_tickets')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_break_glass'))
    )
    with op.batch_alter_table('break_glass', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_break_glass_ticket_id'), ['ticket_id'], unique=False)

    op.create_table('decisions',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('ticket_id', sa.Integer(), nullable=False),
    sa.Column('level', sa.Integer(), nullable=False),
    sa.Column('decision', sa.String(length=16), nullable=False),
    sa.Column('by_id', sa.Integer(), nullable=False),
    sa.Column('by_name', sa.String(length=64), nullable=False),
    sa.Column('comment', sa.Text(), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), nullable=False),
    sa.CheckConstraint("decision IN ('approved', 'rejected')", name=op.f('ck_decisions_decision')),
    sa.ForeignKeyConstraint(['by_id'], ['users.id'], name=op.f('fk_decisions_by_id_users')),
    sa.ForeignKeyConstraint(['ticket_id'], ['tickets.id'], name=op.f('fk_decisions_ticket_id_tickets')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_decisions'))
    )
    with op.batch_alter_table('decisions', schema=None) as batch_op:
        batch_op.create_index('ix_decisions_by_id_id', ['by_id', 'id'], unique=False)
        batch_op.create_index(batch_op.f('ix_decisions_ticket_id'), ['ticket_id'], unique=False)

    op.create_table('task_locks',
    sa.Column('environment_id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('workorder_name', sa.String(length=128), nullable=False),
    sa.Column('ticket_id', sa.Integer(), nullable=False),
    sa.ForeignKeyConstraint(['environment_id'], ['environments.id'], name=op.f('fk_task_locks_environment_id_environments')),
    sa.ForeignKeyConstraint(['ticket_id'], ['tickets.id'], name=op.f('fk_task_locks_ticket_id_tickets')),
    sa.PrimaryKeyConstraint('environment_id', 'workorder_name', name=op.f('pk_task_locks')),
    sa.UniqueConstraint('ticket_id', name=op.f('uq_task_locks_ticket_id'))
    )
    op.create_table('ticket_levels',
    sa.Column('ticket_id', sa.Integer(), nullable=False),
    sa.Column('level', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('group_id', sa.Integer(), nullable=False),
    sa.Column('group_name', sa.String(length=64), nullable=False),
    sa.CheckConstraint('level BETWEEN 1 AND 3', name=op.f('ck_ticket_levels_level')),
    sa.ForeignKeyConstraint(['group_id'], ['groups.id'], name=op.f('fk_ticket_levels_group_id_groups')),
    sa.ForeignKeyConstraint(['ticket_id'], ['tickets.id'], name=op.f('fk_ticket_levels_ticket_id_tickets')),
    sa.PrimaryKeyConstraint('ticket_id', 'level', name=op.f('pk_ticket_levels'))
    )
    with op.batch_alter_table('ticket_levels', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_ticket_levels_group_id'), ['group_id'], unique=False)

    op.add_column('ticket_changes', sa.Column('job_before', sa.String(length=16), nullable=True))
    op.add_column('ticket_changes', sa.Column('job_after', sa.String(length=16), nullable=True))

    op.add_column('tickets', sa.Column('approval_flow_name', sa.String(length=64), nullable=True))
    op.add_column('tickets', sa.Column('allow_self_approval', sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column('tickets', sa.Column('distinct_approvers', sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column('tickets', sa.Column('decide_by', sa.DateTime(timezone=True), nullable=True))
    op.add_column('tickets', sa.Column('task_lock', sa.Boolean(), nullable=False, server_default=sa.false()))

    with op.batch_alter_table('workorders', schema=None) as batch_op:
        batch_op.add_column(sa.Column('approval_flow_id', sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column('scheduling', sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column('background_choice', sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column('auto_run_choice', sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column('task_lock', sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.create_index(batch_op.f('ix_workorders_approval_flow_id'), ['approval_flow_id'], unique=False)
        batch_op.create_foreign_key(batch_op.f('fk_workorders_approval_flow_id_approval_flows'), 'approval_flows', ['approval_flow_id'], ['id'])



def downgrade() -> None:
    with op.batch_alter_table('workorders', schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f('fk_workorders_approval_flow_id_approval_flows'), type_='foreignkey')
        batch_op.drop_index(batch_op.f('ix_workorders_approval_flow_id'))
        batch_op.drop_column('task_lock')
        batch_op.drop_column('auto_run_choice')
        batch_op.drop_column('background_choice')
        batch_op.drop_column('scheduling')
        batch_op.drop_column('approval_flow_id')

    op.drop_column('tickets', 'task_lock')
    op.drop_column('tickets', 'decide_by')
    op.drop_column('tickets', 'distinct_approvers')
    op.drop_column('tickets', 'allow_self_approval')
    op.drop_column('tickets', 'approval_flow_name')

    op.drop_column('ticket_changes', 'job_after')
    op.drop_column('ticket_changes', 'job_before')

    with op.batch_alter_table('ticket_levels', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_ticket_levels_group_id'))

    op.drop_table('ticket_levels')
    op.drop_table('task_locks')
    with op.batch_alter_table('decisions', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_decisions_ticket_id'))
        batch_op.drop_index('ix_decisions_by_id_id')

    op.drop_table('decisions')
    with op.batch_alter_table('break_glass', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_break_glass_ticket_id'))

    op.drop_table('break_glass')
    with op.batch_alter_table('freeze_windows', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_freeze_windows_environment_id'))

    op.drop_table('freeze_windows')
    with op.batch_alter_table('approval_levels', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_approval_levels_group_id'))

    op.drop_table('approval_levels')
    op.drop_table('approval_flows')
