"""Changing the key that credentials and secret values are encrypted with, while everybody works.

A new key stands before the others in the file from the first moment, and nothing is removed until nothing needs it: so
everything can be read whenever this is broken off, by those too who began before, and doing it again finishes it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from cryptography.fernet import Fernet

from skstack.audit.services import Action, record
from skstack.config import Settings
from skstack.crypto import (
    ENCRYPTION_KEYS,
    Cipher,
    InvalidToken,
    KeysUnusable,
    read_encryption_keys,
    write_encryption_keys,
)
from skstack.db import Encrypted, cipher, transaction
from skstack.errors import Conflict
from skstack.extensions import db
from skstack.messages import N_

BATCH = 200
"""Rows that are encrypted anew in one transaction."""


def rotate(settings: Settings) -> int:
    """Put a new key before the others and encrypt every value with it; return how many values that were.

    Raises Conflict while another command changes the keys, and KeysUnusable for a value that no key fits; then the new
    key stays, and nothing is lost.
    """
    with _alone(settings):
        write_encryption_keys(settings.instance, [Fernet.generate_key(), *_keys(settings)])
        count = _encrypt_anew(cipher())
        with transaction():
            record(Action.KEYS_ROTATED, actor=None, object_type="instance", values=count)
    return count


def retire(settings: Settings) -> int:
    """Remove all keys but the first, and return how many; before that, what is still encrypted with them is not any more.

    Raises Conflict while another command changes the keys, and KeysUnusable for a value that no key fits; then all stay.
    """
    with _alone(settings):
        keys = _keys(settings)
        if len(keys) > 1:
            # Whoever began before the rotation may have stored something since.
            _encrypt_anew(cipher())
            with transaction():
                record(Action.KEYS_RETIRED, actor=None, object_type="instance", keys=len(keys) - 1)
            write_encryption_keys(settings.instance, keys[:1])
    return len(keys) - 1


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold off other commands of this host that change the keys: of two that read the same file, one's key would be lost."""
    folder = os.open(settings.instance / "keys", os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise Conflict(
                N_("Another command is changing the keys. Run this one again once that has ended.")
            ) from err
        yield
    finally:
        os.close(folder)


def _keys(settings: Settings) -> list[bytes]:
    return read_encryption_keys(settings.instance / "keys" / ENCRYPTION_KEYS)


def _encrypt_anew(keys: Cipher) -> int:
    """Encrypt what is not encrypted with the first key yet, and return how many values that were."""
    count = 0
    for table in db.metadata.sorted_tables:
        columns = [column for column in table.columns if isinstance(column.type, Encrypted)]
        if columns:
            count += sum(_renew(table, columns, rows, keys) for rows in _batches(table, columns))
    return count


def _renew(table: sa.Table, columns: Sequence[sa.Column[Any]], rows: Sequence[Any], keys: Cipher) -> int:
    count = 0
    with transaction():
        for number, *values in (tuple(row) for row in rows):
            for column, value in zip(columns, values, strict=True):
                if value is None or keys.is_newest(value):
                    continue
                try:
                    renewed = keys.encrypt(keys.decrypt(value))
                except InvalidToken as err:
                    raise KeysUnusable(
                        f"No key of keys/{ENCRYPTION_KEYS} fits {column.name} in row {number} of the table {table.name}. "
                        "Add the key it was encrypted with, from another host or a backup, as its last line. "
                        "Then run this again."
                    ) from err
                raw = sa.type_coerce(column, sa.LargeBinary)
                changed = db.session.execute(
                    sa.update(table)
                    # Unless somebody stored something else meanwhile.
                    .where(_key(table) == number, raw == value)
                    .values({column: sa.bindparam(None, renewed, sa.LargeBinary)})
                )
                count += changed.rowcount  # type: ignore[attr-defined]  # a CursorResult, for an UPDATE
    return count


def _batches(table: sa.Table, columns: Sequence[sa.Column[Any]]) -> Iterator[Sequence[Any]]:
    after = 0
    encrypted = [sa.type_coerce(column, sa.LargeBinary).label(column.name) for column in columns]
    while True:
        rows: Sequence[Any] = db.session.execute(
            sa.select(_key(table), *encrypted)
            .where(_key(table) > after, sa.or_(*(column.is_not(None) for column in columns)))
            .order_by(_key(table))
            .limit(BATCH)
        ).all()
        db.session.rollback()
        if not rows:
            return
        yield rows
        after = rows[-1][0]


def _key(table: sa.Table) -> sa.Column[int]:
    (column,) = table.primary_key.columns
    return column
