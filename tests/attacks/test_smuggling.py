"""Requests that two programs read differently: whatever our parser does not take for one request is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.attacks import HEALTH, counted, said, statuses
from support.servers import Http, Server, shown_on_failure

#: What would be answered with 200 if it were taken for a request of its own.
HIDDEN = HEALTH
LENGTH = str(len(HIDDEN)).encode()
POST = b"POST /echo HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


#: The server that the tests here share.
SERVER = {"HYBRID_REQUEST_S": 3, "HYBRID_MAX_HEAD_BYTES": 4096}


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    with shown_on_failure(running):
        yield running
        assert "Traceback" not in running.log()
        assert running.ask("GET", "/health").status == 200


SHAPES = {
    "CL.TE": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "TE.CL": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n" + HIDDEN + b"\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: " + LENGTH + b"\r\n\r\n" + HIDDEN,
    "the same length twice, with a list": POST + b"Content-Length: 0, 0\r\n\r\n" + HIDDEN,
    "length with a sign": POST + b"Content-Length: +0\r\n\r\n" + HIDDEN,
    "length with a minus": POST + b"Content-Length: -0\r\n\r\n" + HIDDEN,
    "length in hexadecimal": POST + b"Content-Length: 0x0\r\n\r\n" + HIDDEN,
    "length with an underscore": POST + b"Content-Length: 0_0\r\n\r\n" + HIDDEN,
    "empty length": POST + b"Content-Length: \r\n\r\n" + HIDDEN,
    "length in other digits": POST + "Content-Length: \u00b2\r\n\r\n".encode("latin-1") + HIDDEN,
    "length, space before the colon": POST + b"Content-Length : " + LENGTH + b"\r\n\r\n" + HIDDEN,
    "length behind a vertical tab": POST + b"\x0bContent-Length: " + LENGTH + b"\r\n\r\n" + HIDDEN,
    "length folded": POST + b"Content-Length:\r\n " + LENGTH + b"\r\n\r\n" + HIDDEN,
    "folded header": POST + b"X: a\r\n b\r\n\r\n" + HIDDEN,
    "folded by a tab": POST + b"X: a\r\n\tTransfer-Encoding: chunked\r\n\r\n" + HIDDEN,
    "first header folded": b"POST /echo HTTP/1.1\r\n Host: x\r\n\r\n" + HIDDEN,
    "TE twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + HIDDEN,
    "TE list": POST + b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "TE unknown": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + HIDDEN,
    "TE quoted": POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + HIDDEN,
    "TE with a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + HIDDEN,
    "TE, bare LF before it": POST + b"X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "TE, bare CR before it": POST + b"X: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "TE, space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "TE in HTTP/1.0": b"POST /echo HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                      + HIDDEN,
    "head ended by bare LF": b"POST /echo HTTP/1.1\nHost: x\n\n" + HIDDEN,
    "blank line of bare LF": POST + b"\n" + HIDDEN,
    "bare CR in a value": POST + b"X: a\rb\r\n\r\n" + HIDDEN,
    "NUL in a value": POST + b"X: a\0b\r\n\r\n" + HIDDEN,
    "NUL in a name": POST + b"X\0: a\r\n\r\n" + HIDDEN,
    "no name": POST + b": a\r\n\r\n" + HIDDEN,
    "no colon": POST + b"Content-Length\r\n\r\n" + HIDDEN,
    "space in a name": POST + b"Content Length: 1\r\n\r\n" + HIDDEN,
    "two hosts": b"POST /echo HTTP/1.1\r\nHost: x\r\nHost: localhost\r\n\r\n" + HIDDEN,
    "no host": b"POST /echo HTTP/1.1\r\n\r\n" + HIDDEN,
    "no version": b"GET /health\r\n" + HIDDEN,
    "version 0.9": b"GET /health HTTP/0.9\r\nHost: x\r\n\r\n" + HIDDEN,
    "version 2": b"GET /health HTTP/2.0\r\nHost: x\r\n\r\n" + HIDDEN,
    "version in lower case": b"GET /health http/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "version with more": b"GET /health HTTP/1.1x\r\nHost: x\r\n\r\n" + HIDDEN,
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
    "two spaces": b"GET  /health HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "tabs": b"GET\t/health\tHTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "a space that only Unicode knows": b"GET\xa0/health HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "space before the method": b" GET /health HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "CR in the target": b"GET /hea\rlth HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "NUL in the target": b"GET /health\0 HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "method with a slash": b"GET/ /health HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "target without a slash": b"GET health HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "CONNECT": b"CONNECT localhost:1 HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "chunk size with a sign": CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n" + HIDDEN,
    "chunk size with a minus": CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n" + HIDDEN,
    "chunk size with 0x": CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n" + HIDDEN,
    "chunk size with an underscore": CHUNKED + b"0_5\r\nhello\r\n0\r\n\r\n" + HIDDEN,
    "chunk size behind a space": CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n" + HIDDEN,
    "chunk size empty": CHUNKED + b"\r\nhello\r\n0\r\n\r\n" + HIDDEN,
    "chunk size without end": CHUNKED + b"5" * 2000 + b"\r\n" + HIDDEN,
    "chunk size too large": CHUNKED + b"F" * 16 + b"\r\n" + HIDDEN,
    "chunk size in other digits": CHUNKED + "\u00b2\r\n".encode("latin-1") + HIDDEN,
    "chunk ended by bare LF": CHUNKED + b"5\nhello\r\n0\r\n\r\n" + HIDDEN,
    "chunk ended by bare CR": CHUNKED + b"5\rhello\r\n0\r\n\r\n" + HIDDEN,
    "chunk extension with bare LF": CHUNKED + b"5;a\nhello\r\n0\r\n\r\n" + HIDDEN,
    "chunk extension with bare CR": CHUNKED + b"5;a\rb\r\nhello\r\n0\r\n\r\n" + HIDDEN,
    "chunk extension without end": CHUNKED + b"5;" + b"a" * 10_000 + b"\r\nhello\r\n0\r\n\r\n" + HIDDEN,
    "chunk longer than it says": CHUNKED + b"5\r\nhello!\r\n0\r\n\r\n" + HIDDEN,
    "chunk shorter than it says": CHUNKED + b"7\r\nhello\r\n0\r\n\r\n" + HIDDEN,
    "chunk data ended by bare LF": CHUNKED + b"5\r\nhello\n0\r\n\r\n" + HIDDEN,
    "trailer that is none": CHUNKED + b"0\r\nno colon\r\n\r\n" + HIDDEN,
    "trailers without end": CHUNKED + b"0\r\n" + b"X: y\r\n" * 3000 + b"\r\n" + HIDDEN,
    "trailer folded": CHUNKED + b"0\r\nX: a\r\n b\r\n\r\n" + HIDDEN,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_ambiguous_is_refused(server: Server, shape: str) -> None:
    """400, the connection is closed, and nothing behind it is taken for a request."""
    with counted(server, "bad_http"):
        assert statuses(said(server, SHAPES[shape])) == [400], shape


@pytest.mark.parametrize(("request_", "expected"), [
    (POST + b"Content-Length: 5\r\n\r\nhello", b'"hello"'),
    (POST + b"content-length:5\r\n\r\nhello", b'"hello"'),
    (POST + b"Content-Length: 0005\r\n\r\nhello", b'"hello"'),
    (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", b'"hello"'),
    (CHUNKED + b"0005\r\nhello\r\n000\r\n\r\n", b'"hello"'),
    (CHUNKED + b"2;a=b\r\nhe\r\n3 ;c=\"d\"\r\nllo\r\n0;e\r\nX-Trailer: y\r\nX-Other: z\r\n\r\n", b'"hello"'),
    (CHUNKED + b"0\r\n\r\n", b'""'),
    (POST + b"Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b'"hello"'),
])
def test_what_is_right_is_answered_and_so_is_what_follows(server: Server, request_: bytes, expected: bytes) -> None:
    """The same shapes without a flaw: one answer each, and the next request on the connection gets its own."""
    last = HIDDEN.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    answers = said(server, request_ + last)
    assert statuses(answers) == [200, 200]
    assert b'"body":' + expected in answers


def test_a_trailer_is_no_header(server: Server) -> None:
    """What comes behind the chunks can neither be a key nor an address."""
    body = b'{"event": "whoami"}'
    head = (b"POST /api/events/emit HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"X-Forwarded-For: 203.0.113.9\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
    sent = head + b"%x\r\n%b\r\n0\r\nX-Forwarded-For: 127.0.0.1\r\nHost: localhost\r\n\r\n" % (len(body), body)
    assert statuses(said(server, sent)) == [403]


def test_a_name_with_an_underscore_is_not_taken_for_another_header(server: Server) -> None:
    """``X_Forwarded_For`` would be the same variable of WSGI: it is dropped."""
    head = (b"GET /api/hybrid/status HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.9\r\n"
            b"X_Forwarded_For: 127.0.0.1\r\nConnection: close\r\n\r\n")
    assert statuses(said(server, head)) == [403]


@pytest.mark.parametrize(("head", "status"), [
    (b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 5000 + b"\r\n\r\n", 431),
    (b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 900 + b"\r\n", 431),
    (b"GET /" + b"a" * 4200 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
    (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    (b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 3000 + b"\r\nConnection: close\r\n\r\n", 200),
])
def test_heads_are_bounded(server: Server, head: bytes, status: int) -> None:
    """A head over ``HYBRID_MAX_HEAD_BYTES`` is refused as soon as that is known, and counted."""
    if status == 200:
        assert statuses(said(server, head)) == [200]
        return
    with counted(server, "head_too_large"):
        answer = said(server, head)
    assert statuses(answer) == [status]
    assert b"application/problem+json" in answer
    assert b'"head_too_large"' in answer


def test_a_head_that_breaks_off_is_no_request(server: Server) -> None:
    """A client that closes its side in the middle of the head gets no answer but a refusal."""
    with Http(server.port) as http:
        http.send(b"POST /api/governor/control HTTP/1.1\r\nHost: localhost\r\nX-Half: ")
        http.sock.shutdown(1)
        assert statuses(http.rest()) in ([], [400])
