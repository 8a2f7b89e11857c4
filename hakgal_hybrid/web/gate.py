"""The WSGI middleware in front of the host's app: answers our URLs, and passes on all others.

What the host registers for its own requests (routes, hooks, limits, sessions) does not meet a request for one of our
URLs, because the request does not come to the host's app.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any
from urllib.parse import parse_qsl

from werkzeug.exceptions import HTTPException

from ..broker.counters import Refusals
from ..broker.environ import ADDRESS, PATH, UNREAD
from ..errors import Headers, HybridError, RequestError, problem_response
from ..logs import get_logger
from ..settings import Settings
from . import access
from .cors import READABLE_BY_ALL, cors_headers, preflight_headers
from .engineio import EngineEndpoint
from .origins import Origins
from .peers import address_of, hidden
from .proxied import WSGIApp, behind_same_proxies
from .ratelimit import RateLimiter
from .suitability import warn_of_server
from .urls import Access, Paths, Route, find

logger = get_logger(__name__)


class Gate:
    """WSGI middleware that admits requests for our URLs, and gives their answers CORS headers and problem documents.

    :param host: the host's WSGI app, which gets the requests for all other URLs.
    :param app: the app that answers our URLs.
    :param served: the rules of the URLs that ``app`` serves, without prefix.
    :param settings: the key, and who may be a client.
    :param origins: whose pages may use the URLs.
    :param paths: these URLs as our own server sees them; learns what the app is mounted at.
    :param known_as: returns the name that the operator gave this server (``SERVER_NAME``), or nothing.
    :param knows_ticket: true for a ticket (first argument) that opens a stream with a query (second argument).
    :param rate: how fast one address may command.
    :param refusals: counts what is refused, by code.
    :param on_serving: called before the first request that a server passes on; a test client is none.
    :param engineio: answers clients of Socket.IO, by rules of its own.
    :ivar served: the rules of the URLs that are answered, without prefix.
    :ivar host: the host's WSGI app.
    """

    def __init__(self, host: WSGIApp, app: WSGIApp, served: Collection[str], settings: Settings, *,
                 origins: Origins, paths: Paths, known_as: Callable[[], str], knows_ticket: Callable[[str, str], bool],
                 rate: RateLimiter, refusals: Refusals, on_serving: Callable[[], object] = lambda: None,
                 engineio: EngineEndpoint | None = None) -> None:
        self.host, self._app, self.served, self._settings = host, app, served, settings
        self._origins = origins
        self._known_as, self._knows_ticket, self._rate, self._refusals = known_as, knows_ticket, rate, refusals
        self._on_serving: Callable[[], object] | None = on_serving
        self._ours = behind_same_proxies(host, self._answer)
        self._paths = paths
        self._engineio, self._socketio = engineio, behind_same_proxies(host, engineio or app)
        self._logged_hidden = False

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request.

        :param environ: the WSGI environment.
        :param start_response: takes status and headers of the answer.
        :return: the chunks of the answer.
        """
        if self._on_serving is not None and "SERVER_SOFTWARE" in environ:
            self._on_serving()
            self._on_serving = None
            warn_of_server(environ, self._settings)
            self._log_hidden(environ)
        if self._engineio is not None and self._engineio.owns(environ):
            return self._socketio(environ, start_response)
        if self._route_of(environ) is None:
            return self.host(environ, start_response)
        if PATH in environ and environ["PATH_INFO"] != environ[PATH]:
            self._paths.learn(environ[PATH], environ["PATH_INFO"])
        return self._ours(environ, start_response)

    def _route_of(self, environ: dict[str, Any]) -> Route | None:
        """Return the route of a request for one of the URLs that are served here."""
        route = find(environ.get("PATH_INFO", ""), self._settings.prefix)
        return None if route is None or route.rule not in self.served else route

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request for one of our URLs, seen as the host's proxies let it be seen."""
        route = self._route_of(environ)
        if route is None:  # a ProxyFix changes no path
            return self.host(environ, start_response)
        cors = cors_headers(environ, route, self._origins)

        def start(status: str, headers: Headers, exc_info: Any = None) -> Any:
            return start_response(status, [*headers, *cors], exc_info)

        try:
            if environ["REQUEST_METHOD"] == "OPTIONS":
                self._check_origin(route, environ)
                start("204 No Content", [("Allow", route.methods), *preflight_headers(route, cors, environ)])
                return []
            self._admit(route, environ)
            if UNREAD in environ:
                environ[UNREAD].append(True)
                start("204 No Content", [])
                return []
            return self._app(environ, start)
        except StopIteration:  # by this we tell gunicorn that a WebSocket is over
            raise
        except Exception as error:
            problem = _problem_of(error)
            self._refusals.count(problem.code)
            if problem.code in ("loopback_only", "key_required"):
                self._log_hidden(environ)
            status, headers, body = problem_response(problem)
            if problem.code == "foreign_origin" and "HTTP_ORIGIN" in environ:
                self._origins.log_refused(environ["HTTP_ORIGIN"])
                headers = [*headers, *READABLE_BY_ALL]
            start(status, headers)
            return [body] if environ["REQUEST_METHOD"] != "HEAD" else []

    def refuses(self, environ: dict[str, Any]) -> bool:
        """Return whether a request would be refused if it came here as it is, so that its body need not be read.

        What the host has put around this middleware may see to it that it is permitted. Nothing is counted.

        :param environ: the WSGI environment, without a body.
        """
        route = self._route_of(environ)
        if route is None or environ["REQUEST_METHOD"] == "OPTIONS":
            return False
        if route.clients and self._origins.asks_app:
            return False  # a function of the app is not called in the server's loop
        try:
            self._judge(route, environ)
        except HybridError:
            return True
        return False

    def _admit(self, route: Route, environ: dict[str, Any]) -> None:
        """Let a request pass to its view.

        :raises HybridError: if the request is refused: its origin, address, key, method or content type, or its pace.
        """
        environ[ADDRESS] = address_of(environ)
        self._judge(route, environ)
        if route.access is Access.COMMAND and environ["REQUEST_METHOD"] == "POST":
            self._rate.take(environ[ADDRESS])

    def _judge(self, route: Route, environ: dict[str, Any]) -> None:
        """Check everything but the pace.

        :raises HybridError: if the request is refused: its origin, address, key, method or content type.
        """
        self._check_origin(route, environ)
        method, who = environ["REQUEST_METHOD"], route.access_by(self._settings)
        if who is Access.APP:
            access.has_key(environ, self._settings)
        elif who is not Access.PUBLIC and not (who is Access.TICKET and self._has_ticket(environ)):
            access.check(environ, self._settings, commands=who is Access.COMMAND, known_as=self._known_as())
        if method not in route.methods.split(", "):
            error = RequestError(f"{method} is not possible here; use {route.methods}", status=405,
                                 code="method_not_allowed")
            error.headers["Allow"] = route.methods
            raise error
        if method == "POST":
            access.require_json(environ)

    def _check_origin(self, route: Route, environ: dict[str, Any]) -> None:
        if route.access is not Access.PUBLIC:
            self._origins.check(environ, client=route.clients)

    def _has_ticket(self, environ: dict[str, Any]) -> bool:
        query = environ.get("QUERY_STRING", "")
        if "ticket=" not in query:
            return False
        # One only: whatever reads the query behind us must not find another one than was judged here.
        tickets = [value for name, value in parse_qsl(query, keep_blank_values=True) if name == "ticket"]
        return len(tickets) == 1 and self._knows_ticket(tickets[0], query)

    def _log_hidden(self, environ: dict[str, Any]) -> None:
        """Tell the operator once that the server leaves nobody to be this machine."""
        if not self._logged_hidden and (why := hidden(environ)):
            self._logged_hidden = True
            logger.warning("nobody counts as this machine: %s", why)


def _problem_of(error: Exception) -> HybridError:
    """Return what an error of a view becomes: the one place where errors become answers."""
    if isinstance(error, HybridError):
        return error
    if isinstance(error, HTTPException) and error.code is not None:
        code = "body_too_large" if error.code == 413 else "bad_http"
        return RequestError(error.description or error.name, status=error.code, code=code)
    logger.exception("answering a request failed", exc_info=error)
    return HybridError("the application failed")
