"""Flask-SocketIO with gevent, clients on WebSockets: what this library takes the place of."""

from __future__ import annotations

from ..system import versions
from . import Peer, python_app


def _check() -> dict[str, str]:
    return versions("flask-socketio", "python-socketio", "python-engineio", "gevent", "gevent-websocket")


PEER = Peer("flask-socketio", "Flask-SocketIO, gevent, WebSocket", _check, python_app("flask_socketio_app"),
            path="/socket.io/?EIO=4&transport=websocket", kind="ws")
