"""W13: how cost grows: with clients, with the size of an event, with how far a client is behind.

Cost grows as a power of what it depends on where a line in a plot with two logarithmic axes is straight; its slope is
the exponent. :mod:`..report.growth` fits it.
"""

from __future__ import annotations

import time

from ..load import Load
from ..peers import Peer
from . import Case, Metric, Scale, Values, Workload
from .audience import SIZE, add_group, audience, told_losses
from .lab import lab, ours_only


def by_clients_or_size(peer: Peer, scale: Scale, clients: int, size: int) -> Values:
    """Measure event by event."""
    with audience(peer, clients) as (server, load):
        warm = load.order(f"each 20 {size}")
        events = max(20, min(20_000, int(scale.seconds / 2 / (warm["seconds"] / 20))))
        load.order("reset")
        before = server.cpu_seconds()
        took = load.order(f"each {events} {size}", timeout=30 + 4 * scale.seconds)
        used = server.cpu_seconds() - before
        stats = load.order("stats all")
        return {"clients": clients, "size": size, "events": events, "time_us": took["seconds"] / events * 1e6,
                "cpu_us": used / events * 1e6, **told_losses(stats, events)}


def by_backlog(peer: Peer, scale: Scale, behind: int) -> Values:
    """Measure how long one client takes to catch up that comes back ``behind`` events behind."""
    times = []
    with lab().running() as server, Load(server.control) as load:
        last_id = server.order("newest")["id"]
        server.order(f"rate 0 {behind} {SIZE}")
        before = server.cpu_seconds()
        for number in range(max(3, round(5 * scale.seconds))):
            load.order("reset")
            add_group(load, f"back{number}", lab(), server, header=f"Last-Event-ID:{last_id}")
            began = time.monotonic()
            load.connect(f"back{number}", 1)
            load.order(f"wait back{number} {behind}")
            times.append(time.monotonic() - began)
            stats = load.order(f"stats back{number}")
            load.order(f"close back{number}")
        used = server.cpu_seconds() - before
    return {"behind": behind, "time_us": sorted(times)[len(times) // 2] * 1e6, "cpu_us": used / len(times) * 1e6,
            **told_losses(stats, behind)}


def measure(peer: Peer, scale: Scale, series: str, x: int) -> Values:
    if series == "behind":
        found = by_backlog(peer, scale, x)
    elif series == "size":
        found = by_clients_or_size(peer, scale, max(5, scale.clients // 10), x)
    else:
        found = by_clients_or_size(peer, scale, x, SIZE)
    return {"series": series, "x": x, **found}


def cases(scale: Scale) -> list[Case]:
    steps = {"clients": [number for number in (10, 30, 100, 300, 1000) if number < scale.many] + [scale.many],
             "size": [220, 1_000, 4_000, 16_000, 64_000], "behind": [10, 100, 1_000, 9_000]}
    if scale.clients < 100:
        steps = {series: numbers[:2] for series, numbers in steps.items()}
    labels = {"clients": "{} clients", "size": "{} bytes, " + f"{max(5, scale.clients // 10)} clients",
              "behind": "one client, {} events behind"}
    return [Case(labels[series].format(number), {"series": series, "x": number},
                 ours_only if series == "behind" else lambda peer: peer.key in ("ours", "c"), runs=1)
            for series, numbers in steps.items() for number in numbers]


WORKLOAD = Workload(
    "W13", "How cost grows", measure, cases,
    [Metric("cpu_us", "CPU", "µs"), Metric("time_us", "time", "µs")],
    explanation="Event by event with more and more clients, and with larger and larger events; and one client that "
                "comes back further and further behind.",
)
