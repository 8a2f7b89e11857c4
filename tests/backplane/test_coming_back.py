"""Redis loses what processes say of themselves: they say it again, and nobody takes one for gone meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.redis_server import RedisServer
from support.shared_apps import App, Host, until

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.broker.backplane.listener import Listener, Population
from hakgal_hybrid.broker.backplane.messages import RETURN_S, Messages
from hakgal_hybrid.broker.backplane.presence import EACH_S, Presence
from hakgal_hybrid.broker.backplane.shared_log import START, Position
from hakgal_hybrid.commands.backplane.connecting import connector
from hakgal_hybrid.commands.backplane.redis_log import LogOptions, RedisLog
from hakgal_hybrid.commands.backplane.requests import LOOK
from hakgal_hybrid.host.edge import create_app

#: What the process of these tests is called, and another one.
ME, OTHER = "a" * 16, "b" * 16


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that a test may kill."""
    running = RedisServer(tmp_path)
    yield running
    running.kill()


class Edge(App):
    """An edge of the host."""

    def __init__(self, server: RedisServer) -> None:
        self.flask = create_app(backplane=server.url, backplane_name="shared", flush_s=0, queue_s=20)
        self.transport = HybridTransport.of(self.flask)


@pytest.fixture
def pair(own_redis: RedisServer) -> Iterator[tuple[Host, Edge]]:
    host, edge = Host(own_redis), Edge(own_redis)
    host.socketio.on_event("echo", lambda *args: args)
    for app in (host, edge):
        app.transport.node.begin()
    until(lambda: host.status()["backplane"]["state"] == edge.status()["backplane"]["state"] == "live")
    yield host, edge
    edge.stop()
    host.stop()


def flushed(server: RedisServer) -> None:
    with server.client() as client:
        client.flushall()


def started_again(server: RedisServer) -> None:
    server.kill()
    server.start()


@pytest.mark.parametrize("lose", [flushed, started_again])
def test_nobody_is_taken_for_gone(lose: Callable[[RedisServer], None], own_redis: RedisServer,
                                  pair: tuple[Host, Edge]) -> None:
    """Requests that come just after are answered, a new client is let in, and the edge's clients have not ended."""
    host, edge = pair
    ended: list[str] = []
    host.socketio.on_event("disconnect", ended.append)
    stream = edge.open()
    lose(own_redis)
    neighbours, backplane = host.transport.node.neighbours, edge.transport.node.backplane
    assert neighbours is not None
    assert backplane is not None
    neighbours.requests.post(backplane.process, [LOOK, backplane.process])
    answer = edge.flask.test_client().post(
        "/api/events/emit", json={"sid": stream.open["sid"], "event": "echo", "args": [1]},
        headers={"X-Hybrid-Token": stream.open["token"]})
    assert (answer.status_code, answer.get_json()["ack"]) == (200, [1])
    until(lambda: backplane.reachable)
    edge.open().close()
    host.socketio.emit("after")
    assert stream.until("after")
    assert not ended


# -- what a process says of itself ------------------------------------------------------------------------------------


class Process(Listener):
    """What a process says of itself, with a clock that stands still."""

    def __init__(self, server: RedisServer) -> None:
        self._server, self.position, self.clients, self.now = server, Position(1, 1), 0, 0.0
        self.presence = Presence(lambda: self.position, lambda: self.now)
        self.presence.listener = self
        self.log = self.connected()

    def connected(self) -> RedisLog:
        return connector(self._server.url, LogOptions("s", "app", ME), "test")()

    def population(self) -> Population:
        return Population("host", self.clients, 0)

    def says(self, *, settling: bool = False) -> bool:
        """Have it say that it is there, if it is time; return whether Redis, which had lost it, has it now."""
        with self._server.client() as client:
            client.delete("{s}:here:" + ME, "{s}:here")
            self.presence.say(self.log, settling=settling)
            assert client.exists("{s}:here:" + ME) == client.exists("{s}:here")
            return bool(client.exists("{s}:here"))


def test_it_is_said_at_once_where_it_may_be_lost(redis_server: RedisServer) -> None:
    """A process says that it is there over each new connection, in each new generation, and while the log settles."""
    process = Process(redis_server)
    assert process.says()
    assert not process.says()
    process.log = process.connected()
    assert process.says()
    assert not process.says()
    process.position = Position(2, 0)  # it has missed that the log settled
    assert process.says()
    assert not process.says()
    assert process.says(settling=True)
    assert not process.says(settling=True)
    process.now += 1
    assert process.says(settling=True)
    assert process.says()
    assert not process.says()
    process.now += EACH_S
    assert process.says()


def test_messages_come_also_if_the_clock_of_redis_goes_back(redis_server: RedisServer) -> None:
    """After a flush, messages whose ids are lower than those before it are read over the same connection."""
    process = Process(redis_server)
    process.presence.say(process.log, settling=False)
    with redis_server.client() as client:
        later = (client.time()[0] + 3600) * 1000
        client.xadd("{s}:to:" + ME, {"p": "first"}, id=f"{later}-0")
        assert process.log.tail(START, 0.01).messages == [b"first"]
        client.flushall()
    assert process.says(settling=True)
    assert process.connected().to(ME, b"second")
    assert process.log.tail(START, 0.01).messages == [b"second"]


# -- what is sent to a process ----------------------------------------------------------------------------------------


class Sent:
    """Messages, a clock that stands still, and a Redis that knows some processes."""

    def __init__(self, server: RedisServer) -> None:
        self.now, self.undelivered = 0.0, list[bytes]()
        self.messages = Messages(self.undelivered.append, lambda: self.now)
        self.log = connector(server.url, LogOptions("s", "app", ""), "test")()
        self._server, self._readers = server, dict[str, RedisLog]()

    def there(self, process: str) -> None:
        self._readers[process] = connector(self._server.url, LogOptions("s", "app", process), "test")()
        self._readers[process].here("{}", 30)

    def got(self, process: str) -> list[Any]:
        return self._readers[process].tail(START, 0.01).messages


def test_what_is_for_one_that_is_gone_comes_back(redis_server: RedisServer) -> None:
    """A message for a process that is not there is undelivered at once; others are sent."""
    sent = Sent(redis_server)
    sent.there(OTHER)
    sent.messages.put(ME, b"1")
    sent.messages.put(OTHER, b"2")
    assert sent.messages.send(sent.log)
    assert not sent.messages
    assert sent.undelivered == [b"1"]
    assert sent.got(OTHER) == [b"2"]


def test_what_is_for_one_that_may_come_back_waits(redis_server: RedisServer) -> None:
    """After a return of the log, messages for a missing process wait for it, in order, and hold up no other's."""
    sent = Sent(redis_server)
    sent.there(OTHER)
    sent.messages.doubt()
    for message in (b"1", b"2"):
        sent.messages.put(ME, message)
    sent.messages.put(OTHER, b"3")
    assert not sent.messages.send(sent.log)
    assert sent.messages
    assert sent.got(OTHER) == [b"3"]
    sent.there(ME)
    sent.messages.put(ME, b"4")
    assert sent.messages.send(sent.log)
    assert sent.got(ME) == [b"1", b"2", b"4"]
    assert not sent.undelivered


def test_one_that_does_not_come_back_is_gone(redis_server: RedisServer) -> None:
    """What has waited for a process for as long as one takes to come back is undelivered."""
    sent = Sent(redis_server)
    sent.messages.doubt()
    sent.messages.put(ME, b"1")
    assert not sent.messages.send(sent.log)
    sent.now += RETURN_S
    assert sent.messages.send(sent.log)
    assert sent.undelivered == [b"1"]
