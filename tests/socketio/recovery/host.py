"""``python host.py SERVER --port PORT``: a host with two namespaces and a room, which emits numbers when asked to.

``POST /emit`` with ``{"number", "namespace", "room", "ask"}`` emits one; ``GET /log`` says what its handlers were
called with. Served by our own server, or by Werkzeug.
"""

from __future__ import annotations

import argparse
from typing import Any

from flask import Flask, request
from werkzeug.serving import make_server

from hakgal_hybrid.socketio import SocketIO, join_room


def create() -> tuple[Flask, SocketIO]:
    """Return the app and its SocketIO."""
    app = Flask("recovery")
    socketio = SocketIO(app, ping_interval=1, ping_timeout=3)
    log: list[Any] = []

    for namespace in ("/", "/news"):
        @socketio.on("connect", namespace=namespace)
        def connected(auth: Any) -> None:
            log.append(["connect", request.namespace, auth])
            join_room("red")

        @socketio.on("disconnect", namespace=namespace)
        def disconnected(reason: str) -> None:
            log.append(["disconnect", request.namespace, reason])

    @app.post("/emit")
    def emit() -> dict[str, Any]:
        asked = request.get_json()
        options = {"callback": lambda *args: log.append(["answered", *args])} if asked.get("ask") else {}
        socketio.emit("number", asked["number"], namespace=asked.get("namespace", "/"), to=asked.get("room"), **options)
        return {}

    @app.get("/log")
    def read_log() -> list[Any]:
        return log

    @app.get("/health")
    def health() -> dict[str, Any]:
        return {}

    return app, socketio


def main() -> None:
    """Serve until stopped; the server says on which port."""
    parser = argparse.ArgumentParser()
    parser.add_argument("server", choices=["ours", "werkzeug"])
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    app, socketio = create()
    if options.server == "ours":
        socketio.run(app, host="127.0.0.1", port=options.port)
    else:
        server = make_server("127.0.0.1", options.port, app, threaded=True)
        print(f"http://127.0.0.1:{server.port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
