"""Server: listening sockets, threads and the fan-out writer of one app, from start to a clean stop."""

from __future__ import annotations

import gc
import inspect
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import Any

import gevent
from gevent.event import Event
from gevent.server import StreamServer

from ..commands.node import Node
from ..errors import Headers
from ..logs import get_logger
from ..monitoring.backlog import BacklogMonitor
from ..settings.audience import audience
from .connection import hang_up
from .descriptors import make_room
from .environ import base_environ
from .forks import inherit_nothing
from .front import AccessLog, Endpoint, Front, PoolName
from .greenlets import GreenletPool
from .listening import bracketed, listening_sockets
from .loop import ConnectionLoop
from .openings import AT_ONCE

logger = get_logger(__name__)
#: How many objects Python may have frozen itself (some versions do): with more than these, the host has.
_FROZEN_BY_PYTHON = 1000
access_logger = logging.getLogger("hakgal_hybrid.access")


def _log_access(line: str, fields: dict[str, Any]) -> None:
    access_logger.info(line, extra=fields)


def _freeze() -> Callable[[], None]:
    """Have the garbage collector leave alone what is here: looking through a whole host stops everything for 15 ms.

    :return: a function that puts an end to that.
    """
    if gc.get_freeze_count() > _FROZEN_BY_PYTHON:
        return lambda: None  # the host has done so itself
    gc.collect()
    gc.freeze()
    return gc.unfreeze


class _Listener(StreamServer):  # type: ignore[misc]
    """One listening socket of the server.

    :param front: what all connections share.
    :param sock: a gevent socket that listens.
    :param application: the WSGI app.
    :param log: writes the access log; ``None`` if nobody reads it.
    :param ssl_args: what TLS needs; empty for plain HTTP.
    """

    #: How many connections are accepted before the loop looks at anything else: a storm of them must not hold it up.
    max_accept = AT_ONCE

    def __init__(self, front: Front, sock: Any, application: Any, log: AccessLog | None,
                 ssl_args: dict[str, Any]) -> None:
        self._front = front
        self._endpoint = Endpoint(application, base_environ(sock.getsockname(), secure=bool(ssl_args)), bool(ssl_args),
                                  log)
        self.greenlets = GreenletPool(front.loop)
        super().__init__(sock, spawn=self.greenlets.spawn, **ssl_args)
        front.streams.on_calm.append(self._start_accepting_if_started)

    def full(self) -> bool:
        """Return whether no connection is accepted for a moment, because streams are being opened."""
        return self._front.streams.keeps_out()

    def handle(self, sock: Any, address: Any) -> None:
        """Serve a connection, in a greenlet of its own.

        :param sock: its gevent socket.
        :param address: the client's address.
        """
        ConnectionLoop(self._front, self._endpoint, sock, address).run()

    def wrap_socket_and_handle(self, client_socket: Any, address: Any) -> None:
        """Begin TLS, within the time a request's head may take, then serve the connection.

        :param client_socket: its gevent socket.
        :param address: the client's address.
        """
        slot = self._front.connections.enter(lambda: hang_up(client_socket))
        try:
            if slot is None:
                raise ConnectionRefusedError("there are too many connections")
            with gevent.Timeout(self._front.settings.request_s):
                tls = self.wrap_socket(client_socket, **self.ssl_args)
        except (OSError, gevent.Timeout) as error:
            logger.debug("TLS handshake with %s failed: %s", address, error)
            self._front.refusals.count("too_many_connections" if slot is None else "bad_tls")
            client_socket.close()
            return
        finally:
            if slot is not None:
                self._front.connections.leave(slot)
        with tls:
            self.handle(tls, address)


class Server:
    """Serves one app on every address a host name stands for.

    :param node: what is served.
    :param application: the WSGI app, usually the Flask app itself.
    :param host: a name or address; ``localhost`` listens on ``127.0.0.1`` and ``::1``, if it resolves to both.
    :param port: a port; 0 for any free one (the same for all addresses).
    :param lane_of: returns which threads answer a path; see :class:`.Front`.
    :param is_stream: returns whether a path opens a stream.
    :param is_ours: returns whether a path is one of our URLs.
    :param refusal_headers: returns the CORS headers of a refusal.
    :param backlog: watches what clients have not been sent yet, while the server runs.
    :param refuses: returns whether a request, by its WSGI environment, seems not to be permitted: the app is asked then
        before its body is read.
    :param log_output: log every request to the logger ``hakgal_hybrid.access``.
    :param ssl_args: what ``ssl.wrap_socket`` or an ``ssl_context`` need; empty for plain HTTP.
    :param reuse_port: true to listen beside other processes that do so too.
    :param resolve: resolves names, as :func:`socket.getaddrinfo` does.
    :raises ConfigurationError: if an address cannot be listened on.
    """

    def __init__(self, node: Node, application: Any, host: str, port: int, *, lane_of: Callable[[str], PoolName],
                 is_stream: Callable[[str], bool], is_ours: Callable[[str], bool],
                 refusal_headers: Callable[[dict[str, Any]], Headers], backlog: BacklogMonitor,
                 refuses: Callable[[dict[str, Any]], bool] = lambda environ: False,
                 log_output: bool = False, ssl_args: dict[str, Any] | None = None, reuse_port: bool = False,
                 resolve: Callable[..., Any] = socket.getaddrinfo) -> None:
        self._node, self._backlog = node, backlog
        self._ended = Event()
        self._raised: BaseException | None = None
        self._front = Front(node, lane_of=lane_of, is_stream=is_stream, is_ours=is_ours, refuses=refuses,
                            refusal_headers=refusal_headers)
        sockets = listening_sockets(host, port, resolve, reuse_port=reuse_port)
        log = _log_access if log_output else None
        self._listeners = [_Listener(self._front, sock, application, log, ssl_args or {}) for sock in sockets]
        self.addresses: list[tuple[str, int]] = [sock.getsockname()[:2] for sock in sockets]

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self.addresses[0][1]

    def serve_forever(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until :meth:`stop`, Ctrl-C or a signal to end; then flush every stream, say farewell and return.

        A handler that was set for such a signal is called first. What it raises, ``SystemExit`` for one, is raised
        after the farewell. It is set again when this method ends.

        :param ready: called once connections are accepted.
        """
        front = self._front
        self._node.server_statistics = front.statistics
        self._node.stopping = False
        self._node.begin()
        front.fanout.start()
        front.websockets.start()
        front.lag.start()
        self._backlog.clogged = front.fanout.clogged
        self._backlog.start()
        for listener in self._listeners:
            listener.start()
        watchers = self._handle_signals()
        forget = inherit_nothing(watchers, partial(self._forked, watchers))
        scheme = "https" if self._listeners[0].ssl_enabled else "http"
        logger.info("serving on %s", ", ".join(f"{scheme}://{bracketed(address)}:{port}"
                                               for address, port in self.addresses))
        away = not all(ip_address(address).is_loopback for address, _ in self.addresses)
        logger.log(*audience(self._node.settings, away=away))
        make_room(self._node.settings.max_streams + self._node.settings.max_connections)
        thaw = _freeze()
        ready()
        try:
            self._ended.wait()
        except KeyboardInterrupt:
            pass
        finally:
            self._shut_down()
            thaw()
            forget()
            for number, (watcher, previous) in watchers.items():
                watcher.cancel()
                signal.signal(number, signal.SIG_DFL if previous is None else previous)
        if self._raised is not None:
            raise self._raised

    def stop(self) -> None:
        """End :meth:`serve_forever`. May be called from any thread."""
        self._front.notifier.set(self._ended)

    def _handle_signals(self) -> dict[int, tuple[Any, Any]]:
        """Have the usual signals end the server; return what must be put back when it has ended."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        names = ("SIGINT", "SIGTERM", "SIGBREAK")  # SIGBREAK is what CTRL_BREAK sends on Windows
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        previous = {number: signal.getsignal(number) for number in numbers}
        return {number: (gevent.signal_handler(number, self._end_by_signal, number, before), before)
                for number, before in previous.items()}

    def _end_by_signal(self, number: int, handler: Any) -> None:
        """Call the handler that was set before the server ran, then end the server."""
        try:
            if callable(handler) and handler is not signal.default_int_handler:
                handler(number, inspect.currentframe())
        except BaseException as error:  # SystemExit and KeyboardInterrupt too: they must not cost the clean stop
            self._raised = self._raised or error
        finally:
            self._ended.set()

    def _forked(self, watchers: dict[int, tuple[Any, Any]]) -> list[int]:
        """Put back, in a child, what a server changes in a process; return the descriptors of all sockets."""
        for watcher, _ in watchers.values():  # else libev would abort a child that runs a server of its own
            watcher.cancel()
        return [listener.socket.fileno() for listener in self._listeners if not listener.closed] + self._front.forked()

    def _shut_down(self) -> None:
        """Accept no more connections, let requests end, flush streams, close."""
        front, seconds = self._front, self._node.settings.drain_s
        for listener in self._listeners:
            listener.close()
        with gevent.Timeout(seconds, False):
            # What they still emit is flushed before the farewell.
            while front.active > len(front.attached) + len(front.held) + len(front.secure_websockets):
                gevent.sleep(0.005)
        front.closing = True
        self._node.stop()
        ends = time.monotonic() + seconds
        front.fanout.farewell(seconds)
        while self._node.hub.sessions.open and time.monotonic() < ends:
            gevent.sleep(0.005)  # WebSockets: their own threads write the farewell
        for listener in self._listeners:
            listener.greenlets.kill(timeout=1)
        front.lag.stop()
        self._backlog.stop()
        self._node.server_statistics = dict
        self._node.hub.broker.wake()
        front.spools.close()
        front.websockets.close()
        front.secure_websockets.close()
        front.held.close()
        front.streams.close()
        front.notifier.close()


