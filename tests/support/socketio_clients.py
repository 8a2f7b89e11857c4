"""Real Socket.IO clients, which need python-socketio and websocket-client."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

socketio = pytest.importorskip("socketio", reason="python-socketio's client is not installed")
engineio = pytest.importorskip("engineio")
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


class OrderedEngine(engineio.Client):  # type: ignore[misc]
    """An engine that calls the handlers of messages one after the other: the library starts a thread for each.

    With a thread for each, two events that came in order may be noted in the other order.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._calls: deque[Callable[[], object]] = deque()
        self._turn = threading.Lock()

    def _trigger_event(self, event: str, *args: Any, **options: Any) -> Any:
        if event != "message":
            return super()._trigger_event(event, *args, **options)
        self._calls.append(lambda: super(OrderedEngine, self)._trigger_event(event, *args))
        return self.start_background_task(self._call)

    def _call(self) -> None:
        """Call the next handler; a thread is started for each, and they take turns."""
        with self._turn:
            self._calls.popleft()()


class OrderedClient(socketio.Client):  # type: ignore[misc]
    """A client with threads whose handlers are called in the order in which events come."""

    def _engineio_client_class(self) -> type[OrderedEngine]:
        return OrderedEngine


def client() -> Any:
    """Return a client that is not connected yet, and does not connect again by itself."""
    return OrderedClient(reconnection=False, websocket_extra_options={"class_": Brisk})
