"""W3: what an idle client costs."""

from __future__ import annotations

import re
import time
from pathlib import Path

from .. import system
from ..peers import Peer
from ..server import Server
from ..targets import figure
from . import Case, Metric, Scale, Values, Workload, websockets
from .audience import SIZE, audience


def measure(peer: Peer, scale: Scale, clients: int) -> Values:
    with audience(peer, min(10, clients)) as (server, load):  # so that what is made once is made before
        load.order(f"each 3 {SIZE}")
        before, buffers, slab = settled(server), system.kernel_socket_kb(), _slab_kb()
        # One at a time, but for a peer that needs many at once: what a storm leaves behind is not what a client costs.
        window = 1 if peer.window == Peer.window else peer.window
        opening = load.connect("all", clients, window=window, timeout=90)
        after = settled(server)
        return {
            "clients": clients, "kb_per_client": (after - before) / clients,
            "mb_above_base": (after - before) / 1024, "base_mb": before / 1024,
            "kernel_buffers_kb_per_client": (system.kernel_socket_kb() - buffers) / clients,
            "kernel_objects_kb_per_client": (_slab_kb() - slab) / clients,
            "opened_per_s": clients / opening["seconds"],
        }


def settled(server: Server) -> float:
    """Return the server's memory once it has stopped changing, or after 3 s."""
    last, deadline = -1.0, time.monotonic() + 3
    while (now := server.memory_kb()) != last and time.monotonic() < deadline:
        last = now
        time.sleep(0.3)
    return now


def _slab_kb() -> int:
    found = re.search(r"^Slab:\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


WORKLOAD = Workload(
    "W3", "Memory of idle clients", measure,
    lambda scale: [Case(f"{scale.clients} clients", {"clients": scale.clients}),
                   Case(f"{scale.idle} clients", {"clients": scale.idle},
                        lambda peer: peer.key in ("c", "ours", "nchan")),
                   Case(f"{scale.clients} WebSockets", {"clients": scale.clients}, websockets, reference="c-ws")],
    [Metric("kb_per_client", "a client", "KB", digits=2, ratio=True, plot=True),
     Metric("mb_above_base", "above base", "MB"), Metric("base_mb", "base", "MB", higher=None),
     Metric("kernel_buffers_kb_per_client", "kernel: buffers", "KB", digits=2, higher=None),
     Metric("kernel_objects_kb_per_client", "kernel: objects, both ends", "KB", digits=2, higher=None)],
    timeout=120,
    explanation="Proportional set size (PSS) of the server's processes with and without idle clients. The kernel's "
                "share is told apart: socket buffers from `/proc/net/sockstat`, its objects from `Slab` in "
                "`/proc/meminfo` (of the whole machine, so of the load's ends too).",
    targets=[figure("kb_per_client", most=1), figure("mb_above_base", most=20, case=1),
             figure("kb_per_client", most=2, case=2, ours="ours-ws")],
)
