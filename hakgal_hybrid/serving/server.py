"""Server: listeners, lanes and the fan-out writer of one app, from start to a clean stop."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent
from gevent import pywsgi
from gevent import socket as gevent_socket
from gevent.event import Event

from ..errors import ConfigurationError
from ..feed import Feed
from ..histogram import Histogram
from ..logs import get_logger
from ..settings import Settings
from ..views.gate import CONNECT, CONTROL, DASHBOARD, DISCONNECT, STREAM, TICKET
from .attached import Attached
from .crew import Crew
from .exchange import Mailroom
from .fanout import Fanout
from .handler import Handler
from .lag import DeliveryLag, LoopLag
from .lanes import Lane
from .places import Budget, Connections
from .reader import hang_up
from .upgrade import answer_upgrade

if TYPE_CHECKING:
    from ..extension import HybridTransport

logger = get_logger(__name__)
#: The address is taken, or, on Windows, taken exclusively.
_IN_USE = (errno.EADDRINUSE, getattr(errno, "WSAEADDRINUSE", -1), getattr(errno, "WSAEACCES", -1))

access_logger = logging.getLogger("hakgal_hybrid.access")


#: How long opening a stream may take before the next one is opened beside it (seconds).
PATIENCE_S = 0.02
#: How many streams may wait to be opened for one request that may wait for a thread: they are small and come in storms.
STREAMS_FOR_A_REQUEST = 8


class Front:
    """What every connection of one server shares: lanes, writer, mailroom.

    :ivar active: how many requests are being answered.
    """

    def __init__(self, transport: HybridTransport) -> None:
        settings: Settings = transport.settings
        self.settings = settings
        self.loop = gevent.get_hub().loop
        self.left: Callable[[Feed, str], None] = transport.stream_left
        self.degraded: Callable[[str], None] = transport.degraded
        self.attached = Attached(settings, self.left, lambda: transport.stopping)
        self.fanout = Fanout(transport.hub, settings, self.left, lambda: transport.stopping, self.attached,
                             lambda: self.active > len(self.attached))
        self.refusals = transport.refusals
        self.connections = Connections(settings.max_connections, lambda: self.refusals.count("connection_gave_way"))
        self.bodies = Budget(settings.queue_bytes)
        self.mailroom = Mailroom(self.loop)
        self.upgrades = threading.Semaphore(settings.max_upgrades)
        self.active = 0
        self.lag = LoopLag()
        self.delivery = DeliveryLag(transport.hub.log, self.fanout.__len__)
        self.fanout.passed = self.delivery.passed
        self.answers = Histogram()
        bounds: dict[str, Any] = {"max_waiting": settings.queue_requests, "max_bytes": settings.queue_bytes}
        self.host = Lane("host", settings.threads, **bounds)
        # Opening streams runs the host's connect handler: it must not be able to hold up control and status.
        many = {**bounds, "max_waiting": STREAMS_FOR_A_REQUEST * settings.queue_requests}
        self.streams = Lane("stream", settings.reserved_threads, **many, patience_s=PATIENCE_S,
                            gives_way=self.fanout.at_rest)
        self.control = Lane("control", settings.reserved_threads, **bounds)

    def lane_of(self, path: str) -> Lane:
        """Return the lane that answers this URL: ours are never behind the host's."""
        if path in (STREAM, CONNECT, DISCONNECT):
            return self.streams
        if path in (CONTROL, TICKET) or path.startswith((CONTROL + "/", DASHBOARD)):
            return self.control
        return self.host

    def run_upgrade(self, application: Any, environ: dict[str, Any], sock: Any) -> None:
        """Answer an upgrade request, in its own thread."""
        try:
            answer_upgrade(application, environ, sock)
        finally:
            self.upgrades.release()

    def statistics(self) -> dict[str, Any]:
        """Return a snapshot of the serving side."""
        lanes = {lane.name: lane.statistics() for lane in (self.host, self.streams, self.control)}
        return {"requests": self.active, "connections": self.connections.open, "lanes": lanes,
                "fanout": self.fanout.statistics(), "loop_lag": self.lag.statistics(),
                "delivery_lag": self.delivery.statistics(), "request_time": self.answers.statistics()}


class _Listener(pywsgi.WSGIServer):  # type: ignore[misc]
    """One listening socket of the server."""

    handler_class = Handler
    #: How many connections are accepted before the loop looks at anything else: a storm of them must not hold it up.
    max_accept = 8

    def __init__(self, front: Front, sock: Any, application: Any, log: Any, ssl_args: dict[str, Any]) -> None:
        self.front = front
        self._logs = log is not None
        self.crew = Crew(front.loop)
        super().__init__(sock, application, spawn=self.crew.spawn, log=log, error_log=logger,
                         environ={"wsgi.errors": sys.stderr}, **ssl_args)

    def logs_requests(self) -> bool:
        """Whether somebody reads the access log."""
        return self._logs and access_logger.isEnabledFor(logging.INFO)

    def update_environ(self) -> None:
        """Name the server without asking a name service."""
        self.environ.setdefault("SERVER_NAME", str(self.address[0]))
        self.environ.setdefault("SERVER_PORT", str(self.address[1]))

    def wrap_socket_and_handle(self, client_socket: Any, address: Any) -> Any:
        """Begin TLS, within the time a request's head may take, then serve the connection."""
        place = self.front.connections.enter(lambda: hang_up(client_socket))
        try:
            if place is None:
                raise ConnectionRefusedError("there are too many connections")
            with gevent.Timeout(self.front.settings.request_s):
                tls = self.wrap_socket(client_socket, **self.ssl_args)
        except (OSError, gevent.Timeout) as error:
            logger.debug("TLS handshake with %s failed: %s", address, error)
            self.front.refusals.count("too_many_connections" if place is None else "bad_tls")
            client_socket.close()
            return None
        finally:
            if place is not None:
                self.front.connections.leave(place)
        with tls:
            return self.handle(tls, address)


class Server:
    """Serves one app on every address a host name stands for.

    :param application: the WSGI app, usually the Flask app itself.
    :param host: a name or address; ``localhost`` listens on ``127.0.0.1`` and ``::1``, if it resolves to both.
    :param port: a port; 0 for any free one (the same for all addresses).
    :param log_output: log every request to the logger ``hakgal_hybrid.access``.
    :param ssl_args: what ``ssl.wrap_socket`` or an ``ssl_context`` need; empty for plain HTTP.
    :param resolve: resolves names, as :func:`socket.getaddrinfo` does.
    :raises ConfigurationError: if an address cannot be listened on.
    """

    def __init__(self, transport: HybridTransport, application: Any, host: str, port: int, *, log_output: bool = False,
                 ssl_args: dict[str, Any] | None = None, resolve: Callable[..., Any] = socket.getaddrinfo) -> None:
        self._transport = transport
        self._ended = Event()
        self._front = Front(transport)
        sockets = listening_sockets(host, port, resolve)
        log = access_logger if log_output else None
        self._listeners = [_Listener(self._front, sock, application, log, ssl_args or {}) for sock in sockets]
        self.addresses: list[tuple[str, int]] = [sock.getsockname()[:2] for sock in sockets]

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self.addresses[0][1]

    def serve_forever(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until :meth:`stop`, Ctrl-C or a signal to end; then flush, say good-bye and return.

        :param ready: called once connections are accepted.
        """
        front = self._front
        self._transport.server_statistics = front.statistics
        self._transport.stopping = False
        front.fanout.start()
        front.lag.start()
        self._transport.observer.clogged = front.fanout.clogged
        self._transport.observer.start()
        for listener in self._listeners:
            listener.start()
        watchers = self._handle_signals()
        scheme = "https" if self._listeners[0].ssl_enabled else "http"
        logger.info("serving on %s", ", ".join(f"{scheme}://{_bracketed(address)}:{port}"
                                               for address, port in self.addresses))
        ready()
        try:
            self._ended.wait()
        except KeyboardInterrupt:
            pass
        finally:
            self._shut_down()
            for number, (watcher, previous) in watchers.items():
                watcher.cancel()
                signal.signal(number, signal.SIG_DFL if previous is None else previous)

    def stop(self) -> None:
        """End :meth:`serve_forever`. May be called from any thread."""
        self._front.mailroom.ring(self._ended)

    def _handle_signals(self) -> dict[int, tuple[Any, Any]]:
        """Have the usual signals end the server; return what must be put back when it has ended."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        names = ("SIGINT", "SIGTERM", "SIGBREAK")  # SIGBREAK is what CTRL_BREAK sends on Windows
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        previous = {number: signal.getsignal(number) for number in numbers}
        return {number: (gevent.signal_handler(number, self._ended.set), previous[number]) for number in numbers}

    def _shut_down(self) -> None:
        """Accept no more, let requests end, flush streams, close."""
        front, seconds = self._front, self._transport.settings.drain_s
        for listener in self._listeners:
            listener.close()
        with gevent.Timeout(seconds, False):
            while front.active > len(front.attached):  # what they still emit is flushed before the farewell
                gevent.sleep(0.005)
        self._transport.stop()
        ends = time.monotonic() + seconds
        front.fanout.farewell(seconds)
        while self._transport.hub.links.open and time.monotonic() < ends:
            gevent.sleep(0.005)  # WebSockets, whose threads say good-bye themselves
        for listener in self._listeners:
            listener.crew.kill(timeout=1)
        front.lag.stop()
        self._transport.observer.stop()
        self._transport.server_statistics = dict
        self._transport.hub.wake()
        front.mailroom.close()


def listening_sockets(host: str, port: int, resolve: Callable[..., Any] = socket.getaddrinfo) -> list[Any]:
    """Return a listening gevent socket for every address ``host`` resolves to, all on the same port.

    :raises ConfigurationError: if the name is unknown, or none of its addresses can be listened on.
    """
    try:
        found = resolve(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigurationError(f"host={host!r} cannot be resolved: {error}") from error
    sockets: list[Any] = []
    failures = []
    for family, _, _, _, address in dict.fromkeys((*item[:3], "", item[4]) for item in found):
        try:
            sock = _bound(family, (address[0], port, *address[2:]))
        except OSError as error:
            if error.errno in _IN_USE:  # whoever has it would get a part of our clients
                raise ConfigurationError(f"{address[0]}:{port} is in use; choose a free port") from error
            failures.append(f"{address[0]}:{port}: {error.strerror or error}")
            continue
        sockets.append(sock)
        port = sock.getsockname()[1]
    if not sockets:
        raise ConfigurationError(f"cannot listen on {'; '.join(failures)}; choose a free port")
    if failures:
        logger.warning("not listening on %s", "; ".join(failures))
    return sockets


def _bound(family: int, address: Any) -> Any:
    sock = gevent_socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            # There, SO_REUSEADDR would let another process take the port over.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(1024)
    except OSError:
        sock.close()
        raise
    return sock


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
