"""Senders and readers over a real Redis: everything once and in order, or a hole that says what is missing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.redis_server import RedisServer

from hakgal_hybrid.broker.backplane.faults import Misconfigured, State
from hakgal_hybrid.broker.backplane.outbox import Outbox
from hakgal_hybrid.broker.backplane.reader import Reader
from hakgal_hybrid.broker.backplane.sender import Sender
from hakgal_hybrid.broker.backplane.shared_log import Item, Record, SharedLog
from hakgal_hybrid.broker.backplane.tail import Hole, Tail
from hakgal_hybrid.commands.backplane.connecting import connector
from hakgal_hybrid.commands.backplane.redis_log import LogOptions

SETTLE_MS = 1000


class Process:
    """What one process has of the log: a sender and a reader."""

    def __init__(self, server: RedisServer, *, max_events: int = 10_000, keep: int = 10_000, **outbox: Any) -> None:
        options = LogOptions("s", "app", settle_ms=SETTLE_MS, max_events=max_events)
        self.got: list[bytes] = []
        self.holes: list[Hole] = []
        self.order: list[bytes | Hole] = []
        self.renamed: list[dict[int, int]] = []
        self.tail = Tail(self._deliver, self._hole, keep=keep)
        self.reader = Reader(connector(server.url, options, "reader", 0.05), self.tail, seed=100, wait_s=0.05)
        self.outbox = Outbox(**{"max_events": 10_000, "max_bytes": 1 << 24, "clock": time.monotonic, **outbox})
        self.sender = Sender(connector(server.url, options, "sender"), self.outbox, position=self.reader.position,
                             renamed=lambda name, numbers: self.renamed.append(numbers))

    def _deliver(self, record: Record) -> None:
        self.got.append(record.payload)
        self.order.append(record.payload)

    def _hole(self, hole: Hole) -> None:
        self.holes.append(hole)
        self.order.append(hole)

    def emit(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.outbox.put(payload)
            self.sender.ring()

    @contextmanager
    def running(self) -> Iterator[Process]:
        self.reader.start()
        try:
            yield self
        finally:
            self.sender.stop()
            self.reader.stop()


@pytest.fixture
def two(redis_server: RedisServer) -> Iterator[tuple[Process, Process]]:
    with Process(redis_server).running() as first, Process(redis_server).running() as second:
        yield first, second


def until(what: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.01)


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


def test_everybody_reads_everything_in_one_order(two: tuple[Process, Process]) -> None:
    """What two processes send comes to both, once, in the same order, and each sender's in its own."""
    for number in range(200):
        two[0].emit(b"a%d" % number)
        two[1].emit(b"b%d" % number)
    until(lambda: len(two[0].got) == len(two[1].got) == 400)
    assert two[0].got == two[1].got
    for letter in (b"a", b"b"):
        assert [item for item in two[0].got if item.startswith(letter)] == [letter + item for item in numbered(200)]
    assert not two[0].holes
    assert two[0].sender.statistics().sent == 200


def test_late_process_begins_with_the_newest(redis_server: RedisServer) -> None:
    """A process that starts later reads the newest entries first; what it sends comes after them."""
    with Process(redis_server).running() as first:
        first.emit(*numbered(150))
        until(lambda: len(first.got) == 150)
        with Process(redis_server).running() as late:
            late.emit(b"late")
            until(lambda: b"late" in first.got and b"late" in late.got)
            assert late.got == [*numbered(100, 50), b"late"]
            assert not late.holes


def test_outage_delays_and_loses_nothing(tmp_path: Path) -> None:
    """While Redis is away everything waits; it comes back empty, and is refilled; nobody misses or repeats anything."""
    running = RedisServer(tmp_path)
    with Process(running).running() as first, Process(running).running() as second:
        first.emit(*numbered(50))
        until(lambda: len(second.got) == 50)
        running.kill()
        first.emit(*numbered(50, 50))
        until(lambda: first.sender.state is State.AWAY)
        running.start()
        first.emit(*numbered(50, 100))
        until(lambda: len(first.got) == len(second.got) == 150)
        assert first.got == second.got == numbered(150)
        assert not first.holes
        assert not second.holes
        with Process(running).running() as third:  # what was refilled is there for others
            until(lambda: third.tail.position is not None)
            assert third.got == numbered(100, 50)
    running.kill()


def test_flush_while_sending(redis_server: RedisServer, two: tuple[Process, Process]) -> None:
    """A flush in the middle of a stream of events costs nobody anything."""
    two[0].emit(*numbered(100))
    until(lambda: two[0].got and two[1].got)
    with redis_server.client() as client:
        client.flushall()
    for payload in numbered(100, 100):
        two[0].emit(payload)
    until(lambda: b"199" in two[0].got and b"199" in two[1].got)
    for process in two:
        assert process.got == numbered(200)
        assert not process.holes


def test_full_outbox_drops_the_oldest_and_says_so(tmp_path: Path) -> None:
    """What the outbox had to drop while Redis was away is a hole with its exact size, in its place."""
    running = RedisServer(tmp_path)
    with Process(running, max_events=10_000).running() as other:
        until(lambda: other.tail.position is not None)
        emitter = Process(running)
        emitter.outbox = emitter.sender.outbox = Outbox(max_events=10, max_bytes=1 << 20, clock=time.monotonic)
        with emitter.running():
            emitter.emit(b"first")
            until(lambda: emitter.got == [b"first"])
            running.kill()
            emitter.emit(b"under way")
            until(lambda: emitter.sender.state is State.AWAY)
            emitter.emit(*numbered(30))
            assert emitter.outbox.statistics().events == 11  # ten wait, one is under way
            running.start()
            until(lambda: b"29" in other.got)
            assert other.got == [b"first", b"under way", *numbered(10, 20)]
            assert [(hole.missed, hole.reason) for hole in other.holes] == [(20, "lost")]
            assert isinstance(other.order[2], Hole)
    running.kill()


def test_reader_slower_than_the_log_keeps_gets_an_exact_hole(redis_server: RedisServer) -> None:
    """A process that reads too late misses what the log has dropped, and knows how much."""
    with Process(redis_server, max_events=100).running() as first:
        first.emit(b"start")
        with Process(redis_server, max_events=100).running() as second:
            until(lambda: second.got == [b"start"])
            second.reader.stop()
            position = second.tail.position
            assert position is not None
            first.emit(*numbered(1000))
            assert first.sender.flush(20)  # its own reader may be too slow as well
            log = connector(redis_server.url, LogOptions("s", "app"), "test")()
            for _ in range(10):
                second.reader.step(log)
            (hole,) = second.holes
            assert hole.reason == "trimmed"
            assert hole.missed is not None
            assert hole.missed + len(second.got) - 1 == 1000
            assert second.got[-1] == b"999"


def test_twin_takes_a_new_name_and_loses_nothing(two: tuple[Process, Process]) -> None:
    """A process that sends under another's name is given a new one, and what it sends comes once."""
    two[0].emit(b"a0")
    until(lambda: two[1].got == [b"a0"])
    two[1].sender.name = two[0].sender.name
    two[1].emit(b"b0", b"b1")
    until(lambda: len(two[0].got) == 3)
    assert two[0].got == [b"a0", b"b0", b"b1"]
    assert two[1].sender.statistics().twins == 1
    assert two[1].sender.name != two[0].sender.name


def test_emit_does_not_wait_while_redis_is_stopped(tmp_path: Path) -> None:
    """Putting something into the outbox takes no longer while Redis accepts bytes and answers nothing."""
    running = RedisServer(tmp_path)
    with Process(running).running() as process:
        process.emit(b"first")
        until(lambda: process.got)
        running.pause()
        try:
            began = time.monotonic()
            process.emit(*numbered(1000))
            assert time.monotonic() - began < 5  # 1000 of them: if each waited for 10 ms, it would be twice as long
        finally:
            running.go_on()
        until(lambda: len(process.got) == 1001, 30)
        assert process.got[1:] == numbered(1000)
    running.kill()


class Counting:
    """A log whose calls are counted."""

    def __init__(self, log: SharedLog) -> None:
        self._log, self.calls = log, Counter[str]()

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self._log, name)


def test_what_was_written_by_hand_is_looked_at_once(redis_server: RedisServer) -> None:
    """Entries that are none of ours do not keep a reader busy, nor from what comes after them."""
    process = Process(redis_server)
    log = Counting(connector(redis_server.url, LogOptions("s", "app", settle_ms=SETTLE_MS), "test")())
    try:
        process.emit(b"first")
        until(lambda: process.reader.step(log) or process.got)
        assert process.sender.flush(20)
        with redis_server.client() as client:
            pipe = client.pipeline()
            for number in range(1100):  # more than two calls return
                pipe.xadd("{s}:log", {"foreign": number})
            pipe.execute()
        log.calls.clear()
        for _ in range(5):
            process.reader.step(log)
        assert process.tail.statistics().foreign == 1100
        assert log.calls["look"] == 2  # nothing more had come
        process.emit(b"second")
        until(lambda: process.reader.step(log) or len(process.got) == 2)
        assert not process.holes
    finally:
        process.sender.stop()
        log.close()


def test_other_app_reads_nothing(redis_server: RedisServer) -> None:
    """A process that is refused is not given anything either, however much there is to read."""
    with Process(redis_server).running() as first:
        first.emit(*numbered(10))
        until(lambda: len(first.got) == 10)
        other = Process(redis_server)
        log = connector(redis_server.url, LogOptions("s", "another", settle_ms=SETTLE_MS), "test")()
        for _ in range(3):
            with pytest.raises(Misconfigured):
                other.reader.step(log)
        assert not other.got
        assert other.tail.position is None
        log.close()


def test_last_entry_is_put_back_after_what_others_have_put_back(redis_server: RedisServer) -> None:
    """A process that alone has read the last entries puts them back, if another one was first with those before."""
    options = LogOptions("s", "app", settle_ms=SETTLE_MS)
    with Process(redis_server).running() as first:
        first.emit(*numbered(700))
        until(lambda: len(first.got) == 700)
        chain = list(first.tail.chain)
    other = connector(redis_server.url, options, "other")()
    last = Process(redis_server)
    for record in chain:
        last.tail.take(record)

    class Late:
        """A connection by which nothing is put back before others have done so."""

        def __init__(self) -> None:
            self._log = connector(redis_server.url, options, "late")()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._log, name)

        def refill(self, records: list[Record], *, more: bool = False) -> int:
            other.refill(chain[:600])
            return self._log.refill(records, more=more)

    with redis_server.client() as client:
        client.flushall()
        late = Late()
        last.reader.step(late)
        assert last.reader.refilled == len(chain) - 600
        assert client.xlen("{s}:log") == len(chain)
        late.close()
        other.close()


def test_batch_under_way_is_unsent(redis_server: RedisServer) -> None:
    """From an emit to its acknowledgement there is no moment at which nothing seems to be left to send."""
    process = Process(redis_server)
    seen: list[bool] = []

    class Watched(Outbox):
        def take(self) -> list[Item]:
            batch = super().take()
            if batch:
                seen.append(process.sender.unsent)
            return batch

    process.outbox = process.sender.outbox = Watched(max_events=10, max_bytes=1 << 20, clock=time.monotonic)
    with process.running():
        process.emit(b"first")
        assert process.sender.flush(20)
        assert seen == [True]
        assert not process.sender.unsent


def test_flush_waits_until_everything_is_acknowledged(redis_server: RedisServer) -> None:
    """``flush`` returns true once the log has everything, and false when the time is over."""
    with Process(redis_server).running() as process:
        process.emit(*numbered(10))
        assert not process.sender.flush(0.01)  # the log is new, and settles
        assert process.sender.flush(20)
        assert not process.sender.unsent
