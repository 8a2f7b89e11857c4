"""Which push channel a host before the migration has."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING

from ..remote.request import Base, connected, request

if TYPE_CHECKING:
    from .load import Options


def detect_channel(base: Base, options: Options) -> str:
    """Return ``socketio``, ``ws`` (a plain WebSocket at the given path), or ``none``."""
    try:
        answer = request(base, "GET", "/socket.io/?EIO=4&transport=polling", headers=options.headers)
        if answer.status == 200 and answer.body.startswith(b"0{"):
            return "socketio"
        return "ws" if _upgrades(base, options) else "none"
    except OSError:
        return "none"


def _upgrades(base: Base, options: Options) -> bool:
    fields = {"Host": base.netloc, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
              "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(), **options.headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    with connected(base) as sock:
        sock.sendall(f"GET {base.path}{options.ws_path} HTTP/1.1\r\n{head}\r\n".encode())
        return sock.recv(64).split(b" ")[1:2] == [b"101"]
