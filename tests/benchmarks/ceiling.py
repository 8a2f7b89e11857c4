"""What the load generator itself can take, so that nobody is told a server's limit that is the load's."""

from __future__ import annotations

from typing import Any

from .peers.reference import COALESCING
from .workloads import Scale
from .workloads.audience import SIZE, audience


def ceiling(scale: Scale) -> dict[str, Any]:
    """Have the coalescing C server publish as fast as it goes.

    :return: deliveries a second, each side's share of its processor, and what the load could take with a whole one.
    """
    with audience(COALESCING, scale.clients) as (server, load):
        count = int(10_000 * scale.seconds)
        before, load_before = server.cpu_seconds(), load.cpu_seconds()
        asked = server.ask(f"rate 0 {count} {SIZE}")
        seconds = load.order(f"wait all {count}", 60)["seconds"]
        asked.result(10)
        used, load_used = server.cpu_seconds() - before, load.cpu_seconds() - load_before
        deliveries = load.order("stats all")["events"]
        return {"deliveries_per_s": deliveries / seconds, "server_cpu_percent": used / seconds * 100,
                "load_cpu_percent": load_used / seconds * 100,
                "load_ceiling_per_s": deliveries / load_used if load_used else None}
