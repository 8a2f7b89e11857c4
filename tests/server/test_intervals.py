"""Streams with an interval, under our own server: many together, with rooms, slow ones, over TLS, at its end."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator

import pytest
from support.servers import Server, Stream, shown_on_failure

#: The server that the tests here share: without a parameter, streams have an interval of 100 ms.
SERVER = {"HYBRID_HEARTBEAT_S": 5, "HYBRID_INTERVAL_MS": 100, "HYBRID_LOG_BYTES": 100 << 20, "HYBRID_RESUME_S": 0}


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    running.wait_for_streams(0)
    with shown_on_failure(running):
        yield running


def got(stream: Stream, name: str, newest: str) -> list[int]:
    """Return the numbers of the events of a name, once a stream has come to an id."""
    stream.read_until(lambda stream: stream.id == newest)
    told = [json.loads(message.data) for message in stream.messages]
    return [event["data"]["i"] for event in told if event["event"] == name]


def test_streams_of_several_intervals_with_rooms_and_other_namespaces(server: Server) -> None:
    """Each gets all that is for it, in order; of a state what is newest, in its room too."""
    queries = ["", "interval_ms=0", "interval_ms=100", "interval_ms=50", "interval_ms=300"] * 4
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(server.opened(f"envelope=1&{query}")) for query in queries]
        sids = [json.loads(stream.messages[0].data)["data"]["sid"] for stream in streams]
        for first in range(40):
            server.emit("fact_added", first=first)
            for sid in sids[first % 4::4]:
                server.emit("own", first=first, to=sid)
                server.emit("kb_update", first=first, to=sid)
        newest = server.emit("last")
        for number, stream in enumerate(streams):
            assert got(stream, "fact_added", newest) == list(range(40))
            assert got(stream, "own", newest) == list(range(number % 4, 40, 4))
            assert got(stream, "kb_update", newest)[-1] == 36 + number % 4


def test_a_slow_stream_with_an_interval_gets_everything(server: Server) -> None:
    """One that does not read for a while, with more than the kernel holds, and one beside it that does."""
    with server.opened("envelope=1", rcvbuf=4096) as slow, server.opened("envelope=1") as other:
        newest = server.emit("fact_added", 100, size=65536)
        assert got(other, "fact_added", newest) == list(range(100))
        assert got(slow, "fact_added", newest) == list(range(100))


def test_a_stream_resumes_at_once(server: Server) -> None:
    """What it has missed does not wait for the interval of others; what comes then does."""
    with server.opened("envelope=1&interval_ms=10000") as first:
        server.emit("fact_added", first=0)
        first.read_until(lambda stream: "fact_added" in stream.messages[-1].data)
        newest = server.emit("fact_added", 5, first=1)
        with server.opened("envelope=1&interval_ms=10000", {"Last-Event-ID": first.id}) as second:
            assert got(second, "fact_added", newest) == [1, 2, 3, 4, 5]


def test_the_rest_is_sent_before_the_server_ends() -> None:
    """What a stream waits for comes before ``hybrid_bye``."""
    with Server("ours", HYBRID_INTERVAL_MS=10_000) as server, server.opened() as stream:
        server.emit("fact_added", first=0)
        stream.wait_for("fact_added")
        server.emit("fact_added", 5, first=1)
        server.stop()
        stream.read_to_end()
        assert [data["i"] for data in stream.payloads("fact_added")] == list(range(6))
        assert stream.messages[-1].event == "hybrid_bye"


def test_a_stream_over_tls(certificate: tuple[str, str]) -> None:
    """A greenlet that writes one stream keeps to its interval, and sends the rest at the end."""
    cert, key = certificate
    began = time.monotonic()
    with (Server("ours", "--certfile", cert, "--keyfile", key, HYBRID_INTERVAL_MS=250) as server,
          server.opened("envelope=1") as stream, server.opened("interval_ms=10000") as late):
        for first in range(40):
            server.emit("kb_update", first=first)
            server.emit("fact_added", first=first)
        newest = server.emit("last")
        assert got(stream, "fact_added", newest) == list(range(40))
        states = got(stream, "kb_update", newest)
        assert len(states) <= (time.monotonic() - began) / 0.25 + 2
        assert states[-1] == 39
        server.stop()
        late.read_to_end()
        assert [data["i"] for data in late.payloads("fact_added")] == list(range(40))
