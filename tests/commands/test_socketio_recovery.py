"""Clients of Socket.IO that come back, packet by packet: what they must show, what they get, and what handlers see."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from flask import Flask, request
from support.servers import wait_until

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.broker.engineio.packets import Framing, Packet, PacketType
from hakgal_hybrid.broker.engineio.session import EngineSession
from hakgal_hybrid.broker.engineio.upper import EngineOptions
from hakgal_hybrid.commands.socketio_admission import Admission
from hakgal_hybrid.commands.socketio_calls import Sharing
from hakgal_hybrid.commands.socketio_session import SocketIOSession
from hakgal_hybrid.socketio import SocketIO, join_room

BROWSER = {"HTTP_USER_AGENT": "Mozilla/5.0", "HTTP_ORIGIN": "http://localhost"}


class Host:
    """A host, and clients of it that have no connection: the tests carry their packets.

    :ivar log: what its handlers were called with.
    """

    def __init__(self, **settings: Any) -> None:
        self.app = Flask("host")
        self.app.config.update({"HYBRID_ENABLE_WS_SPECIAL": True, "HYBRID_SOCKETIO_RECOVERY": "on",
                                **{f"HYBRID_{name.upper()}": value for name, value in settings.items()}})
        self.socketio = SocketIO(self.app)
        self.node = self.socketio.transport.node
        self.log: list[Any] = []
        self.answers: list[Any] = []

        for namespace in ("/", "/other"):
            @self.socketio.on("connect", namespace=namespace)
            def connected(auth: Any) -> None:
                self.log.append(("connect", auth))
                join_room("red")

            @self.socketio.on("disconnect", namespace=namespace)
            def disconnected(reason: str) -> None:
                self.log.append(("disconnect", reason))

            @self.socketio.on("who", namespace=namespace)
            def who() -> str:
                return str(request.sid)

    def emit(self, *args: Any, **options: Any) -> None:
        self.socketio.emit("news", args, **options)

    def ask(self, *args: Any, **options: Any) -> None:
        self.socketio.emit("ask", args, callback=lambda *answer: self.answers.append(answer), **options)

    def connect(self, namespace: str = "/", auth: Any = None, query: str = "", **environ: Any) -> Page:
        page = Page(self, query, **environ)
        page.connect(namespace, auth)
        return page

    @property
    def recoveries(self) -> dict[str, int]:
        found = self.node.engine_counters.snapshot().recoveries
        return {outcome: count for outcome, count in found.items() if count}


class Page:
    """One session, as its client has it.

    :ivar engine: the session. :ivar packets: what has come, but for what answered a CONNECT.
    :ivar sid: its client. :ivar pid: by which that proves itself.
    """

    def __init__(self, host: Host, query: str = "", **environ: Any) -> None:
        opening = {"REQUEST_METHOD": "GET", "PATH_INFO": "/socket.io/", "QUERY_STRING": query, "SERVER_NAME": "here",
                   "SERVER_PORT": "80", "wsgi.url_scheme": "http", "REMOTE_ADDR": "127.0.0.1", **environ}
        self._calls: list[Any] = []
        sharing = Sharing(host.node, self._submit, later=lambda seconds, call: None)
        upper = SocketIOSession(sharing, opening, Admission())
        self.engine = EngineSession(upper, EngineOptions())
        self.packets: list[str] = []
        self.sid = self.pid = ""

    def _submit(self, call: Any) -> bool:
        self._calls.append(call)
        return True

    def run(self) -> None:
        """Have what it has sent carried out."""
        while self._calls:
            self._calls.pop()()

    def send(self, text: str) -> None:
        self.engine.receive(Packet(PacketType.MESSAGE, text))
        self.run()

    def connect(self, namespace: str = "/", auth: Any = None) -> None:
        space = "" if namespace == "/" else f"{namespace},"
        self.send(f"0{space}{'' if auth is None else json.dumps(auth)}")
        answer = self.fetch()
        start = answer.index(next(packet for packet in answer if packet.startswith(f"40{space}")))
        said = json.loads(answer.pop(start)[2 + len(space):])
        self.sid, self.pid = said["sid"], said.get("pid", "")
        self.packets = answer

    def fetch(self) -> list[str]:
        """Return the packets that there are."""
        packets: list[str] = []
        while blocks := self.engine.blocks(Framing.POLLING):
            packets += blocks.decode().split("\x1e")[:-1]
        self.run()
        return packets

    def events(self) -> list[Any]:
        """Return the arguments of the events that have come since the last time, without their offsets."""
        found, self.packets = self.packets + self.fetch(), []
        events = [json.loads(found[1]) for packet in found if (found := re.fullmatch(r"42(?:/\w+,)?\d*(\[.*)", packet))]
        self.offset = next((event[-1] for event in reversed(events) if event[0] == "news"), None)
        return [event[1:-1] if event[0] == "news" else event[1:] for event in events]

    def claim(self, **auth: Any) -> dict[str, Any]:
        """Return what it sends when it comes back."""
        return {"pid": self.pid, **({} if self.offset is None else {"offset": self.offset}), **auth}

    def lose(self, reason: str = "transport close") -> None:
        """Lose the connection."""
        self.engine.fail(reason)
        self.run()


@pytest.fixture
def host() -> Host:
    return Host()


def test_what_a_client_has_missed(host: Host) -> None:
    """It is who it was, and gets what was for it, in order, then what is new; its handlers do not run again."""
    page = host.connect(auth={"who": "ann"})
    host.emit(1)
    assert page.events() == [[1]]
    host.emit("never read")
    page.fetch()
    page.lose()
    host.emit(2)
    host.emit("elsewhere", namespace="/other")
    host.emit(3, to="red")
    host.emit(4, to=page.sid)
    host.emit("another room", to="blue")
    back = host.connect(auth=page.claim(who="ann"))
    host.emit(5, to="red")
    assert (back.sid, back.pid) == (page.sid, page.pid)
    assert back.events() == [["never read"], [2], [3], [4], [5]]
    assert host.log == [("connect", {"who": "ann"})]
    assert host.recoveries == {"recovered": 1}
    back.send('27["who"]')
    assert back.fetch() == [f'437["{page.sid}"]']


def test_the_answer_comes_before_what_was_missed(host: Host) -> None:
    """And a poll has at most sixteen packets, a replay's too."""
    page = host.connect()
    page.events()
    page.lose()
    for number in range(40):
        host.emit(number, bytes([number]))
    back = Page(host)
    back.send("0" + json.dumps(page.claim()))
    answers = []
    while blocks := back.engine.blocks(Framing.POLLING):
        answers.append(blocks.decode().split("\x1e")[:-1])
    assert answers[0][0].startswith('40{"sid":')
    assert max(map(len, answers)) == 16
    assert sum(map(len, answers)) == 81


def test_each_namespace_has_its_own_past(host: Host) -> None:
    """One that comes back later than the other misses nothing either, and no event comes twice."""
    page = host.connect()
    page.events()
    other = host.connect("/other")
    other.events()
    host.emit(1)
    host.emit("a", namespace="/other")
    page.lose()
    other.lose()
    both = host.connect(auth=page.claim())
    host.emit(2)
    host.emit("b", namespace="/other")
    assert both.events() == [[1], [2]]
    both.connect("/other", other.claim())
    host.emit(3)
    assert both.events() == [["a"], ["b"], [3]]


def test_a_session_that_still_seems_alive_gives_way(host: Host) -> None:
    """A client whose network has changed comes back before anybody knows that it was gone; nothing of it is ended."""
    page = host.connect()
    host.emit(1)
    page.events()
    host.emit(2)
    back = host.connect(auth=page.claim())
    assert back.events() == [[2]]
    assert page.engine.over
    page.send('21["who"]')
    assert page.fetch() == [], "nothing more is carried out for the old session"
    host.emit(3)
    assert back.events() == [[3]]
    assert host.log == [("connect", None)]
    assert host.node.hub.sessions.open == 1
    assert host.node.engine_counters.snapshot().ended == {"transport close": 1}


@pytest.mark.parametrize(("change", "counted"), [
    ({"pid": "x" * 20 + "." + "y" * 43}, {"failed": 1}),
    ({"offset": "nonsense"}, {"failed": 1}),
    ({"offset": 7}, {"failed": 1}),
    ({"offset": "1-1"}, {"failed": 1}),
    ({"pid": "of another kind"}, {}),
    ({"pid": None}, {}),
])
def test_who_cannot_prove_it_is_somebody_new(host: Host, change: dict[str, Any], counted: dict[str, int]) -> None:
    """It gets another ``sid`` and ``pid``, and nothing from before."""
    page = host.connect()
    host.emit(1)
    page.events()
    page.lose()
    host.emit(2)
    back = host.connect(auth={**page.claim(), **change})
    host.emit(3)
    assert back.sid != page.sid
    assert back.pid != page.pid
    assert back.events() == [[3]]
    assert host.recoveries == counted
    assert len([entry for entry in host.log if entry[0] == "connect"]) == 2


def test_a_client_of_another_namespace(host: Host) -> None:
    """It cannot be taken over by a connection to this one."""
    page = host.connect("/other")
    page.events()
    page.lose()
    assert host.connect(auth=page.claim()).sid != page.sid


def test_what_the_log_has_dropped_is_not_left_out_silently() -> None:
    """Then the client is somebody new, and its handlers run: the old one's at once."""
    host = Host(log_events=5)
    page = host.connect(auth={"n": 1})
    host.emit(0)
    page.events()
    page.lose()
    for number in range(9):
        host.emit(number)
    back = host.connect(auth=page.claim(n=2))
    assert back.sid != page.sid
    assert back.events() == []
    assert host.log == [("connect", {"n": 1}), ("disconnect", "transport close"), ("connect", {"n": 2})]


def test_a_session_whose_client_cannot_come_back_is_closed() -> None:
    """Also if nobody has noticed that its connection is gone."""
    host = Host(log_events=5)
    page = host.connect()
    host.emit(0)
    page.events()
    for number in range(9):
        host.emit(number)
    back = host.connect(auth=page.claim())
    assert back.sid != page.sid
    assert page.engine.over
    page.run()
    assert host.node.hub.sessions.open == 1
    assert host.log == [("connect", None), ("disconnect", "transport close"), ("connect", None)]


def test_what_the_log_has_dropped_for_others_is_not_missed() -> None:
    """Only events for the client count."""
    host = Host(log_events=5)
    page = host.connect()
    host.emit(0)
    page.events()
    page.lose()
    for number in range(9):
        host.emit(number, to="blue")
    host.emit(9)
    back = host.connect(auth=page.claim())
    assert back.sid == page.sid
    assert back.events() == [[9]]


def test_what_is_dropped_during_the_replay_ends_the_session() -> None:
    """There is no packet that says what is missing, so the client has to connect anew."""
    host = Host(log_events=30)
    page = host.connect()
    page.events()
    page.lose()
    for number in range(20):
        host.emit(number)
    back = Page(host)
    back.send("0" + json.dumps(page.claim()))
    assert back.engine.blocks(Framing.POLLING)
    for number in range(40):
        host.emit(number)
    assert back.fetch() == []
    assert back.engine.over
    assert host.log == [("connect", None), ("disconnect", "transport close")]


def test_who_leaves_does_not_come_back(host: Host) -> None:
    """Its own goodbye ends a client at once, and so does the host's."""
    page = host.connect()
    page.events()
    page.send("1")
    assert host.log == [("connect", None), ("disconnect", "client disconnect")]
    assert host.connect(auth=page.claim()).sid != page.sid


@pytest.mark.parametrize("reason", ["transport close", "ping timeout", "transport error"])
def test_nobody_comes_back(reason: str) -> None:
    """The handler runs when the time is over, and is told why the connection ended."""
    host = Host(resume_s=0.2)
    page = host.connect()
    page.lose(reason)
    assert host.log == [("connect", None)]
    wait_until(lambda: host.log[1:] == [("disconnect", reason)], what="the handler runs")
    assert host.node.hub.clients() == []


def test_an_answer_is_not_asked_for_again(host: Host) -> None:
    """What asks for an answer has no offset. It comes again until it was answered."""
    page = host.connect()
    host.ask("one")
    host.ask("two", to=page.sid)
    host.ask("three")
    asked = page.fetch()
    assert [json.loads(packet[packet.index("["):]) for packet in asked] == [
        ["ask", "one"], ["ask", "two"], ["ask", "three"]]
    for packet in asked[:2]:
        page.send("3" + packet[2:packet.index("[")] + '["yes"]')
    page.offset = None
    page.lose()
    back = host.connect(auth=page.claim())
    assert back.packets == asked[2:]
    back.send("3" + asked[2][2:asked[2].index("[")] + '["at last"]')
    assert host.answers == [("yes",), ("yes",), ("at last",)]


@pytest.mark.parametrize(("setting", "query", "headers", "offered"), [
    ("off", "", BROWSER, False),
    ("off", "recovery=1", {}, True),
    ("on", "", {}, True),
    ("on", "recovery=0", BROWSER, False),
    ("on", "recovery=perhaps", {}, True),
    ("auto", "", {}, False),
    ("auto", "", {"HTTP_USER_AGENT": "python-requests/2"}, False),
    ("auto", "", {"HTTP_USER_AGENT": "node-XMLHttpRequest"}, True),
    ("auto", "", {"HTTP_USER_AGENT": "Mozilla/5.0"}, True),
    ("auto", "", {"HTTP_ORIGIN": "http://localhost"}, False),  # a WebSocket of python-socketio
    ("auto", "", {"HTTP_SEC_FETCH_SITE": "same-origin"}, True),
    ("auto", "recovery=0", BROWSER, False),
])
def test_who_may_come_back(setting: str, query: str, headers: dict[str, str], offered: bool) -> None:
    """Nobody else is sent an argument more."""
    host = Host(socketio_recovery=setting)
    page = host.connect(query=query, **headers)
    host.emit(1)
    assert bool(page.pid) is offered
    (packet,) = page.fetch()
    assert packet == (f'42["news",1,"{host.node.log.id_of(host.node.log.newest)}"]' if offered else '42["news",1]')
    page.lose()
    assert (("disconnect", "transport close") in host.log) is not offered


def test_nobody_comes_back_where_there_is_no_time_for_it() -> None:
    """``HYBRID_RESUME_S=0`` ends clients with their connection."""
    host = Host(resume_s=0)
    page = host.connect()
    assert not page.pid
    page.lose()
    assert host.log == [("connect", None), ("disconnect", "transport close")]


def test_an_application_is_asked_again() -> None:
    """A client that is not allowed to connect any more does not come back."""
    host = Host()
    page = host.connect()
    page.events()
    page.lose()
    transport: HybridTransport = host.socketio.transport
    transport.authorize(lambda asked: asked.action != "connect")
    back = Page(host)
    back.send("0" + json.dumps(page.claim()))
    (refused,) = back.fetch()
    assert refused.startswith("44{")
    assert len(host.node.hub.clients()) == 1


def test_a_pid_of_earlier_days_is_no_business_of_the_host(host: Host) -> None:
    """Its handler sees what the application has sent, where clients cannot come back, too."""
    page = host.connect(auth={"who": "ann"})
    page.events()
    page.send("1")
    host.connect(auth=page.claim(who="ann"), query="recovery=0")
    host.connect(auth={"pid": "the host's own"})
    assert [entry[1] for entry in host.log if entry[0] == "connect"] == [
        {"who": "ann"}, {"who": "ann"}, {"pid": "the host's own"}]
