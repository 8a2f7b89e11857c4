"""The peers: one file each. ``PEERS`` is their order in every table."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..server import Server


@dataclass(frozen=True)
class Peer:
    """One server to compare.

    :ivar key: short name, for ``--peers`` and the JSON.
    :ivar title: what tables call it.
    :ivar check: returns the versions of what it consists of; raises :class:`.build.Missing` or
        ``PackageNotFoundError`` if something is not installed, which leaves the peer out.
    :ivar start: starts its processes on the given server's ports, by :meth:`.Server.spawn`.
    :ivar path: where its stream is; several with ``|`` between them are taken by clients in turn.
    :ivar health: a small route of the host.
    :ivar kind: ``sse`` or ``ws``.
    :ivar window: how many connections are opened at a time.
    :ivar most: the number of clients beyond which it is not tried, with the reason.
    :ivar note: what a reader has to know to read its figures.
    :ivar reference: it is no competitor but what the kernel allows.
    :ivar slow: it is overloaded by most workloads, and left out of quick runs.
    :ivar shared: it is several processes with one Redis, for the workload about them only.
    """

    key: str
    title: str
    check: Callable[[], dict[str, str]]
    start: Callable[[Server], None]
    path: str = "/events"
    health: str = "/health"
    kind: str = "sse"
    window: int = 64
    most: tuple[int, str] = (100_000, "")
    note: str = ""
    reference: bool = False
    slow: bool = False
    shared: bool = False

    @contextlib.contextmanager
    def running(self) -> Iterator[Server]:
        """Run a fresh server, ready for requests and orders."""
        with Server() as server:
            self.start(server)
            server.wait_until_ready(self.health)
            yield server


#: Where clients of Socket.IO open a WebSocket.
SOCKETIO_PATH = "/socket.io/?EIO=4&transport=websocket"


def python_app(name: str, **variables: str) -> Callable[[Server], None]:
    """Return a ``start`` that runs ``apps/<name>.py``, which takes the port and the control port.

    :param variables: environment variables of the server.
    """
    def start(server: Server) -> None:
        server.spawn([sys.executable, "-m", f"tests.benchmarks.apps.{name}", str(server.port), str(server.control)],
                     env=variables)

    return start


def all_peers() -> list[Peer]:
    """Return every peer, installed or not."""
    from . import flask_socketio, flask_sse, nchan, ours, recipes, reference, shared, sse_starlette

    return [reference.EACH, reference.COALESCING, reference.WEBSOCKET, ours.PEER, ours.WEBSOCKET, nchan.PEER,
            recipes.GEVENT, flask_socketio.PEER, flask_socketio.THREADING, sse_starlette.PEER, flask_sse.PEER,
            recipes.THREADS, shared.OURS, shared.WITHOUT_HIREDIS, shared.FLASK_SOCKETIO]
