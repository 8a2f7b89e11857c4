"""The facade beside the original: the same names, the same meaning, and what ``socketio.server`` knows."""

from __future__ import annotations

import importlib
import inspect
import io
import json
import logging
import threading
from collections.abc import Callable
from typing import Any

import flask
import pytest
from flask import Flask
from support import parity
from support.log_records import own_records
from support.parity import Host

from hakgal_hybrid import ConfigurationError
from hakgal_hybrid.socketio import SocketIO

host, hosts = parity.host, parity.hosts
Hosts = Callable[..., Host]


# -- the same names ----------------------------------------------------------------------------------------------


def pairs() -> list[Any]:
    """Every public function and method of Flask-SocketIO, and ours; of python-socketio's server, those we have."""
    try:
        import flask_socketio
        import socketio as python_socketio
    except ImportError:
        return []
    ours = importlib.import_module("hakgal_hybrid.socketio")
    found = [(name, getattr(flask_socketio, name), getattr(ours, name, None))
             for name, value in vars(flask_socketio).items()
             if inspect.isfunction(value) and value.__module__ == "flask_socketio" and not name.startswith("_")]
    classes = [(flask_socketio.SocketIO, ours.SocketIO, True), (flask_socketio.Namespace, ours.Namespace, True),
               (flask_socketio.SocketIOTestClient, ours.SocketIOTestClient, True),
               (python_socketio.Server, importlib.import_module("hakgal_hybrid.socketio.server").Server, False),
               (python_socketio.Manager, importlib.import_module("hakgal_hybrid.socketio.manager").Manager, False)]
    for theirs, mine, all_of_it in classes:
        found += [(f"{theirs.__name__}.{name}", method, inspect.getattr_static(mine, name, None))
                  for name, method in inspect.getmembers(theirs, inspect.isfunction)
                  if (not name.startswith("_") or (name == "__init__" and all_of_it))
                  and (all_of_it or hasattr(mine, name))]
    return [pytest.param(method, own, id=name) for name, method, own in found]


@pytest.mark.parametrize(("theirs", "ours"), pairs())
def test_arguments_have_the_names_and_places_they_have(theirs: Any, ours: Any) -> None:
    """Ours can be called in every way theirs can; what it takes beyond that, it takes by keyword only.

    ``run`` alone goes further: it knows its app.
    """
    assert ours is not None, "there is none"
    given, own = (list(inspect.signature(getattr(function, "__wrapped__", function)).parameters.values())
                  for function in (theirs, ours))
    open_ended = any(item.kind is item.VAR_KEYWORD for item in given)
    for place, item in enumerate(item for item in given if item.kind is not item.VAR_KEYWORD):
        same = own[place]
        assert (same.name, same.kind) == (item.name, item.kind)
        assert same.default == item.default or (theirs.__name__, item.name) == ("run", "app")
    count = sum(item.kind is not item.VAR_KEYWORD for item in given)
    more = [item for item in own[count:] if item.kind is not item.VAR_KEYWORD]
    assert all(item.kind is item.KEYWORD_ONLY and item.default is not item.empty for item in more)
    assert open_ended or not more
    assert not open_ended or more or own[-1].kind is inspect.Parameter.VAR_KEYWORD


def test_the_package_has_the_names_of_the_original() -> None:
    """What hosts import from ``flask_socketio``, from its top and from its modules of classes."""
    original = pytest.importorskip("flask_socketio")
    ours = importlib.import_module("hakgal_hybrid.socketio")
    public = {name for name, value in vars(original).items()
              if not name.startswith("_") and getattr(value, "__module__", "").split(".")[0] == "flask_socketio"}
    assert public | {"ConnectionRefusedError"} == set(ours.__all__)
    for module, name in (("namespace", "Namespace"), ("test_client", "SocketIOTestClient")):
        assert getattr(importlib.import_module(f"hakgal_hybrid.socketio.{module}"), name) is getattr(ours, name)


def test_reasons_are_those_of_the_original() -> None:
    """``SocketIO.reason`` has the same constants with the same values, and the server has them too."""
    original = pytest.importorskip("flask_socketio").SocketIO.reason
    names = {name: value for name, value in vars(original).items() if name.isupper()}
    assert {name: getattr(SocketIO.reason, name) for name in names} == names
    assert len(names) == 5
    assert SocketIO(Flask("reasons")).server.reason is SocketIO.reason


# -- context functions -------------------------------------------------------------------------------------------


def test_disconnect_in_a_connect_handler_does_nothing(host: Host) -> None:
    """As with python-socketio: a client that is not in yet cannot be sent away; returning ``False`` refuses it."""

    @host.socketio.on("connect")
    def connected() -> None:
        host.api.disconnect()
        host.notes.append(host.socketio.server.manager.is_connected(flask.request.sid, "/"))

    assert host.client().is_connected()
    assert host.notes == [False]


def test_context_functions_know_defaults_and_options(host: Host) -> None:
    """``emit`` and ``send``: to the caller, to a room, to all, without some, elsewhere; with keywords of old hosts."""

    @host.socketio.on("go")
    def go(other: str) -> None:
        emit, send = host.api.emit, host.api.send
        for number, options in enumerate([
                {}, {"to": other}, {"room": other}, {"broadcast": True}, {"broadcast": True, "include_self": False},
                {"broadcast": True, "skip_sid": other}, {"broadcast": True, "skip_sid": [other]}, {"to": []},
                {"broadcast": True, "include_self": False, "skip_sid": other}, {"namespace": "/"},
                {"namespace": "/elsewhere", "broadcast": True}, {"namespace": None}, {"json": True, "binary": False},
                {"to": other, "include_self": False}, {"callback": None, "ignore_queue": True}]):
            emit("told", number, **options)
            send(number, **{name: value for name, value in options.items() if name != "json"})
        send("last", json=True)

    one, two = host.client(), host.client()
    one.emit("go", host.sid(two))
    mine, others = one.get_received(), two.get_received()
    assert [item["args"][0] for item in mine if item["name"] == "told"] == [0, 3, 5, 6, 7, 8, 9, 11, 12, 14]
    assert [item["args"][0] for item in others if item["name"] == "told"] == [1, 2, 3, 4, 13]
    # Here include_self=False wins over skip_sid, unlike in emit.
    assert [item["args"] for item in mine if item["name"] == "message"] == [0, 3, 5, 6, 7, 9, 11, 12, 14]
    assert [item["args"] for item in others if item["name"] == "message"] == [1, 2, 3, 4, 8, 13]
    assert mine[-1] == {"name": "json", "args": "last", "namespace": "/"}


def test_send_from_anywhere(host: Host) -> None:
    """``socketio.send`` goes to everybody, a room, a namespace, without some; ``room`` is another word for ``to``."""
    one, two = host.client(), host.client()
    for number, options in enumerate([{}, {"json": True}, {"to": host.sid(one)}, {"room": host.sid(two)},
                                      {"skip_sid": host.sid(one)}, {"namespace": "/"}, {"namespace": "/elsewhere"}]):
        host.socketio.send(number, **options)
    host.socketio.send((8, 9), False, None, host.sid(one))
    assert [(item["name"], item["args"]) for item in one.get_received()] == [
        ("message", 0), ("json", 1), ("message", 2), ("message", 5), ("message", 8)]
    assert [item["args"] for item in two.get_received()] == [0, 1, 3, 4, 5]
    with pytest.raises(RuntimeError, match="request context"):
        host.socketio.send(1, include_self=False)


# -- the server --------------------------------------------------------------------------------------------------


def test_the_server_emits_as_python_socketio_does(host: Host) -> None:
    """``emit`` and ``send`` by position and by name."""
    server = host.socketio.server
    one, two = host.client(), host.client()
    server.emit("told")
    server.emit("told", 1)
    server.emit("told", (2, 3), host.sid(one))
    server.emit("told", data=4, room=host.sid(two))
    server.emit("told", 5, skip_sid=host.sid(two), namespace="/", ignore_queue=True)
    server.send("text", to=host.sid(one))
    assert [item["args"] for item in one.get_received()] == [[], [1], [2, 3], [5], "text"]
    assert [item["args"] for item in two.get_received()] == [[], [1], [4]]


def test_the_server_manages_rooms(host: Host) -> None:
    """Rooms of any hashable name, per namespace; nobody gets into the room that is another's name."""
    server = host.socketio.server
    host.socketio.on("ask", namespace="/chat")(lambda: None)
    one, two = host.client(), host.client()
    one.connect("/chat")
    first, second, third = host.sid(one), host.sid(two), host.sid(one, "/chat")
    assert (server.rooms(first), server.rooms(third, "/chat"), server.rooms(third)) == ([first], [third], [])
    server.enter_room(first, "blue")
    server.enter_room(first, 7, namespace="/")
    server.enter_room(first, ("a", 1))
    server.enter_room(first, first)
    server.enter_room(third, "blue", namespace="/chat")
    assert set(server.rooms(first)) == {first, "blue", 7, ("a", 1)}
    server.leave_room(third, "blue")
    assert set(server.rooms(third, "/chat")) == {third, "blue"}, "that was another namespace"
    host.socketio.close_room("blue")
    assert set(server.rooms(first)) == {first, 7, ("a", 1)}
    assert set(server.rooms(third, "/chat")) == {third, "blue"}
    server.close_room("nobody is here")
    server.leave_room("nobody", "blue")
    with pytest.raises(ValueError, match="cannot enter a sid room"):
        server.enter_room(first, second)
    with pytest.raises(ValueError, match="cannot close a sid room"):
        server.close_room(first)
    with pytest.raises(ValueError, match="cannot close a sid room"):
        host.socketio.close_room(third, "/chat")
    server.leave_room(first, first)
    host.socketio.emit("told", 1, to=first)
    assert (server.rooms(first), one.get_received()) == ([7, ("a", 1)], [])


def test_a_client_that_is_not_there(host: Host) -> None:
    """Who it would be done to must be there; who is only asked about need not."""
    server = host.socketio.server
    client = host.client()
    with pytest.raises(KeyError):
        server.enter_room("nobody", "blue")
    with pytest.raises(ValueError, match="not connected"):
        server.enter_room(host.sid(client), "blue", namespace="/none")
    for ask in (server.get_session, server.transport):
        with pytest.raises(KeyError):
            ask("nobody")
    with pytest.raises(KeyError):
        server.save_session("nobody", {})
    assert server.get_environ("nobody") is None
    assert server.rooms("nobody") == []
    assert server.disconnect("nobody") is None
    assert not server.manager.is_connected("nobody", "/")


def test_the_server_knows_the_environment(host: Host) -> None:
    """``get_environ`` is that of the opening request; ``environ`` has all of them by connection."""
    client = host.client(query_string="a=1")
    environ = host.socketio.server.get_environ(host.sid(client))
    assert environ["QUERY_STRING"] == "a=1"
    assert environ["flask.app"] is host.app
    assert host.socketio.server.environ[client.eio_sid]["QUERY_STRING"] == "a=1"
    assert host.socketio.server.get_environ(host.sid(client), "/other") is None


@pytest.mark.parametrize("options", [
    {},
    {"ping_interval": 7, "ping_timeout": 9.5, "max_http_buffer_size": 5000, "allow_upgrades": False, "cookie": "io",
     "transports": ["polling"], "cors_allowed_origins": ["http://a.example"], "http_compression": False},
    {"ping_interval": (7, 2), "transports": "websocket", "cors_allowed_origins": "http://a.example"},
])
def test_the_server_says_how_clients_of_engineio_are_served(hosts: Hosts, options: dict[str, Any]) -> None:
    """``server.eio`` has the names that tests of hosts read, and what the keywords say."""
    eio = hosts(**{"http_compression": False, **options}).socketio.server.eio
    names = ("async_mode", "allow_upgrades", "transports", "ping_interval", "ping_timeout",
             "max_http_buffer_size", "cors_allowed_origins", "cors_credentials", "cookie", "http_compression")
    assert {name: getattr(eio, name) for name in names} == {
        "async_mode": "threading", "allow_upgrades": options.get("allow_upgrades", True),
        "transports": {"websocket": ["websocket"]}.get(str(options.get("transports")),
                                                       options.get("transports", ["polling", "websocket"])),
        "ping_interval": 7 if options else 25, "ping_timeout": options.get("ping_timeout", 20),
        "max_http_buffer_size": options.get("max_http_buffer_size", 1_000_000),
        "cors_allowed_origins": options.get("cors_allowed_origins"), "cors_credentials": True,
        "cookie": options.get("cookie"), "http_compression": False}


def test_what_there_is_not_of_engineio_is_named(socketio: SocketIO) -> None:
    """An attribute of python-engineio's server that has no counterpart says so."""
    with pytest.raises(AttributeError, match=r"socketio\.server\.eio has no attribute 'sockets'"):
        socketio.server.eio.sockets  # noqa: B018


@pytest.mark.parametrize("wrong", [["carrier pigeon"], [], 5])
def test_transports_that_there_are_not_are_refused(wrong: Any) -> None:
    """The error says what is accepted."""
    with pytest.raises(ConfigurationError, match=r"transports=.* is not accepted; use 'polling', 'websocket'"):
        SocketIO(Flask("wrong"), transports=wrong)


def test_the_server_keeps_something_for_a_client(site: Flask, socketio: SocketIO) -> None:
    """A dict of its own, which may be replaced, has nothing to do with ``flask.session``, and ends with the client."""
    server, client = socketio.server, socketio.test_client(site)
    sid = str(server.manager.sid_from_eio_sid(client.eio_sid, "/"))
    assert server.get_session(sid) == {}
    server.save_session(sid, {"a": 1})
    with server.session(sid) as kept:
        kept["b"] = 2
    with server.session(sid, namespace="/") as kept:
        kept["c"] = 3
    assert server.get_session(sid) == {"a": 1, "b": 2, "c": 3}
    assert server.transport(sid) == "sse"
    seen: list[Any] = []
    socketio.on("disconnect")(lambda: seen.append([server.get_session(sid), server.rooms(sid),
                                                   server.manager.is_connected(sid, "/")]))
    client.disconnect()
    assert seen == [[{"a": 1, "b": 2, "c": 3}, [sid], False]], "its own disconnect handler still finds all of it"
    with pytest.raises(KeyError, match="not connected"):
        server.get_session(sid)


def test_the_manager_knows_who_is_there(host: Host) -> None:
    """Participants, rooms, namespaces and connections, as hosts and their tests look them up."""
    manager = host.socketio.server.manager
    host.socketio.on("ask", namespace="/chat")(lambda: None)
    one, two = host.client(), host.client()
    one.connect("/chat")
    first, second, third = host.sid(one), host.sid(two), host.sid(one, "/chat")
    host.socketio.server.enter_room(first, "blue")
    host.socketio.server.enter_room(second, "blue")
    host.socketio.server.enter_room(second, 7)
    assert list(manager.get_participants("/", None)) == [(first, one.eio_sid), (second, two.eio_sid)]
    assert dict(manager.get_participants("/", "blue")) == {first: one.eio_sid, second: two.eio_sid}
    assert dict(manager.get_participants("/", [7, first])) == {first: one.eio_sid, second: two.eio_sid}
    assert [list(manager.get_participants("/", room)) for room in (first, "none")] == [[(first, one.eio_sid)], []]
    assert list(manager.get_participants("/none", None)) == []
    assert set(manager.get_namespaces()) == {"/", "/chat"}
    assert set(manager.get_rooms(second, "/")) == {second, "blue", 7}
    assert (manager.get_rooms(third, "/chat"), manager.get_rooms(third, "/")) == ([third], [])
    assert [manager.is_connected(sid, "/") for sid in (first, second, third, None)] == [True, True, False, False]
    assert manager.eio_sid_from_sid(third, "/chat") == one.eio_sid
    assert manager.eio_sid_from_sid("nobody", "/") is None
    assert manager.sid_from_eio_sid("nothing", "/") is None
    assert {room: set(sids) for room, sids in manager.rooms["/"].items()} == {
        None: {first, second}, first: {first}, second: {second}, "blue": {first, second}, 7: {second}}
    assert dict(manager.rooms["/chat"][None]) == {third: one.eio_sid}


def test_what_the_server_has_not_is_named(socketio: SocketIO) -> None:
    """An attribute of python-socketio's server without a counterpart is an ``AttributeError`` that explains itself."""
    for owner, name in ((socketio.server, "handle_request"), (socketio.server.manager, "pending_connect")):
        assert not hasattr(owner, name)
        with pytest.raises(AttributeError, match=rf"socketio\.server.* no attribute '{name}'.*without python-socketio"):
            getattr(owner, name)


# -- logging and JSON --------------------------------------------------------------------------------------------


class Lines(logging.Handler):
    """What was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        assert record.levelno == logging.INFO
        self.lines.append(record.getMessage())


def test_events_are_logged_if_asked_for(hosts: Any) -> None:
    """``logger=`` gets what python-socketio logs of events, rooms and endings, word for word."""
    lines, log = Lines(), logging.Logger("mine", logging.INFO)
    log.addHandler(lines)
    host = hosts(logger=log)
    host.socketio.on("ask")(lambda: host.api.emit("told", 1))
    client = host.client()
    sid = host.sid(client)
    client.emit("ask", callback=True)
    host.socketio.emit("told", 2)
    host.socketio.emit("told", 3, to=["a", "b"], namespace="/none")
    host.socketio.server.enter_room(sid, "blue")
    host.socketio.server.leave_room(sid, "blue")
    host.socketio.close_room("blue", "/")
    host.socketio.server.disconnect(sid)
    assert lines.lines == [
        f'received event "ask" from {sid} [/]', f'emitting event "told" to {sid} [/]',
        'emitting event "told" to all [/]', """emitting event "told" to ['a', 'b'] [/none]""",
        f"{sid} is entering room blue [/]", f"{sid} is leaving room blue [/]", "room blue is closing [/]",
        f"Disconnecting {sid} [/]"]


def test_no_event_forges_a_line_of_the_log(site: Flask) -> None:
    """What is not printable in a name or a room is escaped."""
    lines, log = Lines(), logging.Logger("mine", logging.INFO)
    log.addHandler(lines)
    socketio = SocketIO(site, logger=log)
    socketio.on("*")(lambda event, *args: None)
    socketio.test_client(site).emit("a\x1b[2J\u2028b")
    socketio.emit("told", to="room\nforged")
    assert lines.lines[0].startswith('received event "a\\x1b[2J\\u2028b" from ')
    assert lines.lines[1:] == ['emitting event "told" to room\\nforged [/]']


def test_logging_may_just_be_switched_on(site: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """``logger=True`` means python-socketio's own logger, on the error output unless the host has set it up."""
    log = logging.Logger("socketio.server")
    output = io.StringIO()
    monkeypatch.setitem(logging.root.manager.loggerDict, "socketio.server", log)
    monkeypatch.setattr("sys.stderr", output)
    for app in (site, Flask("next")):
        SocketIO(app, logger=True).emit("told")
    assert output.getvalue() == 'emitting event "told" to all [/]\n' * 2
    assert len(log.handlers) == 1


@pytest.mark.parametrize("wish", [False, None])
def test_nothing_is_logged_unless_asked_for(site: Flask, caplog: pytest.LogCaptureFixture, wish: Any) -> None:
    """Nor is any logger set up."""
    caplog.set_level(logging.INFO)
    SocketIO(site, logger=wish).emit("told")
    assert own_records(caplog) == []


class Shouting:
    """A JSON module that can be told from any other, for values that the standard one does not know."""

    @staticmethod
    def dumps(value: Any, **options: Any) -> str:
        return json.dumps(value, default=lambda odd: f"odd {type(odd).__name__}", **options)

    @staticmethod
    def loads(text: Any, **options: Any) -> Any:
        return json.loads(text, parse_int=lambda digits: f"int {digits}", **options)


def test_a_json_module_of_ones_own(host: Host, hosts: Any) -> None:
    """It writes and reads everything that goes through: events, arguments and answers, bytes among them."""
    if not host.ours:
        pytest.skip("Flask-SocketIO sets it for the whole process")
    host = hosts(json=Shouting)
    host.socketio.on("ask")(lambda *args: [*args, object()])
    client = host.client()
    assert client.emit("ask", 1, object(), b"x", callback=True) == ["int 1", "odd object", b"x", "odd object"]
    host.socketio.emit("told", {"a": object()})
    assert client.get_received()[0]["args"] == [{"a": "odd object"}]
    posted = host.app.test_client().post("/api/events/emit", json={"event": "ask", "args": [2]})
    assert posted.status_code == 200
    assert posted.get_json()["ack"][0] == "int 2"


def test_flasks_own_json(site: Flask) -> None:
    """``json=flask.json`` means the provider of the app, wherever the event comes from."""
    site.json.default = lambda value: f"odd {type(value).__name__}"  # type: ignore[attr-defined,method-assign]
    socketio = SocketIO(site, json=flask.json)
    client = socketio.test_client(site)
    socketio.on("ask")(lambda: object())  # noqa: PLW0108
    threading.Thread(target=socketio.emit, args=("told", object())).run()
    assert client.get_received()[0]["args"] == ["odd object"]
    assert client.emit("ask", callback=True) == "odd object"


@pytest.mark.parametrize("module", ["json", 7, logging], ids=["name", "number", "module"])
def test_what_is_no_json_module_is_refused(site: Flask, module: Any) -> None:
    """As the app is set up, with what is expected."""
    with pytest.raises(ConfigurationError, match=r"json=.*dumps and loads"):
        SocketIO(site, json=module)
