"""W6: how long until all of many clients that come at once have their stream."""

from __future__ import annotations

import time

from ..load import Load
from ..peers import Peer
from ..targets import figure
from . import Case, Metric, Scale, Values, Workload
from .audience import SIZE, add_group

#: Who is tried with the most clients.
QUICKEST = ("c", "ours", "nchan", "gevent-recipe")


def measure(peer: Peer, scale: Scale, clients: int) -> Values:
    with peer.running() as server, Load(server.control) as load:
        add_group(load, "all", peer, server)
        before, began = server.cpu_seconds(), time.monotonic()
        took = load.connect("all", clients, window=clients, timeout=30)
        seconds, used = time.monotonic() - began, server.cpu_seconds() - before
        opening = load.order("stats all")["opening_us"]
        load.order(f"each 1 {SIZE}")  # all of them are really there
        return {"clients": clients, "seconds": took["seconds"], "seconds_outside": seconds,
                "opens_per_s": clients / took["seconds"], "cpu_ms_per_open": used / clients * 1000,
                "p50_ms": opening["p50"] / 1000, "p99_ms": opening["p99"] / 1000}


WORKLOAD = Workload(
    "W6", "Connect storm", measure,
    lambda scale: [Case(f"{scale.clients} clients", {"clients": scale.clients}),
                   Case(f"{scale.many} clients", {"clients": scale.many}, lambda peer: peer.key in QUICKEST)],
    [Metric("seconds", "until all are open", "s", digits=2, ratio=True),
     Metric("opens_per_s", "opens/s", digits=0, higher=True), Metric("cpu_ms_per_open", "CPU an open", "ms", digits=2),
     Metric("p50_ms", "p50", "ms"), Metric("p99_ms", "p99", "ms")],
    timeout=90,
    explanation="All clients connect at the same moment; until each has the beginning of its stream (with us "
                "`hybrid_open`; others send their headers with the first event, which is published for them).",
    targets=[figure("seconds", most=1.5)],
)
