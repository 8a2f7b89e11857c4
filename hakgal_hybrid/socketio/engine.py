"""What hosts reach for as ``socketio.server.eio``: how clients of Engine.IO are served."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from ..web.state import AppState
from .clients import absent


class Engine:
    """The part of python-engineio's ``Server`` that says how clients are served. All of it only looks.

    :param current: returns the state of the app that is meant.
    """

    async_mode = "threading"
    #: Nothing is compressed.
    http_compression = False
    #: Pages of origins that are allowed may send their cookies.
    cors_credentials = True

    def __init__(self, current: Callable[[], AppState]) -> None:
        self._current = current

    @property
    def ping_interval(self) -> float:
        """How long after a pong the next ping is sent, in seconds."""
        return self._current().node.engine_options.ping_interval_s

    @property
    def ping_timeout(self) -> float:
        """How long a pong may take, in seconds."""
        return self._current().node.engine_options.ping_timeout_s

    @property
    def max_http_buffer_size(self) -> int:
        """The largest body or message that is taken, in bytes."""
        return self._current().node.engine_options.max_payload

    @property
    def allow_upgrades(self) -> bool:
        """True if a client that polls is offered a WebSocket, where the server can serve one."""
        return self._current().node.engine_options.allow_upgrades

    @property
    def transports(self) -> list[str]:
        """What clients may come by: ``polling``, ``websocket`` or both."""
        return list(self._current().node.engine_options.transports)

    @property
    def cors_allowed_origins(self) -> Any:
        """What the ``SocketIO`` was given under this name; ``None`` for nothing."""
        return self._given("cors_allowed_origins")

    @property
    def cookie(self) -> Any:
        """What the ``SocketIO`` was given under this name; ``None`` for nothing. No cookie is set."""
        return self._given("cookie")

    def _given(self, name: str) -> Any:
        return getattr(self._current().facade, "server_options", {}).get(name)

    def __getattr__(self, name: str) -> NoReturn:
        raise absent("socketio.server.eio", name)
