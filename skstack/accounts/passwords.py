"""Passwords: argon2id hashes, and the rules a new one must follow.

The rules are those of OWASP ASVS 5.0, V6.2: a length, none of the passwords that are tried first, and nothing about
which kinds of characters.
"""

from __future__ import annotations

import secrets
import threading
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from skstack.messages import N_, Message

SHORTEST, LONGEST = 8, 256

# OWASP's recommendation for argon2id: 19 MiB, two passes, one lane.
_hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
# Each computation takes its memory while it lasts: many sign-ins at once must not take it 128 times.
_turns = threading.BoundedSemaphore(4)
_READABLE = "abcdefghjkmnpqrstuvwxyz23456789"


def hash_password(password: str) -> str:
    """Return the argon2id hash of `password`, with its salt and parameters."""
    with _turns:
        return _hasher.hash(_bytes(password))


def is_right(password_hash: str | None, password: str) -> bool:
    """Say whether `password` belongs to the hash. None, for an unknown account, takes as long and is never right."""
    with _turns:
        try:
            _hasher.verify(password_hash or _nobody(), _bytes(password))
        except (VerificationError, InvalidHashError):
            return False
    return password_hash is not None


def is_outdated(password_hash: str) -> bool:
    """Say whether the hash was made with other parameters than a new one would be."""
    return _hasher.check_needs_rehash(password_hash)


def problems(password: str, username: str = "") -> list[Message]:
    """Return what is wrong with a new password; nothing, if it may be used."""
    if len(password) < SHORTEST:
        return [N_("A password needs at least %(count)s characters.", count=SHORTEST)]
    if len(password) > LONGEST:
        return [N_("A password may have at most %(count)s characters.", count=LONGEST)]
    if username and password.casefold() == username.casefold():
        return [N_("The password must not be the user name.")]
    if password.casefold() in _common():
        return [N_("This password is one of those that everybody tries first. Choose another.")]
    return []


def generate() -> str:
    """Return a random password of 99 bits that can be read aloud: `fz4km-…`, four groups of five."""
    return "-".join("".join(secrets.choice(_READABLE) for _ in range(5)) for _ in range(4))


def _bytes(password: str) -> bytes:
    # Exactly as received (ASVS 6.2.8). Half of a surrogate pair is no valid text, but no reason to fail either.
    return password.encode("utf-8", "surrogatepass")


@cache
def _common() -> frozenset[str]:
    """Return the common passwords that are long enough to pass otherwise, about 11,000."""
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # Here, since it takes 14 MB.

    return frozenset(word for word in FREQUENCY_LISTS["passwords"] if len(word) >= SHORTEST)


@cache
def _nobody() -> str:
    return _hasher.hash(secrets.token_bytes(32))
