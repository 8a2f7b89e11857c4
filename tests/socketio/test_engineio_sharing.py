"""Clients of Socket.IO that share what is read of the log, on our own server: each gets what is for it, in order."""

from __future__ import annotations

import json
import random
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPSConnection
from typing import Any, NamedTuple

import flask
import pytest
from flask import Flask
from support.hosts import serving
from support.servers import wait_until
from support.socketio_clients import websocket
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from hakgal_hybrid.broker.engineio.packets import MAX_PACKETS
from hakgal_hybrid.socketio import SocketIO, join_room

PATH = "/socket.io/?EIO=4&transport="


@pytest.fixture(params=["plain", "tls", "mounted"])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host on our own server, over TLS too, and mounted below a path; who connects with a room is in it."""
    app = Flask("sharing")
    app.config.update(SECRET_KEY="for tests", HYBRID_ENABLE_WS_SPECIAL=True)
    socketio = SocketIO(app)
    sids: dict[int, str] = {}

    @socketio.on("connect")
    def connect(auth: Any) -> None:
        join_room(auth["room"])
        sids[auth["number"]] = flask.request.sid  # type: ignore[attr-defined]

    options, root = {}, ""
    if request.param == "tls":
        options["certfile"], options["keyfile"] = request.getfixturevalue("certificate")
    elif request.param == "mounted":
        root = "/below"
        app.wsgi_app = DispatcherMiddleware(NotFound(), {root: app.wsgi_app})  # type: ignore[method-assign]
    with serving(socketio, app, **options) as port:
        yield Host(socketio, port, sids, root + PATH, request.param == "tls")


class Host(NamedTuple):
    """The host, where and how it is served, and the ``sid`` of each client by its number."""

    socketio: SocketIO
    port: int
    sids: dict[int, str]
    path: str
    tls: bool

    def connect(self) -> HTTPConnection:
        """Return a connection."""
        if self.tls:
            return HTTPSConnection("127.0.0.1", self.port, timeout=20, context=ssl._create_unverified_context())
        return HTTPConnection("127.0.0.1", self.port, timeout=20)

    def websocket(self, query: str) -> Any:
        """Return a WebSocket."""
        ws = websocket.WebSocket(sslopt={"cert_reqs": ssl.CERT_NONE})
        ws.settimeout(20)
        ws.connect(f"{'wss' if self.tls else 'ws'}://127.0.0.1:{self.port}{self.path}websocket{query}")
        return ws


class Listener:
    """A client in a thread: it polls, or has a WebSocket, perhaps only after a while.

    :ivar got: what it was sent: the argument of each event.
    """

    def __init__(self, host: Host, number: int, kind: str) -> None:
        self.number, self.room, self._kind, self._host = number, f"room {number % 3}", kind, host
        self.got: list[int] = []
        self.connected, self.done = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _connect(self) -> str:
        return "40" + json.dumps({"room": self.room, "number": self.number})

    def _take(self, packet: str) -> None:
        if packet.startswith("40"):
            self.connected.set()
        elif packet.startswith('42["end"'):
            self.done.set()
        elif packet.startswith("42"):
            self.got.append(json.loads(packet[2:])[1])

    def _listen(self) -> None:
        if self._kind == "websocket":
            self._read(self._host.websocket(""), self._connect())
            return
        connection = self._host.connect()

        def ask(method: str, body: str | None = None) -> str:
            connection.request(method, self._host.path + "polling" + query, body)
            return connection.getresponse().read().decode()

        query = ""
        query = "&sid=" + json.loads(ask("GET")[1:])["sid"]
        assert ask("POST", self._connect()) == "ok"
        while not self.done.is_set():
            packets = ask("GET").split("\x1e")
            assert len(packets) <= MAX_PACKETS
            for packet in packets:
                self._take(packet)
            if self._kind == "upgrade" and len(self.got) > 40:
                ws = self._host.websocket(query)
                ws.send("2probe")
                assert ws.recv() == "3probe"
                self._read(ws, "5")
        connection.close()

    def _read(self, ws: Any, first: str) -> None:
        ws.send(first)
        while not self.done.is_set():
            self._take(ws.recv())
        ws.shutdown()

    def join(self) -> None:
        self._thread.join(20)


def test_each_client_is_sent_what_is_for_it(host: Host) -> None:
    """Polls, WebSockets and clients that change over get each event that is for them once, in order, in bursts too."""
    kinds = ["polling", "websocket", "upgrade"]
    listeners = [Listener(host, number, kinds[number % 3]) for number in range(12)]
    for listener in listeners:
        assert listener.connected.wait(20)
    chance, expected = random.Random(7), {listener.number: [] for listener in listeners}  # type: ignore[var-annotated]
    for event in range(400):
        aim = chance.choice(["all", "all", "room", "one", "skip"])
        room, one = f"room {chance.randrange(3)}", chance.randrange(12)
        to = {"room": room, "one": host.sids[one]}.get(aim)
        host.socketio.emit("news", event, to=to, skip_sid=host.sids[one] if aim == "skip" else None)
        for listener in listeners:
            if {"all": True, "room": listener.room == room, "one": listener.number == one,
                    "skip": listener.number != one}[aim]:
                expected[listener.number].append(event)
        if event % 50 < 20:  # in the rest of the time they come as fast as they can
            time.sleep(0.005)
    host.socketio.emit("end", 0)
    for listener in listeners:
        listener.join()
    assert {listener.number: listener.got for listener in listeners} == expected


def test_a_websocket_that_comes_while_a_poll_waits(host: Host) -> None:
    """The poll is answered, and nothing is lost: what is emitted from then on comes on the WebSocket."""
    connection = host.connect()
    connection.request("GET", host.path + "polling")
    query = "&sid=" + json.loads(connection.getresponse().read()[1:])["sid"]
    connection.request("POST", host.path + "polling" + query, '40{"room":"a","number":1}')
    connection.getresponse().read()
    connection.request("GET", host.path + "polling" + query)
    assert connection.getresponse().read().startswith(b"40")
    connection.request("GET", host.path + "polling" + query)
    time.sleep(0.1)  # it waits, and shares what is read
    ws = host.websocket(query)
    both = [websocket.ABNF.create_frame(text, websocket.ABNF.OPCODE_TEXT).format() for text in ("2probe", "5")]
    ws.sock.sendall(b"".join(both))
    for number in range(50):
        host.socketio.emit("news", number)
    answer = connection.getresponse()
    polled = answer.read().decode() if answer.status == 200 else ""
    got = [json.loads(packet[2:])[1] for packet in polled.split("\x1e") if packet.startswith("42")]
    assert ws.recv() == "3probe"
    while len(got) < 50:
        got.append(json.loads(ws.recv()[2:])[1])
    assert got == list(range(50))
    ws.shutdown()
    connection.close()


@pytest.mark.parametrize("host", ["plain"], indirect=True)
def test_threads_take_turns_more_often_while_there_is_a_websocket(host: Host) -> None:
    """A busy handler must not hold up what is sent, as with streams (``HYBRID_SWITCH_INTERVAL_MS``)."""
    usual = sys.getswitchinterval()
    ws = host.websocket("")
    ws.send('40{"room":"a","number":1}')
    assert [ws.recv()[:2] for _ in range(2)] == ["0{", "40"]
    assert sys.getswitchinterval() == pytest.approx(0.0005)
    assert usual > 0.001
    ws.shutdown()
    wait_until(lambda: sys.getswitchinterval() == usual, what="the interval is set back")


def test_a_stop_closes_websockets(host: Host) -> None:
    """A client is told by code 1001 that the server goes away, and the server does not wait for it any longer."""
    ws = host.websocket("")
    ws.send('40{"room":"a","number":1}')
    assert [ws.recv()[:2] for _ in range(2)] == ["0{", "40"]
    began = time.monotonic()
    threading.Thread(target=host.socketio.stop).start()
    opcode, data = ws.recv_data()
    assert (opcode, data[:2]) == (websocket.ABNF.OPCODE_CLOSE, (1001).to_bytes(2, "big"))
    assert time.monotonic() - began < 5
    ws.shutdown()
