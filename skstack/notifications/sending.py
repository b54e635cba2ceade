"""Sending through Apprise: which addresses are taken, and what is said of one that does not work.

Apprise knows addresses that run programs or write files on this host, and options that read files of it (`template`, `pgppub`) or
let a message take as long as its author likes (`rto`). Only services of messages are taken here, and only options that are known
to be harmless.
"""

from __future__ import annotations

import logging
import re
import threading
from io import StringIO
from typing import Any
from urllib.parse import unquote, urlsplit

from skstack.messages import N_, Message

SCHEMES = frozenset(
    {
        *("mailto", "mailtos", "json", "jsons", "form", "forms", "xml", "xmls"),
        *("dingtalk", "feishu", "lark", "wecombot", "bark", "barks", "schan", "pushplus"),
        *(
            "slack",
            "discord",
            "tgram",
            "workflows",
            "gchat",
            "wxteams",
            "zulip",
            "line",
            "pover",
            "signal",
            "signals",
        ),
        *("matrix", "matrixs", "gotify", "gotifys", "ntfy", "ntfys", "rocket", "rockets", "mmost", "mmosts"),
    }
)
OPTIONS = frozenset(
    {
        *("to", "from", "name", "cc", "bcc", "reply", "smtp", "mode", "format", "method", "verify"),
        *("token", "secret", "key", "id", "sig", "ver", "api-version", "pa", "powerautomate"),
        *("route", "routeid", "thread", "topic", "team", "channel", "channels", "workspace"),
        *("group", "priority", "sound", "level"),
    }
)
LONGEST_URL = 2000

# What Apprise says of an address has its tokens in it: told to nobody but `send`, which takes them out.
_apprise = logging.getLogger("apprise")
_apprise.addHandler(logging.NullHandler())
_apprise.propagate = False
_SILENT = logging.CRITICAL + 1
_apprise.setLevel(_SILENT)

# Apprise logs to one logger for all; what it says of one message must not end up with another.
_sending = threading.Lock()


def problem(url: str) -> Message | None:
    """Return why nothing can be sent to an address, or None."""
    if len(url) > LONGEST_URL or not url.isprintable() or " " in url:
        return N_("This is not an address of a service.")
    scheme = scheme_of(url)
    if scheme not in SCHEMES:
        return N_(
            "The address must begin with one of: %(schemes)s.",
            schemes=", ".join(f"{one}://" for one in sorted(SCHEMES)),
        )
    if refused := _refused_options(url):
        return N_("This option of the address is not taken: %(names)s.", names=", ".join(refused))
    if _service(url) is None:
        return N_("This is not a complete address of %(scheme)s://.", scheme=scheme)
    return None


def scheme_of(url: str) -> str:
    return url.partition("://")[0].lower() if "://" in url else ""


def send(url: str, *, title: str, body: str) -> str:
    """Send one message, and return "" or, without anything secret of the address, why it could not be sent."""
    service = _service(url) if scheme_of(url) in SCHEMES and not _refused_options(url) else None
    if service is None:
        return "the address is not one that can be sent to"
    said = StringIO()
    handler = logging.StreamHandler(said)
    handler.setFormatter(logging.Formatter("%(message)s"))
    with _sending:
        _apprise.addHandler(handler)
        _apprise.setLevel(logging.WARNING)
        try:
            done = bool(service.notify(title=title, body=body))
        finally:
            _apprise.removeHandler(handler)
            _apprise.setLevel(_SILENT)
    return (
        "" if done else without_secrets(said.getvalue().strip() or "the service did not take it", url)[:300]
    )


def without_secrets(text: str, url: str) -> str:
    """Return text with everything of an address masked that could be a credential: all but the scheme and a plain host."""
    parts = urlsplit(url)
    written = re.split(r"[/?&=:@,;]+", url.partition("://")[2])
    # As it is written, and as it is meant: a service may say either. What is meant is taken apart no further.
    pieces = {*written, *map(unquote, written)}
    kept = {parts.hostname or "", str(_port(parts) or "")} if parts.scheme in _WITH_HOST else set()
    for piece in sorted({one for one in pieces if len(one) > 2 and one not in kept}, key=len, reverse=True):
        text = text.replace(piece, "***")
    return " ".join(text.split())


# Of these the host is a host; of others it may be a token.
_WITH_HOST = frozenset(
    {"mailto", "mailtos", "json", "jsons", "form", "forms", "xml", "xmls", "gotify", "gotifys"}
)


def _port(parts: Any) -> int | None:
    try:
        return int(parts.port) if parts.port else None
    except ValueError:
        return None


def _refused_options(url: str) -> list[str]:
    """Return the names of the options that are not taken, as Apprise itself reads them."""
    from apprise import plugins

    found = plugins.url_to_dict(url, secure_logging=True)  # type: ignore[no-untyped-call]  # Apprise ships no types
    if not found:
        return []  # No address at all, which is said elsewhere.
    # Keys with a sign before them set headers and fields of web hooks; those stand in lists of their own.
    names = {
        *found.get("qsd", {}),
        *(f"+{name}" for name in found.get("qsd+", {})),
        *(f"-{name}" for name in found.get("qsd-", {})),
        *(f":{name}" for name in found.get("qsd:", {})),
    }
    return sorted(name for name in names if name not in OPTIONS)


def _service(url: str) -> Any:
    # Loaded only where something is sent or checked: it takes 20 MB.
    import apprise

    return apprise.Apprise.instantiate(url, suppress_exceptions=True)
