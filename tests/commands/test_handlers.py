"""What the host registers, who gets an event, in what context, and what becomes of its errors."""

from __future__ import annotations

import builtins
import functools
from collections.abc import Callable
from typing import Any

import flask
import pytest
from flask import Flask
from flask.sessions import SecureCookieSession, SessionInterface
from support import parity
from support.parity import Host, event

import hakgal_hybrid.socketio
from hakgal_hybrid import AccessDenied, HybridTransport, RequestError
from hakgal_hybrid.broker.client import Client
from hakgal_hybrid.commands.handlers import NOT_HANDLED, Handlers
from hakgal_hybrid.commands.invocation import ConnectionRefusedError, calling_first
from hakgal_hybrid.socketio import Namespace, SocketIO

Hosts = Callable[..., Host]

host, hosts = parity.host, parity.hosts


@pytest.fixture
def site() -> Flask:
    """A plain app."""
    return Flask("handlers")


@pytest.fixture
def socketio(site: Flask) -> SocketIO:
    """The facade of that app."""
    return SocketIO(site)


def answer(client: Any, name: str, *args: Any, **options: Any) -> Any:
    """What a handler answers."""
    return client.emit(name, *args, callback=True, **options)


def post(app: Flask, name: str, *args: Any, **more: Any) -> Any:
    """The response to an event that is posted without a stream."""
    return app.test_client().post("/api/events/emit", json={"event": name, "args": list(args), **more})


# -- registering -------------------------------------------------------------------------------------------------


def test_the_ways_to_register(host: Host) -> None:
    """``on``, ``on_event`` and ``event``, the latter bare, called, and with a namespace by position and by name."""
    socketio = host.socketio

    def told() -> str:
        return f"{event()['message']} {flask.request.namespace}"

    def named(name: str) -> Any:
        function = functools.partial(told)
        function.__name__ = name  # type: ignore[attr-defined]
        return function

    assert socketio.on("by on")(told) is told
    assert socketio.on_event("by on_event", told) is None
    assert socketio.on_event("by on_event", told, "/a") is None
    bare, called, placed, by_name = (named(name) for name in ("bare", "called", "placed", "by_name"))
    assert socketio.event(bare) is bare
    assert socketio.event()(called) is called
    assert socketio.event("/a")(placed) is placed
    assert socketio.event(namespace="/a")(by_name) is by_name
    client = host.client()
    client.connect("/a")
    for name in ("by on", "by on_event", "bare", "called"):
        assert answer(client, name) == f"{name} /"
    for name in ("by on_event", "placed", "by_name"):
        assert answer(client, name, namespace="/a") == f"{name} /a"
    assert answer(client, "placed") is None


def test_the_last_handler_wins(host: Host) -> None:
    """Of two functions for one event the one that was registered last runs."""
    host.socketio.on("ask")(lambda: 1)
    host.socketio.on("ask")(lambda: 2)
    assert answer(host.client(), "ask") == 2


def test_a_handler_sees_whose_event_it_is(host: Host) -> None:
    """``request.sid``, ``namespace`` and ``event``, for coming, going and everything between; the app is current."""

    def told(*args: Any) -> None:
        assert flask.current_app._get_current_object() is host.app  # type: ignore[attr-defined]
        request: Any = flask.request
        message = event()
        if message["message"] == "connect":
            assert message["args"].pop(0)["REQUEST_METHOD"] == "GET"
        host.notes.append((request.sid, request.namespace, message["message"], message["args"], args))

    for name in ("connect", "ask", "disconnect"):
        host.socketio.on(name, namespace="/a")(told)
    client = host.client("/a", auth="let me in")
    sid = host.sid(client, "/a")
    client.emit("ask", 1, [2], namespace="/a")
    client.disconnect("/a")
    assert host.notes == [(sid, "/a", "connect", ["let me in"], ("let me in",)), (sid, "/a", "ask", [1, [2]], (1, [2])),
                          (sid, "/a", "disconnect", ["client disconnect"], ("client disconnect",))]


# -- catch-all handlers ------------------------------------------------------------------------------------------


def test_a_client_keeps_nothing_of_its_connection(site: Flask, socketio: SocketIO) -> None:
    """What servers leave in the environment to reach the connection is not kept for as long as the client is there."""
    left = {"werkzeug.socket", "gunicorn.socket", "gunicorn.sock", "eventlet.input", "waitress.client_disconnected"}
    socketio.on_event("left", lambda: sorted(left & flask.request.environ.keys()))
    client = site.test_client()
    posted = client.post("/api/events/emit", json={"event": "left"}, environ_overrides=dict.fromkeys(left, object()))
    assert posted.get_json()["ack"] == []
    opened = client.post("/api/events/connect", json={}, environ_overrides=dict.fromkeys(left, object())).get_json()
    kept = HybridTransport.of(site).hub.client(opened["sid"])
    assert kept is not None
    assert not left & kept.request_environ().keys()


def test_a_catch_all_gets_the_name_first(host: Host) -> None:
    """It gets what has no handler of its own in its namespace; coming and going is not among that."""
    host.socketio.on("known")(lambda: "known")
    host.socketio.on("*")(lambda *args: [event(), list(args)])
    client = host.client()
    assert answer(client, "known") == "known"
    assert answer(client, "other", 1, 2) == [{"message": "*", "args": ["other", 1, 2]}, ["other", 1, 2]]
    assert answer(client, "third") == [{"message": "*", "args": ["third"]}, ["third"]]
    client.disconnect()
    assert host.notes == []


def test_a_handler_for_all_namespaces(hosts: Hosts) -> None:
    """It gets its event, and coming and going, where no other handler is; the namespace is in the request."""
    host = hosts(namespaces="*")

    def told(*args: Any) -> Any:
        host.notes.append([flask.request.namespace, event()["message"], *args])
        return host.notes[-1]

    for name in ("connect", "ask", "disconnect"):
        host.socketio.on(name, namespace="*")(told)
    host.socketio.on("ask", namespace="/own")(lambda: "own")
    client = host.client("/any")
    client.connect("/own", auth="key")
    assert answer(client, "ask", 1, namespace="/any") == ["/any", "ask", 1]
    assert answer(client, "ask", namespace="/own") == "own"
    client.disconnect("/own")
    assert host.notes == [["/any", "connect", None], ["/own", "connect", "key"], ["/any", "ask", 1],
                          ["/own", "disconnect", "client disconnect"]]


def test_who_gets_an_event_first(hosts: Hosts) -> None:
    """By name in its namespace, any in its namespace, by name in any, and then a class."""
    host = hosts(namespaces="*")

    class Chat(host.api.Namespace):  # type: ignore[misc]
        def on_a(self) -> str:
            return "class"

        on_d = on_a

    host.socketio.on_namespace(Chat("/chat"))
    host.socketio.on_namespace(Chat("/only"))
    host.socketio.on("a", namespace="*")(lambda: "a in any")
    host.socketio.on("a", namespace="/chat")(lambda: "a in chat")
    host.socketio.on("b", namespace="*")(lambda: "b in any")
    client = host.client("/chat")
    client.connect("/only")
    assert [answer(client, name, namespace="/chat") for name in "abd"] == ["a in chat", "b in any", "class"]
    assert [answer(client, name, namespace="/only") for name in "abd"] == ["a in any", "b in any", "class"]
    host.socketio.on("*", namespace="/chat")(lambda name: f"{name} caught")
    assert [answer(client, name, namespace="/chat") for name in "abd"] == ["a in chat", "b caught", "d caught"]


def test_any_event_in_any_namespace(site: Flask) -> None:
    """The name comes first, the namespace is in the request. (Flask-SocketIO 5.7 mixes them up and does not call.)"""
    socketio = SocketIO(site, namespaces="*")
    socketio.on("*", namespace="*")(lambda *args: [flask.request.namespace, event()["message"], *args])  # type: ignore[attr-defined]
    socketio.on("connect", namespace="*")(lambda: None)
    client = socketio.test_client(site, "/any")
    assert answer(client, "ask", 1, namespace="/any") == ["/any", "*", "ask", 1]


@pytest.mark.parametrize("posted", ["connect", "disconnect"])
def test_coming_and_going_cannot_be_posted(site: Flask, socketio: SocketIO, posted: str) -> None:
    """No client makes another's handlers believe that somebody came or went."""
    ran: list[str] = []
    socketio.on(posted)(lambda *args: ran.append(posted))
    client = socketio.test_client(site)
    ran.clear()
    assert answer(client, posted, "auth") is None
    assert post(site, posted).status_code == 404
    assert ran == []


def test_a_star_is_no_name(site: Flask, socketio: SocketIO) -> None:
    """An event that calls itself ``*`` is one that the catch-all gets, with its name."""
    socketio.on("*")(lambda *args: list(args))
    assert answer(socketio.test_client(site), "*", 1) == ["*", 1]


# -- namespaces --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "served"),
    [({}, ["/", "/on", "/class"]), ({"namespaces": None}, ["/", "/on", "/class"]),
     ({"namespaces": ["/more"]}, ["/on", "/class", "/more"]),
     ({"namespaces": "*"}, ["/", "/on", "/class", "/more", "/any", "/o"])],
    ids=repr,
)
def test_which_namespaces_are_served(hosts: Hosts, options: dict[str, Any], served: list[str]) -> None:
    """Those with handlers and those that are listed; handlers for all namespaces open none."""
    host = hosts(**options)
    host.socketio.on("ask", namespace="/on")(lambda: None)
    host.socketio.on("ask", namespace="*")(lambda: None)
    host.socketio.on_namespace(host.api.Namespace("/class"))
    host.socketio.on_namespace(host.api.Namespace("*"))
    spaces = ("/", "/on", "/class", "/more", "/any", "/o")
    assert [space for space in spaces if host.client(space).is_connected(space)] == served


def test_an_error_handler_opens_no_namespace() -> None:
    """Nor does anything else but a handler."""
    handlers = Handlers()
    handlers.on_error["/a"] = print
    assert not handlers.serves("/a")
    handlers.register("ask", print, "/a")
    assert handlers.serves("/a")


def test_handlers_of_two_registries_come_together() -> None:
    """``update`` takes functions, classes and error handlers over, and what was there stays unless it is named."""
    one, two = Handlers(), Handlers()
    one.register("a", print)
    one.register("b", print)
    two.register("b", len)
    two.register("c", len, "/c")
    two.classes["/class"] = Namespace("/class")
    two.on_error["/"] = repr
    two.on_any_error = str
    one.update(two)
    one.update(one)
    assert one.functions == {"/": {"a": print, "b": len}, "/c": {"c": len}}
    assert (list(one.classes), one.on_error, one.on_any_error) == (["/class"], {"/": repr}, str)
    assert two.functions["/"] == {"b": len}
    one.update(Handlers())
    assert one.on_any_error is str


def test_the_names_that_a_refusal_lists(site: Flask, socketio: SocketIO) -> None:
    """The 404 for an event that nobody handles says which are: functions, methods, those for any namespace."""

    class Chat(Namespace):
        def on_say(self) -> None: ...

        def on_connect(self) -> None: ...

    socketio.on("here")(print)
    socketio.on("there", namespace="*")(print)
    socketio.on("connect")(lambda: None)
    socketio.on_namespace(Chat("/chat"))
    for namespace, names in (("/", ["here", "there"]), ("/chat", ["say", "there"]), ("/none", ["there"])):
        assert socketio.handlers.names(namespace) == names
    refusal = post(site, "nowhere")
    assert (refusal.status_code, refusal.json["code"], refusal.json["accepted"]) == (
        404, "unknown_event", ["here", "there"])


# -- coming ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("auth", "seen"), [(None, None), ({"token": 1}, {"token": 1}), ("key", "key"), ({}, None),
                                            ([1], [1]), (0, None), ("", None), (True, True)], ids=repr)
def test_a_connect_handler_gets_the_auth(host: Host, auth: Any, seen: Any) -> None:
    """What the client brings along; nothing if that is empty, as with python-socketio."""
    host.socketio.on("connect")(host.notes.append)
    assert host.client(auth=auth).is_connected()
    assert host.notes == [seen]


def wrapped(function: Any) -> Any:
    """A decorator that passes on whatever comes, as those that ask for a login do."""
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def adding(function: Any) -> Any:
    """A decorator that adds an argument: what the function below takes is not what comes."""
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function("added", *args)

    return wrapper


@pytest.mark.parametrize("decorate", [lambda function: function, wrapped], ids=["plain", "wrapped"])
@pytest.mark.parametrize("auth", [None, "key"])
def test_coming_and_going_need_no_argument(host: Host, decorate: Any, auth: Any) -> None:
    """A handler may leave out the auth, or the reason, also below a decorator that hides that."""

    def connected() -> None:
        host.notes.append("came")

    def disconnected() -> None:
        host.notes.append("went")

    host.socketio.on("connect")(decorate(connected))
    host.socketio.on("disconnect")(decorate(disconnected))
    client = host.client(auth=auth)
    client.disconnect()
    assert host.notes == ["came", "went"]


@pytest.mark.parametrize("decorate", [wrapped, adding])
def test_decorated_handlers_get_what_came(host: Host, decorate: Any) -> None:
    """A decorator may pass on and add what it likes, for every kind of event."""
    for name in ("connect", "ask", "disconnect"):
        host.socketio.on(name)(decorate(lambda *args: host.notes.append(args)))
    client = host.client(auth="key")
    client.emit("ask", 1, 2)
    client.disconnect()
    first = ("added",) if decorate is adding else ()
    assert host.notes == [(*first, "key"), (*first, 1, 2), (*first, "client disconnect")]


def test_a_decorator_that_adds_what_the_handler_names(host: Host) -> None:
    """Not what the function takes counts, but what the decorator does."""
    host.socketio.on("connect")(adding(lambda extra, auth: host.notes.append((extra, auth))))
    host.socketio.on("ask")(adding(lambda extra, value: [extra, value]))
    assert answer(host.client(auth="key"), "ask", 1) == ["added", 1]
    assert host.notes == [("added", "key")]


def refusals(api: Any) -> dict[str, Callable[[], Any]]:
    """Ways in which a connect handler says no."""

    class Mine(api.ConnectionRefusedError):  # type: ignore[name-defined,misc]
        pass

    def raising(error: Exception) -> Callable[[], Any]:
        def connected() -> None:
            raise error

        return connected

    return {"false": lambda: False, "bare": raising(api.ConnectionRefusedError()),
            "reason": raising(api.ConnectionRefusedError("not today", {"until": 1})),
            "subclass": raising(Mine("mine")), "builtin": raising(builtins.ConnectionRefusedError("sockets say so"))}


@pytest.mark.parametrize("how", ["false", "bare", "reason", "subclass", "builtin"])
def test_a_connect_handler_refuses(host: Host, how: str) -> None:
    """By ``False``, or by ``ConnectionRefusedError``, the built-in one and subclasses too."""
    host.socketio.on("connect")(refusals(host.api)[how])
    client = host.client()
    assert not client.is_connected()
    with pytest.raises(RuntimeError, match="not connected"):
        client.get_received()


@pytest.mark.parametrize(("how", "reason"), [("false", None), ("bare", None), ("reason", ["not today", {"until": 1}]),
                                             ("subclass", "mine"), ("builtin", "Connection refused by server")])
def test_the_reason_of_a_refusal(site: Flask, socketio: SocketIO, how: str, reason: Any) -> None:
    """It reaches the client: nothing, one value, or several."""
    socketio.on("connect")(refusals(hakgal_hybrid.socketio)[how])
    told = site.test_client().post("/api/events/connect", json={})
    assert (told.status_code, told.json["code"], told.json["reason"]) == (403, "connection_refused", reason)
    assert socketio.transport.hub.clients() == []


@pytest.mark.parametrize("value", [None, True, 0, "", "no", []], ids=repr)
def test_any_other_verdict_lets_in(host: Host, value: Any) -> None:
    """Only ``False`` itself refuses."""
    host.socketio.on("connect")(lambda: value)
    assert host.client().is_connected()


def test_a_connect_handler_that_fails_keeps_the_client_out(
        site: Flask, socketio: SocketIO, caplog: pytest.LogCaptureFixture) -> None:
    """It is refused and the error is logged, over HTTP; no client remains."""
    socketio.on("connect")(lambda: 1 / 0)
    told = site.test_client().post("/api/events/connect", json={})
    assert (told.status_code, told.json["code"]) == (403, "connect_failed")
    assert socketio.transport.hub.clients() == []
    assert "ZeroDivisionError" in caplog.text


# -- errors ------------------------------------------------------------------------------------------------------


def test_error_handlers(host: Host) -> None:
    """The namespace's own gets its exceptions, the default one all others; what they return is the answer."""
    host.socketio.on_error()(lambda error: ["own", repr(error), flask.request.sid])
    host.socketio.on_error_default(lambda error: ["default", repr(error), event()["message"]])
    for namespace in ("/", "/other"):
        host.socketio.on("boom", namespace=namespace)(lambda *args: {}["nothing"])
    client = host.client()
    client.connect("/other")
    assert answer(client, "boom") == ["own", "KeyError('nothing')", host.sid(client)]
    assert answer(client, "boom", namespace="/other") == ["default", "KeyError('nothing')", "boom"]


def test_an_error_handler_may_fail_too(host: Host) -> None:
    """What it raises comes in place of what it got; it may raise the same again."""

    @host.socketio.on_error_default
    def failing(error: Exception) -> None:
        if isinstance(error, KeyError):
            raise error
        raise LookupError("worse")

    host.socketio.on("a")(lambda: {}["nothing"])
    host.socketio.on("b")(lambda: 1 / 0)
    client = host.client()
    with pytest.raises(KeyError, match="nothing"):
        client.emit("a")
    with pytest.raises(LookupError, match="worse"):
        client.emit("b")


def test_a_handler_that_hides_what_it_takes(host: Host) -> None:
    """It is called with what came: some built-in functions and types say nothing about themselves."""
    host.socketio.on("ask")(dict)
    assert answer(host.client(), "ask", [["a", 1]]) == {"a": 1}


def test_wrong_arguments_go_to_the_error_handler(host: Host) -> None:
    """They are a ``TypeError`` of the handler like any other."""
    host.socketio.on_error()(lambda error: isinstance(error, TypeError))
    host.socketio.on("one")(lambda only: only)
    assert answer(host.client(), "one", 1, 2) is True


@pytest.mark.parametrize(("verdict", "connected"), [(None, True), (False, False), ("fine", True)], ids=repr)
def test_the_error_handler_decides_about_a_connect_handler_that_fails(
        host: Host, verdict: Any, connected: bool) -> None:
    """What it returns is the verdict; a refusal is none of its business."""
    host.socketio.on_error_default(lambda error: host.notes.append(repr(error)) or verdict)
    host.socketio.on("connect")(lambda: 1 / int(flask.request.args["number"]))
    assert host.client(query_string="number=0").is_connected() is connected
    assert host.notes == ["ZeroDivisionError('division by zero')"]
    host.socketio.on("connect")(refusals(host.api)["reason"])
    assert not host.client().is_connected()
    assert len(host.notes) == 1


@pytest.mark.parametrize("what", [None, "text", 1])
def test_an_error_handler_can_be_called(host: Host, what: Any) -> None:
    """Anything else is refused as it is registered."""
    for register in (host.socketio.on_error("/a"), host.socketio.on_error_default):
        with pytest.raises(ValueError, match="exception_handler must be callable"):
            register(what)
    assert host.socketio.exception_handlers == {}
    assert host.socketio.default_exception_handler is None


def test_what_a_client_is_told_of_errors(site: Flask, socketio: SocketIO, caplog: pytest.LogCaptureFixture) -> None:
    """Over HTTP an exception is a 500 without its text, and logged; arguments that do not fit are a 422."""
    socketio.on("boom")(lambda: {}["the secret"])
    socketio.on("one")(lambda only: only)
    failed, unfit = post(site, "boom"), post(site, "one", 1, 2)
    assert (failed.status_code, failed.json["code"]) == (500, "handler_failed")
    assert "secret" not in failed.text
    assert "KeyError: 'the secret'" in caplog.text
    assert (unfit.status_code, unfit.json["code"]) == (422, "bad_arguments")
    assert "does not take 2 arguments" in unfit.json["detail"]


def test_an_error_of_ours_is_an_answer(site: Flask, socketio: SocketIO) -> None:
    """A handler may choose the status and code by raising one; but not by emitting what cannot be sent."""
    def choose() -> None:
        raise RequestError("no such room", status=404, code="no_room")

    socketio.on("choose")(choose)
    socketio.on("emit")(lambda: socketio.emit("told", object()))
    assert (post(site, "choose").status_code, post(site, "choose").json["code"]) == (404, "no_room")
    assert post(site, "emit").json["code"] == "handler_failed"


def test_a_disconnect_handler_that_fails_is_logged(
        site: Flask, socketio: SocketIO, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever ends the client is not disturbed by it, and neither is who comes next."""
    def leave() -> str:
        socketio.server.disconnect(flask.request.sid)  # type: ignore[attr-defined]
        return "went on"

    socketio.on("disconnect")(lambda: {}["the secret"])
    socketio.on("leave")(leave)
    client = socketio.transport.node.lifecycle.open_client({**site.test_request_context().request.environ}, "/")
    assert socketio.transport.node.lifecycle.dispatch(client, "leave", ()) == "went on"
    assert "KeyError: 'the secret'" in caplog.text


# -- in whose name -----------------------------------------------------------------------------------------------


def test_the_context_outlives_neither_handler_nor_error(site: Flask, socketio: SocketIO) -> None:
    """After an event there is no request context, whether the handler returned or raised."""
    socketio.on("fine")(lambda: None)
    socketio.on("boom")(lambda: 1 / 0)
    client = socketio.test_client(site)
    client.emit("fine")
    with pytest.raises(ZeroDivisionError):
        client.emit("boom")
    assert not flask.has_request_context()


def test_a_turn_is_handed_on_as_the_handler_begins(site: Flask, socketio: SocketIO) -> None:
    """What is to be called first is called right before the host's function, for functions and for classes."""
    order: list[str] = []

    class Chat(Namespace):
        def on_ask(self) -> None:
            order.append("method")

    socketio.on("ask")(lambda: order.append("function"))
    socketio.on_namespace(Chat("/chat"))
    for namespace in ("/", "/chat"):
        client = Client(site.test_request_context().request.environ, namespace)
        with calling_first(lambda: order.append("begin")):
            socketio.handlers.trigger(site, client, "ask", ())
        with calling_first(lambda: order.append("never")):
            assert socketio.handlers.trigger(site, client, "other", ()) in (NOT_HANDLED, None)
    assert order == ["begin", "function", "begin", "method"]


def test_handlers_of_one_client_see_each_its_own_request(site: Flask, socketio: SocketIO) -> None:
    """The body of the opening request is not there, and what one handler does to its environment others do not see."""
    @socketio.on("ask")
    def ask() -> Any:
        seen = flask.request.environ.get("mine")
        flask.request.environ["mine"] = True
        return [seen, flask.request.get_data().decode()]

    client = socketio.test_client(site)
    assert [answer(client, "ask") for _ in range(2)] == [[None, ""]] * 2


# -- sessions ----------------------------------------------------------------------------------------------------


def test_a_managed_session_is_the_clients_own(hosts: Hosts) -> None:
    """It begins as a copy of the opening request's, is shared by the client's handlers, and by nobody else."""
    host = hosts(manage_session=True)

    @host.app.get("/login")
    def login() -> str:
        flask.session["user"] = "Ann"
        return ""

    def counted(*args: Any) -> Any:
        flask.session["count"] = flask.session.get("count", 0) + 1
        host.notes.append(flask.session["count"])
        return [flask.session.get("user"), flask.session["count"]]

    for name in ("connect", "ask", "disconnect"):
        host.socketio.on(name)(counted)
    flask_client = host.app.test_client()
    flask_client.get("/login")
    client, other = host.client(flask_test_client=flask_client), host.client()
    assert answer(client, "ask") == ["Ann", 2]
    assert answer(client, "ask") == ["Ann", 3]
    assert answer(other, "ask") == [None, 2]
    client.disconnect()
    assert host.notes == [1, 1, 2, 3, 2, 4]
    assert host.socketio.manage_session is True
    saved = host.socketio.server.environ[other.eio_sid]["saved_session"]
    assert dict(saved) == {"count": 2}, "where tests of hosts look"


def test_who_manages_sessions_may_be_changed(host: Host) -> None:
    """As tests of hosts do: the next event goes by it."""
    host.socketio.on("count")(lambda: flask.session.setdefault("count", []).append(1) or len(flask.session["count"]))
    client = host.client()
    assert [answer(client, "count"), answer(client, "count")] == [1, 2]
    host.socketio.manage_session = False
    assert [answer(client, "count"), answer(client, "count")] == [1, 1]
    host.socketio.manage_session = True
    assert answer(client, "count") == 3


class Memory(SessionInterface):
    """A session interface that keeps sessions in memory by a header, and counts."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.saved = 0

    def open_session(self, app: Flask, request: Any) -> SecureCookieSession:
        return SecureCookieSession(self.kept.get(request.headers.get("X-Name", ""), {}))

    def save_session(self, app: Flask, session: Any, response: flask.Response) -> None:
        self.saved += 1
        self.kept[flask.request.headers.get("X-Name", "")] = dict(session)


def test_the_apps_own_session(hosts: Hosts) -> None:
    """With ``manage_session=False`` it is opened for each event, and saved if the handler changed it and succeeded."""
    host = hosts(manage_session=False)
    memory = host.app.session_interface = Memory()

    @host.app.get("/me")
    def me() -> Any:
        return {"user": flask.session.get("user")}

    @host.socketio.on("rename")
    def rename(name: str) -> Any:
        before = flask.session.get("user")
        flask.session["user"] = name
        return 1 / 0 if name == "boom" else before

    host.socketio.on("look")(lambda: flask.session.get("user"))
    host.socketio.on_error()(lambda error: "failed")
    client = host.client(headers={"X-Name": "a"})
    assert [answer(client, "rename", "Ann"), answer(client, "rename", "Bob")] == [[], "Ann"]
    assert (memory.kept, memory.saved) == ({"a": {"user": "Bob"}}, 2)
    assert answer(client, "look") == "Bob"
    assert answer(client, "rename", "boom") == "failed"
    assert (memory.kept, memory.saved) == ({"a": {"user": "Bob"}}, 2)
    assert host.app.test_client().get("/me", headers={"X-Name": "a"}).json == {"user": "Bob"}
    assert host.socketio.manage_session is False


def test_a_cookie_session_stays_as_it_was(hosts: Hosts) -> None:
    """With ``manage_session=False``, what a handler writes to a cookie has nowhere to go."""
    host = hosts(manage_session=False)

    @host.socketio.on("count")
    def count() -> Any:
        flask.session["count"] = flask.session.get("count", 0) + 1
        return flask.session["count"]

    client = host.client()
    assert [answer(client, "count"), answer(client, "count")] == [1, 1]


def test_a_refusal_keeps_its_cause(site: Flask) -> None:
    """What the client is told has the exception behind it, for whoever looks at it in the process."""
    def refuse() -> None:
        raise ConnectionRefusedError("a", "b")

    handlers, client = Handlers(), Client(site.test_request_context().request.environ, "/")
    handlers.register("connect", refuse)
    with pytest.raises(AccessDenied) as caught:
        handlers.connect(site, client)
    assert caught.value.extra["reason"] == ["a", "b"]
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
