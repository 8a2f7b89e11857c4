"""Handlers that fail, and nobody cares."""

from __future__ import annotations

from typing import Any

from flask import Flask

from transcripts.journal import note


def create(module: Any) -> tuple[Flask, Any]:
    """Return the app and its ``SocketIO``."""
    app = Flask("errors_unhandled")
    socketio = module.SocketIO(app, async_mode="threading")

    @socketio.on("fail")
    def fail() -> None:
        note("fail")
        raise LookupError("nobody cares")

    @socketio.on("one argument")
    def one_argument(one: Any) -> Any:
        note("one argument", one=one)
        return one

    @socketio.on("emit, then fail")
    def emit_then_fail() -> None:
        module.emit("before")
        raise LookupError("too late")

    @socketio.on("fine")
    def fine() -> str:
        return "fine"

    return app, socketio
