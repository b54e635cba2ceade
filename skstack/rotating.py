"""Changing the key that credentials and secret values are encrypted with, while everybody works.

A new key stands before the others in the file from the first moment, and nothing is removed until nothing needs it: so
everything can be read whenever this is broken off, by those too who began before, and doing it again finishes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from cryptography.fernet import Fernet

from skstack.audit.services import Action, record
from skstack.config import Settings
from skstack.crypto import ENCRYPTION_KEYS, Cipher, read_encryption_keys, write_encryption_keys
from skstack.db import Encrypted, cipher, transaction
from skstack.extensions import db

BATCH = 200
"""Rows that are encrypted anew in one transaction."""


def rotate(settings: Settings) -> int:
    """Put a new key before the others and encrypt every value with it; return how many values that were.

    Raises InvalidToken for a value that no key fits; then the new key stays, and nothing is lost.
    """
    keys = _keys(settings)
    write_encryption_keys(settings.instance, [Fernet.generate_key(), *keys])
    count = _encrypt_anew(cipher())
    with transaction():
        record(Action.KEYS_ROTATED, actor=None, object_type="instance", values=count)
    return count


def retire(settings: Settings) -> int:
    """Remove all keys but the first, and return how many; before that, what is still encrypted with them is not any more."""
    keys = _keys(settings)
    if len(keys) > 1:
        # Whoever began before the rotation may have stored something since.
        _encrypt_anew(cipher())
        with transaction():
            record(Action.KEYS_RETIRED, actor=None, object_type="instance", keys=len(keys) - 1)
        write_encryption_keys(settings.instance, keys[:1])
    return len(keys) - 1


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
                raw = sa.type_coerce(column, sa.LargeBinary)
                changed = db.session.execute(
                    sa.update(table)
                    # Unless somebody stored something else meanwhile.
                    .where(_key(table) == number, raw == value)
                    .values({column: sa.bindparam(None, keys.encrypt(keys.decrypt(value)), sa.LargeBinary)})
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
