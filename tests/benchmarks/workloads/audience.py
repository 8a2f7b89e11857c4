"""What workloads share: a peer with clients that listen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ..load import Load, LoadError
from ..peers import Peer
from ..server import Server

SIZE = 220


@contextlib.contextmanager
def audience(peer: Peer, clients: int, **group: Any) -> Iterator[tuple[Server, Load]]:
    """Run a fresh server with clients in group ``all``."""
    most, reason = peer.most
    if clients > most:
        raise LoadError(f"not tried with more than {most} clients: {reason}")
    with peer.running() as server, Load(server.control) as load:
        add_group(load, "all", peer, server, **group)
        load.connect("all", clients, window=peer.window)
        yield server, load


def add_group(load: Load, name: str, peer: Peer, server: Server, path: str | None = None, **options: Any) -> None:
    """Tell the load generator of clients of ``peer``, without opening any."""
    words = {"kind": peer.kind, "port": server.port, "path": path or peer.path, **options}
    load.order(f"group {name} " + " ".join(f"{key}={value}" for key, value in words.items()))


def told_losses(stats: dict[str, Any], expected: int, *, late: bool = False) -> dict[str, int]:
    """Return what was lost: skipped numbers, repeated ones, and clients that were hung up on.

    :param late: the server was given up before it had sent everything, so what is missing may yet have come.
    """
    missing = 0 if late else stats["open"] * expected - (stats["events"] - stats["repeated"]) - stats["lost"]
    return {"lost": stats["lost"] + max(0, missing), "repeated": stats["repeated"], "hung_up": stats["closed"]}
