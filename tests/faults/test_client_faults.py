"""Clients that do what clients must not: nobody else notices, and nothing of them is left."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from support.faults import MINUTE, Client, Scene, allow_files, need, parts, root
from support.servers import CONTROL, TESTS, Http, wait_until

UP = "streams, host, status"
LARGE = 20_000

pytestmark = pytest.mark.once


def ended(scene: Scene, reason: str) -> int:
    """Return how many streams ended for this reason."""
    return int(scene.server.status()["traffic"]["ended"].get(reason, 0))


def streams(scene: Scene, number: int) -> None:
    """Wait until so many streams are open."""
    scene.server.wait_for_streams(number, 40)


@contextlib.contextmanager
def witness_process(scene: Scene, folder: Path, *, key: str = "", rcvbuf: int = 0, host: str = "127.0.0.1",
                    within: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """Run a witness in a process of its own until it has seen ``end``, at most."""
    folder.mkdir()
    process = subprocess.Popen([*within, sys.executable, "-m", "support.faults", str(scene.server.port), str(folder),
                                key, str(rcvbuf), host], cwd=TESTS, stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: any(got.event == "hybrid_open" for got in parts(folder)), 30, "it to have a stream")
        yield process
    finally:
        process.kill()
        process.wait()


def see_the_end(scene: Scene, process: subprocess.Popen[bytes], folder: Path) -> None:
    """Emit ``end``, wait until the process has seen that, and have its account in the row."""
    scene.server.emit("end")
    process.wait(60)
    got = parts(folder)
    end = next(item.id for item in got if item.event == "end")
    scene.parts.append((got, str(end)))


def test_clients_that_stop_reading(fault: Any) -> None:
    """Clients with a tiny receive buffer that read nothing more are closed in time; everybody else goes on."""
    with fault("20 clients stop reading (4 KiB receive buffer)", UP, HYBRID_STALL_S=5) as scene:
        before = ended(scene, "stalled")
        lazy = [Client(scene.server.port, rcvbuf=4096) for _ in range(20)]
        try:
            assert all(client.connect() for client in lazy)
            scene.server.emit("large", 40, size=LARGE)
            scene.last(1)
            wait_until(lambda: ended(scene, "stalled") == before + 20, 40, "all of them to be closed")
        finally:
            for client in lazy:
                client.hang_up()
        scene.row.note = "20 closed as stalled"


@pytest.mark.long
def test_a_client_that_is_stopped_and_wakes(fault: Any, tmp_path: Path) -> None:
    """A client process that is stopped for a minute is closed, and gets on waking all it missed, or is told what."""
    need(hasattr(signal, "SIGSTOP"), "there is no SIGSTOP here")
    with fault(f"SIGSTOP for {MINUTE:g} s, then SIGCONT", UP, HYBRID_STALL_S=min(20.0, MINUTE / 3)) as scene:
        before = ended(scene, "stalled")
        with witness_process(scene, tmp_path / "witness", rcvbuf=4096) as process:
            process.send_signal(signal.SIGSTOP)
            scene.server.emit("large", 200, size=LARGE)
            scene.last(MINUTE)
            wait_until(lambda: ended(scene, "stalled") == before + 1, 40, "it to be closed")
            process.send_signal(signal.SIGCONT)
            see_the_end(scene, process, tmp_path / "witness")
        scene.row.note = "closed as stalled, came back by itself"


def ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, capture_output=True, timeout=30)


class Away(NamedTuple):
    """A network namespace: its name, this side's end of the link to it, and the address of that."""

    name: str
    link: str
    address: str


@pytest.fixture
def namespace() -> Iterator[Away]:
    """A network namespace with a link to here, of this process alone: two runs may share a machine."""
    import shutil

    need(root(), "network namespaces need root")
    need(shutil.which("ip"), "network namespaces need iproute2")
    number = os.getpid()
    name, here, there = f"hybridfault{number}", f"hyf{number}a", f"hyf{number}b"
    near, far = (f"10.213.{number // 64 % 256}.{number % 64 * 4 + side}" for side in (1, 2))
    ip("netns", "del", name, check=False)
    ip("link", "del", here, check=False)
    try:
        ip("netns", "add", name)
        ip("link", "add", here, "type", "veth", "peer", "name", there)
    except subprocess.CalledProcessError as error:
        ip("netns", "del", name, check=False)
        need(False, f"this system gives no network namespace: {error.stderr!r}")
    try:
        ip("link", "set", there, "netns", name)
        ip("addr", "add", f"{near}/30", "dev", here)
        ip("link", "set", here, "up")
        ip("-n", name, "addr", "add", f"{far}/30", "dev", there)
        ip("-n", name, "link", "set", there, "up")
        ip("-n", name, "link", "set", "lo", "up")
        yield Away(name, here, near)
    finally:
        ip("link", "del", here, check=False)
        ip("netns", "del", name, check=False)


@pytest.mark.parametrize("way", ["silent", "loud"])
@pytest.mark.long
def test_clients_that_vanish_without_a_word(fault: Any, tmp_path: Path, namespace: Away, way: str) -> None:
    """Clients whose link goes down say no FIN: their streams end in time, and when the link is back they go on.

    With ``loud`` something larger is on its way to them; with ``silent`` there are only heartbeats and small events.
    """
    title = f"vanish without FIN (link down), {'large' if way == 'loud' else 'small'} events on their way"
    with fault(title, UP, options=("--host", "0.0.0.0"), HYBRID_STALL_S=2, HAKGAL_API_KEY="known") as scene:
        with witness_process(scene, tmp_path / "witness", key="known", host=namespace.address,
                             within=("ip", "netns", "exec", namespace.name)) as process:
            streams(scene, 5)
            ip("link", "set", namespace.link, "down")
            if way == "loud":
                scene.server.emit("large", 20, size=LARGE)
            scene.last(1)
            streams(scene, 4)
            ip("link", "set", namespace.link, "up")
            # It learns of nothing by itself: what it would say next is answered by a RST.
            process.kill()
            process.wait()
            scene.parts.append((parts(tmp_path / "witness"), ""))
        scene.row.note = "its stream ended after HYBRID_STALL_S"


@pytest.mark.long
def test_clients_that_reset(fault: Any) -> None:
    """Clients that hang up by RST, with bytes on their way to them, are gone at once."""
    with fault("50 clients reset", UP) as scene:
        clients = [Client(scene.server.port) for _ in range(50)]
        assert all(client.connect() for client in clients)
        scene.server.emit("large", 5, size=LARGE)
        for client in clients:
            client.hang_up(reset=True)
        scene.last(0.5)
        streams(scene, 4)


@pytest.mark.long
def test_clients_that_half_close(fault: Any) -> None:
    """Clients that will say nothing more are told the end and closed."""
    import socket

    with fault("50 clients half-close", UP) as scene:
        clients = [Client(scene.server.port) for _ in range(50)]
        assert all(client.connect() for client in clients)
        for client in clients:
            assert client.stream is not None
            client.stream.sock.shutdown(socket.SHUT_WR)
        for client in clients:
            assert client.stream is not None
            client.stream.read_to_end(30)
            client.hang_up()
        scene.last(0.5)
        streams(scene, 4)


@pytest.mark.long
def test_clients_that_talk_on_a_stream(fault: Any) -> None:
    """Garbage on an open stream does nothing to it; who sends megabytes is closed, and nobody notices."""
    with fault("garbage, then megabytes, on 10 streams", UP) as scene:
        before = ended(scene, "chatter")
        clients = [Client(scene.server.port) for _ in range(10)]
        assert all(client.connect() for client in clients)
        opened = [client.stream for client in clients if client.stream is not None]
        for stream in opened:
            stream.send(b"\x00\xffGET /nothing HTTP/1.1\r\nContent-Length: -1\r\n\r\n")
        scene.server.emit("still_there")
        for stream in opened:
            stream.wait_for("still_there", 1, 30)
        for stream in opened:
            with contextlib.suppress(OSError):
                for _ in range(64):
                    stream.send(b"x" * 65536)
        wait_until(lambda: ended(scene, "chatter") == before + 10, 40, "all of them to be closed")
        for client in clients:
            client.hang_up()
        scene.last(0.5)
        scene.row.note = "10 closed for what they said"


@pytest.mark.long
def test_connections_that_never_speak(fault: Any) -> None:
    """Connections that ask for nothing are closed after HYBRID_REQUEST_S."""
    with fault("200 connections never speak", UP, HYBRID_REQUEST_S=1.5) as scene, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(Http(scene.server.port)) for _ in range(200)]
        scene.last(0.5)
        assert all(http.closed(40) for http in silent)


@pytest.mark.long
def test_requests_that_trickle(fault: Any) -> None:
    """Requests that come a byte a second are broken off after HYBRID_REQUEST_S, whatever of them has come."""
    request = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n"
    with fault("50 requests trickle, a byte a second", UP, HYBRID_REQUEST_S=2.5) as scene:
        with contextlib.ExitStack() as stack:
            slow = [stack.enter_context(Http(scene.server.port)) for _ in range(50)]
            for byte in request[:6]:
                for http in slow:
                    with contextlib.suppress(OSError):
                        http.send(bytes([byte]))
                time.sleep(1)  # that is what is tried
            assert all(http.closed(40) for http in slow)
        scene.last(0.1)


@pytest.mark.long
def test_everybody_comes_back_at_once(fault: Any) -> None:
    """After 500 streams were cut at once, 500 come back at once, and each gets what it missed, once."""
    allow_files(2048)
    with fault("500 reconnect at once", UP) as scene:
        clients = [Client(scene.server.port) for _ in range(500)]
        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(Client.connect, clients))
            streams(scene, 504)
            for client in clients:
                client.hang_up(reset=True)
            # What they miss is there when they come back, and they come all at once.
            scene.server.emit("missed", 20)
            started = time.monotonic()
            with ThreadPoolExecutor(64) as rush:
                tries = list(rush.map(_insist, clients))
            took = time.monotonic() - started
        scene.server.emit("end")
        for client in clients:
            stream = client.stream
            assert stream is not None
            stream.wait_for("end", 1, 60)
            client.hang_up()
            scene.parts.append((client.got(), client.last))  # others emit meanwhile: the newest id need not be "end"'s
        scene.last(0.5)
        scene.row.note = f"all back within {took:.1f} s, {sum(tries) - 500} asked twice"


def _insist(client: Client) -> int:
    """Connect, as often as it takes; return how often."""
    pause = threading.Event()
    for number in range(1, 100):
        if client.connect():
            return number
        pause.wait(0.2)
    raise AssertionError("it never got a stream again")


@pytest.mark.parametrize("fixes", [0, 1, pytest.param(2, marks=pytest.mark.long)])
def test_visitors_who_say_that_they_are_here(fault: Any, fixes: int) -> None:
    """Behind any number of ProxyFix, a visitor from another machine commands nothing by saying that he is this one."""
    addresses = [address.address for found in psutil.net_if_addrs().values() for address in found
                 if address.family == socket.AF_INET and not address.address.startswith("127.")]
    need(addresses, "this machine needs an address besides loopback")
    claims = ({"X-Forwarded-For": "127.0.0.1"}, {"X-Forwarded-For": "127.0.0.1, 127.0.0.1"},
              {"X-Real-IP": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}, {"X-Forwarded-For": "localhost"})
    with fault(f"visitors from elsewhere who claim to be this machine, {fixes} ProxyFix", UP,
               options=("--host", "0.0.0.0"), SUPPORT_PROXY_FIX=fixes) as scene:
        admitted, tried = 0, 0
        for _ in range(4):
            for claim in claims:
                with Http(scene.server.port, host=addresses[0]) as http:
                    answer = http.ask("POST", CONTROL, {"action": "status"}, {"Host": "localhost", **claim})
                tried, admitted = tried + 1, admitted + (answer.status < 300)
        scene.last(0.2)
        scene.row.note = f"{admitted} of {tried} commands admitted"
        assert admitted == 0
