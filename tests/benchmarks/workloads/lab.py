"""Our server as ``apps/lab.py`` runs it: what it can be asked is told there."""

from __future__ import annotations

import sys
from dataclasses import replace

from ..peers import Peer
from ..peers.ours import PEER
from ..server import Server

STREAM = "/api/events/stream"


def lab(path: str = PEER.path, **settings: object) -> Peer:
    """Return our peer with the lab's app.

    :param settings: environment variables, such as ``HYBRID_HEARTBEAT_S``.
    """
    def start(server: Server) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.apps.lab", str(server.port), str(server.control)]
        server.spawn(command, env={name: str(value) for name, value in settings.items()})

    return replace(PEER, start=start, path=path)


def ours_only(peer: Peer) -> bool:
    """For cases that are about this library alone."""
    return peer.key == PEER.key
