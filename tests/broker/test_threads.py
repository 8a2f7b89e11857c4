"""Threads: emitting from many at once, from where it is least expected, and at any time, loses nothing, hangs nowhere.

No wake-up may be lost: after the last emit nothing else happens that could wake a stream (heartbeats are an hour apart,
no client comes or goes), and yet every client catches up.
"""

from __future__ import annotations

import _thread
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from support.accounting import Manifest, account, blocks
from support.hubs import open_feed_of
from support.servers import SOON, TESTS, Server, Stream, wait_until

from hakgal_hybrid import HybridTransport, signals
from hakgal_hybrid.broker.broker import Broker
from hakgal_hybrid.broker.event import Event
from hakgal_hybrid.broker.log import EventLog
from hakgal_hybrid.broker.wakeups import make_wakeup
from hakgal_hybrid.errors import EventError
from hakgal_hybrid.web.stream_body import StreamBody

#: For whatever must happen at once, on a machine that does other things too.
AT_ONCE = 60.0
NEVER_S = 3600
THREADS, EACH = 64, 40

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


@pytest.fixture(autouse=True)
def _fast_switching() -> Iterator[None]:
    """Have threads take turns so often that what can interleave does."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture
def transport() -> Iterator[HybridTransport]:
    made = HybridTransport(Flask(__name__), heartbeat_s=NEVER_S, log_events=1_000_000, log_bytes=1 << 30, conflate="")
    yield made
    made.stop()


@pytest.fixture
def manifest(transport: HybridTransport) -> Manifest:
    """What is emitted, as the signal tells it."""
    noted = Manifest()
    noted.begin(transport.log.epoch)
    lock = threading.RLock()

    def note(sender: object, event: Event, event_id: str) -> None:
        with lock:
            noted.add(event_id, event)

    signals.event_emitted.connect(note, sender=transport.app, weak=False)
    return noted


class Client:
    """A stream that a thread of its own reads, as a threaded server would."""

    def __init__(self, transport: HybridTransport, **wish: Any) -> None:
        self._transport = transport
        self.feed = open_feed_of(transport, **wish)
        self._body = StreamBody(transport.services, self.feed)
        self.raw = bytearray(next(self._body))  # its opening: from here on it is a client
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for chunk in self._body:
            self.raw += chunk

    @property
    def caught_up(self) -> bool:
        return self.feed.cursor.position == self._transport.log.newest

    def leave(self) -> bytes:
        """Hang up; return everything that came."""
        self._body.close()
        self._thread.join(AT_ONCE)
        assert not self._thread.is_alive()
        return bytes(self.raw)


def run_all(calls: list[Callable[[], object]]) -> None:
    """Run each in a thread of its own, all at once; fail if one raises or does not come to an end."""
    failures: list[BaseException] = []
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> None:
        try:
            start.wait(AT_ONCE)
            call()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    ends = time.monotonic() + AT_ONCE
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))
    assert not any(thread.is_alive() for thread in threads), "some threads hang"
    assert failures == []


def emitter(transport: HybridTransport, number: int, n: int = EACH) -> Callable[[], None]:
    def emit() -> None:
        for i in range(n):
            transport.emit("storm", {"thread": number, "i": i})

    return emit


# -- many at once ------------------------------------------------------------------------------------------------


def test_many_emit_while_clients_come_and_go(transport: HybridTransport, manifest: Manifest) -> None:
    """64 threads emit while others connect, join, leave and hang up: who stays gets all, in order, and is woken up."""
    steady = [Client(transport) for _ in range(4)]
    passing: list[bytes] = []

    def come_and_go() -> None:
        for _ in range(8):
            client = Client(transport)
            sid = client.feed.session.clients[0].sid
            transport.hub.enter_room(sid, "room")
            transport.emit("private", to="room")
            transport.hub.leave_room(sid, "room")
            transport.statistics()
            passing.append(client.leave())

    run_all([emitter(transport, number) for number in range(THREADS)] + [come_and_go] * 4)
    # Nothing happens any more: whoever was not woken stays where it is.
    wait_until(lambda: all(client.caught_up for client in steady), AT_ONCE, "every client to catch up")
    newest = transport.log.id_of(transport.log.newest)
    for client in steady:
        assert account(blocks(client.leave()), manifest, upto=newest).delivered == THREADS * EACH
    for raw in passing:
        account(blocks(raw), manifest)
    by_thread: dict[int, list[int]] = {}
    for sent in manifest.sent:
        if sent.name == "storm":
            entry = transport.log.entry(sent.place[1])
            assert entry is not None
            data = json.loads(entry.event.data)
            by_thread.setdefault(data["thread"], []).append(data["i"])
    assert by_thread == {number: list(range(EACH)) for number in range(THREADS)}


@pytest.mark.parametrize("kind", ["ours", "werkzeug"])
def test_a_server_wakes_every_stream(kind: str) -> None:
    """After a storm of 64 threads every stream gets everything, though neither heartbeat nor request helps it."""
    with Server(kind, HYBRID_HEARTBEAT_S=NEVER_S, HYBRID_LOG_EVENTS=100_000, HYBRID_RESUME_S=0) as server:
        for _ in range(3):
            streams = [server.opened() for _ in range(8)]
            stop = threading.Event()

            def come_and_go(stop: threading.Event = stop) -> None:
                while not stop.is_set():
                    server.opened().close()

            visitors = [threading.Thread(target=come_and_go) for _ in range(2)]
            for visitor in visitors:
                visitor.start()
            server.ask("POST", "/storm", {"threads": 16, "n": 5})
            stop.set()
            for visitor in visitors:
                visitor.join(SOON)
            told = server.ask("POST", "/storm", {"threads": THREADS, "n": 20}).json()
            late = [caught_up(stream, told["newest"]) - told["at"] for stream in streams]
            print(f"{kind}: all had caught up {max(late):.3f} s after the last emit")
            for stream in streams:
                assert len(stream.named("storm")) == 16 * 5 + THREADS * 20
                stream.close()


def caught_up(stream: Stream, newest: str) -> float:
    """Read a stream up to an id; return when that came."""
    stream.read_until(lambda stream: stream.id == newest, AT_ONCE)
    return time.monotonic()


def test_the_journal_is_woken(tmp_path: Path) -> None:
    """After a storm everything is in the journal, though nothing else is emitted that would wake its thread."""
    transport = HybridTransport(Flask(__name__), journal=str(tmp_path / "journal"), journal_flush_ms=1,
                                log_events=1_000_000)
    try:
        for number in range(1, 6):
            run_all([emitter(transport, thread, 10) for thread in range(THREADS)])
            wait_until(lambda: transport.statistics().journal.waiting == 0, AT_ONCE, "everything to be written")
            assert transport.statistics().journal.written == number * THREADS * 10
    finally:
        assert transport.node.journal is not None
        transport.node.journal.close()


# -- locks of the host -------------------------------------------------------------------------------------------


def test_emitting_with_the_hosts_lock_held(transport: HybridTransport, manifest: Manifest) -> None:
    """A host may emit while it holds a lock that its handlers and receivers take too: nobody waits for ever."""
    lock = threading.RLock()
    heard: list[str] = []

    @transport.socketio.on("connect")
    def connected() -> None:
        with lock:
            transport.emit("hello")

    @transport.socketio.on("disconnect")
    def disconnected() -> None:
        with lock:
            transport.emit("farewell")

    def receive(sender: object, event: Event, event_id: str) -> None:
        with lock:
            heard.append(event_id)

    signals.event_emitted.connect(receive, sender=transport.app)

    def emit() -> None:
        for _ in range(20):
            with lock:
                transport.emit("locked")
                transport.statistics()
            transport.emit("unlocked")

    def come_and_go() -> None:
        for _ in range(10):
            Client(transport).leave()

    steady = Client(transport)
    run_all([emit] * 16 + [come_and_go] * 8)
    wait_until(lambda: steady.caught_up, AT_ONCE, "the client to catch up")
    steady.leave()
    assert len(set(heard)) == len(heard)


def test_receivers_that_emit(transport: HybridTransport, manifest: Manifest) -> None:
    """A receiver of event_emitted may emit: each effect comes once, after its cause."""
    def answer(sender: object, event: Event, event_id: str) -> None:
        if event.name == "storm":
            transport.emit("effect", event_id)

    signals.event_emitted.connect(answer, sender=transport.app)
    steady = Client(transport)
    run_all([emitter(transport, number, 10) for number in range(THREADS)])
    wait_until(lambda: steady.caught_up, AT_ONCE, "the client to catch up")
    got = blocks(steady.leave())
    seen: set[str | None] = set()
    effects = []
    for block in got:
        if block.event == "effect":
            effects.append(block.data.strip('"'))
            assert effects[-1] in seen
        seen.add(block.id)
    assert len(effects) == len(set(effects)) == THREADS * 10
    account(got, manifest, upto=transport.log.id_of(transport.log.newest))


# -- from where it is least expected -----------------------------------------------------------------------------


class Interrupted:
    """Has the main thread interrupted again and again by a signal whose handler calls something."""

    number = signal.SIGINT

    def __init__(self, call: Callable[[], object]) -> None:
        self.count = 0
        self._call = call
        self._stop = threading.Event()
        self._handled = threading.Event()

    def _handle(self, *_: object) -> None:
        self.count += 1
        try:
            self._call()
        finally:
            self._handled.set()

    def _interrupt(self) -> None:
        while not self._stop.is_set():
            self._handled.clear()
            _thread.interrupt_main(self.number)
            self._handled.wait(1)

    def __enter__(self) -> Interrupted:
        self._before = signal.signal(self.number, self._handle)
        self._thread = threading.Thread(target=self._interrupt)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._handled.set()
        self._thread.join(SOON)
        signal.signal(self.number, self._before)


def emit_with_callback(transport: HybridTransport) -> None:
    transport.emit("handled", callback=lambda: None)


@pytest.mark.parametrize("handle", [
    lambda transport: transport.emit("handled"), emit_with_callback, lambda transport: transport.statistics(),
], ids=["emit", "with a callback", "statistics"])
def test_a_signal_handler_that_emits(transport: HybridTransport, manifest: Manifest, handle: Any) -> None:
    """A signal handler may emit whatever it interrupts, an emit of this very thread too; all comes, once, in order."""
    steady = Client(transport)
    sent = 0
    with Interrupted(lambda: handle(transport)) as interrupted:
        ends = time.monotonic() + AT_ONCE
        while interrupted.count < 300 and time.monotonic() < ends:
            transport.emit("main", sent, callback=lambda: None)
            transport.statistics()
            transport.log.missed(0, transport.log.newest, lambda *_: True)
            sent += 1
    assert interrupted.count >= 300
    handled = 0 if handle.__code__.co_names[-1] == "statistics" else interrupted.count
    wait_until(lambda: transport.log.newest == sent + handled, AT_ONCE, "all to be appended")
    wait_until(lambda: steady.caught_up, AT_ONCE, "the client to catch up")
    got = blocks(steady.leave())
    account(got, manifest, upto=transport.log.id_of(transport.log.newest))
    assert [int(block.data) for block in got if block.event == "main"] == list(range(sent))
    assert sum(block.event == "handled" for block in got) == handled


@pytest.mark.parametrize("where", ["append", "wake", "read"])
def test_an_interruption_at_the_worst_place(transport: HybridTransport, manifest: Manifest, where: str) -> None:
    """Emitting while this thread appends to the log, wakes its readers or counts waits for nothing, loses nothing."""
    steady = Client(transport)
    broker, log = transport.hub.broker, transport.log
    done: list[int] = []

    def interrupt(*_: object) -> None:
        if not done:
            done.append(log.newest)
            transport.emit("interrupting")

    if where == "append":
        broker.publish(Event.create("interrupted"), interrupt)
    elif where == "wake":
        remove = broker.add_waker(interrupt)
        transport.emit("interrupted")
        remove()
    else:
        transport.emit("interrupted")
        with log.held():  # as ``missed`` and ``statistics`` do
            interrupt()
            assert log.newest == 1
    assert log.newest == 2
    wait_until(lambda: steady.caught_up, AT_ONCE, "both to arrive")
    assert [block.event for block in blocks(steady.leave())][1:] == ["interrupted", "interrupting"]


class Interrupting:
    """Calls something in the place of an emit's steps with some numbers, as a signal handler would be called there."""

    def __init__(self, at: set[int], call: Callable[[], object]) -> None:
        self.steps = 0
        self._at, self._call = at, call

    def _trace(self, frame: Any, event: str, arg: object) -> Any:
        frame.f_trace_opcodes = True
        if event == "opcode" and "hakgal_hybrid" in frame.f_code.co_filename:
            self.steps += 1
            if self.steps in self._at:
                self._call()
        return self._trace

    def run(self, call: Callable[[], object]) -> None:
        before = sys.gettrace()
        sys._getframe().f_trace_opcodes = True  # Python 3.12 has such events only if some frame wanted them before
        sys.settrace(self._trace)
        try:
            call()
        finally:
            sys.settrace(before)


INTERRUPTED: dict[str, Callable[[HybridTransport], object]] = {
    "emit": lambda transport: transport.emit("interrupted"),
    "emit with a callback": lambda transport: transport.emit("interrupted", callback=lambda: None),
    "statistics": lambda transport: transport.log.statistics(),
    "missed": lambda transport: transport.log.missed(0, 1, lambda *_: True),
    "note": lambda transport: transport.log.note(gaps=1),
    "known_from": lambda transport: transport.log.known_from,
}


@pytest.mark.parametrize("call", INTERRUPTED.values(), ids=INTERRUPTED)
def test_an_interruption_at_every_step(transport: HybridTransport, call: Callable[[HybridTransport], object]) -> None:
    """Whatever step of a use of the log a handler interrupts, what it emits is in the log when that use is over."""
    def be_interrupted(*steps: int) -> int:
        before = transport.log.newest
        interrupting = Interrupting(set(steps), lambda: transport.emit("interrupting", callback=lambda: None))
        interrupting.run(lambda: call(transport))
        happened = sum(step <= interrupting.steps for step in steps)
        names = [entry.event.name for entry in transport.log.since(before)[1]]
        assert names.count("interrupting") == happened, steps
        assert len(names) - happened == (call in list(INTERRUPTED.values())[:2]), steps
        return interrupting.steps

    transport.emit("first")
    steps = be_interrupted()
    for step in range(1, steps + 1):
        be_interrupted(step)
        # Those after it come while what it has put off is published, and after the last look for that.
        for later in (7, steps // 2, steps):
            be_interrupted(step, step + later)


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Have no callback of the garbage collector run meanwhile."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_a_signal_handler_that_raises(transport: HybridTransport) -> None:
    """An emit that is broken off, wherever it is, leaves a log that works: later emits of its thread come at once."""
    class BrokenOff(Exception):
        pass

    emitting: list[bool] = []

    def break_off() -> None:
        transport.emit("handled")
        if emitting:
            emitting.clear()
            raise BrokenOff

    broken_off = 0
    # No garbage collection: what a handler raises in one of its callbacks is ignored, with a warning.
    with no_garbage_collection(), Interrupted(break_off) as interrupted:
        ends = time.monotonic() + AT_ONCE
        while interrupted.count < 300 and time.monotonic() < ends:
            try:
                emitting.append(True)
                transport.emit("main")
                emitting.clear()
            except BrokenOff:
                broken_off += 1
    assert broken_off > 20
    before = transport.log.newest
    transport.emit("after")
    assert transport.log.since(before)[1][-1].event.name == "after"
    assert transport.log.newest_of_names(transport.log.newest, lambda *_: False) == []


def test_what_cannot_be_published_later_is_logged(transport: HybridTransport, caplog: Any) -> None:
    """A handler's event that is too large is logged, breaks no emit, and holds up no other."""
    broker = transport.hub.broker

    def interrupt(entry: object) -> None:
        transport.emit("large", "x" * (transport.settings.max_event_bytes + 1))
        transport.emit("small")

    broker.publish(Event.create("interrupted"), interrupt)
    assert [entry.event.name for entry in transport.log.since(0)[1]] == ["interrupted", "small"]
    assert "HYBRID_MAX_EVENT_BYTES" in caplog.text


def test_an_acknowledgement_is_expected_before_a_client_sees_the_event(transport: HybridTransport) -> None:
    """Whoever sees an event may acknowledge it at once, and one that could not be emitted expects nothing."""
    seen: list[tuple[int, int]] = []
    remove = transport.hub.broker.add_waker(lambda: seen.append((transport.log.newest, len(transport.node.acks))))
    transport.emit("asked", callback=lambda: None)
    with pytest.raises(EventError):
        transport.emit("asked", "x" * (transport.settings.max_event_bytes + 1), callback=lambda: None)
    remove()
    assert (seen, len(transport.node.acks)) == ([(1, 1)], 1)


def test_a_stream_that_is_closed_before_it_begins_has_ended(transport: HybridTransport) -> None:
    """A server may close a stream of which it has taken nothing, and still ask for it."""
    body = StreamBody(transport.services, open_feed_of(transport))
    body.close()
    assert list(body) == []


def test_a_stream_that_is_served_by_a_thread_is_forgotten(transport: HybridTransport) -> None:
    """A stream that waits is woken by an event, and one that is closed is woken no more."""
    bodies = [StreamBody(transport.services, open_feed_of(transport)) for _ in range(3)]
    for body in bodies:
        next(body)
    chunks: list[bytes] = []
    waits = threading.Thread(target=lambda: chunks.append(next(bodies[0])))
    waits.start()
    transport.emit("news")
    waits.join(AT_ONCE)
    assert b"news" in chunks[0]
    for body in bodies:
        body.close()
        body.close()


def test_a_finalizer_that_removes_a_waker() -> None:
    """A stream that is collected while another one is opened, at whatever step of that, is woken no more."""
    broker = Broker(EventLog(epoch=1, clock=time.monotonic, wall_ms=lambda: 0, encode=lambda event, event_id: b"",
                             max_events=10, max_bytes=1000, max_event_bytes=100))
    woken: list[str] = []

    def open_and_close() -> None:
        remove = broker.add_waker(lambda: woken.append("opened"))
        remove()

    for step in range(1, 100):
        interrupting = Interrupting({step}, broker.add_waker(lambda: woken.append("collected")))
        interrupting.run(open_and_close)
        broker.add_waker(lambda: woken.append("last"))
        if interrupting.steps < step:
            break
        broker.wake()
        assert woken == ["last"] * step
        woken.clear()
    assert step > 10


def test_no_wake_up_is_lost_in_a_thousand(transport: HybridTransport) -> None:
    """Two threads wait by turns, each for what the other emits: one wake-up lost, and both would wait for ever."""
    broker, log, turns = transport.hub.broker, transport.log, 1000

    def play(first: int) -> None:
        news = make_wakeup()
        remove = broker.add_waker(news.set)
        for turn in range(first, turns, 2):
            while True:
                news.clear()
                if log.newest >= turn:
                    break
                assert news.wait(AT_ONCE), f"the wake-up by {turn} is lost"
            transport.emit("turn", turn)
        remove()

    run_all([lambda: play(0), lambda: play(1)])
    assert log.newest == turns


def test_a_finalizer_that_emits(transport: HybridTransport, manifest: Manifest) -> None:
    """The garbage collector may run finalizers in the middle of an emit; those may emit."""
    class Garbage:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            transport.emit("collected")

    steady = Client(transport)
    threshold = gc.get_threshold()
    gc.set_threshold(20, 2, 2)
    try:
        def litter() -> None:
            for _ in range(200):
                Garbage()
                transport.emit("main")

        run_all([litter] * 8)
    finally:
        gc.set_threshold(*threshold)
    # Again and again: it does nothing while another thread, the client's, collects.
    wait_until(lambda: gc.collect() >= 0 and transport.log.newest == 3200, AT_ONCE, "all to be appended")
    wait_until(lambda: steady.caught_up, AT_ONCE, "the client to catch up")
    account(blocks(steady.leave()), manifest, upto=transport.log.id_of(3200))


def test_a_wakeup_may_be_set_while_it_is_set() -> None:
    """At every line of the setting of a wake-up something may emit, and set it."""
    wakeup, lines = make_wakeup(), []

    def set_it(frame: Any, event: str, arg: object) -> Any:
        if event == "line":
            lines.append(frame.f_lineno)
            wakeup.set()
        return set_it

    def interrupted() -> None:
        sys.settrace(set_it)
        wakeup.set()
        sys.settrace(None)

    for _ in range(2):
        setter = threading.Thread(target=interrupted, daemon=True)
        setter.start()
        setter.join(SOON)
        assert not setter.is_alive()
    assert lines
    assert wakeup.wait(0)
    wakeup.clear()
    assert not wakeup.wait(0)
    wakeup.set()
    assert wakeup.wait(AT_ONCE)


PATCHED = """
import gevent.monkey
start, sleep = gevent.monkey.get_original("_thread", "start_new_thread"), gevent.monkey.get_original("time", "sleep")
gevent.monkey.patch_all()
from hakgal_hybrid.broker.wakeups import make_wakeup

wakeup = make_wakeup()

def set_later():
    while not waiting:
        sleep(0.001)
    sleep(0.05)  # so that the loop has nothing to do when it is set
    wakeup.set()

waiting = []
start(set_later, ())
waiting.append(True)
assert wakeup.wait(30)
wakeup.clear()
assert not wakeup.wait(0)
"""


def test_a_wakeup_wakes_a_patched_process_from_a_native_thread() -> None:
    """Where gevent has put its own threads in place, a thread that is none of these wakes its loop."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", PATCHED], cwd=TESTS.parent, check=True, timeout=60)
    assert time.monotonic() - began < 20


PATCHED_JOURNAL = """
import sys
import gevent.monkey
start, sleep = gevent.monkey.get_original("_thread", "start_new_thread"), gevent.monkey.get_original("time", "sleep")
if sys.argv[2] != "after":
    gevent.monkey.patch_all()
import time
from flask import Flask
from hakgal_hybrid import HybridTransport

transport = HybridTransport(Flask(__name__), journal=sys.argv[1], journal_flush_ms=1)
if sys.argv[2] == "after":
    gevent.monkey.patch_all()
first = int(sys.argv[2] != "native")
if first:
    transport.emit("first")

def emit():
    for number in range(20):
        transport.emit("native", number)
        sleep(0.005)  # so that the loop has nothing to do when the next one comes

start(emit, ())
ends = time.monotonic() + 30
while transport.statistics().journal.written < 20 + first:
    assert time.monotonic() < ends, transport.statistics().journal
    time.sleep(0.01)
"""


@pytest.mark.parametrize("first", ["native", "green", "after"])
def test_the_journal_is_woken_in_a_patched_process(tmp_path: Path, first: str) -> None:
    """Whichever kind of thread emits first, and also if the process is patched after the journal was made."""
    subprocess.run([sys.executable, "-c", PATCHED_JOURNAL, str(tmp_path / "journal"), first], cwd=TESTS.parent,
                   check=True, timeout=90)


@posix_only
@pytest.mark.parametrize("kind", ["ours", "werkzeug"])
def test_a_server_that_gets_signals_whose_handler_emits(kind: str) -> None:
    """Under a server, too, a handler may emit: in the main thread, which is the loop's."""
    with Server(kind, HYBRID_HEARTBEAT_S=NEVER_S, HYBRID_LOG_EVENTS=100_000) as server, server.opened() as stream:
        for number in range(1, 101):
            server.signal(signal.SIGUSR1)
            if number % 10 == 0:
                server.emit("fact_added", 10)
            stream.wait_for("signalled", number, AT_ONCE)  # signals that are pending would be one
        stream.wait_for("fact_added", 100, AT_ONCE)
        assert len(stream.named("signalled")) == 100


# -- before and after --------------------------------------------------------------------------------------------

SCRIPT = """
import atexit, logging, sys, threading
logging.basicConfig(level="INFO")
from flask import Flask
from hakgal_hybrid import HybridTransport

app = Flask(__name__)
first = lambda: [transport.emit("exit", n) for n in range(100)]
atexit.register(first)  # runs after the journal's own
transport = HybridTransport(app, journal=sys.argv[1], heartbeat_s=3600)
atexit.register(lambda: transport.emit("exit", -1))  # runs before it
for n in range(100):
    transport.emit("before", n)

@app.get("/health")
def health():
    return {"newest": transport.statistics().newest}

if sys.argv[2] == "serve":
    transport.run("127.0.0.1", 0)
    for n in range(100):
        transport.emit("after", n)
    threads = [threading.Thread(target=transport.emit, args=("after", n)) for n in range(100, 110)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
print("ending", transport.statistics().newest, flush=True)
"""


def read_back(path: Path) -> list[tuple[str, str]]:
    """Return what is in a journal, as the next life of the process finds it."""
    transport = HybridTransport(Flask(__name__), journal=str(path))
    assert transport.node.journal is not None
    transport.node.journal.close()
    return [(entry.event.name, entry.event.data) for entry in transport.log.since(0)[1]]


@pytest.mark.parametrize("serve", ["serve", "do not serve"])
def test_emitting_before_and_after_serving_and_at_exit(tmp_path: Path, serve: str) -> None:
    """Emitting is safe before the server starts, after it has stopped, and from exit handlers; the process ends."""
    path, log = tmp_path / "journal", tmp_path / "log"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    with open(log, "wb") as output:
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(path), serve], stdout=output, stderr=output,
                                   env=environ)
    try:
        if serve == "serve":
            found = wait_until(lambda: "serving on" in log.read_text() and log.read_text().split("127.0.0.1:")[1], 30)
            port = int("".join(letter for letter in found.split()[0] if letter.isdigit()))
            with Stream(port, headers={"Last-Event-ID": "0-0"}) as stream:
                assert stream.wait_for("before", 100) == list(range(100))
                process.send_signal(signal.SIGTERM if sys.platform != "win32" else signal.CTRL_BREAK_EVENT)
                stream.read_to_end(AT_ONCE)
                assert stream.named("hybrid_bye")
        assert process.wait(AT_ONCE) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    text = log.read_text()
    assert "Traceback" not in text, text
    names = read_back(path)
    # The last one is where the life that reads begins; nothing was lost before it, or it would be a gap.
    assert names.pop()[0] == "hybrid_epoch"
    expected = [("before", str(n)) for n in range(100)]
    if serve == "serve":
        expected += [("after", str(n)) for n in range(100)]
        assert sorted(names[200:210]) == sorted(("after", str(n)) for n in range(100, 110))
        del names[200:210]
    assert names == [*expected, ("exit", "-1"), *(("exit", str(n)) for n in range(100))]
