"""A replica is promoted by a real Sentinel: clients of several processes get everything once, or a gap that says so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from support.redis_server import RedisServer, Sentinel, watched
from support.shared_apps import App

from hakgal_hybrid import HybridTransport


class Guarded(App):
    """An app that asks a Sentinel where its Redis is."""

    def __init__(self, sentinel: Sentinel, **settings: Any) -> None:
        self.flask = Flask("guarded")
        self.transport = HybridTransport(self.flask, backplane=sentinel.url, flush_s=0, **settings)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer, Sentinel]]:
    with watched(tmp_path) as started:
        yield started


@pytest.mark.long
def test_killed_master(servers: tuple[RedisServer, RedisServer, Sentinel]) -> None:
    """While the master is dead events wait; the replica that takes over is found, and nobody misses or repeats any."""
    master, replica, sentinel = servers
    first, second = Guarded(sentinel), Guarded(sentinel)
    try:
        with first.open() as mine, second.open() as other:
            for number in range(20):
                first.transport.emit("tick", number)
            assert [int(other.until("tick").data) for _ in range(20)] == list(range(20))
            master.kill()
            for number in range(20, 40):
                first.transport.emit("tick", number)
            assert [int(other.until("tick", 60).data) for _ in range(20)] == list(range(20, 40))
            assert [int(mine.until("tick").data) for _ in range(40)] == list(range(40))
            for app in (first, second):
                holes = app.status()["backplane"]["tail"]["holes"]
                assert not any(holes.values()), holes
        with replica.client() as client:
            assert client.info("replication")["role"] == "master"
    finally:
        first.stop()
        second.stop()


@pytest.mark.long
def test_replica_without_the_last_entries(servers: tuple[RedisServer, RedisServer, Sentinel]) -> None:
    """What the new master has never had is put back by a process that has read it, under the same ids."""
    master, replica, sentinel = servers
    app = Guarded(sentinel)
    try:
        with app.open() as stream:
            app.transport.emit("tick", 0)
            stream.until("tick")
            replica.pause()  # it gets nothing more
            for number in range(1, 10):
                app.transport.emit("tick", number)
            ids = [stream.until("tick").id for _ in range(1, 10)]
            master.kill()
            replica.go_on()
            app.transport.emit("tick", 10)
            assert stream.until("tick", 60).data == "10"
        with replica.client() as client:
            kept = [at.decode() for at, _ in client.xrange("{guarded}:log")]
        assert set(ids) <= set(kept)
        assert not any(app.status()["backplane"]["tail"]["holes"].values())
    finally:
        app.stop()
        time.sleep(0)
