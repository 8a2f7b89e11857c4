"""Where Flask-SocketIO is not installed, our package is what ``import flask_socketio`` gives a host."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.hosts import report

#: Makes a process in which nothing of Socket.IO can be imported.
HIDE = """
import importlib.machinery, importlib.util, json, os, sys

class Hiding(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.partition(".")[0] in ("flask_socketio", "socketio", "engineio")
        return None if hidden else super().find_spec(name, path, target)

sys.meta_path = [Hiding if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
assert all(importlib.util.find_spec(name) is None for name in ("flask_socketio", "socketio", "engineio"))
"""
PREPARE = HIDE + """
import hakgal_hybrid
hakgal_hybrid.prepare()
import a_host
"""
EXEC = HIDE + """
sys.argv = ["hakgal-hybrid", "exec", "--class", "a_host:Host", "--", "python", "-c", "import a_host"]
from hakgal_hybrid.tools.cli import main
main()
"""
RUN = HIDE + """
sys.argv = ["hakgal-hybrid", "run", "a_host:serve"]
from hakgal_hybrid.tools.cli import main
main()
"""
#: Imports, by name and by module, everything that hosts and their tests do.
HOST = '''
import json
import flask
import flask_socketio
from flask_socketio import (ConnectionRefusedError, Namespace, SocketIO, SocketIOTestClient, call, close_room,
                            disconnect, emit, join_room, leave_room, rooms, send)

class Chat(Namespace):
    def on_connect(self, auth):
        if auth == "refused":
            raise ConnectionRefusedError("no")
        emit("welcome", auth)

    def on_hello(self, data):
        join_room("hall")
        send(data, to="hall")
        leave_room("hall")
        close_room("hall")
        return rooms() == [flask.request.sid]

    def on_bye(self):
        disconnect()

class Host:
    def __init__(self, enable_websocket=True):
        self.app, self.socketio = flask.Flask(__name__), None
        if enable_websocket:
            self.socketio = SocketIO(self.app, cors_allowed_origins="*", async_mode="eventlet")

host = Host()
host.socketio.on_namespace(Chat("/chat"))
refused = host.socketio.test_client(host.app, "/chat", auth="refused")
client = host.socketio.test_client(host.app, "/chat", auth="let in")
answer = client.emit("hello", "hi", namespace="/chat", callback=True)
received = [(item["name"], item["args"]) for item in client.get_received("/chat")]
client.emit("bye", namespace="/chat")
print(json.dumps([flask_socketio.__name__, isinstance(host.socketio, flask_socketio.SocketIO),
                  isinstance(client, SocketIOTestClient), refused.is_connected("/chat"), answer, received,
                  client.is_connected("/chat"), callable(call)]), flush=True)

def serve():
    raise SystemExit
'''


@pytest.mark.parametrize("profile", ["HYBRID", "DUAL"])
@pytest.mark.parametrize("way", [PREPARE, EXEC, RUN], ids=["prepare", "exec", "run"])
def test_everything_a_host_imports_is_there_and_works(tmp_path: Path, way: str, profile: str) -> None:
    """Each way in gives a host all the names it imports, and handlers, rooms, namespaces and the test client work."""
    (tmp_path / "a_host.py").write_text(HOST)
    told = report(tmp_path, way, APP_PROFILE=profile)
    received = [["welcome", ["let in"]], ["message", "hi"]]
    assert told == ["hakgal_hybrid.socketio", True, True, False, True, received, False, True]


def test_rollback_stands_in_for_nothing(tmp_path: Path) -> None:
    """In profile WEBSOCKET the host's own ``ImportError`` comes out."""
    code = PREPARE.replace("import a_host", "try:\n    import flask_socketio\nexcept ImportError as error:\n"
                           "    print(json.dumps(error.name))")
    assert report(tmp_path, code, APP_PROFILE="WEBSOCKET") == "flask_socketio"
