"""python-socketio's own clients, with threads and with asyncio, against a host that serves them from the log."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from flask import Flask, request
from support.hosts import serving_by
from support.servers import wait_until
from support.socketio_clients import Brisk, OrderedClient

from hakgal_hybrid.socketio import ConnectionRefusedError, SocketIO, emit, join_room, leave_room, rooms

socketio_package = pytest.importorskip("socketio", reason="python-socketio's client is not installed")

#: What the libraries leave open when the server has ended a connection first; it is collected after each test.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

#: The most that a message may be (bytes).
LIMIT = 1_000_000
TRANSPORTS = {"polling": ["polling"], "websocket": ["websocket"], "upgrade": None}
WAIT_S = 30


class Site:
    """A host on one of the servers.

    :ivar log: what its handlers were called with, in order.
    :ivar clients: the ids of those that are connected.
    """

    def __init__(self, server: str, port: int = 0) -> None:
        self.app = Flask("site")
        self.app.config.update(SECRET_KEY="for tests", HYBRID_ENABLE_WS_SPECIAL=True)
        # python-engineio's polling client may lose its goodbye, and then waits for its poll: a ping answers it.
        self.socketio = SocketIO(self.app, max_http_buffer_size=LIMIT, ping_interval=3)
        self.log: list[Any] = []
        self.clients: set[str] = set()
        self._add_handlers()
        self._serving = ExitStack()
        self.port = self._serving.enter_context(serving_by(server, self.socketio, self.app, port))

    def _add_handlers(self) -> None:
        socketio, log = self.socketio, self.log

        @socketio.on("connect")
        def connected(auth: Any = None) -> None:
            log.append(("connect", auth, request.args.get("from"), request.headers.get("X-From")))
            if auth == {"refuse": "data"}:
                raise ConnectionRefusedError("not today", {"until": "tomorrow"})
            self.clients.add(request.sid)
            emit("welcome", auth)

        @socketio.on("disconnect")
        def disconnected(reason: str) -> None:
            log.append(("disconnect", reason))
            self.clients.discard(request.sid)

        @socketio.on("give back")
        def give_back(*args: Any) -> Any:
            return args if len(args) != 1 else args[0]

        @socketio.on("echo")
        def echo(*args: Any) -> None:
            emit("echo", args)

        @socketio.on("note")
        def note(*args: Any) -> None:
            log.append(args)

        @socketio.on("message")
        def message(data: Any) -> None:
            socketio.send(data, to=request.sid)

        @socketio.on("join")
        def join(room: str) -> list[str]:
            join_room(room)
            return sorted(set(rooms()) - {request.sid})

        @socketio.on("leave")
        def leave(room: str) -> list[str]:
            leave_room(room)
            return sorted(set(rooms()) - {request.sid})

        @socketio.on("tell others")
        def tell_others(room: str, data: Any) -> None:
            emit("told", data, to=room, include_self=False)

        @socketio.on("connect", namespace="/other")
        def other(auth: Any = None) -> None:
            log.append(("connect", "/other"))

        @socketio.on("give back", namespace="/other")
        def other_give_back(*args: Any) -> Any:
            return "other", *args

    def stop(self) -> None:
        self._serving.close()


class Peer:
    """A client in a process that waits for nothing: one of python-socketio's, used in the same way.

    :ivar got: the events that have come, in order, by their namespace.
    :ivar ended: why it was disconnected, each time.
    """

    def __init__(self, kind: str, transport: str, port: int, **options: Any) -> None:
        self._loop = asyncio.new_event_loop() if kind == "asyncio" else None
        self._transports, self._url = TRANSPORTS[transport], f"http://127.0.0.1:{port}"
        if self._loop is None:
            self.real = OrderedClient(websocket_extra_options={"class_": Brisk}, **options)
        else:
            self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
            self._thread.start()
            self.real = socketio_package.AsyncClient(**options)
        self.got: list[tuple[Any, ...]] = []
        self.ended: list[str] = []
        self.answers: dict[str, Any] = {}
        for namespace in ("/", "/other"):
            self._listen(namespace)

    def _listen(self, namespace: str) -> None:
        def came(event: str, *args: Any) -> Any:
            self.got.append((event, *args))
            return self.answers.get(event)

        self.real.on("*", came, namespace=namespace)
        self.real.on("disconnect", self.ended.append, namespace=namespace)
        self.real.on("connect_error", lambda *args: self.got.append(("connect_error", *args)), namespace=namespace)

    def _do(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if self._loop is None:
            return method(*args, **options)

        async def run() -> Any:
            return await method(*args, **options)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(2 * WAIT_S)

    def connect(self, query: str = "", namespaces: tuple[str, ...] = ("/",), **options: Any) -> Peer:
        self._do(self.real.connect, self._url + query, transports=self._transports, wait_timeout=WAIT_S,
                 namespaces=list(namespaces), **options)
        return self

    def call(self, event: str, *args: Any, namespace: str = "/") -> Any:
        return self._do(self.real.call, event, args, namespace=namespace, timeout=WAIT_S)

    def emit(self, event: str, *args: Any) -> None:
        self._do(self.real.emit, event, args)

    def send(self, data: Any) -> None:
        self._do(self.real.send, data)

    def named(self, event: str) -> list[Any]:
        """Return the arguments of all events of a name."""
        return [args[0] if len(args) == 1 else tuple(args) for name, *args in list(self.got) if name == event]

    def wait_for(self, event: str, count: int = 1) -> list[Any]:
        """Wait until so many events of a name have come; return their arguments."""
        wait_until(lambda: len(self.named(event)) >= count, seconds=2 * WAIT_S, what=f"{count} times {event!r}")
        return self.named(event)

    def wait_for_end(self) -> str:
        wait_until(lambda: self.ended, what="the client is disconnected")
        return self.ended[-1]

    def _settle(self) -> None:
        """Wait a moment for what is being sent: the library may forget it, and wait for its poll, when it leaves."""
        queue, pause = self.real.eio.queue, threading.Event()
        for _ in range(50):
            left = queue.unfinished_tasks if self._loop is None else queue._unfinished_tasks
            if left == 0 or self.real.eio.state != "connected":
                return
            pause.wait(0.01)

    def leave(self) -> None:
        self._settle()
        self._do(self.real.disconnect)

    def close(self) -> None:
        self._settle()
        self._do(self.real.shutdown)
        http = self.real.eio.http
        if http is not None:  # which it leaves open when the server has ended it
            self._do(http.close)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(WAIT_S)
            self._loop.close()


@pytest.fixture(scope="module", params=["ours", pytest.param("werkzeug", marks=pytest.mark.long)])
def shared(request: pytest.FixtureRequest) -> Iterator[Site]:
    site = Site(request.param)
    yield site
    site.stop()


@pytest.fixture
def site(shared: Site) -> Site:
    """A host that has no clients, and whose log is empty."""
    wait_until(lambda: not shared.clients, 30, "the clients of the test before are gone")
    shared.log.clear()
    return shared


@pytest.fixture(params=["threads", "asyncio"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "asyncio" and importlib.util.find_spec("aiohttp") is None:
        pytest.skip("aiohttp is not installed")
    return str(request.param)


@pytest.fixture(params=list(TRANSPORTS))
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def opened() -> Iterator[list[Peer]]:
    """Clients that are closed after the test."""
    peers: list[Peer] = []
    yield peers
    for peer in peers:
        peer.close()
        del peer.real
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def peer(site: Site, kind: str, transport: str, opened: list[Peer]) -> Peer:
    """A client that is not connected yet."""
    opened.append(Peer(kind, transport, site.port, reconnection=False))
    return opened[-1]


@pytest.fixture
def bystander(site: Site, kind: str, transport: str, opened: list[Peer]) -> Peer:
    """Another one, which is."""
    opened.append(Peer(kind, transport, site.port, reconnection=False).connect())
    return opened[-1]


# -- connecting --------------------------------------------------------------------------------------------------


def test_a_client_connects(site: Site, peer: Peer, transport: str) -> None:
    """The handler sees ``auth``, query and headers; what it emits comes; the transport is what was asked for."""
    peer.connect("?from=query", auth={"name": "ann"}, headers={"X-From": "header"})
    assert site.log == [("connect", {"name": "ann"}, "query", "header")]
    assert peer.wait_for("welcome") == [{"name": "ann"}]
    assert peer.real.transport() == site.socketio.server.transport(peer.real.get_sid()) == (
        "polling" if transport == "polling" else "websocket")


def test_a_client_is_refused(site: Site, peer: Peer, bystander: Peer) -> None:
    """It learns why, with the host's data; others go on, and it may try again."""
    with pytest.raises(socketio_package.exceptions.ConnectionError):
        peer.connect(auth={"refuse": "data"})
    assert peer.wait_for("connect_error") == [{"message": "not today", "data": {"until": "tomorrow"}}]
    assert bystander.call("give back", 1) == 1
    assert peer.connect().call("give back", 2) == 2


def test_namespaces(site: Site, peer: Peer) -> None:
    """Each has handlers and a client of its own on one connection; one that is not served is refused."""
    peer.connect(namespaces=("/", "/other"))
    assert peer.real.get_sid("/") != peer.real.get_sid("/other")
    assert peer.call("give back", "x") == "x"
    assert peer.call("give back", "x", namespace="/other") == ("other", "x")
    site.socketio.emit("here", 1, namespace="/other")
    assert peer.wait_for("here") == [1]


def test_a_namespace_that_is_not_served(peer: Peer) -> None:
    """The client is told so."""
    with pytest.raises(socketio_package.exceptions.ConnectionError):
        peer.connect(namespaces=("/nowhere",))


# -- events and acknowledgements ---------------------------------------------------------------------------------


def test_acknowledgements_of_the_host(peer: Peer) -> None:
    """Nothing, one value, several values, a list, and bytes inside them."""
    peer.connect()
    assert peer.call("give back") is None
    for value in (0, "", "text", False, 1.5, {"a": [None]}, [1, 2], b"\x00\xff", {"deep": [{"b": b"x"}]}):
        assert peer.call("give back", value) == value
    assert peer.call("give back", 1, b"2", [3]) == (1, b"2", [3])


def test_acknowledgements_of_the_client(site: Site, peer: Peer) -> None:
    """Nothing, one value and several values reach the callback, and what ``call`` returns."""
    peer.answers = {"one": "1", "several": (1, b"\x02", {"three": 3}), "bytes": b"\xff"}
    peer.connect()
    sid = peer.real.get_sid()
    for event, expected in (("none", ()), ("one", ("1",)), ("several", (1, b"\x02", {"three": 3})),
                            ("bytes", (b"\xff",))):
        answers: list[Any] = []
        site.socketio.emit(event, {"for": event}, to=sid, callback=lambda *args, into=answers: into.append(args))
        wait_until(lambda into=answers: into, what=f"{event} is acknowledged")
        assert answers == [expected]
    with site.app.app_context():
        assert site.socketio.call("several", to=sid, timeout=WAIT_S) == (1, b"\x02", {"three": 3})


def test_values_come_as_they_were(site: Site, peer: Peer) -> None:
    """Text of any script, numbers, nested bytes, no argument and several: up, down, and in a message."""
    peer.connect()
    for args in ((), ("てすと \x1e 🙂",), (1, 2.5, None, True), (b"",), ({"a": [b"\x01", {"b": b"\x02"}]}, b"\x03"),
                 ({"_placeholder": False, "num": 7},)):
        before = len(peer.named("echo"))
        peer.emit("echo", *args)
        wait_until(lambda before=before: len(peer.named("echo")) > before, what="the echo comes")
        assert [got[1:] for got in peer.got if got[0] == "echo"][-1] == args
    peer.send({"a": "message"})
    assert peer.wait_for("message") == [{"a": "message"}]


def test_rooms(site: Site, peer: Peer, bystander: Peer) -> None:
    """An event goes to those in the room, and not to the one that has it sent."""
    peer.connect()
    for one in (peer, bystander):
        assert one.call("join", "red") == ["red"]
    peer.emit("tell others", "red", "first")
    assert bystander.wait_for("told") == ["first"]
    assert bystander.call("leave", "red") == []
    peer.emit("tell others", "red", "second")
    site.socketio.emit("told", "third", to="red")
    site.socketio.emit("told", "fourth")
    assert bystander.wait_for("told", 2) == ["first", "fourth"]
    assert peer.wait_for("told", 2) == ["third", "fourth"]


def test_what_a_client_sends_at_once_is_carried_out_in_order(site: Site, peer: Peer) -> None:
    """However many packets one request has."""
    peer.connect()
    site.log.clear()
    for number in range(300):
        peer.emit("note", number)
    wait_until(lambda: len(site.log) >= 300, what="all are carried out")
    assert site.log == [(number,) for number in range(300)]


def test_what_the_host_sends_at_once_comes_in_order(site: Site, peer: Peer) -> None:
    """Also with attachments. A client hangs up at a poll's answer of more than 16 packets."""
    peer.connect()
    for number in range(40):
        site.socketio.emit("count", (number, bytes([number])) if number % 3 == 0 else number)
    expected = [(number, bytes([number])) if number % 3 == 0 else number for number in range(40)]
    assert peer.wait_for("count", 40) == expected
    assert peer.call("give back", "still here") == "still here"


def test_large_messages(site: Site, peer: Peer) -> None:
    """Text and bytes both ways; the limit is for what clients send."""
    peer.connect()
    text, data = "é" * 100_000, bytes(range(256)) * 2000
    assert peer.call("give back", text) == text
    assert peer.call("give back", data) == data
    site.socketio.emit("large", {"text": "x" * LIMIT})
    assert [len(args["text"]) for args in peer.wait_for("large")] == [LIMIT]


def test_a_message_that_is_too_large(site: Site, peer: Peer, bystander: Peer) -> None:
    """Its client is disconnected, and is told; others go on."""
    peer.connect()
    site.log.clear()
    peer.emit("note", "x" * LIMIT)
    peer.wait_for_end()
    wait_until(lambda: site.log, what="the disconnect handler runs")
    assert site.log == [("disconnect", "transport error")]
    assert bystander.call("give back", 1) == 1


# -- the end -----------------------------------------------------------------------------------------------------


def test_a_client_leaves(site: Site, peer: Peer) -> None:
    """The host is told so; a WebSocket may be closed before the packet that says so has left."""
    peer.connect()
    site.log.clear()
    peer.leave()
    assert peer.wait_for_end() == "client disconnect"
    wait_until(lambda: site.log, what="the disconnect handler runs")
    assert site.log in ([("disconnect", "client disconnect")], [("disconnect", "transport close")])


def test_the_host_dismisses_a_client(site: Site, peer: Peer, bystander: Peer) -> None:
    """It gets what was emitted before, and is told; others go on."""
    peer.connect()
    site.log.clear()
    sid = peer.real.get_sid()
    site.socketio.emit("last", 1, to=sid)
    site.socketio.server.disconnect(sid)
    assert peer.wait_for_end() == "server disconnect"
    assert peer.named("last") == [1]
    wait_until(lambda: site.log, what="the disconnect handler runs")
    assert site.log == [("disconnect", "server disconnect")]
    assert bystander.call("give back", 1) == 1


def test_a_client_connects_again_when_the_server_is_back(kind: str, transport: str, opened: list[Peer]) -> None:
    """As a new client; events come and go again."""
    first = Site("ours")
    peer = Peer(kind, transport, first.port, reconnection_delay=0.1, reconnection_delay_max=0.2)
    opened.append(peer)
    try:
        peer.connect(auth={"name": "ann"})
        sid = peer.real.get_sid()
        assert peer.call("give back", 1) == 1
    finally:
        first.stop()
    second = Site("ours", first.port)
    try:
        wait_until(lambda: second.log, seconds=2 * WAIT_S, what="the client connects again")
        wait_until(lambda: peer.real.connected and peer.real.get_sid() not in (None, sid), what="it knows so")
        assert second.log[0][:2] == ("connect", {"name": "ann"})
        assert peer.call("give back", 2) == 2
        second.socketio.emit("news", 3)
        assert peer.wait_for("news") == [3]
        peer.close()
        opened.clear()
    finally:
        second.stop()


# -- changing over -----------------------------------------------------------------------------------------------


def test_nothing_is_lost_while_a_client_changes_over(site: Site, kind: str, opened: list[Peer]) -> None:
    """Events of the host that come all the time reach it once and in order, and so do its own."""
    stopped, sent = threading.Event(), []

    def emit_all_the_time() -> None:
        while not stopped.wait(0.001):
            sent.append(len(sent))
            site.socketio.emit("count", sent[-1])

    source = threading.Thread(target=emit_all_the_time)
    source.start()
    try:
        for _ in range(5):
            peer = Peer(kind, "upgrade", site.port, reconnection=False).connect()
            opened.append(peer)
            assert peer.real.transport() == "websocket"
            assert [peer.call("give back", number) for number in range(5)] == list(range(5))
    finally:
        stopped.set()
        source.join()
    for peer in opened:
        wait_until(lambda peer=peer: sent[-1] in peer.named("count"), what="all events come")
        counted = peer.named("count")
        assert counted == list(range(counted[0], sent[-1] + 1))
