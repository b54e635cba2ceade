"""The state machine: what a ticket, its background job and a run can be, and what may follow what.

Every status in the database is one of these, and only the writers named in the architecture change one.
"""

from __future__ import annotations

from enum import StrEnum

from skstack.messages import N_, Message


class TicketStatus(StrEnum):
    """Where a ticket is. `code` is the number that the original skstack used, 10 and 11 are ours."""

    SUBMITTED = "submitted"
    L1_APPROVED = "l1_approved"
    L1_REJECTED = "l1_rejected"
    L2_APPROVED = "l2_approved"
    L2_REJECTED = "l2_rejected"
    L3_APPROVED = "l3_approved"
    L3_REJECTED = "l3_rejected"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REVOKED = "revoked"
    UNKNOWN = "unknown"

    @property
    def code(self) -> int:
        return _CODES[self]

    @property
    def label(self) -> Message:
        return _TICKET_LABELS[self]

    @property
    def is_final(self) -> bool:
        """Say whether nothing can follow: the ticket holds no lock and waits for nobody."""
        return not TICKET_TRANSITIONS[self]

    @property
    def waits(self) -> bool:
        """Say whether nothing runs and something may still: the ticket waits for people or for its time."""
        return self in WAITING

    @property
    def level(self) -> int:
        """Return the approval level whose decision this status tells of; 0 for all others."""
        return _LEVELS.get(self, 0)

    def may_become(self, to: TicketStatus) -> bool:
        return to in TICKET_TRANSITIONS[self]

    @classmethod
    def approved(cls, level: int) -> TicketStatus:
        return cls(f"l{level}_approved")

    @classmethod
    def rejected(cls, level: int) -> TicketStatus:
        return cls(f"l{level}_rejected")


class JobStatus(StrEnum):
    """Where the background job of a ticket is; a foreground ticket has none."""

    CREATED = "CREATED"
    WAITING = "WAITING"
    REVOKED = "REVOKED"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    DONE = "DONE"

    @property
    def label(self) -> Message:
        return _JOB_LABELS[self]

    @property
    def is_open(self) -> bool:
        """Say whether the system has still to start or to end something for this job."""
        return self in (JobStatus.CREATED, JobStatus.WAITING)

    def may_become(self, to: JobStatus) -> bool:
        return to in JOB_TRANSITIONS[self]


class RunState(StrEnum):
    """Where one execution of a ticket's tasks is."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    UNKNOWN = "unknown"

    @property
    def label(self) -> Message:
        return _RUN_LABELS[self]

    @property
    def is_final(self) -> bool:
        return not RUN_TRANSITIONS[self]

    def may_become(self, to: RunState) -> bool:
        return to in RUN_TRANSITIONS[self]


_T = TicketStatus
_ENDINGS = frozenset({_T.SUCCEEDED, _T.FAILED, _T.UNKNOWN})
# UNKNOWN: it came due between a backup and its restore, so that it may have run where the backup was made.
_BEFORE_START = frozenset({_T.RUNNING, _T.FAILED, _T.REVOKED, _T.UNKNOWN})

# A ticket is made as SUBMITTED when it waits for something, as RUNNING when its first task is queued at once.
TICKET_TRANSITIONS: dict[TicketStatus, frozenset[TicketStatus]] = {
    _T.SUBMITTED: _BEFORE_START | {_T.L1_APPROVED, _T.L1_REJECTED},
    _T.L1_APPROVED: _BEFORE_START | {_T.L1_REJECTED, _T.L2_APPROVED, _T.L2_REJECTED},
    _T.L2_APPROVED: _BEFORE_START | {_T.L2_REJECTED, _T.L3_APPROVED, _T.L3_REJECTED},
    _T.L3_APPROVED: _BEFORE_START | {_T.L3_REJECTED},
    # SUBMITTED again: the pre task ended well and the ticket now waits for its approvers or its time.
    _T.RUNNING: _ENDINGS | {_T.SUBMITTED},
    _T.L1_REJECTED: frozenset(),
    _T.L2_REJECTED: frozenset(),
    _T.L3_REJECTED: frozenset(),
    _T.SUCCEEDED: frozenset(),
    _T.FAILED: frozenset(),
    _T.REVOKED: frozenset(),
    _T.UNKNOWN: frozenset(),
}

MOST_LEVELS = 3
WAITING = (_T.SUBMITTED, _T.L1_APPROVED, _T.L2_APPROVED, _T.L3_APPROVED)
_LEVELS = {
    _T.L1_APPROVED: 1,
    _T.L1_REJECTED: 1,
    _T.L2_APPROVED: 2,
    _T.L2_REJECTED: 2,
    _T.L3_APPROVED: 3,
    _T.L3_REJECTED: 3,
}

_J = JobStatus
JOB_TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    # FAILURE: its pre task failed, or its time was missed. REVOKED: rejected, revoked, or started by hand instead.
    _J.CREATED: frozenset({_J.WAITING, _J.REVOKED, _J.FAILURE}),
    _J.WAITING: frozenset({_J.SUCCESS, _J.FAILURE}),
    _J.SUCCESS: frozenset({_J.DONE}),
    _J.FAILURE: frozenset({_J.DONE}),
    _J.REVOKED: frozenset(),
    _J.DONE: frozenset(),
}
# What the ending of a ticket means for its job.
JOB_ENDINGS: dict[TicketStatus, JobStatus] = {
    _T.SUCCEEDED: _J.SUCCESS,
    _T.FAILED: _J.FAILURE,
    _T.UNKNOWN: _J.FAILURE,
    _T.REVOKED: _J.REVOKED,
    _T.L1_REJECTED: _J.REVOKED,
    _T.L2_REJECTED: _J.REVOKED,
    _T.L3_REJECTED: _J.REVOKED,
}

_R = RunState
RUN_TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    # A run that never began fails (target changed, host key unknown) or is stopped before a worker took it. UNKNOWN: it
    # was queued when a backup was made, and may have been begun since, where that was.
    _R.QUEUED: frozenset({_R.RUNNING, _R.FAILED, _R.STOPPED, _R.UNKNOWN}),
    _R.RUNNING: frozenset({_R.SUCCEEDED, _R.FAILED, _R.STOPPED, _R.UNKNOWN}),
    _R.SUCCEEDED: frozenset(),
    _R.FAILED: frozenset(),
    _R.STOPPED: frozenset(),
    _R.UNKNOWN: frozenset(),
}

_CODES = {
    _T.SUBMITTED: 0,
    _T.L1_APPROVED: 1,
    _T.L1_REJECTED: 2,
    _T.SUCCEEDED: 3,
    _T.FAILED: 4,
    _T.L2_APPROVED: 5,
    _T.L2_REJECTED: 6,
    _T.L3_APPROVED: 7,
    _T.L3_REJECTED: 8,
    _T.REVOKED: 9,
    _T.RUNNING: 10,
    _T.UNKNOWN: 11,
}

_TICKET_LABELS = {
    _T.SUBMITTED: N_("Submitted"),
    _T.L1_APPROVED: N_("Level 1 approved"),
    _T.L1_REJECTED: N_("Level 1 rejected"),
    _T.L2_APPROVED: N_("Level 2 approved"),
    _T.L2_REJECTED: N_("Level 2 rejected"),
    _T.L3_APPROVED: N_("Level 3 approved"),
    _T.L3_REJECTED: N_("Level 3 rejected"),
    _T.RUNNING: N_("Running"),
    _T.SUCCEEDED: N_("Succeeded"),
    _T.FAILED: N_("Failed"),
    _T.REVOKED: N_("Revoked"),
    _T.UNKNOWN: N_("Result unknown"),
}

_JOB_LABELS = {
    JobStatus.CREATED: N_("Job created"),
    JobStatus.WAITING: N_("Job waits to run"),
    JobStatus.REVOKED: N_("Job revoked"),
    JobStatus.SUCCESS: N_("Job succeeded"),
    JobStatus.FAILURE: N_("Job failed"),
    JobStatus.DONE: N_("Job done, output cleared"),
}

_RUN_LABELS = {
    _R.QUEUED: N_("Queued"),
    _R.RUNNING: N_("Running"),
    _R.SUCCEEDED: N_("Succeeded"),
    _R.FAILED: N_("Failed"),
    _R.STOPPED: N_("Stopped"),
    _R.UNKNOWN: N_("Result unknown"),
}
