"""Which push channel a host before the migration has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..remote.exchange import WebSocketExchange, begin
from ..remote.request import Base, connected, request

if TYPE_CHECKING:
    from .load import Options


def detect_channel(base: Base, options: Options) -> str:
    """Return ``socketio``, ``ws`` (a plain WebSocket at the given path), or ``none``.

    :param base: the host.
    :param options: the load.
    """
    try:
        answer = request(base, "GET", "/socket.io/?EIO=4&transport=polling", headers=options.headers)
        if answer.status == 200 and answer.body.startswith(b"0{"):
            return "socketio"
        return "ws" if _upgrades(base, options) else "none"
    except OSError:
        return "none"


def _upgrades(base: Base, options: Options) -> bool:
    try:
        with connected(base) as sock:
            begin(sock, WebSocketExchange(base, options.ws_path, options.headers))
    except OSError:
        return False
    return True
