"""Rooms: who joins, leaves, speaks and is left out."""

from __future__ import annotations

from typing import Any

from flask import Flask, request

from transcripts.journal import note


def create(module: Any) -> tuple[Flask, Any]:
    """Return the app and its ``SocketIO``."""
    app = Flask("chat")
    socketio = module.SocketIO(app, async_mode="threading")
    emit = module.emit

    def my_rooms() -> list[Any]:
        return sorted((room for room in module.rooms() if room != request.sid), key=str)

    @socketio.on("connect")
    def connected() -> None:
        note("connect", rooms=module.rooms())

    @socketio.on("disconnect")
    def disconnected() -> None:
        note("disconnect", rooms=my_rooms())
        for room in my_rooms():
            emit("left", {"room": room, "how": "gone"}, to=room)

    @socketio.on("join")
    def join(room: Any) -> list[Any]:
        module.join_room(room)
        emit("joined", {"room": room, "who": request.sid}, to=room)
        return my_rooms()

    @socketio.on("leave")
    def leave(room: Any) -> list[Any]:
        module.leave_room(room)
        emit("left", {"room": room, "how": "politely"}, to=room, include_self=True)
        return my_rooms()

    @socketio.on("say")
    def say(room: Any, text: str) -> None:
        emit("said", {"room": room, "text": text}, to=room)

    @socketio.on("say to others")
    def say_to_others(room: Any, text: str) -> None:
        emit("said", text, room=room, include_self=False)

    @socketio.on("answer")
    def answer(text: str) -> None:
        emit("answer", text)

    @socketio.on("shout")
    def shout(text: str, include_self: bool) -> None:
        emit("shouted", text, broadcast=True, include_self=include_self)

    @socketio.on("shout past")
    def shout_past(text: str, skip: Any) -> None:
        emit("shouted", text, broadcast=True, skip_sid=skip)

    @socketio.on("whisper")
    def whisper(sid: str, text: str) -> None:
        emit("whispered", text, to=sid)

    @socketio.on("send there")
    def send_there(room: Any, text: str) -> None:
        module.send(text, to=room)

    @socketio.on("close")
    def close(room: Any) -> list[Any]:
        emit("closing", room, to=room)
        module.close_room(room)
        return my_rooms()

    @socketio.on("rooms")
    def rooms() -> dict[str, Any]:
        return {"own": request.sid in module.rooms(), "others": my_rooms()}

    @socketio.on("bring")
    def bring(sid: str, room: str) -> None:
        module.join_room(room, sid=sid)
        emit("brought", len(module.rooms(sid=sid)), to=sid)

    @socketio.on("throw out")
    def throw_out(sid: str, room: str) -> None:
        module.leave_room(room, sid=sid)

    @socketio.on("intrude")
    def intrude(sid: str) -> str:
        try:
            module.join_room(sid)
        except ValueError:
            return "ValueError"
        return "joined"

    return app, socketio
