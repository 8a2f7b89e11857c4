"""EventLog and Cursor: what every reader gets, and what it is told of the rest."""

from __future__ import annotations

import itertools
import json
import sys
import threading
from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.hubs import admit, carried, client_of, make_hub

from hakgal_hybrid.broker import reading as feed_module
from hakgal_hybrid.broker.blocks import encode_entry
from hakgal_hybrid.broker.client import Client
from hakgal_hybrid.broker.cursor import Cursor
from hakgal_hybrid.broker.entry import Entry, Gap
from hakgal_hybrid.broker.event import Event, Target, glob_matcher
from hakgal_hybrid.broker.formats import Format
from hakgal_hybrid.broker.hub import Hub
from hakgal_hybrid.broker.log import EventLog
from hakgal_hybrid.broker.sse import Decoder
from hakgal_hybrid.broker.stream import SubscriberStream
from hakgal_hybrid.broker.subscription import StreamOptions, StreamRequest
from hakgal_hybrid.errors import EventError

EPOCH = 1755412806000
ALL = 1 << 30


class Clock:
    """A monotonic clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def make_log(*, clock: Clock | None = None, max_events: int = 100, max_bytes: int = 100_000,
             max_event_bytes: int = 10_000, conflate: tuple[str, ...] = ("load*",)) -> EventLog:
    return EventLog(epoch=EPOCH, clock=clock or Clock(), wall_ms=lambda: EPOCH + 5, encode=encode_entry,
                    max_events=max_events, max_bytes=max_bytes, max_event_bytes=max_event_bytes,
                    conflates=glob_matcher(conflate))


def put(log: EventLog, name: str = "e", *args: Any, **target: Any) -> int:
    return log.append(Event.create(name, args, Target.create(**target))).seq


def everything(seq: int, name: str | None, target: Target) -> bool:
    return True


def reader(log: EventLog, hub: Hub, namespace: str = "/") -> tuple[Client, Cursor]:
    client = admit(hub, namespace)
    return client, Cursor(log, log.newest, lambda seq, name, target: client.is_for(seq, target))


def numbers(cursor: Cursor, max_bytes: int = ALL) -> list[int]:
    """Read once, expecting no gap."""
    batch = cursor.read(max_bytes=max_bytes)
    assert batch.gap is None
    return [entry.seq for entry in batch.entries]


# -- appending and dropping ------------------------------------------------------------------------------------

def test_ids_count_up_within_one_epoch():
    """An id is the epoch of this life and a number that grows by one."""
    log = make_log()
    assert [log.id_of(put(log)) for _ in range(3)] == [f"{EPOCH}-1", f"{EPOCH}-2", f"{EPOCH}-3"]


def test_entry_carries_what_readers_need():
    """An entry has its number, both times, the event and its bytes, encoded once under its own id."""
    clock = Clock()
    log = make_log(clock=clock)
    event = Event.create("kb", ({"n": 1},))
    entry = log.append(event)
    assert (entry.seq, entry.at, entry.ts, entry.event) == (1, 1000.0, EPOCH + 5, event)
    assert entry.frame == f'id: {EPOCH}-1\nevent: kb\ndata: {{"n":1}}\n\n'.encode()
    assert log.entry(1) is entry
    assert log.entry(2) is None


def test_oldest_go_when_there_are_too_many():
    """The log keeps at most max_events events, the newest ones."""
    log = make_log(max_events=3)
    for _ in range(5):
        put(log)
    assert (log.oldest, log.newest) == (3, 5)
    assert [entry.seq for entry in log.since(0)[1]] == [3, 4, 5]
    assert log.entry(2) is None


def test_oldest_go_when_they_take_too_many_bytes():
    """The log keeps at most max_bytes encoded bytes; one large event may cost several small ones."""
    log = make_log(max_bytes=1000)
    frames = [log.append(Event.create("e")).frame for _ in range(10)]
    assert log.oldest == 1
    frames.append(log.append(Event.create("e", ("x" * 800,))).frame)
    held = sum(map(len, frames[log.oldest - 1:]))
    assert log.statistics().bytes == held
    assert held <= 1000 < held + len(frames[log.oldest - 2])
    assert [entry.seq for entry in log.since(0)[1]] == list(range(log.oldest, 12))


def test_statistics_add_up():
    """Held events and bytes are what is there now, the rest counts since the beginning."""
    log = make_log(max_events=3)
    for number in range(5):
        put(log, "e", number)
    statistics = log.statistics()
    assert (statistics.events, statistics.appended, statistics.evicted) == (3, 5, 2)
    assert statistics.bytes == sum(len(entry.frame) for entry in log.since(0)[1])


def test_memory_does_not_grow_with_what_was_dropped():
    """Of dropped events nothing is kept but a bounded number of records about those that were not for everybody."""
    log = make_log(max_events=3)
    for number in range(100):
        put(log, f"e{number}", to=f"room{number}")
    assert len(log.newest_of_names(log.newest, everything)) == 3
    assert log.missed(0, 97, everything) is None
    assert log.missed(93, 97, everything) is None
    assert log.missed(94, 97, everything) == 3


@pytest.mark.parametrize("payload", ["x" * 200, "\u00e9" * 90], ids=["before encoding", "after encoding"])
def test_event_that_is_too_large_changes_nothing(payload):
    """An event over max_event_bytes is refused with 413, and the log is as it was."""
    log = make_log(max_event_bytes=150)
    put(log, "load")
    put(log, "load", to="room")
    before = log.statistics(), log.newest, log.oldest, log.last_partial, [vars_of(entry) for entry in log.since(0)[1]]
    for name in ("e", "load"):
        with pytest.raises(EventError, match="HYBRID_MAX_EVENT_BYTES") as caught:
            put(log, name, payload, to="room")
    assert (caught.value.status, caught.value.code) == (413, "event_too_large")
    after = log.statistics(), log.newest, log.oldest, log.last_partial, [vars_of(entry) for entry in log.since(0)[1]]
    assert after == before
    assert put(log) == 3


def vars_of(entry: Any) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in entry.__slots__}


def test_event_of_exactly_the_limit_is_accepted():
    """The limit is on the encoded bytes, and inclusive."""
    size = len(encode_entry(Event.create("e", ("x" * 50,)), f"{EPOCH}-1"))
    put(make_log(max_event_bytes=size), "e", "x" * 50)
    with pytest.raises(EventError):
        put(make_log(max_event_bytes=size - 1), "e", "x" * 50)


# -- resuming --------------------------------------------------------------------------------------------------

def test_resume_gives_everything_after_an_id():
    """A reader that comes back gets what it has not seen, once, in order."""
    log = make_log()
    for _ in range(5):
        put(log)
    for seen in range(6):
        position, gap = log.resume(f"{EPOCH}-{seen}")
        assert (position, gap) == (seen, None)
        assert numbers(Cursor(log, position, everything)) == list(range(seen + 1, 6))


def test_resume_of_what_was_dropped_is_told_by_the_first_read():
    """An id that is no longer followed by everything is resumed; the first read counts what is missing."""
    log = make_log(max_events=3)
    for _ in range(10):
        put(log)
    position, gap = log.resume(f"{EPOCH}-2")
    assert (position, gap) == (2, None)
    batch = Cursor(log, position, everything).read(max_bytes=ALL)
    assert batch.gap == Gap(7, 5, "evicted")
    assert [entry.seq for entry in batch.entries] == [8, 9, 10]


@pytest.mark.parametrize("epoch", [EPOCH - 1, EPOCH + 1, 0, 1, 10 ** 15 - 1])
def test_resume_from_another_life(epoch):
    """An id of another epoch, whether smaller or larger, gets what is retained after a gap of unknown size."""
    log = make_log(max_events=3)
    for _ in range(5):
        put(log)
    position, gap = log.resume(f"{epoch}-5")
    assert (position, gap) == (2, Gap(2, None, "restarted"))
    batch = Cursor(log, position, everything, gap).read(max_bytes=ALL)
    assert batch.gap == gap
    assert [entry.seq for entry in batch.entries] == [3, 4, 5]


def test_resume_from_the_future():
    """An id of this life that was never given goes on with what comes next."""
    log = make_log()
    put(log)
    assert log.resume(f"{EPOCH}-2") == (1, Gap(1, None, "future"))
    assert log.resume(f"{EPOCH}-{10 ** 18 - 1}") == (1, Gap(1, None, "future"))


@pytest.mark.parametrize("last_event_id", [
    "", "x", "-", "1", "1-", "-1", "1-2-3", "1.5-2", "+1-2", "1--2", " 1-2", "1-2 ", "1-2\n", f"{EPOCH}", f"{EPOCH}-x",
    f"{EPOCH}-1\0", "\u0661-\u0662", "\u00b2-1", "1_0-1", "9" * 16 + "-1", "1-" + "9" * 19, "9" * 100_000 + "-1",
    f"{EPOCH}-" + "1" * 100_000, "\ud800", "0x1-1",
    "01-1", "1-01", f"0{EPOCH}-1", f"{EPOCH}-00",
], ids=lambda text: ascii(text)[:20])
def test_resume_from_nonsense(last_event_id):
    """What was never one of our ids, however long or clever, goes on with what comes next."""
    log = make_log()
    put(log)
    assert log.resume(last_event_id) == (1, Gap(1, None, "malformed"))


def test_loss_after_a_failed_resume_is_one_gap():
    """A reader hears of one gap at a time: what was dropped since its resume failed adds to that gap."""
    log = make_log(max_events=2)
    put(log)
    position, gap = log.resume("nonsense")
    for _ in range(5):
        put(log)
    batch = Cursor(log, position, everything, gap).read(max_bytes=ALL)
    assert batch.gap == Gap(4, None, "malformed")
    assert [entry.seq for entry in batch.entries] == [5, 6]


# -- reading ---------------------------------------------------------------------------------------------------

def test_reading_twice_gives_nothing_twice():
    """What was read is not read again, and a read without news gives nothing."""
    log = make_log()
    cursor = Cursor(log, 0, everything)
    put(log)
    assert numbers(cursor) == [1]
    assert numbers(cursor) == []
    put(log)
    assert numbers(cursor) == [2]


def test_small_reads_give_the_same_in_pieces():
    """max_bytes splits what is read, at least one event at a time, and loses nothing."""
    log = make_log()
    for number in range(10):
        put(log, "e", "x" * number)
    frame = len(log.since(9)[1][0].frame)
    for max_bytes in (1, frame, 2 * frame):
        cursor = Cursor(log, 0, everything)
        pieces = list(iter(lambda cursor=cursor, size=max_bytes: numbers(cursor, size), []))
        assert [seq for piece in pieces for seq in piece] == list(range(1, 11))
        assert all(sum(len(log.entry(seq).frame) for seq in piece[:-1]) < max_bytes for piece in pieces)
    assert numbers(Cursor(log, 0, everything), 1) == [1]


def test_only_what_is_wanted_is_given():
    """A cursor moves past what is not its own, without a gap."""
    log = make_log(max_events=3)
    cursor = Cursor(log, 0, lambda seq, name, target: target.rooms is None)
    for _ in range(6):
        put(log, to="room")
    assert numbers(cursor) == []
    assert cursor.position == 6


def test_gap_counts_exactly_what_was_for_the_reader():
    """Dropped events for others do not count as missed, whether they were in the drop's beginning, middle or end."""
    log = make_log(max_events=7)
    hub = make_hub(log)
    client, cursor = reader(log, hub)
    hub.enter_room(client.sid, "mine")
    for target in ({"to": "other"}, {}, {"to": "mine"}, {"to": ["mine", "other"]}, {"to": client.sid},
                   {"skip": client.sid}, {"namespace": "/x"}, {"to": ["other", "others"]}, *[{}] * 7):
        put(log, **target)
    batch = cursor.read(max_bytes=ALL)
    assert batch.gap == Gap(8, 4, "evicted")
    assert [entry.seq for entry in batch.entries] == [9, 10, 11, 12, 13, 14, 15]
    assert log.statistics().gaps == 1


def test_no_gap_if_nothing_dropped_was_for_the_reader():
    """A reader that missed nothing of its own is told of no gap."""
    log = make_log(max_events=2)
    _, cursor = reader(log, make_hub(log))
    for _ in range(3):
        put(log, to="other")
    put(log)
    assert numbers(cursor) == [4]
    assert log.statistics().gaps == 0


def test_gap_of_a_filtered_reader_is_of_unknown_size():
    """The names of dropped events are forgotten, so that a filtered reader cannot be told how many were its own."""
    log = make_log(max_events=2)

    def wants(seq: int, name: str | None, target: Target) -> bool:
        if name is None:
            raise LookupError
        return name == "a"

    cursor = Cursor(log, 0, wants)
    for name in "aabb":
        put(log, name)
    batch = cursor.read(max_bytes=ALL)
    assert batch.gap == Gap(2, None, "evicted")
    assert batch.entries == []


def test_gap_that_reaches_beyond_the_records_is_of_unknown_size():
    """For whom an event was is remembered for as many dropped events as the log holds, and no more."""
    log = make_log(max_events=2)
    hub = make_hub(log)
    _, early = reader(log, hub)
    put(log, to="other")
    put(log, to="other")
    _, late = reader(log, hub)
    for _ in range(3):
        put(log, to="other")
    put(log)
    assert late.read(max_bytes=ALL).gap is None
    assert early.read(max_bytes=ALL).gap == Gap(4, None, "evicted")


def test_gap_still_counts_for_a_room_that_was_left():
    """What was sent to a room while the reader was in it counts as missed, however long ago it left that room."""
    log = make_log(max_events=3)
    hub = make_hub(log)
    client, cursor = reader(log, hub)
    hub.enter_room(client.sid, "room")
    put(log, to="room")
    hub.leave_room(client.sid, "room")
    for _ in range(6):
        put(log)
    hub.enter_room(client.sid, "other")
    hub.leave_room(client.sid, "other")
    gap = cursor.read(max_bytes=ALL).gap
    assert gap in (Gap(4, 4, "evicted"), Gap(4, None, "evicted"))  # exact or unknown, but never wrong


# -- rooms -----------------------------------------------------------------------------------------------------

def test_room_joined_late_does_not_show_its_past():
    """A client gets what is sent to a room from its join on, though it has not read so far yet."""
    log = make_log()
    hub = make_hub(log)
    client, cursor = reader(log, hub)
    put(log, to="room")
    hub.enter_room(client.sid, "room")
    put(log, to="room")
    assert numbers(cursor) == [2]


def test_room_that_was_left_still_gives_what_was_sent_before():
    """A client that has not read yet still gets what was sent to a room before it left."""
    log = make_log()
    hub = make_hub(log)
    client, cursor = reader(log, hub)
    hub.enter_room(client.sid, "room")
    put(log, to="room")
    hub.leave_room(client.sid, "room")
    put(log, to="room")
    assert numbers(cursor) == [1]


def test_joining_and_leaving_again_and_again():
    """Every spell in a room counts for itself."""
    log = make_log()
    hub = make_hub(log)
    client, cursor = reader(log, hub)
    for _ in range(3):
        put(log, to="room")
        hub.enter_room(client.sid, "room")
        hub.enter_room(client.sid, "room")
        put(log, to="room")
        hub.leave_room(client.sid, "room")
        hub.leave_room(client.sid, "room")
    assert numbers(cursor) == [2, 4, 6]
    assert client.rooms() == [client.sid]


def test_closing_a_room():
    """A closed room is empty in its namespace, and in no other."""
    log = make_log()
    hub = make_hub(log)
    (here, here_cursor), (there, there_cursor) = reader(log, hub), reader(log, hub, "/x")
    for client in (here, there):
        hub.enter_room(client.sid, "room")
    hub.close_room("room")
    put(log, to="room")
    put(log, to="room", namespace="/x")
    assert numbers(here_cursor) == []
    assert numbers(there_cursor) == [2]


@pytest.mark.parametrize(("target", "got"), [
    ({}, "ab"), ({"to": "/"}, "ab"), ({"to": "room"}, "a"), ({"to": ["room", "nobody"]}, "a"), ({"to": []}, ""),
    ({"namespace": "/x"}, "c"), ({"namespace": "/x", "to": "room"}, ""), ({"to": "nobody"}, ""),
])
def test_targets(target, got):
    """An event reaches the clients of its namespace and rooms, and nobody else."""
    log = make_log()
    hub = make_hub(log)
    readers = {"a": reader(log, hub), "b": reader(log, hub), "c": reader(log, hub, "/x")}
    hub.enter_room(readers["a"][0].sid, "room")
    put(log, **target)
    assert "".join(name for name, (_, cursor) in readers.items() if numbers(cursor)) == got


def test_sid_is_a_room_and_can_be_skipped():
    """One client is addressed by its sid, alone, and left out by its sid, alone."""
    log = make_log()
    hub = make_hub(log)
    (first, first_cursor), (second, second_cursor) = reader(log, hub), reader(log, hub)
    put(log, to=first.sid)
    put(log, skip=first.sid)
    put(log, skip=[first.sid, second.sid])
    assert numbers(first_cursor) == [1]
    assert numbers(second_cursor) == [2]


# -- conflation ------------------------------------------------------------------------------------------------

def test_reader_that_is_behind_gets_the_newest_of_its_kind():
    """Of a conflated name only the newest is given, in its own place, and says for how many it stands."""
    log = make_log()
    cursor = Cursor(log, 0, everything)
    for name in ("load", "e", "load", "e", "load", "e"):
        put(log, name)
    batch = cursor.read(max_bytes=ALL)
    assert [entry.seq for entry in batch.entries] == [2, 4, 5, 6]
    assert batch.conflated == {5: 2}
    assert log.statistics().conflated == 2


def test_single_new_event_is_not_conflated():
    """A reader that keeps up gets every event, each standing for itself."""
    log = make_log()
    cursor = Cursor(log, 0, everything)
    for _ in range(3):
        put(log, "load")
        batch = cursor.read(max_bytes=ALL)
        assert len(batch.entries) == 1
        assert batch.conflated == {}
    assert log.statistics().conflated == 0


class BrokenOff(Exception):
    """What a signal handler raises in the middle of an append."""


def append_broken_off_at(log: EventLog, step: int, event: Event) -> bool:
    """Append an event, and raise at a line of the broker's code, as a signal handler does; false if it has fewer."""
    steps = itertools.count(1)

    def trace(frame: Any, what: str, _: object) -> Any:
        if what == "line" and "hakgal_hybrid" in frame.f_code.co_filename and next(steps) == step:
            sys.settrace(before)
            raise BrokenOff
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        log.append(event)
    except BrokenOff:
        return True
    finally:
        sys.settrace(before)
    return False


def test_append_that_is_broken_off_takes_no_event_with_it():
    """Wherever an append is broken off, each event of the log is given or counted, and a snapshot shows each name."""
    step, broken_off = 0, True
    while broken_off:
        step += 1
        log = make_log()
        put(log, "load")
        broken_off = append_broken_off_at(log, step, Event.create("load"))
        for name in ("e", "load", "other"):
            put(log, name)
        batch = Cursor(log, 0, everything).read(max_bytes=ALL)
        assert [entry.event.name for entry in batch.entries][-3:] == ["e", "load", "other"]
        assert len(batch.entries) + sum(batch.conflated.values()) == log.newest
        assert [entry.event.name for entry in log.newest_of_names(log.newest, everything)] == ["e", "load", "other"]
        assert log.statistics().bytes <= sum(len(entry.frame) for entry in log.since(0)[1])
        log = make_log()
        put(log, "load")
        append_broken_off_at(log, step, Event.create("load"))
        put(log, "e")
        assert [entry.event.name for entry in log.newest_of_names(log.newest, everything)] == ["load", "e"]
    assert step > 20


@pytest.mark.parametrize(("first", "second"), [
    (("load", {}), ("load_gpu", {})),
    (("load", {}), ("load", {"namespace": "/x"})),
    (("load", {}), ("load", {"to": "room"})),
    (("load", {"to": "room"}), ("load", {"to": "other"})),
    (("load", {"to": "room"}), ("load", {"to": ["room", "other"]})),
    (("load", {}), ("load", {"skip": "sid"})),
    (("e", {}), ("e", {})),
])
def test_different_kinds_are_not_conflated(first, second):
    """Only events of one name, namespace and target stand for each other; names that are not listed never do."""
    log = make_log()
    for name, target in (first, second):
        put(log, name, **target)
    assert numbers(Cursor(log, 0, everything)) == [1, 2]


def test_empty_list_conflates_nothing():
    """With no names to conflate every event is given."""
    log = make_log(conflate=())
    for _ in range(3):
        put(log, "load")
    assert numbers(Cursor(log, 0, everything)) == [1, 2, 3]


def test_client_that_left_the_room_gets_the_last_one_that_was_for_it():
    """A later event that does not reach a reader does not stand for an earlier one that does."""
    log = make_log()
    hub = make_hub(log)
    client, cursor = reader(log, hub)
    hub.enter_room(client.sid, "room")
    put(log, "load", to="room")
    put(log, "load", to="room")
    hub.leave_room(client.sid, "room")
    put(log, "load", to="room")
    batch = cursor.read(max_bytes=ALL)
    assert [entry.seq for entry in batch.entries] == [2]
    assert batch.conflated == {2: 1}


def test_client_that_was_out_of_the_room_in_between():
    """The newest event of a kind stands for the earlier ones that were for the reader, and for no others."""
    log = make_log()
    hub = make_hub(log)
    client, cursor = reader(log, hub)
    for join in (True, False, True):
        (hub.enter_room if join else hub.leave_room)(client.sid, "room")
        put(log, "load", to="room")
    batch = cursor.read(max_bytes=ALL)
    assert [entry.seq for entry in batch.entries] == [3]
    assert batch.conflated == {3: 1}


def test_count_is_kept_over_small_reads():
    """What was left out in one read is counted with the survivor that a later read gives."""
    log = make_log()
    cursor = Cursor(log, 0, everything)
    for name in ("load", "e", "load", "e", "load"):
        put(log, name)
    assert numbers(cursor, 1) == [2]
    assert not cursor.plain
    assert numbers(cursor, 1) == [4]
    batch = cursor.read(max_bytes=1)
    assert ([entry.seq for entry in batch.entries], batch.conflated) == ([5], {5: 2})
    assert cursor.plain


def test_what_stood_for_a_lost_event_is_accounted():
    """If the survivor is dropped before it was read, the ones it would have stood for count as missed too."""
    log = make_log(max_events=3)
    cursor = Cursor(log, 0, everything)
    for name in ("load", "e", "load"):
        put(log, name)
    assert numbers(cursor, 1) == [2]
    for _ in range(4):
        put(log)
    batch = cursor.read(max_bytes=ALL)
    assert batch.gap == Gap(4, 3, "evicted")
    assert [entry.seq for entry in batch.entries] == [5, 6, 7]
    assert cursor.plain


def test_newest_of_names():
    """The newest wanted event of every name that is still retained is found, in order, up to a number."""
    log = make_log(max_events=6)
    put(log, "gone")
    for name, target in (("a", {}), ("b", {}), ("a", {"to": "room"}), ("a", {"to": "room"}), ("b", {}), ("c", {})):
        put(log, name, **target)

    def public(seq: int, name: str | None, target: Target) -> bool:
        return target.rooms is None

    assert [entry.seq for entry in log.newest_of_names(log.newest, public)] == [2, 6, 7]
    assert [entry.seq for entry in log.newest_of_names(5, public)] == [2, 3]
    assert [entry.seq for entry in log.newest_of_names(log.newest, everything)] == [5, 6, 7]
    assert log.newest_of_names(0, everything) == []


# -- age -------------------------------------------------------------------------------------------------------

def test_what_is_too_old_becomes_a_gap():
    """A reader with an age limit skips what is older, is told how much that was, and goes on with the rest."""
    clock = Clock()
    log = make_log(clock=clock)
    hub = make_hub(log)
    _, cursor = reader(log, hub)
    for target in ({}, {}, {"to": "other"}):
        put(log, **target)
    clock.now += 61
    put(log)
    batch = cursor.read(max_bytes=ALL, min_at=clock.now - 60)
    assert batch.gap == Gap(3, 2, "slow")
    assert [entry.seq for entry in batch.entries] == [4]


def test_what_is_exactly_as_old_as_allowed_is_given():
    """The limit is inclusive."""
    clock = Clock()
    log = make_log(clock=clock)
    put(log)
    clock.now += 60
    batch = Cursor(log, 0, everything).read(max_bytes=ALL, min_at=clock.now - 60)
    assert batch.gap is None
    assert len(batch.entries) == 1


def test_what_is_dropped_and_what_is_too_old_is_one_gap():
    """Dropped and too old events are told together."""
    clock = Clock()
    log = make_log(clock=clock, max_events=3)
    for _ in range(5):
        put(log)
    clock.now += 61
    put(log)
    batch = Cursor(log, 0, everything).read(max_bytes=ALL, min_at=clock.now - 60)
    assert batch.gap == Gap(5, 5, "slow")
    assert [entry.seq for entry in batch.entries] == [6]


def test_what_is_old_but_not_for_the_reader_is_no_gap():
    """Old events of others are passed over silently."""
    clock = Clock()
    log = make_log(clock=clock)
    _, cursor = reader(log, make_hub(log))
    put(log, to="other")
    clock.now += 61
    batch = cursor.read(max_bytes=ALL, min_at=clock.now - 60)
    assert batch == (None, [], {})
    assert cursor.position == 1


# -- any order: a model ----------------------------------------------------------------------------------------

Kind = tuple[str, str, "frozenset[Hashable] | None", "frozenset[Hashable]"]


@dataclass
class Reader:
    """A stream, and what the model knows about it."""

    feed: SubscriberStream
    position: int
    mine: dict[int, Kind] = field(default_factory=dict)
    rooms: set[Hashable] = field(default_factory=set)
    asked: bool = False  # it has been told, or will be, of a gap of unknown size from before it was opened
    given: list[int] = field(default_factory=list)
    missed: int = 0
    conflated: int = 0
    exact: bool = True
    left: bool = False

    @property
    def sid(self) -> str:
        return client_of(self.feed).sid

    @property
    def waiting(self) -> int:
        """How many events it is past that it has neither got nor been told of: left out for a later one."""
        passed = sum(seq <= self.position for seq in self.mine)
        return passed - len(self.given) - self.missed - self.conflated

    @property
    def filtered(self) -> bool:
        return bool(self.feed.request.events)


class LogMachine(RuleBasedStateMachine):
    """Publishing, joining, leaving, connecting, reading and resuming in any order, on a log so small that it drops."""

    MAX_EVENTS = 5
    MAX_BYTES = 560

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.log = make_log(clock=self.clock, max_events=self.MAX_EVENTS, max_bytes=self.MAX_BYTES,
                            max_event_bytes=300, conflate=("c*",))
        self.hub = make_hub(self.log)
        self.readers: list[Reader] = []
        self.sent: dict[int, tuple[Event, float]] = {}
        self.sizes: dict[int, int] = {}
        self.oldest = 1
        self.dropped_partial: list[int] = []
        self.max_take = feed_module.MAX_TAKE
        self.connect("/", (), "new", 0, True)
        self.connect("/", (), "new", 0, False)
        self.join(0, "r")

    def teardown(self) -> None:
        if hasattr(self, "max_take"):
            feed_module.MAX_TAKE = self.max_take

    # -- what happens

    names = st.sampled_from(["a", "b", "c", "cc"])
    namespaces = st.sampled_from(["/", "/", "/", "/n"])
    rooms = st.sampled_from(["r", "s"])
    which = st.integers(0, 3)

    @rule(name=names, pad=st.integers(0, 80), namespace=namespaces, which=which,
          aim=st.sampled_from(["all", "all", "all", "room", "rooms", "sid", "skip"]))
    def publish(self, name: str, pad: int, namespace: str, aim: str, which: int) -> None:
        sid = self.readers[which % len(self.readers)].sid if self.readers else "nobody"
        target = {"all": {}, "room": {"to": "r"}, "rooms": {"to": ["r", "s"]}, "sid": {"to": sid},
                  "skip": {"skip": sid}}[aim]
        event = Event.create(name, ("x" * pad,), Target.create(namespace, **target))
        entry = self.hub.broker.publish(event)
        seq = len(self.sent) + 1
        assert entry is not None
        assert entry.seq == seq
        self.sent[seq] = event, self.clock.now
        self.sizes[seq] = len(entry.frame)
        kind = (name, namespace, event.target.rooms, event.target.skip)
        for one in self.readers:
            if one.feed.request.namespace == namespace and one.sid not in event.target.skip and (
                    event.target.rooms is None or event.target.rooms & {*one.rooms, one.sid}):
                self.add(one, seq, kind)
        while len(self.sizes) > self.MAX_EVENTS or sum(self.sizes.values()) > self.MAX_BYTES:
            del self.sizes[self.oldest]
            if not self.sent[self.oldest][0].target.everybody:
                self.dropped_partial.append(self.oldest)
            self.oldest += 1

    @rule(several=st.lists(st.tuples(names, st.sampled_from(["all", "all", "all", "room"])), min_size=1, max_size=7))
    def publish_several(self, several: list[tuple[str, str]]) -> None:
        for name, aim in several:
            self.publish(name, 0, "/", aim, 0)

    def add(self, one: Reader, seq: int, kind: Kind) -> None:
        if not one.filtered or kind[0] in one.feed.request.events:
            one.mine[seq] = kind

    @precondition(lambda self: len(self.readers) < 4)
    @rule(namespace=namespaces, only=st.sampled_from([(), (), (), ("a", "c")]), back=st.integers(0, 12),
          how=st.sampled_from(["new", "new", "resume", "resume", "restarted", "future", "malformed"]),
          opens=st.booleans())
    def connect(self, namespace: str, only: tuple[str, ...], how: str, back: int, opens: bool) -> None:
        newest = len(self.sent)
        position = newest
        last_event_id = None
        if how == "resume":
            position = max(0, newest - back)
            last_event_id = f"{EPOCH}-{position}"
        elif how != "new":
            last_event_id = {"restarted": "5-5", "future": f"{EPOCH}-{newest + 1}", "malformed": "what"}[how]
            position = self.oldest - 1 if how == "restarted" else newest
        client = admit(self.hub, namespace)
        feed = carried(SubscriberStream(client.session, self.hub, StreamOptions(),
                            StreamRequest(namespace, only, format=Format.ENVELOPE, last_event_id=last_event_id)))
        one = Reader(feed, position, asked=how in ("restarted", "future", "malformed"))
        for seq in range(position + 1, newest + 1):
            target = self.sent[seq][0].target
            if target.namespace == namespace and target.rooms is None:
                self.add(one, seq, (self.sent[seq][0].name, namespace, None, target.skip))
        self.readers.append(one)
        assert feed.cursor.position == position
        if opens:
            self.open(one, how)

    def open(self, one: Reader, how: str) -> None:
        """Have the stream opened; some readers go without, so that their first read tells of the failed resume."""
        told = Decoder().feed(one.feed.opening())
        bodies = [json.loads(message.data) for message in told]
        assert [body["event"] for body in bodies] == ["hybrid_open", *["hybrid_gap"] * one.asked]
        if one.asked:
            assert bodies[1]["data"] == {"missed": None, "reason": how, "resume_from": f"{EPOCH}-{one.position}"}
        one.asked = False

    @precondition(lambda self: self.readers)
    @rule(which=which)
    def disconnect(self, which: int) -> None:
        one = self.readers.pop(which % len(self.readers))
        assert self.hub.forget(client_of(one.feed))

    @precondition(lambda self: self.readers)
    @rule(which=which, room=rooms)
    def join(self, which: int, room: str) -> None:
        one = self.readers[which % len(self.readers)]
        self.hub.enter_room(one.sid, room)
        one.rooms.add(room)

    @precondition(lambda self: self.readers)
    @rule(which=which, room=rooms)
    def leave(self, which: int, room: str) -> None:
        one = self.readers[which % len(self.readers)]
        self.hub.leave_room(one.sid, room)
        self.left(one, room)

    @rule(room=rooms)
    def close(self, room: str) -> None:
        self.hub.close_room(room)
        for one in self.readers:
            if one.feed.request.namespace == "/":
                self.left(one, room)

    def left(self, one: Reader, room: str) -> None:
        one.left = one.left or room in one.rooms
        one.rooms.discard(room)

    @rule(seconds=st.sampled_from([20, 50]))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @precondition(lambda self: self.readers)
    @rule(which=which, max_bytes=st.sampled_from([1, 150, ALL]), age=st.sampled_from([None, 30]))
    def read_cursor(self, which: int, max_bytes: int, age: int | None) -> None:
        """Read as the log gives it."""
        one = self.readers[which % len(self.readers)]
        min_at = float("-inf") if age is None else self.clock.now - age
        batch = one.feed.cursor.read(max_bytes=max_bytes, min_at=min_at)
        self.check(one, batch.gap, [entry.seq for entry in batch.entries], batch.conflated, min_at)

    @precondition(lambda self: self.readers)
    @rule(which=which)
    def catch_up(self, which: int) -> None:
        """Read everything there is, after which every absence must have been told."""
        self.read_cursor(which, ALL, None)

    @precondition(lambda self: self.readers)
    @rule(max_bytes=st.sampled_from([1, 150, ALL]), share=st.booleans())
    def take_all(self, max_bytes: int, share: bool) -> None:
        """Have every stream written, as one pass of the writer does, and understand the bytes."""
        feed_module.MAX_TAKE = max_bytes
        shared: dict[Any, Any] | None = {} if share else None
        for one in self.readers:
            replaying = one.feed.cursor.position < one.feed.replay_until
            data = one.feed.take(shared)
            gap, seqs, conflated = None, [], {}
            for message in Decoder().feed(data):
                body = json.loads(message.data)
                assert body["id"] == message.id
                seq = int(message.id.removeprefix(f"{EPOCH}-"))
                if body["event"] == "hybrid_gap":
                    assert gap is None
                    assert not seqs
                    gap = Gap(seq, body["data"]["missed"], body["data"]["reason"])
                    continue
                event = self.sent[seq][0]
                assert (body["event"], body["data"], body["namespace"]) == (
                    event.name, json.loads(event.data), event.target.namespace)
                seqs.append(seq)
                if "conflated" in body:
                    conflated[seq] = body["conflated"]
            self.check(one, gap, seqs, conflated, float("-inf") if replaying else self.clock.now - 60)

    # -- what must hold

    def check(self, one: Reader, gap: Gap | None, seqs: list[int], conflated: dict[int, int], min_at: float) -> None:
        """Compare one read with what the model says of the events after the reader's position."""
        newest = len(self.sent)
        lost_upto = max([one.position, self.oldest - 1, *(seq for seq in self.sizes if self.sent[seq][1] < min_at)])
        lost = [seq for seq in one.mine if one.position < seq <= lost_upto]
        if gap is None:
            assert not lost
            assert not one.asked
        else:
            assert gap.upto == lost_upto
            self.check_gap(one, gap, lost)
        start = max(one.position, lost_upto)
        one.position = one.feed.cursor.position
        assert start <= one.position <= newest

        # Nothing twice, nothing out of order, nothing that is not for this reader.
        assert one.given + seqs == sorted({*one.given, *seqs})
        assert all(seq in one.mine and start < seq <= one.position for seq in seqs)
        # Everything else on the way has a later one of its kind.
        for seq in range(start + 1, one.position + 1):
            if seq in one.mine and seq not in seqs:
                kind = one.mine[seq]
                assert kind[0].startswith("c")
                assert any(later > seq and one.mine[later] == kind for later in one.mine)

        one.given += seqs
        assert set(conflated) <= {seq for seq in seqs if one.mine[seq][0].startswith("c")}
        assert all(count > 0 for count in conflated.values())
        one.conflated += sum(conflated.values())
        if one.exact:
            # At the end nothing is left that could stand for another: every absence has been told.
            assert one.waiting == 0 if one.position == newest else one.waiting >= 0

    def check_gap(self, one: Reader, gap: Gap, lost: list[int]) -> None:
        first_told = one.asked
        one.asked = False
        if first_told:
            # What was lost since a resume that failed is in the same gap; its size is unknown, as before.
            assert gap.missed is None
            assert not one.given
            for seq in lost:
                del one.mine[seq]
            return
        assert gap.reason in ("evicted", "slow")
        if gap.missed is None:
            forgotten = self.dropped_partial[:-self.MAX_EVENTS]
            assert one.filtered or one.left or any(seq > one.position for seq in forgotten)
            one.exact = one.exact and one.waiting == 0
            for seq in lost:
                del one.mine[seq]
        else:
            assert gap.missed >= len(lost)
            assert gap.missed > 0
            one.missed += gap.missed

    @invariant()
    def bounds(self) -> None:
        if not hasattr(self, "log"):
            return
        statistics = self.log.statistics()
        assert (self.log.oldest, self.log.newest) == (self.oldest, len(self.sent))
        assert (statistics.events, statistics.bytes) == (len(self.sizes), sum(self.sizes.values()))
        assert statistics.events <= self.MAX_EVENTS
        assert statistics.bytes <= self.MAX_BYTES

    @invariant()
    def membership(self) -> None:
        for one in getattr(self, "readers", []):
            assert set(client_of(one.feed).rooms()) == {one.sid, *one.rooms}


TestLogModel = pytest.mark.timeout(400)(LogMachine.TestCase)  # only finding the smallest failure takes long
TestLogModel.settings = settings(max_examples=400, stateful_step_count=60, deadline=None, database=None,
                                 derandomize=True, report_multiple_bugs=False)


# -- threads ---------------------------------------------------------------------------------------------------

@pytest.fixture
def _fast_switching() -> Iterator[None]:
    """Have threads take turns so often that what can interleave does."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


THREADS, EACH = 6, 250


def test_an_append_that_is_broken_off():
    """An append that a signal handler breaks off leaves no trace: the next event has its number, and nothing hangs."""
    log = make_log()

    def break_off(entry: Entry) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        log.append(Event.create("e"), break_off)
    assert (log.newest, log.since(0)[1]) == (0, [])
    assert put(log) == 1
    assert log.newest_of_names(1, lambda *_: False) == []
    assert [entry.seq for entry in log.newest_of_names(1, everything)] == [1]


@pytest.mark.usefixtures("_fast_switching")
@pytest.mark.parametrize("max_events", [10_000, 40], ids=["roomy", "dropping"])
@pytest.mark.parametrize("conflate", [(), ("load",)], ids=["plain", "conflating"])
def test_concurrent_writers_and_readers(max_events, conflate):
    """Many threads append while others read: ids grow strictly, and what is not given has been told as missed."""
    log = make_log(max_events=max_events, max_bytes=1 << 20, conflate=conflate)
    total = THREADS * EACH
    numbers_of: dict[int, list[int]] = {}
    outcomes: list[tuple[list[int], int, int]] = []
    failures: list[BaseException] = []
    barrier = threading.Barrier(THREADS + 3)

    def write(writer: int) -> None:
        barrier.wait()
        numbers_of[writer] = [put(log, "load" if count % 2 else "e", writer, count) for count in range(EACH)]

    def read() -> None:
        barrier.wait()
        cursor = Cursor(log, 0, everything)
        given: list[int] = []
        missed = conflated = 0
        while cursor.position < total:
            batch = cursor.read(max_bytes=2000)
            if batch.gap is not None:
                assert batch.gap.missed is not None
                missed += batch.gap.missed
            given += [entry.seq for entry in batch.entries]
            conflated += sum(batch.conflated.values())
        outcomes.append((given, missed, conflated))

    def guarded(task: Any, *args: Any) -> None:
        try:
            task(*args)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(write, writer)) for writer in range(THREADS)]
    threads += [threading.Thread(target=guarded, args=(read,), daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert not any(thread.is_alive() for thread in threads)

    assert sorted(itertools.chain(*numbers_of.values())) == list(range(1, total + 1))
    assert all(own == sorted(own) for own in numbers_of.values())
    assert len(outcomes) == 3
    for given, missed, conflated in outcomes:
        assert all(one < other for one, other in itertools.pairwise(given))
        assert len(given) + missed + conflated == total
        assert not missed or max_events < total
        assert not conflated or conflate


@pytest.mark.usefixtures("_fast_switching")
def test_concurrent_joins_do_not_break_readers():
    """Rooms change while events are sent and read, and everything for everybody still arrives."""
    log = make_log(max_events=10_000, max_bytes=1 << 20)
    hub = make_hub(log)
    client, cursor = reader(log, hub)
    stop = threading.Event()

    def move() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            hub.enter_room(client.sid, number % 7)
            hub.leave_room(client.sid, (number + 3) % 7)

    mover = threading.Thread(target=move)
    mover.start()
    try:
        got: Counter[str] = Counter()
        for number in range(500):
            put(log, "public")
            put(log, "room", to=number % 7)
            got.update(entry.event.name for entry in cursor.read(max_bytes=ALL).entries)
    finally:
        stop.set()
        mover.join(60)
    assert got["public"] == 500
    assert got["room"] <= 500
