"""W5: five clients that do not read, while events of 4 KB go to five that do."""

from __future__ import annotations

import contextlib
from typing import Any

from ..load import Load
from ..peers import Peer
from ..server import Server
from ..targets import figure
from . import Case, Metric, Scale, Values, Workload, websockets
from .audience import add_group, audience, told_losses
from .w3_memory import settled

CLIENTS = 5
SIZE = 4096
RATE = 3000


def measure(peer: Peer, scale: Scale, events: int) -> Values:
    """Publish in three parts, so that memory can be told after 1/15, a half and all of the events."""
    few, half = events // 15, events // 2
    with audience(peer, CLIENTS) as (server, load):
        alone = publish(server, load, few)
        base = settled(server)
        add_group(load, "stalled", peer, server, rcvbuf=65536)
        load.connect("stalled", CLIENTS, window=peer.window)
        load.order("reset")
        load.order("stall stalled")
        parts, memory = [], []
        for count in (few, half - few, events - half):
            parts.append(publish(server, load, count))
            memory.append(settled(server))
        stalled = woken(load)
        last = parts[-1]  # half of all events, when those that stall have stalled for long
        return {
            "events": events, "emit_p50_us": last["emit"]["p50"], "emit_p99_us": last["emit"]["p99"],
            "emit_max_us": max(part["emit"]["max"] for part in parts),
            "mb_at_few": (memory[0] - base) / 1024, "mb_at_half": (memory[1] - base) / 1024,
            "mb_at_all": (memory[2] - base) / 1024, "mb_growth": (memory[2] - memory[1]) / 1024,
            "alone_p99_ms": alone["p99_ms"], "healthy_p99_ms": last["p99_ms"],
            "healthy_slower": last["p99_ms"] / max(alone["p99_ms"], 5), **stalled,
            **{key: sum(part[key] for part in [alone, *parts]) for key in ("lost", "repeated", "hung_up")},
        }


def publish(server: Server, load: Load, count: int) -> dict[str, Any]:
    """Publish events; return how the clients that read got them."""
    load.order("reset")
    asked = server.ask(f"rate {RATE} {count} {SIZE}")
    load.order(f"wait all {count}", count / RATE + 20)
    emit = asked.result(20)["emit_us"]
    stats = load.order("stats all")
    return {"emit": emit, "p99_ms": stats["latency_us"]["p99"] / 1000, **told_losses(stats, count)}


def woken(load: Load) -> dict[str, Any]:
    """Let the stalled clients read again; return how many were closed, were told of a gap, or got everything late.

    Numbers begin at 1 in each part, so what arrives late looks lost or repeated; only these sums are of use.
    """
    load.order("reset")
    load.order("resume stalled")
    with contextlib.suppress(TimeoutError):
        load.order("wait stalled 1000000000", 1.5, may_be_late=True)
    stats = load.order("stats stalled")
    told = min(stats["open"], stats["others"])
    return {"stalled_closed": stats["closed"], "stalled_told": told, "stalled_answered": stats["closed"] + told,
            "stalled_late_events": stats["events"]}


WORKLOAD = Workload(
    "W5", "Five clients that do not read", measure,
    lambda scale: [Case(f"{int(20_000 * scale.seconds)} events of 4 KB", {"events": int(20_000 * scale.seconds)},
                        lambda peer: peer.key in ("c-coalescing", "ours", "gevent-recipe", "flask-socketio"),
                        reference="c-coalescing"),
                   Case(f"{int(20_000 * scale.seconds)} events of 4 KB, WebSockets",
                        {"events": int(20_000 * scale.seconds)}, websockets, reference="c-ws")],
    [Metric("emit_p50_us", "emit p50", "µs"), Metric("emit_p99_us", "emit p99", "µs", plot=True),
     Metric("mb_at_few", "memory after 1/15", "MB"), Metric("mb_at_half", "after a half", "MB"),
     Metric("mb_growth", "grown in the second half", "MB", plot=True),
     Metric("alone_p99_ms", "others' p99 before", "ms"), Metric("healthy_p99_ms", "others' p99", "ms"),
     Metric("healthy_slower", "slower", "×"), Metric("stalled_answered", "told or closed", "", digits=0, higher=None)],
    timeout=120,
    explanation="3,000 events of 4 KB a second for five clients that read, beside five that do not. Memory is above "
                "what it was before, after the first fifteenth (2,000 of 30,000 events), and a half; times are of the "
                "second half. Told: stalled clients that, reading again, got an event that says they missed some; "
                "closed: those hung up on. Slower: the others' p99 over what it was (or over 5 ms). Targets: memory "
                "does not grow once the bounded log is full; the others' p99 is at most doubled.",
    targets=[figure("emit_p99_us", most=100), figure("mb_growth", most=2), figure("healthy_slower", most=2),
             figure("stalled_answered", least=CLIENTS),
             *(figure(metric, most=most, case=1, ours="ours-ws") for metric, most in
               (("emit_p99_us", 100), ("mb_growth", 2), ("healthy_slower", 2)))],
)
