"""The writer of all streams: whatever some clients do, the others and the host's requests do not notice."""

from __future__ import annotations

import contextlib
import json
import select
import signal
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from flask import Flask
from support.hubs import open_feed_of
from support.loops import on_a_loop
from support.servers import (
    SOON,
    STREAM,
    Http,
    Server,
    Stream,
    client_process,
    milliseconds,
    shown_on_failure,
    wait_until,
)

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.server.descriptors import make_room
from hakgal_hybrid.server.fanout.fanout import Fanout
from hakgal_hybrid.server.fanout.tls import Attached

CONNECT = "/api/events/connect"
STALL_S = 3.0
REQUEST_S = 0.5
#: More than the kernel holds for a client that does not read.
MANY, LARGE = 100, 65536

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


#: The server that the tests here share.
SERVER = {"HYBRID_HEARTBEAT_S": 0.2, "HYBRID_STALL_S": STALL_S, "HYBRID_REQUEST_S": REQUEST_S,
          "HYBRID_RESUME_S": 0, "HYBRID_LOG_BYTES": 100 << 20, "SUPPORT_IDLE_S": 0.5}
SERVER_ERRORS = ()


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    running.wait_for_streams(0)
    with shown_on_failure(running):
        yield running


@contextlib.contextmanager
def opened(server: Server, number: int, **options: Any) -> Iterator[list[Stream]]:
    """Open ``number`` streams."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(server.opened(**options)) for _ in range(number)]


def ended(server: Server, reason: str) -> int:
    """Return how many streams have ended for ``reason``."""
    count: int = server.status()["traffic"]["ended"].get(reason, 0)
    return count


def settled(count: Callable[[], int]) -> int:
    """Return ``count`` once it has stayed the same for a while: the last request's socket is closed a bit later."""
    seen: list[int] = []

    def same() -> bool:
        seen.append(count())
        return len(seen) > 20 and len(set(seen[-20:])) == 1

    wait_until(same, what="a count that settles")
    return seen[-1]


def numbers(stream: Stream, name: str = "fact_added") -> list[int]:
    return [data["i"] for data in stream.payloads(name)]


@contextlib.contextmanager
def reading(*streams: Stream, name: str = "fact_added", n: int = MANY) -> Iterator[None]:
    """Have each stream read by a thread of its own meanwhile, until ``n`` events of that name have come."""
    readers = [threading.Thread(target=stream.wait_for, args=(name, n, 30)) for stream in streams]
    for reader in readers:
        reader.start()
    try:
        yield
    finally:
        for reader in readers:
            reader.join(40)


# -- clients that do not read --------------------------------------------------------------------------------------


def test_a_stalled_client_delays_nobody(server: Server) -> None:
    """A client that stopped reading costs other clients and requests nothing; it is closed in time, and counted."""
    before = ended(server, "stalled")
    with server.opened(rcvbuf=4096) as stalled, opened(server, 5) as live:
        calm = statistics.median(milliseconds(lambda: server.ask("GET", "/health")) for _ in range(15))
        with reading(*live):
            server.emit("fact_added", MANY, size=LARGE)
        for stream in live:
            assert numbers(stream) == list(range(MANY))
        # It still holds its place: everything above went past it.
        assert server.status()["streams"] == 6
        assert server.status()["server"]["fanout"]["blocked"] == 1
        busy = statistics.median(milliseconds(lambda: server.ask("GET", "/health")) for _ in range(15))
        emitting = statistics.median(milliseconds(lambda: server.emit("fact_added")) for _ in range(15))
        assert busy < max(20.0, 5 * calm)
        assert emitting < 30.0
        wait_until(lambda: ended(server, "stalled") == before + 1, STALL_S + SOON, "the stalled client to be counted")
        assert server.status()["streams"] == 5
        assert stalled.closed()
        for stream in live:
            stream.wait_for("fact_added", MANY + 15)


def test_a_stalled_stream_that_is_replaced_is_closed_at_once() -> None:
    """Who comes back by its ticket does not leave sockets behind that wait for whoever reads nothing any more."""
    with (Server("ours", HYBRID_HEARTBEAT_S=1, HYBRID_STALL_S=60) as server,
          contextlib.ExitStack() as stack):
        ticket = server.ask("POST", CONNECT, {}).json()["ticket"]
        stalled = stack.enter_context(server.opened(f"ticket={ticket}", rcvbuf=4096))
        server.emit("large", 40, size=20_000)
        wait_until(lambda: server.status()["server"]["fanout"]["blocked"] == 1, what="the stream to be stalled")
        stack.enter_context(server.opened(f"ticket={ticket}"))
        wait_until(lambda: ended(server, "replaced") == 1, what="the first stream to be closed")
        assert stalled.closed()


@pytest.mark.parametrize("n", [pytest.param(10, marks=pytest.mark.skipif(
    not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system's kernel gives nobody up")), 40])
def test_who_is_given_up_is_counted_as_stalled(n: int) -> None:
    """Clients that stop reading are, whether we give them up or, where all that they are sent fits there, the kernel.

    They are looked at every half a second; the kernel probes more often.
    """
    with (Server("ours", HYBRID_HEARTBEAT_S=8, HYBRID_STALL_S=STALL_S) as server,
          opened(server, 20, rcvbuf=4096)):
        server.emit("large", n, size=20_000)
        wait_until(lambda: not server.status()["streams"], STALL_S + SOON, "all of them to be closed")
        assert server.status()["traffic"]["ended"] == {"stalled": 20}


def test_resumes_one_after_the_other_miss_nothing(server: Server) -> None:
    """Those who come back to the same place share a long replay; what was emitted in between comes after it, once."""
    with server.opened() as first:
        start = first.id
        server.emit("fact_added", 40, size=8192)
        for number in range(40, 45):
            with server.opened(headers={"Last-Event-ID": start}) as resumed:
                resumed.wait_for("fact_added", number)
                server.emit("knowledge_updated")
                resumed.wait_for("knowledge_updated", number - 39)
                server.emit("fact_added", size=8192)
                resumed.wait_for("fact_added", number + 1)
                names = [message.event for message in resumed.messages if message.event[:7] != "hybrid_"]
                assert names == ["fact_added"] * 40 + ["knowledge_updated", "fact_added"] * (number - 39)


def test_a_client_that_reads_slowly_is_not_given_up(server: Server) -> None:
    """A client that reads now and then keeps its stream, however long it takes, and gets everything."""
    before = ended(server, "stalled")
    with server.opened(rcvbuf=4096) as slow:
        server.emit("fact_added", MANY, size=LARGE)
        wait_until(lambda: server.status()["server"]["fanout"]["blocked"] == 1)
        pause = threading.Event()
        for _ in range(int(STALL_S / 0.1) + 15):  # longer than a client may stall, 320 kB a second
            size = len(slow.raw)
            slow.read_until(lambda stream, size=size: len(stream.raw) > size + 32_000)
            pause.wait(0.1)
        slow.wait_for("fact_added", MANY, 30)
        assert numbers(slow) == list(range(MANY))
    assert ended(server, "stalled") == before


@pytest.mark.long
def test_a_client_that_reads_very_slowly_is_not_given_up(server: Server) -> None:
    """Who takes a little now and then is no stalled client, long before the kernel says that there is room again."""
    before = ended(server, "stalled")
    with server.opened(rcvbuf=4096) as slow:
        server.emit("large", 60, size=20_000)
        wait_until(lambda: server.status()["server"]["fanout"]["blocked"] == 1, what="the client to fall behind")
        took, ends = 0, time.monotonic() + 3 * STALL_S
        while time.monotonic() < ends:
            took += len(slow.sock.recv(4096))
            time.sleep(0.1)  # that is what is tried
        assert took > 0
        assert server.status()["streams"] == 1
    assert ended(server, "stalled") == before


def test_clients_at_different_places_all_get_everything(server: Server) -> None:
    """Fast and slow readers, and one that joins in the middle, each get all that is theirs, in order."""
    with server.opened() as fast, server.opened(rcvbuf=4096) as slow:
        start = fast.id
        with reading(slow):
            with reading(fast, n=MANY // 2):
                server.emit("fact_added", MANY // 2, size=LARGE)
            with server.opened() as late, server.opened(headers={"Last-Event-ID": start}) as resumed:
                with reading(fast, resumed), reading(late, n=MANY // 2):
                    server.emit("fact_added", MANY // 2, first=MANY // 2, size=LARGE)
                assert numbers(resumed) == list(range(MANY))
                assert numbers(late) == list(range(MANY // 2, MANY))
        assert numbers(fast) == numbers(slow) == list(range(MANY))


def test_a_slow_client_is_told_what_it_missed() -> None:
    """When the log has dropped what a client had not read, it hears so exactly, and goes on in order."""
    with Server("ours", HYBRID_LOG_EVENTS=20) as server, server.opened(rcvbuf=4096) as slow:
        server.emit("fact_added", MANY, size=LARGE)
        slow.read_until(lambda stream: MANY - 1 in numbers(stream), 30)
        gaps = slow.payloads("hybrid_gap")
        received = numbers(slow)
        assert gaps
        assert {gap["reason"] for gap in gaps} == {"evicted"}
        assert received == sorted(set(received))
        assert len(received) + sum(gap["missed"] for gap in gaps) == MANY


def test_events_that_are_too_old_become_a_gap() -> None:
    """A client whose backlog is older than ``HYBRID_MAX_BACKLOG_S`` is told so and goes on with what is young."""
    with Server("ours", HYBRID_MAX_BACKLOG_S=3, HYBRID_HEARTBEAT_S=0.75) as server:
        with server.opened(rcvbuf=4096) as slow, server.opened() as live:
            with reading(live):
                server.emit("fact_added", MANY, size=LARGE)
            # Six heartbeats later what the slow one has not read is too old.
            count = len(live.heartbeats)
            live.read_until(lambda stream: len(stream.heartbeats) >= count + 6)
            server.emit("fact_added", first=MANY)
            slow.read_until(lambda stream: MANY in numbers(stream), 30)
            gaps, received = slow.payloads("hybrid_gap"), numbers(slow)
            assert {gap["reason"] for gap in gaps} == {"slow"}
            assert received == sorted(set(received))
            assert len(received) + sum(gap["missed"] for gap in gaps) == MANY + 1
            assert numbers(live) == list(range(MANY))


@posix_only
def test_a_client_that_is_stopped_and_continued(server: Server) -> None:
    """A client process that is stopped for a while and goes on gets everything in order, or is told what not."""
    process = client_process("read", server.port)
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())[0] == "hybrid_open"
        process.send_signal(signal.SIGSTOP)
        server.emit("fact_added", MANY, size=LARGE)
        wait_until(lambda: server.status()["server"]["fanout"]["blocked"] == 1)
        process.send_signal(signal.SIGCONT)
        server.emit("end")
        told = [json.loads(line) for line in process.stdout]
        assert process.wait(SOON) == 0
    finally:
        process.kill()
        process.communicate()
    received = [data["i"] for name, data in told if name == "fact_added"]
    missed = sum(data["missed"] for name, data in told if name == "hybrid_gap")
    assert received == sorted(set(received))
    assert len(received) + missed == MANY
    assert told[-1][0] == "end"


# -- clients that go away ------------------------------------------------------------------------------------------


@posix_only
def test_fifty_clients_that_are_killed_leave_nothing_behind(server: Server) -> None:
    """Clients that are killed, on 50 connections, leave no stream, no descriptor and no thread."""
    with opened(server, 2):  # whatever the server starts once, it has started now
        server.emit("fact_added")
    server.wait_for_streams(0)
    process = psutil.Process(server.process.pid)
    wait_until(lambda: sum(lane["threads"] for lane in server.status()["server"]["lanes"].values()) <= 2, 25)
    descriptors, threads = settled(process.num_fds), settled(process.num_threads)
    holder = client_process("hold", server.port, 20)
    with contextlib.ExitStack() as stack:
        try:
            streams = [stack.enter_context(server.opened()) for _ in range(30)]
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"holding\n"
            assert server.status()["streams"] == 50
            assert process.num_fds() >= descriptors + 50
            # A stream costs a descriptor and no thread, but for those that opened it.
            assert process.num_threads() <= threads + 12
            server.emit("fact_added", 50, size=LARGE)  # some of it is on its way to them
        finally:
            holder.kill()
            holder.communicate()
        for stream in streams:
            stream.reset()
    server.wait_for_streams(0, 25)
    wait_until(lambda: process.num_fds() <= descriptors, 25, "no descriptor left over")
    wait_until(lambda: process.num_threads() <= threads, 25, "no thread left over")
    notes = server.notes()
    wait_until(lambda: len(server.notes()["disconnected"]) == len(notes["connected"]), what="disconnect handlers")


def test_a_client_that_dies_while_it_is_behind(server: Server) -> None:
    """A client that goes away with bytes waiting for it is forgotten at once."""
    with server.opened(rcvbuf=4096) as stream, server.opened(rcvbuf=4096) as other:
        server.emit("fact_added", MANY, size=LARGE)
        wait_until(lambda: server.status()["server"]["fanout"]["blocked"] == 2)
        before = ended(server, "gone")
        stream.reset()
        server.wait_for_streams(1, STALL_S)
        assert ended(server, "gone") == before + 1
        other.wait_for("fact_added", MANY)
        assert server.status()["server"]["fanout"]["blocked"] == 0


def test_a_client_that_closes_its_half_is_gone(server: Server) -> None:
    """A client that will send nothing more counts as gone: its stream is closed."""
    import socket

    with server.opened() as stream:
        stream.sock.shutdown(socket.SHUT_WR)
        stream.read_to_end()
    server.wait_for_streams(0)


def test_clients_that_say_nothing(server: Server) -> None:
    """Connections that never ask for anything are closed after ``HYBRID_REQUEST_S``; a stream is not."""
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(server.opened())
        silent = [stack.enter_context(server.connect()) for _ in range(50)]
        assert server.ask("GET", "/health").status == 200
        for http in silent:
            assert http.closed()
        server.emit("fact_added")
        stream.wait_for("fact_added")


def test_what_a_client_says_on_an_open_stream_is_ignored(server: Server) -> None:
    """Bytes on an open stream, a second request even, do nothing to it."""
    with server.opened() as stream:
        stream.send(b"\x00\xff garbage \r\n\r\n")
        stream.send(b"POST /emit HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        server.emit("fact_added", 3)
        stream.wait_for("fact_added", 3)
        assert [message.event for message in stream.messages] == ["hybrid_open", *["fact_added"] * 3]


def test_a_client_that_never_stops_talking_is_closed(server: Server) -> None:
    """A client that sends without end on its stream is closed, and counted."""
    before = ended(server, "chatter")
    with server.opened() as stream, server.opened() as other:
        with contextlib.suppress(ConnectionError):
            stream.send(b"x" * 200_000)
        assert stream.closed()
        server.wait_for_streams(1)
        assert ended(server, "chatter") == before + 1
        server.emit("fact_added")
        other.wait_for("fact_added")


def test_a_client_gone_before_its_stream_began(server: Server) -> None:
    """Clients that ask for a stream and vanish at once leave none behind."""
    for _ in range(20):
        http = Http(server.port)
        http.request("GET", STREAM)
        http.reset()
    server.wait_for_streams(0)
    connected = server.notes()["connected"]
    wait_until(lambda: set(server.notes()["disconnected"]) >= set(connected))


# -- the writer itself ---------------------------------------------------------------------------------------------


def test_switch_interval(server: Server) -> None:
    """Python switches threads more often while streams are open, and as before when the last one has ended."""
    server.wait_for_streams(0)
    usual = server.notes()["switch_interval"]
    assert usual == pytest.approx(0.005)
    with server.opened(), server.opened():
        assert server.notes()["switch_interval"] == pytest.approx(0.0005)
    wait_until(lambda: server.notes()["switch_interval"] == usual)


def test_events_reach_a_hundred_clients(server: Server) -> None:
    """A hundred clients get a burst of events from several threads, all in the same order."""
    with opened(server, 100) as streams:
        posters = [threading.Thread(target=server.emit, args=("fact_added", 50), kwargs={"first": start})
                   for start in (0, 50, 100)]
        for poster in posters:
            poster.start()
        for stream in streams:
            stream.wait_for("fact_added", 150)
        for poster in posters:
            poster.join(SOON)
        assert len({tuple(stream.named("fact_added")) for stream in streams}) == 1
        assert sorted(numbers(streams[0])) == list(range(150))


@pytest.mark.quiet
def test_heartbeats_only_in_silence(server: Server) -> None:
    """A stream that has just carried an event needs no heartbeat."""
    with server.opened() as stream:
        ends = threading.Event()

        def chatter() -> None:
            while not ends.wait(0.01):
                server.emit("fact_added")

        poster = threading.Thread(target=chatter)
        poster.start()
        try:
            stream.wait_for("fact_added", 20)
        finally:
            ends.set()
            poster.join(SOON)
        assert not stream.heartbeats
        stream.read_until(lambda stream: stream.heartbeats)


@pytest.mark.quiet
def test_heartbeats_do_not_come_together() -> None:
    """Clients who got the same event at the same time get their heartbeats spread over half of the interval."""
    with Server("ours", HYBRID_HEARTBEAT_S=2) as server, opened(server, 60) as streams:
        began = time.monotonic()
        server.emit("fact_added")
        for stream in streams:
            stream.wait_for("fact_added", 1)
        waiting, came = {stream.sock for stream in streams}, []
        while waiting:
            assert time.monotonic() < began + SOON
            for sock in select.select(list(waiting), [], [], 0.1)[0]:
                assert b"event: hybrid_heartbeat" in sock.recv(200)
                came.append(time.monotonic() - began)
                waiting.remove(sock)
    assert min(came) > 1
    assert max(came) - min(came) > 0.4


def test_delivery_is_counted(server: Server) -> None:
    """The status tells how many events were delivered to streams, and how many bytes that took."""
    before = server.status()["traffic"]
    with opened(server, 3) as streams:
        server.emit("fact_added", 10)
        for stream in streams:
            stream.wait_for("fact_added", 10)
    after = server.status()["traffic"]
    assert after["delivered"] - before["delivered"] == 30
    assert after["bytes"] > before["bytes"]


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="sockets have all options here")
def test_a_socket_that_cannot_be_used_gives_its_place_back() -> None:
    """A socket that refuses an option, as some systems do once the peer is gone, is closed, and so is its stream."""
    transport = HybridTransport(Flask(__name__), resume_s=0)
    stream = open_feed_of(transport)
    ours, theirs = socket.socketpair()  # is no TCP socket

    def adopt() -> None:
        settings, left = transport.settings, transport.node.lifecycle.stream_ended
        attached = Attached(settings, left, lambda: False)
        fanout = Fanout(transport.hub, settings, left, lambda: False, attached)
        try:
            fanout.adopt(ours.detach(), stream, b"")
            assert not len(fanout)
        finally:
            fanout.close()

    with theirs:
        assert transport.hub.sessions.open == 1
        on_a_loop(adopt)
        theirs.settimeout(SOON)
        assert theirs.recv(1) == b""
    assert transport.hub.sessions.open == 0


@posix_only
def test_the_server_is_gone_when_it_is_killed() -> None:
    """A server that is killed leaves its clients a closed connection and its port free for the next one."""
    with Server("ours") as server, server.opened() as stream:
        server.process.kill()
        stream.read_to_end()
        with Server("ours", "--port", str(server.port)) as successor:
            with successor.opened(headers={"Last-Event-ID": stream.id}) as resumed:
                assert resumed.wait_for("hybrid_gap")[0]["reason"] == "restarted"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the kernel of Linux")
def test_the_table_of_descriptors_does_not_grow_under_clients(server: Server) -> None:
    """It has room for all that may come, or that the system allows: to enlarge it would hold up the loop."""
    allowed = psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_NOFILE)[0]
    status = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    [size] = [int(line.split()[1]) for line in status if line.startswith("FDSize:")]
    assert size >= (min(allowed, 14_000) if allowed > 0 else 14_000)


@pytest.mark.skipif(sys.platform == "win32", reason="has no such table")
@pytest.mark.parametrize("descriptors", [0, 100, 5000])
def test_room_for_descriptors_takes_none(descriptors: int) -> None:
    """Nothing stays open, however many there are to be, and whatever the system allows."""
    process = psutil.Process()
    before = process.num_fds()
    make_room(descriptors)
    assert process.num_fds() == before
