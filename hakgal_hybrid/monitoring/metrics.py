"""Metrics: what is counted, for Prometheus. Made anew of one snapshot whenever somebody asks; nothing is counted twice.

:data:`METRICS` says what becomes of each member of the status; ``docs/metrics.md`` lists the same. It needs the extra
``metrics`` (prometheus_client), which is imported when the first metrics are made.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple

from ..errors import UnsuitableServer
from .histogram import BOUNDS_MS
from .statistics import Statistics

#: What all names begin with.
PREFIX = "hakgal_hybrid_"
#: Every third bound of our histograms: a factor of two is what a scraper shall store.
_BOUNDS = BOUNDS_MS[::3]


class Metric(NamedTuple):
    """What a member of the status becomes.

    :ivar member: its dotted name; ``*`` stands for any name, which becomes the value of ``label``. Without ``*`` the
        value of ``label`` is the member's own, which is a text.
    :ivar name: without the prefix, and without the ``_total`` that a counter gets.
    :ivar kind: ``times`` are an object that :class:`~hakgal_hybrid.monitoring.histogram.Histogram` made: a histogram
        in seconds, and a gauge of its latest percentiles.
    """

    member: str
    name: str
    kind: Literal["counter", "gauge", "times"]
    help: str
    label: str = ""


METRICS = (
    Metric("started_s", "start_time_seconds", "gauge", "When the transport was made, in seconds since 1970."),
    Metric("uptime_s", "uptime_seconds", "gauge", "Time since the transport was made."),
    Metric("streams", "streams", "gauge", "Open streams."),
    Metric("clients", "clients", "gauge", "Clients, those that may come back included."),
    Metric("refused", "streams_refused", "counter", "Streams that a limit kept out."),
    Metric("acks_waiting", "acks_waiting", "gauge", "Events whose acknowledgement is waited for."),
    Metric("acks_dropped", "acks_dropped", "counter", "Events whose acknowledgement gave way to others."),
    Metric("oldest", "log_oldest_number", "gauge", "Number of the oldest event that can be had."),
    Metric("newest", "log_newest_number", "gauge", "Number of the newest event."),
    Metric("log.events", "log_events", "gauge", "Events that the log holds."),
    Metric("log.bytes", "log_bytes", "gauge", "Encoded bytes that the log holds."),
    Metric("log.appended", "events_emitted", "counter", "Events appended to the log."),
    Metric("log.evicted", "log_evicted_events", "counter", "Events that the log has dropped."),
    Metric("log.conflated", "conflated_events", "counter", "Events conflated away, summed over clients."),
    Metric("log.gaps", "gaps", "counter", "Gaps that clients were sent."),
    Metric("journal.state", "journal", "gauge", "1 for what the journal is: off, on or degraded.", "state"),
    Metric("journal.reason", "journal_trouble", "gauge", "1 while the journal cannot be written.", "reason"),
    Metric("journal.restored", "journal_restored_events", "gauge", "Events of earlier processes in the log at start."),
    Metric("journal.written", "journal_written_events", "counter", "Events written to the journal."),
    Metric("journal.waiting", "journal_waiting_events", "gauge", "Events that the journal has not written yet."),
    Metric("journal.lost", "journal_lost_events", "counter", "Events dropped before they could be written."),
    Metric("journal.bytes", "journal_bytes", "gauge", "Size of the journal's file."),
    Metric("backplane.state", "backplane", "gauge", "1 for how it stands with the backplane.", "state"),
    Metric("backplane.error", "backplane_trouble", "gauge", "1 while the backplane is not well.", "error"),
    Metric("backplane.address", "backplane_address", "gauge", "1 for where the backplane is.", "address"),
    Metric("backplane.name", "backplane_name", "gauge", "1 for the name of the log there.", "name"),
    Metric("backplane.tail.position", "backplane_position_number", "gauge", "Number of the last entry read."),
    Metric("backplane.sender.state", "backplane_sender", "gauge", "1 for how it stands with sending.", "state"),
    Metric("backplane.sender.error", "backplane_sender_trouble", "gauge", "1 while sending fails.", "error"),
    Metric("backplane.live", "backplane_up", "gauge", "1 while events of other processes come."),
    Metric("backplane.sender.sent", "backplane_sent_events", "counter", "Events that the backplane has taken."),
    Metric("backplane.sender.resent", "backplane_resent_events", "counter", "Events that it had lost, sent again."),
    Metric("backplane.sender.twins", "backplane_twins", "counter", "Other senders that had the same name."),
    Metric("backplane.sender.append_s", "backplane_append_seconds", "gauge", "How long the last call took."),
    Metric("backplane.sender.outbox.events", "backplane_outbox_events", "gauge", "Events that wait to be sent."),
    Metric("backplane.sender.outbox.bytes", "backplane_outbox_bytes", "gauge", "Their bytes."),
    Metric("backplane.sender.outbox.age_s", "backplane_outbox_age_seconds", "gauge", "How long the oldest has waited."),
    Metric("backplane.sender.outbox.dropped", "backplane_dropped_events", "counter", "Events that had no room."),
    Metric("backplane.tail.holes.*", "backplane_lost_events", "counter", "Events that are missing.", "reason"),
    Metric("backplane.tail.cuts", "backplane_cuts", "counter", "Generations of the log that have begun."),
    Metric("backplane.tail.duplicates", "backplane_duplicates", "counter", "Entries that had been read before."),
    Metric("backplane.tail.branches", "backplane_branches", "counter", "Times that entries read were in it no more."),
    Metric("backplane.tail.foreign", "backplane_foreign_entries", "counter", "Entries that are none of ours."),
    Metric("backplane.refilled", "backplane_refilled_entries", "counter", "Entries put back into the log."),
    Metric("backplane.lag_s", "backplane_lag_seconds", "gauge", "How old the newest event was when it was read."),
    Metric("backplane.processes", "backplane_processes", "gauge", "Processes that are alive, this one included."),
    Metric("backplane.clients", "backplane_clients", "gauge", "Clients of all of them."),
    Metric("backplane.streams", "backplane_streams", "gauge", "Streams of all of them."),
    Metric("traffic.delivered", "delivered_events", "counter", "Events written to streams, summed over streams."),
    Metric("traffic.bytes", "delivered_bytes", "counter", "Bytes of events written to streams."),
    Metric("traffic.ended.*", "streams_ended", "counter", "Streams that have ended, by reason.", "reason"),
    Metric("socketio.polling", "socketio_polling_sessions", "gauge", "Sessions of Socket.IO's clients that poll."),
    Metric("socketio.websocket", "socketio_websocket_sessions", "gauge", "Those on a WebSocket."),
    Metric("socketio.polls", "socketio_polls_waiting", "gauge", "Polls that wait for packets."),
    Metric("socketio.not_upgraded", "socketio_not_upgraded_sessions", "gauge",
           "Sessions that have been polling for 30 s, though they may change over to a WebSocket."),
    Metric("socketio.opened", "socketio_sessions_opened", "counter", "Sessions that were opened."),
    Metric("socketio.gaps", "socketio_gaps", "counter", "Sessions closed because their client was too slow."),
    Metric("socketio.oversized", "socketio_oversized_messages", "counter",
           "Bodies and messages over max_http_buffer_size."),
    Metric("socketio.delayed", "socketio_delays", "counter", "How often messages waited because they came too fast."),
    Metric("socketio.ended.*", "socketio_sessions_ended", "counter", "Sessions that have ended, by reason.", "reason"),
    Metric("socketio.refused.*", "socketio_refused_requests", "counter", "Requests that were refused, by code.",
           "code"),
    Metric("socketio.recoveries.*", "socketio_recoveries", "counter", "Clients that asked to come back.", "outcome"),
    Metric("governor", "governor", "gauge", "1 if there is a governor, and commands for it are served."),
    Metric("health", "health_route", "gauge", "1 if the host's app has a route /health."),
    Metric("commands_waiting", "commands_waiting", "gauge", "Governor commands that have not begun."),
    Metric("receiver_errors", "receiver_errors", "counter", "Signal receivers that raised."),
    Metric("slow_receivers", "slow_receivers", "counter", "Signal receivers that took more than 100 ms."),
    Metric("oldest_undelivered_s", "oldest_undelivered_seconds", "gauge",
           "How long the oldest event has been waiting that an open stream still has to be sent."),
    Metric("oldest_undelivered_max_s", "oldest_undelivered_max_seconds", "gauge", "The most of it since the start."),
    Metric("patched.*", "patched", "gauge", "1 if this library has patched Python's standard library.", "library"),
    Metric("warnings_suppressed", "warnings_suppressed", "counter", "Log records left out because of their number."),
    Metric("refusals.*", "refusals", "counter", "What was refused or dropped, by the code that says why.", "code"),
    Metric("server.requests", "requests_in_progress", "gauge", "Requests being answered."),
    Metric("server.connections", "connections", "gauge", "Connections besides streams and WebSockets."),
    Metric("server.lanes.*.threads", "lane_threads", "gauge", "Threads of a lane.", "lane"),
    Metric("server.lanes.*.busy", "lane_busy_threads", "gauge", "Threads of a lane that run something.", "lane"),
    Metric("server.lanes.*.waiting", "lane_waiting_requests", "gauge", "Requests that wait for a thread.", "lane"),
    Metric("server.lanes.*.rejected", "lane_rejected_requests", "counter", "Requests that found the queue full.",
           "lane"),
    Metric("server.fanout.streams", "fanout_streams", "gauge", "Streams that the fan-out writer writes."),
    Metric("server.fanout.blocked", "fanout_blocked_streams", "gauge", "Those of them whose socket is full."),
    Metric("server.loop_lag", "loop_lag", "times", "By how much the event loop comes too late."),
    Metric("server.delivery_lag", "delivery_lag", "times", "From emit to the last socket that was ready."),
    Metric("server.request_time", "request_time", "times", "From a request's head to its answer's."),
)

#: Members that tell who this is; they become the labels of one metric ``info``.
INFO = ("profile", "transport", "prefix", "origins", "epoch")


class Exporter:
    """The metrics of one transport, in a registry of their own: an app's own metrics are not touched.

    :param snapshot: returns what is counted.
    :raises UnsuitableServer: 501, if prometheus_client is not installed.
    """

    def __init__(self, snapshot: Callable[[], Statistics]) -> None:
        try:
            from prometheus_client import CollectorRegistry
        except ImportError as error:
            raise UnsuitableServer('metrics need prometheus_client: pip install "hakgal_hybrid[metrics]"', status=501,
                                   code="metrics_not_installed") from error
        self._snapshot = snapshot
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def expose(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their content type: OpenMetrics where that is accepted, else Prometheus' own.

        :param accept: the value of the header ``Accept``.
        """
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Any]:
        """Yield the metric families of this moment: what prometheus_client asks of a collector."""
        return families(dataclasses.asdict(self._snapshot()))

    def describe(self) -> list[Any]:
        """Return nothing: the names are known to be unique, and asking would take a snapshot."""
        return []


def families(status: dict[str, Any]) -> Iterator[Any]:
    """Yield the metric families of a snapshot.

    :param status: what ``GET /api/hybrid/status`` answers.
    """
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

    yield InfoMetricFamily(PREFIX.rstrip("_"), "Who this is.",
                           {**{name: str(status[name]) for name in INFO},
                            "version": importlib.metadata.version("hakgal_hybrid")})
    for metric in METRICS:
        found = list(_members(status, metric.member.split(".")))
        if metric.kind == "times":
            for _, times in found:
                yield from _times(metric, times)
            continue
        family = (CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily)(
            PREFIX + metric.name, metric.help, labels=[metric.label] if metric.label else [])
        for label, value in found:
            if metric.label and "*" not in metric.member:  # a text becomes a label
                if value is not None:
                    family.add_metric([value], 1)
                continue
            family.add_metric([label] if metric.label else [], _number(value))
        yield family


def _members(status: Any, path: list[str], label: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the members that a path leads to, with what ``*`` stood for; none where there is no such member."""
    if not path:
        yield label, status
        return
    first, rest = path[0], path[1:]
    for name in status if first == "*" else [first] if first in status else []:
        yield from _members(status[name], rest, name if first == "*" else label)


def _number(value: Any) -> float:
    return float(value.rpartition("-")[2]) if isinstance(value, str) else float(value)


def _times(metric: Metric, times: dict[str, Any]) -> Iterable[Any]:
    from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily

    buckets = [(repr(bound / 1000), _at_most(times["buckets"], bound)) for bound in _BOUNDS]
    total = times["buckets"][-1][1]
    yield HistogramMetricFamily(f"{PREFIX}{metric.name}_seconds", metric.help, buckets=[*buckets, ("+Inf", total)],
                                sum_value=times["sum_ms"] / 1000)
    recent = GaugeMetricFamily(f"{PREFIX}{metric.name}_recent_seconds", f"{metric.help} The last minute.",
                               labels=["figure"])
    for figure in ("p50", "p99", "max"):
        if times[f"{figure}_ms"] is not None:
            recent.add_metric([figure], times[f"{figure}_ms"] / 1000)
    yield recent


def _at_most(buckets: list[list[Any]], bound: float) -> float:
    """Return how many took at most ``bound``; buckets are left out at both ends, where they say nothing new."""
    return float(max((so_far for upper, so_far in buckets if upper is not None and upper <= bound), default=0))
