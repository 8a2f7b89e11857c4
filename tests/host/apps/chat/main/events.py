"""Events: join the room of the session, say something there, leave."""

from flask import session
from flask_socketio import emit, join_room, leave_room

from ..extensions import socketio


@socketio.on("joined", namespace="/chat")
def joined(message):
    """Join the room, and say so in it."""
    room = session.get("room")
    join_room(room)
    emit("status", {"msg": session.get("name") + " has entered the room."}, room=room)


@socketio.on("text", namespace="/chat")
def text(message):
    """Say something to the room."""
    emit("message", {"msg": session.get("name") + ":" + message["msg"]}, room=session.get("room"))


@socketio.on("left", namespace="/chat")
def left(message):
    """Leave the room, and say so in it."""
    room = session.get("room")
    leave_room(room)
    emit("status", {"msg": session.get("name") + " has left the room."}, room=room)
