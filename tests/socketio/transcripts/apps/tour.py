"""A little of everything, as in a first tour: a counting session, echoes, rooms, and a polite way out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flask import Flask, copy_current_request_context, request, session

from transcripts.journal import note


def create(module: Any) -> tuple[Flask, Any]:
    """Return the app and its ``SocketIO``."""
    app = Flask("tour")
    app.config["SECRET_KEY"] = "only for tests"
    socketio = module.SocketIO(app, async_mode="threading", cors_allowed_origins="*")

    def counted(handler: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(handler)
        def wrapper(*args: Any) -> Any:
            session["received"] = session.get("received", 0) + 1
            return handler(*args)

        return wrapper

    @socketio.event
    def connect(auth: Any) -> None:
        note("connect", auth=auth)

    @socketio.on("disconnect")
    def left(reason: str) -> None:
        note("disconnect", reason=reason, received=session.get("received"))

    @socketio.event
    @counted
    def echo(message: dict[str, Any]) -> None:
        module.emit("reply", {"data": message["data"], "count": session["received"]})

    @socketio.event
    @counted
    def tell_all(message: dict[str, Any]) -> None:
        module.emit("reply", {"data": message["data"], "count": session["received"]}, broadcast=True)

    @socketio.event
    @counted
    def enter(message: dict[str, Any]) -> None:
        module.join_room(message["room"])
        module.emit("reply", {"rooms": len(module.rooms()), "count": session["received"]})

    @socketio.on("close room")
    @counted
    def on_close_room(message: dict[str, Any]) -> None:
        module.emit("reply", {"closing": message["room"], "count": session["received"]}, to=message["room"])
        module.close_room(message["room"])

    @socketio.event
    @counted
    def good_bye() -> None:
        @copy_current_request_context
        def may_disconnect() -> None:
            note("may disconnect", same=request.sid, received=session["received"])
            module.disconnect()

        module.emit("reply", {"data": "good-bye", "count": session["received"]}, callback=may_disconnect)

    @app.before_request
    def before() -> None:
        if request.path == "/count":
            note("before_request")

    @app.get("/count")
    def count() -> Any:
        return {"received": session.get("received")}

    return app, socketio
