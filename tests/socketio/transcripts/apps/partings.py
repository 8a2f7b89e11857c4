"""Who ends a connection, and what both ends are told."""

from __future__ import annotations

from typing import Any

from flask import Flask, request

from transcripts.journal import note


def create(module: Any) -> tuple[Flask, Any]:
    """Return the app and its ``SocketIO``."""
    app = Flask("partings")
    socketio = module.SocketIO(app, async_mode="threading")

    for namespace in ("/", "/chat"):

        @socketio.on("connect", namespace=namespace)
        def connected() -> None:
            note("connect")

        @socketio.on("disconnect", namespace=namespace)
        def disconnected(reason: str) -> None:
            note("disconnect", reason=reason, told=request.event, known=reason == socketio.reason.CLIENT_DISCONNECT)
            module.emit("your last", "nobody gets this")
            module.emit("gone", {"reason": reason}, broadcast=True)
            note("said good-bye")

    @socketio.on("here")
    def here(value: Any = None) -> Any:
        note("here", value=value)
        return value

    @socketio.on("put me out")
    def put_me_out() -> str:
        module.emit("good-bye")
        module.disconnect()
        note("has put out")
        return "nobody gets this"

    @socketio.on("put out")
    def put_out(sid: str, namespace: str | None = None) -> str:
        module.disconnect(sid, namespace=namespace)
        return "done"

    @socketio.on("put me out when I am ready")
    def put_out_later() -> None:
        def ready() -> None:
            note("ready")
            module.disconnect()

        module.emit("ready?", callback=ready)

    @app.get("/put-out/<sid>")
    def put_out_from_outside(sid: str) -> Any:
        module.disconnect(sid, namespace="/")
        return {}

    @app.get("/put-out-by-server/<sid>")
    def put_out_by_server(sid: str) -> Any:
        socketio.server.disconnect(sid)
        return {}

    return app, socketio
