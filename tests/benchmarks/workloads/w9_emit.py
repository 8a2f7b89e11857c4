"""W9: what one ``socketio.emit`` costs the thread that calls it, in the complete server with real clients.

Hot: in a loop, in threads that begin together, each in a request context. Cold: one in a request, a request every
20 ms, so that what it needs has left the processor's caches; the wall clock's time beside the thread's own.
"""

from __future__ import annotations

from ..load import Ping
from ..peers import Peer
from ..targets import figure, ratio
from . import Case, Metric, Scale, Values, Workload
from .audience import audience
from .lab import lab, our_websockets, ours_only

ROUND = 100


def measure(peer: Peer, scale: Scale, clients: int, threads: int) -> Values:
    with audience(lab(peer=peer), clients, sparse=1) as (server, load):
        rounds = max(2, round(scale.seconds * 10 / threads))
        server.order(f"emits {threads} {ROUND}")
        hot = []
        for _ in range(rounds):
            server.order("settle")
            load.order("reset")
            done = server.order(f"emits {threads} {ROUND}")
            load.order(f"wait all {done['upto']}")
            hot.append(done)
        server.order("took")
        ping = Ping(server.port, "/emit", seconds=max(1.0, 4 * scale.seconds), rate=50, connections=threads)
        asked = ping.result()
        cold = server.order("took")
        return {
            "clients": clients, "threads": threads, "requests": asked["answered"],
            **{f"hot_{name}_us": _middle([one["emit_us"][name] for one in hot]) for name in ("p50", "p99")},
            "hot_busy_us": _middle([one["busy_us"]["mean"] for one in hot]),
            **{f"cold_{name}_us": cold["emit_us"][name] for name in ("p50", "p99")},
            "cold_busy_us": cold["busy_us"]["p50"],
        }


def _middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def cases(scale: Scale) -> list[Case]:
    steps = [number for number in (1, 10, 100, 1000) if number <= scale.clients] + [scale.idle]
    decisive = {(1, 1), (scale.clients, 1), (scale.idle, 1), (scale.clients, 32)}  # the others only show the way there
    settings = [(clients, 1) for clients in steps] + [(scale.clients, threads) for threads in (4, 32)]
    return [Case(f"{clients} client{'s' * (clients > 1)}, {threads} thread{'s' * (threads > 1)}",
                 {"clients": clients, "threads": threads}, ours_only,
                 runs=1_000 if (clients, threads) in decisive else 1) for clients, threads in settings] + [
        Case(f"{clients} WebSocket{'s' * (clients > 1)}", {"clients": clients, "threads": 1}, our_websockets)
        for clients in (1, scale.idle)]


WORKLOAD = Workload(
    "W9", "One emit in a request", measure, cases,
    [Metric("hot_p50_us", "hot p50", "µs"), Metric("hot_p99_us", "hot p99", "µs"),
     Metric("hot_busy_us", "hot, computing", "µs"),
     Metric("cold_p50_us", "cold p50", "µs"), Metric("cold_p99_us", "cold p99", "µs"),
     Metric("cold_busy_us", "cold, computing", "µs")],
    timeout=180,
    explanation="What `socketio.emit` of a 200-byte dict takes the thread that calls it, with everything on and real "
                "clients. Hot: in a loop, in threads that begin together. Cold: one in a request, a request every "
                "20 ms. *Computing* is the thread's own processor time: the rest is waiting for the GIL.",
    targets=[figure("hot_p50_us", most=15), figure("hot_p99_us", most=250), figure("cold_p50_us", most=80),
             figure("cold_p99_us", most=250),
             ratio("hot_p50_us", "ours", most=1.2, case=4, other_case=0),
             ratio("cold_p50_us", "ours", most=1.2, case=4, other_case=0),
             *(ratio(metric, "ours-ws", most=1.2, case=8, other_case=7, ours="ours-ws")
               for metric in ("hot_p50_us", "cold_p50_us"))],
)
