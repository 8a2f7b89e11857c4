"""Who may come in: what a ``connect`` handler is told, and how it refuses."""

from __future__ import annotations

from typing import Any

from flask import Flask, request

from transcripts.journal import note

REASONS: dict[str, tuple[Any, ...]] = {
    "none": (), "text": ("not today",), "text and data": ("not today", {"until": "tomorrow"}),
    "two data": ("not today", 1, [2]), "zeros": ("not today", 0, 0), "zero": ("not today", 0), "null": (None,),
    "list": (["not", "today"],), "number": (7,), "empty": ("",), "only data": ({"code": 7},),
    "nested": ("no", ["a", {"b": None}])}


def create(module: Any) -> tuple[Flask, Any]:
    """Return the app and its ``SocketIO``."""
    app = Flask("doors")
    socketio = module.SocketIO(app, async_mode="threading")

    @socketio.on("connect")
    def connected(auth: Any) -> bool | None:
        note("connect", auth=auth, asked=request.args.get("asked"), header=request.headers.get("X-Asked"),
             told=request.event["message"], method=request.method)
        if isinstance(auth, dict) and "refuse" in auth:
            raise module.ConnectionRefusedError(*REASONS[auth["refuse"]])
        return not (isinstance(auth, dict) and "deny" in auth)

    @socketio.on("disconnect")
    def disconnected() -> None:
        note("disconnect")

    @socketio.on("connect", namespace="/plain")
    def plain() -> None:
        note("connect", asked=request.args.get("asked"))

    @socketio.on("connect", namespace="/welcome")
    def welcome(auth: Any = None) -> None:
        module.emit("welcome", {"auth": auth})
        module.emit("newcomer", broadcast=True, include_self=False)
        module.join_room("guests")
        module.send("to the guests", to="guests")

    @socketio.on("again", namespace="/welcome")
    def again() -> None:
        module.emit("welcome back", to="guests")

    @socketio.on("asked")
    def asked() -> Any:
        return [request.args.get("asked"), request.headers.get("X-Asked")]

    return app, socketio
