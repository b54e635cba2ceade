"""Settings: read once at start from the environment and `config.toml`, and checked there.

The environment (`SKSTACK_NAME`) wins over `INSTANCE/config.toml` (`name = …`), which wins over the default.
A value that cannot be used stops the start with a sentence that names it.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent

_THIS_HOST = ("127.0.0.1", "::1", "localhost")
_BIND = re.compile(r"(?P<host>\[[0-9a-fA-F:]+\]|[^:\s]+):(?P<port>\d{1,5})\Z")


class ConfigError(Exception):
    """A setting cannot be used. The message names it, says what was given and what is expected."""


def _setting(
    default: Any,
    help: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    secret: bool = False,
) -> Any:
    metadata = {"help": help, "at_least": at_least, "at_most": at_most, "secret": secret}
    return (
        field(default_factory=default, metadata=metadata)
        if default is dict
        else field(default=default, metadata=metadata, repr=not secret)
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting of skstack. Durations are seconds, sizes bytes."""

    instance: Path = _setting(ROOT / "instance", "folder that everything is written under")
    database_url: str = _setting("", "database; empty: SQLite in the instance folder")
    bind: str = _setting("127.0.0.1:8000", "address and port of the web server")
    public_url: str = _setting(
        "", "address that people use, for links in messages; empty: from the bind address"
    )
    behind_proxy: int = _setting(
        0, "number of reverse proxies whose X-Forwarded-* headers are believed", at_least=0, at_most=5
    )
    secure_cookies: bool = _setting(False, "send cookies over HTTPS only; switch on behind TLS")
    workers: int = _setting(16, "runs at the same time per worker", at_least=1, at_most=512)
    web_threads: int = _setting(128, "threads of the web server", at_least=4, at_most=1024)
    log_waiters: int = _setting(
        0, "requests that may wait for output at a time; 0: the threads less 28", at_least=0, at_most=1024
    )
    timezone: str = _setting("", "time zone of pages for people who chose none; empty: the host's")
    language: str = _setting("", "language for people whose browser asks for none that we have; empty: en")
    session_lifetime: int = _setting(12 * 3600, "seconds after which an unused session ends", at_least=60)
    session_lifetime_absolute: int = _setting(7 * 86400, "seconds after which any session ends", at_least=300)
    login_attempts: int = _setting(10, "failed sign-ins per account before a pause", at_least=1)
    login_attempts_address: int = _setting(100, "failed sign-ins per address before a pause", at_least=1)
    login_pause: int = _setting(900, "seconds over which failed sign-ins are counted", at_least=1)
    second_factor: str = _setting(
        "", "who gets in only with a second factor: superusers or all; empty: whoever has set one up"
    )
    ldap_url: str = _setting(
        "", "servers of the directory, separated by blanks: ldap://HOST or ldaps://HOST; empty: none"
    )
    ldap_starttls: bool = _setting(True, "encrypt ldap:// connections; false sends passwords in clear text")
    ldap_ca_file: str = _setting("", "certificates that the directory's is checked with; empty: the host's")
    ldap_bind_dn: str = _setting("", "entry that searches the directory; empty: anonymous")
    ldap_bind_password: str = _setting("", "password of that entry", secret=True)
    ldap_base: str = _setting("", "where in the directory people are searched")
    ldap_filter: str = _setting("(uid={name})", "how an entry is found by the name that was typed")
    ldap_name: str = _setting("uid", "attribute with the user name")
    ldap_display_name: str = _setting("cn", "attribute with the name that others read")
    ldap_email: str = _setting("mail", "attribute with the mail address")
    ldap_id: str = _setting(
        "entryUUID",
        "attribute that stays with an entry for good (Active Directory: objectGUID); empty: the DN",
    )
    ldap_group_base: str = _setting(
        "", "where groups are searched; empty: they stand in an attribute of the person's entry"
    )
    ldap_group_filter: str = _setting(
        "(|(member={dn})(uniqueMember={dn})(memberUid={name}))", "how the groups of an entry are found"
    )
    ldap_group_name: str = _setting("cn", "attribute with a group's name")
    ldap_group_attribute: str = _setting("memberOf", "attribute of the person's entry with their groups")
    ldap_groups: Mapping[str, tuple[str, ...]] = _setting(
        dict, "groups here and the directory's groups that give them: a table, or NAME=GROUP lines"
    )
    ldap_roles: Mapping[str, tuple[str, ...]] = _setting(
        dict, "roles here and the directory's groups that give them: a table, or NAME=GROUP lines"
    )
    ldap_create_users: bool = _setting(True, "make a user when somebody of the directory first signs in")
    ldap_timeout: float = _setting(
        3.0, "seconds to wait for each answer of the directory", at_least=0.1, at_most=30
    )
    oidc_issuer: str = _setting("", "address of the OIDC provider, as its tokens name it; empty: none")
    oidc_client_id: str = _setting("", "name that the provider knows skstack by")
    oidc_client_secret: str = _setting("", "secret that the provider knows skstack by", secret=True)
    oidc_scopes: str = _setting("openid profile email", "what the provider is asked for")
    oidc_label: str = _setting("Single sign-on", "text of the button that leads to the provider")
    oidc_name_claim: str = _setting("preferred_username", "claim with the user name of a new user")
    oidc_groups_claim: str = _setting(
        "groups", "claim with the groups; one within others as realm_access.roles"
    )
    oidc_groups: Mapping[str, tuple[str, ...]] = _setting(
        dict, "groups here and the provider's groups that give them: a table, or NAME=GROUP lines"
    )
    oidc_roles: Mapping[str, tuple[str, ...]] = _setting(
        dict, "roles here and the provider's groups that give them: a table, or NAME=GROUP lines"
    )
    oidc_create_users: bool = _setting(True, "make a user when somebody of the provider first signs in")
    script_timeout: float = _setting(
        10.0, "seconds that a variable's script may take", at_least=0.1, at_most=60
    )
    script_output_limit: int = _setting(
        1 << 20, "bytes of a variable script's output that are read", at_least=1024
    )
    script_choices_limit: int = _setting(5000, "choices that a script may offer", at_least=1)
    connect_timeout: float = _setting(
        10.0, "seconds to reach and sign in to a config center", at_least=0.5, at_most=120
    )
    keepalive: float = _setting(15.0, "seconds between signs of life on an SSH connection", at_least=1)
    stop_grace: float = _setting(10.0, "seconds between TERM and KILL", at_least=0.1, at_most=600)
    retention_days: int = _setting(
        0, "days that output is kept where the category says nothing; 0: for good", at_least=0
    )
    retention_size: int = _setting(
        0, "bytes of output kept per category that says nothing; 0: no limit", at_least=0
    )
    output_limit: int = _setting(256 << 20, "bytes of output kept per run", at_least=4096)
    lease: float = _setting(
        15.0, "seconds without a sign of life after which a worker counts as lost", at_least=1
    )
    sweep: float = _setting(
        3.0, "seconds between two looks for runs that nobody rang for", at_least=0.2, at_most=60
    )
    schedule_grace: float = _setting(
        3600.0, "seconds after its planned time in which a ticket may still be started", at_least=0
    )
    database_timeout: float = _setting(
        10.0, "seconds to wait for a locked database before answering 503", at_least=0.1, at_most=120
    )
    run_environment: Mapping[str, str] = _setting(
        dict, "further environment variables for local runs: a table, or NAME=VALUE lines"
    )
    working_directory: str = _setting(
        "", "folder local runs start in; empty: the home folder of skstack's user"
    )
    audit_head_file: str = _setting(
        "", "file the end of the audit trail is written to; empty: audit.head in the instance folder"
    )
    audit_syslog: str = _setting(
        "", "syslog the end of the audit trail is sent to: /dev/log or HOST:PORT (UDP); empty: none"
    )
    max_request: int = _setting(4 << 20, "bytes that a request may have", at_least=1 << 16)

    @property
    def url(self) -> str:
        """Return the SQLAlchemy URL of the database."""
        return (
            normalized_url(self.database_url)
            if self.database_url
            else f"sqlite:///{self.instance / 'skstack.db'}"
        )

    @property
    def is_postgresql(self) -> bool:
        return self.url.startswith("postgresql")

    @property
    def runs_directory(self) -> Path:
        return self.instance / "runs"

    @property
    def host_and_port(self) -> tuple[str, int]:
        match = _BIND.match(self.bind)
        assert match, "checked by load()"
        return match["host"].strip("[]"), int(match["port"])


def normalized_url(url: str) -> str:
    """Return `url` with the driver that we install: `postgres://` and `postgresql://` mean psycopg 3."""
    for prefix in ("postgres://", "postgresql://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    return url


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings. Raises ConfigError for an unknown name in config.toml or a value out of bounds."""
    environ = os.environ if environ is None else environ
    instance = Path(environ.get("SKSTACK_INSTANCE") or ROOT / "instance").expanduser().resolve()
    stored = _read_file(instance / "config.toml")
    values: dict[str, Any] = {"instance": instance}
    for setting in fields(Settings):
        if setting.name == "instance":
            continue
        variable = f"SKSTACK_{setting.name.upper()}"
        if environ.get(variable, "") != "":
            values[setting.name] = _parse(setting, environ[variable], variable)
        elif setting.name in stored:
            values[setting.name] = _parse(setting, stored.pop(setting.name), f"{setting.name} in config.toml")
        stored.pop(setting.name, None)
    if stored:
        raise ConfigError(f"config.toml has a setting that does not exist: {', '.join(sorted(stored))}")
    settings = Settings(**values)
    _check(settings)
    return settings


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as err:
        raise ConfigError(f"{path} cannot be read: {err}") from err


def _parse(setting: Any, given: Any, where: str) -> Any:
    kind = {"int": int, "float": float, "bool": bool, "str": str}.get(str(setting.type))
    if kind is None:
        return (
            _parse_groups(given, where) if "tuple" in str(setting.type) else _parse_environment(given, where)
        )
    if kind is bool:
        return _parse_bool(given, where)
    if isinstance(given, bool) or ((kind is str) != isinstance(given, str) and not isinstance(given, str)):
        raise ConfigError(f"{where} is {given!r}, which is not {_kind_name(kind)}")
    try:
        value = kind(given)
    except ValueError as err:
        raise ConfigError(f"{where} is {given!r}, which is not {_kind_name(kind)}") from err
    low, high = setting.metadata["at_least"], setting.metadata["at_most"]
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"at least {low:g}" + (f" and at most {high:g}" if high is not None else "")
        raise ConfigError(f"{where} is {given!r}; it must be {bounds}")
    return value


def _kind_name(kind: type) -> str:
    return {int: "a whole number", float: "a number", str: "text"}[kind]


def _parse_bool(given: Any, where: str) -> bool:
    if isinstance(given, bool):
        return given
    words = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }
    try:
        return words[str(given).strip().lower()]
    except KeyError as err:
        raise ConfigError(f"{where} is {given!r}; it must be true or false") from err


def _parse_environment(given: Any, where: str) -> dict[str, str]:
    if isinstance(given, str):
        pairs = [line.partition("=") for line in given.splitlines() if line.strip()]
        if any(not separator for _, separator, _ in pairs):
            raise ConfigError(f"{where} must have lines of the form NAME=VALUE")
        given = {name.strip(): value for name, _, value in pairs}
    if not isinstance(given, dict) or not all(
        re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and isinstance(value, str)
        for name, value in given.items()
    ):
        raise ConfigError(f"{where} must be a table of names and texts")
    if reserved := sorted(name for name in given if name.startswith("WO_")):
        raise ConfigError(
            f"{where} may not set {', '.join(reserved)}: names that begin with WO_ carry a ticket's values"
        )
    return dict(given)


def _parse_groups(given: Any, where: str) -> dict[str, tuple[str, ...]]:
    """Read which foreign groups give which of ours. A DN has equals signs: the first one separates."""
    if isinstance(given, str):
        pairs = [line.partition("=") for line in given.splitlines() if line.strip()]
        given = {}
        for name, _, value in pairs:
            given.setdefault(name.strip(), []).append(value.strip())
    if isinstance(given, dict):
        found = {name: [one] if isinstance(one, str) else one for name, one in given.items()}
        if all(
            name
            and isinstance(values, list)
            and values
            and all(isinstance(one, str) and one for one in values)
            for name, values in found.items()
        ):
            return {name: tuple(values) for name, values in found.items()}
    raise ConfigError(f"{where} must be a table of names and groups, or lines of the form NAME=GROUP")


def _check(settings: Settings) -> None:
    match = _BIND.match(settings.bind)
    if not match or not 0 <= int(match["port"]) <= 65535:
        raise ConfigError(f"SKSTACK_BIND is {settings.bind!r}; it must be HOST:PORT, such as 127.0.0.1:8000")
    if not settings.url.startswith(("sqlite:///", "postgresql+psycopg://")):
        scheme = settings.url.partition(":")[0]
        raise ConfigError(
            f"SKSTACK_DATABASE_URL begins with {scheme}; it must begin with sqlite:/// or postgresql://"
        )
    if settings.audit_syslog and not (
        settings.audit_syslog.startswith("/") or _BIND.match(settings.audit_syslog)
    ):
        raise ConfigError(
            f"SKSTACK_AUDIT_SYSLOG is {settings.audit_syslog!r}; it must be a path such as /dev/log, or HOST:PORT"
        )
    if settings.timezone:
        _check_timezone(settings.timezone)
    if settings.language not in ("", "en", "zh_CN"):
        raise ConfigError(f"SKSTACK_LANGUAGE is {settings.language!r}; it must be en or zh_CN")
    if settings.second_factor not in ("", "superusers", "all"):
        raise ConfigError(
            f"SKSTACK_SECOND_FACTOR is {settings.second_factor!r}; it must be superusers, all, or empty"
        )
    if settings.ldap_url:
        _check_directory(settings)
    if settings.oidc_issuer:
        _check_provider(settings)


def _check_directory(settings: Settings) -> None:
    for url in settings.ldap_url.split():
        if not re.fullmatch(r"ldaps?://[^/\s@?#]+/?", url):
            raise ConfigError(f"SKSTACK_LDAP_URL has {url!r}; a server is ldap://HOST or ldaps://HOST:PORT")
    if not settings.ldap_base:
        raise ConfigError("SKSTACK_LDAP_BASE is missing; it is needed to find people, such as ou=people,dc=…")
    if "{name}" not in settings.ldap_filter:
        raise ConfigError(f"SKSTACK_LDAP_FILTER is {settings.ldap_filter!r}; it must contain {{name}}")
    if not settings.ldap_name:
        raise ConfigError("SKSTACK_LDAP_NAME is empty; it must be an attribute such as uid")
    if settings.ldap_bind_dn and not settings.ldap_bind_password:
        raise ConfigError(
            "SKSTACK_LDAP_BIND_PASSWORD is missing; without it the bind would be an anonymous one"
        )
    if settings.ldap_ca_file and not Path(settings.ldap_ca_file).is_file():
        raise ConfigError(f"SKSTACK_LDAP_CA_FILE is {settings.ldap_ca_file!r}, which is no file")


def _check_provider(settings: Settings) -> None:
    parts = urlsplit(settings.oidc_issuer)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _THIS_HOST):
        raise ConfigError(f"SKSTACK_OIDC_ISSUER is {settings.oidc_issuer!r}; it must begin with https://")
    for name in ("oidc_client_id", "oidc_client_secret"):
        if not getattr(settings, name):
            raise ConfigError(
                f"SKSTACK_{name.upper()} is missing; the provider gives it when skstack is registered there"
            )
    if "openid" not in settings.oidc_scopes.split():
        raise ConfigError(f"SKSTACK_OIDC_SCOPES is {settings.oidc_scopes!r}; it must contain openid")


def _check_timezone(name: str) -> None:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError) as err:
        raise ConfigError(f"SKSTACK_TIMEZONE is {name!r}; it must be a name such as Asia/Shanghai") from err
