"""What the vocabulary of the trail is called on pages."""

from __future__ import annotations

from skstack.audit.services import Action
from skstack.messages import N_, Message
from skstack.states import JobStatus, RunState, TicketStatus

ACTIONS: dict[str, Message] = {
    Action.SIGNED_IN: N_("signed in"),
    Action.SIGN_IN_FAILED: N_("sign-in failed"),
    Action.SIGN_IN_REFUSED: N_("sign-in refused: too many attempts"),
    Action.SIGNED_OUT: N_("signed out"),
    Action.SESSION_ENDED: N_("session ended"),
    Action.PASSWORD_CHANGED: N_("password changed"),
    Action.SECOND_FACTOR_SET_UP: N_("second factor set up"),
    Action.SECOND_FACTOR_REMOVED: N_("second factor removed"),
    Action.RECOVERY_CODES_RENEWED: N_("recovery codes renewed"),
    Action.RECOVERY_CODE_USED: N_("recovery code used"),
    Action.IDENTITY_LINKED: N_("linked with a directory or provider"),
    Action.IDENTITY_UNLINKED: N_("no longer linked with a directory or provider"),
    Action.TOKEN_CREATED: N_("API token created"),
    Action.TOKEN_REVOKED: N_("API token revoked"),
    Action.CREATED: N_("created"),
    Action.CHANGED: N_("changed"),
    Action.DELETED: N_("deleted"),
    Action.HOST_KEY_ACCEPTED: N_("host key accepted"),
    Action.VERIFIED: N_("config center verified"),
    Action.CATALOG_APPLIED: N_("catalog file applied"),
    Action.SUBMITTED: N_("submitted"),
    Action.SUBMISSION_REFUSED: N_("submission refused"),
    Action.STATUS_CHANGED: N_("status changed"),
    Action.GLASS_BROKEN: N_("started within a freeze window"),
    Action.GLASS_REVIEWED: N_("start within a freeze window reviewed"),
    Action.SCHEDULE_PAUSED: N_("schedule paused"),
    Action.SCHEDULE_RESUMED: N_("schedule resumed"),
    Action.SCHEDULE_NOT_STARTED: N_("schedule did not start"),
    Action.RUN_CHANGED: N_("run changed state"),
    Action.STOP_ASKED: N_("stop asked for"),
    Action.OUTPUT_CLEARED: N_("output cleared"),
    Action.OUTPUT_DOWNLOADED: N_("output downloaded"),
    Action.REFUSED: N_("refused: not allowed"),
    Action.VERIFICATION_BEGUN: N_("verification begun"),
    Action.EXPORTED: N_("exported"),
    Action.BACKED_UP: N_("backed up"),
    Action.RESTORED: N_("restored from a backup"),
    Action.KEYS_ROTATED: N_("encrypted anew with a new key"),
    Action.KEYS_RETIRED: N_("old keys removed"),
}

OBJECTS: dict[str, Message] = {
    "ticket": N_("ticket"),
    "run": N_("run"),
    "workorder": N_("work order"),
    "schedule": N_("schedule"),
    "user": N_("user"),
    "group": N_("group"),
    "role": N_("role"),
    "token": N_("API token"),
    "environment": N_("environment"),
    "category": N_("category"),
    "config_center": N_("config center"),
    "variable": N_("variable"),
    "variable_group": N_("variable group"),
    "approval_flow": N_("approval flow"),
    "freeze_window": N_("freeze window"),
    "notification_target": N_("notification target"),
    "catalog": N_("catalog file"),
    "request": N_("request"),
    "audit": N_("audit trail"),
    "instance": N_("instance"),
}


# What events say beside `before` and `after`. Fields of what is configured are called as in the catalog file.
FIELDS: dict[str, Message] = {
    "ticket": N_("ticket"),
    "reason": N_("reason"),
    "exit_code": N_("exit code"),
    "output_bytes": N_("bytes of output"),
    "output_sha256": N_("SHA-256 of the output"),
    "record_sha256": N_("SHA-256 of the record of its steps"),
    "host": N_("host"),
    "bytes": N_("bytes"),
    "values": N_("values"),
    "note": N_("note"),
    "plan_digest": N_("digest of the plan"),
    "status": N_("status"),
    "job_status": N_("job"),
    "job_before": N_("job before"),
    "job_after": N_("job after"),
    "scheduled_at": N_("planned time"),
    "sessions": N_("sessions"),
    "sessions_ended": N_("sessions ended"),
    "way": N_("way"),
    "second_factor": N_("second factor"),
    "limit_reached": N_("limit reached"),
    "user": N_("user"),
    "hint": N_("begins with"),
    "days": N_("days"),
    "window": N_("freeze window"),
    "by": N_("by"),
    "review": N_("review"),
    "owner": N_("owner"),
    "format": N_("format"),
    "filters": N_("filters"),
    "time": N_("time"),
    "file": N_("file"),
    "runs": N_("runs"),
    "tickets": N_("tickets"),
    "times": N_("times"),
    "keys": N_("keys"),
    "not_recorded_before": N_("refusals before that were not recorded"),
}

# What only those look for who open the event.
DETAILS = {"output_sha256", "record_sha256", "plan_digest", "host"}


def action_label(action: str) -> Message:
    """Return what an action is called; its own word for one of a later version."""
    return ACTIONS.get(action) or N_("%(name)s", name=action)


def object_label(kind: str) -> Message:
    """Return what a kind of object is called; its own word if it has no name here."""
    return OBJECTS.get(kind) or N_("%(name)s", name=kind.replace("_", " "))


def state_label(value: str) -> Message | str:
    """Return what a state of a ticket, its job or a run is called; anything else as it is."""
    for states in (TicketStatus, RunState, JobStatus):
        if value in set(states):
            return states(value).label
    return value
