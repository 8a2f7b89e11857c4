"""Clients of Socket.IO that mean harm, or that others mistake for one: real servers, real sockets."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from support.servers import wait_until
from werkzeug.serving import make_server
from wsproto.frame_protocol import FrameProtocol

from hakgal_hybrid.socketio import SocketIO, emit

PATH = "/socket.io/?EIO=4&transport="
HANDSHAKE = (f"GET {PATH}websocket%s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")


class Host:
    """A host on one of the servers.

    :ivar gate: what handlers of ``wait`` wait for.
    :ivar opened: sockets of clients.
    :ivar log: what handlers were called with.
    """

    def __init__(self, server: str) -> None:
        self.app = Flask("host")
        self.app.config.update(SECRET_KEY="for tests", HYBRID_ENABLE_WS_SPECIAL=True, HYBRID_COMMAND_RATE=1_000_000)
        self.socketio = SocketIO(self.app, namespaces="*")
        self.gate, self.log = threading.Event(), list[Any]()
        self.opened: list[socket.socket] = []
        self.socketio.on("wait")(self._wait)
        self.socketio.on("echo")(self._echo)
        if server == "werkzeug":
            served = make_server("127.0.0.1", 0, self.app, threaded=True)
            self.port, run, self._stop = served.port, served.serve_forever, served.shutdown
        else:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
            run, self._stop = self._serve, self.socketio.stop
        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        wait_until(self._answers, what="the server answers")
        self.node = self.app.extensions["hakgal_hybrid"].state.node

    def _serve(self) -> None:
        self.socketio.run(self.app, host="127.0.0.1", port=self.port)

    def _answers(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def _wait(self, *args: Any) -> None:
        self.gate.wait(20)
        self.log.append(args)

    def _echo(self, *args: Any) -> Any:
        emit("echoed", args)
        return args

    def stop(self) -> None:
        self.gate.set()
        self._stop()
        self._thread.join(10)

    def ask(self, method: str = "GET", query: str = "", body: str | None = None,
            path: str = PATH + "polling") -> tuple[int, str]:
        """Make a request; return status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path + query, body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def open(self) -> str:
        """Open a session; return the query that names it."""
        return f"&sid={json.loads(self.ask()[1][1:])['sid']}"

    def connect(self) -> str:
        """Open a session with a client in it; return the query that names it."""
        sid = self.open()
        assert self.ask("POST", sid, "40") == (200, "ok")
        assert self.ask(query=sid)[1].startswith("40{")
        return sid


class WebSocket:
    """A client's end that can send anything."""

    def __init__(self, host: Host, query: str = "") -> None:
        self.frames = FrameProtocol(client=True, extensions=[])
        self.sock = socket.create_connection(("127.0.0.1", host.port), timeout=20)
        host.opened.append(self.sock)
        self.sock.sendall((HANDSHAKE % query).encode())
        self._read = b""
        while b"\r\n\r\n" not in self._read:
            self._read += self._more()
        head, _, rest = self._read.partition(b"\r\n\r\n")
        self.status, self._read = int(head.split()[1]), b""
        self.frames.receive_bytes(rest)

    def _more(self) -> bytes:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        return data

    def send(self, *messages: str | bytes) -> None:
        self.sock.sendall(b"".join(bytes(self.frames.send_data(message, True)) for message in messages))

    def receive(self) -> Any:
        """Return the next frame's payload; of a close frame, its code."""
        while True:
            for frame in self.frames.received_frames():
                return frame.payload[0] if isinstance(frame.payload, tuple) else frame.payload
            self.frames.receive_bytes(self._more())

    def connect(self) -> WebSocket:
        """Connect to the default namespace."""
        self.receive()
        self.send("40")
        assert str(self.receive()).startswith("40{")
        return self


@pytest.fixture(scope="module", params=["werkzeug", "ours"])
def shared(request: pytest.FixtureRequest) -> Iterator[Host]:
    host = Host(request.param)
    yield host
    host.stop()


@pytest.fixture
def host(shared: Host) -> Iterator[Host]:
    """A host whose log is empty."""
    shared.log.clear()
    shared.gate.clear()
    yield shared
    shared.gate.set()
    while shared.opened:
        shared.opened.pop().close()


def test_a_flood_of_pings_holds_nobody_up(host: Host) -> None:
    """Its client does not read: pongs do not pile up, and others are answered meanwhile."""
    flood = WebSocket(host).connect()
    flood.sock.settimeout(0.2)
    pings, ends, slowest = bytes(flood.frames.ping(b"x" * 125)) * 500, time.monotonic() + 2, 0.0
    while time.monotonic() < ends:
        try:
            flood.sock.sendall(pings)
        except TimeoutError:
            pass
        began = time.monotonic()
        assert host.ask()[0] == 200
        slowest = max(slowest, time.monotonic() - began)
    flood.sock.close()
    assert slowest < 2


def test_a_flood_of_namespaces_ends_the_session(host: Host) -> None:
    """Whether there are very many, or one has a very long name: the cost of each does not grow with them."""
    sid = host.open()
    began = time.monotonic()
    assert host.ask("POST", sid, "\x1e".join(f"40/{number}," for number in range(100_000)))[0] == 400
    assert time.monotonic() - began < 5
    assert host.ask(query=sid)[0] == 400
    long = WebSocket(host)
    long.receive()
    long.send(f"40/{'n' * 900_000},")
    assert long.receive() == 1002


def test_one_attachment_is_not_made_many(host: Host) -> None:
    """A packet with one attachment and thousands of places for it would be gigabytes in the host's answer."""
    client = WebSocket(host).connect()
    places = ",".join(['{"_placeholder":true,"num":0}'] * 10_000)
    client.send(f'451-["echo",{places}]', b"x" * 500_000)
    assert client.receive() == 1000
