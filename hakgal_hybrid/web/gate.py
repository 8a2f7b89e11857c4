"""What stands in front of our URLs, at the WSGI level: access, preflights, CORS, errors as problem documents.

It sits outside the host's Flask app because the host's ``before_request`` must not run for requests that are refused,
and because the host's ``after_request`` opens CORS on every response, ours included, to whoever asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl

from flask import Blueprint, Response, request

from ..broker.counters import Refusals
from ..broker.environ import ADDRESS, HANDOFF, PASSED, REFUSED
from ..broker.sse import stream_headers
from ..commands import Handlers
from ..commands.invocation import discard_session
from ..errors import AccessDenied, Headers, HybridError, RequestError, problem_response
from ..settings import Settings
from . import access as guard
from .ratelimit import RateLimiter
from .responses import WSGIApp, problem
from .urls import (
    _DASHBOARD_FILES,
    _METHODS,
    _POST,
    _PUBLIC,
    _READERS_POST,
    CONTROL,
    STREAM,
    WEBSOCKET,
    methods_of,
    normal,
)

_REQUEST_HEADERS = "Content-Type, Last-Event-ID, X-API-Key, X-Hybrid-Token, Idempotency-Key, Cache-Control"
_EXPOSED_HEADERS = "Location, Retry-After, Idempotent-Replayed"

def behind_the_gate(views: Blueprint, handlers: Handlers | None = None) -> Blueprint:
    """Have a blueprint answer only what the gate has let through: whatever leads to a view, nothing goes round it.

    :param handlers: the host's, where the views call them: these may have saved the app's session themselves.
    """

    @views.before_request
    def refuse() -> Response | None:
        if PASSED in request.environ:
            return None
        return problem(AccessDenied("this URL is not spelt as it must be", code="not_guarded"))

    @views.after_request
    def forget_session(response: Response) -> Response:
        if handlers is not None and not handlers.manage_session:
            discard_session()
        return response

    return views


def _check_method(method: str, methods: str) -> None:
    if method not in methods.split(", "):
        error = RequestError(f"{method} is not possible here; use {methods}", status=405, code="method_not_allowed")
        error.headers["Allow"] = methods
        raise error


class Gate:
    """WSGI middleware around a host: guards our URLs, answers their preflights, sets their CORS headers.

    :param ours: true for the URLs of ours that are served.
    :param knows_ticket: true for a ticket that opens a stream with this query: who has one was let in when it was made.
    :param rate: how fast one address may command. :param refusals: counts what is refused.
    :param known_as: returns the name the operator gave this server (``SERVER_NAME``), or nothing.
    :param body: makes the body of a stream, for servers that give each request a thread.
    :param left: called with the feed of a stream that never begins.
    """

    def __init__(self, host: WSGIApp, settings: Settings, *, ours: Callable[[str], bool], known_as: Callable[[], str],
                 knows_ticket: Callable[[str, str], bool], rate: RateLimiter, refusals: Refusals,
                 body: Callable[[Any], Iterable[bytes]], left: Callable[[Any, str], None]) -> None:
        self._host, self._settings, self._knows_ticket = host, settings, knows_ticket
        self._rate, self._refusals = rate, refusals
        self._ours, self._known_as, self._body, self._left = ours, known_as, body, left
        self._found: set[str] = set()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request."""
        path = normal(environ.get("PATH_INFO", ""))
        methods = methods_of(path)
        if methods is None or not self._serves(path):
            return self._host(environ, start_response)
        cors = self._cors(environ)

        def start(status: str, headers: Headers, exc_info: Any = None) -> Any:
            kept = [(name, value) for name, value in headers
                    if not name.lower().startswith("access-control-") and name.lower() != "vary"]
            return start_response(status, kept + cors, exc_info)

        try:
            public = path in _PUBLIC or path.startswith(_DASHBOARD_FILES)
            if not public:
                guard.check_origin(environ, self._settings)
            if environ["REQUEST_METHOD"] == "OPTIONS":
                start_response("204 No Content", [("Allow", methods), *self._preflight(methods, cors), *cors])
                return []
            environ[ADDRESS] = guard.address_of(environ)
            commands = path.startswith(CONTROL) or (methods == _POST and path not in _READERS_POST)
            if not public and not self._has_ticket(path, environ):
                guard.check(environ, self._settings, known_as=self._known_as(), commands=commands)
            if commands and environ["REQUEST_METHOD"] == "POST":
                self._rate.take(environ[ADDRESS])
            _check_method(environ["REQUEST_METHOD"], methods)
            if environ["REQUEST_METHOD"] == "POST":
                guard.require_json(environ)
        except HybridError as error:
            self._refusals.count(error.code)
            status, headers, body = problem_response(error)
            start(status, headers)
            return [body] if environ["REQUEST_METHOD"] != "HEAD" else []
        environ[PASSED] = True
        try:
            if path == STREAM and environ["REQUEST_METHOD"] == "GET":
                return self._stream(environ, start)
            return self._host(environ, start)
        finally:
            if REFUSED in environ:
                self._refusals.count(environ.pop(REFUSED))

    def _serves(self, path: str) -> bool:
        """True if a URL of ours is served. Once it was, routing is not asked again: no later route goes before it."""
        if path in self._found:
            return True
        served = self._ours(path)
        if served and path in _METHODS:  # the others are without number
            self._found.add(path)
        return served

    def _has_ticket(self, path: str, environ: dict[str, Any]) -> bool:
        query = environ.get("QUERY_STRING", "")
        if path not in (STREAM, WEBSOCKET) or "ticket=" not in query:
            return False
        # One only: whatever reads the query behind us must not find another one than was judged here.
        tickets = [value for name, value in parse_qsl(query, keep_blank_values=True) if name == "ticket"]
        return len(tickets) == 1 and self._knows_ticket(tickets[0], query)

    def _stream(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Have the app open a stream, and put the stream where the app and its ``after_request`` see an empty body."""
        ours = HANDOFF in environ  # our own server takes the feed out itself, and writes it
        opened = environ.setdefault(HANDOFF, [])
        begun = False

        def begin(status: str, headers: Headers, exc_info: Any = None) -> Any:
            nonlocal begun
            begun = bool(opened) and status.startswith("200")
            return start(status, stream_headers(headers) if begun else headers, exc_info)

        try:
            result = self._host(environ, begin)
            try:
                chunks = list(result)
            finally:
                if hasattr(result, "close"):
                    result.close()
        finally:
            if opened and not begun and not ours:
                self._left(opened[0], "refused")
        return self._body(opened[0]) if begun and not ours else chunks

    def _cors(self, environ: dict[str, Any]) -> Headers:
        """Return the CORS headers of a response: an allowed origin may read it, nobody else."""
        origin = environ.get("HTTP_ORIGIN")
        vary = [("Vary", "Origin"), ("X-Content-Type-Options", "nosniff")]
        if origin is None or not guard.origin_allowed(origin, environ, self._settings):
            return vary
        return [("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", _EXPOSED_HEADERS),
                ("Access-Control-Allow-Credentials", "true"), *vary]

    @staticmethod
    def _preflight(methods: str, cors: Headers) -> Headers:
        if len(cors) < 3:
            return []
        return [("Access-Control-Allow-Methods", methods), ("Access-Control-Allow-Headers", _REQUEST_HEADERS),
                ("Access-Control-Max-Age", "600")]
