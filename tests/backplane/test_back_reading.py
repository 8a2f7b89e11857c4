"""What a process has dropped, and the shared log still has, comes to a client that resumes."""

from __future__ import annotations

import json

import pytest
from support.redis_server import RedisServer
from support.shared_apps import App, until

from hakgal_hybrid.broker.backplane.back_reader import AT_ONCE, MAX_ENTRIES, PAGE, BackReader
from hakgal_hybrid.broker.backplane.faults import Away
from hakgal_hybrid.broker.backplane.shared_log import Position, Record


class FakeLog:
    """Has entries 1 to ``count`` of one generation, and then an opening and one entry more."""

    def __init__(self, count: int, without: int = 0) -> None:
        self.records = [Record(Position(7, n), None, "a", n, b"e") for n in range(1, count + 1) if n != without]
        self.records += [Record(Position(9, 0), ends=Position(7, count)),
                         Record(Position(9, 1), None, "a", count, b"e"),
                         Record(Position(9, 2), None, "b", 1, b"e")]
        self.calls = self.closed = 0

    def between(self, after: Position, upto: Position, count: int) -> list[Record]:
        self.calls += 1
        return [record for record in self.records if after <= record.at <= upto][:count]

    def close(self) -> None:
        self.closed += 1


def test_all_between_two_ids_over_generations() -> None:
    """Entries come in pages, over an opening, and one that was sent twice comes once."""
    log = FakeLog(2 * PAGE)
    found = BackReader(lambda: log).read(Position(7, 3), Position(9, 2))  # type: ignore[arg-type, return-value]
    assert found is not None
    assert [record.at for record in found] == [*(Position(7, n) for n in range(4, 2 * PAGE + 1)), Position(9, 2)]
    assert (log.calls, log.closed) == (2, 1)


@pytest.mark.parametrize(("count", "without", "after"), [(10, 5, 3), (10, 4, 3), (MAX_ENTRIES + 1, 0, 0)])
def test_what_is_not_all_there_is_nothing(count: int, without: int, after: int) -> None:
    """A hole, or too much, and the client is told of a gap in place of half of it."""
    log = FakeLog(count, without)
    assert BackReader(lambda: log).read(Position(7, after), Position(9, 2)) is None  # type: ignore[arg-type, return-value]
    assert log.closed == 1


def test_no_call_is_made_too_late() -> None:
    """When the time is over, nothing more is asked; and a log that is away is not waited for."""
    times = iter([0.0, 0.0, 3.0])
    log = FakeLog(2 * PAGE)
    reader = BackReader(lambda: log, lambda: next(times))  # type: ignore[arg-type, return-value]
    assert reader.read(Position(7, 0), Position(9, 2)) is None
    assert log.calls == 1

    def refuse() -> FakeLog:
        raise Away("no")

    assert BackReader(refuse).read(Position(7, 0), Position(9, 2)) is None  # type: ignore[arg-type]


def test_few_at_once() -> None:
    """Of several clients that come at the same time, so many are read for."""
    inner: list[object] = []

    def connect() -> FakeLog:
        inner.append(None)
        if len(inner) <= AT_ONCE:
            results.append(reader.read(Position(7, 0), Position(7, 1)))
        return FakeLog(1)

    results: list[object] = []
    reader = BackReader(connect)  # type: ignore[arg-type]
    assert reader.read(Position(7, 0), Position(7, 1)) is not None
    assert len(inner) == AT_ONCE
    assert results[0] is None


def test_client_gets_what_its_process_has_dropped(redis_server: RedisServer) -> None:
    """A client that resumes at a process with a short log gets everything, in order, and then what is new."""
    long, short = App(redis_server), App(redis_server, log_bytes=10_000, max_event_bytes=5_000)
    try:
        with long.open() as first, short.open() as other:
            long.transport.emit("begin")
            begin = first.until("begin").id
            for number in range(60):
                long.transport.emit("tick", number, "x" * 500)
            long.transport.emit("other")
            other.until("other")
        until(lambda: short.status()["log"]["evicted"] > 10)
        with short.open(headers={"Last-Event-ID": begin}, events="tick,new") as stream:
            got = [stream.next() for _ in range(60)]
            assert [json.loads(message.data)[0] for message in got] == list(range(60))
            assert len({message.id for message in got}) == 60
            long.transport.emit("new")
            assert stream.next().event == "new"
        with redis_server.client() as client:
            client.xtrim("{shared}:log", maxlen=3, approximate=False)
        with short.open(headers={"Last-Event-ID": begin}) as stream:
            assert json.loads(stream.next().data)["reason"] == "evicted"
    finally:
        long.stop()
        short.stop()
