"""The waiting for the next lines of a run, before the application: docs/decisions/0013-watchers.md.

A hundred watchers of one run ask again after each line. Who they are and what they may see has not changed since the
line before, and a fragment reads the same for all of them. So the view of a request is asked first, and answers at once;
if it finds nothing new but gives a pass, the request waits here, and so do the next ones with that pass. It holds as long
as the trail says that nobody's rights have changed. Whatever else there is to say than more lines is left to the view.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from flask import Flask
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.test import run_wsgi_app

from skstack.audit.access import AccessVersion
from skstack.config import Settings
from skstack.extensions import db
from skstack.runs import following, passes, raw_log
from skstack.runs.passes import Headers, Pass, Passes
from skstack.runs.sharing import Shared
from skstack.states import RunState

Environ = dict[str, Any]
Start = Callable[..., Any]

# Seconds for which it is taken for granted that nobody's rights have changed.
_FRESH = 0.05

_PATH = re.compile(r"(/api/v1)?/runs/([1-9][0-9]{0,17})/log")
_COUNT = re.compile(r"[0-9]{1,16}")
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
_ANY = re.compile(r".*", re.DOTALL)

# What the usual requests ask. Others are for the view alone, which says what is wrong with them.
_LINES = {"offset": _COUNT, "wait": _SECONDS}
_FRAGMENT = {"offset": _COUNT, "size": _COUNT, "events": _COUNT, "known": _COUNT, "style": _ANY, "pane": _ANY}

# What the log API says anew with each answer.
_OWN = {"content-length", "x-log-next-offset", "x-run-state", "x-run-final", "retry-after", "set-cookie"}

# What the answer with a fragment depends on, beside what is in the pass.
_ANSWER = (
    *("PATH_INFO", "QUERY_STRING", "SCRIPT_NAME", "HTTP_ACCEPT_ENCODING", "HTTP_HX_REQUEST"),
    *("wsgi.url_scheme", "HTTP_X_FORWARDED_PROTO"),
)


def init_app(app: Flask) -> None:
    """Put it before everything else of the application."""
    app.wsgi_app = WatchMiddleware(app)  # type: ignore[method-assign, assignment]


class WatchMiddleware:
    """Stands before the application. One per process; its threads share it."""

    def __init__(self, app: Flask) -> None:
        self._inner: Callable[[Environ, Start], Iterable[bytes]] = app.wsgi_app
        self._app = app
        self._settings: Settings = app.config["SKSTACK"]
        self._passes = Passes()
        self._fragments: Shared[_Answer] = Shared()
        with app.app_context():
            self._engine = db.engine
        self._access = AccessVersion(self._engine)

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        request = _request(environ)
        answer = self._answer(request) if request is not None else None
        if answer is None:
            passes.end(environ)
            return self._inner(environ, start)
        start(answer.status, list(answer.headers))
        return [answer.content]

    def _answer(self, request: _Request) -> _Answer | None:
        """Return what the view says, or what comes while one waits with its pass; None if the view has to wait itself."""
        found = self._passes.find(request.key)
        if found is None or not self._holds(found):
            answer, found, nothing = self._ask_view(request, may_wait=True)
            if not nothing:
                return answer
            if found is None:
                return None
        watched = self._watch(request, found)
        return watched if watched is not None else self._ask_view(request, may_wait=False)[0]

    def _watch(self, request: _Request, found: Pass) -> _Answer | None:
        """Wait, and return what came if the pass still holds then; None leaves it to the view."""
        watch = self._watch_lines if request.is_api else self._watch_fragment
        # The view knows how to say that the database cannot be asked.
        with contextlib.suppress(SQLAlchemyError):
            watched = watch(request, found)
            if watched is not None and self._holds(found):
                return watched
        return None

    def _holds(self, found: Pass) -> bool:
        return time.monotonic() < found.until and found.version == self._version()

    def _version(self) -> int | None:
        """Return that of everybody's rights; None, which no pass has, if the database cannot be asked."""
        try:
            return self._access.get(_FRESH)
        except SQLAlchemyError:
            return None

    def _ask_view(self, request: _Request, *, may_wait: bool) -> tuple[_Answer, Pass | None, bool]:
        """Let the view answer at once; return that, the pass that it gives, and whether there is nothing new yet."""
        # Before: the rights that the view then looks at are those of this version, or newer ones.
        version = self._version()
        watch = passes.begin(request.environ, may_wait=may_wait)
        answer = self._run(request)
        if not answer.is_ok or watch.seconds <= 0 or version is None:
            self._passes.drop(request.key)
            return answer, None, watch.nothing
        kept = tuple(pair for pair in answer.headers if pair[0].lower() not in _OWN)
        made = Pass(version, time.monotonic() + watch.seconds, watch.variant, kept)
        self._passes.keep(request.key, made)
        return answer, made, watch.nothing

    def _run(self, request: _Request) -> _Answer:
        content, status, headers = run_wsgi_app(self._inner, request.environ, buffered=True)
        return _Answer(b"".join(content), tuple(headers), status)

    def _watch_lines(self, request: _Request, found: Pass) -> _Answer | None:
        """Wait for lines and return them for the log API, None if there is more to say."""
        piece = raw_log.follow(
            raw_log.states_of(self._engine, request.run_id),
            RunState.RUNNING,
            self._directory(request),
            offset=request.number("offset"),
            wait=min(float(request.asked.get("wait", "0")), raw_log.LONGEST_WAIT),
            tails=following.tails(self._app),
        )
        if piece.state is not RunState.RUNNING:
            return None
        length = ("Content-Length", str(len(piece.content)))
        return _Answer(piece.content, (*found.headers, *piece.headers().items(), length))

    def _watch_fragment(self, request: _Request, found: Pass) -> _Answer | None:
        """Wait for lines and return them for the pane of a page, None if there is more to say."""
        events = request.number("events")
        growth = following.tails(self._app).wait(
            self._directory(request), request.number("size"), following.LONGEST_WAIT, seen_events=events
        )
        if growth.busy:
            passes.begin(request.environ, may_wait=False, busy=True)
            return self._run(request)
        if growth.final or not growth.grown or growth.events_size != events:
            return None
        wanted = (growth, found.variant, *(request.environ.get(name) for name in _ANSWER))
        try:
            return self._fragments.get(wanted, lambda: self._render(request, found))
        except _OnlyMine:
            return None

    def _render(self, request: _Request, found: Pass) -> _Answer:
        """Return what the view answers now. Raises _OnlyMine if that is nothing for others."""
        watch = passes.begin(request.environ, may_wait=False)
        answer = self._run(request)
        sets_cookie = any(name.lower() == "set-cookie" for name, _ in answer.headers)
        if not (answer.is_ok and watch.for_all and watch.variant == found.variant) or sets_cookie:
            raise _OnlyMine
        return answer

    def _directory(self, request: _Request) -> Path:
        return self._settings.runs_directory / str(request.run_id)


class _OnlyMine(Exception):
    """An answer is for the one who asked."""


@dataclass(frozen=True, slots=True)
class _Request:
    environ: Environ
    key: bytes
    is_api: bool
    run_id: int
    asked: Mapping[str, str]

    def number(self, name: str) -> int:
        return int(self.asked.get(name) or 0)


@dataclass(frozen=True, slots=True)
class _Answer:
    content: bytes
    headers: Headers
    status: str = "200 OK"

    @property
    def is_ok(self) -> bool:
        return self.status.startswith("200 ")

    def __len__(self) -> int:
        return len(self.content)


def _request(environ: Environ) -> _Request | None:
    """Return a request for the lines of a run; None for any other, and for one that asks for them unusually."""
    path = environ["REQUEST_METHOD"] == "GET" and _PATH.fullmatch(environ["PATH_INFO"])
    if not path:
        return None
    is_api = path[1] is not None
    forms = _LINES if is_api else _FRAGMENT
    found = parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    asked = dict(found)
    if len(asked) < len(found) or not all(
        name in forms and forms[name].fullmatch(value) for name, value in found
    ):
        return None
    return _Request(environ, passes.key_of(environ), is_api, int(path[2]), asked)
