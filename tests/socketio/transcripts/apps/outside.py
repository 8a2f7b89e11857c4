"""Emitting from routes and other places where no client is being served."""

from __future__ import annotations

from typing import Any

from flask import Flask, jsonify, request

from transcripts.journal import note


def create(module: Any) -> tuple[Flask, Any]:
    """Return the app and its ``SocketIO``; it is bound to the app later, as in a factory."""
    app = Flask("outside")
    socketio = module.SocketIO(async_mode="threading")
    sids: list[str] = []

    @socketio.on("connect")
    def connected() -> None:
        sids.append(request.sid)
        note("connect")

    @socketio.on("disconnect")
    def disconnected() -> None:
        sids.remove(request.sid)
        note("disconnect")

    @socketio.on("connect", namespace="/news")
    def news_connected() -> None:
        note("connect")

    @socketio.on("publish")
    def publish(text: str) -> str:
        socketio.emit("published", text)
        socketio.emit("published elsewhere", text, namespace="/news")
        socketio.emit("published to others", text, include_self=False)
        return "published"

    socketio.init_app(app)

    @app.get("/emit")
    def emit() -> Any:
        socketio.emit("plain")
        socketio.emit("with data", {"route": request.path})
        socketio.emit("several", (1, "two"))
        socketio.send("a message")
        socketio.emit("other namespace", 1, namespace="/news")
        return jsonify(clients=len(sids))

    @app.get("/to/<int:index>")
    def to(index: int) -> Any:
        socketio.emit("to one", index, to=sids[index])
        socketio.emit("to room", index, room=sids[index])
        return {}

    @app.get("/skip/<int:index>")
    def skip(index: int) -> Any:
        socketio.emit("past one", index, skip_sid=sids[index])
        socketio.emit("past all", index, skip_sid=list(sids))
        return {}

    @app.get("/room/<name>/<int:index>")
    def room(name: str, index: int) -> Any:
        socketio.server.enter_room(sids[index], name)
        socketio.emit("in room", name, to=name)
        return jsonify(sorted(item for item in socketio.server.rooms(sids[index]) if item != sids[index]))

    @app.get("/module-room/<name>/<int:index>")
    def module_room(name: str, index: int) -> Any:
        module.join_room(name, sid=sids[index], namespace="/")
        module.emit("in room", name, to=name, namespace="/")
        return {}

    @app.get("/close/<name>")
    def close(name: str) -> Any:
        socketio.close_room(name)
        socketio.emit("in room", "closed", to=name)
        return {}

    @app.get("/participants/<name>")
    def participants(name: str) -> Any:
        manager = socketio.server.manager
        return jsonify(members=sorted(sids.index(sid) for sid, _ in manager.get_participants("/", name)),
                       everybody=len(list(manager.get_participants("/", None))),
                       namespaces=sorted(manager.get_namespaces()))

    return app, socketio
