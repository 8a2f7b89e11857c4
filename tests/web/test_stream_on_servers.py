"""The stream on the wire: one suite, run against our server and those that users already have."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import httpx_sse
import pytest
from support.servers import (
    EMIT,
    SERVERS,
    SOON,
    STATUS,
    STREAM,
    Server,
    Stream,
    shown_on_failure,
    wait_until,
)

from hakgal_hybrid.broker.formats import Format
from hakgal_hybrid.errors import RequestError
from hakgal_hybrid.web.stream_query import parse_stream_request

HEARTBEAT_S = 0.05
LOG_EVENTS = 300

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="gunicorn needs POSIX")


def _kinds() -> list[Any]:
    return [pytest.param(kind, marks=[needs_posix, pytest.mark.long])
            if kind.startswith("gunicorn") else kind for kind in SERVERS]


#: The server that the tests here share.
SERVER = {"HYBRID_HEARTBEAT_S": HEARTBEAT_S, "HYBRID_LOG_EVENTS": LOG_EVENTS,
          "HYBRID_ORIGINS": "https://dash.example", "HYBRID_RESUME_S": 0}
SERVER_KINDS = _kinds()
SERVER_ERRORS = ()


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    """The running server, with no stream open."""
    running.wait_for_streams(0)
    with shown_on_failure(running):
        yield running


@pytest.fixture(scope="module", params=_kinds())
def kind(request: pytest.FixtureRequest) -> str:
    """For tests that need a server with settings of their own."""
    return str(request.param)


def later_id(event_id: str, by: int) -> str:
    """Return the id of the event ``by`` places later."""
    epoch, number = event_id.split("-")
    return f"{epoch}-{int(number) + by}"


# -- what a stream looks like --------------------------------------------------------------------------------------


def test_headers_are_those_of_the_contract(server: Server) -> None:
    """A stream says what it is, and that nobody on the way may cache, compress or buffer it."""
    with server.stream() as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream"
        assert stream.headers["cache-control"] == "no-cache, no-transform"
        assert stream.headers["x-accel-buffering"] == "no"
        assert "content-length" not in stream.headers
        assert "content-encoding" not in stream.headers


def test_opening_block(server: Server) -> None:
    """A stream begins with the reconnection time and ``hybrid_open``, which carries the newest id."""
    newest = server.emit("before")
    with server.opened() as stream:
        assert stream.raw.startswith(f"retry: 3000\nid: {newest}\nevent: hybrid_open\ndata: ".encode())
        assert stream.decoder.retry == 3000
        told = stream.open
        assert re.fullmatch(r"[A-Za-z0-9_-]{16,}", told.pop("sid"))
        assert re.fullmatch(r"[A-Za-z0-9_-]{32,}", told.pop("token"))
        assert told == {"profile": "HYBRID", "heartbeat_s": HEARTBEAT_S, "oldest": server.status()["oldest"],
                        "newest": newest, "resumed": False}


def test_every_client_is_somebody_else(server: Server) -> None:
    """No two streams have the same ``sid`` or token."""
    with server.opened() as first, server.opened() as second:
        assert first.sid != second.sid
        assert first.open["token"] != second.open["token"]


def test_events_come_in_order_with_ids_that_count(server: Server) -> None:
    """Events arrive in the order they were emitted; their ids are one life of the process and a number."""
    with server.opened() as stream:
        epoch, start = stream.id.split("-")
        assert int(epoch) == server.status()["epoch"]
        server.emit("fact_added", 100)
        assert stream.wait_for("fact_added", 100) == [{"i": number} for number in range(100)]
        assert [message.id for message in stream.named("fact_added")] == [
            f"{epoch}-{int(start) + number}" for number in range(1, 101)]


def test_bytes_of_an_event(server: Server) -> None:
    """An event is its id, name and data, one line each; Unicode travels as it is."""
    with server.opened() as stream:
        newest = server.emit("greeting", data={"text": "Grüße \u2028 \U0001f600", "lines": "a\nb\rc"})
        stream.wait_for("greeting")
        block = f'id: {newest}\nevent: greeting\ndata: {{"text":"Grüße \u2028 \U0001f600","lines":"a\\nb\\rc"}}\n\n'
        assert block.encode() in stream.raw


def test_arguments(server: Server) -> None:
    """No argument is ``null``, one is itself, several are an array; bytes travel as base64."""
    with server.opened() as stream:
        for args in ([], [1], [1, "b"], [[1, 2]]):
            server.emit("arguments", args=args)
        assert stream.wait_for("arguments", 4) == [None, 1, [1, "b"], [1, 2]]
        server.ask("POST", "/binary", b"\x00\xff\x00")
        assert stream.wait_for("binary") == [{"picture": {"$binary": "AP8A"}}]


def test_every_client_gets_every_event(server: Server) -> None:
    """What is emitted once reaches all streams, the same bytes under the same id."""
    streams = [server.opened() for _ in range(5)]
    try:
        server.emit("fact_added", 20)
        for stream in streams:
            stream.wait_for("fact_added", 20)
        assert len({tuple(stream.named("fact_added")) for stream in streams}) == 1
    finally:
        for stream in streams:
            stream.close()


def test_heartbeats_carry_the_newest_id(server: Server) -> None:
    """A stream that nothing is for gets heartbeats, by which its last id is the newest one."""
    with server.opened("events=none&heartbeat=comment") as stream:  # what means nothing is not refused
        newest = server.emit("fact_added")
        stream.read_until(lambda stream: len(stream.heartbeats) > 2 and stream.id == newest)
        assert {(message.data, message.event) for message in stream.heartbeats} == {("{}", "hybrid_heartbeat")}
        block = f"id: {newest}\nevent: hybrid_heartbeat\ndata: {{}}\n\n".encode()
        assert block in stream.raw
        assert [message.event for message in stream.messages] == ["hybrid_open"]


def test_httpx_sse_reads_a_stream(server: Server) -> None:
    """A client of somebody else's making gets the events and, in between, no phantom ones."""
    with (httpx.Client(timeout=SOON) as client,
          httpx_sse.connect_sse(client, "GET", f"http://127.0.0.1:{server.port}{STREAM}") as source):
        events = (event for event in source.iter_sse() if event.event != "hybrid_heartbeat")
        assert next(events).event == "hybrid_open"
        # Some heartbeats go by before anything is emitted.
        timer = threading.Timer(8 * HEARTBEAT_S, server.emit, ["fact_added", 3])
        timer.start()
        received = [next(events) for _ in range(3)]
        timer.join()
        assert [event.event for event in received] == ["fact_added"] * 3
        assert [event.json() for event in received] == [{"i": number} for number in range(3)]
        assert received[-1].id == server.status()["newest"]


# -- resuming ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["header", "last_event_id", "lastEventId", "lastEventID", "Last-Event-ID",
                                 "evs_last_event_id"])
def test_resume_gives_everything_after_the_id(server: Server, way: str) -> None:
    """``Last-Event-ID``, as a header or in the query as clients spell it, gives all that came later, once, in order."""
    seen = server.emit("seen")
    newest = server.emit("unseen", 10)
    headers, query = ({"Last-Event-ID": seen}, "") if way == "header" else ({}, f"{way}={seen}")
    with server.opened(query, headers) as stream:
        assert stream.named("hybrid_open")[0].id == seen
        assert stream.open["newest"] == newest
        assert stream.wait_for("unseen", 10) == [{"i": number} for number in range(10)]
        newest = server.emit("live")
        assert stream.wait_for("live") == [{"i": 0}]
        assert stream.id == newest
        assert [message.event for message in stream.messages] == ["hybrid_open"] + ["unseen"] * 10 + ["live"]


def test_header_wins_over_query(server: Server) -> None:
    """A browser that reconnects keeps the URL it began with: the header is what it has really seen."""
    old = server.emit("first")
    recent = server.emit("second")
    server.emit("third")
    with server.opened(f"last_event_id={old}", {"Last-Event-ID": recent}) as stream:
        stream.wait_for("third")
        assert [message.event for message in stream.messages] == ["hybrid_open", "third"]


def test_an_empty_header_is_none(server: Server) -> None:
    """A client that sends the header in any case has seen what its query says."""
    seen = server.emit("first")
    server.emit("second")
    with server.opened(f"lastEventId={seen}", {"Last-Event-ID": ""}) as stream:
        stream.wait_for("second")


def test_the_id_that_a_client_appends_wins_over_the_one_of_its_url(server: Server) -> None:
    """A client that was given a URL with an id, and comes back, appends what it has seen since."""
    old = server.emit("first")
    recent = server.emit("second")
    server.emit("third")
    with server.opened(f"last_event_id={old}&lastEventId={recent}") as stream:
        stream.wait_for("third")
        assert [message.event for message in stream.messages] == ["hybrid_open", "third"]


def test_resume_at_the_newest_id_gives_nothing_old(server: Server) -> None:
    """A client that missed nothing gets nothing again."""
    newest = server.emit("seen")
    with server.opened(headers={"Last-Event-ID": newest}) as stream:
        server.emit("live")
        stream.wait_for("live")
        assert [message.event for message in stream.messages] == ["hybrid_open", "live"]


def test_gap_evicted(server: Server) -> None:
    """A client whose next event is no longer kept is told how many it missed, then goes on with what is kept."""
    seen = server.emit("seen")
    newest = server.emit("fact_added", LOG_EVENTS + 25)
    with server.opened(headers={"Last-Event-ID": seen}) as stream:
        received = stream.wait_for("fact_added", LOG_EVENTS)
        assert stream.payloads("hybrid_gap") == [
            {"missed": 25, "reason": "evicted", "resume_from": later_id(seen, 25)}]
        assert [message.event for message in stream.messages[:3]] == ["hybrid_open", "hybrid_gap", "fact_added"]
        assert stream.named("hybrid_gap")[0].id == later_id(seen, 25)
        assert received == [{"i": number} for number in range(25, LOG_EVENTS + 25)]
        assert stream.id == newest


@pytest.mark.parametrize(("asked", "reason"), [
    ("1-5", "restarted"), ("99999999999999-5", "restarted"), ("nonsense", "malformed"), ("12", "malformed"),
    ("-1", "malformed"), ("1-2-3", "malformed"), ("x" * 200, "malformed"),
])
def test_gap_of_an_id_that_is_not_ours(server: Server, asked: str, reason: str) -> None:
    """An id of another life, or of no life at all, is answered with a gap of unknown size, never by guessing."""
    newest = server.emit("kept", LOG_EVENTS)  # so that nothing else is kept
    oldest = server.status()["oldest"]
    with server.opened(headers={"Last-Event-ID": asked}) as stream:
        stream.wait_for("hybrid_gap")
        assert [message.event for message in stream.messages[:2]] == ["hybrid_open", "hybrid_gap"]
        upto = later_id(oldest, -1) if reason == "restarted" else newest
        assert stream.payloads("hybrid_gap") == [{"missed": None, "reason": reason, "resume_from": upto}]
        assert stream.named("hybrid_gap")[0].id == upto
        # After another life everything that is kept is news; otherwise nothing that is kept is given.
        stream.read_until(lambda stream: stream.id == newest)
        kept = int(newest.split("-")[1]) - int(upto.split("-")[1])
        newest = server.emit("gone_on")
        stream.read_until(lambda stream: stream.messages[-1].event == "gone_on")
        assert stream.id == newest
        assert len(stream.messages) == 3 + kept


def test_gap_of_an_id_from_the_future(server: Server) -> None:
    """An id that has not been given yet is answered with a gap."""
    newest = server.emit("fact_added")
    with server.opened(headers={"Last-Event-ID": later_id(newest, 1000)}) as stream:
        assert stream.wait_for("hybrid_gap") == [{"missed": None, "reason": "future", "resume_from": newest}]
        assert stream.id == newest


def test_every_event_once_while_a_client_reconnects_20_times(server: Server) -> None:
    """200 events, posted while a client hangs up and resumes 20 times, each reach it exactly once and in order."""
    received: list[int] = []
    with server.opened() as stream:
        last_event_id = stream.id
    poster = threading.Thread(target=_post_one_by_one, args=(server, 200))
    poster.start()
    try:
        for turn in range(21):
            with server.opened(headers={"Last-Event-ID": last_event_id}) as stream:
                # The rest of the twenty-first stream is all that is missing; the others end in the middle.
                wanted = 200 - len(received) if turn == 20 else min(9, 200 - len(received))
                stream.read_until(lambda stream, wanted=wanted: len(stream.named("fact_added")) >= wanted, 30)
                received += [data["i"] for data in stream.payloads("fact_added")]
                last_event_id = stream.id
                assert not stream.named("hybrid_gap")
    finally:
        poster.join(30)
    assert received == list(range(200))


def _post_one_by_one(server: Server, number: int) -> None:
    for i in range(number):
        server.emit("fact_added", data={"i": i})


# -- the query -----------------------------------------------------------------------------------------------------


def test_filter(server: Server) -> None:
    """``events=`` lets through the names that match one of its patterns, and our own."""
    with server.opened("events=fact_*,kb_update") as stream:
        for name in ("fact_added", "fact", "kb_update", "kb_updates", "a_fact_", "fact_removed"):
            server.emit(name)
        stream.wait_for("fact_removed")
        assert [message.event for message in stream.messages] == [
            "hybrid_open", "fact_added", "kb_update", "fact_removed"]


def test_ids_stay_fresh_where_nothing_is_for_a_client(server: Server) -> None:
    """A stream that skips events is told their id with a heartbeat."""
    with server.opened("events=nothing_like_this") as stream:
        newest = server.emit("other", 5)
        stream.read_until(lambda stream: stream.id == newest)
        assert stream.heartbeats[-1].id == newest
        assert [message.event for message in stream.messages] == ["hybrid_open"]


def test_namespace(server: Server) -> None:
    """A stream carries the events of its own namespace."""
    with server.opened() as default, server.opened("namespace=/chat") as chat:
        server.emit("for_default")
        server.emit("for_chat", namespace="/chat")
        server.emit("end")
        server.emit("end", namespace="/chat")
        default.wait_for("end")
        chat.wait_for("end")
        assert [message.event for message in default.messages] == ["hybrid_open", "for_default", "end"]
        assert [message.event for message in chat.messages] == ["hybrid_open", "for_chat", "end"]


def test_snapshot(server: Server) -> None:
    """``snapshot=1`` gives the newest retained event of every name first, without ids."""
    server.emit("alpha", 3)
    newest = server.emit("beta", 2)
    with server.opened("snapshot=1&events=alpha,beta") as stream:
        stream.wait_for("beta")
        assert [(message.event, json.loads(message.data)) for message in stream.messages[1:]] == [
            ("alpha", {"i": 2}), ("beta", {"i": 1})]
        assert stream.id == newest
        assert b"\n\nevent: alpha\ndata: " in stream.raw
        server.emit("alpha")
        stream.wait_for("alpha", 2)


def test_snapshot_is_not_repeated_on_resume(server: Server) -> None:
    """EventSource reconnects with the same URL: a resume that works needs no snapshot, one that fails does."""
    seen = server.emit("alpha", 3)
    with server.opened("snapshot=1&events=alpha", {"Last-Event-ID": seen}) as stream:
        server.emit("alpha", first=7)
        assert stream.wait_for("alpha") == [{"i": 7}]
    with server.opened("snapshot=1&events=alpha", {"Last-Event-ID": "nonsense"}) as stream:
        assert stream.wait_for("alpha") == [{"i": 7}]
        assert [message.event for message in stream.messages] == ["hybrid_open", "hybrid_gap", "alpha"]


def test_envelope(server: Server) -> None:
    """``envelope=1`` makes everything an unnamed message that carries name, arguments, id and time."""
    with server.stream("envelope=1") as stream:
        stream.read_until(lambda stream: stream.messages)
        newest = server.emit("several", args=[1, {"b": [2]}])
        stream.read_until(lambda stream: len(stream.messages) == 2)
        assert {message.event for message in stream.messages} == {"message"}
        assert b"event:" not in stream.raw
        opening, several = (json.loads(message.data) for message in stream.messages)
        assert opening["event"] == "hybrid_open"
        assert opening["data"]["sid"] == opening["args"][0]["sid"]
        assert isinstance(several.pop("ts"), int)
        assert several == {"event": "several", "args": [1, {"b": [2]}], "data": [1, {"b": [2]}], "id": newest,
                           "namespace": "/"}
        assert stream.id == newest


@pytest.mark.parametrize("query", ["namespace=chat", "namespace=/a%0Ab", "snapshot=maybe", "envelope=2", "events=a%0Ab",
                                   "format=xml", "format=", "format=HTML", "format=html&unnamed=2",
                                   "events=" + ",".join(f"*{number}*" for number in range(65))])
def test_a_query_that_makes_no_sense_is_refused(server: Server, query: str) -> None:
    """A query is never guessed at: 422, a problem document, no stream."""
    answer = server.ask("GET", f"{STREAM}?{query}")
    assert (answer.status, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["code"] in ("bad_query", "bad_event_name")
    assert server.status()["streams"] == 0


@pytest.mark.parametrize(("query", "named"), [
    ("envelope=1&format=html", ["envelope=1", "format=html"]),
    ("format=json&envelope=1", ["envelope=1", "format=json"]),
    ("envelope=1&unnamed=1", ["envelope=1", "unnamed=1"]), ("unnamed=1", ["unnamed=1", "format=json"]),
    ("format=datastar&unnamed=1", ["unnamed=1", "format=datastar"]),
])
def test_two_formats_at_once_are_refused(query: str, named: list[str]) -> None:
    """What contradicts itself is 422, and the error names both parameters."""
    with pytest.raises(RequestError) as caught:
        parse_stream_request(query)
    assert (caught.value.status, caught.value.code) == (422, "bad_query")
    assert all(name in caught.value.detail for name in named)


@pytest.mark.parametrize(("query", "form"), [
    ("", Format.JSON), ("format=json", Format.JSON), ("format=html", Format.HTML), ("envelope=1", Format.ENVELOPE),
    ("format=html&envelope=0", Format.HTML), ("unnamed=true&format=html", Format.UNNAMED_HTML),
    ("format=datastar&unnamed=0&datastar=%7B%22unnamed%22%3A1%7D", Format.DATASTAR),
])
def test_format(query: str, form: Format) -> None:
    """Which format a query asks for; signals that Datastar adds mean nothing."""
    assert parse_stream_request(query).format is form


def test_stars_beside_each_other_are_one() -> None:
    """``**`` is ``*``, and a pattern that comes often is one: the filter holds what it means, and no more."""
    filtered = parse_stream_request("events=" + ",".join(["*" * 100 + "fact" + "*" * 100] * 15))
    assert filtered.events == ("*fact*",)


def test_a_filter_that_is_too_long_is_refused(server: Server) -> None:
    """A filter longer than 4096 characters is refused, by us or by a server that takes no URL so long."""
    assert server.ask("GET", f"{STREAM}?events={'x' * 5000}").status in (414, 422, 400)
    assert server.status()["streams"] == 0


# -- methods and origins -------------------------------------------------------------------------------------------


def test_head_opens_no_stream(server: Server) -> None:
    """HEAD answers with a stream's headers, no body, and leaves no client behind."""
    connected = server.notes()["connected"]
    with server.connect() as http:
        answer = http.ask("HEAD", STREAM, headers={"Connection": "close"})
        assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
        assert http.rest() == b""
    assert server.status()["streams"] == 0
    assert server.notes()["connected"] == connected


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:8080", "https://dash.example"])
def test_allowed_origins_may_read(server: Server, origin: str) -> None:
    """A page of an allowed origin gets its preflight answered and may read the stream."""
    answer = server.ask("OPTIONS", STREAM, headers={
        "Origin": origin, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "last-event-id"})
    assert answer.status in (200, 204)
    assert answer.body == b""
    assert answer.headers["access-control-allow-origin"] == origin
    assert "GET" in answer.headers["access-control-allow-methods"]
    assert "last-event-id" in answer.headers["access-control-allow-headers"].lower()
    assert "Origin" in answer.headers["vary"]
    assert server.status()["streams"] == 0
    with server.opened(headers={"Origin": origin}) as stream:
        assert stream.headers["access-control-allow-origin"] == origin


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost.evil.example", "null", "file://"])
def test_foreign_origins_may_not(server: Server, origin: str) -> None:
    """A page of another origin gets neither the stream nor leave to ask for it, by no method: it may read why."""
    for method in ("OPTIONS", "GET", "HEAD"):
        answer = server.ask(method, STREAM, headers={"Origin": origin, "Access-Control-Request-Method": "GET"})
        assert answer.status == 403
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
        assert "access-control-allow-methods" not in answer.headers
    assert server.status()["streams"] == 0


def test_options_without_origin(server: Server) -> None:
    """OPTIONS tells what can be asked, and opens nothing."""
    answer = server.ask("OPTIONS", STREAM)
    assert answer.status in (200, 204)
    assert {"GET", "HEAD", "OPTIONS"} == {name.strip() for name in answer.headers["allow"].split(",")}


def test_http_1_0_is_served_until_close(server: Server) -> None:
    """A client of HTTP/1.0 gets the bare stream, without chunks, until the connection is closed."""
    with server.opened(version="1.0") as stream:
        # Werkzeug sends chunks to whoever asks (its handler looks at its own version only).
        assert "transfer-encoding" not in stream.headers or server.kind == "werkzeug"
        assert stream.raw.startswith(b"retry: ")
        server.emit("fact_added", 3)
        stream.wait_for("fact_added", 3)
        server.ask("POST", "/kick", {"sid": stream.sid})
        stream.read_to_end()


# -- coming and going ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["close", "reset"])
def test_a_client_that_hangs_up_is_forgotten(server: Server, way: str) -> None:
    """A client that is gone is noticed within a heartbeat or two, its ``disconnect`` handler run."""
    with server.opened() as stream:
        sid = stream.sid
        assert server.status()["streams"] == 1
        assert sid in server.notes()["connected"]
        getattr(stream, way)()
    server.wait_for_streams(0)
    wait_until(lambda: sid in server.notes()["disconnected"], what="its disconnect handler ran")
    assert server.notes()["disconnected"].count(sid) == 1


def test_the_host_ends_a_stream(server: Server) -> None:
    """``disconnect`` on the server side ends the stream, and with it the client."""
    with server.opened() as stream:
        server.ask("POST", "/kick", {"sid": stream.sid})
        stream.read_to_end()
        server.wait_for_streams(0)
        wait_until(lambda: stream.sid in server.notes()["disconnected"])


@pytest.mark.parametrize(("query", "reason"), [("refuse=1", None), ("explain=1", ["not today", {"until": "tomorrow"}])])
def test_the_connect_handler_refuses(server: Server, query: str, reason: Any) -> None:
    """A ``connect`` handler that says no costs the client its stream, before it has begun, and tells why."""
    answer = server.ask("GET", f"{STREAM}?{query}", headers={"Accept": "text/event-stream"})
    assert (answer.status, answer.headers["content-type"]) == (403, "application/problem+json")
    assert answer.json()["code"] == "connection_refused"
    assert answer.json()["reason"] == reason
    assert server.status()["streams"] == 0


def test_a_host_that_answers_otherwise(server: Server) -> None:
    """A middleware that puts another answer in place of a stream is heard, and no client is left over."""
    answer = server.ask("GET", f"{STREAM}?veto=1")
    assert (answer.status, answer.body) == (403, b"vetoed")
    server.wait_for_streams(0)
    wait_until(lambda: set(server.notes()["connected"]) == set(server.notes()["disconnected"]))


def test_what_the_connect_handler_emits_comes_first(server: Server) -> None:
    """What a ``connect`` handler emits to its client is the first it gets."""
    with server.opened("welcome=1") as stream:
        server.emit("later")
        stream.wait_for("later")
        assert stream.payloads("welcome") == [{"sid": stream.sid}]
        assert [message.event for message in stream.messages] == ["hybrid_open", "welcome", "later"]


def test_rooms(server: Server) -> None:
    """An event for a room, or for one ``sid``, reaches who is in it, from joining to leaving."""
    with server.opened() as inside, server.opened() as outside:
        def say(stream: Stream, event: str) -> None:
            answer = server.ask("POST", EMIT, {"event": event, "data": "club", "sid": stream.sid},
                                {"X-Hybrid-Token": stream.open["token"]})
            assert answer.status == 200, answer

        server.emit("early", to="club")
        say(inside, "join")
        server.emit("meanwhile", to="club")
        server.emit("private", to=outside.sid)
        say(inside, "leave")
        server.emit("late", to="club")
        server.emit("all", to="/")
        inside.wait_for("all")
        outside.wait_for("all")
        assert [message.event for message in inside.messages] == ["hybrid_open", "meanwhile", "all"]
        assert [message.event for message in outside.messages] == ["hybrid_open", "private", "all"]


# -- clients that are behind ---------------------------------------------------------------------------------------


def test_resume_gives_the_newest_of_conflated_names(server: Server) -> None:
    """Who resumes gets of a conflated name the newest event only, and every event of any other name."""
    seen = server.emit("start")
    for number in range(5):
        server.emit("kb_update", first=number)
        server.emit("fact_added", first=number)
    with server.opened("envelope=1", {"Last-Event-ID": seen}) as stream:
        stream.read_until(lambda stream: len(stream.messages) >= 7)
        told = [json.loads(message.data) for message in stream.messages[1:]]
        assert [(event["event"], event["data"]["i"]) for event in told] == [
            ("fact_added", 0), ("fact_added", 1), ("fact_added", 2), ("fact_added", 3), ("kb_update", 4),
            ("fact_added", 4)]
        assert [event.get("conflated") for event in told] == [None, None, None, None, 4, None]


def test_conflation_for_a_client_that_lags(server: Server) -> None:
    """Of a conflated name a client that lags gets fewer events, the newest among them, all accounted for."""
    with server.opened("envelope=1", rcvbuf=4096) as stream:
        before = server.status()["log"]["conflated"]
        server.emit("kb_update", 250, size=65536)
        stream.read_until(lambda stream: json.loads(stream.messages[-1].data)["data"].get("i") == 249, 30)
        told = [json.loads(message.data) for message in stream.messages[1:]]
        numbers = [event["data"]["i"] for event in told]
        assert numbers == sorted(set(numbers))
        assert len(told) < 250
        assert len(told) + sum(event.get("conflated", 0) for event in told) == 250
        assert server.status()["log"]["conflated"] - before == 250 - len(told)


def test_a_slow_client_gets_every_event_of_other_names(server: Server) -> None:
    """What is not conflated reaches a client that reads late completely and in order."""
    with server.opened(rcvbuf=4096) as stream:
        server.emit("fact_added", 200, size=65536)
        assert [data["i"] for data in stream.wait_for("fact_added", 200, 30)] == list(range(200))


# -- rate ----------------------------------------------------------------------------------------------------------


def test_a_stream_with_an_interval(server: Server) -> None:
    """It gets one batch each interval at most: of a conflated name one event each, of others all, in order."""
    interval_s = 0.25
    began = time.monotonic()
    with server.opened("envelope=1&interval_ms=250") as stream, server.opened("envelope=1") as other:
        for first in range(60):
            server.emit("kb_update", first=first)
            server.emit("fact_added", first=first)
        newest = server.emit("last")
        stream.read_until(lambda stream: stream.id == newest)
        took_s = time.monotonic() - began
        other.read_until(lambda stream: stream.id == newest)
        told = [json.loads(message.data) for message in stream.messages]
        states = [event for event in told if event["event"] == "kb_update"]
        assert [event["data"]["i"] for event in told if event["event"] == "fact_added"] == list(range(60))
        assert len(states) <= took_s / interval_s + 2
        assert sum(1 + event.get("conflated", 0) for event in states) == 60
        assert states[-1]["data"]["i"] == 59
        assert sum(json.loads(message.data)["event"] == "kb_update" for message in other.messages) > len(states)


def test_an_interval_delays_no_heartbeat_and_no_end(server: Server) -> None:
    """Heartbeats come as without it, with the id of what the stream has come to; so does the end of its client."""
    with server.opened("interval_ms=10000") as stream:
        server.emit("fact_added", 1, first=7)
        assert stream.wait_for("fact_added") == [{"i": 7}]
        newest = server.emit("fact_added", 1, first=8)
        before = stream.raw.count(b"hybrid_heartbeat")
        stream.read_until(lambda stream: stream.raw.count(b"hybrid_heartbeat") >= before + 3)
        assert stream.payloads("fact_added") == [{"i": 7}]
        assert later_id(stream.id, 1) == newest
    with server.opened(headers={"Last-Event-ID": stream.id}) as stream:  # what was not sent yet is not lost
        assert stream.wait_for("fact_added") == [{"i": 8}]


@pytest.mark.parametrize("interval", ["", "-1", "10001", "1e3", "0250", "\u0661", "fast"])
def test_an_interval_that_makes_no_sense(interval: str) -> None:
    """It is refused, and the error names what is accepted."""
    with pytest.raises(RequestError, match=r"interval_ms=.* from 0 to 10000"):
        parse_stream_request(f"interval_ms={interval}")


def test_intervals_have_steps() -> None:
    """So streams of nearly one interval get their batches together, and there are not many."""
    assert [parse_stream_request(f"interval_ms={given}").interval_ms for given in (0, 1, 250, 251, 9999)] == [
        0, 10, 250, 260, 10000]


# -- limits --------------------------------------------------------------------------------------------------------


def test_shedding(kind: str) -> None:
    """With all streams taken, an EventSource is told to come back later and any other client gets a 503."""
    with Server(kind, HYBRID_MAX_STREAMS=1, HYBRID_HEARTBEAT_S=HEARTBEAT_S) as server, server.opened() as first:
        with server.stream() as second:
            assert (second.status, second.headers["content-type"]) == (200, "text/event-stream")
            assert second.open_after("hybrid_busy") or kind != "ours"
            second.read_to_end()
            assert [message.event for message in second.messages] == ["hybrid_busy"]
            told = second.payloads("hybrid_busy")[0]
            assert told["code"] == "too_many_streams"
            assert told["retry_ms"] == second.decoder.retry
            assert second.decoder.retry >= 1000
            assert second.raw.startswith(b"retry: ")
            assert second.id == ""
        answer = server.ask("GET", STREAM)
        assert (answer.status, answer.headers["content-type"]) == (503, "application/problem+json")
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["code"] == "too_many_streams"
        assert server.status()["refused"] == 2
        server.emit("fact_added")
        first.wait_for("fact_added")
        first.close()
        server.wait_for_streams(0)
        server.opened().close()


def test_limit_of_one_address(kind: str) -> None:
    """One address may not take more streams than its share: 429 with ``Retry-After``."""
    with Server(kind, HYBRID_MAX_STREAMS_PER_ADDRESS=1) as server, server.opened():
        answer = server.ask("GET", STREAM)
        assert (answer.status, answer.json()["code"]) == (429, "too_many_streams")
        assert int(answer.headers["retry-after"]) >= 1


def test_shed_clients_do_not_come_back_all_at_once() -> None:
    """The reconnection times of clients that were shed differ."""
    with Server("ours", HYBRID_MAX_STREAMS=0) as server:
        times = set()
        for _ in range(10):
            with server.stream() as stream:
                stream.read_to_end()
                times.add(stream.decoder.retry)
    assert len(times) > 5


@pytest.mark.parametrize("kind_", _kinds())
def test_streams_can_be_ended_with_a_farewell(kind_: str) -> None:
    """``transport.stop()`` flushes every stream, says good-bye and ends it, whatever serves it.

    A browser has time to read that: it may drop what it has not read when the connection is cut.
    """
    with Server(kind_) as server, server.opened() as first, server.opened() as second:
        server.emit("fact_added", 50)
        server.ask("POST", "/stop-streams", {})
        assert [stream.open_after("hybrid_bye") for stream in (first, second)].count(True) > 0
        for stream in (first, second):
            stream.read_to_end()
            assert [message.event for message in stream.messages] == [
                "hybrid_open", *["fact_added"] * 50, "hybrid_bye"]
            assert stream.payloads("hybrid_bye") == [{"retry_ms": stream.decoder.retry}]
        server.wait_for_streams(0)


# -- servers that cannot -------------------------------------------------------------------------------------------


@needs_posix
def test_several_processes_are_refused() -> None:
    """Where several processes would each hold a part of the events, a stream is refused and the reason told."""
    with Server("gunicorn-gthread", "--workers", "2") as server:
        answer = server.ask("GET", STREAM)
        assert (answer.status, answer.headers["content-type"]) == (503, "application/problem+json")
        assert answer.json()["code"] == "several_processes"
        assert "--workers 1" in answer.json()["detail"]
        answer = server.ask("GET", STREAM, headers={"Accept": "text/event-stream"})
        assert (answer.status, answer.json()["code"]) == (503, "several_processes")


@needs_posix
def test_a_sync_worker_is_refused() -> None:
    """A server with one thread would be blocked by its first stream: refused, and the remedy named."""
    with Server("gunicorn-sync", "--threads", "1") as server:
        answer = server.ask("GET", STREAM)
        assert (answer.status, answer.json()["code"]) == (503, "single_threaded_server")
        assert "gthread" in answer.json()["detail"]


@needs_posix
@pytest.mark.parametrize(("options", "code"), [(("--threads", "1"), "single_threaded_server"),
                                              (("--workers", "2"), "several_processes")])
def test_a_server_that_cannot_is_named_in_the_log(options: tuple[str, ...], code: str) -> None:
    """Once a process, at its first request, before anybody has asked for a stream: what is emitted reaches nobody."""
    with Server("gunicorn-sync", *options) as server:
        for _ in range(6):
            server.ask("GET", "/health")
        wait_until(lambda: f"streams are refused ({code})" in server.log(), what="the warning")
        assert server.ask("GET", STREAM).status == 503
        assert server.log().count("streams are refused") <= 2 if code == "several_processes" else 1
        assert "gthread" in server.log()


def test_waitress() -> None:
    """The stream also works under waitress: events come at once, a client that is gone is forgotten."""
    with Server("waitress", HYBRID_HEARTBEAT_S=HEARTBEAT_S) as server:
        with server.opened() as stream:
            seen = server.emit("fact_added", 3)
            assert stream.wait_for("fact_added", 3) == [{"i": 0}, {"i": 1}, {"i": 2}]
        server.wait_for_streams(0)
        server.emit("fact_added", 2)
        with server.opened(headers={"Last-Event-ID": seen}) as stream:
            stream.wait_for("fact_added", 2)
        assert server.ask("HEAD", STREAM).status == 200
        assert server.ask("GET", STATUS).status == 200
