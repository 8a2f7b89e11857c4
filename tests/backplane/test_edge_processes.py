"""``hakgal-hybrid edge``: real processes, which are killed for real."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import accounting
from support.hosts import free_port
from support.redis_server import RedisServer
from support.servers import Answer, Http, Server, Stream, wait_until

needs_workers = pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="processes cannot share a port here")
#: Longer than anything takes, on a machine that does much else as well.
SOON = 40.0
SERVING = re.compile(r"^.*serving on http", re.MULTILINE)


class Edge:
    """``hakgal-hybrid edge`` as a process of its own.

    :param redis: where its hosts are. :param folder: where it writes its log. :param options: of its command line.
    :param server: a worker class of gunicorn, if it runs under that.
    """

    def __init__(self, redis: RedisServer, folder: Path, *options: str, server: str = "", **settings: object) -> None:
        self.port, self._log = free_port(), folder / f"edge-{time.monotonic_ns()}.log"
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("HYBRID_", "HAKGAL_"))}
        environ.update({name: str(value) for name, value in settings.items()}, PYTHONUNBUFFERED="1")
        command = [sys.executable, "-m", "hakgal_hybrid", "edge", "--backplane", redis.url, "--name", "edges",
                   "--port", str(self.port), *options]
        if server:
            environ.update(HYBRID_BACKPLANE=redis.url, HYBRID_BACKPLANE_NAME="edges")
            command = [sys.executable, "-m", "gunicorn", "--worker-class", server, "--bind", f"127.0.0.1:{self.port}",
                       "--workers", "2", "--worker-tmp-dir", str(folder), *options,
                       "hakgal_hybrid.host.edge:create_app()"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=subprocess.STDOUT)

    def log(self) -> str:
        return self._log.read_text()

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        with Http(self.port) as http:
            return http.ask(method, path, body, {"Connection": "close", **(headers or {})})

    def ready(self, times: int = 1) -> Edge:
        """Wait until so many of its processes have begun to serve, and it takes clients."""
        def begun() -> bool:
            assert self.process.poll() is None, self.log()
            try:
                ready = self.ask("GET", "/api/hybrid/ready").status == 200
            except OSError:
                return False
            return ready and len(SERVING.findall(self.log())) >= times

        wait_until(begun, SOON, "the edge is ready")
        return self

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def stop(self) -> None:
        if self.process.poll() is None:
            workers = self.workers()  # which gunicorn's would outlive for a while
            for process in (self.process, *workers):
                process.kill()
            psutil.wait_procs(workers, 10)
        self.process.wait(10)


@pytest.fixture
def host(redis_server: RedisServer) -> Iterator[Server]:
    with Server("ours", HYBRID_BACKPLANE=redis_server.url, HYBRID_BACKPLANE_NAME="edges") as server:
        yield server


@pytest.fixture
def edges(redis_server: RedisServer, host: Server, tmp_path: Path) -> Iterator[Callable[..., Edge]]:
    """Starts edges of the host; what their clients get is held against what the host has emitted."""
    started: list[Edge] = []

    def start(*options: str, **settings: object) -> Edge:
        edge = Edge(redis_server, tmp_path, *options, **settings)
        started.append(edge)
        accounting.manifests[edge.port] = host.manifest
        return edge

    try:
        yield start
        ports = {edge.port for edge in started}
        got = {f'"{got.id}"' for stream in accounting.streams if stream.port in ports for got in stream.got()
               if got.id and not got.event.startswith("hybrid_")}

        def noted() -> bool:
            text = host.manifest.read_text()
            return all(event_id in text for event_id in got)

        wait_until(noted, SOON, "the host has read what its clients have")
        accounting.settle()
    finally:
        for edge in started:
            accounting.manifests.pop(edge.port, None)
            edge.stop()
            print(edge.log())


class Client(threading.Thread):
    """Reads a stream, and opens it again with its last id whenever it ends, until it has the last event."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self.streams: list[Stream] = []
        self.opened, self.done, self.leave = threading.Event(), threading.Event(), threading.Event()

    def run(self) -> None:
        last = ""
        while not self.leave.is_set() and not self.done.is_set():
            try:
                stream = Stream(self._port, headers={"Last-Event-ID": last} if last else {})
            except OSError:
                time.sleep(0.05)
                continue
            if stream.status == 200:
                self.streams.append(stream)
            while not stream.ended and not self.leave.is_set():
                seen = len(stream.messages)
                try:
                    stream.read_until(lambda events, seen=seen: len(events.messages) > seen, 0.2)
                except AssertionError:
                    pass  # nothing has come
                if stream.named("hybrid_open"):
                    self.opened.set()
                if stream.named("last"):
                    self.done.set()
                    break
            last = stream.decoder.last_event_id or last
            stream.close()
            time.sleep(0.02)

    def got(self) -> list[accounting.Got]:
        return [got for stream in self.streams for got in stream.got()]


@needs_workers
def test_a_worker_that_is_killed_is_started_again(host: Server, edges: Callable[..., Edge]) -> None:
    """Its clients come back, to another worker or to the new one, and have every event once, or a gap for it."""
    edge = edges("--workers", "2").ready(2)
    clients = [Client(edge.port) for _ in range(24)]  # so many that neither worker has all of them
    for client in clients:
        client.start()
    assert all(client.opened.wait(SOON) for client in clients)
    before = edge.workers()
    assert len(before) == 2
    for number in range(60):
        host.emit("tick", 5)
        if number == 20:
            before[0].kill()
    wait_until(lambda: len(SERVING.findall(edge.log())) == 3, SOON, "a new worker serves")
    assert {worker.pid for worker in edge.workers()} != {worker.pid for worker in before}
    newest = host.emit("last")
    assert all(client.done.wait(SOON) for client in clients)
    manifest = accounting.Manifest.read(host.manifest)
    moved = 0
    for client in clients:
        account = accounting.account(client.got(), manifest, upto=newest)
        assert account.delivered == 301
        moved += len(client.streams) > 1
    assert 0 < moved < 24  # one of two workers was killed


@needs_workers
def test_sigterm_ends_all_workers_with_farewells(host: Server, edges: Callable[..., Edge]) -> None:
    """The exit status is 0, every stream has hybrid_bye, and no process remains."""
    edge = edges("--workers", "2").ready(2)
    streams = [Stream(edge.port) for _ in range(8)]
    for stream in streams:
        stream.read_until(lambda events: events.named("hybrid_open"), SOON)
    workers = edge.workers()
    edge.process.send_signal(signal.SIGTERM)
    assert edge.process.wait(SOON) == 0
    for stream in streams:
        stream.read_to_end(SOON)
        assert stream.named("hybrid_bye")
        stream.close()
    assert not any(worker.is_running() for worker in workers)


@pytest.mark.long
@needs_workers
def test_no_worker_outlives_its_supervisor(host: Server, edges: Callable[..., Edge]) -> None:
    """Workers whose supervisor was killed end by themselves."""
    edge = edges("--workers", "2").ready(2)
    workers = edge.workers()
    edge.process.kill()
    wait_until(lambda: not any(worker.is_running() for worker in workers), SOON, "they end")


@needs_workers
def test_a_port_that_is_taken(host: Server, edges: Callable[..., Edge]) -> None:
    """One line says so, and the exit status is 2, with one worker and with several."""
    for workers in ("1", "2"):
        edge = edges("--workers", workers, "--port", str(host.port))
        assert edge.process.wait(SOON) == 2
        assert f"127.0.0.1:{host.port} is in use" in edge.log()
        assert "Traceback" not in edge.log()


@pytest.mark.long
def test_streams_go_on_when_a_host_is_killed(redis_server: RedisServer, host: Server,
                                             edges: Callable[..., Edge]) -> None:
    """Clients that the killed host has let in keep their streams, and get what another one emits; new ones come in."""
    edge = edges().ready()
    clients = [Client(edge.port) for _ in range(4)]
    for client in clients:
        client.start()
    assert all(client.opened.wait(SOON) for client in clients)
    with Server("ours", HYBRID_BACKPLANE=redis_server.url, HYBRID_BACKPLANE_NAME="edges",
                SUPPORT_MANIFEST=host.manifest) as other:
        for number in range(40):
            other.emit("tick", 5)
            if number == 10:
                host.process.kill()
        newest = other.emit("last")
        assert all(client.done.wait(SOON) for client in clients)
        # Edges may have read it before the host that notes it.
        wait_until(lambda: '"name": "last"' in host.manifest.read_text(), SOON, "the host has read its last event")
        manifest = accounting.Manifest.read(host.manifest)
        for client in clients:
            assert accounting.account(client.got(), manifest, upto=newest).delivered == 201
            assert len(client.streams) == 1

        def opened() -> Stream | None:
            stream = Stream(edge.port)
            stream.read_until(lambda events: events.messages, SOON)
            if stream.named("hybrid_open"):
                return stream
            stream.close()
            return None

        wait_until(opened, SOON, "a new client is let in").close()
        accounting.settle()


def test_clients_that_a_host_keeps_waiting_hold_up_no_others(host: Server, edges: Callable[..., Edge]) -> None:
    """While slow connect handlers run for some clients of an edge, it lets others in."""
    edge = edges().ready()

    def hang() -> None:
        with contextlib.suppress(OSError):  # the edge ends first
            edge.ask("GET", "/api/events/stream?hang=1")

    slow = [threading.Thread(target=hang, daemon=True) for _ in range(6)]
    for thread in slow:
        thread.start()

    def opening() -> bool:
        lanes = edge.ask("GET", "/api/hybrid/status").json()["server"]["lanes"]
        return bool(lanes["stream"]["busy"] == 6)

    wait_until(opening, SOON, "six wait")
    stream = Stream(edge.port)
    stream.read_until(lambda events: events.named("hybrid_open"), SOON)
    host.emit("tick", 1)
    stream.read_until(lambda events: events.named("tick"), SOON)
    stream.close()
    assert all(thread.is_alive() for thread in slow)


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_clients_of_socketio(transport: str, host: Server, edges: Callable[..., Edge]) -> None:
    """They connect, send, are answered, get events and leave as at a host; the host's refusal reaches them."""
    from support.socketio_clients import client as make_client
    from support.socketio_clients import socketio

    edge = edges(ENABLE_WS_SPECIAL="true").ready()
    client, heard = make_client(), []
    client.on("news", heard.append)
    client.connect(f"http://127.0.0.1:{edge.port}", transports=[transport], wait_timeout=SOON)
    assert client.call("echo", ("a", b"b", 1), timeout=SOON) in (("a", b"b", 1), ["a", b"b", 1])
    host.emit("news", 1, data="old")
    wait_until(lambda: heard, SOON, "the event of the host")
    sid = client.get_sid()
    client.disconnect()
    wait_until(lambda: sid in str(host.notes()), SOON, "the host's disconnect handler")
    refused = make_client()
    with pytest.raises(socketio.exceptions.ConnectionError):
        refused.connect(f"http://127.0.0.1:{edge.port}", transports=[transport], auth={"refuse": ["no"]},
                        wait_timeout=SOON)
    refused.disconnect()


def test_websocket_of_events(host: Server, edges: Callable[..., Edge]) -> None:
    """Commands over the WebSocket of an edge are carried out by a host."""
    websocket = pytest.importorskip("websocket")
    edge = edges(ENABLE_WS_SPECIAL="true").ready()
    connection = websocket.create_connection(f"ws://127.0.0.1:{edge.port}/api/events/ws", timeout=SOON)
    try:
        assert json.loads(connection.recv())["event"] == "hybrid_open"
        connection.send(json.dumps({"do": "emit", "event": "echo", "args": ["a", 1], "ref": 7}))
        while "reply" not in (frame := json.loads(connection.recv())):
            pass
        assert (frame["reply"], frame["status"], frame["body"]["ack"]) == (7, 200, ["a", 1])
    finally:
        connection.close()


@pytest.mark.skipif(sys.platform == "win32", reason="gunicorn needs a system that forks")
@pytest.mark.parametrize("kind", ["gthread --threads 80", "gevent", "gthread --threads 80 --preload"])
def test_edges_under_gunicorn(kind: str, host: Server, edges: Callable[..., Edge]) -> None:
    """The app of an edge, in two workers: streams of both get everything, and clients can send."""
    worker, *options = kind.split()
    edge = edges(*options, server=worker).ready(0)
    streams: list[Stream] = []
    while len({stream.sid[:16] for stream in streams}) < 2 and len(streams) < 60:  # gunicorn does not divide evenly
        streams.append(Stream(edge.port))
        streams[-1].read_until(lambda events: events.named("hybrid_open"), SOON)
    host.emit("tick", 20)
    for stream in streams:
        stream.read_until(lambda events: len(events.named("tick")) == 20, SOON)
    assert len({stream.sid[:16] for stream in streams}) == 2
    opened = streams[0].open
    answers = [edge.ask("POST", "/api/events/emit", {"sid": opened["sid"], "event": "echo", "args": [number]},
                        {"X-Hybrid-Token": opened["token"]}) for number in range(6)]
    assert [answer.json()["ack"] for answer in answers] == [[number] for number in range(6)]
    for stream in streams:
        stream.close()


@pytest.mark.skipif(sys.platform == "win32", reason="gunicorn needs a system that forks")
def test_sync_workers_of_gunicorn_are_refused(host: Server, edges: Callable[..., Edge]) -> None:
    """A worker that serves one request at a time refuses streams, and says what to do."""
    edge = edges(server="sync").ready(0)
    answer = edge.ask("GET", "/api/events/stream")
    assert (answer.status, answer.json()["code"]) == (503, "single_threaded_server")


@pytest.mark.skipif(sys.platform == "win32", reason="gunicorn needs a system that forks")
@pytest.mark.parametrize("kind", ["gunicorn-gthread --preload", "gunicorn-gevent"])
def test_hosts_under_gunicorn(kind: str, redis_server: RedisServer, tmp_path: Path) -> None:
    """Workers of gunicorn that have had a request are hosts of edges: they let clients in, and run their handlers."""
    worker, *options = kind.split()
    with Server(worker, "--workers", "2", *options, HYBRID_BACKPLANE=redis_server.url,
                HYBRID_BACKPLANE_NAME="edges") as host:
        edge = Edge(redis_server, tmp_path)
        try:
            edge.ready()
            for _ in range(4):
                stream = Stream(edge.port)
                stream.read_until(lambda events: events.named("hybrid_open"), SOON)
                answer = edge.ask("POST", "/api/events/emit", {
                    "sid": stream.sid, "event": "count"}, {"X-Hybrid-Token": stream.open["token"]})
                assert answer.json()["ack"] == 1
                stream.close()
            refused = edge.ask("GET", "/api/events/stream?refuse=1")
            assert (refused.status, refused.json()["code"]) == (403, "connection_refused")
            assert host.status()["backplane"]["live"]
        finally:
            edge.stop()
            print(edge.log())


@pytest.mark.long
@needs_workers
def test_an_interrupt_ends_all_workers(host: Server, edges: Callable[..., Edge]) -> None:
    """Ctrl+C reaches the supervisor and its workers: all end, with status 0. So does one worker alone."""
    for workers in ("1", "2"):
        edge = edges("--workers", workers).ready(int(workers))
        for process in [*edge.workers(), psutil.Process(edge.process.pid)]:
            process.send_signal(signal.SIGINT)
        assert edge.process.wait(SOON) == 0
        assert "Traceback" not in edge.log()
