"""Scenes: one server process under ordinary load, to which a fault is done, and the figures of what that did.

While a scene lasts, an app's thread emits, witnesses read streams and come back when those end, and a client asks
for the host's and for our pages. Afterwards everything that the witnesses were owed is accounted for, and what is left
of the fault in the server (threads, descriptors, memory) is compared with what was there before.

``python -m support.faults PORT FOLDER KEY RCVBUF HOST`` is a witness in a process of its own, which a test may stop.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from hakgal_hybrid.monitoring.histogram import percentile

from . import accounting
from .accounting import Account, Got, Manifest
from .servers import STATUS, Server, Stream, wait_until

#: ``make faults`` takes its time; among the other tests what lasts a minute lasts seconds.
FULL = os.environ.get("FAULTS") == "full"
MINUTE = 60.0 if FULL else 3.0
#: Bounds for a machine that is busy with other things (ms): what would wait for a client or a handler waits longer.
ANSWER_MS, EMIT_MS = 5000.0, 2000.0
#: How much memory a server may keep that was asked for more: allocators do not give everything back (MiB).
KEPT_MIB = 64.0
#: How long what a fault leaves may take to go.
GONE_S = 30.0
#: What servers that are to show what a fault has left let go of soon: idle threads, and clients that are away.
SETTINGS: dict[str, Any] = {"SUPPORT_FAULTS": 1, "SUPPORT_IDLE_S": 0.3, "HYBRID_HEARTBEAT_S": 0.5, "HYBRID_RESUME_S": 2}


def root() -> bool:
    """True for who may do everything here."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def need(found: object, reason: str) -> None:
    """Skip a test that lacks something; fail where nothing may be lacking."""
    if found:
        return
    if os.environ.get("CI") == "true" and sys.platform == "linux" and root():
        pytest.fail(f"this must not be lacking here: {reason}")
    pytest.skip(reason)


def allow_files(number: int) -> None:
    """Let this process, and those that it starts, have so many descriptors."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < number:
        need(hard == resource.RLIM_INFINITY or hard >= number, f"{number} descriptors are needed")
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))


# -- clients -----------------------------------------------------------------------------------------------------


class Client:
    """Reads a stream, comes back whenever that ends, as an ``EventSource`` does, and keeps what it got in all.

    :ivar last: the id it has arrived at. :ivar connections: how many streams it has had.
    """

    def __init__(self, port: int, query: str = "", headers: dict[str, str] | None = None, **options: Any) -> None:
        self._port, self._query, self._headers, self._options = port, query, headers or {}, options
        self._got: list[Got] = []
        self.stream: Stream | None = None
        self.last = ""
        self.connections = 0

    def connect(self) -> bool:
        """Open a stream; false if there is nobody to open it."""
        resume = {"Last-Event-ID": self.last} if self.last else {}
        try:
            stream = Stream(self._port, self._query, {**self._headers, **resume}, **self._options)
        except (OSError, ConnectionError):
            return False
        if stream.status != 200:
            stream.close()
            return False
        self.stream = stream
        self.connections += 1
        self.last = stream.id or self.last
        return True

    def read(self) -> None:
        """Take what has come."""
        assert self.stream is not None
        self.stream.take(self.stream._read(0))
        self.last = self.stream.id or self.last
        if self.stream.ended:
            self.hang_up()

    def hang_up(self, *, reset: bool = False) -> None:
        """Close the stream, if there is one."""
        if self.stream is not None:
            self._got += self.stream.got()
            self.last = self.stream.id or self.last
            (self.stream.reset if reset else self.stream.close)()
            self.stream = None

    def got(self) -> list[Got]:
        """Return what came, over all connections."""
        return self._got + (self.stream.got() if self.stream is not None else [])


class Crowd:
    """Clients that one thread reads for; they are called witnesses where they are to see everything."""

    def __init__(self, clients: list[Client]) -> None:
        self.clients = clients
        self.error: BaseException | None = None
        for client in clients:
            assert client.connect(), "no stream could be opened"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while not self._ended.is_set():
                for client in self.clients:
                    if client.stream is None:
                        client.connect()
                sockets = {client.stream.sock: client for client in self.clients if client.stream is not None}
                if not sockets:
                    self._ended.wait(0.05)
                    continue
                for sock in select.select(list(sockets), [], [], 0.05)[0]:
                    sockets[sock].read()
        except BaseException as error:  # told when the scene ends
            self.error = error

    def wait_for(self, event_id: str, seconds: float = GONE_S) -> None:
        """Wait until everybody is there."""
        wait_until(lambda: self.error or all(client.last == event_id for client in self.clients), seconds,
                   f"every witness to be at {event_id}; they are at {[client.last for client in self.clients]}")
        if self.error:
            raise self.error

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(GONE_S)


class Asker:
    """Asks for pages, one after the other, and notes what comes of it."""

    def __init__(self, server: Server, paths: tuple[str, ...]) -> None:
        self.server, self.paths = server, paths
        self.took: list[float] = []
        self.refused = self.failed = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        number = 0
        while not self._ended.wait(0.05):
            number += 1
            started = time.perf_counter()
            try:
                answer = self.server.ask("GET", self.paths[number % len(self.paths)])
            except (OSError, ConnectionError):
                self.failed += 1
                continue
            if answer.status == 200:
                self.took.append((time.perf_counter() - started) * 1000)
            else:
                self.refused += 1

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(GONE_S)


# -- what is left ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Holdings:
    """What a process has."""

    threads: int
    descriptors: int
    memory_mib: float

    @classmethod
    def of(cls, pid: int) -> Holdings:
        process = psutil.Process(pid)
        with process.oneshot():
            descriptors = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
            return cls(process.num_threads(), descriptors, process.memory_info().rss / 2**20)

    @classmethod
    def settled(cls, pid: int, steady_s: float = 0.8, seconds: float = GONE_S) -> Holdings:
        """Return what a process has when that has not changed for a while."""
        ends, found, since = time.monotonic() + seconds, cls.of(pid), time.monotonic()
        while time.monotonic() - since < steady_s and time.monotonic() < ends:
            time.sleep(0.05)
            now = cls.of(pid)
            if (now.threads, now.descriptors) != (found.threads, found.descriptors):
                since = time.monotonic()
            found = now
        return found


@dataclass
class Row:
    """The figures of one fault.

    :ivar up: what stayed up. :ivar missing: events that witnesses did not get and were told so.
    """

    fault: str
    up: str
    served: int = 0
    refused: int = 0
    failed: int = 0
    p95_ms: float = 0.0
    emits: int = 0
    emit_p95_ms: float = 0.0
    owed: int = 0
    delivered: int = 0
    missing: int = 0
    threads: tuple[int, int] = (0, 0)
    descriptors: tuple[int, int] = (0, 0)
    memory_mib: tuple[float, float] = (0.0, 0.0)
    note: str = ""


def owed(got: list[Got], manifest: Manifest, told: Account) -> int:
    """Return how many events were for everybody between the moment a client came and where it is."""
    opened = next(item for item in got if item.event == "hybrid_open")
    start, end = manifest.place(opened.id or ""), told.place
    assert start is not None
    assert end is not None
    return sum(sent.all and sent.namespace == "/" for sent in manifest.between(start, end))


def accounted(row: Row, got: list[Got], manifest: Manifest, upto: str) -> Account:
    """Account for what one client got, up to an id if that is not empty, and add it to the figures."""
    told = accounting.account(got, manifest, upto=upto or None)
    due = owed(got, manifest, told)
    assert told.delivered + told.conflated + len(told.covered) == due, (told, due)
    row.owed += due
    row.delivered += told.delivered + told.conflated
    row.missing += len(told.covered)
    return told


# -- the scene ---------------------------------------------------------------------------------------------------


@dataclass
class Scene:
    """A server under load.

    :ivar parts: what other clients got, and up to which id they must have; their accounts are in the row, too.
    """

    server: Server
    row: Row
    crowd: Crowd
    asker: Asker
    before: Holdings
    parts: list[tuple[list[Got], str]] = field(default_factory=list)
    kept_mib: float = KEPT_MIB
    newest: str = ""

    @property
    def pid(self) -> int:
        return self.server.process.pid

    def publish(self) -> None:
        """Have the app emit."""
        answer = self.server.ask("POST", "/publisher/start", {"pause_s": 0.02, "events": [
            {"event": "fact_added"}, {"event": "fact_added", "size": 2000}]})
        assert answer.status == 200, answer

    def last(self, seconds: float) -> None:
        """Let the fault have its time; meanwhile the witnesses get what is emitted."""
        wait_until(lambda: len(self.asker.took) >= 5, GONE_S, "pages to be served meanwhile")
        time.sleep(seconds)  # how long the fault lasts, which proves nothing
        where = self.crowd.clients[0].last
        wait_until(lambda: all(client.last != where for client in self.crowd.clients), GONE_S,
                   "every witness to go on")

    def restarted(self, server: Server) -> None:
        """Go on with another life of the server."""
        self.server = self.asker.server = server

    def settle(self) -> None:
        """End the load and account for everything."""
        told = self.server.ask("POST", "/publisher/stop").json()
        self.asker.stop()
        self.row.emits, self.row.emit_p95_ms = told["emits"], told["p95_ms"]
        self.newest = told["newest"]
        self.crowd.wait_for(self.newest)
        self.account()
        self.row.served, self.row.refused, self.row.failed = (
            len(self.asker.took), self.asker.refused, self.asker.failed)
        self.row.p95_ms = percentile(sorted(self.asker.took), 0.95) or 0.0

    def account(self) -> None:
        """Account for all that witnesses and others got, up to :attr:`newest`."""
        manifest = Manifest.read(accounting.manifests[self.server.port])
        for got, upto in [(client.got(), self.newest) for client in self.crowd.clients] + self.parts:
            accounted(self.row, got, manifest, upto)

    def compare(self) -> None:
        """Compare what the server has with what it had before the fault, as soon as that has gone."""
        def gone() -> bool:
            now = Holdings.of(self.pid)
            return now.threads <= self.before.threads and now.descriptors <= self.before.descriptors
        with contextlib.suppress(AssertionError):  # said better below
            wait_until(gone, GONE_S)
        after = Holdings.of(self.pid)
        self.row.threads = (self.before.threads, after.threads)
        self.row.descriptors = (self.before.descriptors, after.descriptors)
        self.row.memory_mib = (round(self.before.memory_mib, 1), round(after.memory_mib, 1))

    def judge(self) -> None:
        """Fail if anything of the fault is left, or if anybody had to wait for it."""
        row = self.row
        assert row.delivered > 0
        assert row.served > 0
        assert row.p95_ms < ANSWER_MS, row
        assert row.emit_p95_ms < EMIT_MS, row
        if row.threads[1]:
            assert row.threads[1] <= row.threads[0], row
            assert row.descriptors[1] <= row.descriptors[0], row
            assert row.memory_mib[1] <= row.memory_mib[0] + self.kept_mib, row


@contextlib.contextmanager
def scene(tell: Callable[[dict[str, Any]], object], fault: str, up: str, *, witnesses: int = 4,
          paths: tuple[str, ...] = ("/health", STATUS), options: tuple[str, ...] = (),
          kept_mib: float = KEPT_MIB, **settings: Any) -> Iterator[Scene]:
    """Have a server under load; at the end account for everything, compare, tell the row and judge it.

    :param fault: its name in the table. :param up: what must stay up, as the table says it.
    :param paths: what the asker asks for. :param kept_mib: how much memory the server may keep.
    """
    server = Server("ours", *options, **{**SETTINGS, **settings})
    crowd: Crowd | None = None
    found: Scene | None = None
    try:
        crowd = Crowd([Client(server.port) for _ in range(witnesses)])
        server.emit("warm", 5)
        with server.opened():  # the thread of the deadlines begins with the first stream that is away
            pass
        server.status()
        before = Holdings.settled(server.process.pid)
        row = Row(fault, up)
        found = Scene(server, row, crowd, Asker(server, paths), before, kept_mib=kept_mib)
        found.publish()
        yield found
        server = found.server
        found.settle()
        found.compare()
        tell(asdict(row))
        found.judge()
    except BaseException:
        print((found.server if found else server).log()[-20_000:])
        raise
    finally:
        if found is not None:
            found.asker.stop()
            server = found.server
        if crowd is not None:
            crowd.stop()
            for client in crowd.clients:
                client.hang_up()
        server.stop()


# -- a witness in a process of its own -----------------------------------------------------------------------------


def parts(folder: Path) -> list[Got]:
    """Return what a witness process has got: one file a connection."""
    files = sorted(folder.glob("*.raw"), key=lambda path: int(path.stem))
    return [got for path in files for got in accounting.blocks(path.read_bytes())]


def _witness(port: str, folder: str, key: str, rcvbuf: str, host: str) -> None:
    """Read streams, each into a file of its own, until the event ``end``."""
    last, number = "", 0
    while True:
        headers = {"X-API-Key": key} if key else {}
        if last:
            headers["Last-Event-ID"] = last
        try:
            stream = Stream(int(port), "", headers, host=host, rcvbuf=int(rcvbuf) or None)
        except (OSError, ConnectionError):
            time.sleep(0.1)
            continue
        number += 1
        with stream, open(Path(folder, f"{number}.raw"), "wb", buffering=0) as file:
            file.write(bytes(stream.raw))
            while not stream.ended:
                known = len(stream.raw)
                stream.take(stream._read(1.0))
                file.write(bytes(stream.raw[known:]))
                if stream.named("end"):
                    return
            last = stream.id or last


if __name__ == "__main__":
    _witness(*sys.argv[1:])
