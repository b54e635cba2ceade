"""Private keys, read far enough to say whether they can be used."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

from skstack.messages import N_, Message

_OPENSSH = "-----BEGIN OPENSSH PRIVATE KEY-----"


def key_problems(private_key: str, passphrase: str | None) -> Iterator[tuple[str, Message]]:
    """Yield what is wrong with a private key and its passphrase, with the field that it belongs to."""
    load = load_ssh_private_key if private_key.lstrip().startswith(_OPENSSH) else load_pem_private_key
    secret = passphrase.encode() if passphrase else None
    try:
        load(private_key.strip().encode() + b"\n", secret)
    except TypeError:
        # cryptography says with this type that a passphrase is missing, or was given for a key that has none.
        if secret is None:
            yield "passphrase", N_("This private key needs its passphrase.")
        # A passphrase that is not needed does no harm.
    except UnsupportedAlgorithm:
        yield "private_key", N_("Keys of this kind are not supported; use Ed25519, ECDSA or RSA.")
    except ValueError as err:
        # A wrong passphrase shows as a broken checksum or as padding that is wrong, by the format of the key.
        if secret is not None and any(
            word in str(err).lower() for word in ("checksum", "password", "decrypt")
        ):
            yield "passphrase", N_("This passphrase does not open the private key.")
        else:
            yield "private_key", N_("This is not a private key. Paste the whole file, from BEGIN to END.")
