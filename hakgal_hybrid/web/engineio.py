"""Engine.IO over HTTP: the URL at which unmodified clients of Socket.IO are served, under every server.

It has rules of its own for what a request must be and how it is refused, so it stands beside the views of our other
URLs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs

from ..broker.budget import Budget
from ..broker.engineio.held import TEXT, Answer, HeldAnswer, HeldPoll, HeldPost, refusal_answer
from ..broker.engineio.packets import ProtocolError, decode_payload
from ..broker.engineio.refusals import Refusal, RefusalCode
from ..broker.engineio.registry import TICK_S, EngineRegistry
from ..broker.engineio.session import EngineSession
from ..broker.engineio.upper import EngineOptions
from ..broker.engineio.websocket import OpenedWebSocket
from ..broker.environ import ADDRESS, CONNECTION_KEYS, HANDOFF, PATH
from ..broker.timers import TimerQueue, TimerWheel
from ..broker.wakeups import make_wakeup
from ..commands.socketio_calls import Sharing
from ..commands.socketio_session import SocketIOSession
from ..commands.worker import Worker
from ..errors import HybridError, UnsuitableServer
from ..logs import get_logger
from .cors import READABLE_BY_ALL, cors_headers, preflight_headers
from .engineio_access import EngineAccess
from .peers import address_of
from .services import Services
from .suitability import check_server
from .urls import Access, Route
from .websocket.serving import is_handshake, serve_websocket, serves_websockets

logger = get_logger(__name__)

#: How many calls of clients may wait for a thread.
MAX_WAITING = 100_000
#: Of how many versions of Engine.IO that are not served the log has a line.
MAX_VERSIONS = 5

#: What means nothing once a request is answered. Handlers see the opening request without it: what is left is mostly
#: the same for many clients, and kept once.
_PASSING = (*CONNECTION_KEYS, "CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_TRANSFER_ENCODING", "HTTP_SEC_WEBSOCKET_KEY")
#: What the rules of CORS know of the URL.
_ROUTE = Route("/socket.io/", "GET, POST, OPTIONS", Access.READ, clients=True)


class EngineEndpoint:
    """WSGI app: polling of Engine.IO.

    :param services: the parts that it uses.
    """

    def __init__(self, services: Services) -> None:
        self._services, self._node = services, services.node
        timers = TimerQueue()
        self.sessions = EngineRegistry(timers, lambda: services.node.hub.broker.process)
        later = TimerWheel[Callable[[], object]](timers, TICK_S, lambda call: call())
        self._access = EngineAccess(services)
        worker = Worker("hakgal-hybrid-socketio", MAX_WAITING, services.node.settings.threads)
        settings, largest = services.node.settings, EngineOptions().max_payload
        self._sharing = Sharing(services.node, worker.submit, services.rate.wait_s, later.call_later,
                                budget=Budget(max(settings.queue_bytes, largest)))
        self._node.engine_counters.sessions, self._node.on_stop = self.sessions.all, self.sessions.stop
        self._node.engine_session = self.sessions.get
        self._met_versions: set[str | None] = set()

    def owns(self, environ: Mapping[str, Any]) -> bool:
        """Return true if a request is to be served here.

        :param environ: the WSGI environment.
        """
        return self._node.serves_engineio(environ.get("PATH_INFO", ""), environ.get(PATH))

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request.

        :param environ: the WSGI environment.
        :param start_response: takes status and headers of the answer.
        :return: the chunks of the answer.
        """
        cors = cors_headers(environ, _ROUTE, self._services.origins)
        headers = [("Cache-Control", "no-store, no-transform"), ("X-Accel-Buffering", "no"), *cors]
        try:
            if environ["REQUEST_METHOD"] == "OPTIONS":
                self._services.origins.check(environ, client=True)
                start_response("204 No Content", [*headers, *preflight_headers(_ROUTE, cors, environ)])
                return []
            query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
            if _one(query, "transport") not in self._node.engine_options.transports:
                raise Refusal(RefusalCode.UNKNOWN_TRANSPORT)
            if _one(query, "transport") == "websocket" and serves_websockets(environ):
                return self._websocket(environ, query, start_response)
            answer = self._answer(environ, query)
        except (Refusal, HybridError) as error:
            answer = refusal_answer(self._counted(error))
            if isinstance(error, HybridError) and error.code == "foreign_origin" and "HTTP_ORIGIN" in environ:
                self._services.origins.log_refused(environ["HTTP_ORIGIN"])
                headers = [*headers, *READABLE_BY_ALL]
        except _TooLarge:
            self._node.refusals.count("body_too_large")
            answer = Answer("413 Content Too Large", TEXT, b"")
        if answer is None:  # our own server writes it
            start_response("200 OK", headers)
            return []
        start_response(answer.status, [("Content-Type", answer.content_type),
                                       ("Content-Length", str(len(answer.body))), *headers])
        return [answer.body]

    def _answer(self, environ: dict[str, Any], query: Mapping[str, list[str]]) -> Answer | None:
        transport, sid, method = _one(query, "transport"), _one(query, "sid"), environ["REQUEST_METHOD"]
        if transport != "polling":
            raise Refusal(RefusalCode.UNKNOWN_TRANSPORT)
        if "j" in query:
            raise Refusal(RefusalCode.BAD_REQUEST, "JSONP is not served")
        self._access.check(environ, _one(query, "apiKey"))
        if sid is None:
            opened = self._open(environ, query).handshake(
                upgrades=self._node.engine_options.upgrades and serves_websockets(environ))
            return Answer("200 OK", TEXT, opened.encode())
        session = self.sessions.find(sid)
        if method == "GET":
            return self._hold(HeldPoll(session, lambda: self._node.stopping), environ)
        if method == "POST":
            return self._hold(self._receive(session, environ), environ)
        raise Refusal(RefusalCode.BAD_REQUEST)

    def _counted(self, error: Refusal | HybridError) -> Refusal:
        """Count a refusal; return it by the codes of Engine.IO."""
        if isinstance(error, Refusal):
            self._node.engine_counters.refused(error.counted_as)
            return error
        self._node.refusals.count(error.code)
        self._node.engine_counters.refused(error.code)
        return _refusal_of(error)

    # -- the handshake ---------------------------------------------------------------------------------------

    def _check_version(self, version: str | None) -> None:
        """Refuse clients of other versions of Engine.IO, and name each version once in the log.

        :raises Refusal: as Engine.IO defines it.
        """
        if version == "4":
            return
        if version not in self._met_versions and len(self._met_versions) < MAX_VERSIONS:
            self._met_versions.add(version)
            logger.warning("a client of Socket.IO asks for EIO=%.20r and is refused: EIO=4 is served, which libraries "
                           "speak that were made for Socket.IO 3 or later", version)
        raise Refusal(RefusalCode.UNSUPPORTED_VERSION)

    def _open(self, environ: dict[str, Any], query: Mapping[str, list[str]], *,
              websocket: bool = False) -> EngineSession:
        """Return a new session.

        :raises Refusal: if the request is none for one; 4 also for what is not permitted, or too much.
        :raises HybridError: if it is not permitted, or there are too many.
        """
        if environ["REQUEST_METHOD"] != "GET":
            raise Refusal(RefusalCode.BAD_METHOD)
        check_server(environ, self._node.settings)
        self._check_version(_one(query, "EIO"))
        environ[ADDRESS] = address_of(environ)
        opening = {key: value for key, value in environ.items() if key not in _PASSING}
        admission = self._access.admit(environ, _one(query, "apiKey"))
        try:
            upper = SocketIOSession(self._sharing, opening, admission)
        except BaseException:
            admission.end()
            raise
        session = EngineSession(upper, self._node.engine_options, websocket=websocket,
                                process=self._node.hub.broker.process)
        self.sessions.add(session)
        self._node.engine_counters.count("opened")
        return session

    def _websocket(self, environ: dict[str, Any], query: Mapping[str, list[str]],
                   start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve a WebSocket."""
        self._access.check(environ, _one(query, "apiKey"))
        sid = _one(query, "sid")
        session = None if sid is None else self.sessions.find(sid)
        if not is_handshake(environ):
            raise _without_upgrade(environ)
        if session is None:
            session = self._open(environ, query, websocket=True)
        opened = OpenedWebSocket(session, self._node.engine_options.max_payload, sid is not None)
        return serve_websocket(environ, start_response, opened, self._node)

    # -- down and up -----------------------------------------------------------------------------------------

    def _hold(self, held: HeldAnswer, environ: dict[str, Any]) -> Answer | None:
        """Wait in this thread for an answer; under our own server, have it wait without one."""
        if HANDOFF in environ:
            environ[HANDOFF].append(held)
            return None
        woken, answer = make_wakeup(), None
        held.on_wake = woken.set
        remove_waker = self._node.hub.broker.add_waker(woken.set)
        try:
            while (answer := held.take()) is None:
                woken.wait(held.wait_s)
                woken.clear()
        finally:
            remove_waker()
            if answer is None:
                held.abandon()
        return answer

    def _receive(self, session: EngineSession, environ: dict[str, Any]) -> HeldPost:
        """Take the packets of a request's body."""
        polling = session.polling
        if environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() == "application/octet-stream":
            session.fail("transport error")
            raise Refusal(RefusalCode.BAD_REQUEST)
        polling.begin_post()
        try:
            body = _body_of(environ, self._node.engine_options.max_payload)
            return HeldPost(session, decode_payload(body), len(body))
        except _TooLarge as error:
            session.too_large(error.size)
            polling.end_post()
            raise
        except ProtocolError as error:
            logger.info("closed a session of Socket.IO: %s", error)
            session.fail("transport error")
            polling.end_post()
            raise Refusal(RefusalCode.BAD_REQUEST) from error
        except BaseException:
            polling.end_post()
            raise


class _TooLarge(Exception):
    """A body is larger than it may be.

    :param size: how large it is, at least, in bytes.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


def _body_of(environ: Mapping[str, Any], limit: int) -> bytes:
    length = environ.get("CONTENT_LENGTH") or ""
    if length.isdecimal() and int(length) > limit:
        raise _TooLarge(int(length))
    if not length.isdecimal() and not environ.get("wsgi.input_terminated"):
        return b""
    body: bytes = environ["wsgi.input"].read(int(length) if length.isdecimal() else limit + 1)
    if len(body) > limit:
        raise _TooLarge(len(body))
    return body


def _one(query: Mapping[str, list[str]], name: str) -> str | None:
    """Return the first value of a parameter."""
    return next(iter(query.get(name, ())), None)


def _without_upgrade(environ: Mapping[str, Any]) -> Refusal:
    """Return the refusal of a request for a WebSocket that is no handshake."""
    refusal = Refusal(RefusalCode.BAD_REQUEST)
    if "HTTP_UPGRADE" not in environ:  # browsers always send it
        refusal.counted_as = "no_upgrade_header"
        logger.warning("a client of Socket.IO asks for a WebSocket, and its request has no header Upgrade: a proxy "
                       "takes it away, and the client goes on polling")
    return refusal


def _refusal_of(error: HybridError) -> Refusal:
    return Refusal(RefusalCode.FORBIDDEN, f"{error.code}: {error.detail}",
                   400 if isinstance(error, UnsuitableServer) else None)
