"""Keys, and what is encrypted with them.

The keys stand in files of the instance folder, readable by its owner only, and never in the database, so a
copy of the database alone gives no credential away.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

ENCRYPTION_KEYS = "encryption.keys"
SESSION_KEY = "session.key"
AUDIT_KEYS = "audit.keys"


class KeysUnusable(Exception):
    """A key file is missing or spoiled. The message says which, and what to do."""


def create_keys(instance: Path) -> None:
    """Create the key files that are not there yet, readable by their owner only. Safe to repeat."""
    folder = instance / "keys"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    _create(folder / ENCRYPTION_KEYS, Fernet.generate_key() + b"\n")
    _create(folder / SESSION_KEY, secrets.token_hex(32).encode() + b"\n")
    _create(folder / AUDIT_KEYS, secrets.token_hex(32).encode() + b"\n")


def load_encryption(instance: Path) -> MultiFernet:
    """Return the cipher: it encrypts with the first key of the file and decrypts with any."""
    path = instance / "keys" / ENCRYPTION_KEYS
    try:
        keys = [Fernet(line) for line in _read(path).split()]
    except ValueError as err:
        raise KeysUnusable(f"{path} holds a line that is no key: {err}") from err
    if not keys:
        raise KeysUnusable(f"{path} is empty; restore it from the backup")
    return MultiFernet(keys)


def load_session_key(instance: Path) -> str:
    """Return the key that signs cookies."""
    return _read(instance / "keys" / SESSION_KEY).decode().strip()


def load_audit_keys(instance: Path) -> tuple[bytes, ...]:
    """Return the keys of the audit chain: new events are sealed with the first, older ones may be with any."""
    path = instance / "keys" / AUDIT_KEYS
    try:
        keys = tuple(bytes.fromhex(line.decode("ascii")) for line in _read(path).split())
    except ValueError as err:
        raise KeysUnusable(f"{path} holds a line that is no key: {err}") from err
    if not keys or min(map(len, keys)) < 32:
        raise KeysUnusable(f"{path} must hold keys of 64 hexadecimal digits; restore it from the backup")
    return keys


def hashed(token: str) -> str:
    """Return the form in which a random token is stored. Tokens have 256 bits, so a plain SHA-256 is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


def _create(path: Path, content: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        raise KeysUnusable(f"{path} cannot be read ({err.strerror}); run `flask --app app init`") from err


__all__ = [
    "InvalidToken",
    "KeysUnusable",
    "create_keys",
    "hashed",
    "load_audit_keys",
    "load_encryption",
    "load_session_key",
]
