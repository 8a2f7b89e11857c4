"""Several processes with one Redis: one of them emits, the others have the clients."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import replace

from .. import system
from ..build import Missing
from ..server import Server
from . import SOCKETIO_PATH, Peer, ours

#: More than any workload emits at a time, so that a burst shows how fast it goes and not what is dropped.
OUR_SETTINGS = {"HYBRID_BACKPLANE_NAME": "bench", "HYBRID_OUTBOX_EVENTS": "100000", "HYBRID_LOG_EVENTS": "100000",
                "HYBRID_OUTBOX_BYTES": str(64 << 20), "HYBRID_LOG_BYTES": str(256 << 20)}


def with_edges(peer: Peer, count: int) -> Peer:
    """Return our peer with so many edges for its clients, on either processor; ``Server.ports`` are theirs."""
    def start(server: Server) -> None:
        env = {**OUR_SETTINGS, "HYBRID_MAX_STREAMS": "20000",
               "HYBRID_MAX_STREAMS_PER_ADDRESS": "20000", "HYBRID_CONNECT_RATE": "1000000"}
        env["HYBRID_BACKPLANE"] = _redis(server)
        server.spawn(_app("ours", system.free_port(), server.control), env=env, counts=False, name="emitting")
        server.ports = [server.port, *(system.free_port() for _ in range(count - 1))]
        for number, port in enumerate(server.ports):
            server.spawn([sys.executable, "-m", "hakgal_hybrid", "edge", "--port", str(port)], env=env,
                         name=f"clients {number}", anywhere=True)

    return replace(peer, start=start, health="/api/hybrid/live")


def _check(*packages: str) -> dict[str, str]:
    if shutil.which("redis-server") is None:
        raise Missing("redis-server is not installed")
    return {**system.versions("redis", *packages), "redis-server": _version()}


def _version() -> str:
    return (system.first_line("redis-server", "--version") or "").partition("v=")[2].partition(" ")[0]


def _redis(server: Server) -> str:
    """Start a Redis; return its URL."""
    port = system.free_port()
    server.spawn(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir",
                  str(server.folder)], name="redis")
    return f"redis://127.0.0.1:{port}/0"


def _app(name: str, port: int, control: int) -> list[str]:
    return [sys.executable, "-m", f"tests.benchmarks.apps.{name}", str(port), str(control)]


def _processes(app: str, queue: str, **variables: str) -> Callable[[Server], None]:
    """Return a ``start``: Redis and the process with clients have the server's processor, the other one the load's.

    :param queue: the environment variable that says where Redis is.
    """
    def start(server: Server) -> None:
        env = {**variables, queue: _redis(server)}
        server.spawn(_app(app, system.free_port(), server.control), env=env, counts=False, name="emitting")
        server.spawn(_app(app, server.port, system.free_port(socket.SOCK_DGRAM)), env=env, name="clients 0")

    return start


OURS = Peer("ours-redis", "hakgal_hybrid, Redis", lambda: {**ours.PEER.check(), **_check("hiredis")},
            _processes("ours", "HYBRID_BACKPLANE", **OUR_SETTINGS), path="/api/events/stream", shared=True,
            note="`HYBRID_BACKPLANE`; one process emits, another has the clients")
WITHOUT_HIREDIS = Peer(
    "ours-redis-py", "hakgal_hybrid, Redis, no hiredis", lambda: {**ours.PEER.check(), **_check()},
    _processes("ours", "HYBRID_BACKPLANE", BENCH_WITHOUT="hiredis", **OUR_SETTINGS), path="/api/events/stream",
    shared=True, note="the same without hiredis: redis-py reads answers in Python")
FLASK_SOCKETIO = Peer(
    "flask-socketio-redis", "Flask-SocketIO, gevent, WebSocket, Redis",
    lambda: {**system.versions("flask-socketio", "python-socketio", "python-engineio", "gevent"), **_check()},
    _processes("flask_socketio_app", "BENCH_QUEUE"), path=SOCKETIO_PATH, kind="ws", shared=True,
    note="`message_queue`; one process emits, another has the clients")
