"""Keys, and what is encrypted with them.

The keys stand in files of the instance folder, readable by its owner only, and never in the database, so a
copy of the database alone gives no credential away.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

ENCRYPTION_KEYS = "encryption.keys"
SESSION_KEY = "session.key"
AUDIT_KEYS = "audit.keys"
KEY_FILES = (ENCRYPTION_KEYS, SESSION_KEY, AUDIT_KEYS)


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


class _Held(NamedTuple):
    """The keys of a file as it was at `stamp`. One value: no thread may see the stamp of one file and keys of another."""

    stamp: tuple[int, int] | None
    first: Fernet
    every: MultiFernet


class Cipher:
    """Encrypts with the first key of a file, and decrypts with any of them.

    The file may change while this process runs: a rotation puts a new key before the others. So it is looked at again
    before something is encrypted, and when something cannot be decrypted.
    """

    def __init__(self, path: Path) -> None:
        """Raises KeysUnusable if the file holds no key, or a line that is none."""
        self._path = path
        self._held = self._load()

    def encrypt(self, content: bytes) -> bytes:
        return self._look_again().every.encrypt(content)

    def decrypt(self, token: bytes) -> bytes:
        """Raises InvalidToken if no key fits."""
        try:
            return self._held.every.decrypt(token)
        except InvalidToken:
            self._held = self._load()
            return self._held.every.decrypt(token)

    def is_newest(self, token: bytes) -> bool:
        """Say whether something is encrypted with the first key."""
        try:
            self._look_again().first.decrypt(token)
        except InvalidToken:
            return False
        return True

    def _look_again(self) -> _Held:
        held = self._held
        if _stamp(self._path) != held.stamp:
            self._held = held = self._load()
        return held

    def _load(self) -> _Held:
        # The stamp first: if the file is replaced before it is read, it is merely read once more.
        stamp = _stamp(self._path)
        keys = [Fernet(key) for key in read_encryption_keys(self._path)]
        return _Held(stamp, keys[0], MultiFernet(keys))


def load_encryption(instance: Path) -> Cipher:
    """Return the cipher of an instance."""
    return Cipher(instance / "keys" / ENCRYPTION_KEYS)


def read_encryption_keys(path: Path) -> list[bytes]:
    """Return the keys of a file, the one that encrypts first. Raises KeysUnusable."""
    keys = _read(path).split()
    try:
        for key in keys:
            Fernet(key)
    except ValueError as err:
        raise KeysUnusable(f"{path} holds a line that is no key: {err}") from err
    if not keys:
        raise KeysUnusable(f"{path} is empty; restore it from the backup")
    return keys


def write_encryption_keys(instance: Path, keys: Sequence[bytes]) -> None:
    """Replace the keys of an instance. Whenever the host dies, the file is the old one or the new one."""
    path = instance / "keys" / ENCRYPTION_KEYS
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    # Those of rotations that were killed hold keys, and nobody would remove them.
    for left in path.parent.glob(f".{path.name}.*"):
        left.unlink(missing_ok=True)
    _create(draft, b"".join(key + b"\n" for key in keys))
    os.replace(draft, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk before anything else happens."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what differs once a file was replaced; None if it is not there, which reading it will say."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        raise KeysUnusable(f"{path} cannot be read ({err.strerror}); run `flask --app app init`") from err


__all__ = [
    "Cipher",
    "InvalidToken",
    "KeysUnusable",
    "create_keys",
    "hashed",
    "load_audit_keys",
    "load_encryption",
    "load_session_key",
    "read_encryption_keys",
    "sync_folder",
    "write_encryption_keys",
]
