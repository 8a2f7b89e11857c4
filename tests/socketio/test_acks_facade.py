"""Acknowledgements as hosts use them: callbacks of ``emit`` and ``send``, and ``call``, which waits for an answer."""

from __future__ import annotations

import builtins
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import flask
import pytest
from flask import Flask
from support import parity
from support.hosts import Stream, call, serving
from support.parity import Host, event

from hakgal_hybrid import ConfigurationError, EventError, HybridError, HybridTransport, RequestError, signals
from hakgal_hybrid.broker.event import Event
from hakgal_hybrid.socketio import Namespace, SocketIO
from hakgal_hybrid.socketio import call as call_client

host, hosts = parity.host, parity.hosts
Hosts = Callable[..., Host]


def sid_of(socketio: SocketIO, client: Any, namespace: str = "/") -> str:
    """The ``sid`` of a test client."""
    return str(socketio.server.manager.sid_from_eio_sid(client.eio_sid, namespace))


@contextmanager
def answering(transport: HybridTransport, *args: Any) -> Iterator[list[Event]]:
    """Have every client that gets an event acknowledge it, before the emitter goes on. Gives those events."""
    events: list[Event] = []

    def answer(sender: Flask, event: Event, event_id: str) -> None:
        number = int(event_id.partition("-")[2])
        events.append(event)
        for client in transport.hub.clients():
            if event.ack is not None and client.is_for(number, event.target):
                transport.node.acks.answer(event.ack, client, list(args))

    with signals.event_emitted.connected_to(answer, sender=transport.app):
        yield events


# -- callbacks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [(), (None,), (1,), ("a", [1, 2]), ({"a": b"b"},)], ids=repr)
def test_a_callback_gets_what_was_answered(host: Host, args: tuple[Any, ...]) -> None:
    """It is called once, with as many values as the client gave."""
    client = host.client()
    host.socketio.emit("ask", 1, to=host.sid(client), callback=lambda *given: host.notes.append(given))
    assert client.get_received() == [{"name": "ask", "args": [1], "namespace": "/"}]
    assert host.notes == []
    host.acknowledge(client, *args)
    assert host.notes == [args]


def test_send_has_callbacks_too(host: Host) -> None:
    """Of ``message`` and of ``json``, from anywhere and from handlers."""
    host.socketio.on("say")(lambda: host.api.send("b", callback=lambda *args: host.notes.append(["handler", *args])))
    client = host.client()
    host.socketio.send({"a": 1}, json=True, to=host.sid(client), callback=lambda *args: host.notes.append(args))
    host.acknowledge(client, 1)
    client.emit("say")
    host.acknowledge(client, 2)
    assert host.notes == [(1,), ["handler", 2]]


def test_a_callback_from_a_handler_runs_as_the_handlers_client(host: Host) -> None:
    """In a request context of the client whose event was handled, with its session, whoever acknowledges."""

    @host.socketio.on("ask")
    def ask(sid: str) -> None:
        flask.session["asked"] = flask.session.get("asked", 0) + 1

        def answered(*args: Any) -> None:
            told = event()
            host.notes.append([told["message"], told["args"], list(args), flask.session["asked"],
                               flask.request.sid, flask.request.args["who"]])  # type: ignore[attr-defined]
            flask.session["asked"] += 10
            host.api.emit("told", len(args))

        host.api.emit("question", to=sid, callback=answered)

    one, two = host.client(query_string="who=one"), host.client(query_string="who=two")
    for count in (1, 12):
        one.emit("ask", host.sid(two))
        host.acknowledge(two, "x", "y")
        assert host.notes.pop() == [None, ["x", "y"], ["x", "y"], count, host.sid(one), "one"]
    assert one.get_received() == [{"name": "told", "args": [2], "namespace": "/"}] * 2


def test_a_callback_from_elsewhere_runs_plainly(host: Host) -> None:
    """Outside a handler there is no client whose context it could have; nor in an ordinary request."""
    client = host.client()
    sid = host.sid(client)

    def emit() -> str:
        host.socketio.emit("ask", to=sid, callback=lambda: host.notes.append(flask.has_request_context()))
        return ""

    emit()
    host.acknowledge(client)
    host.app.add_url_rule("/ask", "ask", emit)
    host.app.test_client().get("/ask")
    host.acknowledge(client)
    assert host.notes == [False, False]


def test_a_callback_for_somebody_gone_is_not_called(host: Host) -> None:
    """Who asked is over when the answer comes: its session is gone, and nobody waits."""

    @host.socketio.on("ask")
    def ask(sid: str) -> None:
        host.api.emit("question", to=sid, callback=lambda: host.notes.append("called"))

    one, two = host.client(), host.client()
    one.emit("ask", host.sid(two))
    one.disconnect()
    host.acknowledge(two)
    assert host.notes == []


def test_errors_of_callbacks_go_to_the_error_handler(host: Host) -> None:
    """Those of a handler's callbacks, as those of handlers do."""
    host.socketio.on_error()(lambda error: host.notes.append(repr(error)))
    host.socketio.on("ask")(lambda: host.api.emit("question", callback=lambda: {}["nothing"]))
    client = host.client()
    client.emit("ask")
    host.acknowledge(client)
    assert host.notes == ["KeyError('nothing')"]


def test_no_callback_no_acknowledgement(host: Host) -> None:
    """``callback=None`` is none: nothing is expected."""
    host.socketio.on("ask")(lambda: host.api.emit("told", 1, callback=None))
    client = host.client()
    client.emit("ask")
    host.socketio.emit("told", 2, callback=None)
    assert [item["args"] for item in client.get_received()] == [[1], [2]]
    if host.ours:
        assert len(host.socketio.transport.node.acks) == 0


def test_every_client_of_a_group_may_answer(site: Flask, socketio: SocketIO) -> None:
    """An event for several is acknowledged by each once; one that nobody expects is refused."""
    answers: list[Any] = []
    clients = [socketio.test_client(site) for _ in range(3)]
    socketio.server.enter_room(sid_of(socketio, clients[0]), "blue")
    socketio.server.enter_room(sid_of(socketio, clients[1]), "blue")
    with answering(socketio.transport, "yes") as events:
        socketio.emit("ask", to="blue", callback=answers.append)
        socketio.emit("ask", callback=answers.append)
    assert answers == ["yes"] * 5
    with pytest.raises(RequestError) as caught:
        socketio.transport.node.acks.answer(events[0].ack, socketio.transport.hub.clients()[0], [])
    assert caught.value.code == "unknown_ack"


def test_an_event_that_cannot_be_sent_expects_nothing(site: Flask, socketio: SocketIO) -> None:
    """Its callback is not kept."""
    with pytest.raises(EventError):
        socketio.emit("ask", object(), callback=print)
    assert len(socketio.transport.node.acks) == 0


def test_a_callback_for_a_caller_without_a_stream(site: Flask, socketio: SocketIO) -> None:
    """Its handler may ask somebody who is there; the callback runs in the caller's context."""
    seen: list[Any] = []
    asked = socketio.test_client(site)

    @socketio.on("ask")
    def ask() -> None:
        socketio.emit("question", to=sid_of(socketio, asked), callback=lambda *args: seen.append(
            [flask.request.args["who"], *args]))

    with answering(socketio.transport, 1):
        site.test_client().post("/api/events/emit?who=nobody", json={"event": "ask"})
    assert seen == [["nobody", 1]]


def test_a_real_client_acknowledges(site: Flask, socketio: SocketIO) -> None:
    """Over HTTP: the event carries an id, the answer comes back under it, once."""
    done = threading.Event()
    answers: list[Any] = []

    @socketio.on("ask")
    def ask() -> None:
        def answered(*args: Any) -> None:
            answers.append([flask.request.sid, *args])  # type: ignore[attr-defined]
            done.set()

        socketio.emit("question", 1, to=flask.request.sid, callback=answered)  # type: ignore[attr-defined]

    with serving(socketio, site) as port, Stream(port) as stream:
        who = {"sid": stream.open["sid"]}
        head = {"X-Hybrid-Token": stream.open["token"]}
        assert call(port, "POST", "/api/events/emit", {"event": "ask", **who}, head).status == 200
        stream.first("question")
        ack = [entry.event.ack for entry in socketio.transport.log.since(0)[1] if entry.event.ack][-1]
        body = {"ack": ack, "args": ["yes", {"$binary": "AA=="}], **who}
        assert call(port, "POST", "/api/events/ack", body, head).status == 200
        assert done.wait(30)
        assert answers == [[who["sid"], "yes", b"\x00"]]
        assert call(port, "POST", "/api/events/ack", body, head).status == 404


# -- call --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("args", "result"), [((), None), ((None,), None), ((1,), 1), (([1, 2],), [1, 2]),
                                              ((1, "two"), (1, "two"))], ids=repr)
def test_call_returns_the_answer(site: Flask, socketio: SocketIO, args: tuple[Any, ...], result: Any) -> None:
    """``None``, the value, or a tuple of several."""
    sid = sid_of(socketio, socketio.test_client(site))
    with answering(socketio.transport, *args) as events:
        assert socketio.call("ask", {"a": 1}, to=sid) == result
        assert socketio.call("ask", (1, 2), room=sid, timeout=30) == result
        assert socketio.call("ask", sid=sid, ignore_queue=True) == result
        assert socketio.server.call("ask", 1, sid) == result
        assert socketio.server.call("ask", data=1, sid=sid, timeout=None) == result
    assert [item.args_text for item in events] == ['[{"a":1}]', "[1,2]", "[]", "[1]", "[1]"]


def test_call_waits_until_the_answer_comes(site: Flask, socketio: SocketIO) -> None:
    """From a thread of its own, for as long as it takes."""
    client = socketio.test_client(site)
    sid, result = sid_of(socketio, client), []
    emitted = threading.Event()

    def note(sender: Flask, event: Event, event_id: str) -> None:
        emitted.set()

    with signals.event_emitted.connected_to(note, sender=site):
        thread = socketio.start_background_task(lambda: result.append(socketio.call("ask", 1, to=sid, timeout=30)))
        assert emitted.wait(30)
    assert thread.is_alive()
    [ack] = [entry.event.ack for entry in socketio.transport.log.since(0)[1]]
    socketio.transport.node.acks.answer(ack, socketio.transport.hub.clients()[0], ["at last"])
    thread.join(30)
    assert result == ["at last"]


def test_call_gives_up(site: Flask, socketio: SocketIO) -> None:
    """After ``timeout`` seconds, whether the client is silent or not there, by Python's ``TimeoutError``."""
    sid = sid_of(socketio, socketio.test_client(site))
    for whom in (sid, "nobody"):
        with pytest.raises(TimeoutError, match=r"'ask' within 0\.01 s"):
            socketio.call("ask", to=whom, timeout=0.01)


def test_call_gives_up_as_python_socketio_does(site: Flask, socketio: SocketIO) -> None:
    """A host that knows its ``TimeoutError`` can catch that."""
    exceptions = pytest.importorskip("socketio.exceptions")
    with pytest.raises(exceptions.TimeoutError) as caught:
        socketio.call("ask", to="nobody", timeout=0)
    assert isinstance(caught.value, builtins.TimeoutError)


def test_call_does_without_python_socketio() -> None:
    """In a process that has not imported it, it is not imported, and the error is Python's alone."""
    script = ("import sys; from hakgal_hybrid.socketio.ack_wait import timeout_error; "
              "assert timeout_error() is TimeoutError; assert 'socketio' not in sys.modules")
    subprocess.run([sys.executable, "-c", script], check=True)


def test_call_needs_somebody_to_call(socketio: SocketIO) -> None:
    """Everybody cannot be waited for."""
    for act in (lambda: socketio.call("ask"), lambda: socketio.call("ask", 1, to=None, room=""),
                lambda: socketio.server.call("ask")):
        with pytest.raises(ValueError, match="needs to= or sid="):
            act()
    assert socketio.transport.log.newest == 0


def test_call_inside_a_request_is_refused(site: Flask, socketio: SocketIO, caplog: pytest.LogCaptureFixture) -> None:
    """A thread of the host would wait for somebody's browser: the error says what to do instead, nothing is emitted."""
    sid = sid_of(socketio, socketio.test_client(site))
    socketio.on("ask")(lambda: call_client("question", 1))
    site.add_url_rule("/ask", "ask", lambda: {"answer": socketio.call("question", to=sid)})
    client = socketio.test_client(site)
    for act in (lambda: client.emit("ask"), lambda: site.test_client().get("/ask", base_url="http://x")):
        site.testing = True
        with pytest.raises(EventError, match="HYBRID_ALLOW_BLOCKING_CALL") as caught:
            act()
        assert caught.value.code == "blocking_call"
        assert isinstance(caught.value, HybridError)
    posted = site.test_client().post("/api/events/emit", json={"event": "ask"})
    assert (posted.status_code, posted.json["code"]) == (500, "handler_failed")
    assert "HYBRID_ALLOW_BLOCKING_CALL" in caplog.text
    assert socketio.transport.log.newest == 0


def test_call_inside_a_request_may_be_allowed(site: Flask) -> None:
    """With ``HYBRID_ALLOW_BLOCKING_CALL``, a handler may ask its own client, or another, and wait."""
    site.config["HYBRID_ALLOW_BLOCKING_CALL"] = True
    socketio = SocketIO(site)
    client = socketio.test_client(site)
    socketio.on("ask")(lambda: [call_client("question", 1), call_client("question", room=flask.request.sid),  # type: ignore[attr-defined]
                                call_client("question", 2, timeout=5, namespace="/", ignore_queue=True)])
    with answering(socketio.transport, "yes") as events:
        assert client.emit("ask", callback=True) == ["yes", "yes", "yes"]
    assert [item.args_text for item in events] == ["[1]", "[]", "[2]"]
    assert {room for item in events for room in item.target.rooms or ()} == {sid_of(socketio, client)}
    assert [item["name"] for item in client.get_received()] == ["question"] * 3


def test_a_class_calls_in_its_namespace(site: Flask, socketio: SocketIO) -> None:
    """``Namespace.call`` means its own namespace, and waits for ever unless told otherwise."""
    chat = Namespace("/chat")
    socketio.on_namespace(chat)
    client = socketio.test_client(site, "/chat")
    sid = sid_of(socketio, client, "/chat")
    with answering(socketio.transport, 1):
        assert chat.call("ask", {"a": 1}, to=sid) == 1
        assert chat.call("ask", sid=sid, timeout=30) == 1
    with pytest.raises(TimeoutError):
        chat.call("ask", to=sid, namespace="/", timeout=0)
    assert [item["args"] for item in client.get_received("/chat")] == [[{"a": 1}], []]


def test_call_before_there_is_an_app() -> None:
    """It says what is missing."""
    with pytest.raises(ConfigurationError, match="init_app"):
        SocketIO().call("ask", to="somebody")
