"""Reading from outside: bodies as they come, a stream that is lost and found again, and what many readers miss."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from support.hosts import example_host, free_port, serving, until

from hakgal_hybrid import ConfigurationError, HybridTransport
from hakgal_hybrid.tools.remote.exchange import HTTPExchange
from hakgal_hybrid.tools.remote.limits import allow_files, time_of
from hakgal_hybrid.tools.remote.load import Load
from hakgal_hybrid.tools.remote.request import Base, request, resolve
from hakgal_hybrid.tools.remote.results import Spread
from hakgal_hybrid.tools.remote.stream import Events, Note, Received, Source, StreamRefused

# -- bodies ------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.lists(st.integers(0, 400), max_size=12),
       st.booleans())
def test_a_body_comes_out_whole_however_it_comes(parts: list[bytes], cuts: list[int], chunked: bool) -> None:
    """Chunked or until the end, in any pieces: the same bytes come out, and the end of a chunked body is seen."""
    if chunked:
        body = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Case: Yes\r\n\r\n" + body
    else:
        wire = b"HTTP/1.0 200\r\nX-Case: Yes\r\n\r\n" + b"".join(parts)
    places = sorted({0, len(wire), *(cut for cut in cuts if cut < len(wire))})
    reader = HTTPExchange(Base.of("http://x"), "/", {})
    got = b"".join(reader.feed(wire[a:b]) for a, b in pairwise(places))
    assert got == b"".join(parts)
    assert (reader.status, reader.headers["x-case"], reader.ended) == (200, "Yes", chunked)


@pytest.mark.parametrize("wire", [
    b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"x" * 70000,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 20_000])
def test_what_is_no_http_is_refused(wire: bytes) -> None:
    """Nothing is waited for or kept without end."""
    with pytest.raises(ConnectionError):
        HTTPExchange(Base.of("http://x"), "/", {}).feed(wire)


# -- one stream --------------------------------------------------------------------------------------------------


class Scripted:
    """A server whose connections answer what a script says, one after the other; it keeps the requests' heads."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self.heads: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while self._answers:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                head = b""
                while b"\r\n\r\n" not in head and (piece := connection.recv(4096)):
                    head += piece
                if head:  # else somebody has only looked whether we listen
                    self.heads.append(head.decode())
                    connection.sendall(self._answers.pop(0))

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._socket.close()
        self._thread.join(30)


def stream_of(*blocks: str) -> bytes:
    """An answer with an event stream."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + "".join(blocks).encode()


def of_kind(items: list[Any], kind: str) -> list[Note]:
    """The notes of one kind."""
    return [item for item in items if isinstance(item, Note) and item.kind == kind]


def test_coming_back_after_the_last_event() -> None:
    """A lost stream is asked for again after the time that it has set, with the last id; what was lost is told."""
    answers = (stream_of("retry: 20\n\nid: 7\nevent: a\ndata: 1\n\nid: 8\nda"),
               b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\n\r\n",
               stream_of("id: 9\nevent: a\ndata: {\"n\": 2}\n\n"), b"HTTP/1.1 204 No Content\r\n\r\n")
    items: list[Any] = []
    with Scripted(*answers) as server:
        with pytest.raises(StreamRefused, match="204"):
            items.extend(iter_into(items, Events(Source.of(f"http://127.0.0.1:{server.port}/sse"))))
    received = [item for item in items if isinstance(item, Received)]
    assert [(item.event, item.data, item.id) for item in received] == [("a", 1, "7"), ("a", {"n": 2}, "9")]
    assert "Last-Event-ID" not in server.heads[0]
    assert "Last-Event-ID: 7" in server.heads[1]
    assert "Last-Event-ID: 7" in server.heads[2]
    assert "Last-Event-ID: 9" in server.heads[3]
    lost = of_kind(items, "lost")
    assert [note.retry_s is not None and 0.02 <= note.retry_s < 1 for note in lost] == [True] * 3
    assert "503" in lost[1].detail
    assert len(of_kind(items, "open")) == 2


def iter_into(items: list[Any], events: Events) -> list[Any]:
    """Read a stream to its end, remembering what came even if that is an error."""
    for item in events:
        items.append(item)
    return []


@pytest.mark.parametrize(("answer", "said"), [
    (b"HTTP/1.1 404 Not Found\r\n\r\n", "404"),
    (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>", "text/html"),
    (b'HTTP/1.1 401 X\r\nContent-Type: application/problem+json\r\n\r\n{"code": "key_required", "detail": "why"}',
     "key_required: why")])
def test_what_trying_again_does_not_change(answer: bytes, said: str) -> None:
    """It is an error with what the server said, and no second attempt."""
    with Scripted(answer) as server, pytest.raises(StreamRefused, match=said):
        list(Events(Source.of(f"127.0.0.1:{server.port}")))


def test_a_silent_stream_is_given_up() -> None:
    """Where not even a heartbeat comes the connection is taken for dead."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepted: list[socket.socket] = []

        def serve() -> None:
            connection, _ = server.accept()
            connection.recv(4096)
            connection.sendall(stream_of("data: 1\n\n"))
            accepted.append(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        source = Source.of(f"http://127.0.0.1:{server.getsockname()[1]}/sse")
        items = list(Events(source, once=True, silence_s=0.3))
        thread.join(30)
        accepted[0].close()
    assert "nothing came for 0.3 s" in of_kind(items, "lost")[0].detail


def test_a_restarted_host_is_a_gap() -> None:
    """Events of this package's stream: the opening without its token, envelopes taken apart, a gap told."""
    app = Flask(__name__)
    transport = HybridTransport(app, retry_ms=1)
    with serving(transport.socketio, app) as port:
        events = Events(Source.of(f"127.0.0.1:{port}", envelope="1"), last_event_id="1-5")
        items: list[Any] = []
        reader = threading.Thread(target=iter_into, args=(items, events), daemon=True)
        reader.start()
        until(lambda: of_kind(items, "gap"), "a gap")
        transport.emit("tick", 1, 2)
        until(lambda: [item for item in items if isinstance(item, Received)], "an event")
        events.stop()
        reader.join(30)
        assert not reader.is_alive()
    assert of_kind(items, "gap")[0].data["reason"] == "restarted"
    opened = of_kind(items, "open")[0]
    assert "sid" in opened.data
    assert "token" not in opened.data
    tick = next(item for item in items if isinstance(item, Received))
    assert (tick.event, tick.data) == ("tick", [1, 2])
    assert tick.ts is not None
    assert tick.more["namespace"] == "/"
    assert events.last_event_id == tick.id


@pytest.mark.parametrize(("url", "target", "ours"), [
    ("127.0.0.1:1", "/api/events/stream?envelope=1", True), ("http://h/", "/api/events/stream?envelope=1", True),
    ("http://h/sse?a=b", "/sse?a=b&envelope=1", False),
    ("https://h/kb/api/events/stream", "/kb/api/events/stream?envelope=1", True)])
def test_where_a_stream_is(url: str, target: str, ours: bool) -> None:
    """A URL without a path means our stream; any other is taken as it is."""
    source = Source.of(url, envelope="1", events=None)
    assert (source.target, source.ours) == (target, ours)


# -- many readers ------------------------------------------------------------------------------------------------


@contextmanager
def emitting(emit: Callable[[int], None]) -> Iterator[None]:
    """Emit one event after the other, in a thread, until the block ends."""
    ended = threading.Event()

    def run() -> None:
        number = 0
        while not ended.wait(0.02):
            emit(number)
            number += 1

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(30)


def test_a_load_on_our_stream() -> None:
    """Every client gets every event, with its latency; clients that do not read are there and counted."""
    app = Flask(__name__)
    transport = HybridTransport(app)
    progress: list[tuple[str, int]] = []
    with serving(transport.socketio, app) as port, emitting(lambda number: transport.emit("tick", number)):
        source = Source.of(f"127.0.0.1:{port}", envelope="1")
        load = Load(source, on_progress=lambda phase, done: progress.append((phase, done)))
        result = load.run(20, 2, stalled=2)
        until(lambda: transport.statistics().streams == 0, "all clients have gone")
    assert (result.opened, result.stalled, result.refused, result.ended) == (20, 2, {}, {})
    assert result.events >= 5
    assert result.deliveries >= 20 * (result.events - 3)
    assert result.latency.n == result.deliveries
    assert result.first_event.n == 20
    assert result.losses.counted
    assert (result.losses.missing, result.losses.lost, result.losses.repeated) == (0, 0, 0)
    assert json.dumps(result.to_dict())
    assert ("clients", 20) in progress


def test_a_host_with_too_few_streams() -> None:
    """Clients that are shed are refused, by reason; the stop of the server is an early end."""
    app = Flask(__name__)
    transport = HybridTransport(app, max_streams=3)
    with serving(transport.socketio, app) as port:
        timer = threading.Timer(1, transport.stop)
        timer.start()
        result = Load(Source.of(f"127.0.0.1:{port}", envelope="1")).run(5, 20)
        timer.join()
    assert result.refused == {"hybrid_busy": 2}
    assert result.ended == {"hybrid_bye": 3}
    assert result.seconds < 19


def test_losses_are_told_from_gaps_and_conflation() -> None:
    """Of a server that leaves out events without a word, each one is counted; those it tells of are not lost."""
    def block(number: int, **more: Any) -> str:
        return f"id: 1-{number}\ndata: " + json.dumps({"event": "e", "data": 1, "id": f"1-{number}", **more}) + "\n\n"

    gap = 'id: 1-4\ndata: {"event": "hybrid_gap", "data": {"missed": 1, "reason": "slow"}}\n\n'
    private = block(9, to=["somebody"])
    whole = "".join(map(block, range(1, 8)))
    answers = [stream_of(whole),
               stream_of(block(1), block(2), block(7)),  # 3, 4, 5, 6 are lost
               stream_of(block(1), block(2), gap.replace("1-4", "1-3"), block(4), block(5), block(6), block(7)),
               stream_of(block(1), block(4, conflated=2), block(5), private, block(6), block(7)),
               stream_of(whole, block(6))]  # 6 is repeated
    with Scripted(*answers) as server:
        source = Source.of(f"http://127.0.0.1:{server.port}/api/events/stream")
        result = Load(source).run(5, 1)
    losses = result.losses
    assert losses.counted
    assert (losses.missing, losses.lost, losses.conflated, losses.in_gaps) == (7, 4, 2, 1)
    assert losses.repeated == 1
    assert result.ended == {"end of stream": 5}


@pytest.mark.parametrize(("value", "expected"), [
    (1755412806, 1755412806000.0), (1755412806.5, 1755412806500.0), (1755412806123, 1755412806123),
    (1755412806123456, 1755412806123.456), (1755412806123456789, 1755412806123.4568),
    ("2025-08-17T06:40:06Z", 1755412806000.0), (True, None), (None, None), (12, None), ("soon", None), ({}, None)])
def test_time_stamps_of_all_kinds(value: Any, expected: float | None) -> None:
    """Seconds, milli-, micro- and nanoseconds are told by their size; texts are ISO 8601."""
    assert time_of(value) == (None if expected is None else pytest.approx(expected, abs=0.01))


def test_spreads_are_nearest_rank() -> None:
    """The definition of the measurements."""
    spread = Spread.of([float(n) for n in range(1, 101)])
    assert (spread.n, spread.mean, spread.p50, spread.p95, spread.p99, spread.max) == (100, 50.5, 50, 95, 99, 100)
    assert Spread.of([]) == Spread(0)


def test_more_files_than_the_system_allows() -> None:
    """It is said before anything is opened."""
    pytest.importorskip("resource")
    with pytest.raises(ConfigurationError, match="ulimit"):
        allow_files(2**40)


# -- one request -------------------------------------------------------------------------------------------------


def test_a_request_is_timed_in_its_parts(tmp_path: Path) -> None:
    """Status, body and times of an answer; a refusal is an answer too."""
    with example_host(tmp_path) as server:
        base = Base.of(f"127.0.0.1:{server.port}")
        answer = request(base, "GET", "/health", address=resolve(base)[0])
        slow = request(base, "GET", "/api/work?seconds=0.3")
        refused = request(base, "POST", "/api/events/emit", {"event": "none"})
    assert answer.status == 200
    assert answer.json()["status"] == "operational"
    assert 0 < answer.connect_s + answer.first_byte_s <= answer.total_s
    assert slow.first_byte_s >= 0.3 > slow.connect_s
    assert refused.json()["code"] == "unknown_event"
    assert answer.local[0] == "127.0.0.1"


def test_nobody_answers() -> None:
    """No connection, and an answer that is no HTTP, are errors of the operating system's kind."""
    with pytest.raises(OSError, match="refused"):
        request(Base.of(f"127.0.0.1:{free_port()}"), "GET", "/")
    with Scripted(b"nonsense\r\n\r\n") as server, pytest.raises(ConnectionError, match="no HTTP"):
        request(Base.of(f"127.0.0.1:{server.port}"), "GET", "/")
