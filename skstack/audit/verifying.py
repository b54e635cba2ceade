"""Verifying the trail: that no event was changed, is missing or was cut off, and that what they are about is unchanged.

It reads in batches, each a look at one moment, so it needs little memory and others go on writing. Between any two
batches it can be stopped, and gone on with from its `Progress`, in another process too.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from skstack.audit import chain
from skstack.audit.models import AuditEvent, AuditHead
from skstack.crypto import KeysUnusable
from skstack.db import db
from skstack.messages import N_, Message

BATCH = 5000

EVENTS, DONE = "events", "done"


class Broken(Exception):
    """The trail does not hold. `message` says where and how."""

    def __init__(self, message: Message) -> None:
        super().__init__(str(message))
        self.message = message


@dataclass(frozen=True, slots=True)
class Anchor:
    """What somebody noted elsewhere: event `sequence` has this hash. `source` names the place."""

    sequence: int
    hash: bytes
    source: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a verification is. `phase` is "events", then each of `subjects`, then "done"; `last` is what was seen last."""

    phase: str = EVENTS
    last: int = 0
    previous: str = chain.START.hex()
    verified: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Progress:
        return cls(**stored)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


# What the events are about, by name: given a connection and an id, it looks at those of the next rows, in order, and
# yields the id of each and what was looked at, for the counts. Raises Broken. Ends without any when there is none left.
Subject = Callable[[Connection, int], Iterator[tuple[int, Mapping[str, int]]]]
_subjects: dict[str, Subject] = {}


def subject(name: str) -> Callable[[Subject], Subject]:
    """Register what looks at the rows that events of one kind are about; features after this one do."""

    def register(look: Subject) -> Subject:
        _subjects[name] = look
        return look

    return register


def begin(first: int = 1) -> Progress:
    """Return where to begin. From a later event than the first, the one before it is taken as it stands."""
    if first <= 1:
        return Progress()
    with _looking() as connection:
        previous = connection.execute(_HASH, {"id": first - 1}).scalar_one_or_none()
    if previous is None:
        raise Broken(N_("Event %(event)s is missing.", event=first - 1))
    return Progress(last=first - 1, previous=bytes(previous).hex())


def check_keys() -> None:
    """Raise KeysUnusable if not one of the latest events was sealed with a key of this host: it would break the chain.

    So it is where a second host has made a key of its own. A database that cannot be asked is no reason.
    """
    try:
        with _looking() as connection:
            raw = _RAW[connection.dialect.name]
            newest = connection.execute(_END).one().newest or 0
            rows = connection.exec_driver_sql(raw, (max(0, newest - 100), newest, 100)).all()
    except SQLAlchemyError:
        return
    if rows and not any(_is_sealed(row) for row in rows):
        raise KeysUnusable(
            "keys/audit.keys in the instance folder is not the one that the audit trail is sealed with; copy it from "
            "the host where skstack ran before, or from the backup"
        )


def go_on(progress: Progress, anchors: list[Anchor], *, enough: Callable[[], bool]) -> Progress:
    """Verify on from `progress` until all is done or, after some piece, `enough()`. Raises Broken at the first fault."""
    while progress.phase != DONE:
        is_chain = progress.phase == EVENTS
        progress = _next_events(progress, anchors) if is_chain else _next_of_subject(progress, enough)
        if enough():
            break
    return progress


def _next_events(progress: Progress, anchors: list[Anchor]) -> Progress:
    with _looking() as connection:
        # In one statement, so in one look: else it could seem that there is more than the end tells of.
        head = connection.execute(_END).one()
        raw = _RAW[connection.dialect.name]
        rows = connection.exec_driver_sql(raw, (progress.last, head.sequence or 0, BATCH)).all()
    if rows:
        return _verified(progress, rows)
    if head.sequence is None and head.newest is not None:
        raise Broken(N_("The stored end of the trail is missing."))
    if (head.newest or 0) > (head.sequence or 0):
        raise Broken(
            N_(
                "The stored end of the trail was set back to event %(event)s, and there are later ones.",
                event=head.sequence,
            )
        )
    if head.sequence is not None and (progress.last, progress.previous) != (
        head.sequence,
        bytes(head.hash).hex(),
    ):
        if progress.last < head.sequence:
            raise Broken(
                N_(
                    "The end was cut off: event %(last)s is the last, and there were %(count)s.",
                    last=progress.last,
                    count=head.sequence,
                )
            )
        raise Broken(
            N_("The stored end of the trail does not carry the hash of event %(event)s.", event=progress.last)
        )
    _check_anchors(anchors)
    return _following(progress)


def _verified(progress: Progress, rows: Sequence[Any]) -> Progress:
    keys = chain.keys()
    seal, compare = chain.seal, hmac.compare_digest
    last, previous, key = progress.last, bytes.fromhex(progress.previous), keys[0]
    for row in rows:
        *columns, digest, before, sealed = row
        if columns[0] != last + 1:
            raise Broken(N_("Event %(event)s is missing.", event=last + 1))
        try:
            plain = [*columns, None if digest is None else bytes(digest).hex(), bytes(before).hex()]
            is_sealed = compare(seal(key, plain), bytes(sealed))
            if not is_sealed:  # Perhaps with a key from before it was changed, like those around it.
                key = next((one for one in keys if compare(seal(one, plain), bytes(sealed))), keys[0])
                is_sealed = compare(seal(key, plain), bytes(sealed))
        except (TypeError, ValueError):  # A SQLite file can hold anything in any column.
            is_sealed = False
        if not is_sealed:
            raise Broken(
                N_("Event %(event)s was changed: its hash is not that of what it says.", event=last + 1)
            )
        if bytes(before) != previous:
            raise Broken(
                N_(
                    "Event %(event)s does not follow the one before it: it carries the hash of another.",
                    event=last + 1,
                )
            )
        last, previous = last + 1, bytes(sealed)
    return replace(progress, last=last, previous=previous.hex(), verified=progress.verified + len(rows))


def _is_sealed(row: Any) -> bool:
    *columns, digest, before, sealed = row
    try:
        plain = [*columns, None if digest is None else bytes(digest).hex(), bytes(before).hex()]
        return any(hmac.compare_digest(chain.seal(key, plain), bytes(sealed)) for key in chain.keys())  # noqa: SIM118 - no dictionary
    except (TypeError, ValueError):
        return False


def _check_anchors(anchors: list[Anchor]) -> None:
    with _looking() as connection:
        for anchor in anchors:
            found = connection.execute(_HASH, {"id": anchor.sequence}).scalar_one_or_none()
            told = {"event": anchor.sequence, "source": anchor.source}
            if found is None and anchor.sequence:
                raise Broken(
                    N_(
                        "The end was cut off: %(source)s tells of event %(event)s, which is missing.",
                        **told,
                    )
                )
            if found is not None and bytes(found) != anchor.hash:
                raise Broken(
                    N_(
                        "Event %(event)s is not the one that %(source)s tells of: its hash is another.",
                        **told,
                    )
                )


def _next_of_subject(progress: Progress, enough: Callable[[], bool]) -> Progress:
    counts, last = dict(progress.counts), progress.last
    with _looking() as connection:
        for number, seen in _subjects[progress.phase](connection, last):
            last = number
            for name, count in seen.items():
                counts[name] = counts.get(name, 0) + count
            if enough():
                break
    if last == progress.last:
        return _following(progress)
    return replace(progress, last=last, counts=counts)


def _following(progress: Progress) -> Progress:
    phases = [EVENTS, *_subjects, DONE]
    return replace(progress, phase=phases[phases.index(progress.phase) + 1], last=0)


@contextmanager
def _looking() -> Iterator[Connection]:
    """Give a connection that sees the database as it is at one moment, whatever others write meanwhile."""
    engine = db.engine
    if engine.dialect.name == "postgresql":
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    with engine.connect() as connection:
        yield connection


_COLUMNS = "id, {at}, actor_id, actor, address, action, object_type, object_id, object_name, changes, digest, previous, hash"
_SELECT = "SELECT {columns} FROM audit_events WHERE id > {p} AND id <= {p} ORDER BY id LIMIT {p}"
# As the driver gives them, since what is sealed is the very text that is stored.
_RAW = {
    "sqlite": _SELECT.format(columns=_COLUMNS.format(at="at"), p="?"),
    "postgresql": _SELECT.format(
        columns=_COLUMNS.format(at="to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"), p="%s"
    ),
}
_events: Any = sa.inspect(AuditEvent).local_table
_heads: Any = sa.inspect(AuditHead).local_table
_HASH = sa.select(_events.c.hash).where(_events.c.id == sa.bindparam("id"))
_END = sa.select(
    sa.select(_heads.c.sequence).scalar_subquery().label("sequence"),
    sa.select(_heads.c.hash).scalar_subquery().label("hash"),
    sa.select(sa.func.max(_events.c.id)).scalar_subquery().label("newest"),
)
