"""W11: thousands of clients to whom nothing is sent but heartbeats."""

from __future__ import annotations

import time

from ..peers import Peer
from ..targets import figure
from . import Case, Metric, Scale, Values, Workload
from .audience import SIZE, audience
from .lab import lab, our_websockets, ours_only
from .w3_memory import settled

#: How finely the time of heartbeats is looked at.
BIN_S = 0.1


def measure(peer: Peer, scale: Scale, clients: int, heartbeat_s: float) -> Values:
    ours = lab(peer=peer, HYBRID_HEARTBEAT_S=heartbeat_s, BENCH_PING_S=heartbeat_s)
    with audience(ours, 10) as (server, load):
        load.order(f"each 3 {SIZE}")
        before = settled(server)
        opened = load.connect("all", clients - 10, timeout=90)
        after = settled(server)
        time.sleep(heartbeat_s)  # the first round still shows how they came
        load.order("reset")
        server.order("lag")
        busy, bins, seen = server.cpu_seconds(), [], 0
        began = time.monotonic()
        steps = round(2 * heartbeat_s / BIN_S)
        for step in range(1, steps + 1):
            time.sleep(max(0.0, began + step * BIN_S - time.monotonic()))
            so_far = load.order("stats all")["recvs"]
            bins.append(so_far - seen)
            seen = so_far
        lag = server.order("lag")["lag_us"]
        used = server.cpu_seconds() - busy
        stats = load.order("stats all")
        mean = seen / len(bins)
        return {
            "clients": clients, "heartbeat_s": heartbeat_s, "opened_per_s": clients / opened["seconds"],
            "mb_above_base": (after - before) / 1024, "base_mb": before / 1024,
            "kb_per_client": (after - before) / clients,
            "lag_p50_ms": lag["p50"] / 1000, "lag_p99_ms": lag["p99"] / 1000, "lag_max_ms": lag["max"] / 1000,
            "cpu_percent": used / (len(bins) * BIN_S) * 100,
            "heartbeats_per_client": seen / clients, "most_to_mean": max(bins) / mean if mean else float("nan"),
            "heartbeats": bins, "hung_up": stats["closed"],
        }


WORKLOAD = Workload(
    "W11", "Idle clients", measure,
    lambda scale: [Case(f"{scale.idle} clients", {"clients": scale.idle,
                                                  "heartbeat_s": {"full": 15, "quick": 5}.get(scale.name, 1)},
                        ours_only, runs=1),
                   Case(f"{scale.idle} WebSockets", {"clients": scale.idle,
                                                     "heartbeat_s": {"full": 15, "quick": 5}.get(scale.name, 1)},
                        our_websockets, runs=1)],
    [Metric("mb_above_base", "above base", "MB"), Metric("cpu_percent", "CPU", "%"),
     Metric("lag_p50_ms", "loop lag p50", "ms", digits=2), Metric("lag_p99_ms", "p99", "ms"),
     Metric("lag_max_ms", "most", "ms"),
     Metric("heartbeats_per_client", "heartbeats a client", digits=2, higher=None),
     Metric("most_to_mean", "most in 0.1 s / mean", digits=1)],
    timeout=240,
    explanation="After one round of heartbeats two more are watched: how many come in each tenth of a second (1 in the "
                "last column would be perfectly even), and how much later than due the loop's timers ring.",
    targets=[figure("mb_above_base", most=20), figure("lag_p99_ms", most=30), figure("most_to_mean", most=3)],
)
