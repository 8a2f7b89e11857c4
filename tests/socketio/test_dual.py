"""Profile DUAL: real Socket.IO clients and event streams at once, on the example host and on plain apps."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, current_app, request, session
from support.hosts import (
    EXEC,
    EXEC_MODULE,
    SRC,
    Answer,
    Running,
    Stream,
    call,
    example_host,
    free_port,
    report,
    running,
    until,
)
from support.socketio_clients import client
from support.socketio_clients import socketio as socketio_client

from hakgal_hybrid import ConfigurationError, HybridTransport, hybridize, prepare
from hakgal_hybrid.broker.sse import Message
from hakgal_hybrid.socketio import SocketIO as Facade

flask_socketio = pytest.importorskip("flask_socketio", reason="the hosts are written against Flask-SocketIO")

EVENTLET = importlib.util.find_spec("eventlet") is not None
needs_eventlet = pytest.mark.skipif(not EVENTLET, reason="eventlet is not installed")
posix = pytest.mark.skipif(os.name != "posix", reason="gunicorn runs on POSIX only")
#: Says what the process has loaded, while it serves.
MODULES = ("api.app.add_url_rule('/modules', 'modules', lambda: {name: name in sys.modules for name in "
           "('gevent', 'eventlet')});\n")
DUAL = {"APP_PROFILE": "DUAL"}


class Socket:
    """A real Socket.IO client that remembers what it was told, and acknowledges what asks for it with its name.

    It handles each message in a thread of its own, so what came close together may be remembered in another order.
    """

    def __init__(self, port: int, namespace: str = "/", *, name: str = "socket", upgrade: bool = True) -> None:
        self.namespace = namespace
        self.events: list[tuple[str, Any]] = []
        self._client = client()

        @self._client.on("*", namespace=namespace)
        def keep(event: str, *args: Any) -> str:
            self.events.append((event, args[0] if len(args) == 1 else list(args) or None))
            return name

        transports = ["websocket"] if upgrade else ["polling"]
        self._client.connect(f"http://127.0.0.1:{port}", namespaces=[namespace], transports=transports)

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._client.disconnect()

    @property
    def sid(self) -> str:
        return str(self._client.get_sid(self.namespace))

    @property
    def connected(self) -> bool:
        return bool(self._client.connected)

    def say(self, event: str, *args: Any) -> Any:
        """Send an event; return the handler's answer."""
        return self._client.call(event, args, namespace=self.namespace, timeout=10)

    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    def all(self, name: str) -> list[Any]:
        return [data for event, data in self.events if event == name]

    def first(self, name: str, having: Callable[[Any], bool] = lambda data: True) -> Any:
        found = until(lambda: [data for data in self.all(name) if having(data)],
                      f"{name} on the socket (so far: {self.names()})")
        return found[0]


class Envelopes(Stream):
    """A stream whose events come with everything about them."""

    def __init__(self, port: int, query: str = "") -> None:
        super().__init__(port, f"?envelope=1{query}")
        self.open = self.open["data"]

    def _told(self, message: Message) -> tuple[str, Any]:
        envelope = json.loads(message.data)
        return envelope["event"], envelope


def say(port: int, stream: Stream, event: str, *args: Any) -> Any:
    """Post an event in the name of a stream's client; return the handler's answer."""
    answer = post_as(port, stream, "emit", event=event, args=list(args))
    assert answer.status == 200, answer.body
    return answer.body["ack"]


def post_as(port: int, stream: Stream, what: str, **message: Any) -> Answer:
    """Post something about events in the name of a stream's client."""
    token = stream.open["token"]
    return call(port, "POST", f"/api/events/{what}", {"sid": stream.open["sid"], **message}, {"X-Hybrid-Token": token})


# -- the example host --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[pytest.param("later", marks=needs_eventlet), "early"])
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The example host in DUAL with its WebSocket, under its unchanged start command, shared by the tests below."""
    folder = tmp_path_factory.mktemp(request.param)
    env = {"LEGACY_VINTAGE": request.param, "HYBRID_CONFLATE": "", **DUAL}  # every event shall be there to compare
    with example_host(folder, push=True, extra=MODULES, **env) as host:
        yield host


@pytest.mark.parametrize("upgrade", [True, False], ids=["websocket", "polling"])
def test_both_kinds_of_clients_see_the_same_events(example: Running, upgrade: bool) -> None:
    """What requests make the host emit reaches a Socket.IO client and a stream: the same names and payloads."""
    names = ("fact_added", "kb_update", "kb_metrics")
    with Socket(example.port, upgrade=upgrade) as socket, Stream(example.port) as stream:
        assert stream.open["profile"] == "DUAL"
        statements = [f"IsA(Platypus, {kind}{upgrade})." for kind in ("Monotreme", "Mammal", "Animal")]
        for statement in statements:
            assert example.post("/api/facts", {"statement": statement}).status == 201

        def seen(side: Any) -> list[tuple[str, Any]]:
            return [event for event in side.events if event[0] in names]

        for side in (socket, stream):
            until(lambda side=side: len(seen(side)) == 9, "three events for each fact")
        assert [name for name, _ in seen(stream)] == list(names) * 3
        assert sorted(map(repr, seen(socket))) == sorted(map(repr, seen(stream)))


def test_the_hosts_own_server_serves(example: Running) -> None:
    """The status says ``dual``; where the host uses eventlet, that serves and gevent is not even imported."""
    status = example.get("/api/hybrid/status").body
    assert (status["profile"], status["transport"], status["server"], status["unsent"]) == ("DUAL", "dual", {}, 0)
    later = example.get("/api/status").body["vintage"] == "later"
    assert example.get("/modules").body == {"gevent": False, "eventlet": later}


def test_handlers_run_for_both_and_answer_their_own_caller(example: Running) -> None:
    """A question is answered on the side it came from, and what the handler tells everybody reaches both sides."""
    query = {"query": "OrbitsAround(Io, Jupiter)."}
    with Socket(example.port) as socket, Stream(example.port) as stream:
        assert socket.first("connection_status")["sid"] == socket.sid
        assert stream.first("connection_status")["sid"] == stream.open["sid"]
        for asking, other, ask in ((socket, stream, socket.say),
                                   (stream, socket, lambda *args: say(example.port, stream, *args))):
            before = len(other.all("hrm_update"))
            ask("reasoning_request", query)
            assert asking.first("reasoning_result")["confidence"] == 1.0
            until(lambda other=other, before=before: len(other.all("hrm_update")) > before, "everybody is told")
            assert len(other.all("reasoning_result")) == (1 if other is socket else 0), "the answer is the caller's"
        assert len(socket.all("connection_status")) == len(stream.all("connection_status")) == 1
        assert example.get("/api/status").body["websocket"]["connected_clients"] >= 2


def test_outcomes_of_commands_reach_both(example: Running) -> None:
    """``control_result`` and ``governor_update`` of a command over HTTP reach both sides, once each."""
    with Socket(example.port) as socket, Stream(example.port, "?events=control*,governor*") as stream:
        for action in ("start", "stop"):
            taken = example.post("/api/governor/control", {"action": action})
            assert taken.status in (200, 202)
            for side in (socket, stream):
                told = side.first("control_result", lambda data, taken=taken: data["id"] == taken.body["id"])
                assert (told["action"], told["status"]) == (action, "done")
        for side in (socket, stream):
            until(lambda side=side: len(side.all("governor_update")) == 2, "both states of the governor")
            assert [told["action"] for told in side.all("control_result")] == ["start", "stop"]


def test_what_is_meant_for_everybody_reaches_both(example: Running) -> None:
    """The later vintage's monitor emits to ``"/"`` and means everybody: in DUAL everybody gets it, on either side."""
    if example.get("/api/status").body["vintage"] != "later":
        pytest.skip("only the later vintage has a monitor")
    with Socket(example.port) as socket, Stream(example.port) as stream:
        assert socket.first("system_load_update").keys() == stream.first("system_load_update").keys()


def test_waiting_streams_hold_up_nobody(example: Running) -> None:
    """Thirty open streams, which heartbeats find alive, a Socket.IO client and requests are served side by side."""
    with ExitStack() as stack:
        streams = [stack.enter_context(Stream(example.port)) for _ in range(30)]
        socket = stack.enter_context(Socket(example.port))
        assert example.post("/api/facts", {"statement": "IsA(Echidna, Monotreme)."}).status == 201
        for side in (socket, *streams):
            assert side.first("fact_added")["success"] is True
        assert example.get("/health").body["status"] == "operational"
        assert example.get("/api/hybrid/status").body["streams"] >= 30


@pytest.mark.parametrize("vintage", [pytest.param("later", marks=needs_eventlet), "early"])
def test_heartbeats_resuming_and_leaving_work(tmp_path: Path, vintage: str) -> None:
    """Streams on the host's server beat when idle, are resumed where they ended, and are forgotten when gone."""
    settings = {"HYBRID_HEARTBEAT_S": "0.1", "HYBRID_RESUME_S": "0.1", "LEGACY_VINTAGE": vintage, **DUAL}
    with example_host(tmp_path, push=True, **settings) as host:
        with Envelopes(host.port) as stream:
            until(lambda: len(stream.all("hybrid_heartbeat")) > 2, "heartbeats")
            host.post("/api/facts", {"statement": "IsA(Platypus, Monotreme)."})
            last = stream.first("fact_added")["id"]
        host.post("/api/facts", {"statement": "IsA(Platypus, Mammal)."})
        with Stream(host.port, f"?events=fact_added&last_event_id={last}") as again:
            assert again.first("fact_added")["statement"] == "IsA(Platypus, Mammal)."
            assert again.names() == ["hybrid_open", "fact_added"]
        until(lambda: host.get("/api/hybrid/status").body["clients"] == 0, "they are forgotten")
        until(lambda: host.get("/api/status").body["websocket"]["connected_clients"] == 0, "the host knows it")


@pytest.mark.parametrize("vintage", ["later", "early"])
def test_without_a_websocket_dual_is_hybrid(tmp_path: Path, vintage: str) -> None:
    """``enable_websocket=False``: one warning, no Socket.IO, the host is swapped (eventlet serves if it patched)."""
    with example_host(tmp_path, LEGACY_VINTAGE=vintage, **DUAL) as host, Stream(host.port) as stream:
        assert stream.first("connection_status")["sid"] == stream.open["sid"]
        assert host.post("/api/facts", {"statement": "IsA(Platypus, Monotreme)."}).status == 201
        assert stream.first("fact_added")["statement"] == "IsA(Platypus, Monotreme)."
        say(host.port, stream, "request_initial_data")
        assert len(stream.first("initial_data")["facts"]) == 20
        assert host.get("/socket.io/?EIO=4&transport=polling").status in (404, 405)
        assert host.get("/api/hybrid/status").body["transport"] == "sse"
        assert host.text().count("it has no WebSocket to keep") == 1


def test_a_home_grown_broadcaster_serves_both(tmp_path: Path) -> None:
    """What the blocking broadcaster writes to its WebSockets leaves by SSE too, and its handlers serve both."""
    websocket = pytest.importorskip("websocket", reason="websocket-client is not installed")
    with example_host(tmp_path, push=True, LEGACY_VINTAGE="early", LEGACY_BROADCASTER="blocking", **DUAL) as host:
        connection = websocket.create_connection(f"ws://127.0.0.1:{host.port}/ws", timeout=10)
        try:
            assert json.loads(connection.recv())["event"] == "connection_status"
            with Stream(host.port) as stream:
                assert host.post("/api/facts", {"statement": "IsA(Platypus, Monotreme)."}).status == 201
                names = ["fact_added", "kb_update", "kb_metrics", "system_status_update"]
                frames = [json.loads(connection.recv()) for _ in names]
                stream.first("system_status_update")
                assert [(frame["event"], frame["data"]) for frame in frames] == stream.events[-4:]
                say(host.port, stream, "request_initial_data", {})
                stream.first("initial_data")
                taken = host.post("/api/governor/control", {"action": "stop"})
                assert json.loads(connection.recv())["data"]["id"] == taken.body["id"], "nothing came between"
                connection.send(json.dumps({"event": "kb_metrics_request"}))
                until(lambda: json.loads(connection.recv())["event"] == "kb_metrics", "its own answer")
                assert len(stream.all("kb_metrics")) == 1
            assert host.get("/api/hybrid/status").body["transport"] == "dual"
        finally:
            connection.shutdown()


@pytest.mark.parametrize("vintage", ["later", "early"])
def test_run_serves_a_host_class_with_both(tmp_path: Path, vintage: str) -> None:
    """``hakgal-hybrid run module:Class`` gives the host its WebSocket in DUAL, and serves both."""
    port = free_port()
    command = [*EXEC_MODULE[:3], "run", "hexagonal_api_enhanced_clean:HexagonalAPI", "--app-dir", str(SRC), "--port",
               str(port)]
    with running(tmp_path, command, port, LEGACY_VINTAGE=vintage, **DUAL) as host:
        with Socket(port) as socket, Stream(port) as stream:
            assert host.post("/api/facts", {"statement": "IsA(Platypus, Monotreme)."}).status == 201
            assert socket.first("fact_added") == stream.first("fact_added")


@posix
def test_gunicorn_serves_both(tmp_path: Path) -> None:
    """``exec -- gunicorn -k gthread`` serves a host's WebSocket clients and streams, without any ``run``."""
    pytest.importorskip("gunicorn", reason="gunicorn is not installed")
    port = free_port()
    (tmp_path / "wsgi_example.py").write_text(textwrap.dedent("""
        from hexagonal_api_enhanced_clean import HexagonalAPI
        app = HexagonalAPI(use_legacy=False, enable_websocket=True).app
    """))
    command = [*EXEC, "gunicorn", "-k", "gthread", "--threads", "8", "--bind", f"127.0.0.1:{port}", "--pythonpath",
               str(SRC), "--chdir", str(tmp_path), "--graceful-timeout", "1", "wsgi_example:app"]
    with running(tmp_path, command, port, LEGACY_VINTAGE="early", **DUAL) as host:
        with Socket(port, upgrade=False) as socket, Stream(port) as stream:
            assert host.post("/api/facts", {"statement": "IsA(Platypus, Monotreme)."}).status == 201
            assert socket.first("fact_added") == stream.first("fact_added")


# -- a plain Flask-SocketIO app ----------------------------------------------------------------------------------

PLAIN = '''
import os

if os.environ["T_PATCH"]:
    import eventlet
    eventlet.monkey_patch()

from flask import Flask, request, session
from flask_socketio import Namespace, SocketIO, close_room, disconnect, emit, join_room, leave_room, rooms, send
from hakgal_hybrid import HybridTransport

how, app = os.environ["T_ORDER"], Flask(__name__)
app.secret_key = "plain"
app.add_url_rule("/health", "health", lambda: {"mode": socketio.async_mode})
if how == "socketio first":
    socketio = SocketIO(app, cors_allowed_origins="*")
elif how == "transport first":
    transport = HybridTransport(app)
    socketio = SocketIO(app, cors_allowed_origins="*")
else:
    transport, socketio = HybridTransport(), SocketIO(cors_allowed_origins="*")

@socketio.on("connect")
def on_connect(auth=None):
    emit("welcome", request.sid)

@socketio.on("disconnect")
def on_disconnect(reason=None):
    socketio.emit("left", request.sid)

@socketio.on("join")
def on_join(room):
    join_room(room)
    return sorted(set(rooms()) - {request.sid})

@socketio.on("leave")
def on_leave(room):
    leave_room(room)
    return rooms() == [request.sid]

@socketio.on("tell")
def on_tell(room, text):
    emit("told", text, to=room, include_self=False)

@socketio.on("close")
def on_close(room):
    close_room(room)

@socketio.on("kick")
def on_kick(sid):
    disconnect(sid)

@socketio.on("ask")
def on_ask(to):
    asker = request.sid
    socketio.emit("question", ("how", "who"), to=to,
                  callback=lambda *args: emit("answer", [*args, request.sid == asker]))

@socketio.on("call")
def on_call(sid):
    socketio.start_background_task(lambda: socketio.emit("called", socketio.call("question", "?", to=sid, timeout=10)))

@socketio.on("remember")
def on_remember(value):
    before, session["value"] = session.get("value"), value
    with socketio.server.session(request.sid) as kept:
        kept["value"] = [*kept.get("value", []), value]
        return [before, kept["value"]]

@socketio.on("odd")
def on_odd():
    socketio.emit("hybrid_odd", "only Socket.IO can carry this name")
    return "sent"

@socketio.on("transport")
def on_transport(to):
    HybridTransport.of(app).emit("from_transport", {"n": 1}, "two", to=to, skip_sid=request.sid)

@socketio.on("fail")
def on_fail():
    raise LookupError("the handler's own")

@socketio.on("twice")
def on_twice():
    return "first"

@socketio.on("twice")
def on_twice_again():
    return "last"

@socketio.on_error_default
def on_error(error):
    return f"handled {error}"

class Chat(Namespace):
    def on_hello(self, text):
        self.enter_room(request.sid, "hall")
        self.emit("hello", text, room="hall")
        self.send({"sid": request.sid}, room=request.sid)
        return sorted(set(self.rooms(request.sid)) - {request.sid})

socketio.on_namespace(Chat("/chat"))
if how == "socketio first":
    transport = HybridTransport(app)
elif how == "factory":
    transport.init_app(app)
    socketio.init_app(app)

if __name__ == "__main__":
    socketio.run(app, port=int(os.environ["T_PORT"]), allow_unsafe_werkzeug=True)
'''
ORDERS = ["socketio first", "transport first", "factory"]


@contextmanager
def plain_app(folder: Path, order: str, *, patch: bool = False, by_run: bool = False) -> Iterator[Running]:
    """The plain app in a process of its own, started by its own ``run`` or by ours."""
    (folder / "plain_app.py").write_text(PLAIN)
    port = free_port()
    command = [sys.executable, "-W", "ignore", "plain_app.py"]
    if by_run:
        command = [*EXEC_MODULE[:3], "run", "plain_app:app", "--port", str(port)]
    env = {"T_PATCH": "1" if patch else "", "T_ORDER": order, "T_PORT": str(port), **DUAL}
    with running(folder, command, port, cwd=folder, **env) as server:
        yield server


@pytest.fixture(scope="module", params=[*((order, False) for order in ORDERS),
                                        *(pytest.param((order, True), marks=needs_eventlet) for order in ORDERS[:2])],
                ids=lambda param: f"{param[0]}, {'eventlet' if param[1] else 'threads'}")
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The plain app's port, shared by the tests below: in any order of making the two, on threads and on eventlet."""
    order, patch = request.param
    with plain_app(tmp_path_factory.mktemp("plain"), order, patch=patch) as server:
        assert server.get("/health").body == {"mode": "eventlet" if patch else "threading"}
        yield server.port
        assert server.get("/api/hybrid/status").body["transport"] == "dual"


def test_rooms_hold_clients_of_both(plain: int) -> None:
    """Each side keeps its own members of a room; what is told to the room reaches both, and nobody else."""
    with Socket(plain) as s1, Socket(plain) as s2, Stream(plain) as e1, Stream(plain) as e2:
        assert s1.say("join", "blue") == say(plain, e1, "join", "blue") == ["blue"]
        s2.say("tell", "blue", "from a socket")
        say(plain, e2, "tell", "blue", "from a stream")
        s1.say("tell", "blue", "not to myself")
        for member in (s1, e1):
            for text in ("from a socket", "from a stream"):
                member.first("told", lambda data, text=text: data == text)
        assert e1.first("told", lambda data: data == "not to myself")
        say(plain, e1, "tell", [s2.sid, e2.open["sid"]], "to both others")
        assert s2.first("told") == e2.first("told") == "to both others"
        assert s1.say("leave", "blue") is say(plain, e1, "leave", "blue") is True
        s1.say("join", "red")
        say(plain, e1, "join", "red")
        say(plain, e2, "close", "red")
        s2.say("tell", "red", "nobody is there")
        say(plain, e2, "transport", None)
        for side in (s1, e1, s2):
            assert side.first("from_transport") == [{"n": 1}, "two"], "nothing else is on its way"
        assert sorted(s1.all("told")) == ["from a socket", "from a stream"]
        assert e1.all("told") == ["from a socket", "from a stream", "not to myself"]
        assert s2.all("told") == e2.all("told") == ["to both others"]


def test_the_transports_own_events_reach_both_once(plain: int) -> None:
    """``transport.emit`` to all, to a ``sid`` and with one to skip: each gets it once, however it is connected."""
    with Socket(plain) as socket, Stream(plain) as stream, Stream(plain) as other:
        say(plain, other, "transport", None)
        socket.say("transport", stream.open["sid"])
        say(plain, other, "transport", socket.sid)
        say(plain, other, "transport", "/")
        for side in (socket, stream):
            until(lambda side=side: len(side.all("from_transport")) == 3, "two to all, one private")
            assert side.all("from_transport") == [[{"n": 1}, "two"]] * 3
        assert other.all("from_transport") == []


def test_acknowledgements_stay_with_their_own_side(plain: int) -> None:
    """A question to a ``sid`` is acknowledged there; one to all by both; the callback runs for whoever asked."""
    with Socket(plain, name="socket") as socket, Envelopes(plain) as stream:

        def question(number: int) -> str:
            asked = until(lambda: stream.all("question")[number:], "a question")[0]
            assert asked["args"] == ["how", "who"]
            return str(asked["ack"])

        say(plain, stream, "ask", socket.sid)
        assert stream.first("answer")["data"] == ["socket", True]
        socket.say("ask", stream.open["sid"])
        assert post_as(plain, stream, "ack", ack=question(0), args=["stream"]).status == 200
        assert socket.first("answer") == ["stream", True]
        socket.say("ask", None)
        assert socket.first("answer", lambda data: data[0] == "socket") == ["socket", True]
        assert post_as(plain, stream, "ack", ack=question(1), args=["stream"]).status == 200
        until(lambda: len(socket.all("answer")) == 3, "both have answered")
        assert len(stream.all("answer")) == 1, "callbacks answer whoever asked"


def test_calls_wait_for_the_client_they_name(plain: int) -> None:
    """``call`` outside of a request waits for a client of either side."""
    with Socket(plain, name="socket") as socket, Envelopes(plain) as stream:
        socket.say("call", socket.sid)
        assert socket.first("called") == "socket"
        socket.say("call", stream.open["sid"])
        asked = stream.first("question")
        assert post_as(plain, stream, "ack", ack=asked["ack"], args=["stream"]).status == 200
        socket.first("called", lambda data: data == "stream")


def test_sessions_errors_and_the_last_handler_are_the_same_for_both(plain: int) -> None:
    """Each client has its own session and store; error handlers answer for both; a handler registered again wins."""
    with Socket(plain) as socket, Stream(plain) as stream:
        for speak in (socket.say, lambda *args: say(plain, stream, *args)):
            assert speak("remember", 1) == [None, [1]]
            assert speak("remember", 2) == [1, [1, 2]]
            assert speak("fail") == "handled the handler's own"
            assert speak("twice") == "last"


def test_class_based_namespaces_serve_both(plain: int) -> None:
    """A namespace class gets clients of both, in rooms of its own, and answers each."""
    with Socket(plain, "/chat") as socket, Stream(plain, "?namespace=/chat") as stream:
        assert socket.say("hello", "a") == say_in(plain, stream, "hello", "b") == ["hall"]
        assert socket.first("message") == {"sid": socket.sid}
        assert stream.first("message") == {"sid": stream.open["sid"]}
        socket.first("hello", lambda data: data == "b")
        assert stream.first("hello") == "b"


def say_in(port: int, stream: Stream, event: str, *args: Any) -> Any:
    """Say something in the namespace ``/chat``."""
    answer = post_as(port, stream, "emit", event=event, args=list(args), namespace="/chat")
    assert answer.status == 200, answer.body
    return answer.body["ack"]


def test_either_side_can_end_a_client_of_the_other(plain: int) -> None:
    """``disconnect(sid)`` ends a socket or a stream, its handler runs, and the rest is told on both sides."""
    with Socket(plain) as s1, Socket(plain) as s2, Stream(plain) as e1, Stream(plain) as e2:
        kicked = e2.open["sid"], s2.sid
        s1.say("kick", kicked[0])
        say(plain, e1, "kick", kicked[1])
        until(lambda: e2.ended and not s2.connected, "both are gone")
        for side in (s1, e1):
            for gone in kicked:
                side.first("left", lambda data, gone=gone: data == gone)


def test_namespaces_nobody_serves_are_refused_on_both(plain: int) -> None:
    """A stream in a namespace without handlers is refused, as a Socket.IO connection is."""
    with pytest.raises(socketio_client.exceptions.ConnectionError):
        Socket(plain, "/nowhere")
    refused = call(plain, "GET", "/api/events/stream?namespace=/nowhere")
    assert (refused.status, refused.body["code"]) == (403, "unknown_namespace")


@pytest.mark.parametrize("order", ORDERS)
def test_what_one_side_cannot_carry_reaches_the_other(tmp_path: Path, order: str) -> None:
    """A name that streams reserve reaches Socket.IO clients, breaks nothing, and is logged and counted."""
    with plain_app(tmp_path, order) as server:
        with Socket(server.port) as socket, Stream(server.port) as stream:
            assert say(server.port, stream, "odd") == "sent"
            assert socket.first("hybrid_odd") == "only Socket.IO can carry this name"
            say(server.port, stream, "transport", None)
            assert socket.first("from_transport")
            assert set(stream.names()) == {"hybrid_open", "welcome"}
        assert server.get("/api/hybrid/status").body["unsent"] == 1
        assert "event 'hybrid_odd' does not leave by SSE" in server.text()


@pytest.mark.parametrize("order", ORDERS)
def test_run_serves_a_plain_app_by_its_own_server(tmp_path: Path, order: str) -> None:
    """``hakgal-hybrid run module:app`` serves both without a word about the app's own ``SocketIO``."""
    with plain_app(tmp_path, order, by_run=True) as server:
        with Socket(server.port) as socket, Stream(server.port) as stream:
            socket.say("join", "blue")
            say(server.port, stream, "tell", "blue", "hello")
            assert socket.first("told") == "hello"
        assert server.get("/api/hybrid/status").body["transport"] == "dual"
        assert "do not leave by SSE" not in server.text()


# -- in this process ---------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def dual(monkeypatch: pytest.MonkeyPatch) -> None:
    """Profile DUAL in the environment, and nothing else of ours."""
    for name in ("ENABLE_SSE", "ENABLE_CONTROL_HTTP", "ENABLE_WS_SPECIAL", "HAKGAL_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("APP_PROFILE", "DUAL")


@pytest.fixture(params=["socketio first", "transport first"])
def pair(request: pytest.FixtureRequest) -> tuple[Flask, Any, HybridTransport]:
    """An app, its ``SocketIO`` of Flask-SocketIO, and its transport."""
    app = Flask("pair")
    app.secret_key = "pair"
    if request.param == "transport first":
        transport = HybridTransport(app)
        return app, flask_socketio.SocketIO(app, async_mode="threading"), transport
    socketio = flask_socketio.SocketIO(app, async_mode="threading")
    return app, socketio, HybridTransport(app)


def test_flask_socketios_own_test_client_works(pair: tuple[Flask, Any, HybridTransport]) -> None:
    """Tests of the host that use Flask-SocketIO's test client pass in DUAL, and events they cause leave by SSE."""
    app, socketio, transport = pair

    @socketio.on("ping")
    def on_ping(value: int) -> int:
        session["value"] = value
        flask_socketio.emit("pong", value, broadcast=True)
        if value == 2:
            flask_socketio.emit("own", value)
        return value + 1

    client = socketio.test_client(app)
    assert client.emit("ping", 1, callback=True) == 2
    assert client.get_received() == [{"name": "pong", "args": [1], "namespace": "/"}]
    answer = app.test_client().post("/api/events/emit", json={"event": "ping", "data": 2})
    assert answer.json["ack"] == 3
    assert [event["event"] for event in answer.json["events"]] == ["own"], "what it told its caller comes back"
    assert client.get_received() == [{"name": "pong", "args": [2], "namespace": "/"}]
    assert transport.log.statistics().appended == 2
    client.disconnect()


@pytest.mark.parametrize("first", ["socketio", "transport"])
def test_handlers_of_a_transport_without_an_app_yet_serve_both(first: str) -> None:
    """What a transport at module level registers before ``init_app`` serves Socket.IO clients too, for each app."""
    transport = HybridTransport()
    transport.socketio.on("who")(lambda: current_app.name)
    for name in ("one", "two"):
        app = Flask(name)
        app.secret_key = "both"
        if first == "transport":
            transport.init_app(app)
        socketio = flask_socketio.SocketIO(app, async_mode="threading")
        socketio.on("own")(lambda: "own")
        if first == "socketio":
            transport.init_app(app)
        client = socketio.test_client(app)
        assert [client.emit(event, callback=True) for event in ("who", "own")] == [name, "own"]
        for event, ack in (("who", name), ("own", "own")):
            assert app.test_client().post("/api/events/emit", json={"event": event}).get_json()["ack"] == ack
        with app.app_context():
            assert transport.socketio is socketio
            transport.socketio.emit("news", 1)
        client.disconnect()


def test_the_object_stays_what_the_host_made(pair: tuple[Flask, Any, HybridTransport]) -> None:
    """It is a Flask-SocketIO object, the app's and the transport's; a facade it is not."""
    app, socketio, transport = pair
    assert isinstance(socketio, flask_socketio.SocketIO)
    assert not isinstance(socketio, Facade)
    assert isinstance(socketio.server, socketio_client.Server)
    assert app.extensions["socketio"] is transport.socketio is socketio
    assert transport.statistics().transport == "dual"
    socketio.server.async_handlers = False  # whatever is set reaches the real server
    assert vars(socketio.server)["async_handlers"] is False


def test_handlers_registered_before_and_after_serve_streams(pair: tuple[Flask, Any, HybridTransport]) -> None:
    """Decorators, ``on_event``, ``event``, namespaces, ``*`` and error handlers reach our side; raw handlers do not."""
    app, socketio, transport = pair

    @socketio.event
    def named(value: Any = None) -> str:
        return "by name"

    @socketio.on("*")
    def anything(event: str, *args: Any) -> list[Any]:
        return [event, *args]

    @socketio.on("broken")
    def broken() -> None:
        raise LookupError("why")

    @socketio.on_error()
    def on_error(error: Exception) -> str:
        return f"told {error}"

    socketio.on_event("plain", lambda: "plain")
    socketio.server.on("raw", lambda sid: "for Socket.IO clients only")

    @socketio.server.on("raw too")
    def raw(sid: str) -> None: ...

    def post(event: str, *args: Any) -> Any:
        return app.test_client().post("/api/events/emit", json={"event": event, "args": list(args)}).json["ack"]

    assert [post("named"), post("plain"), post("broken"), post("other", 1)] == [
        "by name", "plain", "told why", ["other", 1]]
    assert post("raw") == ["raw"], "the catch-all gets it"
    assert "raw" not in transport.handlers.functions["/"]


def test_an_app_made_anew_gets_a_transport_of_its_own() -> None:
    """One ``SocketIO`` and two apps, as factories in tests make them: each app's events stay with it."""
    socketio = flask_socketio.SocketIO(async_mode="threading")
    socketio.on_event("hello", lambda: "hi")
    logs = []
    for name in ("one", "two"):
        app = Flask(name)
        transport = HybridTransport(app)
        socketio.init_app(app)
        socketio.emit("made", name)
        assert app.test_client().post("/api/events/emit", json={"event": "hello"}).json["ack"] == "hi"
        logs.append(transport.log)
    assert [log.statistics().appended for log in logs] == [1, 1]


def test_a_process_that_only_emits_stays_as_it_is() -> None:
    """A ``SocketIO`` without an app is none of our business."""
    socketio = flask_socketio.SocketIO(async_mode="threading")
    assert type(socketio) is flask_socketio.SocketIO
    socketio.init_app(None)
    socketio.emit("nobody", 1)


def test_an_error_of_the_hosts_server_is_the_hosts(pair: tuple[Flask, Any, HybridTransport]) -> None:
    """What Socket.IO cannot encode raises as without us, and neither side takes the other down."""
    app, socketio, transport = pair
    client = socketio.test_client(app)
    with pytest.raises(TypeError):
        socketio.emit("odd", {"value": object()})
    assert transport.statistics().unsent == 1, "it could not leave by SSE either"
    socketio.emit("fine", 1)
    assert [item["name"] for item in client.get_received()] == ["fine"]
    assert transport.log.statistics().appended == 1
    with pytest.raises(ValueError, match="cannot be sent as JSON"):
        transport.emit("odd", object())
    client.disconnect()


def test_options_of_the_hosts_socketio_count_for_both() -> None:
    """``namespaces``, ``manage_session`` and ``json`` mean the same on our side."""
    class Tagged:
        @staticmethod
        def dumps(value: Any, **kwargs: Any) -> str:
            return json.dumps({"tagged": value} if value == 1 else value, **kwargs)

        loads = staticmethod(json.loads)

    app = Flask("options")
    transport = HybridTransport(app)
    packet = importlib.import_module("socketio.packet").Packet
    before = packet.json, importlib.import_module("engineio.packet").Packet.json
    try:
        socketio = flask_socketio.SocketIO(app, async_mode="threading", namespaces=["/one"], manage_session=False,
                                           json=Tagged)
        socketio.emit("event", 1)
    finally:
        packet.json, importlib.import_module("engineio.packet").Packet.json = before
    assert (transport.node.lifecycle.namespaces, transport.handlers.manage_session) == (frozenset(("/one",)), False)
    assert b'{"tagged":1}' in transport.log.newest_of_names(1, lambda *args: True)[0].frame


@pytest.mark.parametrize("wanted", [None, "eventlet", "gevent"])
def test_a_hub_that_patched_nothing_gives_way_to_threads(tmp_path: Path, wanted: str | None) -> None:
    """Where a waiting stream would block everybody, native threads serve, however the ``SocketIO`` is made."""
    if wanted == "eventlet" and not EVENTLET:
        pytest.skip("eventlet is not installed")
    told = report(tmp_path, UNPATCHED.format(wanted=wanted), options=("-W", "ignore"), **DUAL)
    assert told == [["threading"] * 3] * 2


def test_a_host_that_insists_on_a_missing_eventlet_gets_threads(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where eventlet cannot be imported, a host that asks for it without a fallback is served by native threads."""
    monkeypatch.setitem(sys.modules, "eventlet", None)
    monkeypatch.setattr(toy, "MODE", "eventlet")
    api = hybridize(toy.HexagonalAPI)(enable_websocket=True)
    assert api.socketio.async_mode == "threading"
    assert HybridTransport.of(api.app).mode == "dual"


UNPATCHED = """
import json
from flask import Flask
from flask_socketio import SocketIO
from hakgal_hybrid import HybridTransport
told = []
for first in (True, False):
    app = Flask("unpatched")
    if not first:
        HybridTransport(app)
    socketio = SocketIO(app, async_mode={wanted!r})
    if first:
        HybridTransport(app)
    told.append([socketio.async_mode, socketio.server.async_mode, socketio.server.eio.async_mode])
print(json.dumps(told))
"""


class Shouting:
    """A home-grown ``SocketIO`` whose emit waits for somebody."""

    def __init__(self, app: Flask | None = None, **options: Any) -> None:
        self.written: list[tuple[Any, ...]] = []
        self.free = threading.Event()
        self.server, self.members = self, list[Any]()
        if app is not None:
            app.extensions["socketio"] = self

    def on(self, event: str) -> Callable[[Any], Any]:
        return lambda handler: handler

    def emit(self, event: str, *args: Any, **options: Any) -> None:
        assert self.free.wait(10)
        self.written.append((event, args, options))

    def enter_room(self, sid: str, room: str, namespace: str | None = None) -> None:
        self.members.append((sid, room))

    leave_room = enter_room


def test_the_transport_never_waits_for_the_hosts_server() -> None:
    """``transport.emit`` returns while the host's own broadcaster is stuck, and is sent there when that is free."""
    from hakgal_hybrid.socketio.dual import dual_class

    app = Flask("shouting")
    socketio = dual_class(Shouting)(app)
    transport = HybridTransport.of(app)
    payload = {"n": 1}
    transport.emit("first", payload, to=["a"], skip_sid="b")
    transport.emit("second")
    transport.emit("third", 1, b"2", namespace="/n")
    payload["n"] = 2
    assert (socketio.written, transport.log.statistics().appended) == ([], 3)
    socketio.free.set()
    until(lambda: len(socketio.written) == 3, "all are sent")
    assert socketio.written == [("first", ({"n": 1},), {"to": "a", "skip_sid": ["b"]}), ("second", (), {}),
                                ("third", (1, b"2"), {"namespace": "/n"})]
    assert transport.socketio is socketio


def test_what_the_hosts_server_cannot_take_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    """An event of the transport that the host's own server refuses is logged and counted; the next one is sent."""
    from hakgal_hybrid.socketio.dual import dual_class

    class Choosy(Shouting):
        def emit(self, event: str, *args: Any, **options: Any) -> None:
            if event == "bad":
                raise LookupError("not this one")
            self.written.append((event, args, options))

    socketio = dual_class(Choosy)(Flask("choosy"))
    transport = HybridTransport.of(socketio._bridge.state.app)
    for event in ("bad", "good"):
        transport.emit(event)
    until(lambda: socketio.written, "the good one is sent")
    assert transport.statistics().unsent == 1
    assert "event 'bad' does not reach the host's own clients" in caplog.text


def test_a_home_grown_socketio_keeps_its_own_rooms() -> None:
    """Rooms of its own clients stay with it; those of ours with us; what is for a client of ours is not written."""
    from hakgal_hybrid.socketio.dual import dual_class

    app = Flask("shouting")
    socketio = dual_class(Shouting)(app)
    socketio.free.set()
    transport = HybridTransport.of(app)

    @socketio.on("join")
    def on_join(room: str) -> Any:
        sid = request.sid  # type: ignore[attr-defined]
        socketio.server.enter_room(sid, room)
        socketio.emit("joined", room, to=sid)
        socketio.emit("others", room, include_self=False)
        rooms = transport.hub.client(sid)
        socketio.server.leave_room(sid, room)
        return rooms is None

    socketio.server.enter_room("theirs", "blue")
    client = app.test_client().post("/api/events/connect", json={}).json
    answer = app.test_client().post("/api/events/emit", json={"event": "join", "data": "blue", "sid": client["sid"]},
                                    headers={"X-Hybrid-Token": client["token"]})
    assert answer.json["ack"] is False
    assert socketio.members == [("theirs", "blue")]
    assert socketio.written == [("others", ("blue",), {"include_self": False})]
    assert type(dual_class(Shouting)()) is not Shouting
    dual_class(Shouting)().on("early")(print)  # without an app it is as it was


# -- ways in -----------------------------------------------------------------------------------------------------

TOY = '''
from flask import Flask
from flask_socketio import SocketIO

MODE = "threading"

def create_websocket_adapter(app, facts, engine):
    return object(), SocketIO(app, async_mode=MODE)

class HexagonalAPI:
    def __init__(self, enable_websocket=True):
        self.app, self.socketio, self.websocket_adapter = Flask(__name__), None, None
        if enable_websocket:
            self.websocket_adapter, self.socketio = create_websocket_adapter(self.app, None, None)
            self.socketio.emit("built", 1)
            self.socketio.on("hello")(lambda: "hi")
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of a small host."""
    (tmp_path / "toy_dual.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("toy_dual")
    del sys.modules["toy_dual"]


@pytest.mark.parametrize("way", ["hybridize", "attach"])
def test_a_host_with_a_websocket_gets_both(toy: Any, way: str, caplog: pytest.LogCaptureFixture) -> None:
    """A hybridized class and a finished host: the same object serves both, names are put back, nothing is warned of."""
    original = flask_socketio.SocketIO
    api = (hybridize(toy.HexagonalAPI) if way == "hybridize" else toy.HexagonalAPI)(enable_websocket=True)
    transport = HybridTransport.of(api.app) if way == "hybridize" else HybridTransport(api)
    assert flask_socketio.SocketIO is toy.SocketIO is original
    assert isinstance(api.socketio, original)
    assert api.socketio is transport.socketio
    api.socketio.emit("event", 1)
    assert transport.log.statistics().appended == (2 if way == "hybridize" else 1), "from the beginning on"
    assert api.app.test_client().post("/api/events/emit", json={"event": "hello"}).json["ack"] == "hi"
    assert (transport.mode, [r for r in caplog.records if r.name.startswith("hakgal_hybrid")]) == ("dual", [])


@pytest.mark.parametrize("way", ["hybridize", "attach"])
def test_a_host_without_a_websocket_is_swapped_with_a_warning(
        toy: Any, way: str, caplog: pytest.LogCaptureFixture) -> None:
    """``enable_websocket=False`` in DUAL: the facade, and one warning."""
    if way == "hybridize":
        api = hybridize(toy.HexagonalAPI)(enable_websocket=False)
    else:
        api = toy.HexagonalAPI(enable_websocket=False)
        HybridTransport(api)
    assert isinstance(api.socketio, Facade)
    assert HybridTransport.of(api.app).statistics().transport == "sse"
    [warning] = [record for record in caplog.records if record.name.startswith("hakgal_hybrid")]
    assert "enable_websocket=False in profile DUAL" in warning.getMessage()


def test_a_finished_home_grown_socketio_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """One whose handlers are registered already stays as it is, and log and status say so."""
    class Api:
        def __init__(self) -> None:
            self.app = Flask("finished")
            self.socketio = Shouting(self.app)

    api = Api()
    transport = HybridTransport(api)
    assert type(api.socketio) is Shouting
    assert transport.statistics().transport == "websocket"
    assert "do not leave by SSE" in caplog.text


def test_the_profile_of_a_swapped_host_is_the_environments(toy: Any) -> None:
    """A host whose app says another profile than the environment is refused with the way out."""
    toy.Flask = type("Configured", (Flask,), {"__init__": configured})
    with pytest.raises(ConfigurationError, match="APP_PROFILE in the environment"):
        hybridize(toy.HexagonalAPI)(enable_websocket=True)


def configured(self: Any, *args: Any) -> None:
    """Make an app that asks for rollback by itself."""
    Flask.__init__(self, *args)
    self.config["HYBRID_PROFILE"] = "WEBSOCKET"


def test_the_profile_can_be_the_transports_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """``HybridTransport(app, profile="DUAL")`` needs no variable in the environment."""
    monkeypatch.delenv("APP_PROFILE")
    app = Flask("keyword")
    socketio = flask_socketio.SocketIO(app, async_mode="threading")
    transport = HybridTransport(app, profile="DUAL")
    socketio.emit("event", 1)
    assert transport.log.statistics().appended == 1


def test_prepare_lets_eventlet_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """In DUAL ``prepare`` leaves ``import eventlet`` alone: the host's own server may need it."""
    monkeypatch.delitem(sys.modules, "eventlet", raising=False)
    prepare()
    assert "eventlet" not in sys.modules


PATCHED = f"""
import json, sys
import eventlet
eventlet.monkey_patch()
sys.path.insert(0, r"{SRC}")
import hakgal_hybrid
hakgal_hybrid.prepare()
import hexagonal_api_enhanced_clean as host
hybrid = hakgal_hybrid.hybridize(host.HexagonalAPI)
told = [hakgal_hybrid.HybridTransport.of(hybrid(enable_websocket=push).app).mode for push in (True, False)]
for push in (True, False):
    told.append(hakgal_hybrid.HybridTransport(host.HexagonalAPI(enable_websocket=push)).mode)
try:
    hakgal_hybrid.HybridTransport(host.Flask("plain")).run(port=0)
except hakgal_hybrid.ConfigurationError as error:
    told.append([error.code, "run of its own SocketIO" in error.detail, "gevent" in sys.modules])
try:
    hybrid(enable_websocket=False).socketio.run(port=0, certfile="chain.pem")
except hakgal_hybrid.ConfigurationError as error:
    told.append(error.detail)
print(json.dumps(told))
"""


@needs_eventlet
def test_a_patched_process_is_welcome(tmp_path: Path) -> None:
    """No way in refuses a patched process in DUAL; only our own server does, and gevent stays out."""
    told = report(tmp_path, PATCHED, options=("-W", "ignore"), **DUAL)
    assert told[:-1] == ["dual", "sse", "dual", "sse", ["eventlet_patched", True, False]]
    assert told[-1] == "certfile='chain.pem' is not accepted; use APP_PROFILE=HYBRID: here eventlet serves"
