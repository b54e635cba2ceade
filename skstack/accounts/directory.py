"""The directory (LDAP): whose name and password it is, and which groups they are in there."""

from __future__ import annotations

from dataclasses import dataclass

from skstack.config import Settings
from skstack.errors import Unavailable


@dataclass(frozen=True, slots=True)
class Person:
    """Who a directory or a provider says somebody is.

    `issuer` and `subject` stay the same for one person for good; names may change, and be given to others.
    `groups` are the directory's, as `group_key` writes them.
    """

    issuer: str
    subject: str
    username: str
    display_name: str
    email: str
    groups: frozenset[str]


class DirectoryDown(Unavailable):
    """The directory does not answer, or not as the settings say. The log has the reason."""


ISSUER = "ldap"


def is_set(settings: Settings) -> bool:
    return bool(settings.ldap_url)


def find(username: str, password: str, settings: Settings) -> Person | None:
    """Return who the directory knows by this name and password, None if it is nobody or the password is wrong.

    Takes at most a few times `ldap_timeout` seconds per server. Raises DirectoryDown.
    """
    from skstack.accounts import ldap_client  # Here, since ldap3 takes 16 MB.

    return ldap_client.find(username, password, settings)
