"""What happens to three workers and their Redis under load: every client gets everything once, in order."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support.redis_server import RedisServer
from support.servers import Server, Stream

from hakgal_hybrid import Emitter

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gunicorn needs a system that forks")

CLIENTS, RATE, SECONDS = 6, 100, 6.0


class Client(threading.Thread):
    """Reads a stream, and opens it again with its last id whenever it ends, until it has the last event."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server = server
        self.got: list[int] = []
        self.gaps: list[str] = []
        self.ids: list[str] = []
        self.opened = threading.Event()
        self.done = threading.Event()

    def run(self) -> None:
        last = ""
        while not self.done.is_set():
            try:
                stream: Stream = self._server.stream(headers={"Last-Event-ID": last} if last else {})
            except OSError:
                time.sleep(0.1)
                continue
            seen = 0
            while not (stream.ended or self.done.is_set()):
                new = len(stream.messages)
                for message in stream.messages[seen:new]:
                    self._take(message.event, message.data, message.id)
                seen = new
                try:
                    stream.read_until(lambda events, seen=seen: len(events.messages) > seen, 0.5)
                except AssertionError:
                    pass  # nothing has come
            last = stream.decoder.last_event_id or last
            stream.close()
            time.sleep(0.05)

    def _take(self, event: str, data: str, event_id: str) -> None:
        if event == "hybrid_open":
            self.opened.set()
        elif event == "hybrid_gap":
            self.gaps.append(data)
        elif event == "tick":
            self.got.append(int(data))
            self.ids.append(event_id)
        elif event == "last":
            self.done.set()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    running = RedisServer(tmp_path)
    yield running
    running.kill()


def kill_a_worker(server: Server, redis: RedisServer) -> None:
    psutil.Process(server.process.pid).children()[0].kill()


def restart_redis(server: Server, redis: RedisServer) -> None:
    redis.kill()
    time.sleep(0.5)
    redis.start()


def stop_redis(server: Server, redis: RedisServer) -> None:
    redis.pause()
    time.sleep(4)
    redis.go_on()


def flush(server: Server, redis: RedisServer) -> None:
    with redis.client() as client:
        client.flushall()


def stop_a_worker(server: Server, redis: RedisServer) -> None:
    worker = psutil.Process(server.process.pid).children()[0]
    os.kill(worker.pid, signal.SIGSTOP)
    time.sleep(4)
    os.kill(worker.pid, signal.SIGCONT)


@pytest.mark.parametrize("fault", [
    kill_a_worker, restart_redis, pytest.param(stop_redis, marks=pytest.mark.long),
    pytest.param(flush, marks=pytest.mark.long), pytest.param(stop_a_worker, marks=pytest.mark.long)])
def test_nothing_is_lost_and_nothing_comes_twice(
        redis: RedisServer, fault: Callable[[Server, RedisServer], None]) -> None:
    """While an emitter lives and one process has read what Redis loses, no client misses or repeats anything."""
    with Server("gunicorn-gthread", "--workers", "3", "--timeout", "60", HYBRID_BACKPLANE=redis.url,
                HYBRID_BACKPLANE_NAME="faults") as server:
        clients = [Client(server) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        assert all(client.opened.wait(20) for client in clients)
        with Emitter(redis.url, "faults") as emitter:
            began, number, done = time.monotonic(), 0, False
            while time.monotonic() < began + SECONDS or not done:
                emitter.emit("tick", number)
                number += 1
                if not done and number == RATE:
                    thread = threading.Thread(target=fault, args=(server, redis))
                    thread.start()
                done = number > RATE and not thread.is_alive()
                time.sleep(1 / RATE)
            emitter.emit("last")
            assert emitter.flush(30)
        assert all(client.done.wait(30) for client in clients)
        for client in clients:
            assert not client.gaps
            assert client.got == list(range(number))
            assert client.ids == clients[0].ids
