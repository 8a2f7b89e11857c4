"""Class-based namespaces: ours on our facade, Flask-SocketIO's on ours, and Flask-SocketIO's on itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask
import pytest
from flask import Flask
from support import parity
from support.parity import Host, event

from hakgal_hybrid.socketio import Namespace, SocketIO

host, hosts = parity.host, parity.hosts
Hosts = Callable[..., Host]


def answer(client: Any, name: str, *args: Any) -> Any:
    """What the class at ``/chat`` answers."""
    return client.emit(name, *args, callback=True, namespace="/chat")


def chat(host: Host, **methods: Any) -> Any:
    """Register an instance of a class with these methods at ``/chat``; return it."""
    instance = type("Chat", (host.api.Namespace,), methods)("/chat")
    host.socketio.on_namespace(instance)
    return instance


def names(client: Any, namespace: str = "/chat") -> list[Any]:
    """The names and arguments of what a client received."""
    return [(item["name"], item["args"]) for item in client.get_received(namespace)]


def test_methods_handle_what_comes(host: Host) -> None:
    """``on_connect``, ``on_disconnect`` and ``on_<event>`` run in the client's request context."""

    def told(self: Any, *args: Any) -> Any:
        message = event()
        host.notes.append([flask.request.namespace, message["message"], *args])
        assert flask.request.sid  # type: ignore[attr-defined]
        assert self.namespace == "/chat"
        return len(args)

    chat(host, on_connect=told, on_disconnect=told, on_say=told, on_message=told)
    client = host.client("/chat", auth="key")
    assert answer(client, "say", 1, 2) == 2
    assert client.send("text", callback=True, namespace="/chat") == 1
    client.disconnect("/chat")
    assert host.notes == [["/chat", "connect", "key"], ["/chat", "say", 1, 2], ["/chat", "message", "text"],
                          ["/chat", "disconnect", "client disconnect"]]


def test_methods_may_leave_out_what_they_do_not_need(host: Host) -> None:
    """``on_connect(self)`` and ``on_disconnect(self)`` do, with auth and without."""
    chat(host, on_connect=lambda self: host.notes.append("came"), on_disconnect=lambda self: host.notes.append("went"))
    for auth in (None, "key"):
        host.client("/chat", auth=auth).disconnect("/chat")
    assert host.notes == ["came", "went"] * 2


def test_what_no_method_handles_has_an_empty_answer(host: Host) -> None:
    """The class takes what comes, even if it does nothing with it; so nobody else gets it."""
    chat(host)
    client = host.client("/chat")
    assert client.is_connected("/chat")
    assert answer(client, "nothing", 1) == []
    client.disconnect("/chat")


def test_a_function_comes_before_a_method(host: Host) -> None:
    """Where both are registered for one event, the function runs."""
    chat(host, on_say=lambda self: "method", on_more=lambda self: "method")
    host.socketio.on("say", namespace="/chat")(lambda: "function")
    client = host.client("/chat")
    assert [answer(client, "say"), answer(client, "more")] == ["function", "method"]


def test_the_default_namespace(host: Host) -> None:
    """Without a name the class is for ``/``; ``None`` and an empty one mean the same."""
    instance = type("Plain", (host.api.Namespace,), {"on_say": lambda self: "said"})()
    host.socketio.on_namespace(instance)
    assert instance.namespace == "/"
    assert host.client().emit("say", callback=True) == "said"
    assert {host.api.Namespace(name).namespace for name in (None, "", "/")} == {"/"}


def test_it_knows_whose_it_is(host: Host) -> None:
    """``socketio`` and ``server`` are there from the moment it is registered."""
    instance = chat(host)
    assert instance.socketio is host.socketio
    assert instance.server is host.socketio.server
    assert instance.is_asyncio_based() is False


@pytest.mark.parametrize("what", [None, "Chat", object(), type("Chat", (Namespace,), {})],
                         ids=["none", "name", "object", "class"])
def test_only_instances_are_registered(host: Host, what: Any) -> None:
    """A class, a name or anything else is refused as it is registered."""
    with pytest.raises(ValueError, match="namespace instance"):
        host.socketio.on_namespace(what)


def test_a_refusal_by_a_method(host: Host) -> None:
    """``on_connect`` may return ``False`` or raise ``ConnectionRefusedError``."""

    def on_connect(self: Any, auth: Any) -> bool:
        if auth == "raise":
            raise host.api.ConnectionRefusedError("not you")
        return bool(auth != "refuse")

    chat(host, on_connect=on_connect)
    assert [host.client("/chat", auth=auth).is_connected("/chat") for auth in ("raise", "refuse", "key")] == [
        False, False, True]


def test_errors_of_methods(host: Host) -> None:
    """First the error handlers of the ``SocketIO``; what they have not got, the method ``error``; else the caller."""
    instance = chat(host, on_boom=lambda self: {}["nothing"], on_connect=lambda self: 1 / int(flask.request.args["n"]))
    client = host.client("/chat", query_string="n=1")
    with pytest.raises(KeyError, match="nothing"):
        client.emit("boom", namespace="/chat")
    type(instance).error = lambda self, error: ["error", repr(error)]
    assert answer(client, "boom") == ["error", "KeyError('nothing')"]
    assert host.client("/chat", query_string="n=0").is_connected("/chat"), "its verdict is not False"
    host.socketio.on_error("/chat")(lambda error: ["on_error", repr(error)])
    assert answer(client, "boom") == ["on_error", "KeyError('nothing')"]


def test_trigger_event_may_be_overridden(host: Host) -> None:
    """It gets the event, the ``sid`` and what came; whether it calls the one of the base class is its own business."""

    class Router(host.api.Namespace):  # type: ignore[misc]
        def trigger_event(self, event: str, sid: str, *args: Any) -> Any:
            shown = [arg if not isinstance(arg, dict) else sorted(set(arg) & {"REQUEST_METHOD"}) for arg in args]
            host.notes.append([event, *shown, flask.has_request_context()])
            if event == "own":
                return sid
            return super().trigger_event(event.replace("-", "_"), sid, *args)

        def on_two_words(self, value: Any) -> Any:
            return [event(), value]

    host.socketio.on_namespace(Router("/chat"))
    client = host.client("/chat", auth="key")
    assert answer(client, "own") == host.sid(client, "/chat")
    assert answer(client, "two-words", 1) == [{"message": "two_words", "args": [1]}, 1]
    client.disconnect("/chat")
    assert host.notes == [["connect", ["REQUEST_METHOD"], "key", False], ["own", False], ["two-words", 1, False],
                          ["disconnect", "client disconnect", False]]


def test_an_older_trigger_event(host: Host) -> None:
    """One that knows no auth is called without, if there is none."""

    class Router(host.api.Namespace):  # type: ignore[misc]
        def trigger_event(self, event: str, sid: str, *environ: Any) -> Any:
            if event == "connect":
                return self.connected(sid, *environ)
            return None

        def connected(self, sid: str, environ: Any, auth: Any = None) -> None:
            host.notes.append(auth)

    host.socketio.on_namespace(Router("/chat"))
    assert host.client("/chat").is_connected("/chat")
    assert host.notes == [None]


def test_it_emits_in_its_own_namespace(host: Host) -> None:
    """``emit`` and ``send`` go to everybody there, to a room, without the caller; or to another namespace."""

    def on_say(self: Any) -> None:
        self.emit("told", 1)
        self.emit("told", (2, 3))
        self.emit("told", 4, room=flask.request.sid)  # type: ignore[attr-defined]
        self.emit("told", 5, include_self=False)
        self.emit("told", 6, namespace="/")
        self.send("text")
        self.send("to others", include_self=False)
        self.send("elsewhere", namespace="/")
        self.emit("none")

    chat(host, on_say=on_say)
    one, two = host.client("/chat"), host.client("/chat")
    one.connect()
    one.emit("say", namespace="/chat")
    assert names(one) == [("told", [1]), ("told", [2, 3]), ("told", [4]), ("message", "text"), ("none", [])]
    assert names(two) == [("told", [1]), ("told", [2, 3]), ("told", [5]), ("message", "text"),
                          ("message", "to others"), ("none", [])]
    assert names(one, "/") == [("told", [6]), ("message", "elsewhere")]


def test_it_manages_rooms(host: Host) -> None:
    """``enter_room``, ``leave_room``, ``close_room`` and ``rooms`` mean its own namespace; so do the functions."""

    def on_join(self: Any, room: str) -> Any:
        self.enter_room(flask.request.sid, room)  # type: ignore[attr-defined]
        host.api.join_room(room + "!")
        return sorted(set(self.rooms(flask.request.sid)) - {flask.request.sid})  # type: ignore[attr-defined]

    def on_leave(self: Any, room: str) -> Any:
        self.leave_room(flask.request.sid, room)  # type: ignore[attr-defined]
        return sorted(set(host.api.rooms()) - {flask.request.sid})  # type: ignore[attr-defined]

    instance = chat(host, on_join=on_join, on_leave=on_leave)
    one, two = host.client("/chat"), host.client("/chat")
    assert answer(one, "join", "blue") == ["blue", "blue!"]
    assert answer(two, "join", "blue") == ["blue", "blue!"]
    instance.emit("told", 1, room="blue")
    assert answer(two, "leave", "blue") == ["blue!"]
    instance.emit("told", 2, room="blue")
    instance.close_room("blue")
    instance.emit("told", 3, room="blue")
    host.socketio.emit("told", 4, room="blue!")
    assert names(one) == [("told", [1]), ("told", [2])]
    assert names(two) == [("told", [1])]


def test_it_ends_clients(host: Host) -> None:
    """``disconnect`` ends a client of its namespace, at once."""
    chat(host, on_leave=lambda self: self.disconnect(flask.request.sid),  # type: ignore[attr-defined]
         on_disconnect=lambda self, reason: host.notes.append(reason))
    client = host.client("/chat")
    client.connect()
    client.emit("leave", namespace="/chat")
    assert (client.is_connected("/chat"), client.is_connected()) == (False, True)
    assert host.notes == [host.socketio.reason.SERVER_DISCONNECT]


def test_callbacks_of_its_events(host: Host) -> None:
    """They run as the client whose event was being handled."""
    chat(host, on_ask=lambda self: self.emit(
        "question", room=flask.request.sid,  # type: ignore[attr-defined]
        callback=lambda *args: host.notes.append([*args, flask.request.namespace])))  # type: ignore[attr-defined]
    client = host.client("/chat")
    client.emit("ask", namespace="/chat")
    host.acknowledge(client, "yes", 1, namespace="/chat")
    assert host.notes == [["yes", 1, "/chat"]]


# -- ours alone: what Flask-SocketIO's test client, or Flask-SocketIO, cannot do -----------------------------------


def bases() -> list[Any]:
    """Our class, and Flask-SocketIO's if it is installed."""
    try:
        import flask_socketio
    except ImportError:
        return [Namespace]
    return [Namespace, flask_socketio.Namespace]


@pytest.mark.parametrize("base", bases(), ids=lambda base: str(base.__module__))
def test_it_keeps_something_for_a_client(site: Flask, base: Any) -> None:
    """``get_session``, ``save_session`` and ``session`` are a dict of the client, apart from ``flask.session``."""
    socketio = SocketIO(site)

    class Chat(base):  # type: ignore[misc]
        def on_count(self) -> Any:
            sid = flask.request.sid  # type: ignore[attr-defined]
            with self.session(sid) as kept:
                kept["count"] = kept.get("count", 0) + 1
            return self.get_session(sid)

        def on_set(self, value: Any) -> None:
            self.save_session(flask.request.sid, {"count": value})  # type: ignore[attr-defined]

    socketio.on_namespace(Chat("/chat"))
    one, two = (socketio.test_client(site, "/chat") for _ in range(2))
    assert [answer(one, "count"), answer(one, "count"), answer(two, "count")] == [
        {"count": 1}, {"count": 2}, {"count": 1}]
    one.emit("set", 10, namespace="/chat")
    assert answer(one, "count") == {"count": 11}
    with pytest.raises(KeyError, match="not connected"):
        socketio.handlers.classes["/chat"].get_session("nobody")  # type: ignore[attr-defined]


@pytest.mark.parametrize("base", bases(), ids=lambda base: str(base.__module__))
def test_a_class_for_all_namespaces(site: Flask, base: Any) -> None:
    """It gets what nobody else does, wherever that is. (Flask-SocketIO 5.7 takes the namespace for the ``sid``.)"""
    socketio = SocketIO(site, namespaces="*")
    triggered: list[Any] = []

    class Any_(base):  # type: ignore[misc]
        def trigger_event(self, event: str, namespace: str, sid: str, *args: Any) -> Any:
            triggered.append((event, namespace))
            return super().trigger_event(event, namespace, sid, *args)

        def on_connect(self, auth: Any) -> Any:
            return auth != "refuse"

        def on_say(self, *args: Any) -> Any:
            return [flask.request.namespace, *args]  # type: ignore[attr-defined]

    socketio.on_namespace(Any_("*"))
    socketio.on_namespace(type("Own", (base,), {"on_say": lambda self: "own"})("/own"))
    client = socketio.test_client(site, "/any")
    client.connect("/own")
    assert client.emit("say", 1, callback=True, namespace="/any") == ["/any", 1]
    assert client.emit("say", callback=True, namespace="/own") == "own"
    client.disconnect("/any")
    assert triggered == [("connect", "/any"), ("say", "/any"), ("disconnect", "/any")]
    assert not socketio.test_client(site, "/more", auth="refuse").is_connected("/more")


@pytest.mark.parametrize("base", bases(), ids=lambda base: str(base.__module__))
def test_it_may_be_registered_early(site: Flask, base: Any) -> None:
    """Before there is an app, and it goes along when the same object serves another one."""
    socketio = SocketIO()
    instance = type("Chat", (base,), {"on_say": lambda self: self.socketio.transport.app.name})("/chat")
    socketio.on_namespace(instance)
    for app in (site, Flask("next")):
        socketio.init_app(app)
        client = socketio.test_client(app, "/chat")
        assert answer(client, "say") == app.name
        instance.emit("told", 1)
        assert names(client) == [("told", [1])]


def test_an_event_of_somebody_unknown_is_passed_over(site: Flask) -> None:
    """As with Flask-SocketIO, a method is not called for a ``sid`` that is not there."""
    socketio = SocketIO(site)
    instance = type("Chat", (Namespace,), {"on_say": lambda self: "said"})("/chat")
    socketio.on_namespace(instance)
    assert instance.trigger_event("say", "nobody") == ("", 400)


def test_a_caller_without_a_stream_is_served_too(site: Flask) -> None:
    """An event that is posted without a ``sid`` reaches the method, in whose context the caller is somebody."""
    socketio = SocketIO(site)
    chat_class = type("Chat", (Namespace,), {"on_say": lambda self, text: self.emit(
        "told", text, room=flask.request.sid)})  # type: ignore[attr-defined]
    socketio.on_namespace(chat_class("/chat"))
    told = site.test_client().post("/api/events/emit", json={"event": "say", "args": ["a"], "namespace": "/chat"})
    assert [item["data"] for item in told.json["events"]] == ["a"]
