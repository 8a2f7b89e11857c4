"""``hakgal-hybrid edge``: real processes, which are killed for real."""

from __future__ import annotations

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
from support.servers import SOON, Answer, Http, Server, Stream, wait_until

needs_workers = pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="processes cannot share a port here")
SERVING = re.compile(r"^.*serving on http", re.MULTILINE)


class Edge:
    """``hakgal-hybrid edge`` as a process of its own.

    :param redis: where its hosts are. :param folder: where it writes its log. :param options: of its command line.
    """

    def __init__(self, redis: RedisServer, folder: Path, *options: str, **settings: object) -> None:
        self.port, self._log = free_port(), folder / f"edge-{time.monotonic_ns()}.log"
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("HYBRID_", "HAKGAL_"))}
        environ.update({name: str(value) for name, value in settings.items()}, PYTHONUNBUFFERED="1")
        command = [sys.executable, "-m", "hakgal_hybrid", "edge", "--backplane", redis.url, "--name", "edges",
                   "--port", str(self.port), *options]
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
            return len(SERVING.findall(self.log())) >= times and self.ask("GET", "/api/hybrid/ready").status == 200

        wait_until(begun, 30, "the edge is ready")
        return self

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
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
    clients = [Client(edge.port) for _ in range(12)]
    for client in clients:
        client.start()
    assert all(client.opened.wait(SOON) for client in clients)
    before = edge.workers()
    assert len(before) == 2
    for number in range(60):
        host.emit("tick", 5)
        if number == 20:
            before[0].kill()
    wait_until(lambda: len(SERVING.findall(edge.log())) == 3, 30, "a new worker serves")
    assert {worker.pid for worker in edge.workers()} != {worker.pid for worker in before}
    newest = host.emit("last")
    assert all(client.done.wait(SOON) for client in clients)
    manifest = accounting.Manifest.read(host.manifest)
    moved = 0
    for client in clients:
        account = accounting.account(client.got(), manifest, upto=newest)
        assert account.delivered == 301
        moved += len(client.streams) > 1
    assert 0 < moved < 12  # one of two workers was killed


@needs_workers
def test_sigterm_ends_all_workers_with_farewells(host: Server, edges: Callable[..., Edge]) -> None:
    """The exit status is 0, every stream has hybrid_bye, and no process remains."""
    edge = edges("--workers", "2").ready(2)
    streams = [Stream(edge.port) for _ in range(8)]
    for stream in streams:
        stream.read_until(lambda events: events.named("hybrid_open"))
    workers = edge.workers()
    edge.process.send_signal(signal.SIGTERM)
    assert edge.process.wait(SOON) == 0
    for stream in streams:
        stream.read_to_end()
        assert stream.named("hybrid_bye")
        stream.close()
    assert not any(worker.is_running() for worker in workers)


@needs_workers
def test_no_worker_outlives_its_supervisor(host: Server, edges: Callable[..., Edge]) -> None:
    """Workers whose supervisor was killed end by themselves."""
    edge = edges("--workers", "2").ready(2)
    workers = edge.workers()
    edge.process.kill()
    wait_until(lambda: not any(worker.is_running() for worker in workers), SOON, "they end")
