"""Real Socket.IO clients, which need python-socketio and websocket-client."""

from __future__ import annotations

from typing import Any

import pytest

socketio = pytest.importorskip("socketio", reason="python-socketio's client is not installed")
websocket = pytest.importorskip("websocket", reason="websocket-client is not installed")


class Brisk(websocket.WebSocket):  # type: ignore[misc]
    """A WebSocket that waits little for the close frame of the server, which not every server sends."""

    def close(self, *args: Any, **options: Any) -> None:
        """Say goodbye and go; the library waits for three seconds."""
        super().close(*args, **{**options, "timeout": 0.1})

    def __del__(self) -> None:
        """Close the socket, which python-socketio leaves open when the server has ended the connection."""
        if self.sock is not None:
            self.sock.close()


def client() -> Any:
    """Return a client that is not connected yet, and does not connect again by itself."""
    return socketio.Client(reconnection=False, websocket_extra_options={"class_": Brisk})
