"""A process begins to read the shared log: a client that comes meanwhile keeps its id, or is asked to wait."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from support.redis_server import RedisServer
from support.shared_apps import Host, until

from hakgal_hybrid.broker import shared_broker
from hakgal_hybrid.broker.backplane.payloads import event_payload
from hakgal_hybrid.broker.backplane.shared_log import START, Append, Appended, Item, Position
from hakgal_hybrid.broker.event import Event
from hakgal_hybrid.commands.backplane.connecting import connector
from hakgal_hybrid.commands.backplane.redis_log import LogOptions
from hakgal_hybrid.errors import Overloaded
from hakgal_hybrid.signals import events_lost
from hakgal_hybrid.testing import collect


@pytest.fixture
def lasting_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that keeps what it has over a kill."""
    running = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    yield running
    running.kill()


def emitted(host: Host, *numbers: int) -> str:
    """Have a host emit, and return the id that a stream of it has come to."""
    stream = host.open()
    for number in numbers:
        host.socketio.emit("number", number)
    for number in numbers:
        assert stream.json(stream.until("number")) == number
    stream.close()
    return stream.last_event_id


@pytest.mark.parametrize("action", ["find_hosts", "host"])
def test_what_others_have_asked_for_does_not_hold_it_up(action: str, redis_server: RedisServer,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader's thread never waits for itself, whatever it reads at the beginning."""
    first = Host(redis_server)
    seen = emitted(first, 1)
    broker = first.transport.node.backplane
    assert broker is not None
    for number in range(20):
        broker.elsewhere(action, process=f"{number:016x}", **({"decides": {}} if action == "host" else {}))
    newest = emitted(first, 2)
    monkeypatch.setattr(shared_broker, "BEGIN_S", 60)
    late = Host(redis_server)
    late.transport.node.begin()
    until(lambda: late.status()["backplane"]["state"] == "live")
    with late.open(headers={"Last-Event-ID": seen}) as stream:
        message = stream.next()
        assert (message.event, message.data, stream.last_event_id) == ("number", "2", newest)
    first.stop()
    late.stop()


def test_who_comes_before_it_has_begun_comes_again(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told that what it has seen is unknown, or given as new what is not, while that is still being read."""
    first = Host(redis_server)
    seen = emitted(first, 1)
    emitted(first, 2, 3)
    monkeypatch.setattr(shared_broker, "BEGIN_S", 0.1)
    late = Host(redis_server)
    backplane, client = late.transport.node.backplane, late.flask.test_client()
    assert backplane is not None
    with late.transport.node.log.held():  # so its reader's thread comes no further
        late.transport.node.begin()
        until(lambda: backplane.position() is not None)
        refused(client, seen)
    until(lambda: late.status()["backplane"]["state"] == "live")
    with late.open(headers={"Last-Event-ID": seen}) as stream:
        assert [stream.next().data for _ in range(2)] == ["2", "3"]
    with late.open() as stream:
        late.socketio.emit("number", 4)
        assert stream.next().data == "4"
    first.stop()
    late.stop()


def refused(client: FlaskClient, seen: str) -> None:
    """Have every kind of client told that it is to come again."""
    elsewhere = client.get("/api/events/stream?ticket=0123456789abcdef~none", headers={"Accept": "application/json"})
    assert (elsewhere.status_code, elsewhere.get_json()["code"]) == (503, "behind")
    for headers in ({"Last-Event-ID": seen}, {"Last-Event-ID": "99999999999999-1"}, {}):
        answer = client.get("/api/events/stream", headers={"Accept": "application/json", **headers})
        assert (answer.status_code, answer.get_json()["code"]) == (503, "behind")
        assert "Retry-After" in answer.headers
    with client.get("/api/events/stream", headers={"Accept": "text/event-stream", "Last-Event-ID": seen}) as answer:
        assert "event: hybrid_busy\n" in answer.get_data(as_text=True)
        assert "id:" not in answer.get_data(as_text=True)


def test_ids_do_not_go_back_while_redis_is_away(lasting_redis: RedisServer) -> None:
    """A process that begins without Redis gives no id, and tells of what it has not seen as soon as it can."""
    first = Host(lasting_redis)
    seen = emitted(first, 1)
    first.stop()
    lasting_redis.kill()
    late = Host(lasting_redis, HYBRID_HEARTBEAT_S=1)
    late.transport.node.begin()
    until(lambda: late.status()["backplane"]["state"] == "away")
    old, new = late.open(headers={"Last-Event-ID": seen}), late.open()
    gap = old.next()
    assert (gap.event, old.json(gap)) == ("hybrid_gap", {"missed": None, "reason": "restarted", "resume_from": seen})
    for stream, id_ in ((old, seen), (new, "")):
        for _ in range(2):  # one comes before ``hybrid_status`` perhaps, one after it
            stream.until("hybrid_heartbeat")
        assert stream.last_event_id == id_
    lasting_redis.start()
    for stream in (old, new):
        gap = stream.until("hybrid_gap")
        assert stream.json(gap)["reason"] == "trimmed"
        assert Position.parse(stream.last_event_id) >= Position.parse(seen)
        assert stream.json(gap)["resume_from"] == stream.last_event_id
    late.socketio.emit("number", 2)
    for stream in (old, new):
        assert stream.until("number").data == "2"
        assert Position.parse(stream.last_event_id) > Position.parse(seen)
        stream.close()
    with late.open(headers={"Last-Event-ID": seen}) as again:
        assert again.until("number").data == "2"
    late.stop()


def test_what_was_emitted_before_is_no_news(redis_server: RedisServer) -> None:
    """A process that begins sends ``event_emitted`` and ``events_lost`` only for what comes from then on."""
    first = Host(redis_server)
    emitted(first, 1)
    log = connector(redis_server.url, LogOptions("shared", "shared"), "test")()
    payload = event_payload(Event.create("number", (2,)), 0)  # of a process that has lost the two before it
    assert isinstance(log.append(Append(START, "other", 0, "", "token", 0, [Item(3, 2, payload)])), Appended)
    log.close()
    late, lost = Host(redis_server), list[object]()
    with (collect(late.transport) as collected,
          events_lost.connected_to(lambda sender, **what: lost.append(what), sender=late.flask)):
        with late.open() as stream:
            late.socketio.emit("number", 3)
            stream.until("number")
        until(lambda: collected)
        assert [item.args for item in collected] == [[3]]
    assert not lost
    assert not any(late.status()["backplane"]["tail"]["holes"].values())
    first.stop()
    late.stop()


def test_what_is_read_once_redis_is_back_is_waited_for(lasting_redis: RedisServer) -> None:
    """A process that could not begin, and had no client then, reads what was before as any other: nobody sees half."""
    first = Host(lasting_redis)
    seen = emitted(first, 1)
    emitted(first, 2, 3)
    first.stop()
    lasting_redis.kill()
    late = Host(lasting_redis)
    backplane, client = late.transport.node.backplane, late.flask.test_client()
    assert backplane is not None
    late.transport.node.begin()
    until(lambda: late.status()["backplane"]["state"] == "away")
    with late.transport.node.log.held():
        lasting_redis.start()
        until(lambda: backplane.position() is not None)
        assert client.get("/api/hybrid/ready").get_json()["state"] == "starting"
        with pytest.raises(Overloaded, match="still reads what was emitted before"):
            late.socketio.test_client(late.flask)
        refused(client, seen)
    until(lambda: late.status()["backplane"]["state"] == "live")
    assert client.get("/api/hybrid/ready").status_code == 200
    with late.open(headers={"Last-Event-ID": seen}) as stream:
        assert [stream.next().data for _ in range(2)] == ["2", "3"]
    late.stop()
