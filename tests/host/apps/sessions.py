"""Flask-Session, shared with the events (``manage_session=False``). Started by ``python -m sessions PORT``."""

import os
import sys

from cachelib import SimpleCache
from flask import Flask, request, session
from flask_session import Session
from flask_socketio import SocketIO, emit

app = Flask(__name__)
app.config.update(SECRET_KEY="top-secret!", SESSION_TYPE="cachelib", SESSION_CACHELIB=SimpleCache())
Session(app)
socketio = SocketIO(app, manage_session=False, async_mode="threading")


@app.get("/health")
def health():
    """Answer."""
    return {"ok": True}


@app.route("/session", methods=["GET", "POST"])
def session_access():
    """Show the session, or change it."""
    if request.method == "POST":
        session["session"] = request.json["value"]
    return {"session": session.get("session", ""), "events": session.get("events", 0)}


@socketio.on("get-session")
def get_session():
    """Show the session to the client, and count in it."""
    session["events"] = session.get("events", 0) + 1
    emit("refresh-session", {"session": session.get("session", ""), "events": session["events"]})


@socketio.on("set-session")
def set_session(data):
    """Change the session."""
    session["session"] = data["value"]


if __name__ == "__main__":
    socketio.run(app, os.environ.get("HOST"), int(sys.argv[1]),
                 use_reloader=False, log_output=True, allow_unsafe_werkzeug=True)
