"""The Flask-SocketIO shape: constructor, handlers, emit, context functions, run and stop."""

from __future__ import annotations

import datetime
import decimal
import inspect
import json
import logging
import os
import ssl
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import flask
import gevent.ssl
import pytest
from flask import Flask, current_app
from flask.json.provider import DefaultJSONProvider, JSONProvider
from support.hosts import Answer, Stream, call, free_port, listens, serving, until
from support.log_records import own_records
from werkzeug.debug import DebuggedApplication

from hakgal_hybrid import ConfigurationError, EventError, HybridTransport, signals
from hakgal_hybrid.broker.event import Event, Target
from hakgal_hybrid.commands.node import Node
from hakgal_hybrid.server.server import Server
from hakgal_hybrid.socketio import SocketIO, emit
from hakgal_hybrid.testing import collect

#: Every keyword of Flask-SocketIO's constructor, python-socketio's and python-engineio's server.
KEYWORDS: dict[str, Any] = {
    "manage_session": True, "path": "socket.io", "resource": "socket.io", "message_queue": None, "channel": "flask",
    "client_manager": None, "binary": None, "json": None, "async_handlers": True, "always_connect": False,
    "async_mode": "eventlet", "ping_interval": 25, "ping_timeout": 60, "max_http_buffer_size": 1_000_000,
    "allow_upgrades": True, "http_compression": True, "compression_threshold": 1024, "cookie": None,
    "cors_allowed_origins": "*", "cors_credentials": True, "monitor_clients": True, "transports": ["websocket"],
    "logger": False, "engineio_logger": False, "serializer": "default", "write_only": False, "namespaces": ["/"],
}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting from outside."""
    for name in list(os.environ):
        if name.startswith(("APP_PROFILE", "HYBRID_", "ENABLE_", "HAKGAL_")):
            monkeypatch.delenv(name)


@pytest.fixture(params=["hakgal_hybrid.socketio", "flask_socketio"])
def shape(request: pytest.FixtureRequest) -> ModuleType:
    """The module that a host imports from: ours, or the real one whose functions meet our facade in a swapped host."""
    return pytest.importorskip(request.param, reason="Flask-SocketIO is not installed")


@pytest.fixture
def emitted(socketio: SocketIO) -> Iterator[list[Event]]:
    """The events that were put into the log, as they are there."""
    events: list[Event] = []

    def keep(sender: Flask, event: Event, event_id: str) -> None:
        events.append(event)

    with signals.event_emitted.connected_to(keep, sender=socketio.transport.app):
        yield events


def post(port: int, stream: Stream, event: str, *args: Any) -> Answer:
    """Post an event in the name of a stream's client."""
    body = {"event": event, "args": list(args), "sid": stream.open["sid"]}
    return call(port, "POST", "/api/events/emit", body, {"X-Hybrid-Token": stream.open["token"]})


def client_emit(site: Flask, event: str, *args: Any) -> Any:
    """Post an event without a stream through the test client; return the JSON answer."""
    return site.test_client().post("/api/events/emit", json={"event": event, "args": list(args)}).json


# -- constructing ------------------------------------------------------------------------------------------------


def test_every_keyword_of_flask_socketio_is_accepted(site: Flask) -> None:
    """The constructor takes them all, registers itself with the app, and always has native threads."""
    socketio = SocketIO(site, **KEYWORDS)
    assert site.extensions["socketio"] is socketio
    assert socketio.transport is HybridTransport.of(site)
    assert socketio.transport.socketio is socketio
    assert socketio.async_mode == "threading"


def test_the_keywords_are_those_of_the_original(site: Flask, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever python-socketio's and python-engineio's servers take is taken without a word."""
    servers = [pytest.importorskip(f"{package}.base_server").BaseServer for package in ("socketio", "engineio")]
    names = {name for server in servers for name in inspect.signature(server.__init__).parameters}
    SocketIO(site, **dict.fromkeys(names - {"self", "kwargs"}))
    assert own_records(caplog) == []


def test_an_unknown_keyword_is_named_in_a_warning(site: Flask, caplog: pytest.LogCaptureFixture) -> None:
    """One warning for all of them, also for those that come with ``init_app``."""
    SocketIO(no_such=1, async_mode="threading").init_app(site, nor_this=2)
    [record] = own_records(caplog)
    assert record.levelno == logging.WARNING
    assert "no_such=…, nor_this=…" in record.getMessage()


def test_init_app_without_an_app(site: Flask) -> None:
    """It keeps the keywords for when there is one."""
    socketio = SocketIO(None, manage_session=False)
    socketio.init_app(None, namespaces=["/a"])
    with pytest.raises(ConfigurationError, match="init_app"):
        socketio.emit("told")
    with pytest.raises(ConfigurationError, match="init_app"):
        socketio.server.rooms("nobody")
    socketio.init_app(site)
    assert socketio.transport.node.lifecycle.namespaces == {"/a"}
    assert socketio.manage_session is False
    assert socketio.server_options == {"manage_session": False, "namespaces": ["/a"]}
    early = SocketIO()
    early.manage_session = False
    early.init_app(Flask("early"))
    assert early.manage_session is False


@pytest.mark.parametrize(("value", "namespaces"), [(None, {"/"}), ([], {"/"}), (["/a", "/b"], {"/a", "/b"}),
                                                   ("*", "*"), ("/a", {"/a"}), (("/a",), {"/a"})],
                         ids=["none", "empty", "list", "any", "one", "tuple"])
def test_namespaces_that_may_be_connected_to(site: Flask, value: Any, namespaces: Any) -> None:
    """A list, ``"*"`` for any, by default ``/``."""
    assert SocketIO(site, namespaces=value).transport.node.lifecycle.namespaces == namespaces


def test_an_app_without_a_socketio_serves_any_namespace(site: Flask) -> None:
    """Until something says otherwise; its face says nothing."""
    transport = HybridTransport(site)
    assert transport.socketio.transport.node.lifecycle.namespaces == "*"
    SocketIO(site)
    assert transport.node.lifecycle.namespaces == {"/"}


def test_init_app_may_come_late(site: Flask) -> None:
    """Handlers registered before ``init_app`` serve, and ``init_app`` takes the constructor's keywords."""
    socketio = SocketIO(async_mode="threading")

    @socketio.on("early")
    def early() -> str:
        return "here"

    socketio.init_app(site, cors_allowed_origins="*", message_queue=None)
    assert client_emit(site, "early")["ack"] == "here"
    assert site.extensions["socketio"] is socketio


def test_init_app_joins_the_transport_an_app_has(site: Flask) -> None:
    """On an app with a transport, the facade takes its place beside it: same log, handlers of both."""
    transport = HybridTransport(site, max_streams=3)
    transport.socketio.on("first")(lambda: 1)
    socketio = SocketIO()
    socketio.on("second")(lambda: 2)
    socketio.init_app(site)
    socketio.on("third")(lambda: 3)
    assert socketio.transport is transport
    assert transport.socketio is socketio
    assert [client_emit(site, name)["ack"] for name in ("first", "second", "third")] == [1, 2, 3]
    with collect(transport) as events:
        socketio.emit("told")
    assert events.names == ["told"]


def test_init_app_may_be_called_again(site: Flask, socketio: SocketIO) -> None:
    """On the same app it changes what it is told to, and nothing else."""
    socketio.on("ask")(lambda: "here")
    transport = socketio.transport
    socketio.init_app(site, namespaces="*")
    assert (socketio.transport, transport.node.lifecycle.namespaces) == (transport, "*")
    assert client_emit(site, "ask")["ack"] == "here"


def test_a_facade_goes_over_to_the_next_app_with_its_handlers(site: Flask, socketio: SocketIO) -> None:
    """As with Flask-SocketIO, a factory called again makes a new app with the same global object."""
    socketio.on("greet")(lambda name: f"hello {name}")
    another = Flask("another")
    socketio.init_app(another)
    assert another.extensions["socketio"] is socketio
    assert HybridTransport.of(another) is not HybridTransport.of(site)
    answer = another.test_client().post("/api/events/emit", json={"event": "greet", "data": "Ann"})
    assert answer.get_json()["ack"] == "hello Ann"


@pytest.mark.parametrize("late", [False, True])
def test_a_message_queue_is_refused(site: Flask, late: bool) -> None:
    """A queue that is no Redis cannot be honoured, and ignoring one would lose events: the error names it."""
    make = SocketIO().init_app if late else SocketIO
    with pytest.raises(ConfigurationError, match=r"message_queue='amqp://…'.*redis://HOST") as refused:
        make(site, message_queue="amqp://:secret@queue", channel="c", write_only=True)
    assert "secret" not in str(refused.value)
    with pytest.raises(ConfigurationError, match=r"message_queue='redis://…'"):
        SocketIO(message_queue="redis://queue:0")
    with pytest.raises(ConfigurationError, match=r"message_queue='redis' "):
        SocketIO(message_queue="redis")


def test_a_message_queue_is_the_backplane(site: Flask) -> None:
    """A Redis as a queue is what HYBRID_BACKPLANE says, and a channel is its name; a transport that was there before
    must have it."""
    SocketIO(site, message_queue="redis://queue", channel="c", write_only=True)
    settings = HybridTransport.of(site).settings
    assert (settings.backplane, settings.backplane_name) == ("redis://queue", "c")
    another = Flask("another")
    HybridTransport(another)
    with pytest.raises(ConfigurationError, match="set HYBRID_BACKPLANE"):
        SocketIO(another, message_queue="redis://queue")


@pytest.mark.parametrize("queue", ["redis://", "redis://:6380", "rediss://:word@/1"])
def test_a_message_queue_may_leave_out_what_is_usual(site: Flask, queue: str) -> None:
    """Without a host it is on this machine; without a channel, it has the one that Flask-SocketIO has."""
    SocketIO(site, message_queue=queue)
    settings = HybridTransport.of(site).settings
    assert (settings.backplane, settings.backplane_name) == (queue, "flask-socketio")


def test_settings_may_follow_until_something_happens(site: Flask, socketio: SocketIO) -> None:
    """A second ``init_app`` brings a queue and a path, what was registered stays; after an event it is too late."""
    HybridTransport.of(site).authorize(lambda request: request.event != "secret")
    socketio.on_event("greet", lambda data: f"hello {data}")
    socketio.init_app(site, message_queue="redis://queue", path="/live/socket.io")
    transport = HybridTransport.of(site)
    assert (transport.settings.backplane, transport.settings.prefix) == ("redis://queue", "/live")
    assert "greet" in transport.state.handlers.functions["/"]
    assert transport.state.authorizer.decides
    assert site.test_client().get("/api/hybrid/health").status_code == 404
    late = Flask("late")
    socketio = SocketIO(late)
    socketio.emit("tick")
    with pytest.raises(ConfigurationError, match="set HYBRID_BACKPLANE"):
        socketio.init_app(late, message_queue="redis://queue")


def test_a_manager_of_clients_elsewhere_is_refused(site: Flask) -> None:
    """One that keeps them in this process changes nothing; any other would have to send events away."""
    class Manager:
        pass

    class RedisManager:
        pass

    SocketIO(site, client_manager=Manager(), message_queue="")
    with pytest.raises(ConfigurationError, match=r"client_manager=.*RedisManager.*message_queue"):
        SocketIO(Flask("queue"), client_manager=RedisManager())


# -- handlers ----------------------------------------------------------------------------------------------------


def test_on_returns_the_function_and_the_last_handler_wins(site: Flask, socketio: SocketIO) -> None:
    """The decorator leaves the function as it is; of two handlers of one event the last one runs."""
    def first() -> int:
        return 1

    assert socketio.on("asked")(first) is first
    socketio.on("asked")(lambda: 2)
    assert client_emit(site, "asked")["ack"] == 2


def test_handlers_belong_to_a_namespace(site: Flask, socketio: SocketIO) -> None:
    """The same event may have a handler in each namespace, and each sees its own."""
    @socketio.on("asked")
    @socketio.on("asked", namespace="/admin")
    def asked() -> str:
        return str(flask.request.namespace)  # type: ignore[attr-defined]

    body = {"event": "asked"}
    answers = [site.test_client().post("/api/events/emit", json={**body, **more}).json["ack"]
               for more in ({}, {"namespace": "/"}, {"namespace": "/admin"})]
    assert answers == ["/", "/", "/admin"]
    assert site.test_client().post("/api/events/emit", json={**body, "namespace": "/other"}).status_code == 404


def test_a_handler_sees_who_asks_for_what(site: Flask, socketio: SocketIO) -> None:
    """``request.sid``, ``namespace`` and ``event`` are those of Flask-SocketIO; the app is the current one."""
    @socketio.on("asked")
    def asked(*args: Any) -> Any:
        request: Any = flask.request
        assert flask.current_app._get_current_object() is site  # type: ignore[attr-defined]
        return [request.namespace, request.event["message"], list(request.event["args"]), bool(request.sid), *args]

    assert client_emit(site, "asked", 1, [2])["ack"] == ["/", "asked", [1, [2]], True, 1, [2]]


@pytest.mark.parametrize("how", ["raise", "false"])
def test_a_connect_handler_may_refuse(site: Flask, socketio: SocketIO, shape: ModuleType, how: str) -> None:
    """Raising ``ConnectionRefusedError`` or returning ``False`` is a 403 with the reason, and no stream."""
    @socketio.on("connect")
    def connect(auth: Any = None) -> bool:
        if how == "raise":
            raise shape.ConnectionRefusedError("not today")
        return False

    answer = site.test_client().get("/api/events/stream")
    assert answer.status_code == 403
    assert answer.get_json(force=True)["code"] == "connection_refused"
    assert answer.get_json(force=True)["reason"] == ("not today" if how == "raise" else None)
    assert socketio.transport.hub.clients() == []


# -- emit --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "keywords", "args_text", "data"),
    [((), {}, "[]", "null"), ((None,), {}, "[]", "null"), (((None,),), {}, "[null]", "null"),
     (({"a": 1},), {}, '[{"a":1}]', '{"a":1}'),
     (([1, 2],), {}, "[[1,2]]", "[1,2]"), ((1, "two"), {}, '[1,"two"]', '[1,"two"]'),
     (((1, "two"),), {}, '[1,"two"]', '[1,"two"]'), (((),), {}, "[]", "null"), (((1,),), {}, "[1]", "1"),
     ((b"\x00\xff",), {}, '[{"$binary":"AP8="}]', '{"$binary":"AP8="}'),
     (("x",), {"ignore_queue": True, "broadcast": False}, '["x"]', '"x"')],
)
def test_arguments_leave_as_flask_socketio_would_send_them(
        socketio: SocketIO, emitted: list[Event], args: tuple[Any, ...], keywords: Any, args_text: str,
        data: str) -> None:
    """None, one, several; one tuple stands for several; bytes are wrapped."""
    socketio.emit("told", *args, **keywords)
    [event] = emitted
    assert (event.name, event.args_text, event.data) == ("told", args_text, data)
    assert event.target == Target()


@pytest.mark.parametrize(
    ("keywords", "target"),
    [({}, Target()), ({"to": None}, Target()), ({"to": "/"}, Target()), ({"room": "/"}, Target()),
     ({"broadcast": True}, Target()), ({"to": "blue"}, Target("/", frozenset({"blue"}))),
     ({"room": "blue"}, Target("/", frozenset({"blue"}))),
     ({"to": "red", "room": "blue"}, Target("/", frozenset({"red"}))),
     ({"to": ["red", "blue"]}, Target("/", frozenset({"red", "blue"}))), ({"to": 7}, Target("/", frozenset({7}))),
     ({"to": ("red", "blue")}, Target("/", frozenset({"red", "blue"}))), ({"to": ["red", "/"]}, Target()),
     ({"namespace": "/admin"}, Target("/admin")), ({"namespace": None}, Target()),
     ({"namespace": "/admin", "to": "blue"}, Target("/admin", frozenset({"blue"}))),
     ({"skip_sid": "me"}, Target("/", None, frozenset({"me"}))),
     ({"skip_sid": ["me", "you"], "to": "blue"}, Target("/", frozenset({"blue"}), frozenset({"me", "you"}))),
     ({"include_self": False, "skip_sid": "me"}, Target("/", None, frozenset({"me"}))),
     ({"to": []}, Target()), ({"to": None, "room": "blue"}, Target("/", frozenset({"blue"})))],
    ids=lambda value: repr(value) if isinstance(value, dict) else "",
)
def test_targets_mean_what_they_mean_to_flask_socketio(
        socketio: SocketIO, emitted: list[Event], keywords: Any, target: Target) -> None:
    """``to``, ``room``, lists of them, ``"/"`` for everybody, namespaces, and who is left out."""
    socketio.emit("told", 1, **keywords)
    assert [event.target for event in emitted] == [target]


def test_emit_reaches_exactly_whom_it_is_for(site: Flask, socketio: SocketIO) -> None:
    """Over real streams: everybody, one ``sid``, a room, several, all but one, another namespace."""
    socketio.on("ask", namespace="/admin")(lambda: None)
    with serving(socketio, site) as port, Stream(port) as one, Stream(port) as two, \
            Stream(port, "?namespace=/admin") as admin:
        first, second = one.open["sid"], two.open["sid"]
        socketio.server.enter_room(first, "blue")
        socketio.emit("all", 1)
        socketio.emit("slash", 1, to="/")
        socketio.emit("one", 1, to=first)
        socketio.emit("room", 1, room="blue")
        socketio.emit("both", 1, to=["blue", second])
        socketio.emit("but_one", 1, skip_sid=first)
        socketio.emit("but_both", 1, skip_sid=[first, second])
        socketio.emit("admin", 1, namespace="/admin")
        socketio.emit("end")
        socketio.emit("end", namespace="/admin")
        for stream in (one, two, admin):
            until(lambda stream=stream: stream.names()[-1] == "end", "the end")
        assert one.names()[1:] == ["all", "slash", "one", "room", "both", "end"]
        assert two.names()[1:] == ["all", "slash", "both", "but_one", "end"]
        assert admin.names()[1:] == ["admin", "end"]


def test_include_self_leaves_out_whose_event_is_handled(site: Flask, socketio: SocketIO) -> None:
    """Inside a handler ``include_self=False`` means everybody else; outside of one it means nothing and says so."""
    @socketio.on("say")
    def say(text: str) -> None:
        socketio.emit("said", text, include_self=False)

    with serving(socketio, site) as port, Stream(port) as one, Stream(port) as two:
        assert post(port, one, "say", "hello").status == 200
        socketio.emit("end")
        assert two.first("said") == "hello"
        one.first("end")
        assert "said" not in one.names()
    with pytest.raises(RuntimeError, match="request context"):
        socketio.emit("said", 1, include_self=False)


@pytest.mark.parametrize(
    ("name", "args", "keywords", "words"),
    [("told", (object(),), {}, "cannot be sent as JSON"), ("told", (float("nan"),), {}, "cannot be sent as JSON"),
     ("", (), {}, "event name"), ("hybrid_open", (), {}, "reserved"), ("a\nb", (), {}, "CR, LF or NUL"),
     ("told", ("\ud800",), {}, "surrogate"), ("told", ("x" * 2_000_000,), {}, "HYBRID_MAX_EVENT_BYTES"),
     ("told", (1,), {"namespace": "admin"}, "does not begin with")],
    ids=["object", "nan", "no name", "reserved", "line end", "surrogate", "too large", "namespace"],
)
def test_what_cannot_be_sent_raises_at_emit(socketio: SocketIO, emitted: list[Event], name: str, args: Any,
                                            keywords: Any, words: str) -> None:
    """The error is raised in the emitter's own call, nothing is emitted, and the next event is."""
    with pytest.raises(EventError, match=words):
        socketio.emit(name, *args, **keywords)
    assert emitted == []
    socketio.emit("next")
    assert [event.name for event in emitted] == ["next"]


DAY, ID, SUM = datetime.date(2024, 2, 29), uuid.UUID(int=7), decimal.Decimal("1.50")
RICH = {"day": DAY, "id": ID, "sum": SUM, "both": [DAY, b"ab"]}


class _Ours(DefaultJSONProvider):
    """A provider of a host: it writes sets too, by a function that wants the app's context."""

    @staticmethod
    def default(value: Any) -> Any:
        if isinstance(value, set):
            return [current_app.name, *sorted(value)]
        return DefaultJSONProvider.default(value)


class _TextOnly(JSONProvider):
    """A provider that is nothing but ``dumps`` and ``loads``."""

    def dumps(self, value: Any, **options: Any) -> str:
        return json.dumps(value, default=lambda item: f"text of {item}")

    def loads(self, text: str | bytes, **options: Any) -> Any:
        return json.loads(text)


@pytest.mark.parametrize("options", [{}, {"json": flask.json}], ids=["default", "flask.json"])
def test_one_codec_for_events_acks_and_answers(site: Flask, options: dict[str, Any]) -> None:
    """What ``jsonify`` takes ``emit`` takes, and a handler may return it; every way out has the same text."""
    socketio = SocketIO(site, **options)
    with site.app_context():
        plain = {name: json.loads(flask.json.dumps(RICH[name])) for name in ("day", "id", "sum")}
    expected = {**plain, "both": [plain["day"], {"$binary": "YWI="}]}

    @socketio.on("rich")
    def rich() -> Any:
        emit("rich", RICH)
        return RICH

    answer = site.test_client().post("/api/events/emit", json={"event": "rich"}).json
    assert answer["ack"] == expected
    assert [event["data"] for event in answer["events"]] == [expected]
    client = socketio.test_client(site)
    received = {**plain, "both": [plain["day"], b"ab"]}
    assert client.emit("rich", callback=True) == received
    assert [packet["args"] for packet in client.get_received()] == [[received]]
    socketio.emit("outside", RICH)
    assert [packet["args"] for packet in client.get_received()] == [[received]]


@pytest.mark.parametrize(("provider", "value", "expected"), [
    (_Ours, {2, 1}, ["site", 1, 2]), (_Ours, DAY, "Thu, 29 Feb 2024 00:00:00 GMT"),
    (_TextOnly, DAY, "text of 2024-02-29")])
def test_the_apps_own_provider_writes_what_the_standard_encoder_refuses(
        site: Flask, socketio: SocketIO, emitted: list[Event], provider: Any, value: Any, expected: Any) -> None:
    """``app.json`` is asked at each emit, in the app's context, also where it was set after the ``SocketIO``."""
    site.json = provider(site)
    socketio.emit("told", {"value": value, "bytes": b"ab"})
    assert json.loads(emitted[0].data) == {"value": expected, "bytes": {"$binary": "YWI="}}


def test_a_provider_that_fails_is_an_error_of_the_event(site: Flask, socketio: SocketIO) -> None:
    """Whatever a provider, or a method of the value that it calls, raises: the emitter gets an ``EventError``."""
    class Broken:
        def __html__(self) -> str:
            raise LookupError("no text")

    with pytest.raises(EventError, match="no text"):
        socketio.emit("told", Broken())


def test_many_threads_emit_at_once(site: Flask, socketio: SocketIO) -> None:
    """Every event of every thread arrives once, in its thread's order, on every stream, in the same order on all."""
    threads, each = 8, 150
    barrier = threading.Barrier(threads)

    def emit_all(number: int) -> None:
        barrier.wait(30)
        for count in range(each):
            socketio.emit("counted", [number, count])

    with serving(socketio, site) as port, Stream(port) as one, Stream(port) as two:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(emit_all, range(threads)))
        socketio.emit("end", True)
        for stream in (one, two):
            stream.first("end")
        seen = one.all("counted")
        assert two.all("counted") == seen
        for number in range(threads):
            assert [count for who, count in seen if who == number] == list(range(each))


# -- context functions -------------------------------------------------------------------------------------------


def test_context_functions_act_for_the_caller(site: Flask, socketio: SocketIO, shape: ModuleType) -> None:
    """``emit``, rooms and ``disconnect`` mean the client whose event is being handled, unless told otherwise."""
    gone: list[str] = []

    @socketio.on("disconnect")
    def on_disconnect(reason: str) -> None:
        gone.append(flask.request.sid)  # type: ignore[attr-defined]

    @socketio.on("join")
    def join(room: str) -> Any:
        shape.join_room(room)
        shape.emit("joined", room)
        return sorted(shape.rooms())

    @socketio.on("leave")
    def leave(room: str) -> Any:
        shape.leave_room(room)
        return shape.rooms()

    @socketio.on("say")
    def say(room: str, text: str, options: dict[str, Any]) -> None:
        shape.emit("said", text, to=room, **options)

    @socketio.on("shout")
    def shout(options: dict[str, Any]) -> None:
        shape.emit("shouted", 1, 2, broadcast=True, **options)

    @socketio.on("close")
    def close(room: str) -> None:
        shape.close_room(room)

    @socketio.on("kick")
    def kick(sid: str) -> Any:
        shape.disconnect(sid)

    @socketio.on("bye")
    def bye() -> None:
        shape.disconnect()

    with serving(socketio, site) as port, Stream(port) as one, Stream(port) as two:
        first, second = one.open["sid"], two.open["sid"]
        assert post(port, one, "join", "blue").body["ack"] == sorted([first, "blue"])
        assert one.first("joined") == "blue"
        assert post(port, two, "join", "blue").body["ack"] == sorted([second, "blue"])
        post(port, one, "say", "blue", "a", {})
        post(port, one, "say", "blue", "b", {"include_self": False})
        post(port, one, "say", "blue", "c", {"skip_sid": second})
        post(port, one, "shout", {})
        post(port, one, "shout", {"include_self": False})
        post(port, one, "shout", {"namespace": "/admin"})
        assert post(port, two, "leave", "blue").body["ack"] == [second]
        post(port, one, "say", "blue", "d", {})
        post(port, two, "join", "blue")
        post(port, one, "close", "blue")
        post(port, one, "say", "blue", "e", {})
        socketio.emit("end", True)
        for stream in (one, two):
            stream.first("end")
        assert one.all("said") == ["a", "c", "d"]
        assert two.all("said") == ["a", "b"]
        assert (len(one.all("shouted")), two.all("shouted")) == (1, [[1, 2], [1, 2]])
        assert post(port, one, "kick", second).status == 200
        until(lambda: two.ended, "the other stream ends")
        assert post(port, one, "bye").status == 200
        until(lambda: one.ended, "the caller's own stream ends")
        until(lambda: gone == [second, first], "both disconnect handlers have run")
        assert post(port, one, "leave", "blue").status == 403, "nobody speaks for a client that is gone"


def test_context_functions_take_a_sid_outside_of_handlers(
        site: Flask, socketio: SocketIO, shape: ModuleType) -> None:
    """In an app context alone, a ``sid`` and a namespace say whom they are about."""
    hub = socketio.transport.hub
    client = hub.admit(hub.new_session({}, standalone=True), {}, "/")
    with site.app_context():
        shape.join_room("blue", sid=client.sid, namespace="/")
        assert set(shape.rooms(sid=client.sid, namespace="/")) == {client.sid, "blue"}
        shape.leave_room("blue", sid=client.sid, namespace="/")
        with pytest.raises(ValueError, match="'nobody' is not connected to namespace '/'"):
            shape.join_room("red", sid="nobody", namespace="/")
        assert shape.rooms(sid=client.sid, namespace="/") == [client.sid]
        assert shape.rooms(sid="nobody", namespace="/") == []
        shape.disconnect(sid=client.sid, namespace="/")
        shape.disconnect(sid="nobody", namespace="/")
    assert client.ended


# -- background tasks --------------------------------------------------------------------------------------------


def test_a_background_task_is_a_daemon_thread_that_runs(socketio: SocketIO) -> None:
    """It is started, gets its arguments, and does not keep the process alive."""
    seen: list[Any] = []
    thread = socketio.start_background_task(lambda *args, **kwargs: seen.append((args, kwargs)), 1, two=2)
    thread.join(30)
    assert seen == [((1,), {"two": 2})]
    assert isinstance(thread, threading.Thread)
    assert thread.daemon


def test_sleep_sleeps_in_the_calling_thread(socketio: SocketIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """``sleep`` is the ordinary one, and ``sleep()`` gives way."""
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    socketio.sleep(1.5)
    socketio.sleep()
    assert slept == [1.5, 0]


# -- run ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What ``run`` would serve: the server is replaced by one that notes what it is given."""
    started: list[dict[str, Any]] = []

    class Server:
        def __init__(self, node: Node, application: Any, host: str, port: int, **options: Any) -> None:
            self.given = {"node": node, "application": application, "at": (host, port), **options}

        def serve_forever(self) -> None:
            started.append(self.given)

    monkeypatch.setattr("hakgal_hybrid.server.server.Server", Server)
    return started


def test_run_takes_what_the_hosts_pass(site: Flask, socketio: SocketIO, servers: list[dict[str, Any]],
                                       caplog: pytest.LogCaptureFixture) -> None:
    """The keywords of both vintages' ``run`` are honoured, or meaningless to us and passed over without a word."""
    socketio.run(site, host="127.0.0.5", port=5011, debug=False, use_reloader=False, log_output=False,
                 socket_timeout=120, allow_unsafe_werkzeug=True)
    [given] = servers
    assert given["node"] is socketio.transport.node
    assert given["application"] is site
    assert (given["at"], given["log_output"], given["ssl_args"]) == (("127.0.0.5", 5011), False, {})
    assert own_records(caplog) == []


@pytest.mark.parametrize(
    ("server_name", "keywords", "at"),
    [(None, {}, ("127.0.0.1", 5000)), ("example.org:8080", {}, ("127.0.0.1", 8080)),
     ("example.org", {}, ("127.0.0.1", 5000)), ("example.org:8080", {"port": 9}, ("127.0.0.1", 9)),
     (None, {"port": 0}, ("127.0.0.1", 0)), (None, {"host": "localhost", "port": None}, ("localhost", 5000))],
)
def test_run_finds_its_address_as_flask_socketio_does(
        site: Flask, socketio: SocketIO, servers: list[dict[str, Any]], server_name: str | None, keywords: Any,
        at: tuple[str, int]) -> None:
    """Keywords first, then the port of ``SERVER_NAME``, then 5000 on loopback."""
    site.config["SERVER_NAME"] = server_name
    socketio.run(site, **keywords)
    assert servers[0]["at"] == at


def test_run_needs_no_app(socketio: SocketIO, site: Flask, servers: list[dict[str, Any]]) -> None:
    """Without an argument it serves the app of the facade; positional host and port work."""
    socketio.run()
    socketio.run(site, "127.0.0.1", 5012)
    assert [given["application"] for given in servers] == [site, site]
    assert servers[1]["at"] == ("127.0.0.1", 5012)


def test_run_warns_of_options_it_does_not_know(socketio: SocketIO, site: Flask, servers: list[dict[str, Any]],
                                               caplog: pytest.LogCaptureFixture) -> None:
    """A keyword that nobody knows is ignored with a warning that names it."""
    socketio.run(site, no_such_option=1)
    assert len(servers) == 1
    [record] = own_records(caplog)
    assert (record.levelno, "no_such_option" in record.getMessage()) == (logging.WARNING, True)


@pytest.mark.parametrize(
    ("keywords", "debug", "logs"),
    [({"debug": True}, True, True), ({"debug": True, "log_output": False}, True, False),
     ({"log_output": True}, False, True), ({}, False, False)],
    ids=repr,
)
def test_debug_decides_about_debugger_and_log(site: Flask, socketio: SocketIO, servers: list[dict[str, Any]],
                                              keywords: Any, debug: bool, logs: bool) -> None:
    """Debug mode wraps the app in Werkzeug's debugger and logs requests, unless told otherwise."""
    socketio.run(site, use_reloader=False, **keywords)
    [given] = servers
    assert site.debug is debug
    assert isinstance(given["application"], DebuggedApplication) is debug
    assert given["log_output"] is logs


@pytest.mark.parametrize(
    ("keywords", "reloads", "options"),
    [({"debug": True}, True, {}), ({"debug": False}, False, None),
     ({"debug": True, "use_reloader": False}, False, None),
     ({"use_reloader": True, "extra_files": ["a"]}, True, {"extra_files": ["a"]}),
     ({"use_reloader": True, "reloader_options": {"interval": 3}}, True, {"interval": 3})],
    ids=repr,
)
def test_the_reloader_follows_debug_unless_told(
        site: Flask, socketio: SocketIO, servers: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, keywords: Any,
        reloads: bool, options: Any) -> None:
    """The reloader runs the server, with the options it was given."""
    reloaded: list[Any] = []

    def run_with_reloader(serve: Any, **given: Any) -> None:
        reloaded.append(given)
        serve()

    monkeypatch.setattr("werkzeug._reloader.run_with_reloader", run_with_reloader)
    socketio.run(site, **keywords)
    assert reloaded == ([options] if reloads else [])
    assert len(servers) == 1


def test_certificates_become_a_context_of_the_loop(site: Flask, socketio: SocketIO, servers: list[dict[str, Any]],
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    """``certfile`` with ``keyfile``, a pair of both, or a context of gevent's; all become its ``SSLContext``."""
    loaded: list[Any] = []
    monkeypatch.setattr(gevent.ssl.SSLContext, "load_cert_chain", lambda self, *files: loaded.append(files))
    socketio.run(site, certfile="cert.pem", keyfile="key.pem")
    socketio.run(site, ssl_context=("cert.pem", "key.pem"))
    own = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    socketio.run(site, ssl_context=own)
    assert loaded == [("cert.pem", "key.pem")] * 2
    assert all(isinstance(given["ssl_args"]["ssl_context"], gevent.ssl.SSLContext) for given in servers)
    assert servers[2]["ssl_args"]["ssl_context"] is own


def test_certificates_that_cannot_be_used_are_refused(site: Flask, socketio: SocketIO, servers: list[dict[str, Any]],
                                                      tmp_path: Path) -> None:
    """A file that is no certificate, one that is not there, and a context that would block the loop."""
    bad = tmp_path / "bad.pem"
    bad.write_text("not a certificate")
    for keywords, words in [({"certfile": str(bad), "keyfile": str(bad)}, "certfile="),
                            ({"certfile": str(tmp_path / "none.pem")}, "certfile="),
                            ({"ssl_context": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}, r"gevent\.ssl\.SSLContext"),
                            ({"ssl_context": "adhoc"}, "ssl_context='adhoc'")]:
        with pytest.raises(ConfigurationError, match=words):
            socketio.run(site, **keywords)
    assert servers == []


def test_run_refuses_an_address_that_is_taken(site: Flask, socketio: SocketIO) -> None:
    """The error names the address and what to do."""
    other = SocketIO(Flask("other"))
    with serving(other) as port, pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port}.*choose a free port"):
        socketio.run(site, port=port)


def test_run_refuses_a_route_that_came_late(site: Flask, socketio: SocketIO, servers: list[dict[str, Any]]) -> None:
    """A route of the host on one of our URLs that was added after the facade is found when it is run."""
    site.add_url_rule("/api/events/stream", "late_route", lambda: "mine")
    with pytest.raises(ConfigurationError, match=r"'late_route' owns /api/events/stream"):
        socketio.run(site)
    assert servers == []


# -- stop --------------------------------------------------------------------------------------------------------


def test_stop_from_another_thread_ends_run(site: Flask, socketio: SocketIO) -> None:
    """``run`` returns, streams get a farewell, the port is free again, and the same facade can run once more."""
    for _ in range(2):
        with serving(socketio, site) as port:
            with Stream(port) as stream:
                socketio.emit("told", 1)
                stream.first("told")
                socketio.stop()
                assert stream.first("hybrid_bye")["retry_ms"] > 0
                until(lambda stream=stream: stream.ended, "the stream ends")
        until(lambda port=port: not listens(port), "nobody listens any more")


def test_stop_by_a_request_ends_run(site: Flask, socketio: SocketIO) -> None:
    """A handler may stop the server that runs it, and is answered."""
    site.add_url_rule("/stop", "stop", lambda: socketio.stop() or "stopping")
    port = free_port()
    thread = threading.Thread(target=socketio.run, args=(site,), kwargs={"port": port}, daemon=True)
    thread.start()
    until(lambda: listens(port), "the server listens")
    assert call(port, "GET", "/stop").body == b"stopping"
    thread.join(30)
    assert not thread.is_alive()


def test_stop_while_the_server_is_being_made(site: Flask, socketio: SocketIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sees the port answer may stop at once: the server ends, also if ``run`` has not got it yet."""
    class Early(Server):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            socketio.stop()

    monkeypatch.setattr("hakgal_hybrid.server.server.Server", Early)
    thread = threading.Thread(target=socketio.run, args=(site,), kwargs={"port": 0}, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


def test_stop_without_run_does_nothing(socketio: SocketIO) -> None:
    """There is nothing to stop, which is no error; afterwards neither is stopping twice."""
    socketio.stop()
    with serving(socketio):
        pass
    socketio.stop()
