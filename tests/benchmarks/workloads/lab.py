"""Our server as ``apps/lab.py`` runs it: what it can be asked is told there."""

from __future__ import annotations

import sys
from dataclasses import replace

from ..peers import Peer
from ..peers.ours import PEER, WEBSOCKET
from ..server import Server

STREAM = "/api/events/stream"


def lab(path: str | None = None, peer: Peer = PEER, **settings: object) -> Peer:
    """Return our peer with the lab's app.

    :param path: where its streams are, if not where they usually are.
    :param peer: whose clients they are.
    :param settings: environment variables, such as ``HYBRID_HEARTBEAT_S``.
    """
    def start(server: Server) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.apps.lab", str(server.port), str(server.control)]
        special = {"ENABLE_WS_SPECIAL": "true"} if peer.kind == "ws" else {}
        server.spawn(command, env=special | {name: str(value) for name, value in settings.items()})

    return replace(peer, start=start, path=path or peer.path)


def ours_only(peer: Peer) -> bool:
    """For cases that are about this library alone."""
    return peer.key == PEER.key


def our_websockets(peer: Peer) -> bool:
    """For cases that are about this library's WebSockets alone."""
    return peer.key == WEBSOCKET.key
