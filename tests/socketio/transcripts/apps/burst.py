"""Many events at once."""

from __future__ import annotations

from typing import Any

from flask import Flask

from transcripts.journal import note


def create(module: Any) -> tuple[Flask, Any]:
    """Return the app and its ``SocketIO``."""
    app = Flask("burst")
    socketio = module.SocketIO(app, async_mode="threading")
    got: list[int] = []

    @socketio.on("numbers")
    def numbers(count: int) -> int:
        for number in range(count):
            module.emit("number", number)
        return count

    @socketio.on("number")
    def number(value: int) -> int:
        got.append(value)
        if len(got) == 100:
            note("all", got=sorted(got))
        return value

    return app, socketio
