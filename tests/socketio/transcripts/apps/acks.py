"""Acknowledgements, in both directions."""

from __future__ import annotations

from typing import Any

from flask import Flask, request

from transcripts.journal import note

ANSWERS = {"nothing": None, "false": False, "zero": 0, "text": "text", "list": [1, 2], "dict": {"one": 1},
           "two": ("one", 2), "one in a tuple": ("alone",), "empty": (), "pair of lists": ([1], [2]), "empty list": []}


def create(module: Any) -> tuple[Flask, Any]:
    """Return the app and its ``SocketIO``."""
    app = Flask("acks")
    app.config["SECRET_KEY"] = "only for tests"
    socketio = module.SocketIO(app, async_mode="threading")
    emit = module.emit

    @socketio.on("answer")
    def answer(kind: str) -> Any:
        return ANSWERS[kind]

    @socketio.on("silent")
    def silent(*args: Any) -> None:
        note("silent", args=args)

    def acknowledged(*args: Any) -> None:
        note("acknowledged", args=args)

    @socketio.on("ask me")
    def ask_me(*args: Any) -> None:
        emit("question", args, callback=acknowledged)

    @socketio.on("ask twice")
    def ask_twice() -> None:
        emit("question", 1, callback=lambda *args: note("acknowledged first", args=args))
        emit("question", 2, callback=lambda *args: note("acknowledged second", args=args))

    @socketio.on("ask all")
    def ask_all() -> None:
        emit("question", "all", broadcast=True, callback=acknowledged)

    @socketio.on("ask other")
    def ask_other(sid: str) -> None:
        emit("question", "from another", to=sid, callback=acknowledged)

    @socketio.on("send me")
    def send_me() -> None:
        module.send("a message", callback=acknowledged)

    @socketio.on("ask, then answer")
    def ask_then_answer() -> str:
        def answered(value: str) -> None:
            note("acknowledged", args=[value], rooms=len(module.rooms()))
            emit("thanks", value)

        emit("question", "and then?", callback=answered)
        return "asked"

    @socketio.on("disconnect")
    def disconnected() -> None:
        note("disconnect")

    @app.get("/ask/<sid>")
    def ask(sid: str) -> Any:
        socketio.emit("question", "from outside", to=sid, callback=acknowledged)
        return {}

    @socketio.on("whoami")
    def whoami(*args: Any) -> dict[str, Any]:
        return {"sid": request.sid, "namespace": request.namespace, "event": request.event["message"],
                "args": list(request.event["args"])}

    return app, socketio
