"""The load: what every host is given alike."""

from __future__ import annotations

from dataclasses import dataclass, field

from .timing import Endpoint

#: How many requests of one endpoint are under way at a time, and seconds between the beginnings of two of one thread:
#: about what dashboards do.
PARALLEL, PACE_S = 2, 0.1
#: A request that takes longer means that the stalled client is felt.
FELT_MS = 1000.0
MAX_STALL_REQUESTS = 300
MAX_STALL_S = 30.0
#: How long it may be that nothing arrives of what is still awaited, and how long the wait is at most.
SETTLE_S, MAX_SETTLE_S = 5.0, 60.0
#: An event that took longer than this to a client shows that more is still on its way, in milliseconds.
LATE_MS = 500.0
#: How many requests of ``/health`` CPU is counted over, and for how long at most.
WORK_REQUESTS, MAX_WORK_S = 500, 20.0
FACT = Endpoint("POST", "/api/facts", '{"statement": "MeasuredFact({tag}, Number{n})."}')
ENDPOINTS = (Endpoint("GET", "/health"), Endpoint("GET", "/api/status"), Endpoint("GET", "/api/facts?limit=20"),
             Endpoint("GET", "/api/facts/count"), Endpoint("POST", "/api/search", '{"query": "Energy{n}"}'))


@dataclass(frozen=True)
class Options:
    """The load, the same for every host.

    :ivar rate: events a second that each live client is sent in the phase "events"; ``seconds``: how long that is.
    :ivar requests: of each endpoint in the phase "latency".
    :ivar endpoints: none means those of :data:`ENDPOINTS` that the host has.
    :ivar write: whether facts may be stored (only to knowledge bases of our own, unless forced).
    :ivar control: whether the governor may be started and stopped.
    :ivar after_clients: what the clients are after the migration: ``sse`` or ``socketio``.
    """

    clients: int = 20
    stalled: int = 1
    rate: float = 50.0
    requests: int = 50
    seconds: float = 10.0
    endpoints: tuple[Endpoint, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    write: bool | None = None
    control: bool = True
    ws_path: str = "/ws"
    after_clients: str = "sse"
