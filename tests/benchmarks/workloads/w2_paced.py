"""W2 and W4: 50 events a second, first by themselves, then with requests for a small route of the host meanwhile."""

from __future__ import annotations

from ..load import Ping
from ..peers import Peer
from ..targets import figure, ratio
from . import Case, Metric, Scale, Values, Workload
from .audience import SIZE, audience, told_losses

RATE = 50
#: Requests a second on a kept connection, and as many on new ones.
REQUESTS = 25


def measure(peer: Peer, scale: Scale, clients: int) -> Values:
    seconds = 2 * scale.seconds
    count = max(10, int(RATE * seconds))
    with audience(peer, clients) as (server, load):
        load.order("reset")
        before = server.cpu_seconds()
        done = server.ask(f"rate {RATE} {count} {SIZE}")
        load.order(f"wait all {count}", seconds + 20)
        took = done.result(20)["seconds"]
        used = server.cpu_seconds() - before
        stats = load.order("stats all")
        load.order("reset")
        pings = {kind: Ping(server.port, peer.health, seconds=seconds, rate=REQUESTS, new=new, connections=8)
                 for kind, new in (("kept", 0), ("new", 1))}
        done = server.ask(f"rate {RATE} {count} {SIZE}")
        load.order(f"wait all {count}", seconds + 20)
        done.result(20)
        health = {}
        for kind, ping in pings.items():
            answer = ping.result()
            latency = answer["latency_us"] or {"p50": float("nan"), "p95": float("nan")}
            health |= {f"health_{kind}_p50_ms": latency["p50"] / 1000, f"health_{kind}_p95_ms": latency["p95"] / 1000,
                       f"health_{kind}_failed": answer["errors"] + answer["refused"]}
        losses, more = told_losses(stats, count), told_losses(load.order("stats all"), count)
        return {
            "clients": clients, "p50_ms": stats["latency_us"]["p50"] / 1000,
            "p99_ms": stats["latency_us"]["p99"] / 1000, "cpu_percent": used / took * 100, **health,
            **{key: losses[key] + more[key] for key in losses},
        }


WORKLOAD = Workload(
    "W2", "50 events a second, and requests meanwhile (W4)", measure,
    lambda scale: [Case(f"{scale.clients} clients", {"clients": scale.clients})],
    [Metric("p50_ms", "p50", "ms", ratio=True, plot=True), Metric("p99_ms", "p99", "ms", ratio=True, plot=True),
     Metric("cpu_percent", "CPU", "%", digits=0, ratio=True, plot=True),
     Metric("health_kept_p50_ms", "/health p50, kept", "ms"),
     Metric("health_kept_p95_ms", "/health p95, kept", "ms", plot=True),
     Metric("health_new_p50_ms", "/health p50, new", "ms"), Metric("health_new_p95_ms", "/health p95, new", "ms")],
    explanation="Latency and processor time of 50 events a second alone; then again with 25 requests a second for "
                "`/health` on a kept connection and 25 on new ones.",
    targets=[*(ratio(metric, peer, most=most) for metric in ("p50_ms", "p99_ms", "cpu_percent")
               for peer, most in (("c", 1.25), ("nchan", 1.0))),
             figure("health_kept_p95_ms", most=4), figure("health_new_p95_ms", most=4)],
)
