"""W2 and W4: 50 events a second, first by themselves, then with requests for a small route of the host meanwhile."""

from __future__ import annotations

from ..load import Load, Ping
from ..peers import Peer
from ..server import Server
from ..targets import figure, ratio
from . import Case, Metric, Scale, Values, Workload, websockets
from .audience import SIZE, audience, told_losses

RATE = 50
#: Requests a second on a kept connection, and as many on new ones.
REQUESTS = 25


#: How long after the last event is due a server that has not sent everything counts as overloaded.
INLINE_WAIT_S = 3.0


def measure(peer: Peer, scale: Scale, clients: int) -> Values:
    seconds = 1.5 * scale.seconds
    with audience(peer, clients) as (server, load):
        before = server.cpu_seconds()
        alone = published(server, load, seconds)
        used = server.cpu_seconds() - before
        pings = {kind: Ping(server.port, peer.health, seconds=seconds, rate=REQUESTS, new=new, connections=8)
                 for kind, new in (("kept", 0), ("new", 1))}
        meanwhile = {} if alone["overloaded"] else published(server, load, seconds)
        health: Values = {}
        for kind, ping in pings.items():
            answer = ping.result()
            for quantile in ("p50", "p95") if answer["latency_us"] else ():
                health[f"health_{kind}_{quantile}_ms"] = answer["latency_us"][quantile] / 1000
            health[f"health_{kind}_failed"] = answer["errors"] + answer["refused"]
    return {
        "clients": clients, "p50_ms": alone["p50_ms"], "p99_ms": alone["p99_ms"],
        "cpu_percent": used / alone["seconds"] * 100, **health, "overloaded": int(alone["overloaded"]),
        **{key: alone[key] + meanwhile.get(key, 0) for key in ("lost", "repeated", "hung_up")},
    }


def published(server: Server, load: Load, seconds: float) -> Values:
    """Publish for some seconds; return how the clients got it."""
    count = max(10, int(RATE * seconds))
    load.order("reset")
    asked = server.ask(f"rate {RATE} {count} {SIZE}")
    waited = load.order(f"wait all {count}", seconds + INLINE_WAIT_S, may_be_late=True)
    if waited["late"]:
        asked.forget()
    else:
        asked.result(5)
    stats = load.order("stats all")
    latency = stats["latency_us"] or {}
    return {"seconds": waited["seconds"], "overloaded": bool(waited["late"]),
            **{f"{quantile}_ms": latency[quantile] / 1000 if latency else None for quantile in ("p50", "p99")},
            **told_losses(stats, count, late=bool(waited["late"]))}


WORKLOAD = Workload(
    "W2", "50 events a second, and requests meanwhile (W4)", measure,
    lambda scale: [Case(f"{scale.clients} clients", {"clients": scale.clients}),
                   Case(f"{scale.clients} WebSockets", {"clients": scale.clients}, websockets, reference="c-ws")],
    [Metric("p50_ms", "p50", "ms", ratio=True, plot=True), Metric("p99_ms", "p99", "ms", ratio=True, plot=True),
     Metric("cpu_percent", "CPU", "%", digits=0, ratio=True, plot=True),
     Metric("health_kept_p50_ms", "/health p50, kept", "ms"),
     Metric("health_kept_p95_ms", "/health p95, kept", "ms", plot=True),
     Metric("health_new_p50_ms", "/health p50, new", "ms"), Metric("health_new_p95_ms", "/health p95, new", "ms")],
    explanation="Latency and processor time of 50 events a second alone; then again with 25 requests a second for "
                "`/health` on a kept connection and 25 on new ones. A server that is "
                "not done 3 s after the last event was due is overloaded; its latency is of what had come by then.",
    targets=[*(ratio(metric, peer, most=most) for metric in ("p50_ms", "p99_ms", "cpu_percent")
               for peer, most in (("c", 1.25), ("nchan", 1.0))),
             figure("health_kept_p95_ms", most=4), figure("health_new_p95_ms", most=4)],
)
