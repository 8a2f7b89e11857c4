"""Heads and bodies of requests as bytes: what they say, in whatever pieces they come."""

from __future__ import annotations

import io
from typing import Any

import pytest

from hakgal_hybrid.broker.environ import PATH
from hakgal_hybrid.errors import RequestError
from hakgal_hybrid.server.environ import base_environ, read_request
from hakgal_hybrid.server.http1 import ChunkedBody, FixedBody, check_lines, parse_head


def head(line: str = "GET / HTTP/1.1", *headers: str) -> bytes:
    return "\r\n".join([line, "Host: site.test", *headers, "", ""]).encode("latin-1")


@pytest.mark.parametrize(("data", "said"), [
    (head("GET /a%20b?c=%64 HTTP/1.1"), {"path": "/a%20b", "query": "c=%64", "method": "GET", "authority": None}),
    (head("GET http://other.test:8080?c HTTP/1.1"), {"path": "/", "query": "c", "authority": "other.test:8080"}),
    (head("OPTIONS * HTTP/1.1"), {"path": "*", "method": "OPTIONS", "query": ""}),
    (head("GET /?a?b HTTP/1.1"), {"path": "/", "query": "a?b"}),
    (head(), {"version": "HTTP/1.1", "keep_alive": True, "length": None, "chunked": False, "upgrade": False}),
    (head("GET / HTTP/1.1", "Connection: TE, Close"), {"keep_alive": False}),
    (head("GET / HTTP/1.0"), {"version": "HTTP/1.0", "keep_alive": False}),
    (head("GET / HTTP/1.0", "Connection: Keep-Alive"), {"keep_alive": True}),
    (head("POST / HTTP/1.1", "Content-Length: 007"), {"length": 7}),
    (head("POST / HTTP/1.1", "Content-Length: 7", "content-length:7"), {"length": 7}),
    (head("POST / HTTP/1.1", "Transfer-Encoding: Chunked"), {"chunked": True, "length": None}),
    (head("POST / HTTP/1.1", "Expect: 100-Continue", "Content-Length: 1"), {"expects_continue": True}),
    (head("POST / HTTP/1.0", "Expect: 100-continue", "Content-Length: 1"), {"expects_continue": False}),
    (head("GET / HTTP/1.1", "Connection: keep-alive, Upgrade", "Upgrade: WebSocket"), {"upgrade": True}),
    (head("GET / HTTP/1.1", "Upgrade: websocket"), {"upgrade": False}),
    (head("POST / HTTP/1.1", "Connection: upgrade", "Upgrade: websocket"), {"upgrade": False}),
    (head("GET / HTTP/1.1", "X: a\tb  ", "Y:"), {"headers": [("host", "site.test"), ("x", "a\tb"), ("y", "")]}),
])
def test_what_a_head_says(data: bytes, said: dict[str, Any]) -> None:
    """Target, version, framing and what becomes of the connection are read as RFC 9112 has them."""
    found = parse_head(data)._asdict()
    assert {name: found[name] for name in said} == said


def test_a_head_may_come_in_any_pieces() -> None:
    """Its lines are checked as they come, each once, and none is refused for not being complete yet."""
    data = head("POST /x HTTP/1.1", "X: 1", "Content-Length: 3")
    checked = 0
    for end in range(len(data) + 1):
        checked = check_lines(data[:end], checked)
        assert checked == data[:end].rfind(b"\n") + 1


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\r\nHost: x\n", b"GET / HTTP/1.1\r\n x\r\n"])
def test_a_bad_line_is_refused_before_the_head_is_complete(data: bytes) -> None:
    """What can become no request is not waited for, and what it held is not repeated to the client."""
    with pytest.raises(RequestError) as caught:
        check_lines(data, 0)
    assert (caught.value.status, caught.value.code) == (400, "bad_http")
    assert "GET" not in caught.value.detail


def test_the_environment_of_a_request() -> None:
    """Headers are joined as PEP 3333 and RFC 6265 have it; the target names the host; an underscore hides nothing."""
    data = head("GET http://other.test/a%20%C3%BC?q HTTP/1.1", "Cookie: a=1", "Cookie: b=2", "X-A: 1", "X-A: 2",
                "X_A: 3", "Content-Type: text/plain")
    _, environ = read_request(data)
    path = "/a \u00c3\u00bc"
    assert environ == {
        "REQUEST_METHOD": "GET", "PATH_INFO": path, PATH: path, "QUERY_STRING": "q", "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "other.test", "HTTP_COOKIE": "a=1; b=2", "HTTP_X_A": "1,2", "CONTENT_TYPE": "text/plain"}
    assert base_environ(("::1", 80, 0, 0), secure=True)["wsgi.url_scheme"] == "https"


def test_the_same_head_is_parsed_once() -> None:
    """A client that repeats a request gets an environment that says the same; one that does not, its own."""
    first, second = read_request(head())[1], read_request(head())[1]
    assert first is second
    assert read_request(head("GET /other HTTP/1.1"))[1]["PATH_INFO"] == "/other"


CHUNKS = b'2;a=b\r\nhe\r\n3 ;c="d"\r\nllo\r\n0;e\r\nX-Trailer: y\r\n\r\n'


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 100])
def test_bodies_in_pieces_of_any_size(size: int) -> None:
    """A body is read up to its end and no further, whatever is asked for at a time."""
    for source, body in ((io.BytesIO(CHUNKS + b"next"), ChunkedBody), (io.BytesIO(b"hello" + b"next"), FixedBody)):
        read = body(source) if body is ChunkedBody else body(source, 5)  # type: ignore[call-arg]
        pieces = list(iter(lambda read=read: read.read(size), b""))  # type: ignore[misc]
        assert b"".join(pieces) == b"hello"
        assert all(len(piece) == size for piece in pieces[:-1])
        assert source.read() == b"next"


@pytest.mark.parametrize("length", range(len(CHUNKS)))
def test_a_chunked_body_that_breaks_off(length: int) -> None:
    """Wherever it breaks off, that is no end of it."""
    body = ChunkedBody(io.BytesIO(CHUNKS[:length]))
    with pytest.raises((ConnectionError, RequestError)):
        list(iter(lambda: body.read(100), b""))
