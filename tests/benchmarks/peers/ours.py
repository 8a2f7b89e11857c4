"""This library, complete: a Flask host under ``HybridTransport``, served by its own server."""

from __future__ import annotations

from ..system import versions
from . import SOCKETIO_PATH, Peer, python_app


def _check() -> dict[str, str]:
    import hakgal_hybrid

    return {"hakgal_hybrid": hakgal_hybrid.__version__, **versions("flask", "gevent", "blinker")}


#: Half of the clients filter.
PEER = Peer("ours", "hakgal_hybrid", _check, python_app("ours"),
            path="/api/events/stream|/api/events/stream?events=tick,note_*",
            note="the complete product: connect handlers, a room for everybody, filters for half of the clients, a "
                 "receiver of `event_emitted`; `socketio.emit` in a host thread")
#: Clients of Socket.IO, served from the same log.
WEBSOCKET = Peer("ours-ws", "hakgal_hybrid, WebSocket", _check, python_app("ours", ENABLE_WS_SPECIAL="true"),
                 path=SOCKETIO_PATH, kind="ws", note="the same product with `ENABLE_WS_SPECIAL=true`: all clients are "
                 "Socket.IO's, on WebSockets")
