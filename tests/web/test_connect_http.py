"""Connecting before the stream: who one is, coming back as the same, several clients on one stream.

Every test runs on our server and on Werkzeug's, whose streams are written in another way.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support.servers import SOON, Answer, Server, Stream, shown_on_failure, wait_until

CONNECT, DISCONNECT, ACK, EMIT = (f"/api/events/{name}" for name in ("connect", "disconnect", "ack", "emit"))


#: The server that the tests here share.
SERVER = {"HYBRID_HEARTBEAT_S": 0.2, "HYBRID_RESUME_S": 30, "HYBRID_CONNECT_S": 30}
SERVER_KINDS = ["ours", "werkzeug"]
SERVER_ERRORS = ()


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    """The running server, with no stream open."""
    running.wait_for_streams(0)
    with shown_on_failure(running):
        yield running


class Rider:
    """A client that has connected by POST."""

    def __init__(self, server: Server, query: str = "", **body: Any) -> None:
        self.server = server
        answer = server.ask("POST", CONNECT + query, body)
        assert answer.status == 200, answer
        self.given = answer.json()
        self.sid, self.token, self.ticket = (self.given[name] for name in ("sid", "token", "ticket"))

    def post(self, path: str, token: str | None = None, **body: Any) -> Answer:
        return self.server.ask("POST", path, {"sid": self.sid, **body}, {"X-Hybrid-Token": token or self.token})

    def again(self, **body: Any) -> Rider:
        return Rider(self.server, sid=self.sid, token=self.token, **body)

    def opened(self, **query: str) -> Ride:
        return Ride(self.server, self.ticket, **query)


class Ride:
    """An open stream, by ticket, with envelopes."""

    def __init__(self, server: Server, ticket: str, **query: str) -> None:
        more = "".join(f"&{name}={value}" for name, value in query.items())
        self.stream: Stream = server.stream(f"ticket={ticket}&envelope=1{more}")

    @property
    def envelopes(self) -> list[dict[str, Any]]:
        return [json.loads(message.data) for message in self.stream.named("message")]

    def wait_for(self, name: str, n: int = 1) -> list[dict[str, Any]]:
        def found() -> list[dict[str, Any]]:
            return [item for item in self.envelopes if item["event"] == name]

        self.stream.read_until(lambda _: len(found()) >= n, SOON)
        return found()

    @property
    def open(self) -> dict[str, Any]:
        return dict(self.wait_for("hybrid_open")[0]["data"])

    def app_events(self) -> list[tuple[str, Any]]:
        return [(item["event"], item["data"]) for item in self.envelopes if not item["event"].startswith("hybrid_")]

    def last_id(self) -> str:
        return str(self.stream.id)

    def __enter__(self) -> Ride:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()


def gone(server: Server, sid: str) -> str:
    """Wait until the ``disconnect`` handler of a client has run; return what it was told."""
    return str(wait_until(lambda: server.notes()["reasons"].get(sid), what="its disconnect handler"))


# -- connecting --------------------------------------------------------------------------------------------------


def test_connecting_runs_the_handler_with_auth(server):
    """The host's ``connect`` handler gets what the client sends as ``auth``, and the query it sends it with."""
    rider = Rider(server, "?welcome=1", auth={"apiKey": "k"})
    assert server.notes()["auth"][rider.sid] == {"apiKey": "k"}
    assert rider.given == {**rider.given, "resumed": False, "namespace": "/", "heartbeat_s": 0.2}
    with rider.opened() as ride:
        assert ride.wait_for("welcome")[0]["data"] == {"sid": rider.sid}
        assert ride.open == {**ride.open, "sid": rider.sid, "sids": [rider.sid], "token": None, "resumed": False}
    assert rider.post(DISCONNECT).status == 200


def test_what_happens_before_the_stream_is_kept(server):
    """A client gets everything from its connecting on, however late it opens its stream."""
    rider = Rider(server)
    server.emit("early", 3)
    server.emit("private", to=rider.sid)
    with rider.opened() as ride:
        ride.wait_for("private")
        assert [name for name, _ in ride.app_events()] == ["early"] * 3 + ["private"]
    rider.post(DISCONNECT)


@pytest.mark.parametrize(("given", "reason"), [([], None), (["not today"], "not today"),
                                               (["no", {"until": 3}], ["no", {"until": 3}])])
def test_a_refused_client_is_told_why_and_leaves_nothing(server, given, reason):
    """``ConnectionRefusedError`` becomes a 403 with its arguments; no client remains."""
    before = server.status()["clients"]
    answer = server.ask("POST", CONNECT, {"auth": {"refuse": given}})
    assert (answer.status, answer.headers["content-type"]) == (403, "application/problem+json")
    assert (answer.json()["code"], answer.json()["reason"]) == ("connection_refused", reason)
    assert server.status()["clients"] == before


@pytest.mark.parametrize(("body", "status", "code"), [
    (b"[]", 400, "bad_json"), (b"{", 400, "bad_json"), ({"namespace": "chat"}, 422, "bad_namespace"),
    ({"namespace": 7}, 422, "bad_namespace"),
])
def test_bodies_that_make_no_sense(server, body, status, code):
    """A body that is no JSON object, or names no namespace, is refused with a problem document."""
    answer = server.ask("POST", CONNECT, body, {"Content-Type": "application/json"})
    assert (answer.status, answer.json()["code"]) == (status, code)


def test_a_ticket_that_opens_nothing(server):
    """A stream with a ticket nobody gave out is refused, and the answer says which."""
    answer = server.ask("GET", "/api/events/stream?ticket=made-up")
    assert (answer.status, answer.json()["code"]) == (403, "bad_ticket")


# -- coming back -------------------------------------------------------------------------------------------------


def test_coming_back_as_the_same(server):
    """Who proves its token in time has its sid, its rooms and what was sent to it meanwhile; nobody notices."""
    rider = Rider(server)
    with rider.opened() as ride:
        ride.wait_for("hybrid_open")
        assert rider.post(EMIT, event="join", args=["den"]).status == 200
        server.emit("one", to="den")
        ride.wait_for("one")
        last = ride.last_id()
    server.wait_for_streams(0)
    server.emit("two", to="den")
    server.emit("three", to=rider.sid)
    server.emit("four")
    same = rider.again()
    assert same.given == {**rider.given, "resumed": True}
    with same.opened(last_event_id=last) as ride:
        assert ride.open["resumed"] is True
        assert ride.open["sids"] == [rider.sid]
        ride.wait_for("four")
        assert [name for name, _ in ride.app_events()] == ["two", "three", "four"]
    assert server.notes()["connected"].count(rider.sid) == 1
    assert rider.sid not in server.notes()["disconnected"]
    rider.post(DISCONNECT)


@pytest.mark.parametrize("proof", [{"token": "wrong"}, {"token": None}, {"token": ["x"]}, {}, {"namespace": "/chat"}])
def test_who_cannot_prove_it_is_somebody_else(server, proof):
    """Without the right token, or in another namespace, one gets a new sid, and nothing of the old one's."""
    rider = Rider(server)
    if "namespace" in proof:
        proof = {"token": rider.token, **proof}
    other = Rider(server, sid=rider.sid, **proof)
    assert other.given["resumed"] is False
    assert {other.sid, other.token, other.ticket}.isdisjoint({rider.sid, rider.token, rider.ticket})
    server.emit("secret", to=rider.sid)
    server.emit("public", namespace=proof.get("namespace"))
    with other.opened() as ride:
        ride.wait_for("public")
        assert [name for name, _ in ride.app_events()] == ["public"]
    for each in (rider, other):
        each.post(DISCONNECT)


def test_a_bare_stream_can_come_back_too(server):
    """The token of ``hybrid_open`` is as good as one from connecting."""
    with server.opened() as stream:
        told = stream.open
        last = stream.id
    server.wait_for_streams(0)
    server.emit("meanwhile", to=told["sid"])
    rider = Rider(server, sid=told["sid"], token=told["token"])
    assert rider.given["resumed"] is True
    assert rider.sid == told["sid"]
    with rider.opened(last_event_id=last) as ride:
        ride.wait_for("meanwhile")
    rider.post(DISCONNECT)


def test_a_second_stream_replaces_the_first(server):
    """Another stream with the same ticket ends the older one, and goes on where that one was."""
    rider = Rider(server)
    with rider.opened() as first:
        server.emit("one")
        first.wait_for("one")
        with rider.opened(last_event_id=first.last_id()) as second:
            first.stream.read_to_end()
            server.emit("two")
            second.wait_for("two")
            assert [name for name, _ in first.app_events() + second.app_events()] == ["one", "two"]
            assert server.status()["streams"] == 1
    rider.post(DISCONNECT)


def test_leaving_is_at_once(server):
    """A client that says that it leaves is gone: its handler runs, its stream ends, its token is worth nothing.

    But for saying so again: a tab that closes does, and so may another that sees it close.
    """
    rider = Rider(server)
    with rider.opened() as ride:
        ride.wait_for("hybrid_open")
        assert rider.post(DISCONNECT, token="wrong").json()["code"] == "bad_token"
        assert (rider.post(DISCONNECT).status, gone(server, rider.sid)) == (200, "client disconnect")
        ride.stream.read_to_end()
    assert (rider.post(DISCONNECT).status, rider.post(DISCONNECT).json()) == (200, {})
    assert rider.post(DISCONNECT, token="wrong").json()["code"] == "bad_token"
    assert rider.post(ACK, ack="any").json()["code"] == "bad_token"
    assert rider.again().given["resumed"] is False


def test_nobody_comes_back():
    """After ``HYBRID_RESUME_S`` a client is over: the handler runs, its ticket and token are worth nothing."""
    with Server("ours", HYBRID_RESUME_S=0.3, HYBRID_CONNECT_S=3) as server:
        rider, never_opened = Rider(server), Rider(server)
        with rider.opened() as ride:
            ride.wait_for("hybrid_open")
            gone(server, never_opened.sid)  # 3 s after connecting; the open stream outlives that
            assert server.status()["clients"] == 1
        assert gone(server, rider.sid) == "transport close"
        assert server.status()["clients"] == 0
        assert server.ask("GET", f"/api/events/stream?ticket={rider.ticket}").status == 403
        assert rider.again().given["resumed"] is False


# -- several on one stream -----------------------------------------------------------------------------------------


def test_one_stream_carries_several_clients(server):
    """Each is a client of its own; envelopes say for whom they are, where that is not everybody."""
    one = Rider(server)
    with one.opened() as ride:
        ride.wait_for("hybrid_open")
        server.emit("before")
        ride.wait_for("before")
        two = Rider(server, stream=one.ticket)
        assert two.ticket == one.ticket
        assert two.sid != one.sid
        two.post(EMIT, event="join", args=["den"])
        server.emit("all")
        server.emit("for_one", to=one.sid)
        server.emit("for_two", to="den")
        ride.wait_for("for_two")
        told = {item["event"]: item.get("to") for item in ride.envelopes}
        assert told == {"hybrid_open": None, "before": None, "all": None, "for_one": [one.sid], "for_two": [two.sid]}
        assert server.status()["streams"] == 1
        number = int(ride.wait_for("before")[0]["id"].split("-")[1])
        assert int(two.given["since"].split("-")[1]) >= number
        one.post(DISCONNECT)
        over = ride.wait_for("hybrid_disconnect")[0]
        assert (over["data"], over["to"]) == ({"sid": one.sid, "reason": "client disconnect"}, [one.sid])
        server.emit("after")
        assert "to" not in ride.wait_for("after")[0]
        two.post(DISCONNECT)
        ride.stream.read_to_end()
    assert [name for name, _ in ride.app_events()] == ["before", "all", "for_one", "for_two", "after"]


def test_namespaces_share_a_stream(server):
    """A client of another namespace rides along; each gets its own namespace's events."""
    one = Rider(server)
    two = Rider(server, stream=one.ticket, namespace="/chat")
    server.emit("root")
    server.emit("chat", namespace="/chat")
    with one.opened() as ride:
        ride.wait_for("chat")
        assert [(item["event"], item["namespace"], "to" in item) for item in ride.envelopes[1:]] == [
            ("root", "/", False), ("chat", "/chat", False)]
    for each in (one, two):
        each.post(DISCONNECT)


def test_all_of_a_stream_come_back(server):
    """A stream that comes back carries everybody it carried, each with what was sent to it meanwhile."""
    one = Rider(server)
    two = Rider(server, stream=one.ticket)
    with one.opened() as ride:
        ride.wait_for("hybrid_open")
        last = ride.last_id()
    server.wait_for_streams(0)
    server.emit("for_two", to=two.sid)
    with one.opened(last_event_id=last) as ride:
        assert set(ride.open["sids"]) == {one.sid, two.sid}
        assert ride.wait_for("for_two")[0]["to"] == [two.sid]
    for each in (one, two):
        each.post(DISCONNECT)


def test_being_thrown_out(server):
    """A client that the host disconnects is told so, in its place among the events; the others stay."""
    one = Rider(server)
    two = Rider(server, stream=one.ticket)
    with one.opened() as ride:
        ride.wait_for("hybrid_open")
        server.emit("last", to=one.sid)
        server.ask("POST", "/kick", {"sid": one.sid})
        server.emit("next")
        ride.wait_for("next")
        assert [item["event"] for item in ride.envelopes[1:]] == ["last", "hybrid_disconnect", "next"]
        assert ride.wait_for("hybrid_disconnect")[0]["data"] == {"sid": one.sid, "reason": "server disconnect"}
        assert gone(server, one.sid) == "server disconnect"
    two.post(DISCONNECT)


# -- acknowledgements ----------------------------------------------------------------------------------------------


def test_a_client_acknowledges(server):
    """What a client posts as acknowledgement is what the host's callback gets, once."""
    rider, before = Rider(server), server.notes()["acks"]
    with rider.opened() as ride:
        server.ask("POST", "/ask", {"event": "question", "to": rider.sid, "data": 1})
        ack = ride.wait_for("question")[0]["ack"]
        assert rider.post(ACK, token="wrong", ack=ack).json()["code"] == "bad_token"
        assert rider.post(ACK, ack=ack, args=["yes", {"more": 1}]).status == 200
        assert server.notes()["acks"] == [*before, ["yes", {"more": 1}]]
        assert rider.post(ACK, ack=ack, args=[]).json()["code"] == "unknown_ack"
        assert rider.post(ACK, ack=ack, args="no array").json()["code"] == "bad_arguments"
    rider.post(DISCONNECT)


def test_answers_tell_the_callbacks_arguments(server):
    """What a handler returns comes back as the arguments of the client's callback: none, one, several."""
    rider = Rider(server)
    said = [("echo", [], []), ("echo", [1, 2], [1, 2]), ("single", [3], [{"type": "int", "value": 3}]),
            ("join", ["den"], [])]
    for number, (event, args, expected) in enumerate(said, 1):
        assert rider.post(EMIT, event=event, args=args, number=number).json()["args"] == expected
    assert rider.post(EMIT, event="echo", args=[1]).json() == {"ack": [1]}
    rider.post(DISCONNECT)


def test_answers_tell_what_comes_before_them(server):
    """``after`` is the id of the last event for this client that its handler has emitted, or that connecting has."""
    server.emit("past", 3)
    rider = Rider(server, "?welcome=1")
    with rider.opened() as ride:
        assert rider.given["after"] == ride.wait_for("welcome")[0]["id"]
        assert int(rider.given["since"].split("-")[1]) >= 3
        assert ride.app_events() == [("welcome", {"sid": rider.sid})]
        answer = rider.post(EMIT, event="ask", args=[1], number=1).json()
        assert answer["after"] == ride.wait_for("answer", 2)[1]["id"]
        again = rider.post(EMIT, event="ask", args=[1], number=1).json()
        assert again == answer
        assert rider.post(EMIT, event="echo", args=[1], number=2).json()["after"] is None
        assert rider.post(EMIT, event="shout", args=["x"], number=3).json()["after"] is None  # all but the caller
    assert rider.again().given["after"] is None
    rider.post(DISCONNECT)


def test_an_event_that_makes_no_sense_has_had_its_turn(server):
    """A numbered event that is refused uses its number up, so that those behind it need not wait for it."""
    rider = Rider(server)
    assert rider.post(EMIT, event="", args=[], number=1).json()["code"] == "bad_event_name"
    assert rider.post(EMIT, event="echo", args=[{"$binary": 7}], number=2).json()["code"] == "bad_payload"
    assert rider.post(EMIT, event="echo", args=[5], number=3).json()["args"] == [5]
    rider.post(DISCONNECT)


# -- heartbeats and snapshots ---------------------------------------------------------------------------------------


def test_heartbeats_that_a_script_can_see(server):
    """Heartbeats are events, which keep the id fresh."""
    rider = Rider(server)
    with rider.opened() as ride:
        ride.wait_for("hybrid_open")
        newest = server.emit("elsewhere", to="nobody")
        ride.stream.read_until(lambda stream: stream.id == newest, SOON)
        assert json.loads(ride.stream.heartbeats[-1].data)["data"] == {}
        assert ride.app_events() == []
    rider.post(DISCONNECT)


@pytest.mark.parametrize(("query", "names"), [
    ("snapshot=gap", ["hybrid_open"]), ("snapshot=gap&last_event_id=nonsense", ["hybrid_open", "hybrid_gap", "s"])])
def test_a_snapshot_only_where_something_was_lost(server, query, names):
    """``snapshot=gap`` gives the newest event of each name after a gap, and nothing without one."""
    server.emit("s")
    with server.opened(query) as stream:
        server.emit("end")
        stream.wait_for("end")
        seen = [message.event for message in stream.messages if message.event in (*names, "hybrid_gap")]
        assert seen == names


@pytest.mark.parametrize("query", ["envelope=loud", "snapshot=maybe"])
def test_queries_that_make_no_sense(server, query):
    """A value that is not accepted is refused by name."""
    answer = server.ask("GET", f"/api/events/stream?{query}")
    assert (answer.status, answer.json()["code"]) == (422, "bad_query")
    assert query.split("=")[0] in answer.json()["detail"]


# -- who may ---------------------------------------------------------------------------------------------------------


def test_a_ticket_stands_for_the_key():
    """With a key, who has connected with it opens the stream by the ticket alone; commands still need the key."""
    with Server("ours", HAKGAL_API_KEY="k3y", HYBRID_RESUME_S=0) as server:
        elsewhere = {"X-Forwarded-For": "203.0.113.9"}
        assert server.ask("POST", CONNECT, {}, elsewhere).json()["code"] == "key_required"
        answer = server.ask("POST", CONNECT, {}, {**elsewhere, "X-API-Key": "k3y"})
        given = answer.json()
        assert server.ask("GET", "/api/events/stream?ticket=made-up", headers=elsewhere).status == 401
        with server.stream(f"ticket={given['ticket']}", elsewhere) as stream:
            assert stream.wait_for("hybrid_open")[0]["sid"] == given["sid"]
            token = {**elsewhere, "X-Hybrid-Token": given["token"]}
            body = {"sid": given["sid"], "event": "echo", "args": [1]}
            assert server.ask("POST", EMIT, body, token).status == 401
            assert server.ask("POST", EMIT, body, {**token, "X-API-Key": "k3y"}).status == 200
            foreign = {"Origin": "https://evil.example"}
            assert server.ask("GET", f"/api/events/stream?ticket={given['ticket']}",
                              headers=foreign).json()["code"] == "foreign_origin"


# -- what a review found ---------------------------------------------------------------------------------------------


def test_another_client_of_the_stream_cannot_acknowledge(server):
    """Who rides on the same stream may see an acknowledgement's id, and has no use for it."""
    one = Rider(server)
    two = Rider(server, stream=one.ticket)
    with one.opened() as ride:
        server.ask("POST", "/ask", {"event": "confirm", "to": one.sid, "data": 1})
        ack = ride.wait_for("confirm")[0]["ack"]
        assert two.post(ACK, ack=ack, args=["forged"]).json()["code"] == "unknown_ack"
        assert one.post(ACK, ack=ack, args=["mine"]).status == 200
        assert server.notes()["acks"][-1] == ["mine"]
    for each in (one, two):
        each.post(DISCONNECT)


def test_auth_may_hold_bytes(server):
    """What a client encodes in ``auth`` is decoded like any other value; NaN is no JSON."""
    rider = Rider(server, auth={"$$binary": "text"})
    assert server.notes()["auth"][rider.sid] == {"$binary": "text"}
    rider.post(DISCONNECT)
    answer = server.ask("POST", CONNECT, b'{"auth": NaN}', {"Content-Type": "application/json"})
    assert answer.json()["code"] == "bad_json"


def test_a_stream_that_is_gone_does_not_matter():
    """A client that names a stream nobody can come back to gets one of its own."""
    with Server("ours", HYBRID_RESUME_S=0) as server:
        one = Rider(server)
        one.post(DISCONNECT)
        two = Rider(server, stream=one.ticket)
        assert two.ticket != one.ticket
        with two.opened() as ride:
            assert ride.open["sid"] == two.sid


def test_a_slow_connect_handler_has_its_time():
    """The time to open the stream begins when the handler has let the client in."""
    with Server("ours", HYBRID_CONNECT_S=2, HYBRID_RESUME_S=30) as server:
        rider: list[Rider] = []
        connecting = threading.Thread(target=lambda: rider.append(Rider(server, "?hang=1")))
        connecting.start()
        waiting = Rider(server)
        gone(server, waiting.sid)  # so 2 s have passed
        server.ask("POST", "/api/governor/control", {"action": "set_mode", "mode": "release"})
        connecting.join(SOON)
        with rider[0].opened() as ride:
            assert ride.open["sid"] == rider[0].sid
