"""Chunked streams: a client of HTTP/1.1 sees each event as it comes, however it reads, and a cut as a cut."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Callable, Iterator

import httpx
import pytest
import requests
import urllib3
from support.servers import SOON, STREAM, Server

#: No heartbeat fills up what a reader waits for.
SERVER = {"HYBRID_HEARTBEAT_S": 60}

#: More than any event here has.
SIZE = 8192


def by_requests(url: str) -> Iterator[bytes]:
    with requests.get(url, stream=True, timeout=SOON) as response:
        yield from response.iter_content(SIZE)


def by_iterating_requests(url: str) -> Iterator[bytes]:
    """As ``sseclient`` does."""
    with requests.get(url, stream=True, timeout=SOON) as response:
        yield from response


def by_urllib3(url: str) -> Iterator[bytes]:
    with urllib3.PoolManager() as pool:
        response = pool.request("GET", url, preload_content=False, timeout=SOON, retries=False)
        yield from response.stream(SIZE)
        response.close()


def by_httpx(url: str) -> Iterator[bytes]:
    with httpx.stream("GET", url, timeout=SOON) as response:
        yield from response.iter_bytes()


def by_http_client(url: str) -> Iterator[bytes]:
    _, _, address, path = url.split("/", 3)
    connection = http.client.HTTPConnection(address, timeout=SOON)
    connection.request("GET", f"/{path}")
    with connection.getresponse() as response:
        while data := response.read1(SIZE):
            yield data
    connection.close()


READERS = [by_requests, by_iterating_requests, by_urllib3, by_httpx, by_http_client]


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_of_fixed_sizes_sees_each_event_at_once(
        server: Server, reader: Callable[[str], Iterator[bytes]]) -> None:
    """Each event is read before the next one is sent: no reader waits for a piece to be full."""
    pieces, text = reader(f"http://127.0.0.1:{server.port}{STREAM}"), b""
    while b"hybrid_open" not in text:
        text += next(pieces)
    sid = text.split(b'"sid":"')[1].split(b'"')[0].decode()
    for number in range(3):
        server.ask("POST", "/emit", {"event": "note", "data": {"number": number}})
        while b'{"number":%d}\n\n' % number not in text:
            text += next(pieces)
    server.ask("POST", "/kick", {"sid": sid})
    text += b"".join(pieces)  # it ends without an error
    assert text.endswith(b"\n\n")
    assert b"event: hybrid_disconnect\n" in text


def test_sseclient_gets_each_event_at_once(server: Server) -> None:
    """Through requests, on whose pieces it waits; what it missed comes after ``Last-Event-ID``."""
    sseclient = pytest.importorskip("sseclient")
    url, last = f"http://127.0.0.1:{server.port}{STREAM}", ""
    for life in range(2):
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
        with requests.get(url, stream=True, timeout=SOON, headers=headers) as response:
            events = sseclient.SSEClient(response).events()
            sid = json.loads(next(events).data)["sid"]
            for number in range(life, 5):  # the first of the second life was emitted between the two
                if number > life or not life:
                    server.emit("note", data=f"{number} Grüße \u6f22")
                message = next(events)
                assert (message.event, json.loads(message.data)) == ("note", f"{number} Grüße \u6f22")
                last = message.id
            server.ask("POST", "/kick", {"sid": sid})
            assert [message.event for message in events] == ["hybrid_disconnect"]
        server.emit("note", data="1 Grüße \u6f22")


def chunk_sizes(body: bytes) -> list[int]:
    """Return the sizes of the chunks that a body is made of."""
    sizes = []
    while body:
        line, _, rest = body.partition(b"\r\n")
        sizes.append(int(line, 16))
        assert rest[sizes[-1]:sizes[-1] + 2] == b"\r\n"
        body = rest[sizes[-1] + 2:]
    return sizes


@pytest.mark.parametrize("query", ["", "envelope=1"])
def test_a_stream_that_ends_has_a_last_chunk(server: Server, query: str) -> None:
    """What a client is sent until it is disconnected is a complete body, the last chunk at its end and nowhere else."""
    with server.connect() as http_:
        http_.request("GET", f"{STREAM}?{query}")
        _, headers = http_.head()
        assert (headers["transfer-encoding"], headers["connection"]) == ("chunked", "close")
        body = http_.until(b'"sid":"')
        sid = http_.until(b'"')
        server.ask("POST", "/kick", {"sid": sid.decode()})
        sizes = chunk_sizes(body + b'"sid":"' + sid + b'"' + http_.rest())
    assert sizes[-1] == 0
    assert all(sizes[:-1])


def test_streams_of_both_versions_get_the_same_events(server: Server) -> None:
    """A client of HTTP/1.0 gets what others get, without chunks, until the connection is closed."""
    with server.opened(version="1.0") as old, server.opened() as new:
        assert "transfer-encoding" not in old.headers
        assert new.headers["transfer-encoding"] == "chunked"
        for stream in (old, new):
            assert stream.sid
        for number in range(5):
            server.emit("note", data=number)
        for stream in (old, new):
            assert stream.wait_for("note", 5) == list(range(5))
            server.ask("POST", "/kick", {"sid": stream.sid})
            stream.read_to_end()
        assert [message.data for message in old.named("note")] == [message.data for message in new.named("note")]


@pytest.mark.skipif(sys.platform == "win32", reason="a process is ended by killing it there")
@pytest.mark.parametrize("end", ["terminate", "kill"])
@pytest.mark.parametrize(("reader", "error"), [
    (by_requests, requests.exceptions.ChunkedEncodingError), (by_urllib3, urllib3.exceptions.ProtocolError),
    (by_httpx, httpx.RemoteProtocolError), (by_http_client, http.client.IncompleteRead)])
def test_a_stream_that_is_not_over_does_not_look_complete(
        reader: Callable[[str], Iterator[bytes]], error: type[Exception], end: str) -> None:
    """A server that stops, even with a farewell, leaves a body without its last chunk: the client has to come back."""
    with Server("ours") as server:
        pieces, text = reader(f"http://127.0.0.1:{server.port}{STREAM}"), b""
        while b"hybrid_open" not in text:
            text += next(pieces)
        getattr(server.process, end)()
        more: list[bytes] = []
        with pytest.raises(error):
            more.extend(pieces)
        assert (b"hybrid_bye" in b"".join(more)) is (end == "terminate")
