"""The app of Flask-SocketIO's own example: one background thread, begun by the first client. ``python ticker.py``."""

import os
import sys
from threading import Lock

from flask import Flask, copy_current_request_context, render_template, request, session
from flask_socketio import SocketIO, disconnect, emit

async_mode = None

app = Flask(__name__)
app.config["SECRET_KEY"] = "secret!"
socketio = SocketIO(app, async_mode=async_mode)
thread = None
thread_lock = Lock()


def background_thread():
    """Emit for ever."""
    count = 0
    while True:
        socketio.sleep(0.1)
        count += 1
        socketio.emit("my_response", {"data": "Server generated event", "count": count})


@app.get("/")
def index():
    """Show the page."""
    return render_template("ticker.html", async_mode=socketio.async_mode)


@app.get("/health")
def health():
    """Answer."""
    return {"async_mode": socketio.async_mode}


@socketio.event
def my_event(message):
    """Echo, with a count in the session."""
    session["receive_count"] = session.get("receive_count", 0) + 1
    emit("my_echo", {"data": message["data"], "count": session["receive_count"]})


@socketio.event
def my_ping():
    """Measure."""
    emit("my_pong")


@socketio.on("*")
def catch_all(event, data):
    """Take what nobody else does."""
    emit("my_echo", {"data": [event, data], "count": -1})


@socketio.event
def disconnect_request():
    """Say good-bye, and end the client once it has got that."""

    @copy_current_request_context
    def can_disconnect():
        disconnect()

    emit("my_echo", {"data": "Disconnected!", "count": 0}, callback=can_disconnect)


@socketio.event
def connect():
    """Begin the thread with the first client."""
    global thread
    with thread_lock:
        if thread is None:
            thread = socketio.start_background_task(background_thread)
    emit("my_echo", {"data": "Connected", "count": 0})


@socketio.on("disconnect")
def gone(reason):
    """Say so on the console."""
    print("Client disconnected", request.sid, reason)


@socketio.on_error_default
def failed(error):
    """Log what a handler raises."""
    print("handler failed:", error)


if __name__ == "__main__":
    socketio.run(app, os.environ.get("HOST"), int(sys.argv[1]), allow_unsafe_werkzeug=True)
