"""Clients of Socket.IO that mean harm, or that others mistake for one: real servers, real sockets."""

from __future__ import annotations

import gc
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from flask import Flask
from support.hosts import serving_by
from support.servers import wait_until
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
        self.socketio.on("all")(self._send_to_all)
        self._serving = ExitStack()
        self.port = self._serving.enter_context(serving_by(server, self.socketio, self.app))
        self.node = self.app.extensions["hakgal_hybrid"].state.node

    def _wait(self, *args: Any) -> None:
        self.gate.wait(20)
        self.log.append(args)

    def _echo(self, *args: Any) -> Any:
        emit("echoed", args)
        return args

    def _send_to_all(self, value: Any) -> None:
        emit("all", value, broadcast=True)

    def stop(self) -> None:
        self.gate.set()
        self._serving.close()

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


def test_a_flood_of_empty_frames_holds_nobody_up(host: Host) -> None:
    """They cost their client's sender least, and the server most: the others have their turns."""
    flood, stop = WebSocket(host).connect(), threading.Event()
    pings = bytes(flood.frames.ping(b"")) * 2000

    def send() -> None:
        while not stop.is_set():
            try:
                flood.sock.sendall(pings)
            except TimeoutError:
                pass

    flood.sock.settimeout(0.2)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(10):
            began = time.monotonic()
            assert host.ask()[0] == 200
            assert time.monotonic() - began < 2
    finally:
        stop.set()
        sender.join(20)


def test_what_comes_with_the_handshake_is_read() -> None:
    """A client that does not wait for the answer loses nothing, on our own server."""
    host = Host("ours")
    sock = socket.create_connection(("127.0.0.1", host.port), timeout=20)
    frames, got = FrameProtocol(client=True, extensions=[]), b""
    event = bytes(frames.send_data('42["echo",1]', True))
    sock.sendall((HANDSHAKE % "").encode() + bytes(frames.send_data("40", True)) + event[:9])
    while b"40{" not in got:
        got += sock.recv(65536)
    sock.sendall(event[9:])
    while b'42["echoed",1]' not in got:
        got += sock.recv(65536)
    sock.close()
    host.stop()


def test_leaving_what_was_never_joined_does_nothing(host: Host) -> None:
    """Some libraries do that; an event for such a namespace ends the session."""
    client = WebSocket(host).connect()
    client.send("41/other,", '42["echo",1]')
    assert client.receive() == '42["echoed",1]'
    client.send('42/other,["echo",1]')
    assert client.receive() in (1000, 1002)


def test_a_flood_of_namespaces_is_answered(host: Host) -> None:
    """The cost of each does not grow with their number, and a very long name ends the session."""
    sid, answers, packets = host.open(), list[Any](), list[str]()
    post = threading.Thread(target=lambda: answers.append(
        host.ask("POST", sid, "\x1e".join(f"40/{number}," for number in range(2000)))))
    post.start()
    while len(packets) < 2000:
        packets += host.ask(query=sid)[1].split("\x1e")
    post.join(20)
    assert answers == [(200, "ok")]
    assert [packet[:2] for packet in packets] == ["40"] * 256 + ["44"] * (2000 - 256)
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


def test_a_request_that_waits_is_answered_while_its_client_changes_over(host: Host) -> None:
    """The client that waits for that answer before it goes on with its WebSocket, and one that does not: nothing is
    lost, and nothing comes in another order.
    """
    for patient in (True, False):
        host.gate.clear()
        host.log.clear()
        sid, answers = host.connect(), list[Any]()
        body = "\x1e".join(f'42["wait",{number}]' for number in range(200))
        post = threading.Thread(target=lambda: answers.append(host.ask("POST", sid, body)))  # noqa: B023
        post.start()
        wait_until(lambda: any(session.polling.posting for session in host.node.engine_counters.sessions()),
                   what="the request is there")
        client = WebSocket(host, sid)
        client.send("2probe")
        assert client.receive() == "3probe"
        if not patient:
            client.send("5")
        host.gate.set()
        post.join(20)
        assert answers == [(200, "ok")]
        if patient:
            client.send("5")
        wait_until(lambda: len(host.log) == 200, what="all are carried out")
        client.send('42["echo","last"]')
        assert client.receive() == '42["echoed","last"]'
        assert host.log == [(number,) for number in range(200)]


def test_what_a_request_brings_is_read_as_it_is_carried_out(host: Host) -> None:
    """Twenty thousand events in one body are not as many objects behind a handler that hangs."""
    sid, answers = host.connect(), list[Any]()
    body = "\x1e".join(['42["wait",0]', *['42["wait"]'] * 20_000])
    gc.collect()
    before = len(gc.get_objects())
    post = threading.Thread(target=lambda: answers.append(host.ask("POST", sid, body)))
    post.start()
    time.sleep(1)
    assert len(gc.get_objects()) - before < 10_000
    host.gate.set()
    post.join(20)
    assert answers == [(200, "ok")]
    wait_until(lambda: len(host.log) == 20_001, what="all are carried out")


def test_a_bad_packet_behind_many_is_refused(host: Host) -> None:
    """Also if it is read only when those before it were carried out, which they all are."""
    sid, answers = host.connect(), list[Any]()
    body = "\x1e".join([*['42["wait",0]'] * 200, "4abc", '42["wait",1]'])
    post = threading.Thread(target=lambda: answers.append(host.ask("POST", sid, body)))
    post.start()
    host.gate.set()
    post.join(20)
    assert answers[0][0] == 400
    wait_until(lambda: len(host.log) == 200, what="all are carried out")
    assert host.ask(query=sid)[0] == 400


@pytest.mark.parametrize("depth", [190, 300, 420, 450, 460, 470, 475, 480, 485, 490, 495])
def test_no_payload_ends_the_sessions_of_others(host: Host, depth: int) -> None:
    """However deep a client nests what the host sends on to all: it arrives, or the emit raises, or it is refused."""
    polling, listening, client = host.connect(), WebSocket(host).connect(), WebSocket(host).connect()
    client.send(f'451-["all",{"[" * depth}{{"_placeholder":true,"num":0}}{"]" * depth}]', b"x", '42["echo"]')
    while client.receive() not in ('42["echoed"]', 1000):  # its own session may end
        pass
    host.socketio.emit("all", "mark")
    if depth < 200:
        assert str(listening.receive()).startswith('451-["all",[[[')
        assert listening.receive() == b"x"
    assert listening.receive() == '42["all","mark"]'
    packets = ""
    while "mark" not in packets:
        status, packets = host.ask(query=polling)
        assert status == 200
