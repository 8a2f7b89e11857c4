"""Statistics: one snapshot of everything that is counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..broker.backplane.statistics import BackplaneStatistics
from ..broker.counters import DeliveryStatistics
from ..broker.engineio.counters import EngineStatistics
from ..broker.entry import LogStatistics
from ..broker.journal import JournalStatistics


@dataclass(frozen=True, slots=True)
class Statistics:
    """Everything that is counted, at one moment. ``GET /api/hybrid/status`` shows it as JSON.

    :ivar transport: ``sse``; ``sse+socketio`` where clients of Socket.IO are served too; ``websocket`` where the host
        kept its own WebSocket.
    :ivar prefix: what our URLs begin with, before ``/api/``.
    :ivar origins: whose pages may be clients, by their origin: ``named``, ``app`` or ``every``.
    :ivar started_s: when the transport was made, in seconds since 1970.
    :ivar streams: open streams; ``refused``: streams that a limit kept out.
    :ivar clients: clients, those that may come back included; a stream may carry several.
    :ivar acks_waiting: events whose acknowledgement is waited for; ``acks_dropped``: those that gave way to others.
    :ivar oldest: id of the oldest event that can be had; ``newest``: of the newest.
    :ivar backplane: the log that several processes have, if there is one.
    :ivar socketio: the sessions of clients of Socket.IO.
    :ivar governor: whether there is a governor and commands for it are served; ``health``: whether the host's app has a
        route ``/health``.
    :ivar receiver_errors: blinker receivers that raised; ``slow_receivers``: that took over 100 ms.
    :ivar oldest_undelivered_s: for how long the oldest event has been waiting that an open stream still has to be sent;
        ``oldest_undelivered_max_s``: the most that was seen since the start.
    :ivar warnings_suppressed: log records of this process that :mod:`.logs` has left out.
    :ivar patched: whether ``eventlet`` or ``gevent`` has patched the standard library.
    :ivar refusals: how often something was refused or dropped, by the code that says why.
    :ivar server: what the serving side counts, while it runs.
    """

    profile: str
    transport: str
    prefix: str
    origins: str
    epoch: int
    started_s: float
    uptime_s: float
    streams: int
    clients: int
    refused: int
    acks_waiting: int
    acks_dropped: int
    oldest: str
    newest: str
    log: LogStatistics
    journal: JournalStatistics
    backplane: BackplaneStatistics
    traffic: DeliveryStatistics
    socketio: EngineStatistics
    governor: bool
    health: bool
    commands_waiting: int
    receiver_errors: int
    slow_receivers: int
    oldest_undelivered_s: float
    oldest_undelivered_max_s: float
    patched: dict[str, bool]
    warnings_suppressed: int
    refusals: dict[str, int]
    server: dict[str, Any]
