"""Handlers that fail, and what is called then."""

from __future__ import annotations

from typing import Any

from flask import Flask, request, session

from transcripts.journal import note


def create(module: Any) -> tuple[Flask, Any]:
    """Return the app and its ``SocketIO``."""
    app = Flask("errors")
    app.config["SECRET_KEY"] = "only for tests"
    socketio = module.SocketIO(app, async_mode="threading")

    def fail(*args: Any) -> None:
        raise LookupError(f"failed with {args}")

    for namespace in ("/", "/chat", "/default"):
        socketio.on_event("fail", fail, namespace=namespace)

    @socketio.on_error()
    def failed(error: Exception) -> Any:
        text = "TypeError" if isinstance(error, TypeError) else str(error)  # which names the function
        note("on_error", error=text, event=request.event)
        session["errors"] = session.get("errors", 0) + 1
        module.emit("failed", {"error": text, "errors": session["errors"]})
        return {"failed": text}

    @socketio.on_error("/chat")
    def chat_failed(error: Exception) -> None:
        note("on_error of the chat", error=str(error))

    @socketio.on_error_default
    def any_failed(error: Exception) -> str:
        note("on_error_default", error=str(error), namespace=request.namespace)
        return "by default"

    @socketio.on("divide")
    def divide(one: float, two: float) -> float:
        return one / two

    @socketio.on("too few")
    def too_few(one: Any) -> Any:
        return one

    @socketio.on("disconnect")
    def disconnected(reason: str) -> None:
        raise LookupError(reason)

    return app, socketio
