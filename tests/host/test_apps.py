"""Flask-SocketIO apps as people write them, unmodified: started by the prefix, and rolled back by the environment.

Each is started by its own start command and used by a client of ours, by one of Socket.IO that is not changed
(``ENABLE_WS_SPECIAL=true``) and, with ``APP_PROFILE=WEBSOCKET``, by the same: the same must happen to all.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from support.hosts import EXEC, Running, free_port, report, running
from support.npm import install
from support.socketio_apps import APPS, STARTS, SWAPPED, UNMODIFIED, variables
from support.visitors import Refused, SocketVisitor, SseVisitor, Visitor, cookie_of

import hakgal_hybrid

Connect = Callable[..., Visitor]

def visitor(profile: str) -> type[SocketVisitor | SseVisitor]:
    """A client of that kind."""
    return SocketVisitor if profile in ("WEBSOCKET", UNMODIFIED) else SseVisitor


@contextmanager
def started(folder: Path, name: str, profile: str) -> Iterator[tuple[Running, Connect]]:
    """An app in a process of its own, started by the prefix; and what connects a client to it."""
    app, port = STARTS[name], free_port()
    if importlib.util.find_spec(app.needs) is None:
        pytest.skip(f"{app.needs} is not installed")
    command = [word.format(port=port) for word in app.command.split()]
    prefix = EXEC if app.prefix == "exec" else [*EXEC[:-2], "run"]
    with running(folder, [*prefix, *command], port, cwd=APPS, TODO_DB=str(folder / "todo.db"),
                 PYTHONDONTWRITEBYTECODE="1", **variables(profile)) as server:
        yield server, partial(visitor(profile), port)
        lines = server.text().count(SWAPPED)
        both = ", and reach clients of Socket.IO at /socket.io/ (" in server.text()
    assert both is (profile in ("DUAL", UNMODIFIED)), server.text()
    assert lines == (0 if profile == "WEBSOCKET" else 1), server.text()


@pytest.fixture(params=["HYBRID", pytest.param("WEBSOCKET", marks=pytest.mark.long), UNMODIFIED])
def profile(request: pytest.FixtureRequest) -> str:
    """By which transport."""
    return str(request.param)


#: What the long tests have of clients that are not changed: the others stand for these.
MOST = pytest.mark.parametrize("profile", ["HYBRID", pytest.param("WEBSOCKET", marks=pytest.mark.long),
                                     pytest.param(UNMODIFIED, marks=pytest.mark.long)],
                               indirect=True)


def test_a_factory_with_blueprints(tmp_path: Path, profile: str) -> None:
    """Rooms of the session, events of a blueprint's module, a broadcast from a request."""
    with started(tmp_path, "chat", profile) as (server, connect):
        ann, bob = (cookie_of(server.port, "/", name=name, room="hall") for name in ("ann", "bob"))
        with connect("/chat", cookie=ann) as first, connect("/chat", cookie=bob) as second:
            for client in (first, second):
                client.emit("joined", {})
            assert first.first("status", lambda data: "bob" in data["msg"])["msg"] == "bob has entered the room."
            second.emit("text", {"msg": "hello"})
            assert first.first("message") == second.first("message") == {"msg": "bob:hello"}
            second.emit("left", {})
            assert first.first("status", lambda data: "left" in data["msg"])["msg"] == "bob has left the room."
            first.emit("text", {"msg": "gone?"})
            assert server.post("/announce", {"msg": "closing"}).status == 204
            assert first.first("announcement") == second.first("announcement") == {"msg": "closing"}
            assert second.all("message") == [{"msg": "bob:hello"}]


def test_class_namespaces_below_eventlet(tmp_path: Path, profile: str) -> None:
    """A subclass of SocketIO, a class for a namespace, a refusal; the first line patches the process by eventlet."""
    with started(tmp_path, "classes", profile) as (server, connect):
        assert server.get("/health").body == {"ok": True, "mode": "eventlet" if profile == "WEBSOCKET" else "threading"}
        with pytest.raises(Refused, match="no name"):
            connect("/game", auth={})
        with connect("/game", auth={"name": "ann"}) as ann, connect("/game", auth={"name": "bob"}) as bob:
            assert ann.first("welcome") == "ann"
            assert ann.emit("enter", "table 1") == ["table 1"]
            assert ann.first("entered") == {"table": "table 1"}
            assert ann.emit("end", "table 1") is True
            ann.emit("shout", "hello")
            assert bob.first("shout") == "HELLO"
            assert "entered" not in [name for name, _ in bob.events]
            bob.emit("leave") if profile == "HYBRID" else bob.close()
            assert isinstance(ann.first("gone"), str)


def test_flask_login(tmp_path: Path, profile: str) -> None:
    """Who is not logged in is refused; a handler knows the user of the request that has connected."""
    with started(tmp_path, "login", profile) as (server, connect):
        with pytest.raises(Refused):
            connect()
        with connect(cookie=cookie_of(server.port, "/login", name="ann")) as ann:
            assert ann.first("my response") == {"message": "ann has joined"}
            assert ann.emit("whoami") == "ann"


@MOST
def test_flask_session(tmp_path: Path, profile: str) -> None:
    """With ``manage_session=False`` requests and events share one session, both ways."""
    with started(tmp_path, "sessions", profile) as (server, connect):
        answer = server.post("/session", {"value": "by request"})
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        with connect(cookie=cookie) as client:
            client.emit("get-session")
            assert client.first("refresh-session") == {"session": "by request", "events": 1}
            client.emit("set-session", {"value": "by event"})
            assert server.get("/session", Cookie=cookie).body == {"session": "by event", "events": 1}


@pytest.mark.parametrize("way", ["todo", "todo by name"])
def test_sqlalchemy(tmp_path: Path, profile: str, way: str) -> None:
    """Handlers and requests use the same database, each in an app context, under gunicorn and by name."""
    with started(tmp_path, way, profile) as (server, connect):
        assert server.post("/items", {"title": "wash up"}).body == {"id": 1, "title": "wash up", "done": False}
        with connect() as first, connect() as second:
            assert first.first("items") == [{"id": 1, "title": "wash up", "done": False}]
            assert server.post("/items", {"title": "cook"}).status == 201
            assert second.first("item_added")["title"] == "cook"
            assert first.emit("finish", 1) == {"ok": True}
            assert second.first("item_changed") == {"id": 1, "title": "wash up", "done": True}
            assert first.emit("finish", 9) == {"error": "no such item"}


def test_a_background_thread(tmp_path: Path, profile: str) -> None:
    """Flask-SocketIO's own example: the first client begins a thread that emits to all; its callback ends it."""
    with started(tmp_path, "ticker", profile) as (_server, connect), connect() as client:
        assert client.first("my_echo") == {"data": "Connected", "count": 0}
        client.emit("my_event", {"data": "x"})
        client.emit("my_event", {"data": "y"})
        assert client.first("my_echo", lambda data: data["count"] == 2)["data"] == "y"
        client.emit("my_ping")
        client.first("my_pong")
        client.emit("nobody knows", 5)
        assert client.first("my_echo", lambda data: data["count"] == -1)["data"] == ["nobody knows", 5]
        assert client.first("my_response", lambda data: data["count"] >= 3)["data"] == "Server generated event"


@MOST
def test_apscheduler_and_threads(tmp_path: Path, profile: str) -> None:
    """What emits outside of any request reaches everybody: a scheduler, a plain thread, a background task."""
    with started(tmp_path, "jobs", profile) as (server, connect), connect() as client:
        assert client.first("tick") == {"every": "0.2 s"}
        assert server.post("/work/7", {}).status == 202
        assert client.first("finished") == {"job": 7, "result": 49}
        assert client.emit("later", 0.01) == "accepted"
        assert client.first("now") == {"app": "jobs"}


@pytest.mark.parametrize("name", ["chat", "classes"])
def test_both_transports_at_once(tmp_path: Path, name: str) -> None:
    """In DUAL a client of each kind gets what is emitted, by the unmodified app and start command."""
    with started(tmp_path, name, "DUAL") as (server, connect):
        namespace, auth = ("/chat", None) if name == "chat" else ("/game", {"name": "ann"})
        with connect(namespace, auth=auth) as new, SocketVisitor(server.port, namespace, auth=auth) as old:
            if name == "chat":
                server.post("/announce", {"msg": "closing"})
            else:
                old.emit("shout", "closing")
            event, data = ("announcement", {"msg": "closing"}) if name == "chat" else ("shout", "CLOSING")
            assert new.first(event) == old.first(event) == data


def test_the_reloader_starts_what_is_swapped(tmp_path: Path) -> None:
    """With ``debug=True`` and Werkzeug's reloader the process that serves is swapped as well."""
    source = (APPS / "jobs.py").read_text(encoding="utf-8").replace("use_reloader=False", "use_reloader=True")
    (tmp_path / "jobs.py").write_text(source, encoding="utf-8")
    port = free_port()
    with running(tmp_path, [*EXEC, "python", "jobs.py", str(port)], port, cwd=tmp_path), SseVisitor(port) as client:
        assert client.emit("later", 0) == "accepted"
        client.first("now")


GEVENT = """
from gevent import monkey; monkey.patch_all()
import sys, flask
from flask_socketio import SocketIO
app = flask.Flask(__name__)
socketio = SocketIO(app, async_mode="gevent")
app.add_url_rule("/health", "health", lambda: {})

@socketio.on("later")
def later():
    socketio.start_background_task(lambda: (socketio.sleep(0.01), socketio.emit("now")))

if __name__ == "__main__":
    socketio.run(app, port=int(sys.argv[1]))
"""


@pytest.mark.parametrize("server", ["run", "gunicorn"])
def test_gevent_patches_for_its_own_servers_only(tmp_path: Path, server: str) -> None:
    """An app that patches itself by gevent runs in native threads; under gunicorn's gevent worker in greenlets."""
    (tmp_path / "patched.py").write_text(GEVENT, encoding="utf-8")
    port = free_port()
    commands = {"run": f"python patched.py {port}", "gunicorn": f"gunicorn -k gevent -b 127.0.0.1:{port} patched:app"}
    with running(tmp_path, [*EXEC, *commands[server].split()], port, cwd=tmp_path) as host, SseVisitor(port) as client:
        client.emit("later")
        client.first("now")
        assert host.get("/api/hybrid/status").body["patched"]["gevent"] is (server == "gunicorn")


# -- what was not swapped ----------------------------------------------------------------------------------------

PLAIN = "import flask; app = flask.Flask('plain'); app.add_url_rule('/health', 'health', lambda: {})"
MISSED = "nothing was swapped until this process began to serve"


@pytest.mark.parametrize(
    ("options", "module", "why"),
    [([], PLAIN, "no app with a SocketIO of flask_socketio was made"),
     (["--class", "no_such_module:Api"], PLAIN + "\nimport flask_socketio; flask_socketio.SocketIO(app)",
      "--class names no_such_module:Api, which was not imported")],
    ids=["no SocketIO", "a class that is not imported"],
)
def test_what_was_not_swapped_is_said_as_it_begins_to_serve(tmp_path: Path, options: list[str], module: str,
                                                             why: str) -> None:
    """One warning before the first request; with ``--class`` other objects of SocketIO are left alone."""
    (tmp_path / "plain.py").write_text(module, encoding="utf-8")
    port = free_port()
    command = [*EXEC[:-1], *options, "--", "flask", "--app", "plain", "run", "--port", str(port)]
    with running(tmp_path, command, port, cwd=tmp_path) as server:
        assert server.text().count(MISSED) == 1
        assert why in server.text()
        assert server.get("/api/events/stream").status == 404


# -- apps that import hakgal_hybrid.socketio ---------------------------------------------------------------------

CHANGED = """
import sys, flask
from hakgal_hybrid.socketio import Namespace, SocketIO, emit, join_room
app = flask.Flask(__name__)
socketio = SocketIO(app, async_mode="threading")
app.add_url_rule("/health", "health", lambda: {"home": type(socketio).__module__, "is": isinstance(socketio, SocketIO)})

class Chat(Namespace):
    def on_say(self, text):
        join_room("hall")
        emit("said", text, to="hall")

socketio.on_namespace(Chat("/chat"))
if __name__ == "__main__":
    socketio.run(app, port=int(sys.argv[1]), allow_unsafe_werkzeug=True)
"""


@MOST
def test_an_app_that_changed_its_import_is_rolled_back_too(tmp_path: Path, profile: str) -> None:
    """In profile WEBSOCKET the names of ``hakgal_hybrid.socketio`` are Flask-SocketIO's own."""
    (tmp_path / "changed.py").write_text(CHANGED, encoding="utf-8")
    port = free_port()
    with running(tmp_path, [sys.executable, "changed.py", str(port)], port, cwd=tmp_path,
                 **variables(profile)) as server, visitor(profile)(port, "/chat") as client:
        home = "flask_socketio" if profile == "WEBSOCKET" else "hakgal_hybrid.socketio.socketio"
        assert server.get("/health").body == {"home": home, "is": True}
        client.emit("say", "hello")
        assert client.first("said") == "hello"


NAMES = """
import json, os, sys
import hakgal_hybrid.socketio as ours
os.environ["APP_PROFILE"] = "WEBSOCKET"
import flask_socketio as theirs
print(json.dumps([name for name in ours.__all__ if getattr(ours, name) is not getattr(theirs, name)]))
"""
TOO_LATE = """
import json, os
import flask
from hakgal_hybrid.socketio import SocketIO
os.environ["APP_PROFILE"] = "WEBSOCKET"
try:
    SocketIO(flask.Flask("late"))
except ValueError as error:
    print(json.dumps(str(error)))
"""
NOT_INSTALLED = """
import json, sys
sys.modules["flask_socketio"] = None
from hakgal_hybrid import HybridTransport
try:
    from hakgal_hybrid.socketio import emit
except ValueError as error:
    print(json.dumps(str(error)))
"""


def test_every_name_is_flask_socketios_in_a_rollback(tmp_path: Path) -> None:
    """Functions, classes and exceptions; the environment is read as a name is imported."""
    assert report(tmp_path, NAMES) == []


def test_a_profile_that_is_set_after_the_import_is_refused(tmp_path: Path) -> None:
    """The app has bound our class by then: the error says where the variable belongs."""
    assert "set APP_PROFILE=WEBSOCKET in the environment of the process" in report(tmp_path, TOO_LATE)


def test_a_rollback_without_flask_socketio_names_what_to_install(tmp_path: Path) -> None:
    """Only where a name of it is imported: the package itself can be."""
    assert "pip install 'hakgal_hybrid[socketio]'" in report(tmp_path, NOT_INSTALLED, APP_PROFILE="WEBSOCKET")


PAGE = """
import { createRequire } from "node:module";
const require = createRequire(process.env.MODULES + "/");
const ours = process.env.APP_PROFILE === "HYBRID";
const { io } = ours ? await import(process.env.CLIENT) : require("socket.io-client");
const options = ours ? { EventSource: require("eventsource").EventSource } : { transports: ["polling"] };
const socket = io(`http://127.0.0.1:${process.env.T_PORT}/game`, { ...options, auth: { name: "page" } });
socket.on("connect_error", error => { console.error(error); process.exit(1); });
socket.on("welcome", name => socket.emit("enter", "table 2", rooms => {
  console.log(JSON.stringify([name, rooms]));
  socket.disconnect();
  process.exit(0);
}));
"""


@pytest.mark.once
@MOST
def test_a_page_that_uses_socket_io_client(tmp_path: Path, profile: str) -> None:
    """The code of a page runs on ``client.js``, by the alias of its bundler, and on socket.io-client as it is."""
    modules = install(Path(__file__).parents[1] / "socketio" / "transcripts", tmp_path)
    (tmp_path / "page.mjs").write_text(PAGE, encoding="utf-8")
    client = Path(hakgal_hybrid.__file__).parent / "web" / "static" / "client" / "client.js"
    with started(tmp_path, "classes", profile) as (server, _connect):
        env = {**os.environ, "MODULES": str(modules.parent), "CLIENT": client.as_uri(), "T_PORT": str(server.port),
               "APP_PROFILE": profile}
        done = subprocess.run(["node", "page.mjs"], check=False, env=env, cwd=tmp_path, capture_output=True, text=True,
                              timeout=60)
    assert json.loads(done.stdout or "null") == ["page", ["table 2"]], done.stderr
