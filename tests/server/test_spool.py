"""Spools: what waits for a client stays whole, in order and bounded, in memory and in files."""

from __future__ import annotations

import io
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from support.servers import SOON, wait_until

from hakgal_hybrid.server.file_wrapper import FileWrapper
from hakgal_hybrid.server.pool import ThreadPool
from hakgal_hybrid.server.spool import MEMORY, PIECE, SHARE, Spool, Spools


class Bench:
    """Spools whose clock stands still, and what they report."""

    def __init__(self, max_bytes: int) -> None:
        self.now = 0.0
        self.cut = 0
        self.short = False
        self.files = ThreadPool("file", 2, max_waiting=100, max_bytes=0, idle_s=0.05)
        self.spools = Spools(gevent.get_hub().loop, max_bytes, self.files, short=lambda: self.short,
                             on_cut=self._count, clock=lambda: self.now)

    def _count(self) -> None:
        self.cut += 1

    def spool(self, on_full: Callable[[], object] = lambda: None,
              hang_up: Callable[[], None] = lambda: None) -> tuple[Spool, threading.Event]:
        """Return a spool, and what is set when it has something."""
        data = threading.Event()
        return Spool(self.spools, on_data=data.set, on_full=on_full, hang_up=hang_up), data


@pytest.fixture
def bench_of() -> Iterator[Callable[[int], Bench]]:
    made: list[Bench] = []

    def make(max_bytes: int) -> Bench:
        made.append(Bench(max_bytes))
        return made[-1]

    yield make
    for bench in made:
        bench.spools.close()
        wait_until(lambda bench=bench: bench.files.statistics()["threads"] == 0, what="idle threads to end")
        assert bench.spools.room.used == 0, "every byte of the files is given back"


def taken(spool: Spool, data: threading.Event, size: int) -> bytes:
    """Take so many bytes, waiting where they have to be read from the file."""
    body = b""
    while len(body) < size:
        data.clear()
        piece = spool.take()
        if not piece:
            assert data.wait(SOON)
        body += piece
    return body


def body_of(size: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4))


@pytest.mark.parametrize("pieces", [[1 << 20], [1000] * 1000, [MEMORY, 4, PIECE, 8, MEMORY + 4], [4] * 5000])
def test_bytes_come_in_order_through_memory_and_file(bench_of: Callable[[int], Bench], pieces: list[int]) -> None:
    """However they are put, the bytes come out as they were, also those put while others are taken."""
    bench = bench_of(64 << 20)
    spool, data = bench.spool()
    whole = body_of(sum(pieces) * 2)

    def put() -> None:
        place = 0
        for size in pieces * 2:
            assert spool.put(whole[place:place + size])
            place += size

    thread = threading.Thread(target=put)
    thread.start()
    assert taken(spool, data, len(whole)) == whole
    thread.join(SOON)
    assert not spool.pending
    spool.close()


def test_who_puts_is_free_while_there_is_room(bench_of: Callable[[int], Bench]) -> None:
    """What one answer may have in memory and in the file is put without waiting; more waits until it is taken."""
    limit, full = 4 << 20, threading.Event()
    bench = bench_of(limit)
    spool, data = bench.spool(on_full=full.set)
    whole = body_of(MEMORY + limit // SHARE + PIECE)
    assert spool.put(whole[:-PIECE])
    assert not full.is_set()
    assert bench.spools.room.used == limit // SHARE
    thread = threading.Thread(target=spool.put, args=(whole[-PIECE:],))
    thread.start()
    assert full.wait(SOON)
    assert taken(spool, data, len(whole)) == whole
    thread.join(SOON)
    assert not thread.is_alive()
    spool.close()


def test_all_files_are_bounded_together(bench_of: Callable[[int], Bench]) -> None:
    """The files of all answers have a bound; what finds no room there waits for its own client."""
    limit = 2 << 20
    bench = bench_of(limit)
    spools = [bench.spool()[0] for _ in range(SHARE + 1)]
    for spool in spools[:SHARE]:
        assert spool.put(bytes(MEMORY + limit // SHARE))
    assert bench.spools.room.used == limit
    late = threading.Thread(target=spools[-1].put, args=(bytes(MEMORY + 1),))
    late.start()
    late.join(0.1)
    assert late.is_alive()
    assert bench.spools.room.used == limit
    for spool in spools:
        spool.close()
    late.join(SOON)
    assert not late.is_alive()


def test_closing_frees_who_puts(bench_of: Callable[[int], Bench]) -> None:
    """Who waits for room learns that nobody wants the bytes any more, and so does who comes later."""
    bench = bench_of(0)
    full, results = threading.Event(), []
    spool, _ = bench.spool(on_full=full.set)
    thread = threading.Thread(target=lambda: results.append(spool.put(bytes(MEMORY + PIECE))))
    thread.start()
    assert full.wait(SOON)
    spool.close()
    thread.join(SOON)
    assert results == [False]
    assert spool.put(b"more") is False


def test_the_slowest_is_cut(bench_of: Callable[[int], Bench]) -> None:
    """Where threads are short, the client that has taken nothing for longest is cut; one that took just now is not."""
    bench = bench_of(0)
    hung_up: list[str] = []
    threads = []
    for name in ("slow", "slower"):
        full = threading.Event()
        spool, _ = bench.spool(on_full=full.set, hang_up=lambda name=name: hung_up.append(name))
        bench.now += 1.0 if name == "slow" else 0.0
        spool.moved_at = 5.0 if name == "slow" else 0.0
        threads.append((threading.Thread(target=spool.put, args=(bytes(MEMORY + PIECE),)), spool))
        threads[-1][0].start()
        assert full.wait(SOON)
    bench.now = 0.5
    wait_until(lambda: not bench.spools.cut_slowest())
    bench.now = 5.5
    wait_until(bench.spools.cut_slowest)
    assert not bench.spools.cut_slowest()
    while not hung_up:
        gevent.sleep(0.01)
    assert (hung_up, bench.cut) == (["slower"], 1)
    for thread, spool in threads:
        spool.close()
        thread.join(SOON)


def test_a_full_disk_costs_nobody_his_answer(bench_of: Callable[[int], Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no temporary file can be had, the answer waits in memory alone, and its thread with it."""
    monkeypatch.setattr(tempfile, "tempdir", "/there/is/no/such/folder")
    bench = bench_of(64 << 20)
    spool, data = bench.spool()
    whole = body_of(4 * MEMORY)
    thread = threading.Thread(target=spool.put, args=(whole,))
    thread.start()
    assert taken(spool, data, len(whole)) == whole
    thread.join(SOON)
    spool.close()


def test_a_file_is_read_as_it_is_taken(bench_of: Callable[[int], Bench], tmp_path: Path) -> None:
    """A file of the host's is read from where it was, after the host has closed it, and takes no room of others."""
    path, whole = tmp_path / "file", body_of(MEMORY * 5)
    path.write_bytes(whole)
    bench = bench_of(0)
    spool, data = bench.spool()
    with open(path, "rb") as file:
        file.read(8)
        found = FileWrapper(file).duplicate()
        assert found is not None
        spool.put_file(*found)
    assert taken(spool, data, len(whole) - 8) == whole[8:]
    assert not spool.pending
    spool.close()


def test_only_files_as_they_are_on_disk_are_read_by_the_server(tmp_path: Path) -> None:
    """What only looks like a file is iterated: its bytes are not those of a descriptor."""
    import gzip

    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(b"hello"))
    with gzip.open(path) as zipped, tempfile.TemporaryFile() as written:
        others: list[Any] = [io.BytesIO(b"hello"), zipped, io.BufferedReader(zipped), written]  # type: ignore[arg-type]
        assert [FileWrapper(file).duplicate() for file in others] == [None] * 4
        assert b"".join(FileWrapper(others[1], 2)) == b"hello"
