"""Class-based namespaces in a subclass of SocketIO; eventlet patches the process in the first lines."""

import eventlet

eventlet.monkey_patch()

import os  # noqa: E402
import sys  # noqa: E402

from flask import Flask, request  # noqa: E402
from flask_socketio import ConnectionRefusedError, Namespace, SocketIO, close_room, disconnect, rooms  # noqa: E402


class Events(SocketIO):
    """SocketIO with a method of the app's own."""

    def shout(self, text):
        """Tell everybody."""
        self.emit("shout", text.upper(), namespace="/game")


app = Flask(__name__)
app.config["SECRET_KEY"] = "secret!"
socketio = Events(app, async_mode="eventlet", cors_allowed_origins=[], max_http_buffer_size=100_000)


class Game(Namespace):
    """A game: players enter tables."""

    def on_connect(self, auth):
        """Refuse who has no name."""
        if not auth or "name" not in auth:
            raise ConnectionRefusedError("no name")
        self.emit("welcome", auth["name"], room=request.sid)

    def on_disconnect(self, reason=None):
        """Tell the others."""
        self.emit("gone", request.sid)

    def on_enter(self, table):
        """Enter a table; answer with all rooms."""
        self.enter_room(request.sid, table)
        self.emit("entered", {"table": table}, room=table)
        return sorted(set(rooms()) - {request.sid})

    def on_end(self, table):
        """Close the table."""
        close_room(table)
        return rooms() == [request.sid]

    def on_shout(self, text):
        """Use the method of the app's own class, from a green thread."""
        return eventlet.spawn(socketio.shout, text).wait()

    def on_leave(self):
        """End the client."""
        disconnect()


socketio.on_namespace(Game("/game"))


@app.get("/health")
def health():
    """Answer."""
    eventlet.sleep(0)
    return {"ok": isinstance(socketio, SocketIO), "mode": socketio.async_mode}


if __name__ == "__main__":
    socketio.run(app, os.environ.get("HOST"), int(sys.argv[1]))
