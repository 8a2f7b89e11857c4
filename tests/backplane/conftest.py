"""What the tests of the backplane share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.redis_server import RedisServer
from support.shared_apps import Host

from hakgal_hybrid.broker.backplane.shared_log import START, Settling
from hakgal_hybrid.commands.backplane.redis_log import LogOptions, RedisLog


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis for the tests of one module."""
    running = RedisServer(tmp_path_factory.mktemp("redis"))
    try:
        yield running
    finally:
        running.kill()


@pytest.fixture
def redis_server(server: RedisServer) -> RedisServer:
    """The same, with nothing but logs that take what is sent: a new one waits for two seconds first."""
    with server.client() as client:
        client.flushall()
        for name in ("shared", "edges", "dashboard"):
            log = RedisLog(client, LogOptions(name, settle_ms=1))
            while isinstance(log.look(START), Settling):
                pass
    return server


@pytest.fixture
def hosts(redis_server: RedisServer) -> Iterator[tuple[Host, Host]]:
    pair = Host(redis_server), Host(redis_server)
    yield pair
    for host in pair:
        host.stop()
