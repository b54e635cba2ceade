"""How the directory is asked: search for the entry as a service, then bind as the entry with the person's password."""

from __future__ import annotations

import logging
import math
import secrets
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import ldap3
from ldap3.core.exceptions import LDAPException
from ldap3.core.results import (
    RESULT_BUSY,
    RESULT_INVALID_CREDENTIALS,
    RESULT_SIZE_LIMIT_EXCEEDED,
    RESULT_SUCCESS,
    RESULT_UNAVAILABLE,
)
from ldap3.utils.conv import escape_filter_chars

from skstack.accounts.directory import ISSUER, DirectoryDown, Person
from skstack.accounts.external import group_key
from skstack.config import Settings
from skstack.messages import N_

_log = logging.getLogger(__name__)
_DOWN = N_(
    "The directory does not answer, so only accounts with a password of skstack's own can sign in now. "
    "Try again in a moment, or tell an administrator."
)


# A directory that hangs must not hold every thread of the web server.
_turns = threading.BoundedSemaphore(16)


class _Tls(ldap3.Tls):
    """TLS that checks the certificate and its name as Python does; ldap3 has its own way, older than that."""

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
        context = ssl.create_default_context(cafile=self.ca_certs_file)
        connection.socket = context.wrap_socket(connection.socket, server_hostname=connection.server.host)


def find(username: str, password: str, settings: Settings) -> Person | None:
    """Return who has this name and password, None if nobody has. Raises DirectoryDown if no server answers as it should."""
    try:
        secret = password.encode()
    except UnicodeEncodeError:  # Half of a surrogate pair is no text, and in no directory.
        return None
    if not _turns.acquire(timeout=settings.ldap_timeout):
        raise DirectoryDown(_DOWN)
    try:
        return _first_answer(username.strip(), secret, settings)
    finally:
        _turns.release()


def _first_answer(username: str, password: bytes, settings: Settings) -> Person | None:
    reason: Exception | None = None
    for url in settings.ldap_url.split():
        try:
            return _find(url, username, password, settings)
        except (LDAPException, OSError) as err:
            _log.warning("directory %s cannot be asked: %s", url, err)
            reason = err
    raise DirectoryDown(_DOWN) from reason


def _find(url: str, username: str, password: bytes, settings: Settings) -> Person | None:
    # With an empty password a server takes a bind for an anonymous one, and says that it went well (RFC 4513, 5.1.2).
    if not username or not password:
        return None
    with _connected(url, settings) as service:
        _bind_service(service, settings)
        entry = _entry(service, username, settings)
        # An unknown name takes as long as a known one: a bind that cannot go well.
        dn = entry["dn"] if entry else f"cn={secrets.token_hex(8)},{settings.ldap_base}"
        with _connected(url, settings, dn, password) as own:
            right = _bind_goes_well(own)
        if not right or entry is None:
            return None
        return _person(service, entry, username, settings)


@contextmanager
def _connected(url: str, settings: Settings, dn: str = "", password: bytes | str = "") -> Iterator[Any]:
    """Give a connection that is not bound yet: encrypted, unless the settings say otherwise."""
    parts, timeout = urlsplit(url), settings.ldap_timeout
    server = ldap3.Server(
        parts.hostname,
        port=parts.port or (636 if parts.scheme == "ldaps" else 389),
        use_ssl=parts.scheme == "ldaps",
        tls=_Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=settings.ldap_ca_file or None),
        get_info=ldap3.NONE,
        connect_timeout=timeout,
    )
    connection = ldap3.Connection(
        server,
        user=dn or None,
        password=password or None,
        authentication=ldap3.SIMPLE if dn else ldap3.ANONYMOUS,
        receive_timeout=math.ceil(timeout),
        auto_referrals=False,  # It would take the password to a server that somebody else names.
        read_only=True,
        check_names=False,
        raise_exceptions=False,
    )
    try:
        connection.open(read_server_info=False)
        if settings.ldap_starttls and not server.ssl:
            connection.start_tls(read_server_info=False)
        yield connection
    finally:
        with suppress(LDAPException, OSError):  # What went wrong before says more.
            connection.unbind()
        if connection.socket is not None:  # As it is left where nothing was reached.
            connection.socket.close()


def _bind_service(service: Any, settings: Settings) -> None:
    if not settings.ldap_bind_dn:
        service.bind(read_server_info=False)
        return
    service.user, service.password = settings.ldap_bind_dn, settings.ldap_bind_password
    service.authentication = ldap3.SIMPLE
    if not service.bind(read_server_info=False):
        raise LDAPException(f"{settings.ldap_bind_dn} may not bind: {_said(service)}")


def _bind_goes_well(own: Any) -> bool:
    own.bind(read_server_info=False)
    result = own.result["result"]
    if result in (RESULT_BUSY, RESULT_UNAVAILABLE):
        raise LDAPException(_said(own))
    if result not in (RESULT_SUCCESS, RESULT_INVALID_CREDENTIALS):  # Locked, expired, to be changed first, …
        _log.info("directory refuses %s: %s", own.user, _said(own))
    return bool(result == RESULT_SUCCESS)


def _entry(service: Any, username: str, settings: Settings) -> dict[str, Any] | None:
    """Return the one entry of that name. Several are none: nobody can say whose password it is."""
    names = {
        settings.ldap_name,
        settings.ldap_display_name,
        settings.ldap_email,
        settings.ldap_id,
        "" if settings.ldap_group_base else settings.ldap_group_attribute,
    }
    condition = settings.ldap_filter.replace("{name}", escape_filter_chars(username))
    found = _search(service, settings.ldap_base, condition, sorted(names - {""}), settings, limit=2)
    if len(found) > 1:
        _log.warning(
            "directory has several entries for one name; check ldap_filter: %s", settings.ldap_filter
        )
    return found[0] if len(found) == 1 else None


def _person(service: Any, entry: dict[str, Any], username: str, settings: Settings) -> Person:
    subject = _first(entry, settings.ldap_id) if settings.ldap_id else entry["dn"].casefold()
    name = _first(entry, settings.ldap_name)
    if not subject or not name:
        missing = settings.ldap_name if subject else settings.ldap_id
        raise LDAPException(f"entry {entry['dn']} has no {missing}")
    return Person(
        issuer=ISSUER,
        subject=subject,
        username=name,
        display_name=_first(entry, settings.ldap_display_name),
        email=_first(entry, settings.ldap_email),
        groups=frozenset(group_key(group) for group in _groups(service, entry, name, settings)),
    )


def _groups(service: Any, entry: dict[str, Any], name: str, settings: Settings) -> Iterator[str]:
    """Give the names and the DNs of the groups that hold the entry."""
    if not settings.ldap_groups and not settings.ldap_roles:
        return
    if not settings.ldap_group_base:
        yield from _all(entry, settings.ldap_group_attribute)
        return
    condition = settings.ldap_group_filter.replace("{dn}", escape_filter_chars(entry["dn"]))
    condition = condition.replace("{name}", escape_filter_chars(name))
    attribute = settings.ldap_group_name
    for group in _search(service, settings.ldap_group_base, condition, [attribute], settings):
        yield group["dn"]
        yield from _all(group, attribute)


def _search(
    service: Any, base: str, condition: str, attributes: list[str], settings: Settings, limit: int = 0
) -> list[dict[str, Any]]:
    service.search(
        base,
        condition,
        attributes=attributes,
        size_limit=limit,
        time_limit=math.ceil(settings.ldap_timeout),
    )
    entries = [one for one in service.response or () if one["type"] == "searchResEntry"]
    expected = (RESULT_SUCCESS, RESULT_SIZE_LIMIT_EXCEEDED) if limit else (RESULT_SUCCESS,)
    if service.result["result"] not in expected:
        raise LDAPException(f"search below {base}: {_said(service)}")
    return entries


def _all(entry: dict[str, Any], attribute: str) -> list[str]:
    """Return an attribute's values as text, whatever the case of its name; bytes that are no text in hexadecimal."""
    found = (values for name, values in entry["raw_attributes"].items() if name.lower() == attribute.lower())
    return [_text(value) for values in found for value in values]


def _first(entry: dict[str, Any], attribute: str) -> str:
    return next(iter(_all(entry, attribute)), "") if attribute else ""


def _text(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return value.hex()
    return text if text.isprintable() else value.hex()


def _said(connection: Any) -> str:
    result = connection.result
    return " ".join(str(result[key]) for key in ("description", "message") if result.get(key))
