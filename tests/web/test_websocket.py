"""``/api/events/ws``: the same events over a WebSocket, with commands on the way up, on every server that can do it."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import websocket
from flask import Flask
from support import accounting
from support.app import create_app
from support.hubs import open_feed_of
from support.servers import CONTROL, SERVERS, SOON, Answer, InProcess, Server, shown_on_failure, wait_until
from werkzeug.serving import make_server
from wsproto.frame_protocol import FrameProtocol

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.broker.formats import Format
from hakgal_hybrid.broker.states import StreamEnd
from hakgal_hybrid.commands.inbox import MAX_WAITING
from hakgal_hybrid.settings import Settings
from hakgal_hybrid.web.websocket.events import MAX_ANSWERS, EventsWebSocket, Sharing
from hakgal_hybrid.web.websocket.serving import SocketLoop

WS = "/api/events/ws"
CONNECT, ACK = "/api/events/connect", "/api/events/ack"
HEARTBEAT_S = 0.2
LOG_EVENTS = 300
MAX_EVENT = 100_000
HANDSHAKE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
             "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode()}

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="gunicorn needs POSIX")


def _kinds(*kinds: str) -> list[Any]:
    return [pytest.param(kind, marks=[needs_posix, pytest.mark.long])
            if kind.startswith("gunicorn") else kind for kind in kinds]


class Socket:
    """A client; every frame that came is parsed and kept.

    :ivar code: what the server closed the connection with, once it has; ``reason``: what it said to that.
    """

    def __init__(self, port: int, query: str = "", headers: dict[str, str] | None = None, *,
                 rcvbuf: int | None = None, path: str = WS, tls: bool = False) -> None:
        options = [] if rcvbuf is None else [(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)]
        self.ws = websocket.create_connection(f"{'wss' if tls else 'ws'}://127.0.0.1:{port}{path}?{query}",
                                              timeout=SOON, sslopt={"cert_reqs": ssl.CERT_NONE},
                                              header=headers or {}, sockopt=options, suppress_origin=True,
                                              skip_utf8_validation=True)  # which takes seconds for a megabyte
        self.frames: list[dict[str, Any]] = []
        self.code: int | None = None
        self.reason = ""
        self.port, self.query, self.status = port, query, 200
        accounting.streams.append(self)

    def got(self) -> list[accounting.Got]:
        """Return the events that came."""
        return [accounting.unwrapped(frame, frame["id"]) for frame in self.frames if "event" in frame]

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self.vanish()

    def close(self) -> None:
        """Close as one should."""
        self.ws.close()

    def vanish(self) -> None:
        """Close the connection without a word."""
        self.ws.shutdown()  # type: ignore[no-untyped-call]

    def read(self) -> None:
        """Read one frame."""
        opcode, data = self.ws.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            self.code, self.reason = int.from_bytes(data[:2], "big"), data[2:].decode()
        else:
            assert opcode == websocket.ABNF.OPCODE_TEXT
            self.frames.append(json.loads(data))

    def read_until(self, predicate: Callable[[Socket], Any], seconds: float = SOON) -> Any:
        """Read until ``predicate`` is true; return its value."""
        ends = time.monotonic() + seconds
        while not (value := predicate(self)):
            assert self.code is None, (self.code, self.reason, self.frames[-3:])
            self.ws.settimeout(max(0.01, ends - time.monotonic()))
            self.read()
        return value

    def read_to_end(self) -> tuple[int | None, str]:
        """Read until the server closes; return with which code and why."""
        self.read_until(lambda client: client.code is not None)
        return self.code, self.reason

    def named(self, name: str) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame.get("event") == name]

    def names(self) -> list[str]:
        """The names of the events so far, heartbeats left out; ``reply`` for an answer."""
        names = [frame.get("event", "reply") for frame in self.frames]
        return [name for name in names if name != "hybrid_heartbeat"]

    def wait_for(self, name: str, n: int = 1, seconds: float = SOON) -> list[Any]:
        """Read until ``n`` events with this name have come; return the data of all."""
        self.read_until(lambda client: len(client.named(name)) >= n, seconds)
        return [frame["data"] for frame in self.named(name)]

    @property
    def open(self) -> dict[str, Any]:
        found: dict[str, Any] = self.wait_for("hybrid_open")[0]
        return found

    @property
    def sid(self) -> str:
        return str(self.open["sid"])

    def say(self, do: str, **message: Any) -> None:
        self.ws.send(json.dumps({"do": do, **message}))

    def reply(self, ref: Any) -> tuple[int, Any]:
        """Read until the answer to ``ref`` has come; return its status and body."""
        def found(client: Socket) -> list[dict[str, Any]]:
            return [frame for frame in client.frames if "reply" in frame and frame["reply"] == ref]

        frame = self.read_until(found)[0]
        return frame["status"], frame["body"]

    def ask(self, do: str, **message: Any) -> tuple[int, Any]:
        """Send a command and read its answer."""
        ref = f"{do} {len(self.frames)}"
        self.say(do, ref=ref, **message)
        return self.reply(ref)


def opened(server: Server, query: str = "", headers: dict[str, str] | None = None, **options: Any) -> Socket:
    """Open a WebSocket and read its ``hybrid_open``."""
    client = Socket(server.port, query, headers, **options)
    assert client.open
    return client


def later_id(event_id: str, by: int) -> str:
    """Return the id of the event ``by`` places later."""
    epoch, number = event_id.split("-")
    return f"{epoch}-{int(number) + by}"


#: The server that the tests here share.
SERVER = {"ENABLE_WS_SPECIAL": "true", "HYBRID_HEARTBEAT_S": HEARTBEAT_S, "HYBRID_LOG_EVENTS": LOG_EVENTS,
          "HYBRID_MAX_EVENT_BYTES": MAX_EVENT, "HYBRID_RESUME_S": 0, "HYBRID_ORIGINS": "https://dash.example"}
SERVER_KINDS = _kinds(*SERVERS)
SERVER_ERRORS = ("LookupError: this handler fails", "RuntimeError: no such mode")


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    """The running server, with nobody connected; nobody may be left afterwards either."""
    running.wait_for_streams(0)
    with shown_on_failure(running):
        yield running
    running.wait_for_streams(0)
    wait_until(lambda: running.status()["clients"] == 0, what="no client is left")


# -- down ----------------------------------------------------------------------------------------------------------


def test_opening(server: Server) -> None:
    """The first frame is ``hybrid_open``, at the newest id, with who one is now."""
    newest = server.emit("before")
    with opened(server) as client:
        told = dict(client.open)
        assert len(told.pop("sid")) >= 16
        assert len(told.pop("token")) >= 32
        assert told == {"profile": "HYBRID", "heartbeat_s": HEARTBEAT_S, "oldest": server.status()["oldest"],
                        "newest": newest, "resumed": False}
        assert client.frames[0]["id"] == newest
        assert server.status()["streams"] == 1


def test_frames_are_the_envelopes_of_a_stream(server: Server) -> None:
    """Every frame is what a stream with envelopes has as data, whatever the arguments."""
    with opened(server) as client, server.opened("envelope=1") as stream:
        for args in ([], [1], [1, {"b": [2]}], [[1, 2]], ["Grüße \u2028 \U0001f600 a\nb\rc"]):
            server.emit("arguments", args=args)
        server.ask("POST", "/binary", b"\x00\xff\x00")
        client.wait_for("binary")
        stream.read_until(lambda stream: len(stream.messages) >= 7)
        carried = [json.loads(message.data) for message in stream.messages]
        assert carried[1:] == [frame for frame in client.frames[1:] if frame["event"] != "hybrid_heartbeat"]
        assert client.named("binary")[0]["data"] == {"picture": {"$binary": "AP8A"}}


def test_events_come_in_order_once(server: Server) -> None:
    """Everybody gets what is emitted, in order, and each event once."""
    with opened(server) as first, opened(server) as second:
        newest = server.emit("fact_added", 200)
        for client in (first, second):
            assert client.wait_for("fact_added", 200) == [{"i": number} for number in range(200)]
            assert client.named("fact_added")[-1]["id"] == newest
            assert client.names() == ["hybrid_open"] + ["fact_added"] * 200


def test_an_interval_holds_here_too(server: Server) -> None:
    """Of a conflated name one event each interval comes at most, of others all; an answer waits for none."""
    began = time.monotonic()
    with opened(server, "interval_ms=250") as client:
        for first in range(40):
            server.emit("kb_update", first=first)
            server.emit("fact_added", first=first)
        assert client.wait_for("fact_added", 40) == [{"i": number} for number in range(40)]
        states = client.named("kb_update")
        assert len(states) <= (time.monotonic() - began) / 0.25 + 2
        assert sum(1 + frame.get("conflated", 0) for frame in states) == 40
    with opened(server, "interval_ms=10000") as client:
        server.emit("fact_added", first=0)
        client.wait_for("fact_added")
        server.emit("fact_added", first=1)
        client.ask("control", action="status")
        assert client.wait_for("fact_added", 2) == [{"i": 0}, {"i": 1}]


def test_large_events_to_a_slow_reader_stay_whole(server: Server) -> None:
    """What takes a slow client many writes arrives as it was sent, byte for byte, pongs in between."""
    with opened(server, rcvbuf=4096) as client:
        server.emit("fact_added", 20, size=65536)
        client.ws.ping("are you there")
        told = client.wait_for("fact_added", 20, 30)
        assert [data["i"] for data in told] == list(range(20))
        assert {data["padding"] for data in told} == {"x" * 65536}


def test_pings_are_answered(server: Server) -> None:
    """A client that pings gets its pong, also while nothing else happens."""
    with opened(server) as client:
        client.ws.ping("hello")
        ends = time.monotonic() + SOON
        while time.monotonic() < ends:
            frame = client.ws.recv_frame()  # type: ignore[no-untyped-call]
            if frame.opcode == websocket.ABNF.OPCODE_PONG:
                assert frame.data == b"hello"
                return
        raise AssertionError("no pong came")


def test_heartbeats_are_frames(server: Server) -> None:
    """A connection with nothing to say sends ``hybrid_heartbeat``, with an id if the last one has grown stale."""
    with opened(server, "events=nothing_like_this") as client:
        newest = server.emit("other", 3)
        client.read_until(lambda client: newest in [frame["id"] for frame in client.named("hybrid_heartbeat")])
        assert client.names() == ["hybrid_open"]


def test_heartbeats_come_although_others_get_events(server: Server) -> None:
    """Events that are not for a client do not keep its heartbeat from it."""
    with opened(server, "events=nothing_like_this") as client:
        done = threading.Event()

        def emit() -> None:
            while not done.is_set():
                server.emit("other")

        emitting = threading.Thread(target=emit)
        emitting.start()
        try:
            client.wait_for("hybrid_heartbeat", 3)
        finally:
            done.set()
            emitting.join()


def test_rooms_and_private_events(server: Server) -> None:
    """An event for a room, or for one ``sid``, reaches who is in it, from joining to leaving."""
    with opened(server) as inside, opened(server) as outside:
        server.emit("early", to="club")
        assert inside.ask("emit", event="join", data="club")[0] == 200
        server.emit("meanwhile", to="club")
        server.emit("private", to=outside.sid)
        assert inside.ask("emit", event="leave", data="club")[0] == 200
        server.emit("late", to="club")
        server.emit("all")
        for client, own in ((inside, "meanwhile"), (outside, "private")):
            client.wait_for("all")
            assert [name for name in client.names() if name != "reply"] == ["hybrid_open", own, "all"]


def test_filter_and_namespace(server: Server) -> None:
    """``events=`` and ``namespace=`` mean what they mean for a stream."""
    with opened(server, "events=fact_*") as facts, opened(server, "namespace=/chat") as chat:
        server.emit("other")
        server.emit("fact_added")
        server.emit("for_chat", namespace="/chat")
        facts.wait_for("fact_added")
        chat.wait_for("for_chat")
        assert facts.names() == ["hybrid_open", "fact_added"]
        assert chat.names() == ["hybrid_open", "for_chat"]
        assert chat.ask("emit", event="echo", data="hi") == (200, {"ack": "chat: hi"})


def test_snapshot(server: Server) -> None:
    """``snapshot=1`` gives the newest retained event of every name first."""
    server.emit("alpha", 3)
    server.emit("beta", 2)
    with opened(server, "snapshot=1&events=alpha,beta") as client:
        client.wait_for("beta")
        assert [(frame["event"], frame["data"], frame["id"]) for frame in client.frames[1:3]] == [
            ("alpha", {"i": 2}, None), ("beta", {"i": 1}, None)]


@pytest.mark.parametrize("way", ["query", "header"])
def test_resume(server: Server, way: str) -> None:
    """With the last id seen everything after it comes, once and in order."""
    seen = server.emit("seen")
    newest = server.emit("unseen", 10)
    query, headers = (f"last_event_id={seen}", {}) if way == "query" else ("", {"Last-Event-ID": seen})
    with opened(server, query, headers) as client:
        assert client.frames[0]["id"] == seen
        assert client.wait_for("unseen", 10) == [{"i": number} for number in range(10)]
        assert client.named("unseen")[-1]["id"] == newest
        server.emit("live")
        client.wait_for("live")
        assert client.names() == ["hybrid_open", *["unseen"] * 10, "live"]


def test_gap(server: Server) -> None:
    """A client whose next event is no longer kept is told how many it missed."""
    seen = server.emit("seen")
    server.emit("fact_added", LOG_EVENTS + 25)
    with opened(server, f"last_event_id={seen}") as client:
        assert client.wait_for("fact_added", LOG_EVENTS)[0] == {"i": 25}
        assert client.names()[:3] == ["hybrid_open", "hybrid_gap", "fact_added"]
        assert client.named("hybrid_gap")[0]["data"] == {
            "missed": 25, "reason": "evicted", "resume_from": later_id(seen, 25)}


def test_what_the_connect_handler_emits_comes_first(server: Server) -> None:
    """What a ``connect`` handler emits to its client is the first it gets."""
    with opened(server, "welcome=1") as client:
        assert client.wait_for("welcome") == [{"sid": client.sid}]


# -- up ------------------------------------------------------------------------------------------------------------


def test_commands_answer_as_posts_do(server: Server) -> None:
    """An event's handler runs as this client; its result is the answer, under the sender's reference."""
    with opened(server, "tab=7") as client:
        assert client.ask("emit", event="echo", args=[1, {"b": 2}]) == (200, {"ack": [1, {"b": 2}]})
        assert client.ask("emit", event="single", data={"$binary": "AP8A"}) == (
            200, {"ack": {"type": "bytes", "value": {"$binary": "AP8A"}}})
        status, body = client.ask("emit", event="whoami", sid=client.sid)
        assert status == 200
        assert (body["ack"]["sid"], body["ack"]["tab"]) == (client.sid, "7")
        assert [client.ask("emit", event="count")[1]["ack"] for _ in range(3)] == [1, 2, 3]
        status, body = client.ask("emit", event="odd")  # returns what JSON cannot hold
        assert (status, body["code"]) == (500, "handler_failed")


@pytest.mark.parametrize("ref", [None, 5, "a", [1, {"$binary": "x"}], {"deep": [None]}])
def test_any_reference_comes_back(server: Server, ref: Any) -> None:
    """The answer names what the command named, untouched; ``null`` where it named nothing."""
    with opened(server) as client:
        client.say("emit", event="echo", data=1, **({} if ref is None else {"ref": ref}))
        assert client.reply(ref) == (200, {"ack": [1]})


def test_what_a_handler_emits_comes_before_its_answer(server: Server) -> None:
    """Events that were emitted before a command was answered arrive before the answer."""
    with opened(server) as client:
        client.say("emit", event="ask", data="why", ref=1)
        client.reply(1)
        assert client.names() == ["hybrid_open", "answer", "answer", "reply"]


def test_numbered_events_run_once(server: Server) -> None:
    """A number that is repeated gets the answer it got, and what its callback takes as ``args``."""
    with opened(server) as client:
        for number, count in ((1, 1), (1, 1), (2, 2)):
            status, body = client.ask("emit", event="count", number=number)
            assert (status, body["ack"], body["args"]) == (200, count, [count])
        assert client.ask("emit", event="count", number="3")[1]["code"] == "bad_number"


@pytest.mark.parametrize(("message", "status", "code"), [
    ('{"do": "emit", "event": "no_such_event"}', 404, "unknown_event"),
    ('{"do": "emit", "event": "boom"}', 500, "handler_failed"),
    ('{"do": "emit", "event": "single", "args": [1, 2]}', 422, "bad_arguments"),
    ('{"do": "emit", "event": ""}', 422, "bad_event_name"),
    ('{"do": "emit", "event": "echo", "data": {"$binary": "?"}}', 422, "bad_payload"),
    ('{"do": "emit", "event": "echo", "namespace": "/chat"}', 422, "bad_namespace"),
    ('{"do": "emit", "event": "echo", "sid": "somebody"}', 403, "bad_token"),
    ('{"do": "emit", "event": "echo", "sid": 5}', 403, "bad_token"),
    ('{"do": "emit", "event": "connect"}', 404, "unknown_event"),
    ('{"do": "ack", "ack": "unheard-of"}', 404, "unknown_ack"),
    ('{"do": "ack", "ack": "x", "args": {}}', 422, "bad_arguments"),
    ('{"do": "control", "action": "dance"}', 422, "unknown_action"),
    ('{"do": "control", "action": "set_mode"}', 422, "missing_argument"),
    ('{"do": "dance"}', 422, "unknown_command"),
    ('{"do": ["emit"]}', 422, "unknown_command"),
    ("{}", 422, "unknown_command"),
    ("[]", 400, "bad_json"),
    ("5", 400, "bad_json"),
    ("", 400, "bad_json"),
    ('{"do": "emit"', 400, "bad_json"),
    ("[" * 50_000, 400, "bad_json"),
    ("\x00", 400, "bad_json"),
])
def test_what_cannot_be_done_is_answered(server: Server, message: str, status: int, code: str) -> None:
    """A message that makes no sense, or fails, gets a problem document; the connection goes on."""
    with opened(server) as client:
        client.ws.send(message)
        told, body = client.reply(None)
        assert (told, body["status"], body["code"]) == (status, status, code)
        assert client.ask("emit", event="echo", data=1)[0] == 200


def test_control(server: Server) -> None:
    """The governor takes orders, and what becomes of them also comes as events."""
    with opened(server) as client:
        status, body = client.ask("control", action="set_mode", mode="fast")
        assert status in (200, 202)
        assert body["action"] == "set_mode"
        assert client.wait_for("control_result")[-1]["status"] == "done"
        client.wait_for("governor_update")
        while (asked := client.ask("control", action="status"))[0] == 202:
            pass  # the governor has taken longer than an answer waits
        assert (asked[0], asked[1]["result"]["mode"]) == (200, "fast")
        client.ask("control", action="set_mode", mode="explosive")
        client.read_until(lambda client: "failed" in [told["status"] for told in client.wait_for("control_result")])


def test_acknowledging_what_the_server_emits(server: Server) -> None:
    """An event that asks for it is acknowledged on the connection it came by, once."""
    with opened(server) as client:
        before = len(server.notes()["acks"])
        server.ask("POST", "/ask", {"event": "question", "data": 1, "to": client.sid})
        client.wait_for("question")
        ack = client.named("question")[0]["ack"]
        assert client.ask("ack", ack=ack, args=["yes", 2]) == (200, {})
        assert server.notes()["acks"][before:] == [["yes", 2]]
        assert client.ask("ack", ack=ack)[1]["code"] == "unknown_ack"


def test_leaving(server: Server) -> None:
    """``disconnect`` is answered, ends the client at once, and the connection with it."""
    with opened(server) as client:
        sid = client.sid
        client.say("disconnect", ref=1)
        assert client.read_to_end() == (1000, "disconnected")
        assert client.names() == ["hybrid_open", "hybrid_disconnect", "reply"]
        assert client.reply(1) == (200, {})
        wait_until(lambda: server.notes()["reasons"].get(sid) == "client disconnect")
    assert server.status()["clients"] == 0


def test_the_host_ends_a_client(server: Server) -> None:
    """``disconnect`` on the server side says so, and closes."""
    with opened(server) as client:
        server.emit("before")
        server.ask("POST", "/kick", {"sid": client.sid})
        assert client.read_to_end() == (1000, "disconnected")
        assert client.names() == ["hybrid_open", "before", "hybrid_disconnect"]


@pytest.mark.parametrize("way", ["close", "vanish"])
def test_a_client_that_hangs_up_is_forgotten(server: Server, way: str) -> None:
    """A client that closes, or is just gone, is noticed; what it said last is still carried out."""
    with opened(server) as client, opened(server) as other:
        sid = client.sid
        client.say("emit", event="shout", data="bye")
        getattr(client, way)()
        assert other.wait_for("heard") == [{"text": "bye"}]
        wait_until(lambda: sid in server.notes()["disconnected"])
        wait_until(lambda: server.status()["streams"] == 1)


def test_a_burst_of_commands_is_answered_in_order(server: Server) -> None:
    """However many commands are sent at once, each is answered, in order: reading waits for what is carried out."""
    with opened(server) as client:
        for number in range(5 * MAX_WAITING):
            client.say("emit", event="echo", data=number, ref=number)
        client.reply(5 * MAX_WAITING - 1)
        assert [frame["reply"] for frame in client.frames if "reply" in frame] == list(range(5 * MAX_WAITING))


# -- tickets -------------------------------------------------------------------------------------------------------


def connected(server: Server, **body: Any) -> dict[str, Any]:
    """Connect by POST; return what is given."""
    answer = server.ask("POST", CONNECT, body)
    assert answer.status == 200, answer
    return dict(answer.json())


def test_several_clients_on_one_connection(server: Server) -> None:
    """Who rides with others says who speaks; only those on this connection can, and need no token."""
    first = connected(server)
    second = connected(server, stream=first["ticket"], namespace="/chat")
    with opened(server) as stranger, opened(server, f"ticket={first['ticket']}") as client:
        assert client.open["sids"] == [first["sid"], second["sid"]]
        assert client.ask("emit", event="whoami")[1]["code"] == "sid_required"
        assert client.ask("emit", event="whoami", sid=stranger.sid)[1]["code"] == "bad_token"
        assert client.ask("emit", event="whoami", sid=first["sid"])[1]["ack"]["sid"] == first["sid"]
        assert client.ask("emit", event="echo", sid=second["sid"], data="hi") == (200, {"ack": "chat: hi"})
        assert client.ask("control", action="status")[0] in (200, 202)  # 202: a busy machine took more than 25 ms
        assert client.ask("disconnect", sid=second["sid"]) == (200, {})
        assert client.ask("emit", event="whoami")[1]["ack"]["sid"] == first["sid"]
        server.ask("POST", "/kick", {"sid": stranger.sid})


def test_a_stream_takes_over(server: Server) -> None:
    """A stream with the same ticket ends the WebSocket, whose client goes on as who it was."""
    given = connected(server)
    with opened(server, f"ticket={given['ticket']}") as client:
        server.emit("first")
        client.wait_for("first")
        with server.opened(f"ticket={given['ticket']}&envelope=1&last_event_id={client.frames[-1]['id']}") as stream:
            assert client.read_to_end() == (1000, "replaced")
            server.emit("second", to=given["sid"])
            stream.read_until(lambda stream: json.loads(stream.messages[-1].data)["event"] == "second")
            assert server.status()["streams"] == 1
        wait_until(lambda: given["sid"] in server.notes()["disconnected"])


# -- refusals ------------------------------------------------------------------------------------------------------


def refused(server: Server, query: str = "", method: str = "GET",
            headers: Mapping[str, str | None] = MappingProxyType({})) -> Answer:
    """Try to open a WebSocket that is refused; return the answer, which is a problem document."""
    merged = {name: value for name, value in {**HANDSHAKE, **headers}.items() if value is not None}
    answer = server.ask(method, f"{WS}?{query}", headers=merged)
    assert answer.headers["content-type"] == "application/problem+json", answer
    assert answer.json()["status"] == answer.status
    assert server.status()["streams"] == 0
    assert server.status()["clients"] == 0
    return answer


def test_the_connect_handler_refuses(server: Server) -> None:
    """A ``connect`` handler that says no is heard before the handshake, and tells why."""
    answer = refused(server, "explain=1")
    assert (answer.status, answer.json()["code"]) == (403, "connection_refused")
    assert answer.json()["reason"] == ["not today", {"until": "tomorrow"}]


@pytest.mark.parametrize(("query", "status", "code"), [
    ("namespace=chat", 422, "bad_query"), ("format=html", 422, "bad_query"),
    ("snapshot=maybe", 422, "bad_query"), ("events=a%0Ab", 422, "bad_event_name"),
    ("ticket=unheard-of", 403, "bad_ticket")])
def test_queries_that_make_no_sense_are_refused(server: Server, query: str, status: int, code: str) -> None:
    """A query is judged before the handshake."""
    answer = refused(server, query)
    assert (answer.status, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_foreign_origins_are_refused(server: Server, origin: str) -> None:
    """A web page of another origin gets no WebSocket, whatever the browser lets it try."""
    assert refused(server, headers={"Origin": origin}).json()["code"] == "foreign_origin"


@pytest.mark.parametrize("origin", ["http://localhost:3000", "https://dash.example"])
def test_allowed_origins(server: Server, origin: str) -> None:
    """A page of an allowed origin gets one."""
    with opened(server, headers={"Origin": origin}) as client:
        assert client.ask("emit", event="echo", data=1)[0] == 200


def test_a_request_that_is_no_websocket(server: Server) -> None:
    """An ordinary request is told what this URL is for."""
    answer = refused(server, headers={"Connection": "close", "Upgrade": None})
    assert (answer.status, answer.json()["code"]) == (426, "upgrade_required")
    assert answer.headers["upgrade"] == "websocket"
    answer = refused(server, method="POST")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, OPTIONS")
    assert server.ask("OPTIONS", WS).headers["allow"] == "GET, OPTIONS"


@pytest.mark.parametrize(("headers", "status"), [
    ({"Sec-WebSocket-Version": "8"}, 426), ({"Sec-WebSocket-Version": None}, 426), ({"Sec-WebSocket-Key": None}, 400)])
def test_handshakes_that_lack_something(server: Server, headers: dict[str, str | None], status: int) -> None:
    """A handshake of another version, or without a key, is refused; nobody has connected for it."""
    before = server.notes()["connected"]
    answer = refused(server, headers=headers)
    assert answer.status == status
    assert status != 426 or answer.headers["sec-websocket-version"] == "13"
    assert server.notes()["connected"] == before


@pytest.mark.parametrize(("sent", "code"), [
    (lambda ws: ws.send(b"binary", opcode=websocket.ABNF.OPCODE_BINARY), 1003),
    (lambda ws: ws.send("x" * (2 * MAX_EVENT)), 1009),
    (lambda ws: ws.send("x" * (200 * MAX_EVENT)), 1009),
    (lambda ws: ws.send("ü" * (MAX_EVENT - 10)), 1009),
    (lambda ws: ws.sock.sendall(b"\x81\x03abc"), 1002),
    (lambda ws: ws.send(b"\xff\xfe", opcode=websocket.ABNF.OPCODE_TEXT), 1007),
], ids=["binary", "too large", "far too large", "too many bytes", "unmasked", "no UTF-8"])
def test_what_cannot_be_read_ends_the_connection(server: Server, sent: Callable[[Any], Any], code: int) -> None:
    """A binary frame, one that is too large, or none at all, closes the connection with the code that says so."""
    with opened(server) as other, opened(server) as client:
        sent(client.ws)
        assert client.read_to_end() == (code, "chatter" if code == 1003 else "")
        server.emit("fact_added")
        other.wait_for("fact_added")


def test_a_client_that_goes_before_it_is_accepted() -> None:
    """A client that is gone when its ``connect`` handler has run leaves nothing behind, and no error in the log."""
    with serving("werkzeug") as server:
        with server.connect() as http:
            http.request("GET", f"{WS}?hang=1", headers=HANDSHAKE)
            wait_until(lambda: server.status()["clients"] == 1)
            http.reset()
        server.ask("POST", CONTROL, {"action": "set_mode", "mode": "release"})
        wait_until(lambda: server.status()["traffic"]["ended"] == {"gone": 1})
        wait_until(lambda: server.status()["clients"] == 0)
        assert "Traceback" not in server.log()


def test_compression_is_not_agreed_on(server: Server) -> None:
    """A few compressed bytes could become megabytes: the extension is declined, and the connection works without."""
    with opened(server, headers={"Sec-WebSocket-Extensions": "permessage-deflate"}) as client:
        assert "sec-websocket-extensions" not in (client.ws.getheaders() or {})
        assert client.ask("emit", event="echo", data="x" * 1000)[0] == 200


# -- settings ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=_kinds(*SERVERS))
def kind(request: pytest.FixtureRequest) -> str:
    """For tests that need a server with settings of their own."""
    return str(request.param)


def serving(kind: str, *options: str, **settings: object) -> Server:
    """Return a server with our WebSocket."""
    return Server(kind, *options, **{"ENABLE_WS_SPECIAL": "true", "HYBRID_RESUME_S": 0, **settings})


def test_a_stalled_client_holds_up_nobody(kind: str) -> None:
    """While one client does not read at all, everybody else gets everything, and emitting goes on."""
    with serving(kind, HYBRID_STALL_S=3600) as server, opened(server, rcvbuf=4096), opened(server) as client, \
            server.opened() as stream:
        assert server.emit("fact_added", 200, size=65536)
        assert [data["i"] for data in client.wait_for("fact_added", 200)] == list(range(200))
        assert len(stream.wait_for("fact_added", 200)) == 200
        assert client.ask("emit", event="echo", data=1) == (200, {"ack": [1]})
        assert server.status()["streams"] == 3
        assert server.status()["traffic"]["ended"] == {}


def test_a_stalled_client_is_given_up(kind: str) -> None:
    """A client that takes no byte for ``HYBRID_STALL_S`` is closed and counted, the others are not."""
    with serving(kind, HYBRID_STALL_S=1) as server, opened(server, rcvbuf=4096) as stalled, \
            opened(server) as client:
        sid = stalled.sid
        for number in range(20):
            server.emit("fact_added", 5, size=65536)
            client.wait_for("fact_added", 5 * number + 5)
        wait_until(lambda: server.status()["traffic"]["ended"] == {"stalled": 1})
        wait_until(lambda: sid in server.notes()["disconnected"])
        server.emit("after")
        client.wait_for("after")
        assert server.status()["streams"] == 1


def test_a_busy_handler_holds_up_only_its_own_client() -> None:
    """While a command is carried out, events still come; more commands wait, in the end in the client itself."""
    with serving("ours", HYBRID_STALL_S=3600) as server, opened(server) as client, opened(server) as other:
        client.say("emit", event="hold", ref="held")
        wait_until(lambda: server.notes()["counts"].get("held") == 1)
        server.emit("meanwhile")
        client.wait_for("meanwhile")
        client.ws.settimeout(0.5)
        with pytest.raises((websocket.WebSocketTimeoutException, TimeoutError)):
            _say_a_lot(client)
        assert other.ask("emit", event="echo", data=1)[0] == 200
        assert other.ask("control", action="set_mode", mode="release")[0] in (200, 202)


def _say_a_lot(client: Socket) -> None:
    """Send more than could wait in the server and the kernel together."""
    for number in range(2000):
        client.say("emit", event="echo", data="x" * 65536, ref=number)


def test_resuming_by_ticket_gives_private_events_too(kind: str) -> None:
    """A client that comes back by its ticket is who it was: also what was for it alone meanwhile is there."""
    with serving(kind, HYBRID_RESUME_S=60) as server:
        given = connected(server)
        query = f"ticket={given['ticket']}"
        with opened(server, query) as client:
            client.ask("emit", event="join", data="club")
            seen = server.emit("seen")
            client.wait_for("seen")
        server.wait_for_streams(0)
        server.emit("private", to=given["sid"])
        server.emit("roomed", to="club")
        with opened(server, f"{query}&last_event_id={seen}") as client:
            client.wait_for("roomed")
            assert client.open["resumed"] is True
            assert client.names() == ["hybrid_open", "private", "roomed"]
            assert client.ask("emit", event="whoami")[1]["ack"]["sid"] == given["sid"]


def test_limits(kind: str) -> None:
    """With all streams taken there is no handshake, but a problem document that says when to come back."""
    with serving(kind, HYBRID_MAX_STREAMS=1) as server, opened(server):
        answer = server.ask("GET", WS, headers=HANDSHAKE)
        assert (answer.status, answer.json()["code"]) == (503, "too_many_streams")
        assert int(answer.headers["retry-after"]) >= 1


def test_limit_of_upgrades() -> None:
    """The host's WebSockets have a bound of their own; a place that is given back can be taken again."""
    with serving("ours", HYBRID_MAX_UPGRADES=1) as server:
        with Socket(server.port, path="/ws/echo"):
            answer = server.ask("GET", "/ws/echo", headers=HANDSHAKE)
            assert (answer.status, answer.json()["code"]) == (503, "too_many_websockets")
            opened(server).vanish()

        def again() -> bool:
            with contextlib.suppress(websocket.WebSocketBadStatusException):
                Socket(server.port, path="/ws/echo").vanish()
                return True
            return False

        wait_until(again)


def test_commands_need_the_key(kind: str) -> None:
    """With a key set, who did not send it in the handshake may listen and leave, not command."""
    with serving(kind, HAKGAL_API_KEY="secret") as server:
        with opened(server) as listener, opened(server, headers={"X-API-Key": "secret"}) as commander:
            for message in ({"do": "emit", "event": "echo"}, {"do": "ack", "ack": "x"},
                            {"do": "control", "action": "status"}):
                status, body = listener.ask(**message)
                assert (status, body["code"]) == (401, "key_required")
            assert commander.ask("emit", event="shout", data="hi") == (200, {"ack": "shouted"})
            assert listener.wait_for("heard") == [{"text": "hi"}]
            assert listener.ask("disconnect") == (200, {})
        answer = server.ask("GET", WS, headers={**HANDSHAKE, "X-API-Key": "wrong"})
        assert (answer.status, answer.json()["code"]) == (401, "wrong_key")


def test_other_machines_need_the_key_or_a_ticket() -> None:
    """Whoever is not on this machine opens one with the key, or with the ticket that somebody got who had it."""
    elsewhere = {"X-Forwarded-For": "203.0.113.5"}
    with serving("werkzeug", HAKGAL_API_KEY="secret") as server:
        answer = server.ask("GET", WS, headers={**HANDSHAKE, **elsewhere})
        assert (answer.status, answer.json()["code"]) == (401, "key_required")
        ticket = server.ask("POST", CONNECT, {}, {**elsewhere, "X-API-Key": "secret"}).json()["ticket"]
        with opened(server, f"ticket={ticket}", elsewhere) as client:
            server.emit("fact_added")
            client.wait_for("fact_added")
            assert client.ask("emit", event="echo")[1]["code"] == "key_required"


def test_without_command_routes_there_are_no_commands() -> None:
    """``ENABLE_CONTROL_HTTP=false`` leaves out the commands of the WebSocket as well."""
    with serving("werkzeug", ENABLE_CONTROL_HTTP="false") as server, opened(server) as client:
        for do in ("emit", "control"):
            status, body = client.ask(do, event="echo", action="status")
            assert (status, body["code"]) == (404, "not_served")
        assert client.ask("disconnect") == (200, {})


def test_answers_are_bounded() -> None:
    """An answer that is larger than an event may be is left out, and said to be."""
    agent = {"User-Agent": "x" * 1000}  # which is part of the answer
    with serving("werkzeug", HYBRID_MAX_EVENT_BYTES=1000) as server, opened(server, headers=agent) as client:
        assert client.ask("emit", event="echo", data="x" * 800)[0] == 200
        status, body = client.ask("emit", event="whoami")
        assert (status, body["code"]) == (500, "answer_too_large")


@pytest.mark.parametrize("enabled", ["false", None])
def test_left_out_by_default(kind: str, enabled: str | None) -> None:
    """Without ``ENABLE_WS_SPECIAL`` the URL is not ours: the host answers as to any it does not know."""
    with Server(kind, **({} if enabled is None else {"ENABLE_WS_SPECIAL": enabled})) as server:
        for headers in (HANDSHAKE, {}):
            answer = server.ask("GET", WS, headers=headers)
            assert (answer.status, answer.headers["content-type"].split(";")[0]) == (404, "text/html")


def test_flask_sock_is_not_needed() -> None:
    """Our WebSocket does not import it: only the host does, for its own."""
    program = ("import sys, flask, hakgal_hybrid; app = flask.Flask('x'); "
               "hakgal_hybrid.HybridTransport(app, enable_ws_special=True); print('flask_sock' in sys.modules)")
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=30)
    assert ran.stdout.strip() == "False"


def test_a_server_that_keeps_its_socket() -> None:
    """Where the server hands its socket to nobody, that is said, to whoever asks."""
    with serving("waitress") as server:
        for headers in (HANDSHAKE, {}):
            answer = server.ask("GET", WS, headers=headers)
            assert (answer.status, answer.json()["code"]) == (501, "no_websocket_here")
        assert server.status()["streams"] == 0
        assert "Traceback" not in server.log()


@needs_posix
def test_several_processes_are_refused() -> None:
    """Where several processes would each hold a part of the events, there is no handshake."""
    with Server("gunicorn-gthread", "--workers", "2", ENABLE_WS_SPECIAL="true") as server:
        answer = server.ask("GET", WS, headers=HANDSHAKE)
        assert (answer.status, answer.json()["code"]) == (503, "several_processes")


# -- stopping ------------------------------------------------------------------------------------------------------


def test_stop_says_good_bye(kind: str) -> None:
    """``transport.stop()`` flushes every connection, says good-bye and closes it, whatever serves it."""
    with serving(kind) as server, opened(server) as first, opened(server) as second:
        server.emit("fact_added", 50)
        server.ask("POST", "/stop-streams", {})
        for client in (first, second):
            assert client.read_to_end() == (1001, "stopped")
            assert client.names() == ["hybrid_open", *["fact_added"] * 50, "hybrid_bye"]
            assert client.frames[-1]["data"]["retry_ms"] >= 1
        wait_until(lambda: server.status()["traffic"]["ended"] == {"stopped": 2})
        wait_until(lambda: server.status()["clients"] == 0)


def test_our_server_waits_for_the_farewell() -> None:
    """When our server is told to end, connections are flushed and closed before the process is gone."""
    with serving("ours", HYBRID_DRAIN_S=10) as server, opened(server, rcvbuf=65536) as client:
        server.emit("fact_added", 40, size=65536)  # more than the kernel holds
        server.process.terminate()
        assert client.read_to_end() == (1001, "stopped")
        assert client.names() == ["hybrid_open", *["fact_added"] * 40, "hybrid_bye"]
        assert server.ended() == 0
        assert "Traceback" not in server.log()


def test_our_server_does_not_wait_for_ever() -> None:
    """A client that does not read keeps our server from ending no longer than ``HYBRID_DRAIN_S``."""
    with serving("ours", HYBRID_DRAIN_S=2, HYBRID_STALL_S=3600) as server, opened(server, rcvbuf=4096), \
            opened(server) as client:
        server.emit("fact_added", 200, size=65536)
        client.wait_for("fact_added", 200)
        server.process.terminate()
        assert client.read_to_end() == (1001, "stopped")
        assert server.ended() == 0


def test_a_command_that_runs_as_the_server_stops_is_answered() -> None:
    """A stop waits for what is being carried out, and its answer is sent before the farewell."""
    with serving("ours", HYBRID_DRAIN_S=5) as server, opened(server) as client, opened(server) as other:
        client.say("emit", event="hold", ref="held")
        wait_until(lambda: server.notes()["counts"].get("held") == 1)
        server.ask("POST", "/stop-streams", {})
        assert other.read_to_end() == (1001, "stopped")
        server.ask("POST", CONTROL, {"action": "set_mode", "mode": "release"})
        assert client.read_to_end() == (1001, "stopped")
        assert client.reply("held") == (200, {"ack": None})
        names = client.names()
        assert names[-1] == "hybrid_bye"
        assert "reply" in names  # what releasing it emits may come between the two


# -- in this process: what is left behind, and what a host may have configured -----------------------------------------


@contextlib.contextmanager
def werkzeug_with(app: Flask) -> Iterator[int]:
    """Serve an app by Werkzeug in this process; return the port."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        # What a request's thread raises at its end belongs to this test, not to the next one.
        wait_until(lambda: not of_connections())


def of_connections() -> list[str]:
    """The threads that connections have."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if "request_thread" in name or "websocket" in name]


def test_no_threads_are_left() -> None:
    """However connections end, their threads end with them, and so do their clients."""
    app = create_app(enable_ws_special=True, resume_s=0, heartbeat_s=HEARTBEAT_S, stall_s=0.5)
    transport = HybridTransport.of(app)
    with werkzeug_with(app) as port:
        clients = [Socket(port) for _ in range(4)]
        stalled = Socket(port, rcvbuf=4096)
        for client in (*clients, stalled):
            assert client.open
        clients[0].close()
        clients[1].vanish()
        clients[2].ws.send(b"binary", opcode=websocket.ABNF.OPCODE_BINARY)
        transport.node.lifecycle.end_client(transport.hub.client(clients[3].sid), "server disconnect")  # type: ignore[arg-type]
        for number in range(200):
            transport.emit("fact_added", {"i": number, "padding": "x" * 65536})
        wait_until(lambda: transport.hub.deliveries.snapshot().ended.get("stalled") == 1)
        stopped = Socket(port)
        assert stopped.open
        assert of_connections()
        transport.stop()
        assert stopped.read_to_end() == (1001, "stopped")
        wait_until(lambda: not transport.hub.clients())
        wait_until(lambda: not of_connections(), what="no thread of a connection is left")
        assert transport.hub.sessions.open == 0
        for client in (*clients, stalled, stopped):
            client.vanish()


def test_an_answer_comes_after_all_that_was_emitted() -> None:
    """However much a handler emits before it returns, its answer is what comes last."""
    app = create_app(enable_ws_special=True)
    transport = HybridTransport.of(app)

    def much() -> None:
        for number in range(30):
            transport.emit("part", {"i": number, "padding": "x" * 65536})

    transport.socketio.on("much")(much)
    with werkzeug_with(app) as port, Socket(port) as client:
        assert client.ask("emit", event="much")[0] == 200
        assert client.names() == ["hybrid_open", *["part"] * 30, "reply"]


def test_a_client_that_asks_but_does_not_read_has_to_wait() -> None:
    """Commands are not carried out far ahead of what the client reads of their answers: memory stays bounded."""
    app = create_app(enable_ws_special=True, resume_s=0, stall_s=0.5)
    transport, done = HybridTransport.of(app), []

    def large() -> str:
        done.append(1)
        return "x" * 65536

    transport.socketio.on("large")(large)
    with werkzeug_with(app) as port, Socket(port, rcvbuf=4096) as client:
        for _ in range(500):
            client.say("emit", event="large")
        wait_until(lambda: transport.hub.deliveries.snapshot().ended == {"stalled": 1})
        wait_until(lambda: not transport.hub.clients())
        assert 1 <= len(done) < 100


@pytest.mark.parametrize("options", [
    {"ping_interval": 0.1}, {"max_message_size": 10}, {"subprotocols": ["chat"]}, {"receive_bytes": 1},
    {"no_such_option": 1}])
def test_options_of_the_hosts_own_websockets(options: dict[str, Any]) -> None:
    """``SOCK_SERVER_OPTIONS`` are the host's: ours goes on with whatever they say."""
    app = create_app(enable_ws_special=True, heartbeat_s=HEARTBEAT_S)
    app.config["SOCK_SERVER_OPTIONS"] = options
    with werkzeug_with(app) as port, Socket(port) as client:
        assert client.ask("emit", event="echo", data="x" * 2000) == (200, {"ack": ["x" * 2000]})
        client.wait_for("hybrid_heartbeat", 3)
        HybridTransport.of(app).emit("fact_added")
        client.wait_for("fact_added")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_commands_that_fail_as_nobody_expects(monkeypatch: pytest.MonkeyPatch,
                                              caplog: pytest.LogCaptureFixture) -> None:
    """What no rule covers is logged and answered with 500; a handler that ends its thread ends the connection."""
    app = create_app(enable_ws_special=True, resume_s=0)
    transport = HybridTransport.of(app)

    def leave() -> None:
        raise SystemExit

    def fail(*_: object) -> None:
        raise LookupError("not even this was expected")

    transport.socketio.on("leave_thread")(leave)
    monkeypatch.setattr(transport.node.governor_queue, "take", fail)
    with werkzeug_with(app) as port, Socket(port) as client:
        status, body = client.ask("control", action="status")
        assert (status, body["code"]) == (500, "internal_error")
        assert "not even this was expected" in caplog.text
        client.say("emit", event="leave_thread")
        assert client.read_to_end() == (1011, "failed")
        wait_until(lambda: transport.hub.deliveries.snapshot().ended == {"failed": 1})


def test_the_hosts_own_websockets_go_on() -> None:
    """A route of the host's beside ours is not touched."""
    app = create_app(enable_ws_special=True)
    with werkzeug_with(app) as port, Socket(port, path="/ws/echo") as client:
        client.ws.send('{"event": "mine"}')
        client.read()
        assert client.frames == [{"event": "mine"}]


def test_asked_through_the_test_client() -> None:
    """Flask's test client has no socket to hand over: that is said as under any such server."""
    api = InProcess(create_app(enable_ws_special=True))
    assert api.ask("GET", WS).status == 426
    assert api.ask("GET", WS, headers=HANDSHAKE).json()["code"] == "no_websocket_here"
    assert api.status()["clients"] == 0


def test_tls_is_left_to_a_proxy() -> None:
    """A TLS socket cannot be read and written at the same time by two threads: that is said before the handshake."""
    api = InProcess(create_app(enable_ws_special=True))
    with ssl.create_default_context().wrap_socket(socket.socket(), server_hostname="localhost") as sock:
        answer = api.ask("GET", WS, headers=HANDSHAKE, **{"werkzeug.socket": sock})
    assert (answer.status, answer.json()["code"]) == (501, "no_websocket_over_tls")
    assert api.status()["clients"] == 0


# -- our own server -------------------------------------------------------------------------------------------------


def test_they_take_no_threads() -> None:
    """More are open than the server has threads: each gets every event once, and is answered."""
    with serving("ours", HYBRID_THREADS=2, HYBRID_RESERVED_THREADS=2, HYBRID_MAX_UPGRADES=0) as server, \
            contextlib.ExitStack() as kept:
        clients = [kept.enter_context(opened(server)) for _ in range(30)]
        server.emit("fact_added", 20)
        for client in clients:
            assert client.ask("emit", event="echo", data=1) == (200, {"ack": [1]})
            assert client.names() == ["hybrid_open", *["fact_added"] * 20, "reply"]
        assert threads_of(server) <= 12


def threads_of(server: Server) -> int:
    """Return how many threads the server's process has; 0 where the system does not say."""
    status = Path(f"/proc/{server.process.pid}/status")
    found = re.search(r"^Threads:\s+(\d+)", status.read_text(), re.MULTILINE) if status.exists() else None
    return int(found.group(1)) if found else 0


def test_tls_of_our_own_server(certificate: tuple[str, str]) -> None:
    """Over TLS it is the same: events, commands, heartbeats, the farewell."""
    options = ["--certfile", certificate[0], "--keyfile", certificate[1]]
    with serving("ours", *options, HYBRID_HEARTBEAT_S=HEARTBEAT_S) as server, Socket(server.port, tls=True) as client:
        server.emit("fact_added", 20, size=65536)
        assert len(client.wait_for("fact_added", 20)) == 20
        assert client.ask("emit", event="echo", data=1) == (200, {"ack": [1]})
        client.wait_for("hybrid_heartbeat", 2)
        server.ask("POST", "/stop-streams", {})
        assert client.read_to_end() == (1001, "stopped")
        assert client.names()[-1] == "hybrid_bye"


# -- the parts -----------------------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection with small buffers."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with ours, theirs:
        yield ours, theirs


class Conversation:
    """Our WebSocket without a connection, and what its client sends and gets."""

    def __init__(self, **settings: Any) -> None:
        self.transport = HybridTransport.of(create_app(enable_ws_special=True, resume_s=0, **settings))
        self.stream = open_feed_of(self.transport, format=Format.ENVELOPE_FRAMES)
        self.calls: deque[Callable[[], object]] = deque()
        self.woken = 0
        self.end = EventsWebSocket(Sharing(self.transport.node, self._submit), self.stream, "answer to {}".format,
                                   self._wake)
        self.frames = FrameProtocol(client=True, extensions=[])

    def _submit(self, call: Callable[[], object]) -> bool:
        self.calls.append(call)
        return True

    def _wake(self) -> None:
        self.woken += 1

    def say(self, *messages: str) -> None:
        """Send messages."""
        self.end.receive(b"".join(bytes(self.frames.send_data(message, True)) for message in messages))

    def ended(self) -> dict[str, int]:
        """Return why streams have ended."""
        return dict(self.transport.hub.deliveries.snapshot().ended)


def test_no_more_is_read_than_may_wait() -> None:
    """Messages wait for a thread, and answers for the client; it may send more when there is room for both."""
    client = Conversation()
    client.say(*["x"] * MAX_WAITING)
    assert not client.end.paused
    client.say("one more")
    assert client.end.paused
    client.calls.popleft()()
    assert client.end.paused  # so many answers wait
    assert client.end.take().count(b"answer to x") == MAX_ANSWERS
    while client.calls:
        client.calls.popleft()()
        client.end.take()
    assert not client.end.paused
    assert client.end.take() == b""


def test_pings_do_not_put_heartbeats_off() -> None:
    """A pong says nothing of how far the stream has come."""
    client = Conversation(heartbeat_s=0.05)
    client.end.take()
    ends = time.monotonic() + SOON
    sent = b""
    while b"hybrid_heartbeat" not in sent and time.monotonic() < ends:
        client.end.receive(bytes(client.frames.ping(b"x")))
        sent = client.end.take()
    assert b"hybrid_heartbeat" in sent


def test_what_was_said_last_is_carried_out() -> None:
    """The stream of a client that has gone ends behind its last command."""
    client = Conversation()
    client.say("last")
    client.end.lost()
    assert client.ended() == {}
    client.calls.popleft()()
    assert client.ended() == {"gone": 1}
    client.end.lost(StreamEnd.STALLED)
    assert client.ended() == {"gone": 1}


@pytest.mark.parametrize(("settings", "stopping", "why"), [
    ({"stall_s": 0.1}, False, "stalled"), ({"stall_s": 3600, "drain_s": 0.1}, True, "stopped")])
def test_a_client_that_takes_nothing_is_given_up(pair: tuple[socket.socket, socket.socket], settings: dict[str, Any],
                                                 stopping: bool, why: str) -> None:
    """After ``HYBRID_STALL_S``; while the server stops, after ``HYBRID_DRAIN_S``, however patient it was before."""
    client = Conversation(**settings)
    client.transport.emit("large", "x" * 500_000)
    SocketLoop(pair[0], Settings(**settings), lambda: stopping).run(client.end)
    assert client.ended() == {why: 1}


def test_a_socket_is_left_to_its_owner(pair: tuple[socket.socket, socket.socket]) -> None:
    """When its client has gone it is not closed here: its descriptor could be another connection's by then."""
    client = Conversation()
    pair[1].close()
    SocketLoop(pair[0], Settings(), lambda: False).run(client.end)
    assert client.ended() == {"gone": 1}
    assert pair[0].fileno() >= 0
