"""W1: the next event is published when every client has got the last one. Nothing can be coalesced."""

from __future__ import annotations

from ..peers import Peer
from ..targets import ratio
from . import Case, Metric, Scale, Values, Workload, streams, websockets
from .audience import SIZE, audience, told_losses


def measure(peer: Peer, scale: Scale, clients: int) -> Values:
    with audience(peer, clients) as (server, load):
        warm = load.order(f"each 20 {SIZE}")
        events = max(20, min(20_000, int(scale.seconds / (warm["seconds"] / 20))))
        load.order("reset")
        before, load_before = server.cpu_seconds(), load.cpu_seconds()
        took = load.order(f"each {events} {SIZE}", timeout=20 + 4 * scale.seconds)
        used, load_used = server.cpu_seconds() - before, load.cpu_seconds() - load_before
        stats = load.order("stats all")
        deliveries = stats["events"]
        return {
            "clients": clients, "events": took["asked"],
            "deliveries_per_s": deliveries / took["seconds"],
            "cpu_s_per_million": used / deliveries * 1e6,
            "p50_ms": stats["latency_us"]["p50"] / 1000, "p99_ms": stats["latency_us"]["p99"] / 1000,
            "load_cpu_percent": load_used / took["seconds"] * 100,
            **told_losses(stats, events),
        }


WORKLOAD = Workload(
    "W1", "Event by event", measure,
    lambda scale: [Case(f"{scale.clients} clients", {"clients": scale.clients},
                        lambda peer: streams(peer) and peer.key != "c-coalescing"),
                   Case(f"{scale.clients} WebSockets", {"clients": scale.clients}, websockets, reference="c-ws")],
    [Metric("deliveries_per_s", "deliveries", "k/s", scale=1000, higher=True, ratio=True, plot=True),
     Metric("cpu_s_per_million", "CPU a million", "s", ratio=True, plot=True),
     Metric("p50_ms", "p50", "ms"), Metric("p99_ms", "p99", "ms"),
     Metric("load_cpu_percent", "load's CPU", "%", digits=0, higher=None)],
    explanation="The next event is published when every client has got the last one.",
    targets=[ratio("deliveries_per_s", "c", least=0.75), ratio("deliveries_per_s", "nchan", least=1.1),
             ratio("deliveries_per_s", "gevent-recipe", least=3), ratio("deliveries_per_s", "flask-socketio", least=4),
             *(ratio("deliveries_per_s", peer, least=least, case=1, ours="ours-ws") for peer, least in
               (("c-ws", 0.65), ("flask-socketio", 5), ("flask-socketio-threads", 5)))],
)
