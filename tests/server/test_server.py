"""Our own server: HTTP as the standards have it, bounded in every direction, and a clean end."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websocket
from flask import Flask
from support.hosts import free_port, listens
from support.servers import (
    CONTROL,
    EMIT,
    SOON,
    STATUS,
    STREAM,
    Http,
    Server,
    milliseconds,
    read_until_cut,
    shown_on_failure,
    wait_until,
)

from hakgal_hybrid import ConfigurationError, HybridTransport
from hakgal_hybrid.server.listening import listening_sockets
from hakgal_hybrid.server.upgrade import start_upgrade

#: What the contract promises for status, control and opening a stream, in milliseconds.
PROMISED_MS = 50.0
#: How long a server with these settings waits for a client to speak.
REQUEST_S = 0.4
MAX_BODY = 100_000

UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
           "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}


#: The server that the tests here share.
SERVER = {"HYBRID_HEARTBEAT_S": 0.2}


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    with shown_on_failure(running):
        yield running
        assert running.process.poll() is None


@pytest.fixture(scope="module")
def strict_running() -> Iterator[Server]:
    """One server with little time and room for its clients."""
    with Server("ours", HYBRID_REQUEST_S=REQUEST_S, HYBRID_STALL_S=REQUEST_S, HYBRID_MAX_BODY_BYTES=MAX_BODY,
                HYBRID_MAX_UPGRADES=1) as server:
        yield server


@pytest.fixture
def strict(strict_running: Server) -> Iterator[Server]:
    with shown_on_failure(strict_running):
        yield strict_running
        assert strict_running.process.poll() is None


def release(server: Server) -> None:
    """Let go of every request to ``/hold``."""
    assert server.ask("POST", CONTROL, {"action": "set_mode", "mode": "release"}).status in (200, 202)


@contextlib.contextmanager
def held(server: Server, number: int) -> Iterator[list[Http]]:
    """Hold ``number`` host threads by requests to ``/hold``, and let them go at the end."""
    connections = [server.connect() for _ in range(number)]
    try:
        for http in connections:
            http.request("GET", "/hold")
        wait_until(lambda: server.status()["server"]["lanes"]["host"]["busy"] == number, what=f"{number} busy threads")
        yield connections
    finally:
        with contextlib.suppress(AssertionError, OSError):
            release(server)
        for http in connections:
            http.close()


# -- connections ---------------------------------------------------------------------------------------------------


def test_keep_alive(server: Server) -> None:
    """A connection serves one request after the other, until the client asks to close it."""
    with server.connect() as http:
        for number in range(3):
            answer = http.ask("GET", f"/echo?{number}")
            assert (answer.status, answer.json()["path"]) == (200, f"/echo?{number}")
            assert "connection" not in answer.headers
        answer = http.ask("GET", "/echo", headers={"Connection": "close"})
        assert answer.headers["connection"] == "close"
        assert http.closed()


def test_pipelining(server: Server) -> None:
    """Several requests sent at once are answered in their order, however long each takes."""
    with server.connect() as http:
        http.send(b"GET /work?seconds=0.2 HTTP/1.1\r\nHost: x\r\n\r\n"
                  b"POST /echo?2 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
                  b"GET /chunks?n=2 HTTP/1.1\r\nHost: x\r\n\r\n"
                  b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n"
                  b"POST /echo?5 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmore\r\n0\r\n\r\n"
                  b"GET /echo?6 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert http.answer().body == b"{}\n"
        assert http.answer().json()["body"] == "body"
        assert http.answer().body == b"chunk 0;chunk 1;"
        assert http.answer("HEAD").status == 200
        assert http.answer().json()["body"] == "more"
        assert http.answer().json()["path"] == "/echo?6"
        assert http.quiet()


@pytest.mark.parametrize(("target", "host", "path"), [
    ("http://site.test:81/echo?a=1", "site.test:81", "/echo?a=1"), ("HTTPS://site.test/ech%6f", "site.test", "/echo?"),
    ("http://[::1]:5000/echo", "[::1]:5000", "/echo?"), ("/echo?http://x/", "127.0.0.1", "/echo?http://x/"),
])
def test_a_target_in_absolute_form(server: Server, target: str, host: str, path: str) -> None:
    """What a target in absolute form names is the host, whatever the Host header says; then path and query."""
    with server.connect() as http:
        answer = http.ask("GET", target).json()
        assert (answer["host"], answer["path"]) == (host, path)
        assert http.ask("GET", "http://site.test").status == http.ask("GET", "/").status
        assert http.ask("GET", f"http://127.0.0.1{STATUS}").status == 200
        assert http.ask("GET", f"http://evil.test{STATUS}").status == 403


@pytest.mark.parametrize("target", ["http:///echo", "http://user@site.test/echo", "http://?x", "ftp://site.test/echo",
                                    "http://site.test#echo", "site.test:80/echo"])
def test_a_target_in_absolute_form_that_names_no_host_is_refused(server: Server, target: str) -> None:
    """A target without a host, with a user's name, or of another scheme, is no HTTP request."""
    with server.connect() as http:
        answer = http.ask("GET", target)
        assert (answer.status, answer.json()["code"]) == (400, "bad_http")
        assert http.closed()


def test_a_target_that_is_not_ascii(server: Server) -> None:
    """A path whose bytes are not encoded reaches the host as if they were."""
    with server.connect() as http:
        http.send("GET /echo?\u00fc HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert http.answer().json()["path"] == "/echo?%C3%BC"


def test_a_stream_on_a_used_connection(server: Server) -> None:
    """A stream may be opened on a connection that has served requests; it is then the connection's last."""
    with server.connect() as http:
        assert http.ask("GET", "/health").status == 200
        http.request("GET", STREAM)
        status, headers = http.head()
        assert (status, headers["content-type"], headers["connection"]) == (200, "text/event-stream", "close")
        http.until(b'"sid":"')
        sid = http.until(b'"').decode()
        server.ask("POST", "/kick", {"sid": sid})
        assert http.closed()


def test_http_1_0(server: Server) -> None:
    """A client of HTTP/1.0 gets its answer closed, unless it asks to keep the connection."""
    with server.connect() as http:
        answer = http.ask("GET", "/health", headers={"Connection": "keep-alive"}, version="1.0")
        assert answer.headers["connection"] == "keep-alive"
        answer = http.ask("GET", "/health", version="1.0")
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert http.closed()


@pytest.mark.parametrize("path", ["/health", "/chunks?n=3", "/nothing", STATUS])
def test_head(server: Server, path: str) -> None:
    """HEAD is answered like GET, without a body, and the connection stays usable."""
    with server.connect() as http:
        expected = http.ask("GET", path)
        answer = http.ask("HEAD", path)
        assert (answer.status, answer.headers["content-type"]) == (expected.status, expected.headers["content-type"])
        assert ("content-length" in answer.headers) == ("content-length" in expected.headers)
        if path != STATUS:  # whose numbers change
            assert answer.headers.get("content-length") == expected.headers.get("content-length")
        assert http.ask("GET", "/health").json() == {"status": "ok"}
        assert http.quiet()


def test_an_answer_that_has_no_body(server: Server) -> None:
    """A 204 has neither body nor length, and the connection stays usable."""
    with server.connect() as http:
        answer = http.ask("GET", "/raw/empty")
        assert answer.status == 204
        assert not {"content-length", "transfer-encoding"} & answer.headers.keys()
        assert http.ask("GET", "/health").status == 200


def test_answers_are_sent_without_delay(server: Server) -> None:
    """Accepted connections have ``TCP_NODELAY``: a small answer never waits for an acknowledgement."""
    with server.connect() as http:
        assert http.ask("GET", "/raw/nodelay", headers=UPGRADE).body == b"True"


# -- request bodies ------------------------------------------------------------------------------------------------


def test_body(server: Server) -> None:
    """A body reaches the host whole, small or large."""
    with server.connect() as http:
        for body in (b"", b"small", b"x" * 3_000_000):
            assert http.ask("POST", "/echo", body).json()["length"] == len(body)


def test_a_form_with_a_file(server: Server) -> None:
    """A multipart body, whose header needs parameters, is nothing special."""
    body = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n'
    answer = server.ask("POST", "/form", body, {"Content-Type": 'multipart/form-data; boundary="x"'})
    assert answer.json() == {"a": "1"}


def test_chunked_body(server: Server) -> None:
    """A body sent in chunks, with extensions and trailers, reaches the host as what was meant."""
    with server.connect() as http:
        http.send(b"PUT /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                  b'5;name="value"\r\nHello\r\n7\r\n, world\r\n0\r\nX-Trailer: 1\r\n\r\n')
        assert http.answer().json()["body"] == "Hello, world"
        assert http.ask("GET", "/health").status == 200


def test_body_in_small_pieces(server: Server) -> None:
    """A body may come in any pieces."""
    with server.connect() as http:
        for byte in b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nHello":
            http.send(bytes([byte]))
        assert http.answer().json()["body"] == "Hello"


def test_expect_100_continue(server: Server) -> None:
    """A client that asks first is told to go on before it sends its body."""
    with server.connect() as http:
        http.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert http.answer().status == 100
        http.send(b"Hello")
        assert http.answer().json()["body"] == "Hello"


def test_a_body_too_large_by_its_length_is_refused_unread(strict: Server) -> None:
    """A body that says it is too large is refused at once, also where the client would have asked first."""
    with strict.connect() as http:
        http.send(f"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_BODY + 1}\r\n"
                  "Expect: 100-continue\r\n\r\n".encode())
        answer = http.answer()
        assert (answer.status, answer.headers["content-type"]) == (413, "application/problem+json")
        assert answer.json()["code"] == "body_too_large"
        assert http.closed()
    assert strict.ask("POST", "/echo", b"x" * MAX_BODY).status == 200


def test_a_client_that_sends_too_much_can_read_why(strict: Server) -> None:
    """A client that sends its large body without waiting still gets the refusal, not a broken connection."""
    with strict.connect() as http:
        answer = http.ask("POST", "/echo", b"x" * (MAX_BODY * 3))
        assert (answer.status, answer.json()["code"]) == (413, "body_too_large")


def test_a_chunked_body_too_large_is_refused(strict: Server) -> None:
    """A body of unknown length is refused as soon as it is too large."""
    with strict.connect() as http:
        chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
        http.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + 4 * chunk)
        answer = http.answer()
        assert (answer.status, answer.json()["code"]) == (413, "body_too_large")
        assert http.closed()


# -- clients that dawdle or lie ------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ",
                                  b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nHel",
                                  b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nHel"])
def test_a_request_that_is_not_finished_times_out(strict: Server, said: bytes) -> None:
    """A client that stops in the middle of a request's head or body gets 408, and its connection is closed."""
    with strict.connect() as http:
        http.send(said)
        answer = http.answer()
        assert (answer.status, answer.headers["content-type"]) == (408, "application/problem+json")
        assert answer.json()["code"] == "request_timeout"
        assert http.closed()


@pytest.mark.parametrize("said", [b"", b"GET /hea", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_a_silent_connection_is_closed(strict: Server, said: bytes) -> None:
    """A client that says nothing, or nothing more after a request, does not keep its connection."""
    with strict.connect() as http:
        http.send(said)
        if said.endswith(b"\r\n\r\n"):
            assert http.answer().status == 200
        assert http.closed()


@pytest.mark.parametrize("said", [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"GARBAGE\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    b"GET /health HTTP/1.1\r\nno colon here\r\n\r\n",
    b"GET /health HTTP/1.1\r\n folded: at once\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: x\r\n folded: later\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: x\r\nspaced name: 1\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nno colon here\r\nContent-Length: 23\r\n\r\nGET /health HTTP/1.1\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nContent-Length : 23\r\n\r\nGET /health HTTP/1.1\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1_0\r\n\r\n0123456789",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n01",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnot hexadecimal\r\n",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
])
def test_nonsense_is_refused(server: Server, said: bytes) -> None:
    """What is not a valid request gets 400 and the connection closed; nothing after it is taken for a request."""
    before = server.log().count("Traceback")
    with server.connect() as http:
        http.send(said)
        assert http.answer().status == 400
        assert http.closed()
    assert server.log().count("Traceback") == before


@pytest.mark.parametrize("said", [b"\x16\x03\x01\n", b"GET /health HTTP/1.1\n", b"GET /health HTTP/1.1\r\nHost: x\n",
                                  b"GET /health HTTP/1.1\r\nHost: x\r\n folded: later\r\n"])
def test_nonsense_is_refused_as_soon_as_it_is_there(server: Server, said: bytes) -> None:
    """What cannot become a valid request any more gets 400 at once: nobody waits for the rest of it."""
    with server.connect() as http:
        http.send(said)
        assert http.answer().status == 400
        assert http.closed()


def test_a_request_line_without_end_is_refused(server: Server) -> None:
    """A request line longer than 8 KiB is refused."""
    with server.connect() as http:
        http.send(b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert http.answer().status in (400, 414)
        assert http.closed()


def test_a_client_that_vanishes_in_its_body(server: Server) -> None:
    """A client that goes away before its body is complete costs nothing."""
    with server.connect() as http:
        http.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\npart")
        wait_until(lambda: server.status()["server"]["requests"] == 2, what="its request to have begun")
        http.reset()
    wait_until(lambda: server.status()["server"]["requests"] == 1, what="its request to be given up")


# -- answers -------------------------------------------------------------------------------------------------------


def test_a_streamed_answer_comes_in_chunks(server: Server) -> None:
    """An answer of unknown length comes in chunks, and the connection stays usable."""
    with server.connect() as http:
        answer = http.ask("GET", "/chunks?n=1000")
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.body == b"".join(b"chunk %d;" % number for number in range(1000))
        assert http.ask("GET", "/health").status == 200


def test_a_streamed_answer_over_http_1_0(server: Server) -> None:
    """A client of HTTP/1.0 gets it as it is, until the connection is closed."""
    with server.connect() as http:
        answer = http.ask("GET", "/chunks?n=3", version="1.0")
        assert "transfer-encoding" not in answer.headers
        assert answer.body == b"chunk 0;chunk 1;chunk 2;"


def test_write_callable(server: Server) -> None:
    """What a WSGI app writes by the ``write`` callable comes before what it returns."""
    with server.connect() as http:
        assert http.ask("GET", "/raw/write").body == b"written, iterated, returned"


@pytest.mark.parametrize("path", ["/raise", "/raw/raise", "/raw/silent", "/raw/split", "/raw/exit", "/raw/twice"])
def test_a_host_that_fails(server: Server, path: str) -> None:
    """A host that raises costs its caller a 500 and nobody else anything; its traceback is in the log."""
    with server.connect() as http:
        http.request("GET", path)
        answer = http.answer()
        assert answer.status == 500
        assert "x-evil" not in answer.headers
        assert b"Traceback" not in answer.body
        if "connection" not in answer.headers:
            assert http.ask("GET", "/health").status == 200
    assert server.ask("GET", "/health").status == 200
    wait_until(lambda: "Traceback" in server.log(), what="the traceback in the log")


def test_a_host_with_second_thoughts(server: Server) -> None:
    """An app may replace its answer as long as nothing of it was sent."""
    answer = server.ask("GET", "/raw/second-thoughts")
    assert (answer.status, answer.body) == (500, b"sorry")


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_an_answer_of_known_length(server: Server, size: int) -> None:
    """An answer of known length is sent with it, whole, however large, and the connection stays usable."""
    with server.connect() as http:
        answer = http.ask("GET", f"/large?size={size}")
        assert answer.headers["content-length"] == str(size)
        assert answer.body == b"x" * size
        assert http.ask("GET", "/health").status == 200


@pytest.mark.parametrize("way", ["whole", "piecemeal"])
def test_an_answer_with_another_servers_framing(server: Server, way: str) -> None:
    """An app that passes on the headers of another server's connection does not garble its own answer."""
    with server.connect() as http:
        answer = http.ask("GET", f"/raw/relayed/{way}")
        assert answer.body == b"relayed"
        assert answer.headers.get("transfer-encoding") == ("chunked" if way == "piecemeal" else None)
        assert not {"keep-alive", "connection"} & answer.headers.keys()
        assert http.ask("GET", "/health").status == 200
    with server.connect() as http:
        answer = http.ask("GET", f"/raw/relayed/{way}", headers=UPGRADE)
        assert (answer.body, answer.headers["connection"]) == (b"relayed", "close")


def test_an_answer_that_asks_for_an_upgrade(server: Server) -> None:
    """A 426 names what the client should upgrade to, with the header that belongs to that, and costs no connection."""
    with server.connect() as http:
        answer = http.ask("GET", "/raw/upgrade")
        assert (answer.status, answer.headers["upgrade"], answer.headers["connection"]) == (426, "websocket", "Upgrade")
        assert http.ask("GET", "/health").status == 200


def test_an_answer_that_is_to_be_the_last(server: Server) -> None:
    """An app may have the connection closed after its answer."""
    with server.connect() as http:
        answer = http.ask("GET", "/raw/last")
        assert (answer.body, answer.headers["connection"]) == (b"last", "close")
        assert http.closed()


def test_an_answer_longer_than_it_says(server: Server) -> None:
    """What goes beyond the length that an app has named is not sent: it could pass for the next answer."""
    with server.connect() as http:
        http.request("GET", "/raw/long")
        http.request("GET", "/health")
        assert http.answer().body == b"long,"
        assert http.rest() == b""


@pytest.mark.parametrize("path", ["/raise-midway", "/raw/short"])
def test_an_answer_that_breaks_off_does_not_look_complete(server: Server, path: str) -> None:
    """A host that fails after its answer has begun cuts it off: no client may take it for whole."""
    with server.connect() as http:
        http.request("GET", path)
        with pytest.raises(ConnectionError):
            http.answer()


def test_an_answer_does_not_wait_for_its_closing() -> None:
    """What a host does as its answer is closed costs the client neither time nor the answer."""
    with Server("ours") as server, server.connect() as http:
        for framing in ("whole", "chunks"):
            assert http.ask("GET", f"/closing/waits/{framing}").body == b"closing"
            answer = http.ask("GET", f"/closing/fails/{framing}")
            assert (answer.status, answer.body) == (200, b"closing")
        assert "closed" not in server.notes()["counts"]
        release(server)
        wait_until(lambda: server.notes()["counts"].get("closed") == 2, what="both answers to be closed")
        wait_until(lambda: server.log().count("RuntimeError: this closing fails") == 2, what="both tracebacks")


@pytest.mark.parametrize("way", ["close", "reset"])
def test_a_client_that_vanishes_frees_its_thread(server: Server, way: str) -> None:
    """A client that goes away in the middle of a streamed answer ends the generator and frees its thread."""
    with server.connect() as http:
        http.request("GET", "/chunks")
        http.head()
        assert server.notes()["counts"]["producing"] == 1
        getattr(http, way)()
    wait_until(lambda: server.notes()["counts"]["producing"] == 0, what="the generator to be closed")
    wait_until(lambda: server.status()["server"]["lanes"]["host"]["busy"] == 0, what="its thread to be free")


def test_a_client_that_stops_reading_frees_its_thread(strict: Server) -> None:
    """A client that takes nothing of a streamed answer for ``HYBRID_STALL_S`` is given up."""
    with strict.connect(rcvbuf=4096) as http:
        http.request("GET", "/chunks")
        http.head()
        wait_until(lambda: strict.notes()["counts"]["producing"] == 0, what="the generator to be closed")
        wait_until(lambda: strict.status()["server"]["requests"] == 1, what="the request to be given up")


def test_access_log() -> None:
    """Asked to, the server logs its requests."""
    with Server("ours", "--log-output") as server:
        assert server.ask("GET", "/echo?logged").status == 200
        wait_until(lambda: '"GET /echo?logged HTTP/1.1" 200' in server.log(), what="the request in the log")


def test_access_log_has_fields() -> None:
    """As JSON, each request has its method, path, status, duration and client; what is none has the rest."""
    with Server("ours", "--log-output", "--log-json") as server:
        assert server.ask("GET", "/no/such%20path?ticket=secret").status == 404
        with server.connect() as http:
            http.send(b"nonsense\r\n\r\n")
            http.rest()
        wait_until(lambda: '"method": null' in server.log(), what="both requests in the log")
        lines = [json.loads(line) for line in server.log().splitlines() if '"method"' in line][-2:]
        assert "secret" not in server.log()
    known = {name: lines[0][name] for name in ("logger", "client", "method", "path", "status")}
    assert known == {"logger": "hakgal_hybrid.access", "client": "127.0.0.1", "method": "GET",
                     "path": "/no/such%20path", "status": 404}
    assert 0 < lines[0]["duration_s"] < 10
    assert (lines[1]["method"], lines[1]["path"], lines[1]["status"]) == (None, None, 400)


# -- bounds --------------------------------------------------------------------------------------------------------


def test_queue_full() -> None:
    """More requests than may wait are refused at once, and told when to come back."""
    with Server("ours", HYBRID_THREADS=1, HYBRID_QUEUE_REQUESTS=1) as server, held(server, 1) as (holding,):
        with server.connect() as waiting, server.connect() as refused:
            waiting.request("GET", "/health")
            wait_until(lambda: server.status()["server"]["lanes"]["host"]["waiting"] == 1)
            answer = refused.ask("GET", "/health")
            assert (answer.status, answer.headers["content-type"]) == (503, "application/problem+json")
            assert answer.json()["code"] == "too_many_requests_waiting"
            assert int(answer.headers["retry-after"]) >= 1
            assert server.status()["server"]["lanes"]["host"]["rejected"] == 1
            release(server)
            assert holding.answer().status == 200
            assert waiting.answer().status == 200
            assert refused.ask("GET", "/health").status == 200


def test_queue_bytes() -> None:
    """Waiting requests may hold only so many bytes together."""
    with Server("ours", HYBRID_THREADS=1, HYBRID_QUEUE_BYTES=1000) as server, held(server, 1):
        with server.connect() as waiting, server.connect() as refused:
            waiting.request("POST", "/echo", b"x" * 900)
            wait_until(lambda: server.status()["server"]["lanes"]["host"]["waiting"] == 1)
            assert refused.ask("POST", "/echo", b"x" * 200).status == 503
            release(server)
            assert waiting.answer().json()["length"] == 900


def test_queue_timeout() -> None:
    """A request that waited too long for a thread is refused; one that has begun may take its time."""
    with Server("ours", HYBRID_THREADS=1, HYBRID_QUEUE_S=0.2) as server, held(server, 1) as (holding,):
        with server.connect() as http:
            answer = http.ask("GET", "/health")
            assert (answer.status, answer.json()["code"]) == (503, "queued_too_long")
            assert int(answer.headers["retry-after"]) >= 1
            release(server)
            assert holding.answer().status == 200
            assert http.ask("GET", "/health").status == 200


def median_ms(call: Any, tries: int = 15) -> float:
    call()  # the first one may start a thread
    return statistics.median(milliseconds(call) for _ in range(tries))


@pytest.mark.quiet
def test_ours_answers_while_every_host_thread_is_busy() -> None:
    """With no host thread left, status, control and opening a stream answer at once, and events flow."""
    with Server("ours", HYBRID_THREADS=2) as server, server.opened() as stream, held(server, 2):
        assert median_ms(lambda: server.ask("GET", STATUS)) < PROMISED_MS
        assert median_ms(lambda: server.opened().close()) < PROMISED_MS
        assert median_ms(lambda: server.ask("POST", CONTROL, {"action": "status"})) < PROMISED_MS
        assert median_ms(lambda: server.ask("POST", CONTROL, {"action": "set_mode", "mode": "fast"})) < PROMISED_MS
        assert len(stream.wait_for("governor_update", 16)) == 16


@pytest.mark.quiet
def test_ours_answers_while_the_host_burns_cpu() -> None:
    """Host threads that compute without a pause do not keep status, control and streams waiting."""
    with Server("ours", HYBRID_THREADS=2) as server, server.opened() as stream:
        with server.connect() as one, server.connect() as two:
            for http in (one, two):
                http.request("GET", "/work?seconds=4&burn=1")
            wait_until(lambda: server.status()["server"]["lanes"]["host"]["busy"] == 2)
            assert median_ms(lambda: server.ask("GET", STATUS)) < PROMISED_MS
            assert median_ms(lambda: server.ask("POST", CONTROL, {"action": "status"})) < PROMISED_MS
            assert median_ms(lambda: server.opened().close()) < PROMISED_MS
            assert server.ask("POST", CONTROL, {"action": "set_mode", "mode": "fast"}).status in (200, 202)
            stream.wait_for("governor_update")


def test_connect_handlers_that_hang_do_not_hold_up_control() -> None:
    """Streams are opened in threads of their own: a slow ``connect`` handler costs other streams, not commands."""
    with Server("ours", HYBRID_RESERVED_THREADS=1) as server:
        with server.connect() as http:
            http.request("GET", f"{STREAM}?hang=1")
            wait_until(lambda: server.status()["server"]["lanes"]["stream"]["busy"] == 1)
            assert server.ask("POST", CONTROL, {"action": "status"}).status in (200, 202)
            assert server.ask("GET", "/health").status == 200
            release(server)
            assert http.head()[0] == 200


# -- upgrades ------------------------------------------------------------------------------------------------------


def test_a_websocket_of_the_host(server: Server) -> None:
    """A flask-sock route of the host works: text and binary, small and large, both sides closing."""
    ws = websocket.create_connection(f"ws://127.0.0.1:{server.port}/ws/echo", timeout=SOON)
    try:
        for text in ("Hello", "Grüße \U0001f600", "x" * 70_000):
            ws.send(text)
            assert ws.recv() == text
        ws.send_binary(b"\x00\xff" * 5000)
        assert ws.recv() == b"\x00\xff" * 5000
        assert server.ask("GET", "/health").status == 200
    finally:
        ws.close()


def test_an_upgrade_that_is_no_websocket_is_answered_as_http(server: Server) -> None:
    """A request to upgrade that the host answers plainly gets that answer and the connection closed."""
    for path, status in (("/nothing", 404), ("/raw/nodelay", 200), ("/raw/empty", 204)):
        with server.connect() as http:
            answer = http.ask("GET", path, headers=UPGRADE)
            assert (answer.status, answer.headers["connection"]) == (status, "close")
            assert http.closed()


def test_a_host_that_fails_at_an_upgrade(server: Server) -> None:
    """A host that raises at an upgrade request costs that connection only."""
    with server.connect() as http:
        http.request("GET", "/raw/raise", headers=UPGRADE)
        assert http.closed()
    assert server.ask("GET", "/health").status == 200


def test_a_websocket_that_gets_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started, the connection ends and its place is free again."""

    class Refused(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    ours, theirs = socket.socketpair()
    ended: list[bool] = []
    with theirs:
        monkeypatch.setattr(threading, "Thread", Refused)
        start_upgrade(lambda environ, start_response: [], {}, ours.detach(), lambda: ended.append(True))
        theirs.settimeout(SOON)
        assert (theirs.recv(1), ended) == (b"", [True])


def test_websockets_are_bounded(strict: Server) -> None:
    """More WebSockets than allowed are refused with ``Retry-After``; one that ended makes room."""
    url = f"ws://127.0.0.1:{strict.port}/ws/echo"
    first = websocket.create_connection(url, timeout=SOON)
    try:
        with strict.connect() as http:
            answer = http.ask("GET", "/ws/echo", headers=UPGRADE)
            assert (answer.status, answer.json()["code"]) == (503, "too_many_websockets")
            assert int(answer.headers["retry-after"]) >= 1
    finally:
        first.close()

    def connects() -> bool:
        try:
            websocket.create_connection(url, timeout=SOON).close()
        except websocket.WebSocketBadStatusException:
            return False
        return True

    wait_until(connects, what="room for a WebSocket")


# -- TLS -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tls(certificate: tuple[str, str]) -> Iterator[Server]:
    cert, key = certificate
    with Server("ours", "--certfile", cert, "--keyfile", key, HYBRID_HEARTBEAT_S=0.2, HYBRID_REQUEST_S=1) as server:
        yield server


def test_tls(tls: Server) -> None:
    """With a certificate, requests, streams and commands go over TLS."""
    assert tls.log().count("https://") == 1
    with tls.connect() as http:
        assert http.ask("GET", "/health").status == 200
        assert http.ask("POST", "/echo", b"x" * 200_000).json()["length"] == 200_000
        assert len(http.ask("GET", "/chunks?n=1000").body) == 9890
    with tls.opened() as first, tls.opened() as second:
        for stream in (first, second):
            assert stream.headers["content-type"] == "text/event-stream"
        seen = tls.emit("fact_added", 100, size=5000)
        for stream in (first, second):
            assert [data["i"] for data in stream.wait_for("fact_added", 100)] == list(range(100))
        first.read_until(lambda stream: stream.heartbeats)
        tls.emit("fact_added", 3)
    tls.wait_for_streams(0)
    with tls.opened(headers={"Last-Event-ID": seen}) as stream:
        assert [data["i"] for data in stream.wait_for("fact_added", 3)] == [0, 1, 2]
        tls.ask("POST", "/kick", {"sid": stream.sid})
        stream.read_to_end()
    tls.wait_for_streams(0)
    assert "Traceback" not in tls.log()


@pytest.mark.long
def test_who_reads_slowly_over_tls_is_not_given_up(certificate: tuple[str, str]) -> None:
    """It may take longer than ``HYBRID_STALL_S`` over what is sent at once; one that takes nothing may not."""
    cert, key = certificate
    with (Server("ours", "--certfile", cert, "--keyfile", key, HYBRID_STALL_S=1, HYBRID_RESUME_S=0) as server,
          server.opened(rcvbuf=4096) as slow, server.opened(rcvbuf=4096) as stalled):
        server.emit("fact_added", 40, size=65536)
        for size in range(0, 40 * 65536, 20_000):
            slow.read_until(lambda stream, size=size: len(stream.raw) > size)
            time.sleep(0.04)  # that is what is tried: 500 kB a second
        slow.wait_for("fact_added", 40)
        assert [data["i"] for data in slow.payloads("fact_added")] == list(range(40))
        wait_until(lambda: server.status()["traffic"]["ended"] == {"stalled": 1}, what="the other one to be given up")
        assert stalled.closed()
        assert server.status()["streams"] == 1


def test_a_stream_over_tls_that_is_replaced_does_not_keep_its_socket(certificate: tuple[str, str]) -> None:
    """Not even in the middle of a long opening, and if nobody reads it: one client could have many written at once."""
    cert, key = certificate
    names, size = 100, 60_000
    with (Server("ours", "--certfile", cert, "--keyfile", key, HYBRID_STALL_S=60, HYBRID_LOG_BYTES=32 << 20) as server,
          contextlib.ExitStack() as stack):
        for number in range(names):
            server.emit(f"large{number}", size=size)
        ticket = server.ask("POST", "/api/events/connect", {}).json()["ticket"]
        *replaced, last = [stack.enter_context(server.opened(f"ticket={ticket}&snapshot=1", rcvbuf=4096))
                           for _ in range(4)]
        wait_until(lambda: server.status()["traffic"]["ended"] == {"replaced": 3}, what="the first ones to be closed")
        for stream in replaced:
            stream.read_to_end()
            assert len(stream.raw) < names * size / 2
        last.wait_for(f"large{names - 1}")


@pytest.mark.parametrize(("kind", "heartbeats"), [("ours", 3), ("tls", 2), ("werkzeug", 2)])
def test_who_is_left_out_of_everything_gets_heartbeats(
        kind: str, heartbeats: int, request: pytest.FixtureRequest) -> None:
    """Whoever emits to all but itself hears nothing of what it sets going: but that it is still connected."""
    options = [kind]
    if kind == "tls":
        cert, key = request.getfixturevalue("certificate")
        options = ["ours", "--certfile", cert, "--keyfile", key]
    with Server(*options, HYBRID_HEARTBEAT_S=0.5) as server, server.opened() as left, server.opened() as other:
        for number in range(40):
            server.emit("typing", skip=left.sid)
            other.wait_for("typing", number + 1)
            time.sleep(0.05)  # the others hear something all the time, for four times the interval
        server.emit("done")
        left.wait_for("done", 1)
        assert not left.payloads("typing")
        assert len(left.heartbeats) >= heartbeats


def test_tls_streams_are_told_good_bye(tls: Server) -> None:
    """Streams over TLS end like others when the server stops."""
    with tls.opened() as stream:
        tls.emit("last", 50)
        tls.process.terminate()
        assert stream.open_after("hybrid_bye")
        stream.read_to_end()
        assert [message.event for message in stream.messages[-2:]] == ["last", "hybrid_bye"]
        assert len(stream.named("last")) == 50
        assert tls.ended() in (0, 1 if sys.platform == "win32" else 0)


def test_who_does_not_speak_tls_disturbs_nobody(tls: Server) -> None:
    """A client that does not speak TLS, or never begins to, is disconnected; others go on."""
    with Http(tls.port) as plain, Http(tls.port) as silent:
        plain.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert plain.closed()
        assert tls.ask("GET", "/health").status == 200
        assert silent.closed()
    assert "Traceback" not in tls.log()


def test_a_websocket_over_tls_is_refused(tls: Server) -> None:
    """What this server cannot do it says: no WebSockets over its own TLS."""
    with tls.connect() as http:
        answer = http.ask("GET", "/ws/echo", headers=UPGRADE)
        assert (answer.status, answer.json()["code"]) == (501, "no_websocket_over_tls")


# -- stopping ------------------------------------------------------------------------------------------------------

STOP_SIGNALS = ([signal.CTRL_BREAK_EVENT] if sys.platform == "win32"  # type: ignore[attr-defined]
                else [signal.SIGTERM, signal.SIGINT])


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_ends_the_server_cleanly(number: int) -> None:
    """Asked to end, the server flushes every stream, says good-bye, answers what it has begun, and exits with 0."""
    with Server("ours") as server, contextlib.ExitStack() as stack:
        streams = [stack.enter_context(server.opened()) for _ in range(12)]
        busy = stack.enter_context(server.connect())
        busy.request("GET", "/work?seconds=0.3")
        wait_until(lambda: server.status()["server"]["lanes"]["host"]["busy"] == 1)
        server.emit("fact_added", 500)
        server.signal(number)
        assert busy.answer().status == 200
        times = []
        for stream in streams:
            stream.read_to_end()
            assert [data["i"] for data in stream.payloads("fact_added")] == list(range(500))
            assert [message.event for message in stream.messages[-1:]] == ["hybrid_bye"]
            assert stream.payloads("hybrid_bye") == [{"retry_ms": stream.decoder.retry}]
            assert stream.raw.endswith(f'\n\nretry: {stream.decoder.retry}\nevent: hybrid_bye\ndata: '
                                       f'{{"retry_ms":{stream.decoder.retry}}}\n\n'.encode())
            times.append(stream.decoder.retry)
        assert all(1500 <= retry <= 4500 for retry in times)
        assert len(set(times)) > 6
        assert server.ended() == 0
        assert "Traceback" not in server.log()


def test_a_stream_that_is_asked_for_during_the_farewell_does_not_hold_up_the_stop() -> None:
    """It is not opened, or gets a farewell of its own."""
    with Server("ours", HYBRID_DRAIN_S=20) as server, server.opened() as stream, server.connect() as kept:
        assert kept.ask("GET", "/health").status == 200
        server.signal(STOP_SIGNALS[0])
        stream.wait_for("hybrid_bye")
        received = bytearray()
        with contextlib.suppress(ConnectionError):  # it may be closed by now
            kept.request("GET", STREAM, headers={"Accept": "text/event-stream"})
            while data := kept.sock.recv(65536):
                received += data
        assert b"hybrid_open" not in received or b"hybrid_bye" in received
        assert server.ended(SOON) == 0


WITH_HANDLERS = '''
import os, signal, sys
from flask import Flask
from hakgal_hybrid import HybridTransport

transport = HybridTransport(Flask("with_handlers"))
raised = {"none": None, "exit": SystemExit(3), "interrupt": KeyboardInterrupt(),
          "error": LookupError("theirs")}[sys.argv[1]]

def cleanup(number, frame):
    print("cleanup", int(number), frame.f_lineno > 0, flush=True)
    if raised is not None:
        raise raised

numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGBREAK") if hasattr(signal, name)]
for number in numbers:
    signal.signal(number, cleanup)
try:
    transport.run("127.0.0.1", int(sys.argv[2]), log_output=False)
    print("returned", flush=True)
except (KeyboardInterrupt, LookupError) as error:
    print("caught", type(error).__name__, flush=True)
finally:
    print("restored", all(signal.getsignal(number) is cleanup for number in numbers), flush=True)
'''


@pytest.mark.parametrize("number", STOP_SIGNALS)
@pytest.mark.parametrize(("raised", "end", "status"), [
    ("none", ["returned"], 0), ("exit", [], 3), ("interrupt", ["caught KeyboardInterrupt"], 0),
    ("error", ["caught LookupError"], 0)])
def test_a_hosts_own_handler_of_a_signal_runs_before_the_clean_stop(
        number: int, raised: str, end: list[str], status: int) -> None:
    """Both run: what the host has set for a signal, then our stop with its farewell; the handlers are set again."""
    port = free_port()
    flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    process = subprocess.Popen([sys.executable, "-c", WITH_HANDLERS, raised, str(port)], stdout=subprocess.PIPE,
                               text=True, creationflags=flags)
    try:
        wait_until(lambda: listens(port), 20)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{STREAM}", timeout=20) as stream:
            assert b"retry" in stream.readline()
            process.send_signal(number)
            assert b"event: hybrid_bye" in read_until_cut(stream)
        output = process.communicate(timeout=20)[0].splitlines()
    finally:
        process.kill()
        process.wait()
    expected = signal.SIGBREAK if sys.platform == "win32" else number
    assert output == [f"cleanup {int(expected)} True", *end, "restored True"]
    assert process.returncode == status


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_request_that_does_not_end_does_not_keep_the_server() -> None:
    """A handler that hangs, or a client that does not read, delays the end by ``HYBRID_DRAIN_S`` at most."""
    with (Server("ours", HYBRID_DRAIN_S=1) as server, server.connect() as http,
          server.opened(rcvbuf=4096) as stalled, server.opened() as stream):
        http.request("GET", "/hold")
        wait_until(lambda: server.status()["server"]["lanes"]["host"]["busy"] == 1)
        server.emit("fact_added", 150, size=65536)
        stream.wait_for("fact_added", 150)
        wait_until(lambda: server.status()["server"]["fanout"]["blocked"] == 1)
        server.signal(signal.SIGTERM)
        stream.read_to_end()
        assert stream.messages[-1].event == "hybrid_bye"
        assert server.ended() == 0
        assert stalled.closed()


def test_no_new_connection_while_stopping() -> None:
    """Once told to end, the server accepts nobody: a client that comes back finds the next server, not this one."""
    with Server("ours", HYBRID_DRAIN_S=3) as server, server.connect() as busy, server.opened() as stream:
        busy.request("GET", "/work?seconds=0.5")
        wait_until(lambda: server.status()["server"]["lanes"]["host"]["busy"] == 1)
        server.signal(STOP_SIGNALS[0])

        def refused() -> bool:
            try:
                server.connect().close()
            except OSError:
                return True
            return False

        wait_until(refused, what="connections to be refused")
        assert busy.answer().status == 200
        stream.read_to_end()
        assert server.ended() == 0


# -- listening -----------------------------------------------------------------------------------------------------


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no ::1")


def resolve_both(host: str, port: int, **options: Any) -> list[Any]:
    """Resolve any name to both loopback addresses."""
    return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@needs_ipv6
def test_every_address_of_a_name_is_listened_on() -> None:
    """A name that stands for ``::1`` and ``127.0.0.1`` is listened on at both, with one port."""
    sockets = listening_sockets("localhost", 0, resolve_both)
    try:
        ports = {sock.getsockname()[1] for sock in sockets}
        assert {sock.getsockname()[0] for sock in sockets} == {"::1", "127.0.0.1"}
        assert len(ports) == 1
        for host in ("::1", "127.0.0.1"):
            socket.create_connection((host, next(iter(ports))), SOON).close()
    finally:
        for sock in sockets:
            sock.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the kernel of Linux")
def test_as_many_connections_wait_as_the_system_allows() -> None:
    """Clients that come at once are not dropped while the system has room: they would try again a second later."""
    allowed = int(Path("/proc/sys/net/core/somaxconn").read_text())
    [sock] = listening_sockets("127.0.0.1", 0)
    with contextlib.closing(sock):
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    assert struct.unpack_from("I", info, 28)[0] == min(allowed, 65535)  # tcpi_sacked: the bound, for one that listens


@needs_ipv6
def test_an_address_that_is_taken_is_refused() -> None:
    """Where one address of a name is taken, whoever has it would get a part of the clients: refused."""
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"::1:{port} is in use"):
            listening_sockets("localhost", port, resolve_both)


@needs_ipv6
def test_every_address_of_the_machine_is_listened_on() -> None:
    """``host="::"`` serves IPv4 as well, with one port, and shows its clients' addresses as they are."""
    with Server("ours", "--host", "::") as server:
        for host in ("::1", "127.0.0.1"):
            with Http(server.port, host=host) as http:
                assert http.ask("GET", "/health").status == 200
                assert http.ask("GET", "/api/hybrid/seen", headers={"Host": "localhost"}).json()["peer"] == host


def test_localhost_is_served_at_every_loopback_address() -> None:
    """``host="localhost"`` serves whatever addresses the name has on this machine."""
    with Server("ours", "--host", "localhost") as server:
        found = {item[4][0] for item in socket.getaddrinfo("localhost", server.port, type=socket.SOCK_STREAM)}
        assert found
        for host in found:
            with Http(server.port, host=host) as http:
                assert http.ask("GET", "/health").status == 200


def test_a_port_in_use_is_a_configuration_error() -> None:
    """A port that somebody has is refused at start, with the address and a remedy."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port}.*choose a free port"):
            HybridTransport(Flask("refused")).run(port=port)


@pytest.mark.parametrize(("host", "port", "named"), [
    ("127.0.0.1", 99999, "port=99999"), ("127.0.0.1", -1, "port=-1"), ("127.0.0.1", "5000", "port='5000'"),
    ("127.0.0.1", 1.5, "port=1.5"), ("127.0.0.1", True, "port=True"), (5, 0, "host=5"), (b"::1", 0, "host=b'::1'")])
def test_what_is_no_address_is_a_configuration_error(host: Any, port: Any, named: str) -> None:
    """A host or a port that cannot be one is named, with what is accepted."""
    with pytest.raises(ConfigurationError, match=named):
        HybridTransport(Flask("nowhere")).run(host=host, port=port)


def test_an_unknown_host_is_a_configuration_error() -> None:
    """A name that does not resolve is refused at start."""

    def resolve(*args: Any, **options: Any) -> Any:
        raise socket.gaierror("no such name")

    with pytest.raises(ConfigurationError, match=r"nowhere\.invalid"):
        listening_sockets("nowhere.invalid", 0, resolve)


@pytest.mark.parametrize("options", [
    {"ssl_context": object()}, {"ssl_context": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)},
    {"ssl_context": ("missing.pem", "missing.key")}, {"certfile": "missing.pem"}, {"ssl_context": "adhoc"},
])
def test_bad_tls_options_are_configuration_errors(options: dict[str, Any]) -> None:
    """What cannot be used for TLS is refused at start, not at the first connection."""
    with pytest.raises(ConfigurationError, match=r"ssl_context|certfile"):
        HybridTransport(Flask("refused")).run(port=0, **options)


def test_a_certificate_that_is_none_is_a_configuration_error(tmp_path: Path) -> None:
    """A file that holds no certificate is refused at start."""
    nonsense = tmp_path / "cert.pem"
    nonsense.write_text("no certificate")
    with pytest.raises(ConfigurationError, match="certfile"):
        HybridTransport(Flask("refused")).run(port=0, certfile=str(nonsense), keyfile=str(nonsense))


def test_a_server_in_a_thread_is_stopped_from_another() -> None:
    """The server also runs outside the main thread, several times, and ``stop`` ends it from anywhere."""
    app = Flask("in_a_thread")
    transport = HybridTransport(app, heartbeat_s=0.1)
    for _ in range(2):
        port = free_port()
        thread = threading.Thread(target=transport.run, kwargs={"port": port})
        thread.start()
        wait_until(lambda port=port: listens(port), what="the server to listen")
        with Http(port) as http:
            assert http.ask("GET", STATUS).json()["streams"] == 0
            assert json.loads(http.ask("POST", EMIT, {"event": "x"}).body)["code"] == "unknown_event"
        transport.socketio.stop()
        thread.join(SOON)
        assert not thread.is_alive()
