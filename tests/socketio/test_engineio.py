"""Engine.IO and Socket.IO over real servers: what requests are answered, and python-socketio's own client."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from flask import Flask, request
from support.hosts import serving_by
from support.servers import wait_until
from support.socketio_clients import Brisk, OrderedClient, check_packets_do_not_wait_for_the_change, websocket

from hakgal_hybrid.broker.engineio.packets import MAX_PACKETS
from hakgal_hybrid.socketio import SocketIO, disconnect, emit

requests = pytest.importorskip("requests", reason="python-socketio's client needs it for polling")
socketio_package = pytest.importorskip("socketio", reason="python-socketio's client is not installed")

PATH = "/socket.io/?EIO=4&transport="


class Site:
    """A host that serves unmodified clients, on one of the servers.

    :ivar log: what its handlers were called with.
    :ivar known: the ids of the clients of this test: those of earlier ones may still end, which is not logged.
    """

    def __init__(self, server: str, **options: Any) -> None:
        self.app = Flask("site")
        self.app.config.update(SECRET_KEY="for tests", HYBRID_ENABLE_WS_SPECIAL=True)
        self.socketio = SocketIO(self.app, **options)
        self.log: list[Any] = []
        self.known: set[str] = set()
        self.acks: list[Any] = []
        self.opened: list[Any] = []
        self.gate = threading.Event()
        self._add_handlers()
        self._server, self._serving, self.port = server, ExitStack(), 0
        self.start()

    def start(self) -> None:
        """Serve; our own server may be started again after a stop."""
        self.port = self._serving.enter_context(serving_by(self._server, self.socketio, self.app, self.port))

    def _add_handlers(self) -> None:
        socketio, log = self.socketio, self.log

        @socketio.on("connect")
        def connected(auth: Any) -> Any:
            log.append(("connect", auth))
            self.known.add(request.sid)
            emit("welcome", {"to": request.sid})
            return False if auth == {"refuse": True} else None

        @socketio.on("disconnect")
        def disconnected(reason: str) -> None:
            if request.sid in self.known:
                log.append(("disconnect", reason))

        @socketio.on("echo")
        def echo(*args: Any) -> Any:
            emit("echoed", args)
            return args

        @socketio.on("wait")
        def wait() -> str:
            self.gate.wait(30)
            return "waited"

        @socketio.on("leave")
        def leave() -> None:
            disconnect()

        @socketio.on("connect", namespace="/other")
        def other(auth: Any) -> None:
            log.append(("connect", "/other"))

        @socketio.on("echo", namespace="/other")
        def other_echo(*args: Any) -> Any:
            return "other", *args

    def stop(self) -> None:
        self._serving.close()

    def polls(self) -> int:
        """Return how many polls wait."""
        return self.socketio.transport.statistics().socketio.polls

    # -- as a client ---------------------------------------------------------------------------------------------

    def ask(self, method: str = "GET", query: str = "", body: bytes | str | None = None,
            headers: dict[str, str] | None = None, path: str = PATH + "polling") -> tuple[int, str]:
        """Make a request; return status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path + query, body, headers or {})
            answer = connection.getresponse()
            self.headers = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def open(self) -> str:
        """Open a session; return the query that names it."""
        status, body = self.ask()
        assert status == 200, body
        return f"&sid={json.loads(body[1:])['sid']}"

    def connect(self, auth: str = "") -> str:
        """Open a session with a client in it; return the query that names it."""
        sid = self.open()
        assert self.ask("POST", sid, "40" + auth) == (200, "ok")
        wait_until(lambda: self.log, what="the connect handler runs")
        return sid

    def fetch(self, sid: str, mark: str = '42["welcome"') -> str:
        """Poll until a packet has come; return all that have."""
        packets = ""
        while mark not in packets:
            packets += self.ask(query=sid)[1] + "\x1e"
        return packets

    def websocket(self, query: str = "") -> Any:
        ws = websocket.WebSocket()
        self.opened.append(ws)
        ws.settimeout(30)
        ws.connect(f"ws://127.0.0.1:{self.port}{PATH}websocket{query}")
        return ws

    def close_all(self) -> None:
        """Close what the test has opened."""
        for opened in self.opened:
            opened.shutdown()
        self.opened.clear()

    def client(self, *transports: str, **options: Any) -> Any:
        """Return python-socketio's client, connected."""
        client = OrderedClient(reconnection=False, websocket_extra_options={"class_": Brisk})
        client.got = []
        client.on("*", lambda event, *args: client.got.append((event, *args)))
        client.on("ask", lambda *args: ("answer", *args))
        client.connect(f"http://127.0.0.1:{self.port}", transports=transports or None, **options)
        return client


@pytest.fixture(scope="module", params=["werkzeug", "ours"])
def shared(request: pytest.FixtureRequest) -> Iterator[Site]:
    site = Site(request.param, namespaces=["/"])
    yield site
    site.stop()


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    """A host whose log is empty, and that nobody is connected to."""
    shared.known.clear()
    shared.log.clear()
    shared.acks.clear()
    shared.gate.clear()
    yield shared
    shared.gate.set()
    shared.close_all()


def refusal(code: int, message: str) -> tuple[int, str]:
    return 400, json.dumps({"code": code, "message": message})


# -- requests ----------------------------------------------------------------------------------------------------


def test_a_handshake(site: Site) -> None:
    """The first packet says what there is; a slash may be missing; nothing is kept by caches, and no cookie is set."""
    for path in ("/socket.io/", "/socket.io"):
        status, body = site.ask(path=f"{path}?EIO=4&transport=polling&t=x1")
        assert (status, body[0]) == (200, "0")
        assert json.loads(body[1:]) == {"sid": json.loads(body[1:])["sid"], "upgrades": ["websocket"],
                                        "pingInterval": 25000, "pingTimeout": 20000, "maxPayload": 1000000}
    assert site.headers["content-type"] == "text/plain; charset=UTF-8"
    assert "no-store" in site.headers["cache-control"]
    assert "set-cookie" not in site.headers


@pytest.mark.parametrize(("method", "query", "code", "message"), [
    ("GET", "/socket.io/?EIO=4", 0, "Transport unknown"),
    ("GET", "/socket.io/?EIO=4&transport=abc", 0, "Transport unknown"),
    ("GET", "/socket.io/?EIO=4&transport=polling&sid=abc", 1, "Session ID unknown"),
    ("POST", "/socket.io/?EIO=4&transport=polling", 2, "Bad handshake method"),
    ("PUT", "/socket.io/?EIO=4&transport=polling", 2, "Bad handshake method"),
    ("GET", "/socket.io/?EIO=4&transport=websocket", 3, "Bad request"),
    ("GET", "/socket.io/?EIO=3&transport=polling", 5, "Unsupported protocol version"),
    ("GET", "/socket.io/?transport=polling", 5, "Unsupported protocol version"),
])
def test_what_is_no_handshake_is_refused(site: Site, method: str, query: str, code: int, message: str) -> None:
    """The answer is an object with the protocol's code."""
    assert site.ask(method, path=query) == refusal(code, message)
    assert site.headers["content-type"] == "application/json"


def test_a_page_of_a_foreign_origin_is_refused(site: Site) -> None:
    """403 with code 4; a page of this machine may read the answer, errors too, and is let through by a preflight."""
    status, body = site.ask(headers={"Origin": "https://evil.example"})
    assert (status, json.loads(body)["code"]) == (403, 4)
    origin = "http://localhost:3000"
    assert site.ask(headers={"Origin": origin})[0] == 200
    assert site.headers["access-control-allow-origin"] == origin
    assert site.headers["access-control-allow-credentials"] == "true"
    assert site.ask(query="&sid=x", headers={"Origin": origin})[0] == 400
    assert site.headers["access-control-allow-origin"] == origin
    status, _ = site.ask("OPTIONS", "&sid=x", headers={"Origin": origin, "Access-Control-Request-Method": "POST",
                                                      "Access-Control-Request-Headers": "x-mine"})
    assert status == 204
    assert "x-mine" in site.headers["access-control-allow-headers"]
    assert "POST" in site.headers["access-control-allow-methods"]


def test_the_answer_to_connect_comes_first(site: Site) -> None:
    """What the handler emits comes behind it."""
    sid = site.connect()
    wait_until(lambda: site.log)
    assert site.fetch(sid).startswith('40{"sid":"')


def test_a_poll_has_at_most_sixteen_packets(site: Site) -> None:
    """The next one goes on where it has ended; attachments count."""
    sid = site.connect()
    packets = []
    for number in range(30):
        site.socketio.emit("many", (number, bytes([number])))
    while len([packet for packet in packets if packet.startswith("b")]) < 30:
        status, body = site.ask(query=sid)
        assert status == 200
        found = body.split("\x1e")
        assert len(found) <= MAX_PACKETS
        packets += found
    many = [packet for packet in packets if packet.startswith(("451-", "b"))]
    assert many == [packet for number in range(30) for packet in (
        f'451-["many",{number},{{"_placeholder":true,"num":0}}]', "b" + base64.b64encode(bytes([number])).decode())]


def test_a_post_may_have_many_packets(site: Site) -> None:
    """All are carried out, in order."""
    sid = site.connect()
    site.ask("POST", sid, "\x1e".join(f'42["echo",{number}]' for number in range(100)))
    packets: list[str] = []
    while len(packets) < 100:
        packets += [packet for packet in site.ask(query=sid)[1].split("\x1e") if "echoed" in packet]
    assert packets == [f'42["echoed",{number}]' for number in range(100)]


@pytest.mark.parametrize("body", ["4abc", "42{}", "42abc[]", "abc", "40", '42/nobody,["a"]', "450-[]", "bAQ=="])
def test_a_bad_packet_ends_the_session(site: Site, body: str) -> None:
    """The request is refused, the handler is told why, and the session is soon unknown."""
    sid = site.connect()
    assert site.ask("POST", sid, body) == refusal(3, "Bad request")
    wait_until(lambda: ("disconnect", "transport error") in site.log, what="the disconnect handler runs")
    assert site.ask(query=sid) == refusal(1, "Session ID unknown")
    assert site.ask("POST", sid, "3") == refusal(1, "Session ID unknown")


def test_bodies_of_other_kinds(site: Site) -> None:
    """Bytes are refused, which ends the session; so are a body that is too large, and methods that there are not."""
    sid = site.open()
    assert site.ask("POST", sid, b"4", {"Content-Type": "application/octet-stream"})[0] == 400
    sid = site.open()
    assert site.ask("POST", sid, b"4" + b"x" * 1_000_000)[0] == 413
    assert site.ask(query=sid) == refusal(1, "Session ID unknown")
    assert site.ask("PUT", site.open(), b"") == refusal(3, "Bad request")


def test_a_second_poll_ends_the_session(site: Site) -> None:
    """The first is answered with a close packet, and the second is refused."""
    sid = site.open()
    with ThreadPoolExecutor(2) as asking:  # whichever of the two is the first
        answers = [asked.result() for asked in [asking.submit(site.ask, query=sid) for _ in range(2)]]
    assert sorted(status for status, _ in answers) == [200, 400]
    assert (200, "1") in answers


def test_a_namespace_that_nobody_serves(site: Site) -> None:
    """The refusal is an object; the session goes on."""
    sid = site.open()
    assert site.ask("POST", sid, "40/nobody,") == (200, "ok")
    assert site.ask(query=sid) == (200, '44/nobody,{"message":"Invalid namespace"}')
    assert site.ask("POST", sid, "40/other") == (200, "ok")
    assert site.ask(query=sid)[1].startswith('40/other,{"sid":"')


def test_a_client_that_the_host_refuses(site: Site) -> None:
    """It is told so."""
    sid = site.connect('{"refuse":true}')
    assert site.ask(query=sid)[1] == '44{"message":"Connection rejected by server"}'


def test_a_request_that_is_no_poll_takes_no_packets(site: Site) -> None:
    """What waits comes with the next poll."""
    sid = site.connect()
    site.fetch(sid)
    site.socketio.emit("kept", 1)
    assert site.ask(query=sid, path=PATH + "websocket") == refusal(3, "Bad request")
    assert site.ask(query=sid) == (200, '42["kept",1]')


def test_what_comes_together_with_a_connect_waits_for_it(site: Site) -> None:
    """It is carried out after the handler, and answered after the answer to the connect."""
    sid = site.open()
    assert site.ask("POST", sid, '40{"a":1}\x1e421["echo",2]') == (200, "ok")
    packets = [packet[:6] for packet in site.fetch(sid, "431[2]").split("\x1e") if packet]
    assert packets == ['40{"si', '42["we', '42["ec', "431[2]"]
    assert site.log == [("connect", {"a": 1})]


def test_an_event_that_is_sent_again_is_carried_out_again(site: Site) -> None:
    """Nothing says that it is the same; each is acknowledged by its own id. Where there is no handler, none is."""
    sid = site.connect()
    site.fetch(sid)
    site.ask("POST", sid, '421["echo",1]\x1e422["echo",1]\x1e423["unheard of",1]\x1e424["echo",2]')
    packets = site.fetch(sid, "434[").split("\x1e")
    assert [packet for packet in packets if packet] == [
        '42["echoed",1]', "431[1]", '42["echoed",1]', "432[1]", '42["echoed",2]', "434[2]"]


def test_a_client_leaves_a_namespace(site: Site) -> None:
    """What it sends there afterwards is ignored, and so is leaving one where it never was; it may connect again."""
    ws = site.websocket()
    ws.recv()
    ws.send("40")
    assert [ws.recv()[:2] for _ in range(2)] == ["40", "42"]
    for packet in ("41/never", "41/other,", "41", '421["echo",1]', "40"):
        ws.send(packet)
    assert [ws.recv()[:6] for _ in range(2)] == ['40{"si', '42["we']
    assert [entry for entry in site.log if entry[0] == "disconnect"] == [("disconnect", "client disconnect")]


def test_events_with_attachments_are_not_mixed(site: Site) -> None:
    """Whoever emits at the same time: the attachments of an event follow it at once."""
    ws = site.websocket()
    ws.recv()
    ws.send("40")
    assert [ws.recv()[:2] for _ in range(2)] == ["40", "42"]
    emitters = [threading.Thread(target=lambda name=name: [
        site.socketio.emit("both", (name, bytes([name, number]), bytes([number, name]))) for number in range(100)])
        for name in range(3)]
    for emitter in emitters:
        emitter.start()
    numbers = [0, 0, 0]
    for _ in range(300):
        head = ws.recv()
        assert head.startswith('452-["both",')
        name = int(head[12])
        assert [ws.recv(), ws.recv()] == [bytes([name, numbers[name]]), bytes([numbers[name], name])]
        numbers[name] += 1
    for emitter in emitters:
        emitter.join()


@pytest.mark.parametrize("query", ["&b64=1", "&t=Abc123", "&sid=unknown"])
def test_answers_pass_proxies_unchanged(site: Site, query: str) -> None:
    """They are neither kept, nor changed, nor held back; errors are not either. An origin is named in ``Vary``."""
    site.ask(query=query, headers={"Origin": "http://LOCALHOST:3000"})
    assert {"no-store", "no-transform"} <= set(site.headers["cache-control"].split(", "))
    assert site.headers["x-accel-buffering"] == "no"
    assert "origin" in site.headers["vary"].lower()
    assert site.headers["access-control-allow-origin"].lower() == "http://localhost:3000"


def test_a_page_without_an_origin_is_refused(site: Site) -> None:
    """A file, or a frame in a sandbox. A preflight is remembered by the browser, which asks again for each ``t=``."""
    assert site.ask(headers={"Origin": "null"})[0] == 403
    preflight = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "GET"}
    assert site.ask("OPTIONS", headers=preflight)[0] == 204
    assert int(site.headers["access-control-max-age"]) > 0


# -- WebSockets --------------------------------------------------------------------------------------------------


def test_a_websocket_from_the_beginning(site: Site) -> None:
    """Its first frame opens the session; a frame has one packet, and bytes have a frame of their own."""
    ws = site.websocket()
    opened = json.loads(ws.recv()[1:])
    assert opened["upgrades"] == []
    ws.send("40")
    assert ws.recv().startswith('40{"sid":"')
    assert ws.recv().startswith('42["welcome",')
    ws.send('451-7["echo",{"_placeholder":true,"num":0}]')
    ws.send_binary(b"\x01\x02")
    assert [ws.recv() for _ in range(4)] == [
        '451-["echoed",{"_placeholder":true,"num":0}]', b"\x01\x02", '461-7[{"_placeholder":true,"num":0}]',
        b"\x01\x02"]
    assert site.ask(query=f"&sid={opened['sid']}") == refusal(3, "Bad request")
    ws.close()
    wait_until(lambda: ("disconnect", "transport close") in site.log, what="the disconnect handler runs")


def test_a_client_changes_over(site: Site) -> None:
    """Polls have its packets until it has; a second WebSocket is closed; then events come over the first one."""
    sid = site.connect()
    ws = site.websocket(sid)
    ws.send("2probe")
    assert ws.recv() == "3probe"
    assert site.fetch(sid).startswith('40{"sid":"')
    assert site.ask(query=sid) == (200, "6")
    assert site.websocket(sid).recv() == ""
    site.socketio.emit("kept", 1)
    ws.send("5")
    assert ws.recv() == '42["kept",1]'
    ws.send("6")
    assert site.ask(query=sid) == refusal(3, "Bad request")
    site.socketio.emit("later", 1)
    assert ws.recv() == '42["later",1]'
    ws.send("1")
    wait_until(lambda: ("disconnect", "client disconnect") in site.log, what="the disconnect handler runs")


def test_packets_do_not_wait_for_the_change(site: Site) -> None:
    """A poll that waits while its client changes over is answered as soon as there is something."""
    check_packets_do_not_wait_for_the_change(site.port, lambda: site.socketio.emit("later", 1))


def test_events_do_not_come_in_one_piece_with_the_answer_to_connect(site: Site) -> None:
    """A client that awaits one message, and only then listens for the next one, misses nothing."""
    ws = site.websocket()
    ws.recv()
    ws.send("40")
    answer = ws.sock.recv(65536)
    assert answer[2:].startswith(b'40{"sid":"')
    assert b"welcome" not in answer
    assert ws.recv().startswith('42["welcome",')


def test_a_poll_that_meets_the_change_is_refused(site: Site) -> None:
    """Also if the client has changed over without waiting for an answer; the session goes on."""
    sid = site.open()
    ws = site.websocket(sid)
    ws.send("2probe")
    ws.send("5")
    assert site.ask(query=sid) == refusal(3, "Bad request")
    assert ws.recv() == "3probe"
    ws.send("40")
    assert ws.recv().startswith("40")


@pytest.mark.parametrize("frame", ["4abc", "x", "2", "0{}"])
def test_a_bad_frame_ends_the_session(site: Site, frame: str) -> None:
    """The WebSocket is closed."""
    ws = site.websocket()
    ws.recv()
    ws.send(frame)
    assert ws.recv() == ""


def test_a_message_that_is_too_large_ends_the_session(site: Site) -> None:
    """The close frame says why, whether it came in one frame or in several."""
    before = site.app.extensions["hakgal_hybrid"].state.node.engine_counters.snapshot().oversized
    ws = site.websocket()
    ws.recv()
    ws.send("4" + "x" * 1_000_000)
    assert ws.recv_data() == (8, b"\x03\xf1")
    assert site.app.extensions["hakgal_hybrid"].state.node.engine_counters.snapshot().oversized > before


def test_a_websocket_for_no_session_is_refused(site: Site) -> None:
    """The handshake is answered like any request."""
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        site.websocket("&sid=unknown")
    assert caught.value.status_code == 400


# -- python-socketio's client ------------------------------------------------------------------------------------


@pytest.mark.parametrize("transports", [("polling",), ("websocket",), ("polling", "websocket")])
def test_pythons_client(site: Site, transports: tuple[str, ...]) -> None:
    """Events both ways with acknowledgements, bytes in both, two namespaces, and the end."""
    client = site.client(*transports, auth={"name": "ann"}, namespaces=["/", "/other"])
    assert ("connect", {"name": "ann"}) in site.log
    assert client.call("echo", ("a", 1, b"\x01", {"b": [b"\x02"]})) == ("a", 1, b"\x01", {"b": [b"\x02"]})
    assert client.call("echo", "x", namespace="/other") == ("other", "x")
    site.socketio.emit("ask", ({"q": 1}, b"\xff"), to=client.get_sid(),
                       callback=lambda *args: site.acks.append(args))
    wait_until(lambda: site.acks, what="the client acknowledges")
    assert site.acks == [("answer", {"q": 1}, b"\xff")]
    for number in range(50):
        site.socketio.emit("count", number)
    wait_until(lambda: ("count", 49) in client.got, what="all events come")
    assert [got[1] for got in client.got if got[0] == "count"] == list(range(50))
    assert client.transport() == transports[-1]
    assert site.socketio.server.transport(client.get_sid()) == transports[-1]
    client.disconnect()
    wait_until(lambda: any(entry[0] == "disconnect" for entry in site.log), what="the disconnect handler runs")


def test_the_host_ends_a_client(site: Site) -> None:
    """It is told so after all that was emitted before, and the connection ends as well."""
    client = site.client("polling")
    ended = threading.Event()
    client.on("disconnect", lambda *reason: ended.set())
    client.emit("echo", "last")
    client.emit("leave")
    assert ended.wait(30)
    wait_until(lambda: ("disconnect", "server disconnect") in site.log, what="the disconnect handler runs")
    assert ("echoed", "last") in client.got


def test_a_handler_that_takes_long_does_not_end_its_client() -> None:
    """Pings are answered meanwhile; a client that does not answer any more is ended."""
    site = Site("werkzeug", ping_interval=0.3, ping_timeout=3)
    try:
        client = site.client("polling")
        answers: list[Any] = []
        client.emit("wait", callback=lambda *args: answers.append(args))
        time.sleep(5)  # it would have been ended by now
        site.gate.set()
        wait_until(lambda: answers, what="the answer comes")
        assert answers == [("waited",)]
        sid = site.open()
        site.ask("POST", sid, "40")
        wait_until(lambda: ("disconnect", "ping timeout") in site.log, what="the client is ended")
        assert site.ask(query=sid) == refusal(1, "Session ID unknown")
        client.disconnect()
    finally:
        site.stop()


def test_where_it_is_served_is_the_hosts_choice() -> None:
    """The keyword ``path`` names it; without ENABLE_WS_SPECIAL it is the host's own URL."""
    site = Site("werkzeug", path="/live/")
    try:
        assert site.ask(path="/live/?EIO=4&transport=polling")[0] == 200
        assert site.ask(path="/socket.io/?EIO=4&transport=polling")[0] == 404
    finally:
        site.stop()


# -- our own server ----------------------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Our own server with few threads."""
    for name, value in (("THREADS", 4), ("RESERVED_THREADS", 2), ("MAX_UPGRADES", 1)):
        monkeypatch.setenv(f"HYBRID_{name}", str(value))
    site = Site("ours")
    yield site
    site.gate.set()
    site.close_all()
    site.stop()


def test_a_poll_takes_no_thread(few: Site) -> None:
    """Many wait at once; an event reaches all of them; the host is answered meanwhile."""
    few.app.add_url_rule("/host", view_func=lambda: "here")
    sids = [few.open() for _ in range(30)]
    for sid in sids:
        few.ask("POST", sid, "40")
        few.fetch(sid)
    sockets = []
    for sid in sids:
        sock = socket.create_connection(("127.0.0.1", few.port), timeout=30)
        sock.sendall(f"GET {PATH}polling{sid} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        sockets.append(sock)
    wait_until(lambda: few.polls() == 30, what="all polls to wait")
    assert few.ask(path="/host") == (200, "here")
    few.socketio.emit("news", 1)
    for sock in sockets:
        answer = b""
        while b"42" not in answer:
            answer += sock.recv(65536)
        assert answer.endswith(b'42["news",1]')
    # The connection serves the next request.
    sockets[0].sendall(f"GET {PATH}polling{sids[0]} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    few.socketio.emit("news", 2)
    answer = b""
    while b"42" not in answer:
        answer += sockets[0].recv(65536)
    assert answer.endswith(b'42["news",2]')
    for sock in sockets:
        sock.close()


def test_a_client_that_hangs_up_while_it_polls_is_ended_at_once(few: Site) -> None:
    """Nobody waits for its pong."""
    sid = few.connect()
    few.fetch(sid)
    with socket.create_connection(("127.0.0.1", few.port), timeout=30) as sock:
        sock.sendall(f"GET {PATH}polling{sid} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wait_until(lambda: few.polls() == 1, what="the poll to wait")
    wait_until(lambda: ("disconnect", "transport close") in few.log, what="the disconnect handler runs")


def test_a_websocket_takes_no_thread(few: Site) -> None:
    """There may be more than threads and HYBRID_MAX_UPGRADES; an event reaches all of them."""
    before = threading.active_count()
    sockets = [few.websocket() for _ in range(30)]
    for ws in sockets:
        ws.send("40")
        assert [ws.recv()[:2] for _ in range(3)] == ["0{", "40", "42"]
    # Threads of the pools start as they are needed, so how many there are depends on the machine.
    assert threading.active_count() - before < len(sockets)
    few.socketio.emit("news", 1)
    assert {ws.recv() for ws in sockets} == {'42["news",1]'}
    sockets[0].ping("x")
    assert sockets[0].recv_data(control_frame=True) == (10, b"x")


def test_a_client_that_does_not_read_keeps_nothing_but_its_place(few: Site) -> None:
    """Others get everything at once; when it reads again, it gets everything too."""
    lazy, eager = few.websocket(), few.websocket()
    for ws in (lazy, eager):
        ws.send("40")
        assert [ws.recv()[:2] for _ in range(3)] == ["0{", "40", "42"]
    for number in range(200):
        few.socketio.emit("big", (number, "x" * 50_000))
        assert eager.recv().startswith(f'42["big",{number},')
    assert [int(lazy.recv().split(",")[1]) for _ in range(200)] == list(range(200))


def test_handlers_that_take_long_hold_up_their_own_client_alone(few: Site) -> None:
    """What it sends meanwhile waits, in bounds: its request is answered when there is room."""
    sid, other = few.connect(), few.connect()
    few.ask("POST", sid, '42["wait"]')
    answers: list[Any] = []
    body = "\x1e".join(['42["echo",1]'] * 100)
    posting = threading.Thread(target=lambda: answers.append(few.ask("POST", sid, body)))
    posting.start()
    assert few.ask("POST", other, '421["echo",2]') == (200, "ok")
    few.fetch(other, "431[2]")
    assert answers == []
    few.gate.set()
    posting.join(30)
    assert answers == [(200, "ok")]


def test_stopping_closes_sessions(few: Site) -> None:
    """A poll is answered by no close packet; a WebSocket gets a close frame that says why; handlers are told."""
    sid, answers = few.connect(), []
    few.fetch(sid)
    ws = few.websocket()
    ws.send("40")
    assert [ws.recv()[:2] for _ in range(3)] == ["0{", "40", "42"]
    polling = threading.Thread(target=lambda: answers.append(few.ask(query=sid)))
    polling.start()
    wait_until(lambda: few.polls() == 1, what="the poll to wait")
    few.stop()
    polling.join(30)
    assert answers == [(200, "6")]
    assert ws.recv_data() == (8, b"\x03\xe9")
    wait_until(lambda: few.log.count(("disconnect", "transport close")) == 2, what="both handlers run")


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_pythons_client_comes_back_after_a_stop(few: Site, transport: str) -> None:
    """It connects to the next server at the same address, as a new client."""
    connected = threading.Semaphore(0)

    class Kept(Brisk):
        """A WebSocket that is closed in the end: the client forgets one that it has lost."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            few.opened.append(self)

    with requests.Session() as session:
        client = socketio_package.Client(reconnection_delay=0.1, reconnection_delay_max=0.2, http_session=session,
                                         websocket_extra_options={"class_": Kept})
        client.on("connect", connected.release)
        client.connect(f"http://127.0.0.1:{few.port}", transports=[transport])
        try:
            assert connected.acquire(timeout=30)
            few.stop()
            few.start()
            assert connected.acquire(timeout=20)
            assert client.call("echo", "again") == "again"
        finally:
            client.shutdown()


def test_a_client_that_fetches_no_answers_is_not_served_for_ever(few: Site) -> None:
    """Its events wait, and its request, until it fetches some; then all are answered in order."""
    sid = few.connect()
    few.fetch(sid)
    answers: list[Any] = []
    body = "\x1e".join(f'42{number}["echo","{"x" * 100}"]' for number in range(500))
    posting = threading.Thread(target=lambda: answers.append(few.ask("POST", sid, body)))
    posting.start()
    posting.join(0.5)
    assert answers == []
    packets = few.fetch(sid, "43499[").split("\x1e")
    posting.join(30)
    assert answers == [(200, "ok")]
    acks = [packet.partition("[")[0] for packet in packets if packet.startswith("43")]
    assert acks == [f"43{number}" for number in range(500)]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Our own server with a log of few events."""
    monkeypatch.setenv("HYBRID_LOG_EVENTS", "50")
    site = Site("ours")
    yield site
    site.close_all()
    site.stop()


def test_a_client_that_is_too_slow_for_the_log_is_closed(short: Site) -> None:
    """It never gets a part of what it has missed. Others go on; it is counted, and comes back as a new client."""
    sid = short.connect()
    short.fetch(sid)
    ws = short.websocket()
    ws.send("40")
    assert [ws.recv()[:2] for _ in range(3)] == ["0{", "40", "42"]
    for number in range(100):
        short.socketio.emit("count", number)
        assert ws.recv() == f'42["count",{number}]'
    assert short.ask(query=sid) == (200, "6")
    wait_until(lambda: ("disconnect", "transport close") in short.log, what="the disconnect handler runs")
    status = json.loads(short.ask(path="/api/hybrid/status")[1])
    assert status["transport"] == "sse+socketio"
    assert status["log"]["gaps"] == 1
    wait_until(lambda: json.loads(short.ask(path="/api/hybrid/status")[1])["traffic"]["ended"].get("gap") == 1,
               what="the end is counted")
    assert short.ask(query=sid) == refusal(1, "Session ID unknown")
    assert short.fetch(short.connect())


def test_where_the_host_serves_its_own_clients_we_do_not() -> None:
    """Where the host has kept its WebSocket, ``/socket.io/`` is the host's."""
    site = Site("werkzeug")
    try:
        state = site.app.extensions["hakgal_hybrid"].state
        assert site.ask()[0] == 200
        state.mode = "websocket"
        assert site.ask()[0] == 404
        assert site.socketio.transport.statistics().transport == "websocket"
    finally:
        site.stop()
