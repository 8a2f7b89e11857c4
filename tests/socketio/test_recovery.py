"""Clients of Socket.IO that come back: with socket.io-client as it is, and packet by packet."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.npm import install
from support.servers import Server, wait_until

HERE = Path(__file__).parent
#: The first test with a real client also waits for npm.
pytestmark = [pytest.mark.once, pytest.mark.timeout(300)]


class Host(Server):
    """The host of ``recovery/host.py``."""

    def __init__(self, server: str, port: int = 0, **settings: object) -> None:
        super().__init__(server, "--port", str(port), **{
            "ENABLE_WS_SPECIAL": "true", "HYBRID_SOCKETIO_RECOVERY": "on", **settings})

    @staticmethod
    def _command(kind: str, options: tuple[str, ...]) -> list[str]:
        return [sys.executable, str(HERE / "recovery" / "host.py"), kind, *options]

    def number(self, number: int, **options: Any) -> None:
        """Have it emit a number."""
        assert self.ask("POST", "/emit", {"number": number, **options}).status == 200

    def told(self) -> list[Any]:
        """Return what its handlers were called with."""
        return list(json.loads(self.ask("GET", "/log").body))

    def journal_is_done(self) -> bool:
        return bool(self.status()["journal"]["waiting"] == 0)

    def recoveries(self) -> dict[str, int]:
        return {outcome: count for outcome, count in self.status()["socketio"]["recoveries"].items() if count}


class Wire:
    """What lies between a client and the host, and can be cut.

    :ivar port: where it listens; it stays while hosts come and go.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._sockets: list[socket.socket] = []
        self._all: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._gone: list[socket.socket] = []
        self._down = self._ended = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def _accept(self) -> None:
        while not self._ended:
            near, _ = self._listening.accept()
            try:
                if self._down or self._ended:
                    raise OSError
                far = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._sockets += [near, far]  # in turns: a client's, the host's
                self._all += [near, far]
            threads = [threading.Thread(target=self._carry, args=ends) for ends in ((near, far), (far, near))]
            for thread in threads:
                thread.start()
            self._threads += threads

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        if source not in self._gone:
            _shut(source, sink)

    def vanish(self, seconds: float) -> None:
        """Cut the client's side of all there is: the host is not told that the client is gone. Then as :meth:`cut`."""
        self._down = True
        with self._lock:
            sockets, self._sockets = self._sockets, []
            self._gone += sockets
        _shut(*sockets[::2])
        time.sleep(seconds)
        self._down = False

    def cut(self, seconds: float = 0) -> None:
        """Cut what there is; let nobody through for a while. (A client that polls may have no connection just then.)"""
        self._down = seconds > 0
        with self._lock:
            sockets, self._sockets = self._sockets, []
        _shut(*sockets)
        time.sleep(seconds)  # it is the time that the network is down
        self._down = False

    def stop(self) -> None:
        self._ended = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._accepting.join()
        self._listening.close()
        self.cut()
        _shut(*self._gone)
        for thread in self._threads:
            thread.join()
        for end in self._all:
            end.close()


def _shut(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class Page:
    """A page with socket.io-client: what it has seen, in order."""

    def __init__(self, port: int, stage: Path, transports: str) -> None:
        command = ["node", str(HERE / "recovery" / "client.mjs"), f"http://127.0.0.1:{port}", str(stage), transports]
        self._node = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
        self.seen: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._node.stdout is not None
        for line in self._node.stdout:
            self.seen.append(json.loads(line))

    def close_engine(self) -> None:
        """Have it close its Engine.IO, as the documentation of Socket.IO shows it; it connects again by itself."""
        assert self._node.stdin is not None
        print("close", file=self._node.stdin, flush=True)

    def connects(self, namespace: str = "/") -> list[dict[str, Any]]:
        return [seen for seen in self.seen if "connect" in seen and seen["namespace"] == namespace]

    def numbers(self, namespace: str) -> list[int]:
        """Return what has come; what asks for an answer only once: it comes again if the answer did not come back."""
        came: dict[Any, int] = {}
        for place, seen in enumerate(self.seen):
            if "number" in seen and seen["namespace"] == namespace:
                came.setdefault((seen["number"], place if seen["rest"] else "asked"), seen["number"])
        return list(came.values())

    def wait_for(self, number: int, namespace: str) -> None:
        wait_until(lambda: number in self.numbers(namespace), 20, f"{number} comes")

    def wait_for_connects(self, count: int) -> None:
        for namespace in ("/", "/news"):
            wait_until(lambda namespace=namespace: len(self.connects(namespace)) >= count, 20, "both connect")

    def stop(self) -> None:
        self._node.kill()
        self._reader.join()
        self._node.__exit__(None, None, None)


class Traffic:
    """Has the host emit numbers, one after the other, in turn to everybody, to a room, to another namespace and, with a
    question, to everybody.

    :ivar sent: the numbers by namespace.
    """

    TURNS = ({}, {"room": "red"}, {"namespace": "/news"}, {"namespace": "/news", "room": "red"}, {"ask": True})

    def __init__(self, host: Host) -> None:
        self.host, self.next = host, 0
        self.sent: dict[str, list[int]] = {"/": [], "/news": []}

    def emit(self, count: int, turns: tuple[dict[str, Any], ...] = TURNS, pause: float = 0.0) -> None:
        for _ in range(count):
            options = turns[self.next % len(turns)]
            self.host.number(self.next, **options)
            self.sent[options.get("namespace", "/")].append(self.next)
            self.next += 1
            time.sleep(pause)  # so that it lasts for a while

    def check(self, page: Page) -> None:
        """Everything has come once, in order."""
        for namespace, numbers in self.sent.items():
            page.wait_for(numbers[-1], namespace)
            assert page.numbers(namespace) == numbers


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with socket.io-client."""
    folder = tmp_path_factory.mktemp("recovery")
    install(HERE / "transcripts", folder)
    return folder


@pytest.fixture
def opened() -> Iterator[list[Any]]:
    """What is to be closed in the end, the last one first."""
    things: list[Any] = []
    yield things
    for thing in reversed(things):
        thing.stop()


def visited(host: Host, stage: Path, transports: str, opened: list[Any]) -> tuple[Wire, Page]:
    """Have a page connect to a host by a wire that can be cut."""
    opened.append(host)
    wire = Wire(host.port)
    opened.append(wire)
    page = Page(wire.port, stage, transports)
    opened.append(page)
    page.wait_for_connects(1)
    return wire, page


@pytest.mark.parametrize(("server", "transports"), [
    pytest.param("ours", "polling", marks=pytest.mark.long), pytest.param("ours", "websocket", marks=pytest.mark.long),
    ("ours", "polling,websocket"), pytest.param("werkzeug", "polling,websocket", marks=pytest.mark.long)])
def test_connections_are_cut_under_traffic(server: str, transports: str, stage: Path, opened: list[Any]) -> None:
    """The client is who it was, in both namespaces; it gets every event once, in order; no handler runs."""
    host = Host(server)
    wire, page = visited(host, stage, transports, opened)
    traffic = Traffic(host)
    traffic.emit(10)
    traffic.check(page)
    for cut in range(4):
        away = threading.Thread(target=wire.cut, args=(0.1 + 0.3 * cut,))
        away.start()
        traffic.emit(40, pause=0.01)
        away.join()
        page.wait_for_connects(2 + cut)
        traffic.emit(10, pause=0.01)
    traffic.emit(5)
    traffic.check(page)
    for namespace in ("/", "/news"):
        first, *others = page.connects(namespace)
        assert first["recovered"] is False
        assert len(others) >= 4
        assert all(other == {**first, "recovered": True} for other in others)
    assert [seen["rest"] for seen in page.seen if seen.get("number") == 4] == [[]], "with a question there is no offset"
    assert sorted(entry for entry in host.told() if entry[0] != "answered") == [
        ["connect", "/", {"who": "ann"}], ["connect", "/news", {"who": "ann"}]]
    answered = [entry[1] for entry in host.told() if entry[0] == "answered"]
    assert len(set(answered)) == len(answered)
    assert set(answered) <= set(traffic.sent["/"])
    assert set(host.recoveries()) == {"recovered"}


@pytest.mark.parametrize("transports", [pytest.param("polling", marks=pytest.mark.long), "websocket"])
def test_a_server_is_killed_under_traffic(transports: str, stage: Path, opened: list[Any], tmp_path: Path) -> None:
    """With a journal, who was connected or away gets every event of a namespace once, in order: those between a cut and
    the kill, and those of the next process. Rooms are joined anew.
    """
    journal = {"HYBRID_JOURNAL": tmp_path / "journal", "HYBRID_JOURNAL_FLUSH_MS": 1}
    everybody = ({}, {"namespace": "/news"})
    host = Host("ours", **journal)
    wire, page = visited(host, stage, transports, opened)
    traffic = Traffic(host)
    for life in range(2, 4):
        traffic.emit(30, everybody, pause=0.005)
        away = threading.Thread(target=wire.cut, args=(1.5,))
        if life == 2:  # in the other one it is connected when the server is killed
            away.start()
        traffic.emit(20, everybody, pause=0.005)
        wait_until(host.journal_is_done, what="the journal has everything")
        host.process.kill()
        host.process.wait()
        host = traffic.host = Host("ours", host.port, **journal)
        opened.append(host)
        traffic.emit(20, everybody, pause=0.005)
        if life == 2:
            away.join()
        page.wait_for_connects(life)
        traffic.emit(20, (*everybody, {"room": "red"}, {"room": "red", "namespace": "/news"}), pause=0.005)
        traffic.check(page)
    for namespace in ("/", "/news"):
        assert [connect["recovered"] for connect in page.connects(namespace)] == [False] * 3
        assert len({connect["connect"] for connect in page.connects(namespace)}) == 3
    assert host.recoveries() == {"replayed": 2}


@pytest.mark.parametrize("server", ["ours", "werkzeug"])
@pytest.mark.parametrize("transports", ["polling", "websocket"])
def test_a_client_comes_back_before_anybody_knows_that_it_was_gone(
        server: str, transports: str, stage: Path, opened: list[Any]) -> None:
    """As on a telephone that changes its network: the new connection is the client's, and the old one is closed."""
    host = Host(server)
    wire, page = visited(host, stage, transports, opened)
    traffic = Traffic(host)
    traffic.emit(5)
    traffic.check(page)
    for connects in range(2, 5):
        wire.vanish(0.2)
        traffic.emit(10)
        page.wait_for_connects(connects)
        traffic.emit(10)
        traffic.check(page)
    host.wait_for_streams(1)
    assert {connect["recovered"] for connect in page.connects()[1:]} == {True}
    assert [entry[0] for entry in host.told() if entry[0] != "answered"] == ["connect", "connect"]


@pytest.mark.parametrize("transports", ["polling", "websocket"])
def test_a_client_closes_its_engine(transports: str, stage: Path, opened: list[Any]) -> None:
    """That is not its goodbye: it comes back as who it was."""
    host = Host("ours")
    opened.append(host)
    page = Page(host.port, stage, transports)
    opened.append(page)
    page.wait_for_connects(1)
    traffic = Traffic(host)
    traffic.emit(5)
    traffic.check(page)
    page.close_engine()
    wait_until(lambda: any("disconnect" in seen for seen in page.seen), what="the engine closes")
    traffic.emit(5)
    page.wait_for_connects(2)
    traffic.emit(5)
    traffic.check(page)
    assert page.connects()[1] == {**page.connects()[0], "recovered": True}
    assert [entry[0] for entry in host.told() if entry[0] != "answered"] == ["connect", "connect"]
