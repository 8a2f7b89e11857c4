"""Apps in this process that have one log, as if each were in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from flask import Flask

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.socketio import SocketIO
from hakgal_hybrid.testing import TestStream, open_stream

from .redis_server import RedisServer

SOON = 30.0


def until(what: Callable[[], object], seconds: float = SOON) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.01)


class App:
    """An app of one process, as far as events go."""

    def __init__(self, server: RedisServer, *, app: str = "shared", **settings: Any) -> None:
        self.flask = Flask(app)
        self.transport = HybridTransport(self.flask, **{"backplane": server.url, "flush_s": 0, **settings})

    def open(self, **options: Any) -> TestStream:
        return open_stream(self.flask.test_client(), timeout=SOON, **options)

    def status(self) -> dict[str, Any]:
        answer = self.flask.test_client().get("/api/hybrid/status").get_json()
        assert isinstance(answer, dict)
        return answer

    def stop(self) -> None:
        assert self.transport.node.backplane is not None
        self.transport.node.backplane.stop()


class Host(App):
    """An app with the interface of Flask-SocketIO."""

    def __init__(self, server: RedisServer, **settings: Any) -> None:
        self.flask = Flask("shared")
        self.flask.config.update(HYBRID_BACKPLANE=server.url, HYBRID_FLUSH_S=0, **settings)
        self.socketio = SocketIO(self.flask)
        self.transport = self.flask.extensions["hakgal_hybrid"]

    @property
    def server(self):  # type: ignore[no-untyped-def]
        return self.socketio.server
