"""Real Socket.IO clients, which need python-socketio and websocket-client."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from hakgal_hybrid.broker.engineio.polling import UPGRADING_S

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


def check_packets_do_not_wait_for_the_change(port: int, emit_later: Callable[[], object]) -> None:
    """Fail if a poll that waits while its client changes over is answered late, as if nothing had woken it.

    The best of some tries counts: the machine may be busy. ``emit_later`` emits ``later`` with 1 to all clients.
    """
    url, took = "/socket.io/?EIO=4&transport=", []

    def ask(method: str, query: str, body: str | None = None) -> str:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request(method, url + query, body)
            return connection.getresponse().read().decode()

    def poll(query: str) -> tuple[str, float]:
        while (body := ask("GET", query)) == "6":
            pass
        return body, time.monotonic()

    def answer(query: str, cause: Callable[[], object]) -> str:
        with ThreadPoolExecutor(1) as thread:
            polled = thread.submit(poll, query)
            threading.Event().wait(0.3 * UPGRADING_S)
            began = time.monotonic()
            cause()
            body, came = polled.result()
        took.append(came - began)
        return body

    for _ in range(5):
        sid = "&sid=" + json.loads(ask("GET", "polling")[1:])["sid"]
        with closing(websocket.create_connection(f"ws://127.0.0.1:{port}{url}websocket{sid}", timeout=30)) as ws:
            ws.send("2probe")
            assert ws.recv() == "3probe"
            packets = answer("polling" + sid, lambda query="polling" + sid: ask("POST", query, "40"))
            while packets[-1] != "6":
                packets += "\x1e" + ask("GET", "polling" + sid)
            assert packets.startswith('40{"sid":'), packets
            assert answer("polling" + sid, emit_later) == '42["later",1]'
            ws.send("5")
    assert min(took[::2]) < UPGRADING_S / 2 > min(took[1::2]), took
