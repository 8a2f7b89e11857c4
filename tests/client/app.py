"""The host that the browser client's tests talk to: a Flask app whose handlers are written for Flask-SocketIO.

``python -m client.app`` (in ``tests``) serves it. ``POST /do`` makes it do things, ``GET /notes`` tells what happened.
"""

from __future__ import annotations

import argparse
import logging
import threading
import time
from typing import Any

from flask import Flask, Response, request

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.socketio import ConnectionRefusedError, emit

PAGE = """<!doctype html><meta charset="utf-8"><title>page</title><link rel="icon" href="data:,">
<script type="module">
import { io } from "/api/hybrid/client.js";
window.io = io;
</script>"""


class Notes:
    """What happened in the handlers."""

    def __init__(self) -> None:
        self.connects: list[dict[str, Any]] = []
        self.disconnects: list[dict[str, str]] = []
        self.calls: list[Any] = []
        self.acks: list[list[Any]] = []
        self.release = threading.Event()


def create_app() -> Flask:
    """Return a new app."""
    app, notes = Flask("client_app"), Notes()
    transport = HybridTransport(app)
    transport.node.lifecycle.namespaces = frozenset()  # none but those with handlers, as python-socketio has it
    _add_handlers(transport, notes)
    _add_routes(app, transport, notes)
    return app


def _add_handlers(transport: HybridTransport, notes: Notes) -> None:
    socketio = transport.socketio

    def connected(auth: Any = None) -> bool | None:
        context: Any = request
        notes.connects.append({"sid": context.sid, "auth": auth, "args": request.args,
                               "key": request.headers.get("X-API-Key"), "token": request.headers.get("X-Token")})
        if isinstance(auth, dict) and "refuse" in auth:
            raise ConnectionRefusedError(*auth["refuse"])
        if isinstance(auth, dict) and "welcome" in auth:
            emit("welcome", {"sid": context.sid})
        return not (isinstance(auth, dict) and auth.get("no"))

    for namespace in ("/", "/chat"):
        socketio.on("connect", namespace=namespace)(connected)

    @socketio.on("disconnect")
    def disconnected(reason: str) -> None:
        context: Any = request
        notes.disconnects.append({"sid": context.sid, "reason": reason})

    @socketio.on("echo")
    def echo(*args: Any) -> Any:
        return args

    @socketio.on("message")
    def message(*args: Any) -> Any:
        return ["message", *args]

    @socketio.on("echo", namespace="/chat")
    def chat_echo(text: str) -> str:
        return f"chat: {text}"

    @socketio.on("note")
    def note(value: Any) -> Any:
        notes.calls.append(value)
        return value

    @socketio.on("slow")
    def slow(value: Any) -> Any:
        notes.calls.append(value)
        notes.release.wait(30)
        return value

    @socketio.on("reverse")
    def reverse(data: bytes) -> bytes:
        assert isinstance(data, bytes)
        return data[::-1]

    @socketio.on("boom")
    def boom() -> None:
        raise LookupError("this handler fails")

    @socketio.on("ask")
    def ask(value: Any) -> None:
        emit("answer", value)


def _add_routes(app: Flask, transport: HybridTransport, notes: Notes) -> None:
    @app.post("/do")
    def do() -> Any:
        """Emit ``n`` events (their numbers, or ``args``), ``pause`` seconds apart; ``ack`` to note acknowledgements."""
        wish = request.get_json()
        where = {"to": wish.get("to"), "namespace": wish.get("namespace")}
        callback = (lambda *args: notes.acks.append(list(args))) if wish.get("ack") else None
        first = wish.get("first", 0)
        for number in range(first, first + wish.get("n", 1)):
            transport.emit(wish["event"], *wish.get("args", [number]), **where, callback=callback)
            time.sleep(wish.get("pause", 0))
        return {"newest": transport.statistics().newest}

    @app.post("/binary")
    def binary() -> Any:
        transport.emit("binary", {"bytes": bytes(range(256)), "$binary": "mine", "$$binary": "mine too"})
        return {}

    @app.post("/kick")
    def kick() -> Any:
        transport.node.lifecycle.end_client(transport.hub.client(request.get_json()["sid"]), "server disconnect")
        return {}

    @app.post("/release")
    def release() -> Any:
        held, notes.release = notes.release, threading.Event()
        held.set()
        return {}

    @app.get("/held")
    def held() -> Any:
        """Hold the request for a while; ``false`` once released."""
        return {False: "true", True: "false"}[notes.release.wait(5)]

    @app.get("/notes")
    def tell() -> Any:
        return {"connects": notes.connects, "disconnects": notes.disconnects, "calls": notes.calls,
                "acks": notes.acks}

    @app.get("/health")
    def health() -> Any:
        return {"status": "ok"}

    @app.get("/page")
    def page() -> Any:
        return Response(PAGE, content_type="text/html")


def main() -> None:
    """Serve the app."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    wish = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    HybridTransport.of(create_app()).run("127.0.0.1", wish.port)


if __name__ == "__main__":
    main()
