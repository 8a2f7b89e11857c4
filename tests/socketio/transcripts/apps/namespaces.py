"""Two namespaces, and handlers for whatever has none."""

from __future__ import annotations

from typing import Any

from flask import Flask, request, session

from transcripts.journal import note


def create(module: Any) -> tuple[Flask, Any]:
    """Return the app and its ``SocketIO``."""
    app = Flask("namespaces")
    app.config["SECRET_KEY"] = "only for tests"
    socketio = module.SocketIO(app, async_mode="threading", namespaces=["/", "/open"])
    emit = module.emit

    @socketio.on("connect")
    def connected() -> None:
        note("connect", where="default")

    @socketio.on("connect", namespace="/chat")
    def chat_connected() -> None:
        note("connect", where="chat")

    @socketio.on("disconnect", namespace="/chat")
    def chat_disconnected(reason: str) -> None:
        note("disconnect", reason=reason)

    @socketio.on("disconnect")
    def disconnected(reason: str) -> None:
        note("disconnect", reason=reason)

    @socketio.on("hello")
    def hello(name: str) -> str:
        emit("greeting", f"hello, {name}")
        return "default"

    @socketio.on("hello", namespace="/chat")
    def chat_hello(name: str) -> str:
        emit("greeting", f"chat welcomes {name}", broadcast=True)
        return "chat"

    @socketio.event(namespace="/chat")
    def pass_on(text: str) -> None:
        emit("passed on", text, namespace="/", broadcast=True)

    @socketio.on("*")
    def anything(event: str, *args: Any) -> dict[str, Any]:
        note("catch-all", event=event, args=args, told=request.event)
        return {"caught": event, "args": args}

    @socketio.on("elsewhere", namespace="*")
    def elsewhere(*args: Any) -> dict[str, Any]:
        note("any namespace", args=args, told=request.event)
        return {"namespace": request.namespace, "args": args}

    @socketio.on("remember", namespace="/open")
    @socketio.on("remember")
    def remember(key: str) -> list[str]:
        session[key] = True
        return sorted(session)

    def on_added(number: int) -> int:
        return number + 1

    socketio.on_event("added", on_added)
    socketio.on_event("added", lambda number: number + 2, namespace="/chat")

    @app.get("/tell/<where>")
    def tell(where: str) -> Any:
        socketio.emit("told", where, namespace=f"/{where}" if where != "default" else None)
        return {}

    return app, socketio
