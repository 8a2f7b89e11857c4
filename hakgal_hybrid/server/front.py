"""Front: what every connection of the server needs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent

from ..broker.stream import SubscriberStream
from ..monitoring.histogram import Histogram
from ..settings import Settings
from ..web.urls import CONNECT, CONTROL, DASHBOARD, DISCONNECT, STREAM, TICKET
from .admission import AdmissionControl, Budget
from .fanout.fanout import Fanout
from .fanout.lag import DeliveryLag, LoopLag
from .fanout.tls import Attached
from .pool import ThreadPool
from .upgrade import answer_upgrade
from .wsgi import LoopNotifier

if TYPE_CHECKING:
    from ..extension import HybridTransport

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
        self.left: Callable[[SubscriberStream, str], None] = transport.stream_left
        self.degraded: Callable[[str], None] = transport.degraded
        self.attached = Attached(settings, self.left, lambda: transport.stopping)
        self.fanout = Fanout(transport.hub, settings, self.left, lambda: transport.stopping, self.attached,
                             lambda: self.active > len(self.attached))
        self.refusals = transport.refusals
        self.connections = AdmissionControl(settings.max_connections,
                                            lambda: self.refusals.count("connection_gave_way"))
        self.bodies = Budget(settings.queue_bytes)
        self.mailroom = LoopNotifier(self.loop)
        self.upgrades = threading.Semaphore(settings.max_upgrades)
        self.active = 0
        self.lag = LoopLag()
        self.delivery = DeliveryLag(transport.hub.log, self.fanout.__len__)
        self.fanout.passed = self.delivery.passed
        self.answers = Histogram()
        bounds: dict[str, Any] = {"max_waiting": settings.queue_requests, "max_bytes": settings.queue_bytes}
        self.host = ThreadPool("host", settings.threads, **bounds)
        # Opening streams runs the host's connect handler: it must not be able to hold up control and status.
        many = {**bounds, "max_waiting": STREAMS_FOR_A_REQUEST * settings.queue_requests}
        self.streams = ThreadPool("stream", settings.reserved_threads, **many, patience_s=PATIENCE_S,
                            gives_way=self.fanout.at_rest)
        self.control = ThreadPool("control", settings.reserved_threads, **bounds)

    def lane_of(self, path: str) -> ThreadPool:
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
