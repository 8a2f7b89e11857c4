"""``gunicorn --workers``: several processes of one app, with nothing but a Redis."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from support.redis_server import RedisServer
from support.servers import Server, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gunicorn needs a system that forks")


@pytest.fixture(params=["gunicorn-gthread", "gunicorn-gevent", "gunicorn-gthread --preload"])
def workers(redis_server: RedisServer, request: pytest.FixtureRequest) -> Iterator[Server]:
    kind, *options = str(request.param).split()
    with Server(kind, "--workers", "3", *options, HYBRID_BACKPLANE=redis_server.url) as server:
        yield server


def test_every_worker_serves_every_event(workers: Server) -> None:
    """Streams of all workers get the same events with the same ids, whichever worker emits."""
    streams = [workers.stream() for _ in range(9)]
    for stream in streams:
        stream.read_until(lambda events: events.named("hybrid_open"))
    for _ in range(20):
        assert workers.ask("POST", "/emit", {"event": "tick", "n": 5}).status == 200
    for stream in streams:
        stream.read_until(lambda events: len(events.named("tick")) >= 100)
    first = [(message.id, message.data) for message in streams[0].named("tick")]
    assert len(first) == 100
    for stream in streams[1:]:
        assert [(message.id, message.data) for message in stream.named("tick")] == first
    for stream in streams:
        stream.close()


def test_client_goes_on_at_whichever_worker_it_meets(workers: Server) -> None:
    """Reconnecting again and again, a client gets everything once, in order."""
    got: list[str] = []
    last, before = "", 0
    for turn in range(10):
        stream = workers.stream(headers={"Last-Event-ID": last} if last else {})
        stream.read_until(lambda events: events.named("hybrid_open"))
        assert workers.ask("POST", "/emit", {"event": "tick", "n": 3}).status == 200
        stream.read_until(lambda events, wanted=3 * turn + 2 - before: len(events.named("tick")) >= wanted)
        assert not stream.named("hybrid_gap")
        seen = stream.named("tick")
        got += [message.id for message in seen]
        last, before = seen[-1].id, len(got)
        stream.close()
    assert len(got) == len(set(got))
    places = [tuple(map(int, item.split("-"))) for item in got]
    assert places == sorted(places)
    wait_until(lambda: workers.status()["backplane"]["state"] == "live", what="a worker says how it stands")
