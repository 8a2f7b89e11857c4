"""Front: what every connection of the server needs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qs
from weakref import WeakSet

import gevent

from ..broker.budget import Budget
from ..broker.payload import LARGE
from ..broker.states import StreamEnd
from ..broker.stream import SubscriberStream
from ..commands.node import Node
from ..errors import Headers
from ..logs import get_logger
from ..monitoring.histogram import Histogram
from .admission import AdmissionControl
from .body import BodyLimit
from .fanout.fanout import Fanout
from .fanout.lag import DeliveryLag, LoopLag
from .fanout.tls import Attached
from .held import HeldAnswers
from .notifier import EventNotifier
from .openings import OpeningPool
from .pool import ThreadPool
from .spool import Spools
from .websocket_tls import SecureWebSockets
from .websockets import WebSockets

logger = get_logger(__name__)

#: Called with each line of the access log, and with its fields by name.
AccessLog = Callable[[str, dict[str, Any]], None]
#: Which of the three pools answers a request.
PoolName = Literal["host", "stream", "control"]

#: The part of the host's threads that answer requests for our URLs with :data:`.LARGE` bodies, and at least two.
LARGE_SHARE = 8
#: How long the opening of a stream has the threads for streams to itself (seconds). In a storm of 1,000 resumes, events
#: reach the other streams 2 to 5 times as late (99th percentile) without it.
OPENING_ALONE_S = 0.02
#: Threads that read what waits in files for clients.
FILE_THREADS = 4
#: How many streams may wait to be opened for one request that may wait for a thread: they are small and come in storms.
STREAMS_FOR_A_REQUEST = 8


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What is served at one listening socket.

    :param application: the WSGI app.
    :param environ: what the environments of all requests have in common; see :func:`.base_environ`.
    :param secure: whether clients speak TLS.
    :param log: writes the access log; ``None`` if nobody reads it.
    """

    application: Any
    environ: dict[str, Any]
    secure: bool
    log: AccessLog | None


class Front:
    """What every connection of one server shares: thread pools, writer of streams, bounds.

    :param node: what is served.
    :param lane_of: returns which pool answers a path.
    :param is_stream: returns whether a path opens a stream.
    :param is_ours: returns whether a path is one of our URLs, whose requests have small bodies.
    :param refuses: returns whether a request, by its WSGI environment, seems not to be permitted.
    :param refusal_headers: returns further headers of a refusal, given the WSGI environment; an empty one where there
        is no valid request.
    :ivar active: how many requests are being answered.
    :ivar closing: true once no further request is answered, because the server stops.
    """

    def __init__(self, node: Node, *, lane_of: Callable[[str], PoolName], is_stream: Callable[[str], bool],
                 is_ours: Callable[[str], bool], refuses: Callable[[dict[str, Any]], bool],
                 refusal_headers: Callable[[dict[str, Any]], Headers]) -> None:
        settings = node.settings
        self.settings = settings
        self.is_stream, self.is_ours, self.refuses, self._lane_of = is_stream, is_ours, refuses, lane_of
        self.refusal_headers = refusal_headers
        self.loop = gevent.get_hub().loop
        self.stream_ended: Callable[[SubscriberStream, StreamEnd], None] = node.lifecycle.stream_ended
        self.degraded: Callable[[str], None] = node.degraded
        self.attached = Attached(settings, self.stream_ended, lambda: node.stopping)
        self.fanout = Fanout(node.hub, settings, self.stream_ended, lambda: node.stopping, self.attached)
        self.refusals = node.refusals
        self.connections = AdmissionControl(settings.max_connections,
                                            lambda: self.refusals.count("connection_gave_way"))
        self.bodies = Budget(settings.queue_bytes)
        self.notifier = EventNotifier(self.loop)
        self.held = HeldAnswers(self.loop, node.hub, settings.max_backlog_s, self.notifier)
        self.serves_engineio = node.serves_engineio_at
        self.secure_websockets = SecureWebSockets(self.loop, node.hub.broker, self.notifier, settings.stall_s,
                                                  lambda: node.stopping)
        self._node = node
        self.websockets = WebSockets(self.loop, node.hub, settings, lambda: node.stopping)
        #: The sockets that are not the fan-out writer's, and those that the app has taken over.
        self.sockets: WeakSet[Any] = WeakSet()
        self.upgrades = threading.Semaphore(settings.max_upgrades)
        self.active, self.closing = 0, False
        self.lag = LoopLag()
        self.delivery = DeliveryLag(node.hub.log, self.fanout.__len__)
        self.fanout.passed = self.delivery.passed
        self.answers = Histogram()
        bounds: dict[str, Any] = {"max_waiting": settings.queue_requests, "max_bytes": settings.queue_bytes}
        self.host = ThreadPool("host", settings.threads, **bounds, extra=settings.extra_threads)
        # Opening streams runs the host's connect handler: it must not be able to hold up control and status.
        many = {**bounds, "max_waiting": STREAMS_FOR_A_REQUEST * settings.queue_requests}
        # At an edge it waits for another process, and takes nothing from anybody meanwhile.
        opening = max(settings.reserved_threads, settings.threads if settings.is_edge else 0)
        self.streams = OpeningPool(self.loop, self.notifier, self.fanout.precedence, threads=opening, **many,
                                   alone_s=OPENING_ALONE_S)
        self.notifier.delivered = self.fanout.precedence.on_free = self.streams.answered
        self.control = ThreadPool("control", settings.reserved_threads, **bounds)
        self.large = ThreadPool("large", max(2, settings.threads // LARGE_SHARE), **bounds)
        self._pools = {"host": self.host, "stream": self.streams, "control": self.control, "large": self.large}
        files = ThreadPool("file", FILE_THREADS, max_waiting=settings.max_connections, max_bytes=0)
        self.spools = Spools(self.loop, settings.spool_bytes, files, short=lambda: self.host.short,
                             on_cut=self._client_cut)

    def detaches_websocket(self, path: str) -> bool:
        """Return whether a WebSocket at a path is ours, and so is served without a thread.

        :param path: the path of a request, percent-decoded.
        """
        return self.serves_engineio(path) or (self.settings.enable_ws_special and self.is_stream(path))

    def pool_of(self, path: str, size: int) -> ThreadPool:
        """Return the threads that answer a request.

        :param path: its path, percent-decoded.
        :param size: how large its body is (bytes).
        :return: one of the four pools.
        """
        if self.serves_engineio(path):  # handlers run in threads of their own
            return self.control
        if self.detaches_websocket(path):
            return self.streams
        return self._pools["large" if size > LARGE and self.is_ours(path) else self._lane_of(path)]

    def body_limit(self, path: str) -> BodyLimit:
        """Return how large a request's body may be.

        :param path: its path, percent-decoded.
        """
        if self.serves_engineio(path):
            return BodyLimit(self._node.engine_options.max_payload, "max_http_buffer_size")
        if self.is_ours(path):
            return BodyLimit(self.settings.max_message_bytes, "HYBRID_MAX_MESSAGE_BYTES")
        return BodyLimit(self.settings.max_body_bytes, "HYBRID_MAX_BODY_BYTES")

    def oversized(self, environ: dict[str, Any], size: int) -> None:
        """Note a body of a client of Socket.IO that is too large, and was not read. Its session ends.

        :param environ: its WSGI environment.
        :param size: how large it is, at least (bytes).
        """
        session = self._node.engine_session(parse_qs(environ.get("QUERY_STRING", "")).get("sid", [""])[0])
        if session is not None:
            session.too_large(size)
        else:
            self._node.engine_counters.oversized(environ.get("REMOTE_ADDR", ""), size,
                                                 self._node.engine_options.max_payload)

    def forked(self) -> list[int]:
        """Put back, in a child, what connections change in a process.

        :return: the descriptors of all connections.
        """
        return [*(sock.fileno() for sock in list(self.sockets)), *self.websockets.filenos(), *self.fanout.forked()]

    def _client_cut(self) -> None:
        logger.warning("cut the slowest client of a streamed answer, because requests wait for threads")
        self.refusals.count("client_too_slow")
        self.degraded("client_too_slow")

    def statistics(self) -> dict[str, Any]:
        """Return a snapshot of what the serving side counts.

        :return: numbers by name, JSON values throughout.
        """
        lanes = {name: pool.statistics() for name, pool in self._pools.items()}
        return {"requests": self.active, "connections": self.connections.open, "lanes": lanes,
                "fanout": self.fanout.statistics(), "loop_lag": self.lag.statistics(),
                "delivery_lag": self.delivery.statistics(), "request_time": self.answers.statistics()}
