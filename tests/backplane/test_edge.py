"""Edges: they serve streams of the shared log, and have hosts decide who may connect, and run the handlers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from support.redis_server import RedisServer
from support.shared_apps import SOON, App, Host, until
from werkzeug.test import TestResponse

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.errors import ConfigurationError
from hakgal_hybrid.host.edge import create_app
from hakgal_hybrid.socketio import ConnectionRefusedError, close_room, disconnect, emit, join_room, leave_room, rooms
from hakgal_hybrid.testing import TestStream
from hakgal_hybrid.web.probes import unready


class Edge(App):
    """An edge of the hosts that the tests have."""

    def __init__(self, server: RedisServer, **settings: Any) -> None:
        self.flask = create_app(backplane=server.url, backplane_name="shared", flush_s=0,
                                **{"queue_s": 20, **settings})
        self.transport = HybridTransport.of(self.flask)

    def refusal(self, **options: Any) -> dict[str, Any]:
        """Return the problem with which a stream was refused."""
        answer = self.flask.test_client().get("/api/events/stream", **options)
        found = answer.get_json()
        assert isinstance(found, dict), answer
        return found

    def post(self, path: str, stream: TestStream, **body: Any) -> TestResponse:
        return self.flask.test_client().post(f"/api/events/{path}", json={"sid": stream.open["sid"], **body},
                                             headers={"X-Hybrid-Token": stream.open["token"]})


def serving(app: App) -> App:
    """Begin, and wait until the log takes something."""
    app.transport.node.begin()
    backplane = app.transport.node.backplane
    assert backplane is not None
    until(lambda: backplane.position() is not None)
    return app


@pytest.fixture
def host(redis_server: RedisServer) -> Iterator[Host]:
    found = Host(redis_server)
    found.socketio.on_event("settled", lambda: None)
    serving(found)
    found.socketio.emit("first")
    until(lambda: found.transport.log.newest)  # a new log takes nothing for two seconds
    yield found
    found.stop()


@pytest.fixture
def edge(redis_server: RedisServer, host: Host) -> Iterator[Edge]:
    found = Edge(redis_server)
    serving(found)
    yield found
    found.stop()


def data(stream: TestStream, name: str) -> Any:
    return stream.json(stream.until(name))


def test_events_of_hosts_come_to_clients_of_edges(host: Host, edge: Edge) -> None:
    """What a host emits comes to everybody, to rooms that its handlers have put clients into, and to one of them."""
    sids: list[str] = []

    @host.socketio.on("connect")
    def connect(auth: Any) -> None:
        sids.append(flask.request.sid)  # type: ignore[attr-defined]
        join_room("all")
        emit("welcome", flask.request.args["who"])

    one, other = edge.open(who="one"), edge.open(who="other")
    assert (data(one, "welcome"), data(other, "welcome")) == ("one", "other")
    assert sids == [one.open["sid"], other.open["sid"]]
    host.socketio.emit("everybody", 1)
    host.socketio.emit("room", 2, to="all")
    host.socketio.emit("alone", 3, to=sids[1])
    host.socketio.emit("last", 4)
    assert [(message.event, message.data) for message in (one.next(), one.next(), one.next())] == [
        ("everybody", "1"), ("room", "2"), ("last", "4")]
    assert [data(other, name) for name in ("everybody", "room", "alone", "last")] == [1, 2, 3, 4]


def test_a_client_that_the_host_refuses_is_not_let_in(host: Host, edge: Edge) -> None:
    """A connect handler that refuses, one that fails, and a namespace that is not there are what they are at a host."""
    @host.socketio.on("connect")
    def connect(auth: Any) -> bool:
        if flask.request.args.get("who") == "thief":
            raise ConnectionRefusedError("not you", {"why": 1})
        return flask.request.args.get("who") != "nobody"

    host.transport.node.lifecycle.namespaces = frozenset(["/"])
    assert edge.refusal(query_string="who=thief")["code"] == "connection_refused"
    assert edge.refusal(query_string="who=thief")["data"] == {"why": 1}
    assert edge.refusal(query_string="who=nobody")["status"] == 403
    assert edge.refusal(query_string="who=one&namespace=/none")["code"] == "unknown_namespace"
    assert edge.transport.hub.clients() == []
    edge.open(who="one")


def test_the_function_that_authorizes_decides_for_edges(host: Host, edge: Edge) -> None:
    """It is asked once for each action, and sees the request, as at a host."""
    asked: list[tuple[str, str | None, str]] = []

    def decide(question: Any) -> bool:
        asked.append((question.action, question.event, question.request.args.get("who", "")))
        return question.request.args.get("who") != "thief" and question.event != "forbidden"

    host.socketio.on_event("say", lambda: "said")
    host.transport.authorize(decide)
    assert edge.refusal(query_string="who=thief")["code"] == "not_authorized"
    stream = edge.open(who="one")
    assert edge.post("emit", stream, event="say").get_json()["ack"] == "said"
    assert edge.post("emit", stream, event="forbidden").get_json()["code"] == "not_authorized"
    assert asked[0] == ("stream", None, "thief")
    assert asked[-4:] == [("stream", None, "one"), ("connect", None, "one"), ("emit", "say", ""),
                          ("emit", "forbidden", "")]
    published = edge.flask.test_client().post("/api/events/publish", json={"event": "forbidden"})
    assert published.get_json()["code"] == "not_authorized"


def test_handlers_run_at_the_host_that_has_let_the_client_in(host: Host, edge: Edge) -> None:
    """They have the client's session and its request; what they return and emit comes, in this order; rooms change."""
    @host.socketio.on("say")
    def say(text: str, data: bytes) -> tuple[Any, ...]:
        flask.session["said"] = flask.session.get("said", 0) + 1
        emit("heard", text)
        (join_room if text == "in" else leave_room)("room")
        return flask.session["said"], data

    host.flask.secret_key = "secret"
    stream = edge.open()
    body = edge.post("emit", stream, event="say", number=1, args=["in", {"$binary": "AAE="}]).get_json()
    assert body["ack"] == [1, {"$binary": "AAE="}]
    heard = stream.until("heard")
    assert (heard.data, heard.id) == ('"in"', body["after"])
    host.socketio.emit("to_room", 1, to="room")
    assert data(stream, "to_room") == 1
    assert edge.post("emit", stream, event="say", args=["out", {"$binary": "AAE="}]).get_json()["ack"][0] == 2
    host.socketio.emit("to_room", 2, to="room")
    host.socketio.emit("last")
    assert [stream.next().event for _ in range(2)] == ["heard", "last"]


def test_rooms_of_a_client_of_an_edge(host: Host, edge: Edge) -> None:
    """Handlers see the rooms that they, and others, have put the client into, at once and later."""
    socketio, found = host.socketio, list[list[Any]]()

    def seen() -> None:
        found.append(sorted(room for room in rooms() if room != flask.request.sid))  # type: ignore[attr-defined]

    @socketio.on("connect")
    def connect(auth: Any) -> None:
        join_room("a")
        seen()

    @socketio.on("change")
    def change() -> None:
        join_room("b")
        join_room("c")
        leave_room("c")
        seen()
        leave_room("a")
        seen()

    socketio.on_event("look", seen)
    socketio.on_event("disconnect", lambda reason: seen())
    stream, other = edge.open(), edge.open()
    assert edge.post("emit", stream, event="change").status_code == 200
    assert found == [["a"], ["a"], ["a", "b"], ["b"]]
    socketio.server.enter_room(stream.open["sid"], "d")
    edge.post("emit", stream, event="look")
    socketio.close_room("b")
    edge.post("emit", stream, event="look")
    edge.post("emit", other, event="look")
    assert found[4:] == [["b", "d"], ["d"], ["a"]]
    stream.close()
    edge.post("disconnect", stream)
    until(lambda: len(found) == 8)
    assert found[7] == ["d"]
    guests = host.transport.node.neighbours
    assert guests is not None
    assert guests.guests is not None
    until(lambda: len(guests.guests) == 1)  # type: ignore[arg-type]


def test_events_of_those_without_a_stream(host: Host, edge: Edge) -> None:
    """A host answers as if it had been asked, the rules of operators included."""
    @host.socketio.on("ask")
    def ask(value: Any) -> Any:
        emit("asked", value)
        return value, flask.request.headers["X-Mine"]

    def answer(app: App, headers: dict[str, str], **body: Any) -> tuple[int, Any]:
        got = app.flask.test_client().post("/api/events/emit", json=body, headers={"X-Mine": "x", **headers})
        return got.status_code, {**got.get_json(), "type": ""}

    seen = []
    for body in ({"event": "ask", "args": [{"$binary": "AAE="}]}, {"event": "nothing"}, {"event": ""}, {"event": 1},
                 {"event": "ask", "args": [1], "namespace": "/other"}, {"event": "ask", "args": [1, 2]}):
        for headers in ({}, {"Origin": "https://evil.example"}):
            assert answer(edge, headers, **body) == answer(host, headers, **body)
            seen.append(answer(edge, headers, **body)[0])
    assert set(seen) >= {200, 403, 404, 422}


def test_errors_of_handlers_are_what_they_are_at_a_host(host: Host, edge: Edge) -> None:
    """An unknown event, one with other arguments, one that raises, and one whose answer is no JSON."""
    @host.socketio.on("fail")
    def fail(what: Any) -> Any:
        return 1 / 0 if what == "raise" else {1, 2}

    stream = edge.open()
    for args, status, code in (([], 422, "bad_arguments"), (["raise"], 500, "handler_failed"),
                               (["set"], 500, "handler_failed")):
        answer = edge.post("emit", stream, event="fail", args=args)
        assert (answer.status_code, answer.get_json()["code"]) == (status, code)
    unknown = edge.post("emit", stream, event="none")
    assert (unknown.status_code, unknown.get_json()["accepted"]) == (404, ["fail", "settled"])


def test_the_host_knows_when_a_client_of_an_edge_ends(host: Host, edge: Edge) -> None:
    """Its disconnect handler runs once: after the client has left, and after a handler has ended it."""
    ended: list[tuple[str, str]] = []
    host.socketio.on_event("disconnect", lambda reason: ended.append((flask.request.sid, reason)))  # type: ignore
    host.socketio.on_event("end", disconnect)
    one, other = edge.open(), edge.open()
    edge.post("disconnect", one)
    until(lambda: len(ended) == 1)
    edge.post("emit", other, event="end")
    until(lambda: len(ended) == 2)
    assert ended == [(one.open["sid"], "client disconnect"), (other.open["sid"], "server disconnect")]
    until(lambda: not edge.transport.hub.clients())


def test_acknowledgements_come_to_the_host(host: Host, edge: Edge) -> None:
    """The callback of an event that a host has emitted is called with what a client of an edge answers."""
    answers: list[Any] = []
    stream = edge.open()
    host.socketio.emit("question", 1, to=stream.open["sid"], callback=lambda *args: answers.append(args))
    stream.until("question")
    (entry,) = [entry for entry in edge.transport.log.since(0)[1] if entry.event.name == "question"]
    assert edge.post("ack", stream, ack=entry.event.ack, args=[42]).status_code == 200
    until(lambda: answers)
    assert answers == [(42,)]


def test_a_room_that_is_closed_is_closed_at_edges(host: Host, edge: Edge) -> None:
    """close_room in a handler of a client of an edge takes all clients out."""
    host.socketio.on_event("connect", lambda auth: join_room("room"))
    host.socketio.on_event("close", lambda: close_room("room"))
    stream = edge.open()
    edge.post("emit", stream, event="close")
    host.socketio.emit("to_room", 1, to="room")
    host.socketio.emit("last")
    assert stream.next().event == "last"


@pytest.mark.long
def test_streams_go_on_without_a_host(host: Host, edge: Edge, redis_server: RedisServer) -> None:
    """A client keeps its stream while no host is there; a new one is asked to try again; a command is refused."""
    host.socketio.on_event("say", lambda: "said")
    stream = edge.open()
    host.stop()
    until(lambda: edge.post("emit", stream, event="say").get_json()["code"] == "gone")
    assert edge.refusal()["code"] == "no_host"
    other = Host(redis_server)
    try:
        serving(other)
        other.socketio.emit("news", 1)
        assert data(stream, "news") == 1
        assert edge.open().open["sid"]
    finally:
        other.stop()


def test_a_host_that_begins_later_is_found(redis_server: RedisServer, host: Host, edge: Edge) -> None:
    """Clients are let in by several hosts in turn, and each runs the handlers of its own."""
    other = Host(redis_server)
    try:
        for name, one in (("first", host), ("second", other)):
            one.socketio.on_event("who", lambda name=name: name)
        edge.open()
        serving(other)
        neighbours = edge.transport.node.neighbours
        assert neighbours is not None
        hosts = neighbours.hosts
        assert hosts is not None
        until(lambda: len(hosts) == 2)
        streams = [edge.open() for _ in range(4)]
        assert [edge.post("emit", stream, event="who").get_json()["ack"] for stream in streams] in (
            ["first", "second"] * 2, ["second", "first"] * 2)
    finally:
        other.stop()


def test_a_host_of_the_past_is_not_asked(host: Host, redis_server: RedisServer) -> None:
    """The log names hosts that were killed, as it will for long; an edge that begins asks those that say they live."""
    assert host.transport.node.backplane is not None
    gone = [f"{number:016x}" for number in range(5)]
    with redis_server.client() as client:
        for process in gone:
            host.transport.node.backplane.elsewhere("host", process=process, decides=False)
            client.set(f"{{shared}}:here:{process}", "{}", ex=30)  # as one leaves it that is killed
        host.socketio.emit("second")
        until(lambda: host.transport.log.newest == 2)
        edge = serving(Edge(redis_server))
        for _ in range(6):
            edge.open().close()
        assert not client.exists(*(f"{{shared}}:to:{process}" for process in gone))
    edge.stop()


@pytest.mark.long
def test_an_edge_that_has_died_is_noticed(host: Host, edge: Edge) -> None:
    """The host runs the disconnect handlers of its clients, once."""
    ended: list[tuple[str, str]] = []
    host.socketio.on_event("disconnect", lambda reason: ended.append((flask.request.sid, reason)))  # type: ignore
    streams = [edge.open() for _ in range(3)]
    edge.stop()  # nobody says that its clients have ended
    until(lambda: len(ended) == 3, 40)
    assert sorted(ended) == sorted((stream.open["sid"], "transport close") for stream in streams)


def test_what_waits_too_long_is_not_carried_out(host: Host, redis_server: RedisServer) -> None:
    """A client whose host has answered too late is not let in, and the host takes it for gone."""
    slow, ended = threading.Event(), []
    edge = Edge(redis_server, queue_s=2)
    serving(edge)

    @host.socketio.on("connect")
    def connect(auth: Any) -> None:
        slow.wait(SOON)

    host.socketio.on_event("disconnect", ended.append)
    assert edge.refusal()["code"] == "no_host"
    assert edge.transport.hub.clients() == []
    slow.set()
    until(lambda: ended)
    assert ended == ["transport close"]
    edge.stop()


def test_probes(host: Host, edge: Edge, redis_server: RedisServer) -> None:
    """A process is ready once the backplane has answered, until it has been away for a while; it is always alive."""
    def asked(app: App, what: str) -> tuple[int, Any]:
        answer = app.flask.test_client().get(f"/api/hybrid/{what}", environ_overrides={"REMOTE_ADDR": "203.0.113.9"})
        body = answer.get_json()
        return answer.status_code, body.get("state", body.get(what))

    for app in (host, edge):
        until(lambda app=app: asked(app, "ready") == (200, True))
    redis_server.kill()
    try:
        for app in (host, edge):
            node = app.transport.node
            until(lambda node=node: unready(node, patience_s=0.01) == "away")
            assert asked(app, "ready") == (200, True)
            assert asked(app, "live") == (200, True)
            node.stop()
            assert asked(app, "ready") == (503, "stopping")
            node.stopping = False
        late = Edge(redis_server)
        assert asked(late, "ready") == (503, "starting")
        late.stop()
    finally:
        redis_server.start()
    for app in (host, edge):
        until(lambda app=app: unready(app.transport.node, patience_s=0.01) is None)
    refused = App(redis_server, backplane=redis_server.url.removesuffix("/0") + "/99")
    until(lambda: asked(refused, "ready") == (503, "misconfigured"))
    refused.stop()


def test_an_app_with_handlers_as_an_edge(host: Host, redis_server: RedisServer) -> None:
    """HYBRID_ROLE=edge: its own handlers, its own function that decides and its own governor are not called."""
    own = Host(redis_server, HYBRID_ROLE="edge", HYBRID_BACKPLANE_NAME="shared")
    own.socketio.on_event("who", lambda: "own")
    own.socketio.on_event("connect", lambda auth: False)
    own.transport.authorize(lambda question: False)
    host.socketio.on_event("who", lambda: "host")
    serving(own)
    try:
        stream = own.open()
        answer = own.flask.test_client().post("/api/events/emit", json={"sid": stream.open["sid"], "event": "who"},
                                              headers={"X-Hybrid-Token": stream.open["token"]})
        assert answer.get_json()["ack"] == "host"
    finally:
        own.stop()


def test_commands_go_to_the_governor_of_a_host(host: Host, edge: Edge) -> None:
    """An edge has none, and asks."""
    class Governor:
        def start(self) -> str:
            return "started"

    host.transport.governor = Governor()
    client = edge.flask.test_client()
    order = client.post("/api/governor/control", json={"action": "start"}).get_json()
    until(lambda: client.get(f"/api/governor/control/{order['id']}").get_json()["status"] == "done")
    assert client.get(f"/api/governor/control/{order['id']}").get_json()["result"] == "started"


def test_settings_of_edges() -> None:
    """An edge has to know which hosts are its own."""
    for settings, variable in (({}, "HYBRID_BACKPLANE"), ({"backplane": "redis://a"}, "HYBRID_BACKPLANE_NAME")):
        with pytest.raises(ConfigurationError) as error:
            create_app(**settings)
        assert error.value.extra["variable"] == variable
