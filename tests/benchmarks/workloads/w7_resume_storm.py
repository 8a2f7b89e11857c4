"""W7: many clients come back at once, many events behind, while others go on listening."""

from __future__ import annotations

import time

from ..load import Load
from ..peers import Peer
from ..targets import figure
from . import Case, Metric, Scale, Values, Workload
from .audience import SIZE, add_group
from .lab import lab, ours_only

RATE = 50


def measure(peer: Peer, scale: Scale, clients: int, behind: int) -> Values:
    with lab().running() as server, Load(server.control) as load:
        live = max(10, clients // 5)
        add_group(load, "live", lab(), server, sparse=1)  # sparse: what is numbered anew for the storm skips for them
        load.connect("live", live)
        count = max(10, int(RATE * scale.seconds))
        server.order(f"rate {RATE} {count} {SIZE}")
        load.order(f"wait live {count}")
        before = load.order("stats live")
        last_id = server.order("newest")["id"]
        load.order("reset")
        server.order(f"rate 0 {behind} {SIZE}")
        load.order(f"wait live {behind}")
        load.order("reset")
        server.order("lag")
        more = max(count, 2 * RATE)
        publishing = server.ask(f"rate {RATE} {more} {SIZE} shift={behind}")
        add_group(load, "storm", lab(), server, header=f"Last-Event-ID:{last_id}")
        began = time.monotonic()
        opened = load.connect("storm", clients, window=clients, timeout=30)
        load.order(f"wait storm {behind}")
        seconds = time.monotonic() - began
        lag = server.ask("lag")
        lag_us = lag.result(60)["lag_us"]
        emit_us = publishing.result(60)["emit_us"]
        load.order(f"wait storm {behind + more}")
        load.order(f"wait live {behind + more}")
        storm, during = load.order("stats storm"), load.order("stats live")
        return {
            "clients": clients, "behind": behind, "live": live, "seconds": seconds, "open_s": opened["seconds"],
            "caught_up_per_s": clients * behind / seconds,
            "live_p99_before_ms": before["latency_us"]["p99"] / 1000,
            "live_p99_during_ms": during["latency_us"]["p99"] / 1000,
            "live_p99_ratio": during["latency_us"]["p99"] / before["latency_us"]["p99"],
            "emit_max_ms": emit_us["max"] / 1000, "emit_p90_ms": emit_us["p90"] / 1000,
            "live_p50_during_ms": during["latency_us"]["p50"] / 1000,
            "lag_p50_ms": lag_us["p50"] / 1000, "lag_p90_ms": lag_us["p90"] / 1000,
            "lag_p99_ms": lag_us["p99"] / 1000, "lag_max_ms": lag_us["max"] / 1000,
            "lost": storm["lost"] + clients * (behind + more) - storm["events"] + live * more - during["events"],
            "repeated": storm["repeated"] + during["repeated"], "hung_up": storm["closed"] + during["closed"],
        }


def cases(scale: Scale) -> list[Case]:
    few = max(1, scale.clients // 100)
    return [Case(f"{clients} clients, {events} events behind", {"clients": clients, "behind": events}, ours_only)
            for clients, events in ((scale.clients, 1000), (few, 1000), (scale.clients, 10))]


WORKLOAD = Workload(
    "W7", "Resume storm", measure, cases,
    [Metric("seconds", "until all have caught up", "s", digits=2),
     Metric("caught_up_per_s", "events/s", digits=0, higher=True),
     Metric("live_p99_before_ms", "others' p99 before", "ms"), Metric("live_p99_during_ms", "during", "ms"),
     Metric("live_p99_ratio", "during/before", digits=2), Metric("lag_max_ms", "longest loop lag", "ms")],
    timeout=120,
    explanation="All clients come back at the same moment with the `Last-Event-ID` that they had so many events ago, "
                "while a fifth as many others listen at 50 events/s.",
    targets=[figure("seconds", most=1), figure("live_p99_ratio", most=2)],
)
