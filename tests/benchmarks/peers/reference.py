"""The C reference: what the kernel allows, sending each event by itself, or everything new at once."""

from __future__ import annotations

from collections.abc import Callable

from ..build import program
from ..server import Server
from ..system import first_line
from . import SOCKETIO_PATH, Peer


def _check() -> dict[str, str]:
    program("reference")
    return {"gcc": first_line("gcc", "--version") or ""}


def _start(*mode: str) -> Callable[[Server], None]:
    def start(server: Server) -> None:
        server.spawn([program("reference"), str(server.port), str(server.control), *mode])

    return start


EACH = Peer("c", "C, one send an event", _check, _start("each"), reference=True,
            note="the limit event by event: one `send` for each event and client")
COALESCING = Peer("c-coalescing", "C, coalescing", _check, _start("coalesce"), reference=True,
                  note="the limit at high rates: a log, a cursor a client, one `send` for everything new")
WEBSOCKET = Peer("c-ws", "C, WebSocket, one send an event", _check, _start("each", "websocket"), path=SOCKETIO_PATH,
                 kind="ws", reference=True,
                 note="the limit for clients of Socket.IO on WebSockets: one `send` for each event and client; it "
                      "reads what they send only to know that they ask for a namespace")
