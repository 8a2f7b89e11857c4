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
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from support.accounting import Manifest, account, blocks
from support.hubs import open_feed_of
from support.servers import SOON, TESTS, Server, Stream, wait_until

from hakgal_hybrid import HybridTransport, signals
from hakgal_hybrid.broker.event import Event
from hakgal_hybrid.broker.wakeups import make_bell
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
        self._call()
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
    """Emitting while this thread holds the log's lock, or that of the wake-up, waits for neither and loses nothing."""
    steady = Client(transport)
    log, hub = transport.log, transport.hub
    done: list[int] = []

    def interrupt() -> None:
        if not done:
            done.append(log.newest)
            transport.emit("interrupting")

    if where == "append":
        encode = log._encode
        log._encode = lambda event, event_id: (interrupt(), encode(event, event_id))[1]
        transport.emit("interrupted")
    elif where == "read":
        transport.emit("interrupted")
        with log._lock:  # as ``missed`` and ``statistics`` do
            interrupt()
    else:
        transport.emit("interrupted")
        with hub.changed:
            interrupt()  # after a look that found nothing new, and before the wait
            assert hub.changed.wait(AT_ONCE), "the wake-up is lost"
    wait_until(lambda: log.newest == 2 and steady.caught_up, AT_ONCE, "both to arrive")
    assert [block.event for block in blocks(steady.leave())][2:] == ["interrupted", "interrupting"]


def test_an_event_between_the_look_and_the_wait(transport: HybridTransport) -> None:
    """Who has looked, found nothing and does not wait yet is counted: an emit of just then waits to tell it."""
    hub = transport.hub
    emitting = threading.Thread(target=lambda: transport.emit("between"))
    with hub.changed:
        assert transport.log.newest == 0
        emitting.start()
        wait_until(lambda: transport.log.newest == 1, AT_ONCE, "the event")
        emitting.join(0.3)  # it would be over by now if it took nobody for watching
        assert hub.changed.wait(AT_ONCE), "the wake-up is lost"
    emitting.join(AT_ONCE)
    assert not emitting.is_alive()
    assert hub.changed.watched == 0


def test_who_looks_is_asked_for_after_the_append(transport: HybridTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether anybody watches is asked when the event can be seen: asked before, somebody might come in between."""
    asked_at: list[int] = []

    class Asked(type(transport.hub.changed)):  # type: ignore[misc]
        @property
        def watched(self) -> int:
            asked_at.append(transport.log.newest)
            return 0

    monkeypatch.setattr(transport.hub, "changed", Asked())
    transport.emit("first")
    transport.emit("second")
    assert asked_at == [1, 2]


def test_watching_is_counted_through_waits_errors_and_nesting(transport: HybridTransport) -> None:
    """Who waits still counts; who leaves, in whatever way, does not."""
    changed = transport.hub.changed
    waits = threading.Thread(target=lambda: StreamBody.__next__(body))
    body = StreamBody(transport.services, open_feed_of(transport))
    next(body)
    waits.start()
    wait_until(lambda: changed._waiters, AT_ONCE, "the stream to wait")
    assert changed.watched == 1
    with changed, changed:
        assert changed.watched == 3
    with pytest.raises(RuntimeError, match="on purpose"), changed:
        raise RuntimeError("on purpose")
    assert changed.watched == 1
    transport.emit("news")
    waits.join(AT_ONCE)
    assert (waits.is_alive(), changed.watched) == (False, 0)
    body.close()


def test_watching_is_counted_with_the_lock_held(transport: HybridTransport) -> None:
    """Two threads that count at once would lose one: the count changes only under the condition's own lock."""
    class Guarded(type(transport.hub.changed)):  # type: ignore[misc]
        def __setattr__(self, name: str, value: Any) -> None:
            assert name != "watched" or self._is_owned()
            super().__setattr__(name, value)

    transport.hub.changed = Guarded()
    with transport.hub.changed:
        assert transport.hub.changed.watched == 1
        transport.hub.wake()
    assert transport.hub.changed.watched == 0


def test_no_wake_up_is_lost_in_a_thousand(transport: HybridTransport) -> None:
    """Two threads wait by turns, each for what the other emits: one wake-up lost, and both would wait for ever."""
    hub, log, sequencer = transport.hub, transport.log, 1000

    def play(first: int) -> None:
        for turn in range(first, sequencer, 2):
            with hub.changed:
                while log.newest < turn:
                    assert hub.changed.wait(AT_ONCE), f"the wake-up by {turn} is lost"
            transport.emit("turn", turn)

    run_all([lambda: play(0), lambda: play(1)])
    assert (log.newest, hub.changed.watched) == (sequencer, 0)


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
    # Again and again: it does nothing while another thread, one that publishes what is late, collects.
    wait_until(lambda: gc.collect() >= 0 and transport.log.newest == 3200, AT_ONCE, "all to be appended")
    wait_until(lambda: steady.caught_up, AT_ONCE, "the client to catch up")
    account(blocks(steady.leave()), manifest, upto=transport.log.id_of(3200))


def test_an_interrupted_emit_waits_for_no_lock_of_the_threading_module(transport: HybridTransport) -> None:
    """Its holder may be in a finalizer that emits, and wait for the very log that the interrupted emit holds."""
    held, published = threading.Event(), threading.Event()
    in_time: list[bool] = []

    def start_a_thread() -> None:
        with threading._active_limbo_lock:  # type: ignore[attr-defined]  # as starting and ending threads does
            held.set()
            in_time.append(published.wait(SOON))

    starter = threading.Thread(target=start_a_thread)
    starter.start()
    assert held.wait(AT_ONCE)
    with transport.log._lock:  # as an emit does
        transport.emit("a finalizer's")
        published.set()
    starter.join(AT_ONCE)
    assert in_time == [True]
    wait_until(lambda: transport.log.newest == 1, AT_ONCE, "it to be appended")


def test_a_bell_may_be_rung_while_it_is_rung() -> None:
    """At every line of the ringing of a WebSocket's bell something may emit, and ring it."""
    bell, lines = make_bell(), []

    def ring(frame: Any, event: str, arg: object) -> Any:
        if event == "line":
            lines.append(frame.f_lineno)
            bell.ring()
        return ring

    def interrupted() -> None:
        sys.settrace(ring)
        bell.ring()
        sys.settrace(None)

    for _ in range(2):
        ringer = threading.Thread(target=interrupted, daemon=True)
        ringer.start()
        ringer.join(SOON)
        assert not ringer.is_alive()
    assert lines
    assert bell.wait(0)
    bell.clear()
    assert not bell.wait(0)
    bell.ring()
    assert bell.wait(AT_ONCE)


PATCHED = """
import gevent.monkey
start, sleep = gevent.monkey.get_original("_thread", "start_new_thread"), gevent.monkey.get_original("time", "sleep")
gevent.monkey.patch_all()
from hakgal_hybrid.broker.wakeups import make_bell

bell = make_bell()

def ring():
    while not waiting:
        sleep(0.001)
    sleep(0.05)  # so that the loop has nothing to do when it rings
    bell.ring()

waiting = []
start(ring, ())
waiting.append(True)
assert bell.wait(30)
bell.clear()
assert not bell.wait(0)
"""


def test_a_bell_wakes_a_patched_process_from_a_native_thread() -> None:
    """Where gevent has put its own threads in place, a thread that is none of these wakes its loop."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", PATCHED], cwd=TESTS.parent, check=True, timeout=60)
    assert time.monotonic() - began < 20


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
    assert names.pop()[0] == "hybrid_birth"
    expected = [("before", str(n)) for n in range(100)]
    if serve == "serve":
        expected += [("after", str(n)) for n in range(100)]
        assert sorted(names[200:210]) == sorted(("after", str(n)) for n in range(100, 110))
        del names[200:210]
    assert names == [*expected, ("exit", "-1"), *(("exit", str(n)) for n in range(100))]
