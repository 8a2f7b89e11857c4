"""Socket.IO: clients that begin and do not go on, send without end, fetch nothing, and guess sessions."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections.abc import Iterator

import psutil
import pytest
from support.attacks import KEY, REMOTE, counted, refusals
from support.servers import Http, Server, shown_on_failure, wait_until

POLLING, WEBSOCKET = "/socket.io/?EIO=4&transport=polling", "/socket.io/?EIO=4&transport=websocket"
HANDSHAKE = (f"GET {WEBSOCKET} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n").encode()
MIB = 1 << 20


@contextlib.contextmanager
def serving(**settings: object) -> Iterator[Server]:
    with Server("ours", ENABLE_WS_SPECIAL="true", **settings) as server, shown_on_failure(server):
        yield server


def opened(server: Server) -> socket.socket:
    """A WebSocket whose handshake was answered."""
    sock = socket.create_connection(("127.0.0.1", server.port), 20)
    sock.sendall(HANDSHAKE)
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = sock.recv(4096)
        assert data, answer
        answer += data
    assert answer.startswith(b"HTTP/1.1 101"), answer
    return sock


def frame(data: bytes, *, final: bool = True, first: bool = True) -> bytes:
    """A frame of a client, with a mask that changes nothing."""
    opcode = 1 if first else 0
    return bytes(((0x80 if final else 0) | opcode, 255)) + struct.pack(">Q", len(data)) + bytes(4) + data


def session(server: Server, **headers: str) -> str:
    """Open a session by polling; return its URL."""
    answer = server.ask("GET", POLLING, headers=headers)
    assert answer.status == 200, answer
    return f"{POLLING}&sid={json.loads(answer.body[1:])['sid']}"


def test_parts_of_messages_are_bounded_together() -> None:
    """A hundred clients that send 0.9 MB each and not the end: those without room are closed, others are served."""
    with serving(HYBRID_QUEUE_BYTES=8 * MIB) as server:
        memory = psutil.Process(server.process.pid)
        before, sockets = memory.memory_info().rss, []
        try:
            with counted(server, "too_many_requests_waiting", 80):
                for _ in range(100):
                    sockets.append(opened(server))
                    with contextlib.suppress(OSError):
                        sockets[-1].sendall(frame(b'42["say","' + b"x" * 900_000, final=False))
                wait_until(lambda: refusals(server).get("too_many_requests_waiting", 0) >= 80, 20,
                           "those without room to be closed")
                assert memory.memory_info().rss - before < 40 * MIB
                started = time.monotonic()
                assert server.ask("GET", "/health").status == 200
                assert time.monotonic() - started < 1
        finally:
            for sock in sockets:
                sock.close()
        wait_until(lambda: server.status()["socketio"]["websocket"] == 0, 20, "their sessions to end")
        server.ask("POST", session(server), b"40")


@pytest.mark.once
@pytest.mark.long
def test_who_is_not_let_in_leaves_nothing_behind() -> None:
    """Other machines without the key: a session each, as many as may be at once, until their time is over."""
    with serving(HAKGAL_API_KEY=KEY) as server, counted(server, "too_many_without_key", 36):
        statuses = [server.ask("GET", POLLING, headers=REMOTE).status for _ in range(100)]
        assert statuses.count(200) == 64
        assert statuses.count(403) == 36
        assert server.ask("GET", f"{POLLING}&apiKey={KEY}", headers=REMOTE).status == 200
        wait_until(lambda: json.loads(server.ask("GET", "/api/hybrid/status", headers={"X-API-Key": KEY}).body)[
            "socketio"]["polling"] == 0, 20, "all of them to end")
        assert server.ask("GET", POLLING, headers=REMOTE).status == 200


def test_sessions_cannot_be_guessed_and_are_not_in_the_log() -> None:
    """An id that is wrong by a letter is none. The access log and ours show neither an id nor a key."""
    with serving(HAKGAL_API_KEY=KEY) as server:
        url = session(server, **{"X-API-Key": KEY})
        sid = url.rpartition("=")[2]
        for guess in (sid[:-1], sid[:-1] + ("a" if sid[-1] != "a" else "b"), "", "x" * 5000):
            assert server.ask("POST", f"{POLLING}&sid={guess}", b"40").status == 400
        assert server.ask("POST", f"{url}&apiKey={KEY}", b"nonsense").status == 400
        assert sid not in server.log()
        assert KEY not in server.log()


@pytest.mark.parametrize("data", [
    b"\x00", b"GET / HTTP/1.1\r\n\r\n", frame(b"2probe"), b"\x81\x05hello", b"\xc1\x80" + bytes(4),
    b"\x8f\x80" + bytes(4),
    b"\x89\xfe\x00\x7e" + bytes(4) + bytes(126), b"\x81\xff" + b"\xff" * 8 + bytes(4), frame(b"\xff\xfe"),
    frame(b"4" + b"[" * 100_000), frame(b'42["a",' + b"[" * 500_000), frame(b"x", final=False) + frame(b"y"),
    frame(b"y", first=False)], ids=range(13))
def test_what_is_no_frame_or_packet_ends_the_websocket_only(weird: Server, data: bytes) -> None:
    """The server goes on, and has no error of its own to log."""
    with opened(weird) as sock:
        sock.sendall(data)
        sock.settimeout(20)
        with contextlib.suppress(ConnectionError):
            while sock.recv(65536):
                pass
    assert weird.ask("GET", "/health").status == 200
    assert "Traceback" not in weird.log()


@pytest.fixture(scope="module")
def weird() -> Iterator[Server]:
    with serving() as server:
        yield server


def test_a_body_that_never_ends(weird: Server) -> None:
    """More than may be is not read, with a length or in chunks; its session ends."""
    before = weird.status()["socketio"]["oversized"]
    for head in (b"Content-Length: 999999999", b"Transfer-Encoding: chunked"):
        url = session(weird)
        with Http(weird.port) as http:
            http.send(b"POST %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n" % (url.encode(), head))
            with contextlib.suppress(ConnectionError):
                for _ in range(200):
                    http.send(b"10000\r\n" + b"4" * 65536 + b"\r\n" if b"chunked" in head else b"4" * 65536)
            with contextlib.suppress(ConnectionError):
                assert http.answer().status == 413
        assert weird.ask("POST", url, b"40").status == 400
    assert weird.status()["socketio"]["oversized"] == before + 2
    assert weird.log().count("max_http_buffer_size") == 1
