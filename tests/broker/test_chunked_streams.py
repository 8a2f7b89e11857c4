"""Streams in chunks: framed once for all that get the same bytes, and beside them those without chunks."""

from __future__ import annotations

from support.hubs import carried, make_hub
from support.servers import Dechunker

from hakgal_hybrid.broker.blocks import encode_entry
from hakgal_hybrid.broker.event import Event, Target
from hakgal_hybrid.broker.live import LiveGroup
from hakgal_hybrid.broker.log import EventLog
from hakgal_hybrid.broker.states import StreamEnd
from hakgal_hybrid.broker.stream import Shared, SubscriberStream
from hakgal_hybrid.broker.subscription import StreamRequest
from hakgal_hybrid.settings import load_settings


class Member:
    """What writes a stream that keeps up."""

    def __init__(self, stream: SubscriberStream) -> None:
        self.stream = stream


class House:
    """A hub, and streams of it."""

    def __init__(self) -> None:
        log = EventLog(epoch=1, clock=lambda: 0.0, wall_ms=lambda: 0, encode=encode_entry, max_events=100,
                       max_bytes=1 << 20, max_event_bytes=1 << 16)
        self.hub = make_hub(log)
        self.settings = load_settings({}, {})

    def open(self, *, chunked: bool) -> SubscriberStream:
        session = self.hub.new_session({})
        self.hub.admit(session, {}, "/")
        stream = carried(SubscriberStream(session, self.hub, self.settings, StreamRequest()))
        stream.content.chunked = chunked
        return stream

    def emit(self, *numbers: int) -> None:
        for number in numbers:
            self.hub.broker.publish(Event.create("note", (number,), Target.create()))


def test_streams_that_keep_up_share_framed_bytes() -> None:
    """All with chunks are sent one object, all without chunks another one; both carry the same events."""
    house = House()
    group = LiveGroup(house.hub, 60)
    for chunked in (True, True, False, False):
        stream = house.open(chunked=chunked)
        stream.opening()
        assert group.join(Member(stream))
    house.emit(1, 2)
    deliveries = group.step().deliveries
    assert sorted(len(delivery.members) for delivery in deliveries) == [2, 2]
    by_kind = {delivery.members[0].stream.content.chunked: delivery.data for delivery in deliveries}
    assert Dechunker().feed(by_kind[True]) == by_kind[False]
    assert by_kind[False].count(b"event: note\n") == 2


def test_streams_that_catch_up_share_framed_bytes() -> None:
    """Of those at the same place, those with chunks take the same object, and the others another one."""
    house = House()
    streams = [house.open(chunked=chunked) for chunked in (True, True, False, False)]
    for stream in streams:
        stream.opening()
    house.emit(1, 2)
    shared: Shared = {}
    framed, same, plain, also = [stream.take(shared, house.hub.log.newest) for stream in streams]
    assert framed is same
    assert plain is also
    assert Dechunker().feed(framed) == plain


def test_all_that_a_stream_is_sent_is_chunks() -> None:
    """Opening, events, heartbeat, farewell and end together are one body, complete only if its client is done."""
    house = House()
    stream = house.open(chunked=True)
    parts = [stream.opening()]
    house.emit(1)
    parts += [stream.take(), stream.take(), stream.heartbeat(), stream.bye()]
    dechunker = Dechunker()
    text = dechunker.feed(b"".join(parts))
    assert not dechunker.ended
    assert [line for line in text.decode().split("\n") if line.startswith("event: ")] == [
        "event: hybrid_open", "event: note", "event: hybrid_heartbeat", "event: hybrid_bye"]
    assert not stream.end(StreamEnd.STOPPED)
    assert not stream.end(StreamEnd.REPLACED)
    assert dechunker.feed(stream.end(StreamEnd.DISCONNECTED)) == b""
    assert dechunker.ended
    assert not house.open(chunked=False).end(StreamEnd.DISCONNECTED)
