"""W15: several processes with one Redis: what it costs to emit in one and to have the clients in others.

One process emits. In ``speed`` another has ten clients; in ``restart`` Redis is killed meanwhile and comes back with
nothing; in ``streams`` one or two edges have the clients, and the next event comes when all have the last one.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from ..load import Load
from ..peers import Peer
from ..peers.shared import with_edges
from ..server import Server
from ..targets import figure, ratio
from . import Case, Metric, Scale, Values, Workload, processes
from .audience import SIZE, audience, told_losses

FEW = 10
#: Events of the burst whose every emit is timed, and a second of the burst that shows how fast events go through.
HOT = 2_000
BURST_PER_S = 13_334
#: Seconds between the kill of Redis and its next start, and the events a second meanwhile.
DOWN_S, RATE = 1.0, 100


def measure(peer: Peer, scale: Scale, what: str, count: int = 1) -> Values:
    if what in ("streams", "readers"):
        return (streams if what == "streams" else readers)(peer, scale, count)
    return speed(peer, scale) if what == "speed" else restart(peer, scale)


def speed(peer: Peer, scale: Scale) -> Values:
    """Measure what an emit takes, how long it is under way, and how many go through."""
    burst, paced = int(BURST_PER_S * scale.seconds), int(200 * scale.seconds)
    with warmed(peer) as (server, load):
        hot = server.order(f"rate 0 {HOT} {SIZE}")["emit_us"]
        load.order(f"wait all {HOT}")
        load.order("reset")
        paced_by = server.cpu_of("clients 0")
        cold = server.order(f"rate 50 {paced} {SIZE}", timeout=30)["emit_us"]
        load.order(f"wait all {paced}")
        paced_by = server.cpu_of("clients 0") - paced_by
        stats = load.order("stats all")
        load.order("reset")
        names = ["redis", "emitting", "clients 0"]
        before, began = [server.cpu_of(name) for name in names], time.monotonic()
        asked = server.ask(f"rate 0 {burst} {SIZE}")
        load.order(f"wait all {burst}")
        seconds = time.monotonic() - began
        used = [server.cpu_of(name) - start for name, start in zip(names, before, strict=True)]
        asked.result(60)
        last = load.order("stats all")
    redis, emitting, clients = (value / burst * 1e6 for value in used)
    return {"hot_p50_us": hot["p50"], "hot_mean_us": hot["mean"], "hot_p99_us": hot["p99"], "cold_p50_us": cold["p50"],
            "p50_ms": stats["latency_us"]["p50"] / 1000, "p99_ms": stats["latency_us"]["p99"] / 1000,
            "event_at_50_us": paced_by / paced * 1e6, "events_per_s": burst / seconds,
            "redis_us": redis, "emitting_us": emitting, "reading_us": clients,
            **told_losses(last, burst)}


def restart(peer: Peer, scale: Scale) -> Values:
    """Measure what is lost while Redis is killed and started again without its data."""
    events = int(RATE * (5 + 2 * scale.seconds))
    with warmed(peer) as (server, load):
        asked = server.ask(f"rate {RATE} {events} {SIZE}")
        time.sleep(1)
        server.kill("redis")
        time.sleep(DOWN_S)
        server.revive("redis")
        emitted = asked.result(60)["emit_us"]
        load.order(f"wait all {events}", 10, may_be_late=True)
        stats = load.order("stats all")
    lost = told_losses(stats, events)
    return {"events_lost": lost["lost"] / FEW, "of_events": events, "cold_p50_us": emitted["p50"],
            "hot_p99_us": emitted["p99"], "p50_ms": stats["latency_us"]["p50"] / 1000,
            "p99_ms": stats["latency_us"]["p99"] / 1000, **lost}


def streams(peer: Peer, scale: Scale, count: int) -> Values:
    """Measure how many deliveries a second ``count`` edges make, and what each part of it takes."""
    with warmed(with_edges(peer, count), clients=0) as (server, load):
        names = [f"clients {number}" for number in range(count)]
        empty = settled(server, names)
        for name, port in zip(names, server.ports, strict=True):
            load.order(f"group {name.replace(' ', '')} kind=sse port={port} path={peer.path}")
            load.connect(name.replace(" ", ""), 2 * scale.clients // count)
        memory = settled(server, names) - empty
        warm = load.order(f"each 20 {SIZE}")
        events = max(20, int(scale.seconds / (warm["seconds"] / 20)))
        load.order("reset")
        redis, before, by_load = server.cpu_of("redis"), server.cpu_of(*names), load.cpu_seconds()
        took = load.order(f"each {events} {SIZE}", timeout=60)
        redis, used = server.cpu_of("redis") - redis, server.cpu_of(*names) - before
        by_load = load.cpu_seconds() - by_load
        stats = [load.order(f"stats {name.replace(' ', '')}") for name in names]
    lost = [told_losses(one, events) for one in stats]
    deliveries = sum(one["events"] for one in stats)
    return {"deliveries_per_s": deliveries / took["seconds"], "delivery_us": used / deliveries * 1e6,
            "redis_us": redis / events * 1e6,
            "load_cpu_percent": by_load / took["seconds"] * 100,
            "stream_kb": memory / scale.clients / 2,
            "p50_ms": max(one["latency_us"]["p50"] for one in stats) / 1000,
            "p99_ms": max(one["latency_us"]["p99"] for one in stats) / 1000,
            **{key: sum(one[key] for one in lost) for key in lost[0]}}


def readers(peer: Peer, scale: Scale, count: int) -> Values:
    """Measure what 200 events a second take Redis, with so many edges."""
    events = int(400 * scale.seconds)
    with warmed(with_edges(peer, count)) as (server, load):
        for number, port in enumerate(server.ports[1:]):  # an edge reads as soon as it has a client
            load.order(f"group more{number} kind=sse port={port} path={peer.path}")
            load.connect(f"more{number}", 1)
        redis = server.cpu_of("redis")
        server.order(f"rate 200 {events} {SIZE}", timeout=30)
        load.order(f"wait all {events}")
        redis = server.cpu_of("redis") - redis
        stats = load.order("stats all")
    return {"redis_us": redis / events * 1e6, "p50_ms": stats["latency_us"]["p50"] / 1000,
            "p99_ms": stats["latency_us"]["p99"] / 1000, **told_losses(stats, events)}


def settled(server: Server, names: list[str]) -> float:
    """Return the memory of processes once it has stopped changing, or after 2 s."""
    last, deadline = -1.0, time.monotonic() + 2
    while (now := server.memory_of(*names)) != last and time.monotonic() < deadline:
        last = now
        time.sleep(0.2)
    return now


@contextlib.contextmanager
def warmed(peer: Peer, clients: int = FEW) -> Iterator[tuple[Server, Load]]:
    """Run a fresh server with clients, whose first event has come.

    Ours takes its time: Redis takes none in its first two seconds. Flask-SocketIO loses what comes before it listens.
    """
    with audience(peer, max(1, clients)) as (server, load):
        deadline, late = time.monotonic() + 20, 1
        while late:
            server.order(f"rate 0 1 {SIZE}")
            late = load.order("wait all 1", 4, may_be_late=time.monotonic() < deadline).get("late", 0)
        if not clients:
            load.order("close all")
        load.order("reset")
        yield server, load


def cases(scale: Scale) -> list[Case]:
    ours = lambda peer: peer.key == "ours-redis"  # noqa: E731
    return [Case(f"{FEW} clients in another process", {"what": "speed"}, processes),
            Case(f"Redis killed, back after {DOWN_S:.0f} s; {RATE} events a second", {"what": "restart"},
                 lambda peer: processes(peer) and peer.key != "ours-redis-py"),
            *(Case(f"{2 * scale.clients} streams at {count} edge{'s' * (count > 1)}",
                   {"what": "streams", "count": count}, ours) for count in (1, 2)),
            *(Case(f"200 events a second, {count} edge{'s' * (count > 1)} and a host",
                   {"what": "readers", "count": count}, ours)
              for count in (1, 9))]


WORKLOAD = Workload(
    "W15", "Several processes with one Redis", measure, cases,
    [Metric("hot_p50_us", "emit hot p50", "µs"), Metric("hot_mean_us", "mean", "µs"), Metric("hot_p99_us", "p99", "µs"),
     Metric("cold_p50_us", "emit at 50/s p50", "µs", digits=0),
     Metric("p50_ms", "to the client p50", "ms", digits=2), Metric("p99_ms", "p99", "ms", digits=2),
     Metric("events_per_s", "events", "k/s", scale=1000, higher=True),
     Metric("event_at_50_us", "CPU an event at 50/s", "µs", digits=0),
     Metric("deliveries_per_s", "deliveries", "k/s", scale=1000, higher=True),
     Metric("delivery_us", "CPU a delivery", "µs", digits=2), Metric("redis_us", "CPU of Redis an event", "µs"),
     Metric("emitting_us", "of the one that emits", "µs"), Metric("reading_us", "of the one with clients", "µs"),
     Metric("stream_kb", "a stream", "KB", digits=2),
     Metric("load_cpu_percent", "load's CPU", "%", digits=0, higher=None),
     Metric("events_lost", "lost a client", digits=0), Metric("of_events", "of", digits=0, higher=None)],
    timeout=120,
    explanation="One process emits, others have the clients, and all have one Redis. Hot: 2,000 emits in a loop; then "
                "50 events a second; then a burst, until each client has the last of it. The second case has Redis "
                "killed and started again without its data. In the third and fourth, the next event is published when "
                "every client of every edge has got the last one; the load takes most of a processor then, so that two "
                "edges cannot deliver more a second than one here: processor time a delivery says how they "
                "scale. The last two show what each process that reads costs Redis.",
    targets=[figure("hot_p50_us", most=10, ours="ours-redis"), figure("p50_ms", most=2, ours="ours-redis"),
             figure("p99_ms", most=15, ours="ours-redis"), figure("events_per_s", least=20_000, ours="ours-redis"),
             figure("events_lost", most=0, case=1, ours="ours-redis"),
             ratio("hot_p50_us", "flask-socketio-redis", most=1, ours="ours-redis"),
             ratio("p50_ms", "flask-socketio-redis", most=1, ours="ours-redis"),
             ratio("delivery_us", "ours-redis", most=1.15, case=3, other_case=2, ours="ours-redis")],
)
