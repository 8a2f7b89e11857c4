"""Flask-SocketIO with gevent and with threads, clients on WebSockets: what this library takes the place of."""

from __future__ import annotations

from ..system import versions
from . import SOCKETIO_PATH, Peer, python_app


def _check_threads() -> dict[str, str]:
    return versions("flask-socketio", "python-socketio", "python-engineio", "werkzeug", "simple-websocket")


def _check() -> dict[str, str]:
    return versions("flask-socketio", "python-socketio", "python-engineio", "gevent", "gevent-websocket")


PEER = Peer("flask-socketio", "Flask-SocketIO, gevent, WebSocket", _check, python_app("flask_socketio_app"),
            path=SOCKETIO_PATH, kind="ws")
THREADING = Peer("flask-socketio-threads", "Flask-SocketIO, threading, WebSocket", _check_threads,
                 python_app("flask_socketio_app", BENCH_ASYNC_MODE="threading"), path=SOCKETIO_PATH, kind="ws",
                 most=(1000, "each client holds several threads"))
