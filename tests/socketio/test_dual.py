"""Profile DUAL: unmodified clients of Socket.IO and event streams at once, on the example host and on plain apps."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
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

from hakgal_hybrid import ConfigurationError, HybridTransport, hybridize
from hakgal_hybrid.broker.sse import Message
from hakgal_hybrid.socketio import SocketIO as Facade

flask_socketio = pytest.importorskip("flask_socketio", reason="the hosts are written against Flask-SocketIO")

EVENTLET = importlib.util.find_spec("eventlet") is not None
needs_eventlet = pytest.mark.skipif(not EVENTLET, reason="eventlet is not installed")
posix = pytest.mark.skipif(os.name != "posix", reason="gunicorn runs on POSIX only")
DUAL = {"APP_PROFILE": "DUAL"}
#: The ways in which a client may come: at once, not at all, and as most do.
WAYS = {"websocket": ["websocket"], "polling": ["polling"], "upgrade": None}


class Socket:
    """A real Socket.IO client that remembers what it was told, and acknowledges what asks for it with its name."""

    def __init__(self, port: int, namespace: str = "/", *, name: str = "socket", way: str = "websocket") -> None:
        self.namespace = namespace
        self.events: list[tuple[str, Any]] = []
        self._client = client()

        @self._client.on("*", namespace=namespace)
        def keep(event: str, *args: Any) -> str:
            self.events.append((event, args[0] if len(args) == 1 else list(args) or None))
            return name

        self._client.connect(f"http://127.0.0.1:{port}", namespaces=[namespace], transports=WAYS[way])

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
        return self._client.call(event, args, namespace=self.namespace, timeout=30)

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


@pytest.fixture(scope="module", params=["later", "early"])
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The example host in DUAL with its flag on, under its unchanged start command, shared by the tests below."""
    folder = tmp_path_factory.mktemp(request.param)
    env = {"LEGACY_VINTAGE": request.param, "HYBRID_CONFLATE": "", **DUAL}  # every event shall be there to compare
    with example_host(folder, push=True, **env) as host:
        yield host
        assert host.text().count("WARNING") == 1, "of cors_allowed_origins='*'"


@pytest.mark.parametrize("way", WAYS)
def test_both_kinds_of_clients_see_the_same_events(example: Running, way: str) -> None:
    """What requests make the host emit reaches a Socket.IO client and a stream: the same names and payloads."""
    names = ("fact_added", "kb_update", "kb_metrics")
    with Socket(example.port, way=way) as socket, Stream(example.port) as stream:
        assert stream.open["profile"] == "DUAL"
        statements = [f"IsA(Platypus, {kind}{way})." for kind in ("Monotreme", "Mammal", "Animal")]
        for statement in statements:
            assert example.post("/api/facts", {"statement": statement}).status == 201

        def seen(side: Any) -> list[tuple[str, Any]]:
            return [event for event in side.events if event[0] in names]

        for side in (socket, stream):
            until(lambda side=side: len(seen(side)) == 9, "three events for each fact")
        assert [name for name, _ in seen(stream)] == list(names) * 3
        assert sorted(map(repr, seen(socket))) == sorted(map(repr, seen(stream)))


def test_our_own_server_serves_both(example: Running) -> None:
    """The status says ``sse+socketio``, counts clients of both kinds, and is that of our own server."""
    with Socket(example.port), Stream(example.port):
        status = example.get("/api/hybrid/status").body
        assert (status["profile"], status["transport"]) == ("DUAL", "sse+socketio")
        assert (status["streams"], status["clients"]) == (2, 2)
        assert status["server"]["lanes"]
        assert not any(status["patched"].values())


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


@pytest.mark.parametrize("vintage", ["later", "early"])
def test_what_a_stream_missed_comes_and_its_end_is_told(tmp_path: Path, vintage: str) -> None:
    """Streams beat when idle, are resumed where they ended, and are forgotten when gone, beside a Socket.IO client."""
    settings = {"HYBRID_HEARTBEAT_S": "0.1", "HYBRID_RESUME_S": "0.1", "LEGACY_VINTAGE": vintage, **DUAL}
    with example_host(tmp_path, push=True, **settings) as host, Socket(host.port) as socket:
        with Envelopes(host.port) as stream:
            until(lambda: len(stream.all("hybrid_heartbeat")) > 2, "heartbeats")
            host.post("/api/facts", {"statement": "IsA(Platypus, Monotreme)."})
            last = stream.first("fact_added")["id"]
        host.post("/api/facts", {"statement": "IsA(Platypus, Mammal)."})
        with Stream(host.port, f"?events=fact_added&last_event_id={last}") as again:
            assert again.first("fact_added")["statement"] == "IsA(Platypus, Mammal)."
            assert again.names() == ["hybrid_open", "fact_added"]
        until(lambda: len(socket.all("fact_added")) == 2, "the other one has missed nothing")
        until(lambda: host.get("/api/hybrid/status").body["clients"] == 1, "the streams are forgotten")
        until(lambda: host.get("/api/status").body["websocket"]["connected_clients"] == 1, "the host knows it")


@pytest.mark.parametrize("vintage", ["later", "early"])
def test_the_flag_of_the_host_makes_no_difference(tmp_path: Path, vintage: str) -> None:
    """``enable_websocket=False`` is served as ``True`` is, to both kinds of clients, without a warning."""
    with (example_host(tmp_path, LEGACY_VINTAGE=vintage, **DUAL) as host, Stream(host.port) as stream,
          Socket(host.port, way="upgrade") as socket):
        assert stream.first("connection_status")["sid"] == stream.open["sid"]
        assert host.post("/api/facts", {"statement": "IsA(Platypus, Monotreme)."}).status == 201
        assert stream.first("fact_added") == socket.first("fact_added")
        say(host.port, stream, "request_initial_data")
        assert len(stream.first("initial_data")["facts"]) == 20
        assert host.get("/api/hybrid/status").body["transport"] == "sse+socketio"
        assert host.text().count("WARNING") == 1, "of cors_allowed_origins='*'"


def test_a_home_grown_broadcaster_keeps_its_websocket(tmp_path: Path) -> None:
    """With the flag on one that is not Flask-SocketIO's is left alone, which one warning says."""
    websocket = pytest.importorskip("websocket", reason="websocket-client is not installed")
    env = {"LEGACY_VINTAGE": "early", "LEGACY_BROADCASTER": "blocking", **DUAL}
    with example_host(tmp_path, push=True, **env) as host, Stream(host.port) as stream:
        connection = websocket.create_connection(f"ws://127.0.0.1:{host.port}/ws", timeout=30)
        try:
            assert json.loads(connection.recv())["event"] == "connection_status"
            assert host.post("/api/facts", {"statement": "IsA(Platypus, Monotreme)."}).status == 201
            assert json.loads(connection.recv())["event"] == "fact_added"
        finally:
            connection.shutdown()
        assert host.get("/api/hybrid/status").body["transport"] == "websocket"
        assert host.get("/socket.io/?EIO=4&transport=polling").status in (404, 405)
        assert stream.names() == ["hybrid_open"]
        assert host.text().count("was not swapped") == 1


def test_a_home_grown_broadcaster_is_swapped_without_its_flag(tmp_path: Path) -> None:
    """With ``enable_websocket=False`` our own class takes its place, and serves both kinds of clients."""
    env = {"LEGACY_VINTAGE": "early", "LEGACY_BROADCASTER": "blocking", **DUAL}
    with (example_host(tmp_path, **env) as host, Stream(host.port) as stream, Socket(host.port) as socket):
        assert host.post("/api/facts", {"statement": "IsA(Platypus, Monotreme)."}).status == 201
        assert stream.first("fact_added") == socket.first("fact_added")
        say(host.port, stream, "request_initial_data", {})
        stream.first("initial_data")
        assert host.get("/api/hybrid/status").body["transport"] == "sse+socketio"


@pytest.mark.parametrize("vintage", ["later", "early"])
def test_run_serves_a_host_class_to_both(tmp_path: Path, vintage: str) -> None:
    """``hakgal-hybrid run module:Class`` serves both kinds of clients in DUAL."""
    port = free_port()
    command = [*EXEC_MODULE[:3], "run", "hexagonal_api_enhanced_clean:HexagonalAPI", "--app-dir", str(SRC), "--port",
               str(port)]
    with running(tmp_path, command, port, LEGACY_VINTAGE=vintage, **DUAL) as host:
        with Socket(port) as socket, Stream(port) as stream:
            assert host.post("/api/facts", {"statement": "IsA(Platypus, Monotreme)."}).status == 201
            assert socket.first("fact_added") == stream.first("fact_added")


@posix
@pytest.mark.parametrize("worker", [pytest.param("gthread", marks=pytest.mark.long), "gevent"])
def test_gunicorn_serves_both(tmp_path: Path, worker: str) -> None:
    """``exec -- gunicorn`` serves a host's Socket.IO clients and streams, without any ``run``."""
    pytest.importorskip("gunicorn", reason="gunicorn is not installed")
    port = free_port()
    (tmp_path / "wsgi_example.py").write_text(textwrap.dedent("""
        from hexagonal_api_enhanced_clean import HexagonalAPI
        app = HexagonalAPI(use_legacy=False, enable_websocket=True).app
    """))
    command = [*EXEC, "gunicorn", "-k", worker, "--threads", "8", "--bind", f"127.0.0.1:{port}", "--pythonpath",
               str(SRC), "--chdir", str(tmp_path), "--graceful-timeout", "1", "wsgi_example:app"]
    with running(tmp_path, command, port, LEGACY_VINTAGE="early", **DUAL) as host:
        with ExitStack() as stack:
            sides = [Stream(port), *(Socket(port, way=way) for way in WAYS)]
            for side in sides:
                stack.enter_context(side)
            assert host.post("/api/facts", {"statement": "IsA(Platypus, Monotreme)."}).status == 201
            told = [side.first("fact_added") for side in sides]
            assert told == told[:1] * 4


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
    socketio.start_background_task(lambda: socketio.emit("called", socketio.call("question", "?", to=sid, timeout=30)))

@socketio.on("remember")
def on_remember(value):
    before, session["value"] = session.get("value"), value
    with socketio.server.session(request.sid) as kept:
        kept["value"] = [*kept.get("value", []), value]
        return [before, kept["value"]]

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
    """The plain app, unedited, in a process of its own, started by its own ``run`` or by ours."""
    (folder / "plain_app.py").write_text(PLAIN)
    port = free_port()
    command = [*EXEC, "python", "plain_app.py"]
    if by_run:
        command = [*EXEC_MODULE[:3], "run", "plain_app:app", "--port", str(port)]
    env = {"T_PATCH": "1" if patch else "", "T_ORDER": order, "T_PORT": str(port), **DUAL}
    with running(folder, command, port, cwd=folder, **env) as server:
        yield server


@pytest.fixture(scope="module", params=[*((order, False) for order in ORDERS), (ORDERS[0], True)],
                ids=lambda param: f"{param[0]}{', patched' * param[1]}")
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The plain app's port, shared by the tests below: in any order of making the two, and where eventlet patches."""
    order, patch = request.param
    with plain_app(tmp_path_factory.mktemp("plain"), order, patch=patch) as server:
        assert server.get("/health").body == {"mode": "threading"}
        yield server.port
        assert server.get("/api/hybrid/status").body["transport"] == "sse+socketio"


def test_rooms_hold_clients_of_both(plain: int) -> None:
    """A room has members of both kinds; what is told to the room reaches both, and nobody else."""
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


def test_clients_of_either_kind_acknowledge(plain: int) -> None:
    """A question to a ``sid`` is acknowledged there; one to all by both; the callback runs for its asker."""
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
def test_run_serves_a_plain_app_to_both(tmp_path: Path, order: str) -> None:
    """``hakgal-hybrid run module:app`` serves both without a word about the app's own ``SocketIO``."""
    with plain_app(tmp_path, order, by_run=True) as server:
        with Socket(server.port) as socket, Stream(server.port) as stream:
            socket.say("join", "blue")
            say(server.port, stream, "tell", "blue", "hello")
            assert socket.first("told") == "hello"
        assert server.get("/api/hybrid/status").body["transport"] == "sse+socketio"
        assert "do not leave by SSE" not in server.text()


# -- ways in -----------------------------------------------------------------------------------------------------

POLL = "/socket.io/?EIO=4&transport=polling"


@pytest.fixture(autouse=True)
def dual(monkeypatch: pytest.MonkeyPatch) -> None:
    """Profile DUAL in the environment, and nothing else of ours."""
    for name in ("ENABLE_SSE", "ENABLE_CONTROL_HTTP", "ENABLE_WS_SPECIAL", "HAKGAL_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("APP_PROFILE", "DUAL")


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


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What we have warned of."""
    return [record.getMessage() for record in caplog.records
            if record.name.startswith("hakgal_hybrid") and record.levelname == "WARNING"]


@pytest.mark.parametrize("flag", [True, False])
def test_a_hybridized_class_is_swapped(toy: Any, flag: bool, caplog: pytest.LogCaptureFixture) -> None:
    """With either flag: our class from the beginning on, the names are put back, and nothing is warned of."""
    original = flask_socketio.SocketIO
    api = hybridize(toy.HexagonalAPI)(enable_websocket=flag)
    transport = HybridTransport.of(api.app)
    assert flask_socketio.SocketIO is toy.SocketIO is original
    assert isinstance(api.socketio, original)
    assert issubclass(type(api.socketio), Facade)
    assert api.socketio is transport.socketio
    api.socketio.emit("event", 1)
    assert transport.log.statistics().appended == 2, "from the beginning on"
    assert api.app.test_client().post("/api/events/emit", json={"event": "hello"}).json["ack"] == "hi"
    assert api.app.test_client().get(POLL).status_code == 200
    assert (transport.statistics().transport, warnings(caplog)) == ("sse+socketio", [])


def test_a_finished_host_without_a_websocket_gets_both(toy: Any, caplog: pytest.LogCaptureFixture) -> None:
    """``enable_websocket=False``: the host is given our class, and both kinds of clients are served."""
    api = toy.HexagonalAPI(enable_websocket=False)
    transport = HybridTransport(api)
    assert isinstance(api.socketio, Facade)
    assert api.app.test_client().get(POLL).status_code == 200
    assert (transport.statistics().transport, warnings(caplog)) == ("sse+socketio", [])


def test_a_finished_host_with_a_websocket_keeps_it(toy: Any, caplog: pytest.LogCaptureFixture) -> None:
    """One whose handlers are registered already stays as it is, and log and status say so."""
    api = toy.HexagonalAPI(enable_websocket=True)
    transport = HybridTransport(api)
    assert type(api.socketio) is flask_socketio.SocketIO
    assert transport.statistics().transport == "websocket"
    [warning] = warnings(caplog)
    assert "flask_socketio.SocketIO) was not swapped: its events do not leave by SSE" in warning


@pytest.mark.parametrize("first", ["socketio", "transport"])
def test_flask_socketios_own_class_beside_a_transport_is_refused(first: str) -> None:
    """Two servers of one URL are not started: the error says what owns it."""
    app = Flask("beside")
    if first == "transport":
        HybridTransport(app)
    flask_socketio.SocketIO(app, async_mode="threading")
    transport = HybridTransport.of(app) if first == "transport" else HybridTransport(app)
    with pytest.raises(ConfigurationError, match=r"owns /socket\.io/, the URL where hakgal_hybrid serves clients"):
        transport.run(port=0)


def test_the_profile_of_a_swapped_host_is_the_environments(toy: Any) -> None:
    """A host whose app says another profile than the environment is refused with the way out."""
    toy.Flask = type("Configured", (Flask,), {"__init__": configured})
    with pytest.raises(ConfigurationError, match="APP_PROFILE=WEBSOCKET in the environment"):
        hybridize(toy.HexagonalAPI)(enable_websocket=True)


def configured(self: Any, *args: Any) -> None:
    """Make an app that asks for rollback by itself."""
    Flask.__init__(self, *args)
    self.config["HYBRID_PROFILE"] = "WEBSOCKET"


@pytest.mark.parametrize("special", [True, False])
def test_the_profile_can_be_the_transports_own(monkeypatch: pytest.MonkeyPatch, special: bool) -> None:
    """``HybridTransport(app, profile="DUAL")`` needs no variable, and does not ask what ``ENABLE_WS_SPECIAL`` says."""
    monkeypatch.delenv("APP_PROFILE")
    app = Flask("keyword")
    transport = HybridTransport(app, profile="DUAL", enable_ws_special=special)
    assert app.test_client().get(POLL).status_code == 200
    assert transport.statistics().transport == "sse+socketio"


PATCHED = f"""
import json, sys
import eventlet
eventlet.monkey_patch()
sys.path.insert(0, r"{SRC}")
import hakgal_hybrid
told = []
import hexagonal_api_enhanced_clean as host
hybrid = hakgal_hybrid.hybridize(host.HexagonalAPI)
for attempt in (hakgal_hybrid.prepare, lambda: hybrid(enable_websocket=True), lambda: hybrid(enable_websocket=False),
                lambda: hakgal_hybrid.HybridTransport(host.HexagonalAPI(enable_websocket=False))):
    try:
        attempt()
    except hakgal_hybrid.ConfigurationError as error:
        told.append(error.code)
print(json.dumps(told))
"""


@needs_eventlet
def test_a_patched_process_is_refused(tmp_path: Path) -> None:
    """As in profile HYBRID no way in takes a process that eventlet has patched: gevent could not serve there."""
    assert report(tmp_path, PATCHED, options=("-W", "ignore"), **DUAL) == ["eventlet_patched"] * 4
