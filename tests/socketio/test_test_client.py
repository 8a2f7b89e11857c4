"""The client for tests: what it gives is what Flask-SocketIO's gives, at once and completely."""

from __future__ import annotations

import threading
from typing import Any

import flask
import pytest
from flask import Flask
from support import parity
from support.parity import Host

from hakgal_hybrid import EventError, HybridTransport
from hakgal_hybrid.socketio import SocketIO, SocketIOTestClient

host, hosts = parity.host, parity.hosts


def received(*args: Any, name: str = "told", namespace: str = "/") -> dict[str, Any]:
    """One event as ``get_received`` gives it."""
    return {"name": name, "args": list(args), "namespace": namespace}


# -- events to the server ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "answer"),
    [(None, []), (1, 1), ("text", "text"), ([], []), ([1, 2], [1, 2]), ({"a": [1]}, {"a": [1]}), ((), []), ((1,), 1),
     ((1, "two"), [1, "two"]), (((1, 2),), [1, 2]), (False, False), (b"\x00\xff", b"\x00\xff"),
     ({"$binary": "AA=="}, {"$binary": "AA=="}), (("a", b"b"), ["a", b"b"])],
    ids=repr,
)
def test_emit_returns_the_answer(host: Host, returned: Any, answer: Any) -> None:
    """With ``callback=True`` the handler's value comes back: none, one, or several for a tuple; else nothing does."""
    host.socketio.on("ask")(lambda: returned)
    client = host.client()
    assert client.emit("ask", callback=True) == answer
    assert client.emit("ask") is None
    assert client.emit("ask", callback=False) is None


@pytest.mark.parametrize(
    "args", [(), (None,), (1,), ("a", "b"), ([1, [2]],), ({"a": None},), (b"bytes",), ({"deep": [b"\x00"]}, b"", 2.5)],
    ids=repr,
)
def test_arguments_arrive(host: Host, args: tuple[Any, ...]) -> None:
    """The handler gets as many arguments as were sent, as they were."""
    host.socketio.on("ask")(lambda *given: host.notes.append(given))
    host.client().emit("ask", *args)
    assert host.notes == [args]


def test_arguments_went_through_json(host: Host) -> None:
    """A tuple arrives as a list and a number as a key as text, on both ways, as it would from a browser."""
    host.socketio.on("ask")(lambda given: ({1: given},))
    assert host.client().emit("ask", (1, 2), callback=True) == {"1": [1, 2]}


def test_send_is_the_event_message_or_json(host: Host) -> None:
    """``send`` goes to the handlers of ``message`` and ``json``, and gives their answers."""
    host.socketio.on("message")(lambda text: f"text {text}")
    host.socketio.on("json")(lambda value: {"json": value})
    client = host.client()
    assert client.send("a", callback=True) == "text a"
    assert client.send({"b": 1}, json=True, callback=True) == {"json": {"b": 1}}
    assert client.send("a") is None


def test_what_nobody_handles_is_passed_over(host: Host) -> None:
    """An event without a handler has no answer and raises nothing."""
    client = host.client()
    assert client.emit("nobody", 1, callback=True) is None
    assert client.get_received() == []


def test_exceptions_of_handlers_reach_the_test(host: Host) -> None:
    """What a handler raises comes out of ``emit``; what it emitted before is there, and the client goes on."""

    @host.socketio.on("boom")
    def boom() -> None:
        host.api.emit("told", 1)
        raise LookupError("this handler fails")

    host.socketio.on("fine")(lambda: "fine")
    client = host.client()
    with pytest.raises(LookupError, match="this handler fails"):
        client.emit("boom", callback=True)
    assert client.get_received() == [received(1)]
    assert client.emit("fine", callback=True) == "fine"


def test_wrong_arguments_are_a_type_error(host: Host) -> None:
    """A handler that takes something else raises what Python raises."""
    host.socketio.on("one")(lambda only: only)
    with pytest.raises(TypeError):
        host.client().emit("one", 1, 2)


# -- events from the server --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "args"),
    [((), []), ((None,), []), (((None,),), [None]), ((1,), [1]), (((1, "two"),), [1, "two"]), ((([1, 2],),), [[1, 2]]),
     (([1, 2],), [[1, 2]]), (((),), []), ((b"\x00",), [b"\x00"]), (({"a": [b"b"]},), [{"a": [b"b"]}]), ((0,), [0]),
     (("",), [""])],
    ids=repr,
)
def test_received_arguments(host: Host, data: tuple[Any, ...], args: list[Any]) -> None:
    """None, one, several as a tuple; bytes are bytes."""
    client = host.client()
    host.socketio.emit("told", *data)
    assert client.get_received() == [received(*args)]


def test_message_and_json_give_their_first_argument(host: Host) -> None:
    """Of the two events of ``send``, ``args`` is what was sent and not a list."""
    client = host.client()
    host.socketio.send("text")
    host.socketio.send({"a": 1}, json=True)
    host.socketio.emit("message", ("first", "second"))
    assert client.get_received() == [{"name": "message", "args": "text", "namespace": "/"},
                                     {"name": "json", "args": {"a": 1}, "namespace": "/"},
                                     {"name": "message", "args": "first", "namespace": "/"}]


def test_received_once_and_in_order(host: Host) -> None:
    """``get_received`` gives everything since the last call, in order, whoever emitted it."""
    client = host.client()
    for number in range(3):
        host.socketio.emit("told", number)
    assert client.get_received() == [received(0), received(1), received(2)]
    assert client.get_received() == []
    thread = threading.Thread(target=host.socketio.emit, args=("told", 3))
    thread.start()
    thread.join()
    assert client.get_received() == [received(3)]


def test_each_client_gets_what_is_for_it(host: Host) -> None:
    """Everybody, one ``sid``, a room, several rooms once, all but some; not what was before its time."""
    host.socketio.emit("told", "before")
    one, two = host.client(), host.client()
    first, second = host.sid(one), host.sid(two)
    host.socketio.server.enter_room(first, "blue")
    host.socketio.server.enter_room(first, 7)
    for number, options in enumerate([{}, {"to": first}, {"room": "blue"}, {"to": ["blue", 7, second]},
                                      {"skip_sid": first}, {"skip_sid": [first, second]}, {"to": "nobody"},
                                      {"to": "blue", "skip_sid": first}, {"to": 7}, {"to": []}]):
        host.socketio.emit("told", number, **options)
    host.socketio.server.leave_room(first, "blue")
    host.socketio.emit("told", "left", to="blue")
    assert [item["args"][0] for item in one.get_received()] == [0, 1, 2, 3, 8, 9]
    assert [item["args"][0] for item in two.get_received()] == [0, 3, 4, 9]


def test_nothing_is_conflated() -> None:
    """Also of events of which a slow stream gets the newest only, a test sees every one."""
    app = Flask("conflate")
    socketio = SocketIO()
    HybridTransport(app, conflate=["kb_*"])
    socketio.init_app(app)
    client = socketio.test_client(app)
    for number in range(5):
        socketio.emit("kb_update", number)
    assert [item["args"] for item in client.get_received()] == [[number] for number in range(5)]


def test_what_the_log_has_dropped_is_said() -> None:
    """If the log could not keep what the client has not read, ``get_received`` says so, once; never silently."""
    app = Flask("small")
    socketio = SocketIO()
    HybridTransport(app, log_events=3)
    socketio.init_app(app)
    client = socketio.test_client(app)
    for _ in range(4):
        socketio.emit("told", to="somebody else")
    socketio.emit("told", 1)
    assert client.get_received() == [received(1)], "what was dropped was for nobody here"
    for number in range(4):
        socketio.emit("told", number)
    with pytest.raises(RuntimeError, match="HYBRID_LOG_EVENTS"):
        client.get_received()
    assert client.get_received() == [received(1), received(2), received(3)]


# -- coming and going --------------------------------------------------------------------------------------------


def test_coming_and_going(host: Host) -> None:
    """Both handlers have run when the call returns; a client that is not connected can do nothing."""
    host.socketio.on("connect")(lambda: host.notes.append("came"))
    host.socketio.on("disconnect")(host.notes.append)
    client = host.client()
    assert (client.is_connected(), client.is_connected("/"), client.is_connected("/other")) == (True, True, False)
    client.disconnect()
    assert host.notes == ["came", host.socketio.reason.CLIENT_DISCONNECT]
    assert not client.is_connected()
    for act in (client.get_received, client.disconnect, lambda: client.emit("x"), lambda: client.send("x"),
                lambda: client.get_received("/other")):
        with pytest.raises(RuntimeError, match="not connected"):
            act()
    client.connect()
    assert client.is_connected()
    assert host.notes[2:] == ["came"]


def test_what_came_before_it_went_is_kept(host: Host) -> None:
    """A client that comes back still has what it had not fetched, and nothing that was emitted while it was away."""
    client = host.client()
    host.socketio.emit("told", "before")
    client.disconnect()
    host.socketio.emit("told", "between")
    client.connect()
    host.socketio.emit("told", "after")
    assert client.get_received() == [received("before"), received("after")]


def test_connecting_twice_is_connecting_once(host: Host) -> None:
    """The second time, the handler does not run and the client stays who it is."""
    host.socketio.on("connect")(lambda: host.notes.append("came"))
    client = host.client()
    sid = host.sid(client)
    client.connect()
    assert client.is_connected()
    assert host.sid(client) == sid
    assert host.notes == ["came"]


def test_the_server_ends_a_client(host: Host) -> None:
    """By ``disconnect`` in a handler, of itself or of another; what it does afterwards is done."""
    host.socketio.on("disconnect")(lambda reason: host.notes.append((flask.request.sid, reason)))

    @host.socketio.on("leave")
    def leave() -> str:
        host.api.disconnect()
        host.notes.append("still here")
        host.api.emit("told", "nobody")
        return "left"

    host.socketio.on("kick")(host.api.disconnect)
    one, two = host.client(), host.client()
    first, second = host.sid(one), host.sid(two)
    assert one.emit("leave", callback=True) == "left"
    two.emit("kick", "nobody at all")
    assert (one.is_connected(), two.is_connected()) == (False, True)
    two.emit("kick", second)
    assert not two.is_connected()
    reason = host.socketio.reason.SERVER_DISCONNECT
    assert host.notes == [(first, reason), "still here", (second, reason)]


def test_a_client_in_several_namespaces(host: Host) -> None:
    """Each namespace is connected to, spoken in, received from and left by itself, under its own ``sid``."""
    for namespace in ("/", "/chat"):
        host.socketio.on("who", namespace=namespace)(lambda: [flask.request.sid, flask.request.namespace])
        host.socketio.on("disconnect", namespace=namespace)(lambda: host.notes.append(flask.request.namespace))
    client = host.client()
    client.connect("/chat")
    first, second = (client.emit("who", callback=True, namespace=space) for space in ("/", "/chat"))
    assert (first[1], second[1]) == ("/", "/chat")
    assert first[0] != second[0]
    assert [host.sid(client), host.sid(client, "/chat")] == [first[0], second[0]]
    host.socketio.emit("told", 1)
    host.socketio.emit("told", 2, namespace="/chat")
    host.socketio.emit("told", 3, namespace="/chat", to=first[0])
    assert client.get_received("/chat") == [received(2, namespace="/chat")]
    assert client.get_received() == [received(1)]
    client.disconnect()
    assert (client.is_connected(), client.is_connected("/chat")) == (False, True)
    client.disconnect("/chat")
    assert host.notes == ["/", "/chat"]


def test_a_namespace_that_nobody_serves(host: Host) -> None:
    """The client is not connected there, and no exception says so."""
    client = host.client("/nowhere")
    assert not client.is_connected("/nowhere")
    client.connect()
    assert client.is_connected()


def test_the_request_is_the_one_asked_for(host: Host) -> None:
    """Handlers see path, query, headers and auth that the test gave."""

    @host.socketio.on("connect")
    def connected(auth: Any) -> None:
        request = flask.request
        host.notes.append((auth, request.path, request.args.to_dict(), request.headers.get("X-Name")))

    host.client(query_string="a=1&b=2", headers={"X-Name": "Ann"}, auth={"token": (1, 2)})
    host.client(query_string="?a=3")
    assert host.notes == [({"token": [1, 2]}, "/socket.io", {"a": "1", "b": "2"}, "Ann"),
                          (None, "/socket.io", {"a": "3"}, None)]


def test_cookies_and_session_come_from_the_flask_client(host: Host) -> None:
    """With a Flask test client, handlers see its cookies and a copy of its session; it does not see what they write."""

    @host.app.get("/login")
    def login() -> str:
        flask.session["user"] = "Ann"
        return ""

    @host.app.get("/me")
    def me() -> Any:
        return flask.jsonify(dict(flask.session))

    @host.socketio.on("rename")
    def rename(name: str) -> Any:
        before = flask.session.get("user")
        flask.session["user"] = name
        return [before, flask.request.cookies.get("flavour"), flask.request.remote_addr]

    flask_client = host.app.test_client()
    flask_client.get("/login")
    flask_client.set_cookie("flavour", "plum")
    client = host.client(flask_test_client=flask_client, query_string="a=1", headers={"X-Name": "Ann"})
    assert client.emit("rename", "Bob", callback=True) == ["Ann", "plum", "127.0.0.1"]
    assert client.emit("rename", "Cid", callback=True) == ["Bob", "plum", "127.0.0.1"]
    assert flask_client.get("/me").get_json() == {"user": "Ann"}
    assert host.client().emit("rename", "Dee", callback=True)[:2] == [None, None]


def test_what_a_connect_handler_emits_is_received(host: Host) -> None:
    """Also to everybody: the newcomer is among them."""

    @host.socketio.on("connect")
    def connected() -> None:
        host.api.emit("told", "welcome")
        host.api.emit("told", "somebody came", broadcast=True)
        host.api.emit("told", "to the others", broadcast=True, include_self=False)

    one = host.client()
    assert one.get_received() == [received("welcome"), received("somebody came")]
    two = host.client()
    assert two.get_received() == [received("welcome"), received("somebody came")]
    assert one.get_received() == [received("somebody came"), received("to the others")]


def test_errors_of_connect_and_disconnect_handlers_reach_the_test(host: Host) -> None:
    """A connect handler that fails keeps the client out; both errors come out of the call that caused them."""
    host.socketio.on("connect")(lambda: 1 / int(flask.request.args["number"]))
    host.socketio.on("disconnect")(lambda: {}["nothing"])
    with pytest.raises(ZeroDivisionError):
        host.client(query_string="number=0")
    client = host.client(query_string="number=1")
    with pytest.raises(KeyError, match="nothing"):
        client.disconnect()


def test_what_json_has_no_form_for(host: Host) -> None:
    """Is a ``TypeError``, in arguments, answers and events; an answer that nobody asked for is not looked at."""
    host.socketio.on("odd")(object)
    client = host.client()
    for act in (lambda: client.emit("odd", object()), lambda: client.emit("odd", callback=True),
                lambda: host.socketio.emit("odd", object()), lambda: client.emit("odd", {"a": [{1, 2}]})):
        with pytest.raises(TypeError, match="not JSON serializable"):
            act()
    assert client.emit("odd") is None
    assert client.get_received() == []


def test_keywords_that_mean_nothing(host: Host) -> None:
    """Tests of hosts pass ``broadcast`` and the like to the client, which does not care."""
    host.socketio.on("ask")(lambda: "answer")
    assert host.client().emit("ask", broadcast=True, json=True, callback=True) == "answer"


# -- ours alone --------------------------------------------------------------------------------------------------


def test_nothing_is_left_behind() -> None:
    """Clients that are gone, or were refused, leave the hub as it was; so does their link."""
    app = Flask("left")
    socketio = SocketIO(app)
    socketio.on("connect")(lambda: "refuse" not in flask.request.args)
    hub = socketio.transport.hub
    client = socketio.test_client(app)
    assert not socketio.test_client(app, query_string="refuse=1").is_connected()
    assert [item.sid for item in hub.clients()] == [socketio.server.manager.sid_from_eio_sid(client.eio_sid, "/")]
    assert hub.sessions.open == 0, "no stream is open"
    client.disconnect()
    assert hub.clients() == []
    assert client.eio_sid is None


def test_the_disconnect_handler_runs_in_the_calling_thread() -> None:
    """Nothing is left to a thread, whoever ends the client."""
    app = Flask("threads")
    socketio = SocketIO(app)
    seen: list[threading.Thread] = []
    socketio.on("disconnect")(lambda: seen.append(threading.current_thread()))
    client = socketio.test_client(app)
    client.disconnect()
    client.connect()
    sid = next(item.sid for item in socketio.transport.hub.clients())
    socketio.server.disconnect(sid)
    assert seen == [threading.current_thread()] * 2


def test_what_json_cannot_hold_is_refused_on_every_way() -> None:
    """Our error says what it is about, also where python-socketio would let something pass that is no JSON."""
    app = Flask("json")
    socketio = SocketIO(app)
    socketio.on("odd")(object)
    client = socketio.test_client(app)
    for act in (lambda: client.emit("odd", object()), lambda: client.emit("odd", callback=True),
                lambda: socketio.emit("odd", object()), lambda: client.emit("odd", float("nan"))):
        with pytest.raises(EventError, match="cannot be sent as JSON") as caught:
            act()
        assert caught.value.code == "bad_payload"


def test_the_class_may_be_used_by_itself() -> None:
    """``SocketIOTestClient(app, socketio)`` is what ``socketio.test_client(app)`` makes."""
    app = Flask("itself")
    socketio = SocketIO(app)
    assert SocketIOTestClient(app, socketio).is_connected()
    assert type(socketio.test_client(app)) is SocketIOTestClient
