"""Our URLs, and the methods that each takes."""

from __future__ import annotations

from typing import Literal

STREAM = "/api/events/stream"
WEBSOCKET = "/api/events/ws"
CONNECT = "/api/events/connect"
DISCONNECT = "/api/events/disconnect"
TICKET = "/api/events/ticket"
EMIT = "/api/events/emit"
ACK = "/api/events/ack"
CONTROL = "/api/governor/control"
STATUS = "/api/hybrid/status"
OPENAPI = "/api/hybrid/openapi.json"
CLIENTS = "/api/hybrid/clients"
HISTORY = "/api/hybrid/history"
METRICS = "/api/hybrid/metrics"
DASHBOARD = "/api/hybrid/"
SEEN = "/api/hybrid/seen"
STACKS = "/api/hybrid/stacks"
CLIENT = "/api/hybrid/client.js"
CLASSIC_CLIENT = "/api/hybrid/client.classic.js"
_READ, _POST = "GET, HEAD, OPTIONS", "POST, OPTIONS"
_METHODS = {STREAM: _READ, CONNECT: _POST, DISCONNECT: _POST, TICKET: _POST, EMIT: _POST, ACK: _POST, CONTROL: _POST,
            STATUS: _READ, OPENAPI: _READ, CLIENT: _READ, CLASSIC_CLIENT: _READ, WEBSOCKET: "GET, OPTIONS",
            CLIENTS: _READ, HISTORY: _READ, METRICS: _READ, DASHBOARD: _READ, SEEN: _READ, STACKS: _POST}
#: Posted to by those who only listen: to say who they are, and that they leave.
_READERS_POST = (CONNECT, DISCONNECT)
#: Code that is the same for everybody: pages of other machines load it before they can prove anything.
_PUBLIC = (CLIENT, CLASSIC_CLIENT, DASHBOARD)
_DASHBOARD_FILES = DASHBOARD + "dashboard/"


def normal(path: str) -> str:
    """Return ``path`` as Werkzeug's routing sees it: however many slashes it begins with, they count as one."""
    return "/" + path.lstrip("/")


def methods_of(path: str) -> str | None:
    """Return what our URL ``path`` can be asked with, or ``None`` if the URL is not ours."""
    if path.startswith((CONTROL + "/", _DASHBOARD_FILES)):
        return _READ
    return _METHODS.get(path)


def is_stream(path: str) -> bool:
    """Return true if a request for ``path`` opens a stream.

    :param path: the path of a request, percent-decoded.
    """
    return normal(path) == STREAM


def lane_of(path: str) -> Literal["host", "stream", "control"]:
    """Return which threads of our own server answer a request: ours never wait behind the host's.

    :param path: the path of a request, percent-decoded.
    """
    if path in (STREAM, CONNECT, DISCONNECT):
        return "stream"
    if path in (CONTROL, TICKET) or path.startswith((CONTROL + "/", DASHBOARD)):
        return "control"
    return "host"
