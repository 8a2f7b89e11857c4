"""Batches: a stream may ask for at most one batch of events each interval."""

from __future__ import annotations

import pytest
from support.hubs import client_of
from support.log_and_hub import LogAndHub

from hakgal_hybrid.broker.interval import Batches, BatchReader, interval_of
from hakgal_hybrid.broker.sse import Decoder


def taken(reader: BatchReader) -> list[str]:
    """Return the data of what a stream gives now."""
    return [message.data for message in Decoder().feed(reader.take())]


def test_a_batch_begins_at_once_and_the_next_an_interval_later() -> None:
    """What comes first after a pause waits for nothing; what comes meanwhile comes together, in order."""
    house = LogAndHub()
    reader = BatchReader(house.open(interval_ms=200))
    assert taken(reader) == []  # as a writer does that has just sent the opening
    house.emit("e", 0)
    assert taken(reader) == ["0"]
    for number in (1, 2, 3):
        house.now += 0.05
        house.emit("e", number)
        assert taken(reader) == []
        assert reader.rest_s == pytest.approx(0.2 - 0.05 * number)
    house.now += 0.05
    assert reader.rest_s == 0
    assert taken(reader) == ["1", "2", "3"]
    house.now += 60
    house.emit("e", 4)
    assert taken(reader) == ["4"]


def test_a_batch_holds_the_newest_state_only() -> None:
    """Of a conflated name a batch has one event for each target, however many targets share the stream."""
    house = LogAndHub()
    stream = house.open(interval_ms=200)
    sid, reader = client_of(stream).sid, BatchReader(stream)
    assert taken(reader) == []
    for number in range(5):
        house.emit("load", number)
        house.emit("e", number)
        house.emit("load", 10 + number, to=sid)
    house.now += 0.2
    assert taken(reader) == ["0", "1", "2", "3", "4", "4", "14"]


def test_a_state_of_the_next_batch_does_not_stand_for_one_of_this() -> None:
    """A stream that is slower than the events comes to see each batch's newest, and not none for ever."""
    house = LogAndHub()
    batches = Batches(house.log, 0.2)
    stream = house.open()
    house.emit("load", 1)
    batches.begin()
    house.emit("load", 2)
    assert b"data: 1" in stream.take(upto=batches.upto)
    batches.begin()
    assert b"data: 2" in stream.take(upto=batches.upto)


def test_a_large_batch_is_given_piece_by_piece() -> None:
    """Its pieces follow each other at once; what comes meanwhile belongs to the next."""
    house = LogAndHub(max_bytes=64 << 20)
    reader = BatchReader(house.open(interval_ms=200))
    for number in range(4):
        house.emit("e", [number, "x" * 200_000])
    got = []
    while data := reader.take():
        got.append(len(Decoder().feed(data)))
        house.emit("e", "late")
        assert reader.rest_s == (0 if sum(got) < 4 else pytest.approx(0.2))
    assert got == [2, 2]
    house.now += 0.2
    assert taken(reader) == ['"late"', '"late"']


def test_no_event_is_dropped_while_a_stream_waits() -> None:
    """If the log is full and drops events, the interval is cut short: nothing is missing."""
    house = LogAndHub(max_events=20)
    reader = BatchReader(house.open(interval_ms=10_000))
    got = []
    for number in range(200):
        house.emit("e", number)
        got += taken(reader)
    house.now += 10
    assert got + taken(reader) == [str(number) for number in range(200)]
    assert house.gaps == []


def test_the_age_limit_of_events_bounds_the_interval() -> None:
    """An interval longer than events may be old would make each a gap."""
    house = LogAndHub()
    stream = house.open(interval_ms=10_000)
    stream.options = stream.options._replace(max_backlog_s=4)
    assert interval_of(stream) == 2


def test_without_an_interval_events_come_as_they_are() -> None:
    """The default is none; a stream that asks for 0 has none where others have one."""
    house = LogAndHub()
    stream = house.open(interval_ms=0)
    stream.options = stream.options._replace(interval_ms=500)
    reader = BatchReader(stream)
    for number in range(3):
        house.emit("e", number)
        assert taken(reader) == [str(number)]
    other = house.open()
    other.options = stream.options
    assert interval_of(other) == 0.5
