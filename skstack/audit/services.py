"""Writing audit events. They join the transaction of what they tell of: both hold, or neither."""

from __future__ import annotations

from contextvars import ContextVar
from enum import StrEnum
from typing import Any, Protocol

from skstack.audit import chain
from skstack.db import as_json, gather, utcnow

MASK = "********"


class Actor(Protocol):
    """Whoever does something: a user."""

    id: Any
    username: Any


class Action(StrEnum):
    """The vocabulary of the trail: what was done, as `object.verb`."""

    SIGNED_IN = "session.signed_in"
    SIGN_IN_FAILED = "session.sign_in_failed"
    SIGN_IN_REFUSED = "session.sign_in_refused"
    SIGNED_OUT = "session.signed_out"
    SESSION_ENDED = "session.ended"
    PASSWORD_CHANGED = "user.password_changed"  # noqa: S105 - a name, not a password
    SECOND_FACTOR_SET_UP = "user.second_factor_set_up"
    SECOND_FACTOR_REMOVED = "user.second_factor_removed"
    RECOVERY_CODES_RENEWED = "user.recovery_codes_renewed"
    RECOVERY_CODE_USED = "user.recovery_code_used"
    IDENTITY_LINKED = "user.identity_linked"
    IDENTITY_UNLINKED = "user.identity_unlinked"
    TOKEN_CREATED = "token.created"  # noqa: S105 - a name, not a token
    TOKEN_REVOKED = "token.revoked"  # noqa: S105 - a name, not a token
    CREATED = "created"
    CHANGED = "changed"
    DELETED = "deleted"
    HOST_KEY_ACCEPTED = "config_center.host_key_accepted"
    VERIFIED = "config_center.verified"
    CATALOG_APPLIED = "catalog.applied"
    SUBMITTED = "ticket.submitted"
    SUBMISSION_REFUSED = "ticket.submission_refused"
    STATUS_CHANGED = "ticket.status_changed"
    GLASS_BROKEN = "ticket.glass_broken"
    GLASS_REVIEWED = "ticket.glass_reviewed"
    SCHEDULE_PAUSED = "schedule.paused"
    SCHEDULE_RESUMED = "schedule.resumed"
    SCHEDULE_NOT_STARTED = "schedule.not_started"
    RUN_CHANGED = "run.state_changed"
    STOP_ASKED = "run.stop_asked"
    OUTPUT_CLEARED = "run.output_cleared"
    OUTPUT_DOWNLOADED = "run.output_downloaded"
    REFUSED = "request.refused"
    EXPORTED = "audit.exported"
    VERIFICATION_BEGUN = "audit.verification_begun"
    BACKED_UP = "instance.backed_up"
    RESTORED = "instance.restored"
    KEYS_ROTATED = "instance.keys_rotated"
    KEYS_RETIRED = "instance.keys_retired"


# Where the request under way comes from; set once a request by the web layer, empty for the worker and commands.
client_address: ContextVar[str] = ContextVar("skstack_client_address", default="")


def record(
    action: Action,
    *,
    actor: Actor | None,
    object_type: str,
    object_id: int | None = None,
    object_name: str = "",
    **changes: Any,
) -> None:
    """Add one event to the transaction under way. `actor` None is skstack itself.

    `changes` is JSON: for a change `before` and `after`; secrets are masked by the caller with `MASK`. Raises
    RuntimeError outside of a transaction.
    """
    record_about(
        None,
        action,
        actor=actor,
        object_type=object_type,
        object_id=object_id,
        object_name=object_name,
        **changes,
    )


def record_about(
    digest: bytes | None,
    action: Action,
    *,
    actor: Actor | None,
    object_type: str,
    object_id: int | None = None,
    object_name: str = "",
    **changes: Any,
) -> None:
    """Add one event as `record` does, with the SHA-256 of what it is about beside itself: rows of other tables."""
    gather(
        chain.append,
        {
            "at": utcnow(),
            "actor_id": actor.id if actor else None,
            "actor": actor.username if actor else "",
            "address": client_address.get(),
            "action": str(action),
            "object_type": object_type,
            "object_id": object_id,
            "object_name": object_name[:256],
            "changes": as_json(changes),  # Now: what it was made of may be changed before the commit.
            "digest": digest,
        },
    )
