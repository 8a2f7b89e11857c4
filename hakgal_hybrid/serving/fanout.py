"""Fanout: one loop that writes to every open stream without waiting for any.

A stream costs a socket, a :class:`~hakgal_hybrid.feed.Feed` and a watcher; no thread and no greenlet. Each pass
sends everything new to everybody who can take it. A client whose socket is full keeps its place in the log until the
socket takes bytes again; one that takes none for ``HYBRID_STALL_S`` is closed.
"""

from __future__ import annotations

import logging
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event

from ..feed import Feed, Shared
from ..hub import Hub
from ..settings import Settings
from .attached import Attached

logger = logging.getLogger(__name__)

#: A pass lets the loop poll for I/O after so many sends, or so many seconds: beside a thread that burns CPU a single
#: send can cost milliseconds, because it gives up the GIL.
SENDS_PER_TURN = 64
SECONDS_PER_TURN = 0.005
#: What the kernel may hold for one slow client (bytes): left to itself it takes megabytes before it pushes back.
SEND_BUFFER = 256 * 1024
#: A stream's client has nothing to say; one that sends more than this (bytes) is closed.
MAX_CHATTER = 64 * 1024

_READ, _WRITE = 1, 2
#: A real timer, however short, makes the loop poll; ``sleep(0)`` hardly does. Windows' loop counts in milliseconds.
_TURN, _TURN_LIBUV = 1e-6, 1e-3

clock = time.monotonic


class Connection:
    """One detached socket and the feed it carries.

    :ivar pending: what the socket has not taken yet. :ivar progress_at: when it last took a byte.
    :ivar leaving: why it ends, once its last bytes are on their way; the socket is closed when they are out.
    """

    __slots__ = ("chatter", "feed", "leaving", "pending", "progress_at", "reader", "sock", "writer")

    def __init__(self, sock: socket.socket, feed: Feed) -> None:
        self.sock = sock
        self.feed = feed
        self.pending = memoryview(b"")
        self.progress_at = clock()
        self.chatter = 0
        self.leaving = ""
        self.reader: Any = None
        self.writer: Any = None


class Fanout:
    """The writer of all streams of one server. Everything but :meth:`wake` belongs to the loop's thread.

    :param left: called when a stream ended, with its feed and the reason.
    :param stopping: true once every stream shall end with a farewell.
    :param attached: the streams that greenlets write; they are woken with the others.
    """

    def __init__(self, hub: Hub, settings: Settings, left: Callable[[Feed, str], None],
                 stopping: Callable[[], bool], attached: Attached) -> None:
        self._hub, self._settings, self._left, self._stopping = hub, settings, left, stopping
        self._attached = attached
        self._connections: dict[int, Connection] = {}
        self._news = Event()
        self._loop = gevent.get_hub().loop
        self._alarm = self._loop.async_()
        self._turn = _TURN_LIBUV if "libuv" in type(self._loop).__module__ else _TURN
        self._switch_interval: float | None = None
        self._greenlets: list[Any] = []
        self._remove_waker: Callable[[], None] = lambda: None
        #: Called after each pass with the number of the newest event at its beginning.
        self.passed: Callable[[int], None] = lambda newest: None

    # -- life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to write."""
        self._alarm.start(self._on_alarm)
        self._remove_waker = self._hub.add_waker(self.wake)
        self._greenlets = [gevent.spawn(self._write_for_ever), gevent.spawn(self._tick_for_ever)]

    def wake(self) -> None:
        """Look at the log again soon. May be called from any thread; never waits."""
        self._alarm.send()

    def farewell(self, seconds: float) -> None:
        """Flush what every stream still has to get, say good-bye, close; what takes longer than ``seconds`` is cut."""
        self._remove_waker()
        gevent.killall(self._greenlets)
        deadline = clock() + seconds
        for connection in list(self._connections.values()):
            self._guarded(self._part, connection, connection.feed.bye(), "stopped")
        self._on_alarm()
        while clock() < deadline and (self._connections or len(self._attached)):
            gevent.sleep(0.005)
        for connection in list(self._connections.values()):
            self._close(connection, "stopped")
        self._alarm.stop()

    def __len__(self) -> int:
        return len(self._connections)

    def statistics(self) -> dict[str, int]:
        """Return a snapshot: open detached streams, and how many of them are waiting for their socket."""
        connections = list(self._connections.values())
        return {"streams": len(connections), "blocked": sum(bool(item.pending) for item in connections)}

    def clogged(self) -> list[Feed]:
        """Return the feeds whose socket has not taken what it was given. May be called from any thread."""
        return [item.feed for item in list(self._connections.values()) if item.pending]

    # -- clients ---------------------------------------------------------------------------------------------

    def adopt(self, sock: socket.socket, feed: Feed, head: bytes) -> None:
        """Take over a detached socket: write ``head``, then the stream, until the client or the server is gone."""
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        _give_up_on_the_dead(sock, self._settings)
        connection = Connection(sock, feed)
        self._connections[sock.fileno()] = connection
        connection.reader = self._loop.io(sock.fileno(), _READ)
        connection.reader.start(self._on_readable, connection)
        self._adjust_switching()
        self._send(connection, head + feed.opening())
        if feed.behind or self._stopping():
            self._news.set()

    def _on_readable(self, connection: Connection) -> None:
        """The client said something, or, far more likely, is gone."""
        try:
            data = connection.sock.recv(4096)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        connection.chatter += len(data)
        if not data:
            self._close(connection, "gone")
        elif connection.chatter > MAX_CHATTER:
            self._close(connection, "chatter")

    def _close(self, connection: Connection, reason: str) -> None:
        fileno = connection.sock.fileno()
        if self._connections.get(fileno) is not connection:
            return
        del self._connections[fileno]
        for watcher in (connection.reader, connection.writer):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        connection.sock.close()
        connection.pending = memoryview(b"")
        self._adjust_switching()
        self._left(connection.feed, reason)

    # -- writing ---------------------------------------------------------------------------------------------

    def _on_alarm(self) -> None:
        self._news.set()
        self._attached.wake()

    def _write_for_ever(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            newest = self._hub.log.newest
            self._pass()
            self.passed(newest)

    def _pass(self) -> None:
        """Send everything new to everybody who can take it, letting the loop poll now and then."""
        shared: Shared = {}
        sends, turn_ends = 0, clock() + SECONDS_PER_TURN
        for connection in list(self._connections.values()):
            if connection.pending or not self._has_work(connection):
                continue
            self._guarded(self._serve_one, connection, shared)
            sends += 1
            if sends >= SENDS_PER_TURN or clock() > turn_ends:
                gevent.sleep(self._turn)
                sends, turn_ends = 0, clock() + SECONDS_PER_TURN

    def _has_work(self, connection: Connection) -> bool:
        return bool(connection.feed.behind or connection.feed.finished or self._stopping())

    def _serve_one(self, connection: Connection, shared: Shared) -> None:
        if connection.feed.finished:
            self._part(connection, b"", connection.feed.finished)
        elif self._stopping():
            self._part(connection, connection.feed.bye(), "stopped")
        else:
            self._send(connection, connection.feed.take(shared))
            if not connection.pending and (connection.feed.behind or connection.feed.finished):
                self._news.set()  # it took all it was given, and there is more to do

    def _guarded(self, act: Callable[..., None], connection: Connection, *more: Any) -> None:
        """Do something for one stream; if that fails, close this one: the writer of all the others goes on."""
        try:
            act(connection, *more)
        except Exception:
            logger.exception("a stream failed and is closed")
            self._close(connection, "failed")

    def _part(self, connection: Connection, last: bytes, reason: str) -> None:
        """Flush what the client can take at once, then ``last``, and close when that is out."""
        if connection.leaving:
            return
        while connection.feed.behind and not connection.pending and connection.sock.fileno() >= 0:
            self._send(connection, connection.feed.take())
        connection.leaving = reason
        self._send(connection, last)
        if not connection.pending:
            self._close(connection, reason)

    def _send(self, connection: Connection, data: bytes) -> None:
        """Hand ``data`` to the socket; what it does not take becomes the connection's ``pending``."""
        if not data or connection.sock.fileno() < 0:
            return
        if connection.pending:
            connection.pending = memoryview(bytes(connection.pending) + data)
            return
        self._push(connection, memoryview(data))

    def _push(self, connection: Connection, data: memoryview) -> None:
        try:
            taken = connection.sock.send(data)
        except (BlockingIOError, InterruptedError):
            taken = 0
        except OSError:
            self._close(connection, "gone")
            return
        if taken:
            connection.progress_at = clock()
        connection.pending = data[taken:]
        if connection.pending:
            self._watch_writability(connection)

    def _watch_writability(self, connection: Connection) -> None:
        if connection.writer is None:
            connection.writer = self._loop.io(connection.sock.fileno(), _WRITE)
        if not connection.writer.active:
            connection.writer.start(self._on_writable, connection)

    def _on_writable(self, connection: Connection) -> None:
        self._push(connection, connection.pending)
        if connection.pending or connection.sock.fileno() < 0:
            return
        if connection.leaving:
            self._close(connection, connection.leaving)
            return
        connection.writer.stop()
        if self._has_work(connection):
            self._news.set()

    # -- time ------------------------------------------------------------------------------------------------

    def _tick_for_ever(self) -> None:
        heartbeat, stall = self._settings.heartbeat_s, self._settings.stall_s
        interval = min(heartbeat / 4, stall / 4, 1.0)
        while True:
            gevent.sleep(interval)
            now = clock()
            for connection in list(self._connections.values()):
                silent = now - connection.progress_at
                if connection.pending and silent > stall:
                    self._close(connection, "stalled")
                elif not connection.pending and silent >= heartbeat - interval / 2:
                    self._guarded(lambda item: self._send(item, item.feed.beat()), connection)

    def _adjust_switching(self) -> None:
        """While streams are open, have Python switch threads more often: a send must not wait for a busy handler."""
        wanted = self._settings.switch_interval_ms / 1000
        if self._connections and self._switch_interval is None and wanted < sys.getswitchinterval():
            self._switch_interval = sys.getswitchinterval()
            sys.setswitchinterval(wanted)
        elif not self._connections and self._switch_interval is not None:
            sys.setswitchinterval(self._switch_interval)
            self._switch_interval = None


def _give_up_on_the_dead(sock: socket.socket, settings: Settings) -> None:
    """Have the kernel notice a peer that vanished without a word, where it can be told how long to try."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(settings.stall_s * 1000))
